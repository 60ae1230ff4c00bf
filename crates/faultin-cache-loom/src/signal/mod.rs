//! The files of `faultin`, at their paths there.

pub(crate) mod inside;

#[path = "../../../faultin/src/signal/outside/ranges.rs"]
mod ranges;
#[path = "../../../faultin/src/signal/outside/slots.rs"]
mod slots;
