//! Typed views of foreign memory: [`ReadView`] and [`WriteView`], one for each direction.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::num::NonZeroUsize;
use core::ops::{Bound, RangeBounds};
use core::sync::atomic::Ordering;

use crate::copy::ShortRead;
use crate::fault::Granularity;
use crate::fault::{Access, Cause, Fault, Short};
use crate::registry::InstallError;
use crate::scalar::Scalar;
use crate::{blocked, copy, fault_in, probe, scalar, scan, signal_free, string, structs};

/// A range of foreign memory to read from.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use faultin::{Cause, ReadView};
///
/// static MESSAGE: [u8; 12] = *b"memory\0fault";
/// // SAFETY: a static is never unmapped, and nothing writes to it.
/// let view = unsafe { ReadView::new(MESSAGE.as_ptr(), MESSAGE.len())? };
/// assert_eq!(view.load::<u8>(7)?, b'f');
/// assert_eq!(view.strnlen(0)?, 6);
/// assert_eq!(view.subslice(7..12).map(|part| part.len()), Some(5));
/// assert_eq!(view.load::<u64>(8).unwrap_err().cause(), Cause::OutOfRange);
/// # Ok(())
/// # }
/// ```
///
/// # Valid ranges
///
/// A view is made, once and `unsafe`ly, of a *reserved* range: addresses that belong to the view's owner for the view's
/// lifetime, whatever memory they have. The memory may be unmapped, truncated, protected or poisoned at any time and
/// become accessible again. What must not happen is that another mapping takes these addresses, because a store would hit
/// it and a load would read it. An owner that unmaps a part puts an inaccessible mapping in its place (`MAP_FIXED`,
/// `PROT_NONE`) rather than a hole.
///
/// In a thread that blocks SIGSEGV or SIGBUS, where a fault would kill the process, the kernel makes the accesses
/// ([`signal_free`]): each thread asks once for its mask. Atomic operations unblock both signals meanwhile; so do loads and
/// stores of one value, unless another handler than ours would be called first.
///
/// Everything after that is safe: an access is a result. Nothing here gives out a reference to the memory.
///
/// # Bounds
///
/// Offsets are bytes from the start of the view. An operation that would leave the view does nothing and returns
/// [`Cause::OutOfRange`].
///
/// # Invariants
///
/// 1. The range is reserved for `'a` (see [valid ranges](#valid-ranges)), and may be read by us: its bytes are initialised, and no
///    `&mut` reference to one is live while the view is used.
/// 2. `ptr + len` does not wrap.
/// 3. The handler was installed, or the host has said that it owns it, when the view was made.
#[derive(Clone, Copy, Debug)]
pub struct ReadView<'a> {
    ptr: *const u8,
    len: usize,
    range: PhantomData<&'a ()>,
}

/// A range of foreign memory to write to.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::atomic::Ordering::SeqCst;
///
/// use faultin::WriteView;
///
/// # // SAFETY: a new mapping.
/// # let page = unsafe {
/// #     libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
/// # };
/// # assert_ne!(page, libc::MAP_FAILED);
/// // `page` is a mapping of one page.
/// // SAFETY: the addresses belong to the mapping until the program ends, and no reference to a byte of it exists.
/// let view = unsafe { WriteView::new(page.cast(), 4096)? };
/// view.store(0, 7_u32)?;
/// assert_eq!(view.compare_exchange(0, 7_u32, 8, SeqCst, SeqCst)?, Ok(7));
/// assert_eq!(view.compare_exchange(0, 7_u32, 9, SeqCst, SeqCst)?, Err(8));
///
/// # // SAFETY: within the mapping.
/// # unsafe { libc::mprotect(page, 4096, libc::PROT_READ) };
/// // Its owner makes it read-only.
/// assert_eq!(view.store(0, 10_u32).unwrap_err().cause(), faultin::Cause::Protection);
/// # Ok(())
/// # }
/// ```
///
/// # Invariants
///
/// Those of [`ReadView`], and its owner lets us write it. Several views of one range may exist: what they write
/// concurrently mixes byte by byte, as it does with the other side's stores.
#[derive(Clone, Copy, Debug)]
pub struct WriteView<'a> {
    ptr: *mut u8,
    len: usize,
    range: PhantomData<&'a ()>,
}

// SAFETY: a view is an address range whose every access is a fallible operation that tolerates concurrent ones.
unsafe impl Send for ReadView<'_> {}
// SAFETY: as above.
unsafe impl Sync for ReadView<'_> {}
// SAFETY: as above; stores race with the other side's anyway, and are made by assembly only.
unsafe impl Send for WriteView<'_> {}
// SAFETY: as above.
unsafe impl Sync for WriteView<'_> {}

/// Returns start and length of a range of a view of `len` bytes. A range that ends before it starts gets a length that no
/// view has.
#[inline]
pub(crate) fn span(range: &impl RangeBounds<usize>, len: usize) -> (usize, usize) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => len.max(start),
    };
    (start, end.wrapping_sub(start))
}

macro_rules! common {
    ($view:ident, $access:expr, $ptr:ty) => {
        /// Returns the number of bytes in the view.
        #[inline]
        pub fn len(&self) -> usize {
            self.len
        }

        /// Returns whether the view has no bytes.
        #[inline]
        pub fn is_empty(&self) -> bool {
            self.len == 0
        }

        /// Returns the address of the first byte. An access through it is the caller's risk.
        #[inline]
        pub fn as_ptr(&self) -> $ptr {
            self.ptr
        }

        /// Returns the part of the view in `range`, `None` if that leaves the view.
        #[inline]
        pub fn subslice(&self, range: impl RangeBounds<usize>) -> Option<Self> {
            let (offset, len) = span(&range, self.len);
            let ptr = self.at(offset, len).ok()?;
            Some($view { ptr, len, range: PhantomData })
        }

        /// Returns both parts of the view at `mid`, `None` if `mid` is past the end.
        #[inline]
        pub fn split_at(&self, mid: usize) -> Option<(Self, Self)> {
            Some((self.subslice(0..mid)?, self.subslice(mid..self.len)?))
        }

        #[inline]
        fn at(&self, offset: usize, len: usize) -> Result<$ptr, Fault> {
            if offset <= self.len && len <= self.len - offset {
                Ok(self.ptr.wrapping_add(offset))
            } else {
                Err(Fault::rejected($access, Cause::OutOfRange, self.ptr.addr().wrapping_add(offset)))
            }
        }

        #[inline]
        fn range_at(&self, offset: usize, len: usize) -> Result<$ptr, Short> {
            self.at(offset, len).map_err(|fault| Short { done: 0, fault })
        }
    };
}
pub(crate) use common;

/// Makes the access in place, or, in a thread where a fault would be fatal, by the kernel.
macro_rules! by_either {
    ($in_place:expr, $by_kernel:expr) => {
        if blocked::is_fatal() { $by_kernel } else { $in_place }
    };
}

impl<'a> ReadView<'a> {
    /// Makes a view of `len` bytes at `ptr`. Installs the handler if that has not been done.
    ///
    /// # Errors
    /// [`InstallError`] if the handler cannot be installed: see [`install`](crate::install).
    ///
    /// # Safety
    /// While the view, a part or a copy of it is used:
    ///
    /// * The range is reserved (see [valid ranges](ReadView#valid-ranges)), and `ptr + len` does not wrap.
    /// * We may read it: no `&mut` reference to a byte of it is live, and its bytes are initialised (see
    ///   [`copy`](crate::raw#contracts)).
    ///
    /// # Aborts
    /// Accesses kill the process at a fault if a handler that was installed after ours keeps the signal for itself: see
    /// [`status`](crate::signal::status). In a thread that blocks SIGSEGV or SIGBUS the kernel makes the accesses; one that blocks
    /// them after its first access says so by [`refresh_mask`](crate::signal::refresh_mask).
    #[inline]
    pub unsafe fn new(ptr: *const u8, len: usize) -> Result<Self, InstallError> {
        crate::install()?;
        Ok(ReadView { ptr, len, range: PhantomData })
    }

    common!(ReadView, Access::Read, *const u8);

    /// Copies `dst.len()` bytes from `offset` to `dst`.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded: `done` bytes were copied, and `dst` is untouched past them. With
    /// [`Cause::OutOfRange`], and nothing copied, if the range leaves the view.
    #[doc(alias = "copy_from_user")]
    #[inline]
    pub fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        let src = self.range_at(offset, dst.len())?;
        // SAFETY: invariants 1 and 3; `dst` is a unique reference, so it does not overlap with a range that other code owns.
        unsafe {
            by_either!(
                copy::copy_in(dst.as_mut_ptr(), src, dst.len()),
                signal_free::copy_in(dst.as_mut_ptr(), src, dst.len())
            )
        }
    }

    /// Copies as [`read`](Self::read) does, past the CPU's caches where that is possible: for bytes that are not read soon.
    ///
    /// # Errors
    /// [`Short`] where [`read`](Self::read) has it, with the same count.
    #[inline]
    pub fn read_streaming(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        let src = self.range_at(offset, dst.len())?;
        // SAFETY: as in `read`.
        unsafe {
            by_either!(
                copy::copy_in_streaming(dst.as_mut_ptr(), src, dst.len()),
                signal_free::copy_in(dst.as_mut_ptr(), src, dst.len())
            )
        }
    }

    /// Copies as [`read`](Self::read) does, into memory that need not be initialised, and returns that memory initialised.
    ///
    /// # Errors
    /// [`ShortRead`] if a byte cannot be loaded, or the range leaves the view: the part of `dst` that is initialised now, and
    /// the part that is not.
    #[inline]
    pub fn read_uninit<'d>(
        &self,
        dst: &'d mut [MaybeUninit<u8>],
        offset: usize,
    ) -> Result<&'d mut [u8], ShortRead<'d>> {
        match self.at(offset, dst.len()) {
            // SAFETY: as in `read`.
            Ok(src) => unsafe { by_either!(copy::read_uninit(dst, src), signal_free::read_uninit(dst, src)) },
            Err(fault) => Err(ShortRead { init: &mut [], uninit: dst, fault }),
        }
    }

    /// Copies `range` to `to_offset` of `to`, both of which may fault.
    ///
    /// # Errors
    /// [`Short`] if a byte of either range cannot be accessed: `done` bytes were copied. With [`Cause::OutOfRange`] if a range
    /// leaves its view, with [`Cause::Overlap`] if the ranges overlap and the destination is above the source; then nothing was
    /// copied.
    #[inline]
    pub fn copy_to(&self, range: impl RangeBounds<usize>, to: &WriteView<'_>, to_offset: usize) -> Result<(), Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        let dst = to.range_at(to_offset, len)?;
        // SAFETY: both views' invariants.
        unsafe { by_either!(copy::copy(dst, src, len), signal_free::copy(dst, src, len)) }
    }

    /// Loads a value, in this machine's byte order.
    ///
    /// # Errors
    /// The [`Fault`] if a byte of the value cannot be loaded, or lies outside the view ([`Cause::OutOfRange`]).
    #[doc(alias = "get_user")]
    #[inline(always)]
    pub fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault> {
        let ptr = self.at(offset, size_of::<T>())?;
        // SAFETY: invariants 1 and 3.
        blocked::value(|| unsafe { scalar::load(ptr.cast()) }, || unsafe { signal_free::load(ptr.cast()) })
    }

    /// Loads a value atomically. `order` is `Relaxed`, `Acquire` or `SeqCst`.
    ///
    /// # Errors
    /// The [`Fault`] if the value cannot be loaded, lies outside the view ([`Cause::OutOfRange`]), is not aligned, or `T` or
    /// `order` are not possible here (see [`scalar`](crate::raw#scalars)).
    #[inline(always)]
    pub fn load_atomic<T: Scalar>(&self, offset: usize, order: Ordering) -> Result<T, Fault> {
        let ptr = self.at(offset, size_of::<T>())?;
        // SAFETY: invariants 1 and 3.
        blocked::unblocked(|| unsafe { scalar::load_atomic(ptr.cast(), order) })
    }

    /// Returns the length of the string at `offset`, without its NUL; the bytes up to the end of the view if there is no NUL.
    ///
    /// # Errors
    /// [`Short`] if a byte before the NUL cannot be loaded: `done` bytes before it are not NUL. With [`Cause::OutOfRange`] if
    /// `offset` is past the end of the view.
    #[doc(alias = "strnlen_user")]
    pub fn strnlen(&self, offset: usize) -> Result<usize, Short> {
        let src = self.range_at(offset, 0)?;
        // SAFETY: invariants 1 and 3.
        unsafe { by_either!(string::strnlen(src, self.len - offset), signal_free::strnlen(src, self.len - offset)) }
    }

    /// Copies the string at `offset` up to and including its NUL, at most `dst.len()` bytes. Returns the number of bytes before
    /// the NUL; if there was none, the number of bytes copied.
    ///
    /// # Errors
    /// [`Short`] if a byte before the NUL cannot be loaded: `done` bytes were copied. With [`Cause::OutOfRange`] if `offset` is
    /// past the end of the view.
    #[doc(alias = "strncpy_from_user")]
    pub fn strncpy(&self, dst: &mut [u8], offset: usize) -> Result<usize, Short> {
        let src = self.range_at(offset, 0)?;
        let max = dst.len().min(self.len - offset);
        // SAFETY: invariants 1 and 3; `dst` is a unique reference.
        unsafe {
            by_either!(string::strncpy(dst.as_mut_ptr(), src, max), signal_free::strncpy(dst.as_mut_ptr(), src, max))
        }
    }

    /// Returns whether the bytes of `range` are all zero.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded and the `done` bytes before it are zero. With [`Cause::OutOfRange`] if the range
    /// leaves the view.
    #[doc(alias = "check_zeroed_user")]
    pub fn is_zeroed(&self, range: impl RangeBounds<usize>) -> Result<bool, Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariants 1 and 3.
        unsafe { by_either!(scan::is_zeroed(src, len), signal_free::is_zeroed(src, len)) }
    }

    /// Returns the offset of the first `needle` in `range`, counted from the start of the view; `None` if there is none.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded, and no occurrence ends before it. With [`Cause::OutOfRange`] if the range leaves
    /// the view.
    #[doc(alias = "memmem")]
    pub fn find(&self, needle: &[u8], range: impl RangeBounds<usize>) -> Result<Option<usize>, Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariants 1 and 3.
        unsafe { by_either!(scan::find(src, len, needle), signal_free::find(src, len, needle)) }
            .map(|found| found.map(|at| offset + at))
    }

    /// Returns the offset of the first byte of `range` that is one of `bytes`, counted from the start of the view.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded, and none of the `done` bytes before it is one of `bytes`. With
    /// [`Cause::OutOfRange`] if the range leaves the view.
    #[doc(alias = "memchr")]
    pub fn find_any<const N: usize>(
        &self,
        bytes: [u8; N],
        range: impl RangeBounds<usize>,
    ) -> Result<Option<usize>, Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariants 1 and 3.
        unsafe { by_either!(scan::find_any(src, len, bytes), signal_free::find_any(src, len, bytes)) }
            .map(|found| found.map(|at| offset + at))
    }

    /// Counts the bytes in `range` that are `byte`.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be loaded. With [`Cause::OutOfRange`] if the range leaves the view.
    pub fn count_byte(&self, byte: u8, range: impl RangeBounds<usize>) -> Result<usize, Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariants 1 and 3.
        unsafe { by_either!(scan::count_byte(src, len, byte), signal_free::count_byte(src, len, byte)) }
    }

    /// Compares `range` with as many bytes from `at` in `with`. Returns the position of the first difference, counted from the
    /// starts of both ranges; `None` if they are equal.
    ///
    /// # Errors
    /// [`Short`] if a byte of either range cannot be loaded, and the `done` bytes before it are equal. With
    /// [`Cause::OutOfRange`] if a range leaves its view.
    pub fn compare(
        &self,
        range: impl RangeBounds<usize>,
        with: &ReadView<'_>,
        at: usize,
    ) -> Result<Option<usize>, Short> {
        let (offset, len) = span(&range, self.len);
        let (a, b) = (self.range_at(offset, len)?, with.range_at(at, len)?);
        // SAFETY: both views' invariants.
        unsafe { by_either!(scan::compare(a, b, len), signal_free::compare(a, b, len)) }
    }

    /// Takes the structure in `range`, whose size is its version: a shorter one is completed with zeros, a
    /// longer one must have zeros where `dst` has nothing.
    ///
    /// # Errors
    /// [`StructError`](structs::StructError) if a byte cannot be loaded, the range leaves the view, or a longer structure has a
    /// byte that is not zero where `dst` has nothing. The contents of `dst` are then unspecified.
    #[doc(alias = "copy_struct_from_user")]
    pub fn read_struct(&self, dst: &mut [u8], range: impl RangeBounds<usize>) -> Result<(), structs::StructError> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariants 1 and 3; `dst` is a unique reference.
        unsafe {
            by_either!(
                structs::copy_struct_in(dst.as_mut_ptr(), dst.len(), src, len),
                signal_free::copy_struct_in(dst.as_mut_ptr(), dst.len(), src, len)
            )
        }
    }

    /// Faults in `len` bytes from `offset`, and returns the length of the accessible prefix. See [`fault_in`](crate::raw#fault-in).
    ///
    /// # Errors
    /// The [`Fault`] of the first byte if that cannot be made accessible: the prefix is empty. [`Cause::OutOfRange`] if the range
    /// leaves the view.
    #[doc(alias = "fault_in_readable")]
    pub fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        let src = self.at(offset, len.get())?;
        // SAFETY: invariants 1 and 3.
        unsafe { by_either!(fault_in::fault_in_readable(src, len), signal_free::fault_in_readable(src, len)) }
    }

    /// Proves that each byte of `range` can be loaded. See [`probe`](crate::raw#probe).
    ///
    /// # Errors
    /// [`Short`] if that is not so for a byte: it is so for the `done` bytes before. With [`Cause::OutOfRange`] if the range
    /// leaves the view.
    pub fn probe(&self, range: impl RangeBounds<usize>, granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = span(&range, self.len);
        let src = self.range_at(offset, len)?;
        // SAFETY: invariants 1 and 3.
        unsafe { by_either!(probe::probe_read(src, len, granularity), signal_free::probe_read(src, len, granularity)) }
    }
}

macro_rules! fetch {
    ($($name:ident)*) => {$(
        /// Performs the operation of [`scalar`](crate::raw#scalars) with this name on the value at `offset`, and returns the value
        /// before it.
        ///
        /// # Errors
        /// The [`Fault`] if the value cannot be accessed, lies outside the view ([`Cause::OutOfRange`]), is not aligned, or `T` or
        /// `order` are not possible here.
        #[inline(always)]
        pub fn $name<T: Scalar>(&self, offset: usize, value: T, order: Ordering) -> Result<T, Fault> {
            let ptr = self.at(offset, size_of::<T>())?;
            // SAFETY: the view's invariants.
            blocked::unblocked(|| unsafe { scalar::$name(ptr.cast(), value, order) })
        }
    )*};
}

impl<'a> WriteView<'a> {
    /// Makes a view of `len` bytes at `ptr`. Installs the handler if that has not been done.
    ///
    /// # Errors
    /// [`InstallError`] if the handler cannot be installed: see [`install`](crate::install).
    ///
    /// # Safety
    /// While the view, a part or a copy of it is used:
    ///
    /// * The range is reserved (see [valid ranges](ReadView#valid-ranges)), and `ptr + len` does not wrap.
    /// * Its owner lets us write it: no reference to a byte of it is live, shared or not, and no code relies on what it
    ///   holds. Its bytes are initialised.
    ///
    /// # Aborts
    /// As [`ReadView::new`].
    #[inline]
    pub unsafe fn new(ptr: *mut u8, len: usize) -> Result<Self, InstallError> {
        crate::install()?;
        Ok(WriteView { ptr, len, range: PhantomData })
    }

    common!(WriteView, Access::Write, *mut u8);

    /// Returns the same range to read from: on every known machine, memory that can be written can be read.
    #[inline]
    pub fn as_read(&self) -> ReadView<'a> {
        ReadView { ptr: self.ptr, len: self.len, range: PhantomData }
    }

    /// Copies `src` to `offset`.
    ///
    /// # Errors
    /// [`Short`] if a byte cannot be stored: `done` bytes were stored, and the view is untouched past them. With
    /// [`Cause::OutOfRange`], and nothing stored, if the range leaves the view.
    #[doc(alias = "copy_to_user")]
    #[inline]
    pub fn write(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        let dst = self.range_at(offset, src.len())?;
        // SAFETY: the view's invariants; `src` is a reference, which the range's owner promised not to be to it.
        unsafe {
            by_either!(
                copy::copy_out(dst, src.as_ptr(), src.len()),
                signal_free::copy_out(dst, src.as_ptr(), src.len())
            )
        }
    }

    /// Fills `range` with `byte`.
    ///
    /// # Errors
    /// [`Short`] where [`write`](Self::write) has it, with the same count.
    #[doc(alias = "clear_user")]
    pub fn fill(&self, range: impl RangeBounds<usize>, byte: u8) -> Result<(), Short> {
        let (offset, len) = span(&range, self.len);
        let dst = self.range_at(offset, len)?;
        // SAFETY: the view's invariants.
        unsafe { by_either!(copy::fill(dst, byte, len), signal_free::fill(dst, byte, len)) }
    }

    /// Stores a value, in this machine's byte order.
    ///
    /// # Errors
    /// The [`Fault`] if a byte of the value cannot be stored, or lies outside the view ([`Cause::OutOfRange`]).
    #[doc(alias = "put_user")]
    #[inline(always)]
    pub fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault> {
        let ptr = self.at(offset, size_of::<T>())?;
        // SAFETY: the view's invariants.
        blocked::value(
            || unsafe { scalar::store(ptr.cast(), value) },
            || unsafe { signal_free::store(ptr.cast(), value) },
        )
    }

    /// Stores a value atomically. `order` is `Relaxed`, `Release` or `SeqCst`.
    ///
    /// # Errors
    /// The [`Fault`] if the value cannot be stored, lies outside the view ([`Cause::OutOfRange`]), is not aligned, or `T` or
    /// `order` are not possible here (see [`scalar`](crate::raw#scalars)).
    #[inline(always)]
    pub fn store_atomic<T: Scalar>(&self, offset: usize, value: T, order: Ordering) -> Result<(), Fault> {
        let ptr = self.at(offset, size_of::<T>())?;
        // SAFETY: the view's invariants.
        blocked::unblocked(|| unsafe { scalar::store_atomic(ptr.cast(), value, order) })
    }

    /// Exchanges a value, sequentially consistent.
    ///
    /// # Errors
    /// The [`Fault`] if the value cannot be accessed, lies outside the view ([`Cause::OutOfRange`]), is not aligned, or `T` is not
    /// possible here (see [`scalar`](crate::raw#scalars)).
    #[inline(always)]
    pub fn swap<T: Scalar>(&self, offset: usize, value: T) -> Result<T, Fault> {
        let ptr = self.at(offset, size_of::<T>())?;
        // SAFETY: the view's invariants.
        blocked::unblocked(|| unsafe { scalar::swap(ptr.cast(), value) })
    }

    /// Stores `new` if the value is `current`: `Ok(Ok(old))` if it was, `Ok(Err(old))` if not.
    ///
    /// # Errors
    /// The [`Fault`] if the value cannot be accessed, lies outside the view ([`Cause::OutOfRange`]), is not aligned, or `T` is not
    /// possible here (see [`scalar`](crate::raw#scalars)).
    #[inline(always)]
    pub fn compare_exchange<T: Scalar>(
        &self,
        offset: usize,
        current: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Result<T, T>, Fault> {
        let ptr = self.at(offset, size_of::<T>())?;
        // SAFETY: the view's invariants.
        blocked::unblocked(|| unsafe { scalar::compare_exchange(ptr.cast(), current, new, success, failure) })
    }

    fetch!(fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_nand fetch_max fetch_min);

    /// Faults in `len` bytes from `offset` for writing, and returns the length of the accessible prefix. Changes no byte. See
    /// [`fault_in`](crate::raw#fault-in).
    ///
    /// # Errors
    /// The [`Fault`] of the first byte if that cannot be made accessible: the prefix is empty. [`Cause::OutOfRange`] if the range
    /// leaves the view.
    #[doc(alias = "fault_in_safe_writeable")]
    pub fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        let dst = self.at(offset, len.get())?;
        // SAFETY: the view's invariants.
        unsafe { by_either!(fault_in::fault_in_writeable(dst, len), signal_free::fault_in_writeable(dst, len)) }
    }

    /// Proves that each byte of `range` can be stored, without changing any. See [`probe`](crate::raw#probe).
    ///
    /// # Errors
    /// [`Short`] if that is not so for a byte: it is so for the `done` bytes before. With [`Cause::OutOfRange`] if the range
    /// leaves the view.
    pub fn probe(&self, range: impl RangeBounds<usize>, granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = span(&range, self.len);
        let dst = self.range_at(offset, len)?;
        // SAFETY: the view's invariants.
        unsafe {
            by_either!(probe::probe_write(dst, len, granularity), signal_free::probe_write(dst, len, granularity))
        }
    }
}
