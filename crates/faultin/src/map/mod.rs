//! Files mapped into memory, where a file that is truncated, rewritten or unreadable is an error, not a dead process.
//!
//! [`FileMap`] reads a mapping with the errors of `read(2)`, [`FileMapMut`] also writes it, and [`MapOptions`] chooses how
//! a file is mapped. [`SharedMap`] is for memory that a peer shares and may revoke.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file = tempfile::NamedTempFile::new()?;
//! # std::fs::write(file.path(), vec![7; 10_000])?;
//! # let path = file.path();
//! use faultin::{map::Change, FileMap};
//!
//! let map = FileMap::open(path)?;
//! let mut buffer = vec![0; 10_000];
//! assert_eq!(map.read_at(&mut buffer, 0)?, 10_000);
//!
//! // Another process truncates the file.
//! std::fs::File::options().write(true).open(path)?.set_len(100)?;
//! let error = map.read_at(&mut buffer, 0).unwrap_err();
//! assert_eq!(error.change(), Some(Change::Shrunk { from: 10_000, to: 100 }));
//! assert_eq!((error.done(), error.offset(), error.path()), (100, 100, Some(path)));
//! # Ok(())
//! # }
//! ```
//!
//! # What counts as a change
//!
//! A map knows a *stamp* of its file from when it was opened or [`refresh`](FileMap::refresh)ed: device, inode, size, time
//! of modification and change time. Each operation copies, and then queries the kernel once (`fstat(2)`). A stamp that
//! differs has *moved*. [`MapOptions::watch`] chooses what an operation returns then:
//!
//! * [`Watch::Reader`], the default: the errors of `read(2)`. If the stamp has moved, the bytes are read again, once, and
//!   the new stamp is accepted. A file that ends before the end of the requested range is an error.
//! * [`Watch::Appending`]: for logs. The caller asserts that bytes never change once they are in the file.
//! * [`Watch::Contents`]: for hashes and backups. All bytes are of one state of the file.
//! * [`Watch::Nothing`]: nothing is checked.
//!
//! The columns have what `read_at`, `reader`, `find`, `lines` and the like return in each mode after an event, what
//! [`with_slice`](FileMap::with_slice) returns where that differs, and what [`verify`](FileMap::verify) and
//! [`refresh`](FileMap::refresh) return in all modes. Each word except `Ok` is a [`Change`]; *truncated* is
//! [`Change::Shrunk`].
//!
//! | Event | `Reader` | its `with_slice` | `Appending` | `Contents` | `Nothing` | `verify` | `refresh` |
//! |---|---|---|---|---|---|---|---|
//! | nothing | `Ok` | `Ok` | `Ok` | `Ok` | `Ok` | `Ok` | `Ok` |
//! | appended to | `Ok` | grown | `Ok` | grown | `Ok` | grown | grown |
//! | truncated after the range | `Ok` | truncated | truncated | truncated | `Ok` | truncated | truncated |
//! | truncated within the range | truncated | truncated | truncated | truncated | truncated | truncated | truncated |
//! | truncated before the range | truncated | truncated | truncated | truncated | truncated | truncated | truncated |
//! | truncated and grown to the same size | `Ok` | rewritten | rewritten | rewritten | `Ok` | rewritten | rewritten |
//! | rewritten, same size | `Ok` | rewritten | rewritten | rewritten | `Ok` | rewritten | rewritten |
//! | rewritten, its mtime set back | `Ok` | `Ok` | `Ok` | touched | `Ok` | touched | touched |
//! | `touch` | `Ok` | rewritten | rewritten | rewritten | `Ok` | rewritten | rewritten |
//! | `chmod`, `chown` | `Ok` | `Ok` | `Ok` | touched | `Ok` | touched | touched |
//! | `ln` | `Ok` | `Ok` | `Ok` | touched | `Ok` | touched | touched |
//! | `rm` | `Ok` | `Ok` | `Ok` | touched | `Ok` | deleted | touched |
//! | `mv` to another name | `Ok` | `Ok` | `Ok` | touched | `Ok` | deleted | touched |
//! | `mv` of another file over it | `Ok` | `Ok` | `Ok` | touched | `Ok` | replaced | touched |
//!
//! `Ok` of `refresh` is `Ok(None)`; the other words are `Ok(Some(change))`. Under `Nothing`, *truncated* is only noticed where the
//! range has a page past the end of the file: the rest of the file's last page reads as zeros. (`cargo test --test map modes` does all of
//! this to real files, in every mode, by every operation.)
//!
//! # Fresh stamps
//!
//! The clock behind the times of files ticks every 1 to 10 milliseconds, and two changes within one tick leave the same
//! stamp. A stamp is *fresh* if its change time is less than a tick old when it is taken. A fresh stamp counts as moved:
//! `Reader` reads again, `Contents` waits for the end of the tick when it opens the file, and so does `with_slice` before
//! it calls its closure. From Linux 6.13 on, ext4, XFS, btrfs and tmpfs give distinct times to changes that follow a query;
//! the map does not rely on that.
//!
//! # What is promised
//!
//! * No change of the file ends the process in an operation. (Limits: a file server that never answers hangs the
//!   access; a thread that blocks SIGSEGV or SIGBUS after its first access, and then uses only maps that make no system
//!   call, reports that by [`refresh_mask`](crate::signal::refresh_mask).)
//! * **Changes are detected, not prevented.** A fault would not do: the last page of a file that was truncated reads as
//!   zeros, and one that was truncated and has grown again reads as zeros everywhere. So each operation queries the kernel
//!   *after* its accesses.
//! * No byte past the end of the file is reported as read, unless [`Watch::Nothing`] was requested.
//! * Counts are exact. [`MapError`] has the count, the file, the position and the reason. Where a mapping fails because its file
//!   cannot be read, the reason is the error of reading the file, not the signal's.
//! * [`len`](FileMap::len) changes by [`refresh`](FileMap::refresh) only.
//! * The work of one operation is bounded, however often the file is changed: one fault (two backwards), one query, one
//!   read. Searches do this for each window of 32 MiB.
//! * Maps are [sources](FileMap::source) and [destinations](FileMapMut::dest) of [lists](crate::iov), which end where the file
//!   does and report what the map watches.
//! * [`with_slice`](FileMap::with_slice) lends the mapping itself to any code, and reports afterwards which bytes were not the
//!   file's.
//! * Over pread ([`Backend::Pread`]) the results are the same, except that the end of the file is also noticed under
//!   [`Watch::Nothing`], and that a store to a truncated file fails before any byte is stored.
//!
//! # Layered file systems
//!
//! On overlayfs a file of a lower layer is copied to the upper one when it is opened for writing. The descriptor then leads
//! to the copy, a mapping still to the original. The copy has another change time, so the stamp has moved. There, a moved
//! stamp is not accepted: [`Watch::Reader`] reads from the file until [`refresh`](FileMap::refresh) opens it again and maps
//! the copy, or continues over pread. Under [`Watch::Appending`] and [`Watch::Nothing`], bytes that were mapped before are
//! those of the original until then. A [`SharedMap`] of a file there is over pread, unless it is open for writing.
//!
//! # Record locks
//!
//! Closing any descriptor of a file releases the process's record locks on it (`fcntl(2)` with `F_SETLK`); this is a rule
//! of the kernel. No operation on a map closes one, and a description that a map opens for itself is closed with the map.
//! **Dropping a map closes its file**, and so does a map that cannot be made of it. A process that has record locks on a
//! file and maps it must keep the map as long as the locks, or use locks of the open file description (`F_OFD_SETLK`),
//! which only end with that description; a descriptor that was [cloned](std::fs::File::try_clone) from the locked one and
//! given to the map does not release those.
//!
//! # Files without a size
//!
//! The size of a file on proc, sysfs, tracefs, debugfs, cgroup and the like says nothing about its bytes, and neither does
//! a size of 0 where a byte can be read. Mapping such a file fails with [`Unsupported`](Reason::Unsupported): it is a
//! [stream](MapError::is_stream), like pipes and terminals. [`FileReader`] reads either.
//!
//! # What cannot be detected
//!
//! * **Stores through a mapping** move the times only at the first store to a clean page (on tmpfs: in each mapping). Later
//!   stores before the page is written back do not: changes by another process that has mapped the file can go undetected.
//! * **The rest of a write.** The kernel moves the times when `write(2)` begins. Bytes that a long write stores after the
//!   map has taken its stamp move nothing but the size.
//! * **A log that was truncated and has grown past its previous size** between two operations, under [`Watch::Appending`]:
//!   it looks as if it had grown.
//! * **A change within the tick** in which the file was changed before it was opened: [`verify`](FileMap::verify) of a map
//!   that is not of [`Watch::Contents`] does not detect it, and [`Watch::Appending`] checks nothing that would show it.
//!   [`FileMap::watches`] reports whether there is such a tick.
//! * **Clocks that are set back** to the nanosecond of an earlier change, clocks of servers that run behind ours by more than a
//!   tick, and disks that are written to under their mounted file system.
//! * **Attribute caches of network file systems.** Sizes and times are as old as the cache allows;
//!   [`verify`](FileMap::verify) and [`refresh`](FileMap::refresh) query the server.
//! * **Change times that mean nothing.** A file system that returns a different one at every query (some FUSE servers) is
//!   recognised when the file is opened; then size and time of modification are watched. [`FileMap::watches`] reports this.
//! * **Servers that answer short.** The kernel fills a page with zeros when a FUSE server returns fewer bytes than
//!   requested; the zeros cannot be distinguished from the file's.
//! * Under [`Watch::Nothing`], all changes.
//!
//! # Threads
//!
//! Maps are shared by reference; reading writes to nothing that is shared. [`refresh`](FileMap::refresh) in one thread
//! never unmaps addresses that another thread is reading.

mod answer;
mod chunks;
mod engine;
#[cfg(not(faultin_portable))]
mod entered;
pub(crate) mod error;
pub(crate) mod file;
mod find_iter;
mod follow;
#[cfg(not(faultin_portable))]
mod guarded;
#[cfg_attr(faultin_portable, path = "../portable/hints.rs")]
pub(crate) mod hints;
#[cfg(not(faultin_portable))]
mod layers;
mod lines;
mod many;
#[cfg_attr(faultin_portable, path = "../portable/mapped.rs")]
mod mapped;
#[cfg(not(faultin_portable))]
mod mapping;
mod name;
#[cfg_attr(faultin_portable, path = "../portable/nowait.rs")]
mod nowait;
mod open;
pub(crate) mod options;
mod range;
mod read;
pub(crate) mod reader;
mod record;
mod search;
#[cfg(not(faultin_portable))]
mod segment;
#[cfg(not(faultin_portable))]
pub(crate) mod shared;
mod size;
#[cfg(not(faultin_portable))]
mod slice;
mod stamp;
#[cfg(test)]
mod stamp_tests;
#[cfg_attr(faultin_portable, path = "../portable/state.rs")]
mod state;
#[cfg(not(faultin_portable))]
pub(crate) mod write;

pub use chunks::Chunks;
pub use error::{Change, Reason};
pub use file::Coverage;
pub use find_iter::FindIter;
pub use lines::{Line, Lines};
pub use many::ReadRequest;
pub use options::{Advice, Backend, Watch};
pub use reader::MapReader;
pub use size::has_known_size;
#[cfg(not(faultin_portable))]
pub use {
    guarded::Damaged,
    mapping::{Repair, Rights},
    segment::{MapDest, MapSource},
};

#[cfg(not(faultin_portable))]
#[doc(hidden)]
pub use entered::Entered;

#[cfg(not(faultin_portable))]
pub(crate) use {state::file_system, write::is_full};

#[cfg(all(doc, not(faultin_portable)))]
use crate::{FileMap, FileMapMut, FileReader, MapError, MapOptions, shared::SharedMap};
