//! [`Object`]: an object that is pinned to a version, as a store of a page cache.

use std::fmt;
use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use faultin_cache::pager::without_signals;
use faultin_cache::store::ReadRequest;

use crate::engine::{Access, Want};
use crate::error::{Cause, Error};
use crate::pin::Version;
use crate::pinned::Pinned;
use crate::stats::ObjectStats;
use crate::store::Store;

/// A handle of an object at one version. Clones share its blocks and its counters.
///
/// It is a [`Store`](faultin_cache::store::Store) of a cache, read only and of a fixed length. Errors reach the readers of a
/// cached file in [`faultin_cache::Error::Store`], where [`Error::of`] finds them.
///
/// ```
/// use faultin_cache::Cache;
/// use faultin_store::{Cause, Error, Object};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("data");
/// std::fs::write(&path, "to be, or not to be")?;
/// let url = format!("file://{}", path.display());
/// let object = Object::open(&url)?;
/// let file = Cache::new().open(object.clone())?;
/// std::fs::write(&path, "that is the question")?;
///
/// // What was fetched when it was opened is one version; more of another one is none.
/// let mut bytes = [0; 5];
/// file.read_at(&mut bytes, 0)?;
/// assert_eq!(&bytes, b"to be");
/// let again = Object::open(&url)?;
/// assert_ne!(again.version(), object.version());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Object {
    owner: Arc<Owner>,
    access: Access,
}

/// Closes the object with its last handle: requests under way refer to the object, too.
struct Owner {
    store: Store,
    pinned: Arc<Pinned>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.store.engine().is_ours() {
            without_signals(|| self.store.close(&self.pinned));
        } else {
            // In a child of `fork`, the locks of its connections may be held.
            std::mem::forget(Arc::clone(&self.pinned));
        }
    }
}

impl Object {
    pub(crate) fn new(store: Store, pinned: Arc<Pinned>, access: Access) -> Object {
        Object { owner: Arc::new(Owner { store, pinned }), access }
    }

    /// Opens an object, and pins the version that it has now, in a [`Store`] with the default options that all objects share
    /// which are opened so. A child of `fork` has another one.
    ///
    /// # Errors
    /// Those of [`Store::open`]; [`Cause::Unsupported`] if the store's threads cannot be started.
    pub fn open(url: &str) -> Result<Object, Error> {
        let failed = |error: io::Error| {
            Error::new(&"the store".into(), None, 0, Cause::Unsupported(format!("no threads: {error}").into()))
        };
        Store::shared().map_err(failed)?.open(url)
    }

    /// Opens the version that the object has now, with the terms of this handle. This handle stays with its own version.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn refresh(&self) -> Result<Object, Error> {
        let Pinned { backend, path, name, .. } = &*self.owner.pinned;
        self.owner.store.open_pinned(ready(Ok(Arc::clone(backend))), path.clone(), name, self.access)
    }

    /// Returns a handle whose accesses have this deadline.
    #[must_use]
    pub fn with_deadline(&self, time: Duration) -> Object {
        // So that an instant after it exists.
        let deadline = time.min(Duration::from_secs(u64::from(u32::MAX) / 4));
        Object { access: Access { deadline, ..self.access }, ..self.clone() }
    }

    /// Returns a handle whose requests are tried again at most `count` times each. A request that several accesses share has the
    /// largest count of theirs.
    #[must_use]
    pub fn with_retries(&self, count: u32) -> Object {
        Object { access: Access { retries: count, ..self.access }, ..self.clone() }
    }

    /// Returns a handle whose accesses request nothing before it is wanted, or do where access is sequential.
    #[must_use]
    pub fn with_read_ahead(&self, reads_ahead: bool) -> Object {
        Object { access: Access { reads_ahead, ..self.access }, ..self.clone() }
    }

    /// Returns the version.
    pub fn version(&self) -> &Version {
        &self.owner.pinned.version
    }

    /// Returns the URL, without user, password and query.
    pub fn url(&self) -> &str {
        &self.owner.pinned.name
    }

    /// Returns the length in bytes.
    pub fn size(&self) -> u64 {
        self.owner.pinned.len()
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.owner.store
    }

    /// Returns what all handles of the object have done so far.
    pub fn stats(&self) -> ObjectStats {
        self.owner.pinned.counters.stats()
    }

    /// Reads bytes from `pos` on, and returns their number: all of `buf`, unless the object ends before, or bytes after the
    /// first one cannot be had. Bytes of `buf` after these are unspecified. Waits until the deadline; must not be called in a
    /// signal handler. Handlers of signals may run while it waits, and may read mappings of objects.
    ///
    /// # Errors
    /// Why the first byte cannot be had.
    pub fn read(&self, buf: &mut [u8], pos: u64) -> Result<usize, Error> {
        let pinned = &self.owner.pinned;
        let mut want = [Want::new(pinned, pos, buf)];
        let mut results = self.owner.store.engine().read(pinned, self.access, &mut want);
        results.pop().unwrap_or(Ok(0))
    }

    /// Reads several ranges, all of them at the same time, and returns a result for each, as [`read`](Self::read) does.
    /// Ranges of neighbouring blocks are requested together.
    pub fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<Result<usize, Error>> {
        let pinned = &self.owner.pinned;
        let mut wants: Vec<_> = reads.iter_mut().map(|read| Want::new(pinned, read.pos, read.bytes)).collect();
        self.owner.store.engine().read(pinned, self.access, &mut wants)
    }
}

impl faultin_cache::store::Store for Object {
    fn len(&self) -> io::Result<u64> {
        Ok(self.size())
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        Ok(self.read(buf, pos)?)
    }

    fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<io::Result<usize>> {
        Object::read_many(self, reads).into_iter().map(|result| result.map_err(io::Error::from)).collect()
    }

    fn try_read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let pinned = &self.owner.pinned;
        if pos >= pinned.len() || buf.is_empty() {
            return Ok(0);
        }
        match self.owner.store.engine().read_now(pinned, pos, buf) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("url", &self.url())
            .field("version", self.version())
            .field("access", &self.access)
            .finish()
    }
}
