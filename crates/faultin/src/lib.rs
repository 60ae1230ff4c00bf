//! Memory that may fault: **an access that fails is an exact count and a cause, and the process lives.**
//!
//! A mapped file is truncated, a disk is full or fails, a peer shrinks the shared memory, a page of a guest is poisoned: the
//! next load or store ends the process with SIGBUS. The accesses of this crate return an error instead. There are three ways in:
//!
//! # Files
//!
//! [`FileMap`] reads a mapped file with the errors of `read(2)`, [`FileMapMut`] writes one, and
//! [`FileReader`] is a reader of anything that a path leads to.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file = tempfile::NamedTempFile::new()?;
//! # std::fs::write(file.path(), "a line\n".repeat(1000))?;
//! # let path = file.path();
//! use faultin::{FileMap, map::Change};
//!
//! let map = FileMap::open(path)?;
//! assert_eq!(map.count_byte(b'\n', ..)?, 1000);
//!
//! // Another process truncates the file. A load from a plain mapping would end this one.
//! std::fs::File::options().write(true).open(path)?.set_len(100)?;
//! let error = map.count_byte(b'\n', ..).unwrap_err();
//! assert_eq!(error.change(), Some(Change::Shrunk { from: 7000, to: 100 }));
//! # Ok(())
//! # }
//! ```
//!
//! What counts as a change is one of four modes, by [`MapOptions::watch`].
//! [A table](map#what-counts-as-a-change) has what each operation answers to each event:
//!
//! | Mode | For | An error is |
//! |---|---|---|
//! | [`Reader`](map::Watch::Reader), the default | what `read(2)` is used for | a file that ends before the bytes that were asked for do |
//! | [`Appending`](map::Watch::Appending) | logs, whose bytes never change | a file that is shorter than it was, or rewritten |
//! | [`Contents`](map::Watch::Contents) | hashes, backups | any change |
//! | [`Nothing`](map::Watch::Nothing) | files that do not change | a page that no longer exists |
//!
//! # Shared memory
//!
//! [`SharedMap`](shared::SharedMap) is memory that two processes share and do not trust each other with. [`shared::ring`] has rings in it.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use faultin::{map::Rights, shared::SharedMap};
//!
//! let client = SharedMap::create("buffer", 8192)?;
//! client.write_at(b"hello", 4096)?;
//!
//! // The server has the client's descriptor, and a length that the client claims.
//! let server = SharedMap::from_fd(client.try_clone_fd()?, 8192, Rights::Read)?;
//! assert_eq!(server.read_once::<[u8; 5]>(4096)?, *b"hello");
//!
//! std::fs::File::from(client.try_clone_fd()?).set_len(0)?; // the client takes the memory away
//! assert!(server.read_once::<[u8; 5]>(4096).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # Guest memory, and other pointers that may fault
//!
//! [`ReadView`] and [`WriteView`] are ranges of memory that another program, a guest or a device can take away. They have copies,
//! loads, stores, atomic operations, strings and searches. [`iov`] has lists of them, and [`memory`] has traits, to write loops
//! against that can be tested on simulated memory.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use faultin::{Cause, ReadView};
//!
//! # let page = faultin::page_size();
//! # // SAFETY: a new mapping.
//! # let base = unsafe {
//! #     libc::mmap(std::ptr::null_mut(), 2 * page, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
//! # };
//! # assert_ne!(base, libc::MAP_FAILED);
//! // `base` is a mapping of two pages. The second one becomes inaccessible.
//! # // SAFETY: within the mapping.
//! # unsafe { libc::mprotect(base.wrapping_byte_add(page), page, libc::PROT_NONE) };
//! // SAFETY: the addresses belong to this mapping until the program ends.
//! let view = unsafe { ReadView::new(base.cast(), 2 * page)? };
//! assert_eq!(view.load::<u64>(0)?, 0);
//! let short = view.read(&mut vec![1; 2 * page], 0).unwrap_err();
//! assert_eq!((short.done, short.fault.cause()), (page, Cause::Protection));
//! # Ok(())
//! # }
//! ```
//!
//! # Loops: three verbs and one rule
//!
//! * **[copy](raw)** moves bytes and returns exactly how many, and why it stopped.
//! * **[fault_in](raw#fault-in)** makes the next attempt progress: it returns the accessible prefix, and an error only if that is
//!   empty.
//! * **[probe](raw#probe)** proves that *every* byte can be loaded, or stored, without changing it.
//! * The **restart rule**: copy first. After a short copy, restart at the first byte that was not copied. Fault in only after a
//!   copy that moved nothing. Give up only when `fault_in` returns an error. A caller that must restart from an earlier point
//!   uses `probe`.
//!
//! # How it works
//!
//! Every instruction here that may touch foreign memory is assembly with an entry in an exception [`table`], keyed by program
//! counter. The handler for SIGSEGV and SIGBUS looks up the interrupted instruction, puts the fault into two of its registers,
//! and continues at the fixup. There is no thread-local state, no lock and no `longjmp`. Nothing is prepared before an access,
//! so one that succeeds has no overhead but the test of a register.
//!
//! [`install`] says how the handler coexists with other handlers. Where no handler may be installed, maps read with `pread`
//! ([`map::Backend`]), and [`signal_free`] has the kernel copy.
//!
//! Each fault is counted, and the last ones are kept with their cause, place and time: [`mod@events`].
//!
//! # Limits
//!
//! * A fault that never returns (a FUSE or userfaultfd server that hangs) hangs the access.
//! * In a thread that blocks SIGSEGV or SIGBUS, a fault of the raw functions kills the process. Views and maps have the
//!   kernel copy there ([`signal_free`]).
//! * Memory tags in asynchronous mode cannot be caught.
//! * A truncated file's last page reads as zeros past the end of the file, without a fault. Maps therefore compare the file's
//!   state after each access.
//! * A system call that is given the same memory returns `EFAULT`, and does not need this crate.
//!
//! # Platforms
//!
//! Linux on x86-64 and aarch64. On other architectures of Linux, the kernel makes the copies. On other Unix systems, the crate has
//! [`FileMap`], [`FileReader`], [`MapOptions`] and what reads in [`map`], over `pread`, with the same answers; all else is absent
//! there.
//!
//! # Features
//!
//! | Feature | With it |
//! |---|---|
//! | `std` (default) | on Linux: the signal handler, views, maps, shared memory, `fault_in`, `probe`, searches, pagers |
//! | none | any kernel or firmware with a fault handler of its own: the exception [`table`], the copies, scalars, strings and structures of [`raw`], [`memory`]'s traits and [`iov`] |
//! | `bytemuck`, `zerocopy` | `read_as` and `write_from` of maps and views: module `typed` |
//! | `internals` | the tests of this project: no part of the interface |
//!
//! Without `std` nothing uses vector registers wider than 128 bits or detects CPUs, and nothing allocates.

#![cfg_attr(not(feature = "std"), no_std)]
// What is absent there uses more of what is present.
#![cfg_attr(faultin_portable, allow(dead_code, unused_imports))]

#[cfg(all(faultin_portable, not(unix)))]
compile_error!("faultin is for Linux and, to read files, for other Unix systems; there is no version for this one");
#[cfg(all(not(feature = "std"), any(target_vendor = "apple", windows)))]
compile_error!("without its feature `std`, faultin needs ELF sections, which object files of this system do not have");

// `faultin_portable` is set on systems other than Linux (see build.rs). There, `portable` has what stands in for a module that
// only Linux has.
#[macro_use]
#[cfg_attr(faultin_portable, path = "portable/arch.rs")]
mod arch;
#[cfg(all(feature = "std", not(faultin_portable)))]
mod backing;
#[cfg(all(feature = "std", not(faultin_portable)))]
mod backoff;
#[cfg(all(feature = "std", not(faultin_portable)))]
mod blocked;
#[cfg(not(faultin_portable))]
mod copy;
#[cfg(feature = "std")]
mod errno;
#[cfg(all(feature = "std", not(faultin_portable)))]
pub mod events;
mod fault;
#[cfg(all(feature = "std", not(faultin_portable)))]
mod fault_in;
#[cfg(all(feature = "std", not(faultin_portable)))]
mod file_size;
#[cfg(all(feature = "internals", not(faultin_portable)))]
#[doc(hidden)]
pub mod fpstate;
#[cfg(not(faultin_portable))]
pub mod iov;
#[cfg(feature = "std")]
pub mod map;
#[cfg(not(faultin_portable))]
pub mod memory;
#[cfg(all(feature = "std", not(faultin_portable)))]
pub mod pager;
#[cfg(all(feature = "std", not(faultin_portable)))]
mod probe;
#[cfg(not(faultin_portable))]
pub mod raw;
#[cfg(feature = "std")]
#[cfg_attr(faultin_portable, path = "registry/error.rs")]
mod registry;
#[cfg(feature = "std")]
mod residency;
#[cfg_attr(faultin_portable, path = "portable/scalar.rs")]
mod scalar;
#[cfg(feature = "std")]
mod scan;
#[cfg(all(feature = "std", not(faultin_portable)))]
pub mod shared;
#[cfg(all(feature = "std", not(faultin_portable)))]
pub mod signal;
#[cfg(all(feature = "std", not(faultin_portable)))]
pub mod signal_free;
#[cfg(feature = "std")]
mod sleep;
#[cfg(feature = "std")]
#[cfg_attr(faultin_portable, path = "portable/stat.rs")]
mod stat;
#[cfg(not(faultin_portable))]
mod string;
#[cfg(not(faultin_portable))]
mod structs;
#[cfg(feature = "std")]
mod sync;
#[cfg(not(faultin_portable))]
pub mod table;
#[cfg(all(feature = "internals", not(faultin_portable)))]
#[doc(hidden)]
pub mod testing;
#[cfg(any(feature = "bytemuck", feature = "zerocopy"))]
pub mod typed;
#[cfg(any(feature = "bytemuck", feature = "zerocopy", all(feature = "std", not(faultin_portable))))]
mod value;
#[cfg(all(feature = "std", not(faultin_portable)))]
mod view;
#[cfg(all(feature = "std", not(faultin_portable)))]
mod walk;

pub use fault::{Access, Cause, Fault, Granularity, Short};
pub use scalar::Scalar;

#[cfg(all(feature = "std", not(faultin_portable)))]
#[doc(hidden)]
pub use signal::inside::process::process;
#[cfg(all(feature = "std", not(faultin_portable)))]
pub use {
    backing::Backing,
    map::write::FileMapMut,
    signal::outside::install::install,
    view::{ReadView, WriteView},
    walk::page_size,
};
#[cfg(feature = "std")]
pub use {
    errno::{CallError, errno},
    map::error::MapError,
    map::file::FileMap,
    map::options::MapOptions,
    map::reader::FileReader,
    registry::InstallError,
    residency::Residency,
};
#[cfg(all(feature = "std", not(faultin_portable)))]
#[doc(hidden)]
pub use {file_size::without_sigxfsz, sleep::sleep};

/// Returns the last faults of this process, at most 256, by every object that shares the registry, and the last
/// [notes](events::Notes) by code that uses this copy of the crate. A child of `fork` begins with its parent's faults, and without its
/// notes.
///
/// Events are complete: one that a handler is just writing is left out. Not async-signal-safe, because it allocates.
#[cfg(all(feature = "std", not(faultin_portable)))]
pub fn events() -> events::Events {
    events::snapshot()
}
