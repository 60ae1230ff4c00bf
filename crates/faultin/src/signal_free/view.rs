//! [`KernelReadView`] and [`KernelWriteView`]: ranges of memory that may fault, accessed by the kernel only.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::num::NonZeroUsize;
use core::ops::{Range, RangeBounds};
use core::sync::atomic::Ordering;

use crate::copy::ShortRead;
use crate::fault::Granularity;
use crate::fault::{Access, Cause, Fault, Short};
use crate::memory::{AtomicMemory, ReadMemory, WriteMemory};
use crate::scalar::Scalar;
use crate::structs::StructError;
use crate::view::{common, span};
use crate::{page_size, signal_free};

/// A range of foreign memory to read from, like [`ReadView`](crate::ReadView). No operation needs a handler or an unblocked
/// signal.
///
/// # Invariants
///
/// 1. The range is reserved for `'a` (see [`view`](crate::ReadView#valid-ranges)), and may be read by us.
/// 2. `ptr + len` does not wrap.
#[derive(Clone, Copy, Debug)]
pub struct KernelReadView<'a> {
    ptr: *const u8,
    len: usize,
    range: PhantomData<&'a ()>,
}

/// A range of foreign memory to write to, like [`WriteView`](crate::WriteView). No operation needs a handler or an
/// unblocked signal.
///
/// # Invariants
///
/// Those of [`KernelReadView`], and its owner lets us write it.
#[derive(Clone, Copy, Debug)]
pub struct KernelWriteView<'a> {
    ptr: *mut u8,
    len: usize,
    range: PhantomData<&'a ()>,
}

// SAFETY: a view is an address range whose every access is a fallible operation that tolerates concurrent ones.
unsafe impl Send for KernelReadView<'_> {}
// SAFETY: as above.
unsafe impl Sync for KernelReadView<'_> {}
// SAFETY: as above; the kernel makes the stores.
unsafe impl Send for KernelWriteView<'_> {}
// SAFETY: as above.
unsafe impl Sync for KernelWriteView<'_> {}

impl<'a> KernelReadView<'a> {
    /// Makes a view of `len` bytes at `ptr`.
    ///
    /// # Safety
    /// Those of [`ReadView::new`](crate::ReadView::new).
    #[inline]
    pub unsafe fn new(ptr: *const u8, len: usize) -> Self {
        KernelReadView { ptr, len, range: PhantomData }
    }

    common!(KernelReadView, Access::Read, *const u8);

    /// Copies `dst.len()` bytes from `offset`.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded; `dst` is untouched past its count.
    pub fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        let src = self.range_at(offset, dst.len())?;
        // SAFETY: invariant 1; `dst` is a unique reference, so it does not overlap with the range.
        unsafe { signal_free::copy_in(dst.as_mut_ptr(), src, dst.len()) }
    }

    /// Copies bytes from `offset` into memory that need not be initialised; returns the initialised part.
    ///
    /// # Errors
    /// [`ShortRead`] if a byte cannot be loaded: the initialised part and the rest.
    pub fn read_uninit<'d>(
        &self,
        dst: &'d mut [MaybeUninit<u8>],
        offset: usize,
    ) -> Result<&'d mut [u8], ShortRead<'d>> {
        match self.at(offset, dst.len()) {
            // SAFETY: as in `read`.
            Ok(src) => unsafe { signal_free::read_uninit(dst, src) },
            Err(fault) => Err(ShortRead { init: &mut [], uninit: dst, fault }),
        }
    }

    /// Copies `range` to `to_offset` of `to`.
    ///
    /// # Errors
    /// [`Short`] if a byte of either range cannot be accessed, or the ranges overlap with the destination above the source.
    pub fn copy_to(
        &self,
        range: impl RangeBounds<usize>,
        to: &KernelWriteView<'_>,
        to_offset: usize,
    ) -> Result<(), Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        let dst = to.range_at(to_offset, len)?;
        // SAFETY: the invariants of both views.
        unsafe { signal_free::copy(dst, src, len) }
    }

    /// Loads a value; it may be torn.
    ///
    /// # Errors
    /// The [`Fault`] if a byte of the value cannot be loaded.
    pub fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault> {
        let ptr = self.at(offset, size_of::<T>())?;
        // SAFETY: invariant 1.
        unsafe { signal_free::load(ptr.cast()) }
    }

    /// Returns the length of the string at `offset`; that of the rest of the view if it has no NUL.
    ///
    /// # Errors
    /// [`Short`] if a byte before the NUL cannot be loaded.
    pub fn strnlen(&self, offset: usize) -> Result<usize, Short> {
        let src = self.range_at(offset, 0)?;
        // SAFETY: invariant 1.
        unsafe { signal_free::strnlen(src, self.len - offset) }
    }

    /// Copies the string at `offset` up to and including its NUL, at most `dst.len()` bytes. Returns the number of bytes
    /// before the NUL, or the number of bytes copied if there was none.
    ///
    /// # Errors
    /// [`Short`] if a byte before the NUL cannot be loaded.
    pub fn strncpy(&self, dst: &mut [u8], offset: usize) -> Result<usize, Short> {
        let src = self.range_at(offset, 0)?;
        // SAFETY: invariant 1; `dst` is a unique reference.
        unsafe { signal_free::strncpy(dst.as_mut_ptr(), src, dst.len().min(self.len - offset)) }
    }

    /// Returns whether the bytes of `range` are all zero.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded, and all bytes before it are zero.
    pub fn is_zeroed(&self, range: impl RangeBounds<usize>) -> Result<bool, Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariant 1.
        unsafe { signal_free::is_zeroed(src, len) }
    }

    /// Returns the offset of the first occurrence of `needle` in `range`, from the start of the view.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded; no occurrence ends before it.
    pub fn find(&self, needle: &[u8], range: impl RangeBounds<usize>) -> Result<Option<usize>, Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariant 1.
        unsafe { signal_free::find(src, len, needle) }.map(|found| found.map(|at| offset + at))
    }

    /// Returns the offset of the first byte of `range` that is one of `bytes`, from the start of the view.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded, and none before it is one of `bytes`.
    pub fn find_any<const N: usize>(
        &self,
        bytes: [u8; N],
        range: impl RangeBounds<usize>,
    ) -> Result<Option<usize>, Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariant 1.
        unsafe { signal_free::find_any(src, len, bytes) }.map(|found| found.map(|at| offset + at))
    }

    /// Counts the bytes of `range` that are `byte`.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded.
    pub fn count_byte(&self, byte: u8, range: impl RangeBounds<usize>) -> Result<usize, Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariant 1.
        unsafe { signal_free::count_byte(src, len, byte) }
    }

    /// Compares `range` with the bytes of `with` from `at` on. Returns the first offset (from both starts) at which they
    /// differ, `None` if they are equal.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded, and the bytes before it are equal.
    pub fn compare(
        &self,
        range: impl RangeBounds<usize>,
        with: &KernelReadView<'_>,
        at: usize,
    ) -> Result<Option<usize>, Short> {
        let (offset, len) = span(&range, self.len);
        let (a, b) = (self.range_at(offset, len)?, with.range_at(at, len)?);
        // SAFETY: the invariants of both views.
        unsafe { signal_free::compare(a, b, len) }
    }

    /// Copies a structure of `len` bytes at `offset` whose size is its version.
    ///
    /// # Errors
    /// [`StructError`] if a byte cannot be loaded, or the part that does not fit has a byte that is not zero; the contents
    /// of `dst` are then unspecified.
    pub fn read_struct(&self, dst: &mut [u8], range: impl RangeBounds<usize>) -> Result<(), StructError> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariant 1; `dst` is a unique reference.
        unsafe { signal_free::copy_struct_in(dst.as_mut_ptr(), dst.len(), src, len) }
    }

    /// Faults in `len` bytes from `offset`; returns the accessible prefix.
    ///
    /// # Errors
    /// The [`Fault`] of the first byte if that is not accessible.
    pub fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        let src = self.at(offset, len.get())?;
        // SAFETY: invariant 1.
        unsafe { signal_free::fault_in_readable(src, len) }
    }

    /// Proves that each byte of `range` can be loaded.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded: the bytes before its unit are proven.
    pub fn probe(&self, range: impl RangeBounds<usize>, granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariant 1.
        unsafe { signal_free::probe_read(src, len, granularity) }
    }
}

impl<'a> KernelWriteView<'a> {
    /// Makes a view of `len` bytes at `ptr`.
    ///
    /// # Safety
    /// Those of [`WriteView::new`](crate::WriteView::new).
    #[inline]
    pub unsafe fn new(ptr: *mut u8, len: usize) -> Self {
        KernelWriteView { ptr, len, range: PhantomData }
    }

    common!(KernelWriteView, Access::Write, *mut u8);

    /// Returns the same range to read from.
    #[inline]
    pub fn as_read(&self) -> KernelReadView<'a> {
        KernelReadView { ptr: self.ptr, len: self.len, range: PhantomData }
    }

    /// Copies `src` to `offset`.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored; the view is untouched past its count.
    pub fn write(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        let dst = self.range_at(offset, src.len())?;
        // SAFETY: the view's invariants; `src` is a reference, and none to the range exists.
        unsafe { signal_free::copy_out(dst, src.as_ptr(), src.len()) }
    }

    /// Fills `range` with `byte`.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored; the view is untouched past its count.
    pub fn fill(&self, range: impl RangeBounds<usize>, byte: u8) -> Result<(), Short> {
        let (offset, len) = span(&range, self.len);
        let dst = self.range_at(offset, len)?;
        // SAFETY: the view's invariants.
        unsafe { signal_free::fill(dst, byte, len) }
    }

    /// Stores a value, not atomically: see [`store`](signal_free::store).
    ///
    /// # Errors
    /// The [`Fault`] if a byte of the value cannot be stored.
    pub fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault> {
        let ptr = self.at(offset, size_of::<T>())?;
        // SAFETY: the view's invariants.
        unsafe { signal_free::store(ptr.cast(), value) }
    }

    /// Faults in `len` bytes from `offset` for writing; returns the accessible prefix. Changes no byte.
    ///
    /// # Errors
    /// The [`Fault`] of the first byte if that is not accessible.
    pub fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        let dst = self.at(offset, len.get())?;
        // SAFETY: the view's invariants.
        unsafe { signal_free::fault_in_writeable(dst, len) }
    }

    /// Proves that each byte of `range` can be stored, without changing any.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored: the bytes before its unit are proven.
    pub fn probe(&self, range: impl RangeBounds<usize>, granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = span(&range, self.len);
        let dst = self.range_at(offset, len)?;
        // SAFETY: the view's invariants.
        unsafe { signal_free::probe_write(dst, len, granularity) }
    }

    /// Returns the fault of an atomic operation, all of which are rejected: the kernel has none that returns the old value.
    fn refuse<T: Scalar>(&self, offset: usize) -> Fault {
        let cause = |ptr: *mut u8| match ptr.addr() & (size_of::<T>() - 1) {
            0 => Fault::rejected(Access::Write, Cause::Unsupported, ptr.addr()),
            _ => Fault::rejected(Access::Write, Cause::Alignment, ptr.addr()),
        };
        self.at(offset, size_of::<T>()).map_or_else(|fault| fault, cause)
    }
}

// SAFETY: the copies count what the kernel has copied.
unsafe impl ReadMemory for KernelReadView<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        KernelReadView::subslice(self, range)
    }

    fn page_size(&self) -> usize {
        page_size()
    }

    fn to_page_end(&self, offset: usize) -> usize {
        page_size() - (self.ptr.addr().wrapping_add(offset) & (page_size() - 1))
    }

    fn addr(&self) -> usize {
        self.ptr.addr()
    }

    fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        KernelReadView::read(self, dst, offset)
    }

    fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault> {
        KernelReadView::load(self, offset)
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        KernelReadView::fault_in(self, offset, len)
    }

    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        KernelReadView::probe(self, range, granularity)
    }
}

impl<'a> WriteMemory for KernelWriteView<'a> {
    type Read = KernelReadView<'a>;

    fn as_read(&self) -> KernelReadView<'a> {
        KernelWriteView::as_read(self)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        KernelWriteView::subslice(self, range)
    }

    fn write(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        KernelWriteView::write(self, src, offset)
    }

    fn fill(&self, range: Range<usize>, byte: u8) -> Result<(), Short> {
        KernelWriteView::fill(self, range, byte)
    }

    fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault> {
        KernelWriteView::store(self, offset, value)
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        KernelWriteView::fault_in(self, offset, len)
    }

    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        KernelWriteView::probe(self, range, granularity)
    }
}

/// Every operation is [`Cause::Unsupported`]: the kernel's copies are not atomic.
impl AtomicMemory for KernelWriteView<'_> {
    fn swap<T: Scalar>(&self, offset: usize, _: T) -> Result<T, Fault> {
        Err(self.refuse::<T>(offset))
    }

    fn fetch_add<T: Scalar>(&self, offset: usize, _: T, _: Ordering) -> Result<T, Fault> {
        Err(self.refuse::<T>(offset))
    }

    fn compare_exchange<T: Scalar>(
        &self,
        offset: usize,
        _: T,
        _: T,
        _: Ordering,
        _: Ordering,
    ) -> Result<Result<T, T>, Fault> {
        Err(self.refuse::<T>(offset))
    }
}
