//! Strings in memory that may fault: see [`raw`](crate::raw#strings).

#[cfg(not(feature = "std"))]
use self::plain::{Block, load_vector};
#[cfg(feature = "std")]
use crate::arch::{Block, load_vector};
use crate::fault::Short;

const BLOCK: usize = size_of::<Block>();

/// Returns the length of the string at `ptr`: the number of bytes before its NUL, or `max` if none of the first `max` bytes
/// is one.
///
/// Differs from the kernel's `strnlen_user`: the NUL is not counted, a string that is too long is `max`, and a fault is
/// an error instead of 0.
///
/// # Errors
/// [`Short`] if a byte could not be loaded; none of the `done` bytes before it is NUL.
///
/// # Safety
/// The string is foreign memory that we may read.
#[doc(alias = "strnlen_user")]
#[doc(alias = "strnlen_user_nofault")]
pub unsafe fn strnlen(ptr: *const u8, max: usize) -> Result<usize, Short> {
    let mut at = 0;
    while at < max {
        let skip = ptr.wrapping_add(at).addr() & (BLOCK - 1);
        // SAFETY: forwarded; aligned, so no other page is touched.
        let block = match unsafe { load_vector(ptr.wrapping_add(at).wrapping_sub(skip)) } {
            Ok(block) => block,
            Err(fault) => return Err(Short { done: at, fault: fault.at(ptr.wrapping_add(at).addr()) }),
        };
        let zeros = block.zero_bytes() >> skip;
        if zeros != 0 {
            return Ok(max.min(at + zeros.trailing_zeros() as usize));
        }
        at += BLOCK - skip;
    }
    Ok(max)
}

/// Copies the string at `src` up to and including its NUL, at most `max` bytes. Returns the bytes before the NUL; `max`
/// means that there was none and `dst` is not terminated. Each byte is loaded once.
///
/// Differs from the kernel's `strncpy_from_user`: a fault reports the number of bytes copied.
///
/// # Errors
/// [`Short`] if a byte could not be loaded; none of the `done` bytes copied is NUL.
///
/// # Safety
/// The string is foreign memory that we may read, `dst` is valid for writes
/// of `max` bytes and does not overlap with it.
#[doc(alias = "strncpy_from_user")]
#[doc(alias = "strncpy_from_user_nofault")]
pub unsafe fn strncpy(dst: *mut u8, src: *const u8, max: usize) -> Result<usize, Short> {
    let mut at = 0;
    while at < max {
        let skip = src.wrapping_add(at).addr() & (BLOCK - 1);
        // SAFETY: forwarded; aligned, so no other page is touched.
        let block = match unsafe { load_vector(src.wrapping_add(at).wrapping_sub(skip)) } {
            Ok(block) => block,
            Err(fault) => return Err(Short { done: at, fault: fault.at(src.wrapping_add(at).addr()) }),
        };
        let here = (BLOCK - skip).min(max - at);
        let zeros = block.zero_bytes() >> skip;
        let nul = if zeros == 0 { BLOCK } else { zeros.trailing_zeros() as usize };
        let count = here.min(nul.saturating_add(1));
        // SAFETY: `at + count <= max`, for which `dst` is valid.
        unsafe { dst.add(at).copy_from_nonoverlapping(block.bytes().as_ptr().add(skip), count) };
        if nul < here {
            return Ok(at + nul);
        }
        at += here;
    }
    Ok(max)
}

/// Returns whether all of `len` bytes are zero: as [`scan::is_zeroed`](crate::scan::is_zeroed), without vectors wider than
/// a block.
///
/// # Safety
/// The range is foreign memory that we may read.
pub(crate) unsafe fn is_zeroed(ptr: *const u8, len: usize) -> Result<bool, Short> {
    let mut at = 0;
    while at < len {
        let skip = ptr.wrapping_add(at).addr() & (BLOCK - 1);
        // SAFETY: forwarded; aligned, so no other page is touched.
        let block = match unsafe { load_vector(ptr.wrapping_add(at).wrapping_sub(skip)) } {
            Ok(block) => block,
            Err(fault) => return Err(Short { done: at, fault: fault.at(ptr.wrapping_add(at).addr()) }),
        };
        let here = (BLOCK - skip).min(len - at);
        if ((!block.zero_bytes() >> skip).trailing_zeros() as usize) < here {
            return Ok(false);
        }
        at += here;
    }
    Ok(true)
}

/// A block without vector registers, which a kernel may not use.
#[cfg(not(feature = "std"))]
mod plain {
    use crate::fault::Fault;
    use crate::scalar;

    pub(super) struct Block(u128);

    impl Block {
        /// Returns a bit for each byte that is zero.
        pub(super) fn zero_bytes(&self) -> u32 {
            self.bytes().iter().rev().fold(0, |bits, &byte| bits << 1 | u32::from(byte == 0))
        }

        pub(super) fn bytes(&self) -> [u8; 16] {
            self.0.to_ne_bytes()
        }
    }

    /// # Safety
    /// As [`scalar::load`].
    pub(super) unsafe fn load_vector(ptr: *const u8) -> Result<Block, Fault> {
        // SAFETY: forwarded.
        unsafe { scalar::load::<u128>(ptr.cast()) }.map(Block)
    }
}
