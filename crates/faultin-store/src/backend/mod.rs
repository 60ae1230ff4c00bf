//! [`Backend`]: what the objects of one bucket, server or directory share: its connections, and whether it works.

mod backends;
mod cause;
#[cfg(feature = "net")]
mod connect;
#[cfg(feature = "net")]
mod judge;
mod lane;
mod redact;
#[cfg(feature = "net")]
mod settings;
mod url;

use std::fmt;
use std::sync::{Arc, OnceLock};

use object_store::ObjectStore;

pub(crate) use backends::Backends;
#[cfg(test)]
pub(crate) use cause::Refused;
pub(crate) use cause::{brief_of, cause_of, connection_of, is_not_in_range};
#[cfg(feature = "net")]
pub(crate) use judge::{Asked, PinnedHead, Seen};
pub use redact::is_secret_part;
pub(crate) use redact::{Redactor, refused_url};
use url::connect;
pub(crate) use url::{Place, parse};

use crate::engine::Share;
use crate::health::Health;

/// A bucket, a server, a directory, or the caller's own `object_store`.
pub(crate) struct Backend {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// What distinguishes it from another bucket of the same name; empty for most.
    pub(crate) endpoint: Arc<str>,
    /// Whether it is a server, whose entity tags stay what they are when this process ends. A store of the process may count.
    pub(crate) is_server: bool,
    pub(crate) health: Health,
    /// What its requests may take of the store's turns and memory.
    pub(crate) share: OnceLock<Share>,
    pub(crate) redactor: Arc<Redactor>,
}

impl Backend {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, endpoint: &str, redactor: &Arc<Redactor>) -> Backend {
        Backend {
            store,
            endpoint: endpoint.into(),
            is_server: false,
            health: Health::default(),
            share: OnceLock::new(),
            redactor: Arc::clone(redactor),
        }
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
