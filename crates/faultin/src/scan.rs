//! Reading foreign memory without copying it: comparing, and looking for something that is not zero.
//!
//! Everything here is built on one access, a 16-byte load into a vector register that may fault. Nothing outside the
//! given ranges is loaded.
//!
//! # Preconditions
//!
//! Those of [`copy`](mod@crate::copy).

use crate::arch::{self, Block};
use crate::copy::worth_trying;
use crate::fault::{Fault, Short};

const BLOCK: usize = size_of::<Block>();

/// Whether all of `len` bytes are zero; stops at the first that is not.
///
/// Differs from the kernel's `check_zeroed_user`: reads nothing outside the range, and a fault comes with the number of
/// bytes that were zero before it.
///
/// # Errors
/// [`Short`] if a byte could not be loaded and every byte before it is zero.
///
/// # Safety
/// The module's preconditions; the range is foreign memory (or anything) that we may read.
#[doc(alias = "check_zeroed_user")]
#[doc(alias = "memchr_inv")]
pub unsafe fn is_zeroed(ptr: *const u8, len: usize) -> Result<bool, Short> {
    // SAFETY: forwarded.
    let load = |at: usize| unsafe { arch::load_vector(ptr.wrapping_add(at)) };
    // SAFETY: forwarded.
    let byte = |at: usize| unsafe { load_byte(ptr.wrapping_add(at)) };
    let first = scan(
        len,
        load,
        |block| block.zero_bytes() != 0xffff,
        |at| Ok(byte(at)? != 0),
        |fault, rest| worth_trying(fault, ptr.addr(), rest),
    )?;
    Ok(first.is_none())
}

/// The first offset at which two ranges differ, `None` if they are equal.
///
/// # Errors
/// [`Short`] if a byte of either could not be loaded and every byte before it is equal.
///
/// # Safety
/// The module's preconditions; both ranges are foreign memory (or anything) that we may read.
#[doc(alias = "memcmp")]
pub unsafe fn compare(a: *const u8, b: *const u8, len: usize) -> Result<Option<usize>, Short> {
    // SAFETY: forwarded.
    let load =
        |at: usize| unsafe { Ok(arch::load_vector(a.wrapping_add(at))?.xor(arch::load_vector(b.wrapping_add(at))?)) };
    // SAFETY: forwarded.
    let byte = |at: usize| unsafe { Ok(load_byte(a.wrapping_add(at))? != load_byte(b.wrapping_add(at))?) };
    scan(
        len,
        load,
        |block| block.zero_bytes() != 0xffff,
        byte,
        |fault, rest| {
            // Whichever range it was in, the other's answer is no smaller than what is worth trying.
            worth_trying(fault, a.addr(), rest).min(worth_trying(fault, b.addr(), rest))
        },
    )
}

/// One byte; its fault knows the address, also where the CPU does not say.
///
/// # Safety
/// The module's preconditions; the byte is foreign memory (or anything) that we may read.
unsafe fn load_byte(ptr: *const u8) -> Result<u8, Fault> {
    // SAFETY: forwarded.
    unsafe { arch::load_8(ptr) }.map_err(|fault| fault.at(ptr.addr()))
}

/// The first byte of `0..len` at which a block is hit, found in blocks and settled byte by byte. `clear` bounds, after a
/// fault in a block, how many bytes from 0 are worth trying.
#[inline(always)]
fn scan(
    len: usize,
    load: impl Fn(usize) -> Result<Block, Fault>,
    hit: impl Fn(Block) -> bool,
    byte: impl Fn(usize) -> Result<bool, Fault>,
    clear: impl Fn(&Fault, usize) -> usize,
) -> Result<Option<usize>, Short> {
    let settle = |from: usize, to: usize| {
        for at in from..to {
            match byte(at) {
                Ok(false) => {}
                Ok(true) => return Ok(Some(at)),
                Err(fault) => return Err(Short { done: at, fault }),
            }
        }
        Ok(None)
    };
    let mut at = 0;
    let fault = 'fault: {
        while len - at >= 4 * BLOCK {
            let four = (|| Ok(load(at)?.or(load(at + BLOCK)?).or(load(at + 2 * BLOCK)?.or(load(at + 3 * BLOCK)?))))();
            match four {
                Ok(block) if hit(block) => break,
                Ok(_) => at += 4 * BLOCK,
                Err(fault) => break 'fault fault,
            }
        }
        while len - at >= BLOCK {
            match load(at) {
                // Somebody may have changed it back between the two looks.
                Ok(block) if hit(block) => match settle(at, at + BLOCK)? {
                    None => at += BLOCK,
                    found => return Ok(found),
                },
                Ok(_) => at += BLOCK,
                Err(fault) => break 'fault fault,
            }
        }
        return settle(at, len);
    };
    // The bytes before the bad extent were not at fault.
    let end = clear(&fault, len).max(at).min(len);
    match settle(at, end)? {
        None if end == len => Ok(None),
        None => Err(Short { done: end, fault }),
        found => Ok(found),
    }
}
