//! [`Backend`]: what the objects of one bucket, server or directory share: its connections, and whether it works.

mod cause;
#[cfg(feature = "net")]
mod connect;
#[cfg(feature = "net")]
mod judge;
mod redact;
#[cfg(feature = "net")]
mod settings;
mod url;

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;

#[cfg(test)]
pub(crate) use cause::Refused;
pub(crate) use cause::cause_of;
#[cfg(feature = "net")]
pub(crate) use judge::{Asked, PinnedHead, Seen};
pub(crate) use redact::{Redactor, refused_url};
pub(crate) use url::{Place, connect, parse};

use crate::health::Health;

/// A bucket, a server, a directory, or the caller's own `object_store`.
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// What distinguishes it from another bucket of the same name; empty for most.
    pub(crate) endpoint: Arc<str>,
    pub(crate) health: Health,
    pub(crate) redactor: Arc<Redactor>,
}

impl Backend {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, endpoint: &str, redactor: &Arc<Redactor>) -> Backend {
        Backend { store, endpoint: endpoint.into(), health: Health::default(), redactor: Arc::clone(redactor) }
    }
}

/// Without the store, whose own form may have credentials.
impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("endpoint", &self.endpoint)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}
