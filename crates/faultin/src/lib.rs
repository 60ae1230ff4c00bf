//! Memory that may fault: **an access that fails is a short count and a reason, never a dead process.**
//!
//! Behind a pointer there may be no memory any more: the mapped file was truncated, the disk returned an error, the peer
//! shrank the shared buffer, the page is poisoned, the tag does not match. The kernel has lived with such memory for
//! thirty years: its user copies come back short. This crate does the same in user space.
//!
//! # Three verbs and one rule
//!
//! * **[copy](mod@copy)** moves bytes and returns exactly how many, and why it stopped.
//! * **[fault_in](mod@fault_in)** makes the next attempt progress: the accessible prefix, an error only if that is nothing.
//! * **[probe](mod@probe)** proves that *every* byte can be loaded, or stored, without changing it.
//! * The **restart rule**: after a short copy, restart at the first byte that was not copied. Copy first; fault in only
//!   after zero progress; give up only when fault_in says "nothing". Whoever must restart from an earlier point uses probe.
//!
//! # Example
//!
//! ```
//! use std::os::fd::AsRawFd;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let file = tempfile::tempfile()?;
//! let page = faultin::page_size();
//! file.set_len(2 * page as u64)?;
//! # // SAFETY: a new mapping.
//! let map = unsafe {
//!     libc::mmap(std::ptr::null_mut(), 2 * page, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
//! };
//! assert_ne!(map, libc::MAP_FAILED);
//! // SAFETY: the addresses are ours until the mapping goes, whatever happens to the file.
//! let view = unsafe { faultin::ReadView::new(map.cast(), 2 * page)? };
//!
//! file.set_len(100)?; // somebody truncates it: a plain load of the second page would kill the process
//!
//! let mut buffer = vec![0; 2 * page];
//! let short = view.read(0, &mut buffer).unwrap_err();
//! assert_eq!(short.done, page);
//! assert_eq!(short.fault.cause(), faultin::Cause::Backing);
//! assert_eq!(view.load::<u32>(page).unwrap_err().cause(), faultin::Cause::Backing);
//! # Ok(())
//! # }
//! ```
//!
//! # Files that change
//!
//! [`map::FileMap`] is a mapped file with the errors of a read. What counts as a change is one of four modes, by
//! [`map::MapOptions::watch`]; [a table](map#what-counts-as-a-change) says what each operation answers to each event:
//!
//! | Mode | For | An error is |
//! |---|---|---|
//! | [`Reader`](map::Watch::Reader), the default | what `read(2)` is used for | a file that ends before the bytes that were asked for do |
//! | [`Appending`](map::Watch::Appending) | logs, whose bytes never change | a file that is shorter than it was, or rewritten |
//! | [`Contents`](map::Watch::Contents) | hashes, backups | any change |
//! | [`Nothing`](map::Watch::Nothing) | files that do not change | a page that is gone |
//!
//! # How it works
//!
//! Every instruction here that may touch foreign memory is assembly of our own with an entry in an exception
//! [`table`], keyed by program counter. The handler for SIGSEGV and SIGBUS looks the interrupted instruction up, puts what
//! happened into two of its registers and continues at its fixup. No thread-local state, no lock, no `longjmp`; nothing
//! is done in advance, so an access that succeeds costs nothing more than the access.
//!
//! # What it cannot do
//!
//! A fault that never returns (a FUSE or userfaultfd server that hangs) hangs the access. A system call that is given the
//! same memory returns `EFAULT` and does not need us. In a thread that blocks SIGSEGV or SIGBUS a fault of the raw
//! functions kills the process; views and maps have the kernel copy there ([`signal_free`]). Memory tags in asynchronous
//! mode cannot be caught. A truncated file's last page reads as zeros behind its end, without any fault.
//!
//! # Without `std`
//!
//! With `default-features = false`, what remains is [`table`], [`copy`](mod@copy) and [`scalar`](mod@scalar), without
//! vector registers or CPU detection, for kernels that have a fault handler of their own.

#![cfg_attr(not(feature = "std"), no_std)]

#[macro_use]
mod arch;
#[cfg(feature = "std")]
mod backing;
#[cfg(feature = "std")]
mod backoff;
#[cfg(feature = "std")]
mod blocked;
pub mod copy;
#[cfg(feature = "std")]
mod errno;
pub mod fault;
#[cfg(feature = "std")]
pub mod fault_in;
#[cfg(feature = "std")]
mod file_size;
#[cfg(feature = "std")]
pub mod fpstate;
#[cfg(feature = "std")]
pub mod iov;
#[cfg(feature = "std")]
pub mod map;
#[cfg(feature = "std")]
pub mod memory;
#[cfg(feature = "std")]
pub mod pager;
#[cfg(feature = "std")]
pub mod probe;
#[cfg(feature = "std")]
mod registry;
pub mod scalar;
#[cfg(feature = "std")]
pub mod scan;
#[cfg(feature = "std")]
pub mod signal;
#[cfg(feature = "std")]
pub mod signal_free;
#[cfg(feature = "std")]
mod stat;
#[cfg(feature = "std")]
pub mod string;
#[cfg(feature = "std")]
pub mod structs;
#[cfg(feature = "std")]
mod sync;
pub mod table;
#[cfg(feature = "std")]
#[doc(hidden)]
pub mod testing;
#[cfg(feature = "std")]
pub mod view;
#[cfg(feature = "std")]
mod walk;

#[cfg(feature = "std")]
pub use copy::copy_in_streaming;
pub use copy::{ShortRead, copy, copy_in, copy_out, copy_unpredictable, fill, read_uninit, zero};
pub use fault::{Access, Cause, Fault, Short};
pub use scalar::{
    Scalar, compare_exchange, fetch_add, fetch_and, fetch_max, fetch_min, fetch_nand, fetch_or, fetch_sub, fetch_xor,
    load, load_atomic, store, store_atomic, swap,
};

#[cfg(feature = "std")]
pub use {
    backing::Backing,
    errno::{CallError, errno},
    fault_in::{fault_in_readable, fault_in_writeable},
    file_size::without_sigxfsz,
    iov::{IovDest, IovSource},
    probe::{Granularity, probe_read, probe_write},
    registry::InstallError,
    scan::{compare, is_zeroed},
    signal::{
        Counters, Handled, Reached, Status, counters, host_owns_handler, install, raise_to_top, reinstall, status,
        try_handle,
    },
    string::{strncpy, strnlen},
    structs::{StructError, copy_struct_in},
    view::{ReadView, WriteView},
    walk::page_size,
};
