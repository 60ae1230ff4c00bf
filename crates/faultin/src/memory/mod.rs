//! Memory as loops see it: small traits, so that a loop is written once and runs on every kind of memory that may fault.
//!
//! | trait | what it adds |
//! |---|---|
//! | [`ReadMemory`] | a range to read from: copy, load, fault_in, probe |
//! | [`WriteMemory`] | a range to write to: copy, fill, store, fault_in, probe |
//! | [`AtomicMemory`] | read-modify-write operations |
//! | [`ReadNoWait`], [`WriteNoWait`] | copies that never wait for a fault: what is not resident ends them |
//!
//! *Host* memory is this process's: [`ReadView`] and [`WriteView`], whose methods these are, dispatched statically.
//! What a backend cannot do it does not implement: plain process memory cannot promise not to wait, so it has no
//! `NoWait`, and a loop that needs it under a lock does not compile for it.
//!
//! *Simulated* memory is the crate `faultin-sim`: any page size and granule, every kind of fault on every machine, and an adversary that
//! acts between two steps; deterministic. One suite of tests runs the same cases on both.
//!
//! What a loop over these traits costs on the host was looked at in the machine code: instantiated with [`ReadView`] it is
//! instruction for instruction the loop written for [`ReadView`], with the same calls; a test compares them.
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

/// A range of memory to read from. Offsets are bytes from its start; an operation that would leave it does nothing and
/// returns [`Cause::OutOfRange`](crate::Cause::OutOfRange).
///
/// # Safety
///
/// A destination may hold what its reader must not see: another file's bytes, another program's. An implementation of
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
    /// Bytes in the range.
    fn len(&self) -> usize;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of the range in `range`, `None` if it leaves it.
    fn subslice(&self, range: Range<usize>) -> Option<Self>;

    /// Bytes in a page of this memory.
    fn page_size(&self) -> usize;

    /// Bytes from `offset` to the end of its page: where the next page begins.
    fn to_page_end(&self, offset: usize) -> usize;

    /// The address of the first byte, for questions of alignment. A memory that has no addresses answers for its pages:
    /// the first byte's offset in its page.
    fn addr(&self) -> usize {
        (self.page_size() - self.to_page_end(0)) % self.page_size()
    }

    /// Copies `dst.len()` bytes from `offset`.
    ///
    /// # Errors
    /// [`Short`]; `dst` is untouched beyond its count.
    fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short>;

    /// As [`read`](Self::read), for bytes that nobody reads soon. A hint.
    ///
    /// # Errors
    /// [`Short`]; `dst` is untouched beyond its count.
    #[inline]
    fn read_streaming(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        self.read(dst, offset)
    }

    /// Loads a value.
    ///
    /// # Errors
    /// The [`Fault`].
    fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault>;

    /// Makes the next attempt progress: the accessible prefix of `len` bytes from `offset`.
    ///
    /// # Errors
    /// The [`Fault`] at the very first byte.
    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault>;

    /// Proves that each byte of `range` can be loaded.
    ///
    /// # Errors
    /// [`Short`]: the bytes proven.
    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short>;
}

/// A range of memory to write to.
pub trait WriteMemory: Clone {
    /// The same range to read from.
    type Read: ReadMemory;

    /// The same range to read from.
    fn as_read(&self) -> Self::Read;

    /// Bytes in the range.
    fn len(&self) -> usize;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of the range in `range`, `None` if it leaves it.
    fn subslice(&self, range: Range<usize>) -> Option<Self>;

    /// Copies `src` to `offset`.
    ///
    /// # Errors
    /// [`Short`]; the range is untouched beyond its count.
    fn write(&self, src: &[u8], offset: usize) -> Result<(), Short>;

    /// Fills `range` with `byte`.
    ///
    /// # Errors
    /// [`Short`]; the range is untouched beyond its count.
    fn fill(&self, range: Range<usize>, byte: u8) -> Result<(), Short>;

    /// Stores a value.
    ///
    /// # Errors
    /// The [`Fault`]; nothing is stored.
    fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault>;

    /// Makes the next attempt to store progress, without changing a byte: the accessible prefix.
    ///
    /// # Errors
    /// The [`Fault`] at the very first byte.
    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault>;

    /// Proves that each byte of `range` can be stored, without changing one.
    ///
    /// # Errors
    /// [`Short`]: the bytes proven.
    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short>;
}

/// Memory with read-modify-write operations. A misaligned one is an error
/// ([`Cause::Alignment`](crate::Cause::Alignment)).
pub trait AtomicMemory: WriteMemory {
    /// Exchanges a value.
    ///
    /// # Errors
    /// The [`Fault`], or a refusal.
    fn swap<T: Scalar>(&self, offset: usize, value: T) -> Result<T, Fault>;

    /// Adds (wrapping) and returns the old value.
    ///
    /// # Errors
    /// The [`Fault`], or a refusal.
    fn fetch_add<T: Scalar>(&self, offset: usize, value: T, order: Ordering) -> Result<T, Fault>;

    /// Stores `new` if the value is `current`: `Ok(Ok(old))` if it was, `Ok(Err(old))` if not.
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

/// Memory that can be read without ever waiting for a fault: what a loop may call under a lock that the fault would take.
///
/// # Safety
///
/// As of [`ReadMemory`], for [`read_nowait`](Self::read_nowait).
pub unsafe trait ReadNoWait: ReadMemory {
    /// As [`read`](ReadMemory::read), but what is not resident ends it
    /// ([`Cause::NotResident`](crate::Cause::NotResident)). Never best effort.
    ///
    /// # Errors
    /// [`Short`].
    fn read_nowait(&self, dst: &mut [u8], offset: usize) -> Result<(), Short>;
}

/// Memory that can be written without ever waiting for a fault.
pub trait WriteNoWait: WriteMemory {
    /// As [`write`](WriteMemory::write), but what is not resident ends it
    /// ([`Cause::NotResident`](crate::Cause::NotResident)). Never best effort.
    ///
    /// # Errors
    /// [`Short`].
    fn write_nowait(&self, src: &[u8], offset: usize) -> Result<(), Short>;
}
