//! [`Backends`]: the backends of a store, each made once. That reads the system's certificates, and so it is done in the store's
//! runtime, under no lock that another backend needs, and goes on when the access that began it has reached its deadline.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::task::{JoinError, spawn_blocking};

use super::lane::Lane;
use super::{Backend, Place, Redactor, connect};
use crate::error::Cause;

/// Number of backends from which on those that no object has are forgotten.
const MANY: usize = 32;

/// The backend of a bucket, a server or a file system; empty until it is made.
type Slot = Arc<OnceCell<Arc<Backend>>>;

/// The backends of a store.
pub(crate) struct Backends {
    settings: Vec<(String, String)>,
    pub(crate) redactor: Arc<Redactor>,
    /// By the part of the URL that names the bucket, the server or the file system.
    slots: Mutex<HashMap<String, Slot>>,
    /// By server.
    lanes: Mutex<HashMap<String, Weak<Lane>>>,
}

impl Backends {
    pub(crate) fn new(settings: Vec<(String, String)>) -> Arc<Backends> {
        let redactor = Arc::new(Redactor::new(settings.iter().map(|(name, value)| (&**name, &**value))));
        Arc::new(Backends { settings, redactor, slots: Mutex::default(), lanes: Mutex::default() })
    }

    /// Returns those that were made.
    pub(crate) fn made(&self) -> Vec<Arc<Backend>> {
        self.slots.lock().values().filter_map(|slot| slot.get().cloned()).collect()
    }

    /// Returns the backend of a place, which is made if there is none. Runs in the store's runtime.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(crate) async fn of(self: Arc<Self>, place: Place) -> Result<Arc<Backend>, Cause> {
        let slot = self.slot(&place.bucket);
        // A task: it is not cancelled, so the next access finds what this one no longer waits for.
        let making = async move { slot.get_or_try_init(|| self.make(place)).await.cloned() };
        tokio::spawn(making).await.unwrap_or_else(failed)
    }

    fn slot(&self, bucket: &str) -> Slot {
        let mut slots = self.slots.lock();
        if slots.len() >= MANY && !slots.contains_key(bucket) {
            // Not one that is being made; one that could not be made is of no use.
            slots.retain(|_, slot| match slot.get() {
                Some(backend) => Arc::strong_count(backend) > 1,
                None => Arc::strong_count(slot) > 1,
            });
        }
        Arc::clone(slots.entry(bucket.to_owned()).or_default())
    }

    async fn make(self: Arc<Self>, place: Place) -> Result<Arc<Backend>, Cause> {
        let making = move || -> Result<Arc<Backend>, Cause> {
            let server = place.server().filter(|_| cfg!(feature = "net"));
            let is_server = server.is_some();
            let lane = server.map(|server| self.lane(server)).transpose()?;
            let (store, endpoint) = connect(&place, &self.settings, &self.redactor, lane.as_ref())?;
            Ok(Arc::new(Backend { is_server, ..Backend::new(store, &endpoint, &self.redactor) }))
        };
        spawn_blocking(making).await.unwrap_or_else(failed)
    }

    /// Returns the lane of a server: the buckets of one share it.
    fn lane(&self, server: String) -> Result<Arc<Lane>, Cause> {
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get(&server).and_then(Weak::upgrade) {
            return Ok(lane);
        }
        let lane = Lane::new().map_err(|error| Cause::Unsupported(format!("no thread: {error}").into()))?;
        lanes.retain(|_, lane| lane.strong_count() > 0);
        lanes.insert(server, Arc::downgrade(&lane));
        Ok(lane)
    }
}

/// The runtime is being shut down, or the task has panicked.
fn failed<T>(error: JoinError) -> Result<T, Cause> {
    if error.is_cancelled() {
        return Err(Cause::Closed);
    }
    Err(Cause::Other("a task of the store has panicked: a defect".into()))
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use tokio::runtime::Runtime;

    use super::*;
    use crate::backend::parse;

    #[test]
    fn only_backends_without_objects_are_forgotten_and_buckets_share_a_lane() {
        let backends = Backends::new(Vec::new());
        let runtime = Runtime::new().unwrap();
        let get = |url: &str| {
            let place = parse(url).unwrap();
            runtime.block_on(Arc::clone(&backends).of(place)).unwrap()
        };
        let first = get("http://127.0.0.1:1/x");
        for port in 2..MANY + 10 {
            get(&format!("http://127.0.0.1:{port}/x"));
        }
        assert!(backends.made().len() <= MANY, "{}", backends.made().len());
        assert!(backends.lanes.lock().len() <= MANY + 1);
        assert!(Arc::ptr_eq(&first, &get("http://127.0.0.1:1/y")));
        // Nor are those kept that could not be made.
        let broken = Backends::new(vec![("allow_http".into(), "perhaps".into())]);
        for port in 1..MANY + 10 {
            let place = parse(&format!("http://127.0.0.1:{port}/x")).unwrap();
            runtime.block_on(Arc::clone(&broken).of(place)).unwrap_err();
        }
        assert!(broken.slots.lock().len() <= MANY, "{}", broken.slots.lock().len());
        for (url, server) in [
            ("s3://a/x", Some("s3")),
            ("s3://b/x", Some("s3")),
            ("http://host/x", Some("host:80")),
            ("https://host:9/x", Some("host:9")),
            ("file:///x", None),
        ] {
            assert_eq!(parse(url).unwrap().server().as_deref(), server, "{url}");
        }
    }
}
