//! Memory as loops use it: small traits, so that a loop is written once and runs on every kind of memory that may fault.
//!
//! | trait | what it adds |
//! |---|---|
//! | [`ReadMemory`] | a range to read from: copy, load, fault_in, probe |
//! | [`WriteMemory`] | a range to write to: copy, fill, store, fault_in, probe |
//! | [`AtomicMemory`] | read-modify-write operations |
//! | [`ReadNoWait`], [`WriteNoWait`] | copies that never wait for a fault: they end before the first page that is not resident |
//!
//! *Host* memory is this process's: [`ReadView`] and [`WriteView`], whose methods these are, dispatched statically. A
//! backend does not implement what it cannot promise: plain process memory cannot promise not to wait, so it has no
//! `NoWait`, and a loop that needs it under a lock does not compile for it.
//!
//! *Simulated* memory is the crate `faultin-sim`: any page size and granule, every kind of fault on every machine, and an adversary that
//! acts between two steps; deterministic. One suite of tests runs the same cases on both.
//!
//! On the host these traits cost nothing: a loop that is instantiated with [`ReadView`] is instruction for instruction the
//! loop written for [`ReadView`], with the same calls; a test compares the machine code.
//!
//! The promises are those of the crate: exact counts, everything after a count untouched, a reason; `fault_in` is *ANY*,
//! `probe` is *ALL*, and neither changes a byte.

#[cfg(feature = "std")]
mod host;

use core::num::NonZeroUsize;
use core::ops::Range;
use core::sync::atomic::Ordering;

use crate::fault::Granularity;
use crate::fault::{Fault, Short};
use crate::scalar::Scalar;
#[cfg(all(doc, feature = "std"))]
use crate::view::{ReadView, WriteView};

/// A range of memory to read from. Offsets are bytes from its start; an operation that would leave the range does nothing
/// and returns [`Cause::OutOfRange`](crate::Cause::OutOfRange).
///
/// # Safety
///
/// A destination may hold bytes that its reader must not see: another file's, another program's. An implementation of
/// [`read`](Self::read) and [`read_streaming`](Self::read_streaming) writes every byte that it counts: all of `dst` if it
/// returns `Ok`, the first [`done`](Short::done) bytes of `dst` if it returns [`Short`], and `done <= dst.len()`.
///
/// So safe code cannot implement it:
///
/// ```compile_fail,E0200
/// # use core::num::NonZeroUsize;
/// # use core::ops::Range;
/// # use faultin::memory::ReadMemory;
/// # use faultin::{Fault, Granularity, Scalar, Short};
/// #[derive(Clone)]
/// struct Lies;
///
/// impl ReadMemory for Lies {
///     fn read(&self, _dst: &mut [u8], _offset: usize) -> Result<(), Short> {
///         Ok(())
///     }
///     // …
/// #   fn len(&self) -> usize {
/// #       100
/// #   }
/// #   fn subslice(&self, _: Range<usize>) -> Option<Self> {
/// #       Some(Lies)
/// #   }
/// #   fn page_size(&self) -> usize {
/// #       4096
/// #   }
/// #   fn to_page_end(&self, _: usize) -> usize {
/// #       4096
/// #   }
/// #   fn load<T: Scalar>(&self, _: usize) -> Result<T, Fault> {
/// #       unimplemented!()
/// #   }
/// #   fn fault_in(&self, _: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
/// #       Ok(len)
/// #   }
/// #   fn probe(&self, _: Range<usize>, _: Granularity) -> Result<(), Short> {
/// #       Ok(())
/// #   }
/// }
/// ```
pub unsafe trait ReadMemory: Clone {
    /// Returns the number of bytes in the range.
    fn len(&self) -> usize;

    /// Returns whether the range has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the part of this range in `range`, `None` if that leaves it.
    fn subslice(&self, range: Range<usize>) -> Option<Self>;

    /// Returns the size of a page of this memory in bytes.
    fn page_size(&self) -> usize;

    /// Returns the number of bytes from `offset` to the end of its page, where the next page begins.
    fn to_page_end(&self, offset: usize) -> usize;

    /// Returns the address of the first byte, for questions of alignment. A memory that has no addresses returns the first
    /// byte's offset in its page.
    fn addr(&self) -> usize {
        (self.page_size() - self.to_page_end(0)) % self.page_size()
    }

    /// Copies `dst.len()` bytes from `offset`.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded; `dst` is untouched past its count.
    fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short>;

    /// Copies as [`read`](Self::read) does, for bytes that are not read soon. A hint.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded; `dst` is untouched past its count.
    #[inline]
    fn read_streaming(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        self.read(dst, offset)
    }

    /// Loads a value.
    ///
    /// # Errors
    /// The [`Fault`] if a byte of the value cannot be loaded.
    fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault>;

    /// Makes the next attempt progress, and returns the accessible prefix of `len` bytes from `offset`.
    ///
    /// # Errors
    /// The [`Fault`] of the first byte if that cannot be made accessible.
    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault>;

    /// Proves that each byte of `range` can be loaded.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded: the bytes before its unit are proven.
    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short>;
}

/// A range of memory to write to.
pub trait WriteMemory: Clone {
    /// The type of the same range to read from.
    type Read: ReadMemory;

    /// Returns the same range to read from.
    fn as_read(&self) -> Self::Read;

    /// Returns the number of bytes in the range.
    fn len(&self) -> usize;

    /// Returns whether the range has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the part of this range in `range`, `None` if that leaves it.
    fn subslice(&self, range: Range<usize>) -> Option<Self>;

    /// Copies `src` to `offset`.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored; the range is untouched past its count.
    fn write(&self, src: &[u8], offset: usize) -> Result<(), Short>;

    /// Fills `range` with `byte`.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored; the range is untouched past its count.
    fn fill(&self, range: Range<usize>, byte: u8) -> Result<(), Short>;

    /// Stores a value.
    ///
    /// # Errors
    /// The [`Fault`] if a byte of the value cannot be stored; then none is.
    fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault>;

    /// Makes the next attempt to store progress, without changing a byte, and returns the accessible prefix.
    ///
    /// # Errors
    /// The [`Fault`] of the first byte if that cannot be made accessible.
    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault>;

    /// Proves that each byte of `range` can be stored, without changing any.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored: the bytes before its unit are proven.
    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short>;
}

/// Memory with read-modify-write operations. A misaligned operation is an error
/// ([`Cause::Alignment`](crate::Cause::Alignment)).
pub trait AtomicMemory: WriteMemory {
    /// Exchanges a value.
    ///
    /// # Errors
    /// The [`Fault`] if the value cannot be accessed, or the operation is not possible on this memory.
    fn swap<T: Scalar>(&self, offset: usize, value: T) -> Result<T, Fault>;

    /// Adds (wrapping) and returns the old value.
    ///
    /// # Errors
    /// The [`Fault`] if the value cannot be accessed, or the operation is not possible on this memory.
    fn fetch_add<T: Scalar>(&self, offset: usize, value: T, order: Ordering) -> Result<T, Fault>;

    /// Stores `new` if the value is `current`, and returns `Ok(Ok(old))` if it was, `Ok(Err(old))` if not.
    ///
    /// # Errors
    /// The [`Fault`], or a refusal.
    fn compare_exchange<T: Scalar>(
        &self,
        offset: usize,
        current: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Result<T, T>, Fault>;
}

/// Memory that can be read without ever waiting for a fault: such copies may run under a lock that the fault would take.
///
/// # Safety
///
/// The contract of [`ReadMemory`], for [`read_nowait`](Self::read_nowait).
pub unsafe trait ReadNoWait: ReadMemory {
    /// Copies as [`read`](ReadMemory::read) does, but ends before the first page that is not resident
    /// ([`Cause::NotResident`](crate::Cause::NotResident)). This is a guarantee, not a best effort.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded without waiting.
    fn read_nowait(&self, dst: &mut [u8], offset: usize) -> Result<(), Short>;
}

/// Memory that can be written without ever waiting for a fault.
pub trait WriteNoWait: WriteMemory {
    /// Copies as [`write`](WriteMemory::write) does, but ends before the first page that is not resident
    /// ([`Cause::NotResident`](crate::Cause::NotResident)). This is a guarantee, not a best effort.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored without waiting.
    fn write_nowait(&self, src: &[u8], offset: usize) -> Result<(), Short>;
}
