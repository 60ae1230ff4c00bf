//! What runs in signals.

#[path = "../../../faultin/src/signal/inside/disposition.rs"]
pub(crate) mod disposition;
#[path = "../../../faultin/src/signal/inside/epoch.rs"]
pub(crate) mod epoch;
#[path = "../../../faultin/src/signal/inside/ranges.rs"]
pub(crate) mod ranges;
#[path = "../../../faultin/src/signal/inside/ring.rs"]
pub(crate) mod ring;
#[path = "../../../faultin/src/signal/inside/slots.rs"]
pub(crate) mod slots;
#[path = "../../../faultin/src/signal/inside/users.rs"]
pub(crate) mod users;
