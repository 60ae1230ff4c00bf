//! Types that any bytes are a value of: they can be read from a peer without a check.

use super::SharedMap;
use crate::map::error::{MapError, OperationError};
use crate::value::fetched;

/// A type of which every combination of bytes is a value: integers, floating-point numbers, and arrays and `repr(C)`
/// structures of such. For types that derive the traits of `zerocopy` or `bytemuck`, there is `faultin::typed` with the
/// feature of that name, which needs no `unsafe`.
///
/// # Safety
///
/// Any initialised bytes are a valid value: no `bool`, `char`, reference, enumeration or `NonZero` anywhere inside, and
/// no invariant that unsafe code relies on. Padding is allowed.
pub unsafe trait PlainData: Copy + 'static {}

macro_rules! plain {
    ($($ty:ty)*) => {$(
        // SAFETY: sets a limit.
        unsafe impl PlainData for $ty {}
    )*};
}
plain! { u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 usize isize f32 f64 }

// SAFETY: consists of such values only.
unsafe impl<T: PlainData, const N: usize> PlainData for [T; N] {}

impl SharedMap {
    /// Copies the structure at position `at` to private memory, once: a value that was found valid then stays valid,
    /// whatever the peer stores meanwhile. Read everything that belongs together in one call, check it, and do not read it
    /// again.
    ///
    /// It need not be aligned. While the peer writes it, it may be a mixture of old and new bytes.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let shared = faultin::shared::SharedMap::create("requests", 4096)?;
    /// use faultin::shared::PlainData;
    ///
    /// #[derive(Clone, Copy)]
    /// #[repr(C)]
    /// struct Request {
    ///     at: u32,
    ///     len: u32,
    /// }
    /// // SAFETY: two numbers.
    /// unsafe impl PlainData for Request {}
    ///
    /// let request: Request = shared.read_once(0)?;
    /// let end = request.at.checked_add(request.len).ok_or("the client lies")?; // of the copy
    /// # assert_eq!(end, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`read_exact_at`](Self::read_exact_at); no part of the structure is returned, and [`done`](MapError::done)
    /// is 0.
    #[inline]
    pub fn read_once<T: PlainData>(&self, at: u64) -> Result<T, MapError> {
        let (start, len) = self.clamp(at, size_of::<T>());
        let fetch =
            |bytes: &mut [u8]| if len == bytes.len() { self.fetch(start, bytes) } else { Err(self.past_end(0)) };
        // SAFETY: any bytes are a `T`.
        unsafe { fetched(fetch) }.map_err(|stop| self.error(at, OperationError { done: 0, ..stop }))
    }
}
