//! What runs in a signal of the pager: resolving the fault of a foreign instruction, or handing it over; and the data for it.

#[allow(unsafe_code, reason = "mappings, and what their page table is told")]
pub(super) mod hardware;
#[allow(unsafe_code, reason = "requests live on the stacks of those who wait")]
pub(super) mod mailbox;
pub(super) mod map;
pub(crate) mod mapped;
pub(crate) mod mode;
pub(super) mod place;
pub(super) mod signal;
pub(super) mod states;
pub(crate) mod step;
#[allow(unsafe_code, reason = "ioctls")]
pub(super) mod uffd;
