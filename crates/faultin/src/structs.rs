//! Structures whose size is their version: see [`raw`](crate::raw#structures).

use core::fmt;

use crate::copy::{copy_in, zero};
use crate::fault::{Fault, Short};
use crate::string::is_zeroed;

/// The reason why a versioned structure could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StructError {
    /// The caller's structure is longer than ours, and a byte of the unknown part is not zero (`E2BIG`).
    TooBig,
    /// A byte could not be loaded (`EFAULT`). The contents of the destination are unspecified.
    Fault(Fault),
}

impl fmt::Display for StructError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StructError::TooBig => f.write_str("the structure sets fields that this version does not know"),
            StructError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl core::error::Error for StructError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            StructError::TooBig => None,
            StructError::Fault(fault) => Some(fault),
        }
    }
}

impl StructError {
    /// Returns the errno that the kernel returns.
    pub const fn errno(&self) -> i32 {
        match self {
            StructError::TooBig => 7,
            StructError::Fault(fault) => fault.errno(),
        }
    }
}

#[cfg(feature = "std")]
impl From<StructError> for std::io::Error {
    fn from(error: StructError) -> Self {
        crate::errno::whole(Some(error.errno()), error)
    }
}

impl From<Short> for StructError {
    fn from(short: Short) -> Self {
        StructError::Fault(short.fault)
    }
}

/// Copies a structure of `src_len` bytes into one of `dst_len`: a shorter one is completed with zeros, a longer one must
/// have only zeros in the part that does not fit. That part is checked *before* anything is copied.
///
/// Mirrors the kernel's function of the same name; there `dst_len` is `ksize` and `src_len` is `usize`.
///
/// # Errors
/// [`StructError`] if a byte cannot be loaded, or the part that does not fit has a byte that is not zero.
///
/// # Safety
/// `src` is foreign memory that we may read, `dst` is valid for writes of
/// `dst_len` bytes and does not overlap with it.
#[doc(alias = "copy_struct_from_user")]
pub unsafe fn copy_struct_in(dst: *mut u8, dst_len: usize, src: *const u8, src_len: usize) -> Result<(), StructError> {
    let common = dst_len.min(src_len);
    // SAFETY: parts of the two ranges.
    unsafe {
        if src_len > dst_len && !is_zeroed(src.wrapping_add(common), src_len - common)? {
            return Err(StructError::TooBig);
        }
        copy_in(dst, src, common)?;
        zero(dst.wrapping_add(common), dst_len - common)?;
    }
    Ok(())
}
