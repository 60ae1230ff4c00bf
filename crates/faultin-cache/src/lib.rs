//! A page cache in user space: files whose bytes live in a [store](store::Store) and are read and written through folios,
//! with any buffer the caller has, also one that faults.
//!
//! It is for databases, virtual machine monitors and user-space file systems: whoever is given buffers by somebody else, in
//! memory that may be gone (a mapped file that was cut, a guest's page, a peer's shared memory), and has to read and write all
//! the same. An operation never deadlocks on itself, never runs for ever, never shows a byte that nobody wrote, and never
//! lies about its count.
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
//! A buffer that faults is a short count and a reason:
//!
//! ```
//! use faultin::iov::IovSource;
//! use faultin_cache::{Cache, Error, store::MemoryStore};
//! # use std::io::Write;
//! # let mut source = tempfile::NamedTempFile::new()?;
//! # source.write_all(&vec![7; 3 * faultin::page_size()])?;
//! # // SAFETY: nobody maps there but this.
//! # let (page, file) = (faultin::page_size(), source.as_file());
//! # let base = unsafe { libc::mmap(std::ptr::null_mut(), 3 * page, libc::PROT_READ, libc::MAP_SHARED, std::os::fd::AsRawFd::as_raw_fd(file), 0) };
//! # assert_ne!(base, libc::MAP_FAILED);
//! // `base` is a mapping of three pages of a file. Somebody cuts the file.
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
//! # What is promised
//!
//! * **Counts are exact.** What a count says was moved was; behind it nothing was touched, neither in the file nor in the
//!   buffer. An error after a part has succeeded comes with the part ([`Partial`]).
//! * **Progress.** A copy that is short is tried again where it stopped; the buffer is faulted in only after nothing moved; a
//!   byte that cannot be faulted in ends it. [`NO_PROGRESS`](write::NO_PROGRESS) rounds in a row that move nothing end it, too.
//!   No round asks for more than can stay in memory until the next one: any buffer, also a mapping of a file of the same cache,
//!   completes in a cache of two blocks for each file in use, without reading a store over and over.
//! * **No stale byte.** What was never written and never read from the store cannot be read.
//! * **Nothing dirty is dropped.** What the store did not take stays, and is reported by each `sync_all` that has not
//!   reported it yet. If the memory is full of it, writes fail with [`Error::Full`].
//! * **The limit** on memory holds, but for two blocks of each file that is being used, and one for each read that waits
//!   for its store.
//!
//! A file can be [mapped](pager), too, and a mapping be the buffer of a read or write.
//!
//! # What is not
//!
//! A store that hangs hangs the operations that need it, and others of the same file; other files go on. Memory that changes
//! while it is read is read as some mixture. A fault that never returns (a server that hangs) hangs the copy, and with it
//! the file. A cache is its process's: after `fork` the child does not have its folios, and must not use it. It may drop it:
//! that touches neither the stores nor what the parent has.

pub mod lock;
pub mod mode;
#[doc(hidden)]
pub mod mutation;
pub mod pager;
pub mod store;
pub mod write;

mod bounce;
mod cache;
mod direct;
mod error;
#[cfg(test)]
mod exploration;
mod file;
mod folio;
mod inode;
#[allow(unsafe_code, reason = "a page that the kernel wipes in children")]
mod process;
mod read;
mod resize;
mod sync;
mod sys;
mod transfer;
mod writeback;

pub use cache::{Cache, CacheOptions, FileOptions};
pub use error::{Error, Partial, errno};
pub use file::CachedFile;
pub use read::Advice;

/// What the README shows compiles, and what it shows as a program runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
