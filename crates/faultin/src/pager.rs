//! Memory whose faults this process serves itself.
//!
//! Whoever owns a range of addresses registers a [`Pager`] for it ([`serve`]). An access of this crate's to a page that is not
//! there comes back short, as everywhere; [`fault_in`](mod@crate::fault_in) and [`probe`](crate::probe) call the pager. So a loop
//! that copies under a lock and faults in without it needs to know nothing of pagers, and the pager may take that lock.

pub use crate::signal::pager::{Interrupted, Pager, Served, serve};
