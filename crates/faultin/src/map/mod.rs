//! Files mapped into memory, where a file that is truncated, rewritten or unreadable is an error, not a dead process.
//!
//! [`FileMap`] reads a mapping with the errors of `read(2)`, [`FileMapMut`] also writes it, and [`MapOptions`] says how a file is
//! mapped. [`SharedMap`] is for memory that a peer shares with us and may take away.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (file, page) = (tempfile::NamedTempFile::new()?, faultin::page_size());
//! # std::fs::write(file.path(), vec![7; 3 * page])?;
//! # let path = file.path();
//! use faultin::{map::Change, FileMap};
//!
//! let map = FileMap::open(path)?;
//! let mut buffer = vec![0; 3 * page];
//! assert_eq!(map.read_at(&mut buffer, 0)?, 3 * page);
//!
//! // Another process truncates the file.
//! std::fs::File::options().write(true).open(path)?.set_len(100)?;
//! let error = map.read_at(&mut buffer, 0).unwrap_err();
//! assert_eq!(error.change(), Some(Change::Shrunk { from: 3 * page as u64, to: 100 }));
//! assert_eq!((error.done(), error.offset(), error.path()), (100, 100, Some(path)));
//! # Ok(())
//! # }
//! ```
//!
//! # What counts as a change
//!
//! A map knows a *stamp* of its file from when it was opened or [`refresh`](FileMap::refresh)ed: device, inode, size, time of
//! modification and change time. Each operation copies, and then asks the kernel once (`fstat(2)`). A stamp that differs has
//! *moved*. [`MapOptions::watch`] chooses what an operation returns then:
//!
//! * [`Watch::Reader`], the default: the errors of `read(2)`. If the stamp has moved, the bytes are read again, once, and the new
//!   stamp is accepted. A file that ends before the bytes that were asked for is an error.
//! * [`Watch::Appending`]: for logs. The caller asserts that bytes never change once they are in the file.
//! * [`Watch::Contents`]: for hashes and backups. All bytes are of one state of the file.
//! * [`Watch::Nothing`]: no question is asked.
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
//! `Reader` reads again, `Contents` waits for the end of the tick when it opens the file, and so does `with_slice` before it
//! calls its closure. From Linux 6.13 on, ext4, XFS, btrfs and tmpfs give times of their own to changes that follow a
//! question; the map does not rely on it.
//!
//! # What is promised
//!
//! * No change of the file ends the process in an operation. (Limits: a file server that never answers hangs the
//!   access; a thread that blocks SIGSEGV or SIGBUS after its first access, and then uses only maps that make no system
//!   call, reports that by [`ask_again`](crate::signal::ask_again).)
//! * **Changes are detected, not prevented.** A fault would not do: the last page of a file that was truncated reads as
//!   zeros, and one that was truncated and has grown again reads as zeros everywhere. So each operation asks the kernel
//!   *after* its accesses.
//! * No byte after the end of the file is reported as read, unless [`Watch::Nothing`] was asked for.
//! * Counts are exact. [`MapError`] has the count, the file, the position and the reason. Where a mapping fails because its file
//!   cannot be read, the reason is the error of reading the file, not the signal's.
//! * [`len`](FileMap::len) changes by [`refresh`](FileMap::refresh) only.
//! * The work of one operation is bounded, however often the file is changed: one fault (two backwards), one question, one
//!   read. Searches do that for each window of 32 MiB.
//! * Maps are [sources](FileMap::source) and [destinations](FileMapMut::dest) of [lists](crate::iov), which end where the file
//!   does and report what the map watches.
//! * [`with_slice`](FileMap::with_slice) lends the mapping itself to any code, and reports afterwards which bytes were not the
//!   file's.
//! * Over pread ([`Backend::Pread`]) the answers are the same, except that the end of the file is noticed under
//!   [`Watch::Nothing`], too, and that a store to a truncated file fails before any byte is stored.
//!
//! # Files of layers
//!
//! On overlayfs a file of a lower layer is copied to the upper one when it is opened for writing. The descriptor then leads to
//! the copy, a mapping still to the original. The copy has another change time, so the stamp has moved. There, a moved stamp is
//! not accepted: [`Watch::Reader`] reads from the file until [`refresh`](FileMap::refresh) opens it again and maps the copy, or
//! continues over pread. Under [`Watch::Appending`] and [`Watch::Nothing`], bytes that were mapped before are those of the
//! original until then. A [`SharedMap`] of a file there is over pread, unless it is open for writing.
//!
//! # Record locks
//!
//! Closing any descriptor of a file releases the record locks (`fcntl(2)` with `F_SETLK`) that the process has on it: so the
//! kernel has it. No operation on a map closes one, and a description that a map makes for itself is closed with the map.
//! **Dropping a map closes its file**, and so does a map that cannot be made of it. A process that has record locks on a file and
//! maps it keeps the map as long as the locks, or uses locks of the open file description (`F_OFD_SETLK`), which only end with
//! that description; a descriptor that was [cloned](std::fs::File::try_clone) from the locked one and given to the map leaves
//! those alone.
//!
//! # Files without a size
//!
//! The size of a file on proc, sysfs, tracefs, debugfs, cgroup and the like says nothing about its bytes, and neither does a
//! size of 0 where a byte can be read. Mapping such a file fails with [`Unsupported`](Reason::Unsupported): it is a
//! [stream](MapError::is_stream), as pipes and terminals are. [`FileReader`] reads either.
//!
//! # What cannot be seen
//!
//! * **Stores through a mapping** move the times only when a page that was clean is stored to first (on tmpfs: in each
//!   mapping). Those that follow before it is written back do not: a file that another process has mapped and stores to
//!   changes unseen.
//! * **The rest of a write.** The kernel moves the times when `write(2)` begins. What a long one stores after the map has
//!   taken its stamp moves nothing but the size.
//! * **A log that was truncated and has grown beyond its size** between two operations, under [`Watch::Appending`]: it looks
//!   as if it had grown.
//! * **A change within the tick** in which the file was changed before it was opened: [`verify`](FileMap::verify) of a map
//!   that is not of [`Watch::Contents`] does not see it, and [`Watch::Appending`] asks for nothing that would show it.
//!   [`FileMap::watches`] says whether there is such a tick.
//! * **Clocks that are set back** to the nanosecond of an earlier change, clocks of servers that run behind ours by more than a
//!   tick, and disks that are written to under their mounted file system.
//! * **Attribute caches of network file systems.** Sizes and times are as old as the cache allows;
//!   [`verify`](FileMap::verify) and [`refresh`](FileMap::refresh) ask the server.
//! * **Change times that mean nothing.** A file system that gives another one at every question (some FUSE servers) is
//!   recognised when the file is opened; then size and time of modification are watched. [`FileMap::watches`] says so.
//! * **Servers that fall short.** The kernel completes a page with zeros when a FUSE server answers with less than it
//!   was asked for, and takes them for the file's.
//! * Under [`Watch::Nothing`] what it says.
//!
//! # Threads
//!
//! Maps are shared by reference; reading writes to nothing that is shared. [`refresh`](FileMap::refresh) in one thread
//! never takes away addresses that another one is reading.

mod answer;
mod chunks;
pub(crate) mod error;
pub(crate) mod file;
mod find_iter;
mod layers;
mod lines;
mod mapping;
mod name;
mod nowait;
pub(crate) mod options;
mod range;
pub(crate) mod reader;
mod record;
mod search;
mod segment;
pub(crate) mod shared;
mod size;
mod slice;
mod stamp;
#[cfg(test)]
mod stamp_tests;
pub(crate) mod write;

pub use chunks::Chunks;
pub use error::{Change, Reason};
pub use file::Coverage;
pub use find_iter::FindIter;
pub use lines::{Line, Lines};
pub use mapping::{Repair, Rights};
pub use options::{Advice, Backend, Watch};
pub use reader::MapReader;
pub use segment::{MapDest, MapSource};
pub use size::has_known_size;
pub use slice::Damaged;

pub(crate) use mapping::file_system;
pub(crate) use write::is_full;

#[cfg(doc)]
use crate::{FileMap, FileMapMut, FileReader, MapError, MapOptions, shared::SharedMap};
