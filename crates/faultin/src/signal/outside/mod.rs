//! What other code does with the data of the handler: nothing here runs in a signal. See [`inside`](super::inside).

pub(crate) mod guard;
pub(crate) mod install;
pub(crate) mod pager;
mod ranges;
mod registered;
mod reserve;
mod slots;
