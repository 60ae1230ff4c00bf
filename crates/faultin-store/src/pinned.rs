//! [`Pinned`]: an object as it was opened.

use std::ops::Range;
use std::sync::Arc;

use object_store::path::Path;
use parking_lot::Mutex;

use crate::ahead::Streams;
use crate::backend::Backend;
use crate::disk::Key;
use crate::error::{Cause, Error};
use crate::pin::Version;
use crate::stats::Counters;

/// An object at one version.
#[derive(Debug)]
pub(crate) struct Pinned {
    /// No other object of the engine has it.
    pub(crate) number: u64,
    /// The URL, without credentials.
    pub(crate) name: Arc<str>,
    pub(crate) backend: Arc<Backend>,
    pub(crate) path: Path,
    pub(crate) version: Version,
    /// The content type.
    #[cfg_attr(not(feature = "net"), allow(dead_code, reason = "for answers of servers"))]
    pub(crate) kind: Option<Arc<str>>,
    /// The content encoding with which the object is stored.
    #[cfg_attr(not(feature = "net"), allow(dead_code, reason = "for answers of servers"))]
    pub(crate) encoding: Option<Arc<str>>,
    /// What the disk tier calls the object and its version. `None` if it may not have them: another object could have the same.
    pub(crate) key: Option<(Arc<str>, Arc<str>)>,
    pub(crate) block: u64,
    pub(crate) streams: Mutex<Streams>,
    pub(crate) counters: Arc<Counters>,
}

impl Pinned {
    /// Returns the length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.version.len
    }

    /// Returns the bytes of some blocks.
    pub(crate) fn bytes_of(&self, blocks: &Range<u64>) -> Range<u64> {
        blocks.start * self.block..blocks.end.saturating_mul(self.block).min(self.len())
    }

    /// Returns the blocks that have some bytes.
    pub(crate) fn blocks_of(&self, bytes: &Range<u64>) -> Range<u64> {
        bytes.start / self.block..bytes.end.div_ceil(self.block)
    }

    /// Returns the name of a block in the disk tier, if that may have it.
    pub(crate) fn disk_key(&self, block: u64) -> Option<Key> {
        let (object, version) = self.key.as_ref()?;
        let range = self.bytes_of(&(block..block + 1));
        Some(Key { object: Arc::clone(object), version: Arc::clone(version), range })
    }

    pub(crate) fn error(&self, range: Range<u64>, attempts: u32, cause: Cause) -> Error {
        Error::new(&self.name, Some(range), attempts, cause)
    }
}
