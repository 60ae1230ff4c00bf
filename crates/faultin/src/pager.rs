//! Memory whose faults this process resolves itself.
//!
//! The owner of a range of addresses registers a [`Pager`] for it ([`register`]). An access of this crate to a page that is
//! not resident comes back short, as everywhere; [`fault_in`](crate::raw#fault-in) and [`probe`](crate::raw#probe) call the
//! pager. So a loop that copies under a lock and faults in without it needs no knowledge of pagers, and the pager may take
//! that lock.
//!
//! Writing a pager and registering one both need `unsafe`, because a pager may run in a signal handler:
//!
//! ```compile_fail,E0200
//! # use faultin::{Access, Fault, pager::Pager};
//! struct Logs;
//! impl Pager for Logs {
//!     fn fault_in(&self, _: usize, _: usize, _: Access) -> Result<(), Fault> {
//!         Ok(())
//!     }
//!     fn in_signal(&self, _: usize, _: Option<Access>) -> bool {
//!         println!("a fault"); // takes a lock, and may allocate, in the middle of anything
//!         true
//!     }
//! }
//! ```
//! ```compile_fail,E0133
//! # fn logs() -> std::sync::Arc<dyn faultin::pager::Pager> { unimplemented!() }
//! let all_faults_of_the_process = faultin::pager::register(0..usize::MAX, logs());
//! ```

pub use crate::signal::inside::{pager::Pager, stack::SignalContext};
pub use crate::signal::outside::pager::{Registration, register};
