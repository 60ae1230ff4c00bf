//! A page cache in user space: files whose bytes are in a [store](store::Store) and are read and written through folios,
//! with any buffer of the caller, also one that faults.
//!
//! It is for databases, virtual machine monitors and user-space file systems: programs that receive buffers from other code, in
//! memory that may be unmapped (a mapped file that was truncated, a guest's page, a peer's shared memory), and have to read and
//! write all the same. An operation never deadlocks on itself, always terminates, never shows a byte that was not written, and
//! its count is exact.
//!
//! ```
//! use faultin_cache::{Cache, store::MemoryStore};
//!
//! let cache = Cache::new();
//! let file = cache.open(MemoryStore::new(b"to be".as_slice()))?;
//! file.append(b", or not")?;
//! let mut buffer = [0; 8];
//! assert_eq!(file.read_at(&mut buffer, 3)?, 8);
//! assert_eq!(&buffer, b"be, or n");
//! file.sync_all()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A buffer that faults is a short count and a cause:
//!
//! ```
//! use faultin::iov::IovSource;
//! use faultin_cache::{Cache, Error, store::MemoryStore};
//! # use std::io::Write;
//! # let mut source = tempfile::NamedTempFile::new()?;
//! # source.write_all(&vec![7; 3 * faultin::page_size()])?;
//! # // SAFETY: a new mapping.
//! # let (page, file) = (faultin::page_size(), source.as_file());
//! # let base = unsafe { libc::mmap(std::ptr::null_mut(), 3 * page, libc::PROT_READ, libc::MAP_SHARED, std::os::fd::AsRawFd::as_raw_fd(file), 0) };
//! # assert_ne!(base, libc::MAP_FAILED);
//! // `base` is a mapping of three pages of a file. Another process truncates the file.
//! source.as_file().set_len(page as u64)?;
//! // SAFETY: the range is a mapping that stays.
//! let view = unsafe { faultin::ReadView::new(base.cast(), 3 * page) }?;
//! let file = Cache::new().open(MemoryStore::new([]))?;
//! let partial = file.write_iter(&mut IovSource::one(view), 0).unwrap_err();
//! assert_eq!(partial.done, page);
//! assert!(matches!(partial.error, Error::Fault(_)));
//! assert_eq!(file.len()?, page as u64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! * **Exact counts.** All counted bytes were moved. No byte past them was touched, neither in the file nor in the buffer.
//!   An error after a part has succeeded comes with the count ([`Partial`]).
//! * **Progress.** A short copy is repeated where it stopped. The buffer is faulted in only after a copy that moved nothing. A byte
//!   that cannot be faulted in ends the operation, and so do [`NO_PROGRESS`](write::NO_PROGRESS) rounds in a row that move nothing.
//!   No round asks for more than can stay in memory until the next one. So any buffer, also a mapping of a file of the same cache,
//!   completes in a cache of two blocks for each file in use, without reading a store repeatedly.
//! * **No stale byte.** A byte that was never written and never read from the store cannot be read.
//! * **No loss.** Bytes that the store did not take stay dirty. Each `sync_all` that has not reported the failure reports it. If the
//!   memory is full of such bytes, writes fail with [`Error::Full`].
//! * **A limit** on memory, except for two blocks of each file that is in use, and one for each read that waits for its store.
//!
//! A file can be [mapped](pager), and a mapping can be the buffer of a read or write.
//!
//! # Limits
//!
//! A store that hangs hangs the operations that need its answer. Other files continue, and so do operations of the same file,
//! also faults of its mappings, that find their bytes in memory or need others of the store: missing bytes are read without a
//! lock. But the file's lock is held while the store is called
//!
//! * so that no other operation of the file continues: by [`set_len`](CachedFile::set_len), holes and direct writes; by an
//!   operation that needs memory which has to be written back first; by a write whose copy has ended within a missing block, or
//!   that has one in part in a cache of fewer than 32 blocks; by a fault that reads the store's
//!   [descriptor](store::Store::descriptor) in its signal; and by a read of bytes that change all the time, in its fourth
//!   attempt;
//! * shared with reads of cached bytes, by writeback, by a sync that sets the store's length and by direct reads: others wait,
//!   and reads that come after one that waits.
//!
//! More than eight faults of one file that need different blocks of a store that hangs make others that need the store wait.
//!
//! Memory that changes while it is read is read as a mixture. A fault that never returns (a server that hangs) hangs the
//! copy, and with it the file. A cache belongs to its process: after `fork` the child does not have its folios, and must
//! not use it. The child may drop the cache: that touches neither the stores nor the parent's memory.

#[cfg(not(target_os = "linux"))]
compile_error!("faultin-cache is for Linux only; on other Unix systems, `faultin` has its file API");

pub mod copy;
pub mod limit;
pub mod lock;
#[doc(hidden)]
pub mod mutation;
pub mod pager;
pub mod stats;
pub mod store;
pub mod write;

mod ahead;
#[allow(unsafe_code, reason = "a mapping of its own")]
mod bounce;
mod cache;
mod cursor;
mod direct;
mod error;
mod errors;
#[cfg(test)]
mod exploration;
mod fetch;
mod file;
mod folio;
mod inode;
mod inside;
mod many;
mod prefetch;
mod read;
mod resident;
mod resize;
mod signals;
mod transfer;
mod try_read;
mod writeback;

use inside::{sync, sys};

pub use ahead::Advice;
pub use cache::{Cache, CacheOptions, FileOptions};
pub use cursor::Cursor;
pub use error::{Error, Partial, errno};
pub use file::CachedFile;
