//! Files mapped into memory, where a file that is cut, rewritten or unreadable is an error, not a dead process.
//!
//! The speed of a mapping with the errors of a read: [`FileMap`] to read from, [`FileMapMut`] to write to as well,
//! [`MapOptions`] to say how. For memory that a peer shares with us and may take away, there is [`SharedMap`].
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (file, page) = (tempfile::NamedTempFile::new()?, faultin::page_size());
//! # std::fs::write(file.path(), vec![7; 3 * page])?;
//! # let path = file.path();
//! use faultin::map::{Change, FileMap};
//!
//! let map = FileMap::open(path)?;
//! let mut buffer = vec![0; 3 * page];
//! assert_eq!(map.read_at(&mut buffer, 0)?, 3 * page);
//!
//! // Somebody cuts the file.
//! std::fs::File::options().write(true).open(path)?.set_len(100)?;
//! let error = map.read_at(&mut buffer, 0).unwrap_err();
//! assert_eq!(error.change(), Some(Change::Shrunk { from: 3 * page as u64, to: 100 }));
//! assert_eq!((error.done(), error.offset(), error.path()), (100, 100, Some(path)));
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! * No operation kills the process, whatever happens to the file. (Limits: a file server that never answers hangs the
//!   access; a thread that blocks SIGSEGV or SIGBUS after its first access, and then uses only maps that make no system
//!   call, says so by [`ask_again`](crate::signal::ask_again).)
//! * **Changes are detected, not prevented.** A map knows its file's identity, size and change time of when it was
//!   made, or last [`refresh`](FileMap::refresh)ed. Each operation compares them *after* its accesses with what they
//!   are now: `Ok` means that none of the bytes had changed between then and now, as far as can be seen. A fault would
//!   not do: the last page of a file that was cut reads as zeros, and one that was cut and has grown again reads as
//!   zeros everywhere. What counts as a change is chosen by [`Watch`].
//! * Nothing behind the end of the file is reported as read, unless [`Watch::Nothing`] was asked for.
//! * Counts are exact, and [`MapError`] says how far it came, where it stopped in which file, and why. Where a mapping
//!   fails because its file cannot be read, the reason is what reading the file says, not the signal's.
//! * The work of one operation is bounded, whoever changes the file how often: one fault (two backwards), one look, one
//!   read. Searches do that for each window of 32 MiB.
//! * Maps are [sources](FileMap::source) and [destinations](FileMapMut::dest) of [lists](crate::iov), which end where the file
//!   does and report what the map watches.
//! * [`with_slice`](FileMap::with_slice) lends the mapping itself to any code, and tells afterwards what was not the
//!   file's. [`SharedMap`] is for memory that is no file to anybody.
//! * Over pread ([`Backend::Pread`]) the answers are the same, except that it notices the end of a file that
//!   [`Watch::Nothing`] does not look for, and that a store to a cut file is refused before anything is stored.
//!
//! # Files of layers
//!
//! On overlayfs a file of a lower layer is copied to the upper one when it is opened for writing. The descriptor then leads to
//! the copy, a mapping still to the original. The copy has another change time, so operations report a change, and
//! [`refresh`](FileMap::refresh) opens the file again and maps what is there now, or goes on over pread. Under
//! [`Watch::Shrinking`] and [`Watch::Nothing`], bytes that were mapped before are those of the original until then. A
//! [`SharedMap`] of a file there is over pread, unless it is open for writing.
//!
//! # Files without a size
//!
//! The size of a file on proc, sysfs, tracefs, debugfs, cgroup and the like says nothing about its bytes, and neither does a
//! size of 0 where a byte can be read. Mapping such a file fails with [`Unsupported`](Reason::Unsupported): it is a
//! [stream](MapError::is_stream), as pipes and terminals are. [`FileReader`] reads either.
//!
//! # What cannot be seen
//!
//! * **Stores through a mapping** move the change time only when a page that was clean is stored to first (on tmpfs: in
//!   each mapping). Those that follow before it is written back do not: a file that somebody else has mapped and writes
//!   to changes unseen.
//! * **Coarse clocks.** Before Linux 6.13, and on file systems without fine change times since then (those that have
//!   them are ext4, XFS, btrfs and tmpfs), the clock behind the change time ticks every 1 to 10 milliseconds: two
//!   changes within one tick look like one, so a change in the very tick before the map was made hides one that follows
//!   in it. From 6.13 on, a change after we have looked gets a time of its own.
//! * **Clocks that are set back** to the nanosecond of an earlier change, and disks that are written to under their
//!   mounted file system.
//! * **Other machines.** On a network file system sizes and times are as old as its attribute cache allows;
//!   [`verify`](FileMap::verify) asks the server.
//! * **Servers that fall short.** The kernel completes a page with zeros when a FUSE server answers with less than it
//!   was asked for, and takes them for the file's.
//! * Under [`Watch::Shrinking`] and [`Watch::Nothing`] what they say.
//!
//! What counts as a change although no byte has: new permissions, owners or links, a rename over the file and its
//! deletion all move the change time. The kernel does not say which it was; [`Change`] tells what else was seen.
//!
//! # Threads
//!
//! Maps are shared by reference; reading writes to nothing that is shared. [`refresh`](FileMap::refresh) in one thread
//! never takes away addresses that another one is reading.

mod chunks;
mod error;
mod file;
mod layers;
mod lines;
mod mapping;
mod nowait;
mod options;
mod reader;
mod search;
mod segment;
pub mod shared;
mod size;
mod slice;
mod stamp;
mod write;

pub use chunks::Chunks;
pub use error::{Change, MapError, Reason};
pub use file::FileMap;
pub use lines::{Line, Lines};
pub use mapping::Rights;
pub use options::{Advice, Backend, MapOptions, Watch};
pub use reader::{FileReader, MapReader};
pub use segment::{MapDest, MapSource};
pub use shared::{SharedMap, SharedOptions};
pub use size::has_known_size;
pub use slice::Damaged;
pub use write::FileMapMut;
