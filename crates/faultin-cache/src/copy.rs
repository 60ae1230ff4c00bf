//! Whether a copy may wait for a fault.
//!
//! Copies are made under the inode lock. Plain memory of the process is allowed: the kernel resolves its faults, which
//! needs none of our locks; and copies from and to a [mapping](crate::pager) come back short where a fault would have to be
//! resolved ([`MayWait`]). Memory whose faults are resolved in other ways, which may involve this cache, must be accessed
//! without waiting ([`NoWait`]); it is brought in when the lock is free.

#![forbid(unsafe_code)]

use faultin::Short;
use faultin::iov::{IovDest, IovSource};
use faultin::memory::{ReadMemory, ReadNoWait, WriteMemory, WriteNoWait};

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::MayWait {}
    impl Sealed for super::NoWait {}
}

/// A way to copy from memory `M`: [`MayWait`] or [`NoWait`]. Counted bytes become visible to readers of the file, so no
/// other type can be one:
///
/// ```compile_fail,E0277
/// use faultin::Short;
/// use faultin::iov::IovSource;
/// use faultin::memory::ReadMemory;
/// use faultin_cache::copy::CopyFrom;
///
/// enum Lies {}
/// impl<M: ReadMemory> CopyFrom<M> for Lies {
///     fn copy_from(_: &mut IovSource<'_, '_, M>, dst: &mut [u8]) -> Result<usize, Short> {
///         Ok(dst.len())
///     }
/// }
/// ```
pub trait CopyFrom<M: ReadMemory>: sealed::Sealed {
    /// Copies as [`IovSource::copy_from_iter`] does.
    ///
    /// # Errors
    /// [`Short`] if a byte of the buffer cannot be loaded.
    fn copy_from(from: &mut IovSource<'_, '_, M>, dst: &mut [u8]) -> Result<usize, Short>;

    /// Copies as [`copy_from`](Self::copy_from) does, for bytes that are not read soon.
    ///
    /// # Errors
    /// [`Short`] if a byte of the buffer cannot be loaded.
    fn stream_from(from: &mut IovSource<'_, '_, M>, dst: &mut [u8]) -> Result<usize, Short> {
        Self::copy_from(from, dst)
    }
}

/// A way to copy to memory `M`: [`MayWait`] or [`NoWait`].
pub trait CopyTo<M: WriteMemory>: sealed::Sealed {
    /// Copies as [`IovDest::copy_to_iter`] does.
    ///
    /// # Errors
    /// [`Short`] if a byte of the buffer cannot be stored.
    fn copy_to(to: &mut IovDest<'_, '_, M>, src: &[u8]) -> Result<usize, Short>;
}

/// The kernel may resolve a fault within the copy.
#[derive(Clone, Copy, Debug)]
pub enum MayWait {}

/// A page that is not resident ends the copy.
#[derive(Clone, Copy, Debug)]
pub enum NoWait {}

impl<M: ReadMemory> CopyFrom<M> for MayWait {
    #[inline]
    fn copy_from(from: &mut IovSource<'_, '_, M>, dst: &mut [u8]) -> Result<usize, Short> {
        from.copy_from_iter(dst)
    }

    fn stream_from(from: &mut IovSource<'_, '_, M>, dst: &mut [u8]) -> Result<usize, Short> {
        from.copy_from_iter_streaming(dst)
    }
}

impl<M: ReadNoWait> CopyFrom<M> for NoWait {
    fn copy_from(from: &mut IovSource<'_, '_, M>, dst: &mut [u8]) -> Result<usize, Short> {
        from.copy_from_iter_nowait(dst)
    }
}

impl<M: WriteMemory> CopyTo<M> for MayWait {
    #[inline]
    fn copy_to(to: &mut IovDest<'_, '_, M>, src: &[u8]) -> Result<usize, Short> {
        to.copy_to_iter(src)
    }
}

impl<M: WriteNoWait> CopyTo<M> for NoWait {
    fn copy_to(to: &mut IovDest<'_, '_, M>, src: &[u8]) -> Result<usize, Short> {
        to.copy_to_iter_nowait(src)
    }
}
