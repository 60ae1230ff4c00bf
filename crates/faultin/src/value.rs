//! Values that are read byte by byte into private memory.

use core::mem::MaybeUninit;

/// Makes a value of the bytes that `fetch` fills; they are zeros before.
///
/// # Errors
/// Those of `fetch`.
///
/// # Safety
/// Any initialised bytes are a valid `T`.
#[inline]
pub(crate) unsafe fn fetched<T, E>(fetch: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<T, E> {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: all of the value's bytes, padding included, are initialised: zeroed, and not moved since.
    let bytes = unsafe { core::slice::from_raw_parts_mut(value.as_mut_ptr().cast::<u8>(), size_of::<T>()) };
    fetch(bytes)?;
    // SAFETY: its bytes are initialised, and any are a `T`, as the caller promises.
    Ok(unsafe { value.assume_init() })
}
