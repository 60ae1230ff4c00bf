//! Functions on pointers to memory that may fault. [Views](crate::ReadView) offer the same without `unsafe`.
//!
//! *Foreign memory* is memory that may be inaccessible: its owner may unmap, protect, truncate or poison it at any time,
//! but permits our accesses. *Plain memory* is memory that Rust's rules cover. Every function here returns the complement
//! of what the kernel's user copies return: `Ok(())` if everything was done, or a [`Short`] with the exact number `done` of
//! completed bytes and the fault that stopped it. After a short copy, restart at the first byte that was not copied.
//!
//! # Guarantees
//!
//! * The count is exact at every size, alignment and fault position, for source and destination. Bytes after it are
//!   untouched.
//! * One exception, where another thread revokes a page at the very moment of a store to it, or of a load by a string
//!   instruction: bytes after the count may have been stored, up to 31 on aarch64 (Arm does not specify what a store across
//!   two pages stores to the accessible one) and up to 63 on x86-64 (Intel does not specify it for stores of more than eight
//!   bytes, and a string instruction was observed to report one byte less than it had stored). Every byte before the count is
//!   stored nevertheless.
//! * A failed operation takes one signal; two where more than one page of its ranges is bad, or the CPU reports no address
//!   (non-canonical addresses).
//! * Null, kernel and non-canonical addresses, and ranges that wrap around or are longer than `isize::MAX`, behave as
//!   ranges that end in unmapped memory. A length of 0 succeeds without an access.
//! * Concurrent writers: each copied byte is one that the memory held at some time during the call, and nothing more is
//!   guaranteed. Use [operations on scalars](self#scalars) where a value must not be torn.
//! * `DF` and `MXCSR` may have any value. (`EFLAGS.AC` may not: compiled code, the C library and this crate's handler
//!   are full of misaligned accesses, each of which would be a fault.) On CPUs where vector registers need `vzeroupper`,
//!   it is executed.
//!
//! # Contracts
//!
//! Where a `# Safety` section says that a range is foreign memory that *we may read*, this applies to the memory that is
//! mapped there while the function runs:
//!
//! * No `&mut` reference to a byte of it is live, and no code relies on being the only one that accesses it.
//! * Its bytes are initialised. Memory that came from the kernel always is; padding and what a `MaybeUninit` holds may not
//!   be.
//!
//! Where its owner *lets us write it*: no reference to a byte of it is live, shared or not, and no code relies on its
//! contents. Addresses where nothing is mapped, or nothing accessible, are always allowed.
//!
//! # Scalars
//!
//! Loads, stores and atomic operations of 8 to 128 bits on memory that may fault, inlined where they are called: the
//! instruction and a test.
//!
//! ## Guarantees of a scalar access
//!
//! * On success exactly one access was made (a loop of them for the operations that say so), with the given ordering.
//!   An aligned access of up to 64 bits is single-copy atomic; of 128 bits only through the atomic operations.
//! * On a fault nothing was stored, and a loop ended.
//! * Plain loads and stores may be misaligned. A misaligned *atomic* operation is an error ([`Cause::Alignment`]), without
//!   an access; so is an ordering that the operation cannot have (a load that releases, a store that acquires), as
//!   [`Cause::Unsupported`], where `core::sync::atomic` would panic.
//! * 128-bit atomic loads need AVX on x86-64 (`cmpxchg16b` would need the right to store), and are
//!   [`Cause::Unsupported`] elsewhere.
//!
//! The address of a fault in a wide or misaligned access is the first byte of it that the CPU reports, or unknown.
//!
//! # Fault in
//!
//! **fault_in**, the *ANY* primitive: makes the next attempt progress.
//!
//! Call it only after an attempt that moved nothing, with the length that the *consumer* wants (never one that the data
//! claim), and give up only when it fails. It returns the length of the accessible prefix, and fails only if the prefix is
//! empty. It performs a real access at the first byte, because page tables show neither memory tags nor every other reason
//! for which an access may fail; each further page is accessed at its first byte, or populated by the kernel
//! (`MADV_POPULATE_READ`/`_WRITE`), whichever is cheaper.
//!
//! Where a [pager](crate::pager) resolves the faults of the range, a page that was brought in may have been evicted for a
//! later one. So the pager is asked once more at the end, and the prefix ends before the first page that would fault by
//! then; the first page is brought in again if need be. Another thread may evict pages before the function returns: loops
//! need a bound of their own.
//!
//! It never changes a byte. For writing it performs an atomic read-modify-write that stores what it read, which dirties
//! pages and breaks copy-on-write as a store would.
//!
//! A caller that restarts at an earlier point than the first uncopied byte needs [`probe`](self#probe) instead.
//!
//! # Probe
//!
//! **probe**, the *ALL* primitive: proves that every byte can be loaded, or stored, now.
//!
//! For callers that restart at an earlier point than the first uncopied byte: a record boundary, a register frame. One
//! access per [`Granularity`] unit proves the unit. Bytes are not changed, but a store probe performs an atomic
//! read-modify-write in each page: the pages become dirty, copy-on-write is broken, the modification time of a mapped file
//! changes, and write-protect faults are raised as by any store.
//!
//! Where a [pager](crate::pager) resolves the faults of the range and cannot keep all of it resident at once, the probe is
//! short, with [`Cause::NotResident`]: the proven part can be accessed when the probe returns, unless another thread evicts
//! it.
//!
//! A failed probe takes one signal at `Page` granularity, two at the finer ones.
//!
//! Protection is per page, so a store probe stores once per page and only reads in between: tags and poison are found by
//! reading.
//!
//! In large ranges at `Page` granularity, where the kernel populates pages faster than they can be touched (huge pages),
//! its answer is accepted for all pages except the first; see [faulting in](self#fault-in).
//!
//! # Strings
//!
//! Strings in foreign memory: they end at a NUL, and no byte after it is needed.
//!
//! Memory is loaded in aligned blocks of 16 bytes, each of which is in one page and one tag granule: only pages and
//! granules that hold bytes of the string are touched. (A block may hold bytes before the start or after the NUL; they are
//! ignored.)
//!
//! # Structures
//!
//! Structures whose size is their version: the caller of an interface may be older or newer than the interface.
//!
//! # Searches
//!
//! Searching foreign memory without copying it: comparing, searching, counting.
//!
//! All searches use fallible loads into vector registers, four of them with one test. Nothing outside the given ranges is
//! loaded. Each answer describes bytes at the time they were loaded; a byte that changes meanwhile may be seen with its old
//! or its new value. Where a position is returned, all its bytes were loaded with the values that were searched for.
//!
//! On architectures without assembly of this crate, 64 bytes are one system call: there it is better to copy first.
//!
//! # Aborts
//!
//! A fault kills the process unless it is handled: [`install`](crate::install) (or the host's handler, see
//! [`host_owns_handler`](crate::signal::host_owns_handler)) must have succeeded before, in an object loaded with or after
//! this one; no handler that was installed later may keep the signal for itself; and both signals must be unblocked in this
//! thread. [`status`](crate::signal::status) reports all of it. The functions of [`signal_free`](crate::signal_free) need
//! none of it.

#[cfg(doc)]
use crate::{Cause, Granularity, Short};

#[cfg(feature = "std")]
pub use crate::copy::copy_in_streaming;
#[cfg(feature = "std")]
#[doc(hidden)]
pub use crate::copy::{COUNTING_SHORT, CountingCopy, Stopped, counting_copy, counting_copy_short};
pub use crate::copy::{ShortRead, copy, copy_in, copy_out, copy_unpredictable, fill, read_uninit, zero};
pub use crate::fault::outcome::TAG_GRANULE;
pub use crate::scalar::{
    compare_exchange, fetch_add, fetch_and, fetch_max, fetch_min, fetch_nand, fetch_or, fetch_sub, fetch_xor, load,
    load_atomic, store, store_atomic, swap,
};
pub use crate::string::{strncpy, strnlen};
pub use crate::structs::{StructError, copy_struct_in};
#[cfg(feature = "std")]
pub use crate::{
    fault_in::{fault_in_readable, fault_in_writeable},
    probe::{probe_read, probe_write},
    scan::{compare, count_byte, crc32c, find, find_any, find_byte, is_zeroed, rfind, rfind_byte},
};
