//! Objects of S3, GCS, Azure, an HTTP server or a directory, behind a [page cache](faultin_cache): **an object that is
//! overwritten, short or slow, or whose server dies, is a short count and a reason, also through a mapping.**
//!
//! An [`Object`] is a [store](faultin_cache::store::Store) of a cache. So it is read into any buffer, also one that faults, and
//! it is mapped:
//!
//! ```
//! use std::num::NonZeroUsize;
//!
//! use faultin::map::Rights;
//! use faultin_cache::{Cache, pager::Mode};
//! use faultin_store::{Error, Object};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("weights");
//! # std::fs::write(&path, vec![1; 300_000])?;
//! # let url = format!("file://{}", path.display());
//! // `s3://bucket/weights`, `gs://…`, `az://…`, `https://…` or `file:///…`
//! let object = Object::open(&url)?;
//! println!("pinned: {}", object.version());
//! let file = Cache::new().open(object.clone())?;
//! let map = file.map(0..file.len()?, Rights::Read, Mode::Mprotect)?;
//! let (view, mut bytes, mut done) = (map.read_view()?, vec![0; 300_000], 0);
//! while let Some(left) = NonZeroUsize::new(bytes.len() - done) {
//!     match view.read(&mut bytes[done..], done) {
//!         Ok(()) => done = bytes.len(),
//!         Err(short) if short.done > 0 => done += short.done,
//!         // Brings in what is next: from memory, from the disk tier, or by a request.
//!         Err(_) if view.fault_in(done, left).is_ok() => {}
//!         Err(_) => {
//!             let error = map.last_error().ok_or("no reason")?;
//!             eprintln!("{done} bytes, then: {}", Error::of(&error).ok_or("not of the object")?);
//!             break;
//!         }
//!     }
//! }
//! assert_eq!(bytes, vec![1; 300_000]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! * **One version.** All bytes that an object returns are of the version that it was opened with. Each request has the
//!   condition that it still is (`If-Match`), and each answer is checked; if it is not, the error is
//!   [replaced](Cause::Replaced), with both versions. [`Object::refresh`] opens the new one.
//! * **Nothing that was not asked for.** An answer of another range, another length or another kind, an error page, a
//!   redirect elsewhere, and bytes that do not have the checksum that the store offers, are errors.
//! * **A deadline** for each access, in which its waits, retries and bodies are. A store that is down does not make threads
//!   that need it one after the other wait one deadline each: they fail at once, until a request now and then finds that it
//!   works again.
//! * **One request for one block**, however many threads want it; and it is cancelled when no
//!   thread wants it any more. What is read ahead is cancelled when its scan is forgotten.
//! * **A limit on memory**, of all buffers together.
//! * **Errors name** object, range, attempt and cause, and no credentials.
//!
//! # Threads, signals and `fork`
//!
//! A [`Store`] has two threads, which run all requests, and one for the connections of each server. They handle no signals. Accesses wait in the thread that makes them, or
//! in one of the cache's pager threads if it is a page fault that needs the bytes; nothing here runs in a signal handler. A child of
//! `fork` has none of these threads: its accesses fail, at once, and it can make a store of its own.
//!
//! A handler of a signal may read a mapping of an object. The pager then needs the locks of the store, so signals are blocked
//! in a thread while it holds one (two system calls for each step of an access) and while it waits for a block of the disk tier, at
//! most for its patience, but not while it waits for an answer. The
//! handler must not call a method of this crate itself: it may wait for ever.
//!
//! # Features
//!
//! All are on by default: `s3`, `gcs`, `azure`, `http`, `local` (`file:` URLs) and `memory` (`memory:` URLs, for tests). The first four
//! include TLS: rustls with ring and the system's certificates. The process's default provider of rustls is set if there is none.

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("faultin-store is for Linux only, as faultin-cache is");

pub mod check;
pub mod disk;

mod ahead;
mod backend;
mod engine;
mod error;
mod events;
mod fetch;
mod flight;
mod health;
mod object;
mod pin;
mod pinned;
mod pool;
mod rate;
mod retry;
#[cfg(test)]
mod simulation;
mod stats;
mod store;

/// For the command, which tells URLs, too.
#[doc(hidden)]
pub use backend::is_secret_part;
pub use error::{Cause, Error};
pub use events::{Event, What};
pub use object::Object;
pub use object_store;
pub use pin::Version;
pub use stats::{ObjectStats, Stats};
pub use store::{Store, StoreOptions};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
