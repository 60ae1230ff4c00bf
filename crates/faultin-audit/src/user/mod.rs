//! A caller's user: memory that may fault, and the machine whose registers go to it and come from it.
//!
//! | user | memory | registers |
//! |---|---|---|
//! | [`HostUser`] | pages of a memfd of this process, really faulting | the CPU's |
//! | [`SimUser`] | [simulated](faultin_sim), of any page size and granule | simulated |
//!
//! A caller is written once, against [`User`].
//!
//! Both distinguish two kinds of access, as a kernel does. A *nofault* access (`read_nowait`, `write_nowait`, the
//! registers' instructions) ends at a page that is not resident. Every other one waits: the page is brought in at the
//! fault, and the access continues.

mod contract;
pub mod host;
mod object;
mod registers;
pub mod sim;

pub use contract::User;
pub use host::HostUser;
pub use object::{Object, Scale};
pub use registers::{Frame, Registers};
pub use sim::SimUser;
