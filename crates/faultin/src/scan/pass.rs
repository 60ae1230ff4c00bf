//! Passes over a range: the first accepted position, the last one, and their number.
//!
//! Each goes through the range in groups of four vector registers, aligned as far as the start allows, and in blocks of
//! sixteen positions before and after them. A group or block is loaded once, and its answers are computed from the loaded
//! bytes. After a fault, the positions before it are tested byte by byte.

use super::look::Look;
use crate::arch::{Block, Vector};
use crate::fault::{Fault, Short};

const BLOCK: usize = size_of::<Block>();

/// Number of groups whose answers fit into a byte: each adds up to four.
const ROUNDS: usize = 63;

/// Returns the answers at `from..from + count`, at most a block, as the lowest bits of a mask. `len` positions exist.
///
/// # Safety
/// As [`Look::block`], for `len` positions.
#[inline(always)]
unsafe fn few<L: Look>(look: &L, from: usize, count: usize, len: usize) -> Result<u64, Fault> {
    let bits = <Block as Vector>::BITS;
    let keep = u64::MAX >> (64 - bits * count as u32);
    if len >= BLOCK {
        let start = from.min(len - BLOCK);
        // SAFETY: forwarded; `start + BLOCK <= len`.
        let mask = unsafe { look.block(start)?.mask() };
        return Ok(mask >> (bits * (from - start) as u32) & keep);
    }
    let mut mask = 0;
    for i in 0..count {
        // SAFETY: forwarded.
        let yes = unsafe { look.one(from + i)? };
        mask |= u64::from(yes) << (bits * i as u32);
    }
    // As wide as the answers of vectors.
    Ok(mask * ((1 << bits) - 1))
}

/// Returns the lowest position of a mask.
#[inline(always)]
fn lowest<V: Vector>(mask: u64) -> usize {
    (mask.trailing_zeros() / V::BITS) as usize
}

/// Returns the highest position of a mask.
#[inline(always)]
fn highest<V: Vector>(mask: u64) -> usize {
    ((63 - mask.leading_zeros()) / V::BITS) as usize
}

/// Returns a mask without one of its positions.
#[inline(always)]
fn without<V: Vector>(mask: u64, position: usize) -> u64 {
    mask & !(((1 << V::BITS) - 1) << (V::BITS * position as u32))
}

/// # Safety
/// The CPU has these registers.
#[inline(always)]
unsafe fn any<V: Vector>(four: [V; 4]) -> bool {
    // SAFETY: forwarded.
    unsafe { four[0].or(four[1]).or(four[2].or(four[3])).mask() != 0 }
}

/// Returns the first of `len` positions that is accepted.
///
/// # Errors
/// [`Short`]: no position that ends within the first `done` bytes is accepted; the byte after them could not be loaded.
///
/// # Safety
/// The CPU has these registers; the look may load what `len` positions need.
#[inline(always)]
pub(super) unsafe fn first<V: Vector, L: Look>(look: &L, len: usize) -> Result<Option<usize>, Short> {
    let group = 4 * V::BYTES;
    let mut at = 0;
    // In blocks up to `to`.
    macro_rules! blocks {
        ($to:expr, $failed:lifetime) => {
            while at < $to {
                let count = ($to - at).min(BLOCK);
                // SAFETY: forwarded.
                match unsafe { few(look, at, count, len) } {
                    Ok(mut mask) => {
                        while mask != 0 {
                            let hit = lowest::<Block>(mask);
                            // SAFETY: forwarded.
                            match unsafe { look.accept(at + hit) } {
                                Ok(true) => return Ok(Some(at + hit)),
                                Ok(false) => mask = without::<Block>(mask, hit),
                                Err(fault) => break $failed fault,
                            }
                        }
                    }
                    Err(fault) => break $failed fault,
                }
                at += count;
            }
        };
    }
    let fault = 'failed: {
        if len >= 2 * group {
            blocks!(look.to_multiple_of(V::BYTES, 0), 'failed);
        }
        while len - at >= group {
            // SAFETY: forwarded; a group is left.
            match unsafe { look.four::<V>(at) } {
                // SAFETY: forwarded.
                Ok(four) if unsafe { any(four) } => {
                    for (i, mask) in four.into_iter().enumerate() {
                        // SAFETY: forwarded.
                        let mut mask = unsafe { mask.mask() };
                        while mask != 0 {
                            let hit = lowest::<V>(mask);
                            let position = at + i * V::BYTES + hit;
                            // SAFETY: forwarded.
                            match unsafe { look.accept(position) } {
                                Ok(true) => return Ok(Some(position)),
                                Ok(false) => mask = without::<V>(mask, hit),
                                Err(fault) => break 'failed fault,
                            }
                        }
                    }
                }
                Ok(_) => {}
                Err(fault) => break 'failed fault,
            }
            at += group;
        }
        blocks!(len, 'failed);
        return Ok(None);
    };
    let mut found = None;
    // SAFETY: forwarded.
    unsafe {
        settle(look, at, len, fault, |position| {
            found = Some(position);
            false
        })?;
    }
    Ok(found)
}

/// Counts the positive answers of `len` positions, accepted or not.
///
/// # Errors
/// Those of [`first`].
///
/// # Safety
/// As [`first`].
#[inline(always)]
pub(super) unsafe fn count<V: Vector, L: Look>(look: &L, len: usize) -> Result<usize, Short> {
    let group = 4 * V::BYTES;
    let (mut at, mut total) = (0, 0);
    macro_rules! blocks {
        ($to:expr, $failed:lifetime) => {
            while at < $to {
                let count = ($to - at).min(BLOCK);
                // SAFETY: forwarded.
                match unsafe { few(look, at, count, len) } {
                    Ok(mask) => total += (mask.count_ones() / <Block as Vector>::BITS) as usize,
                    Err(fault) => break $failed fault,
                }
                at += count;
            }
        };
    }
    let fault = 'failed: {
        if len >= 2 * group {
            blocks!(look.to_multiple_of(V::BYTES, 0), 'failed);
        }
        while len - at >= group {
            let rounds = ((len - at) / group).min(ROUNDS);
            // SAFETY: forwarded.
            let mut sum = unsafe { V::splat(0) };
            let mut failed = None;
            for _ in 0..rounds {
                // SAFETY: forwarded; a group is left.
                match unsafe { look.four::<V>(at) } {
                    // A mask is -1.
                    // SAFETY: forwarded.
                    Ok([a, b, c, d]) => sum = unsafe { sum.sub(a).sub(b).sub(c).sub(d) },
                    Err(fault) => {
                        failed = Some(fault);
                        break;
                    }
                }
                at += group;
            }
            // SAFETY: forwarded.
            total += unsafe { sum.total() } as usize;
            if let Some(fault) = failed {
                break 'failed fault;
            }
        }
        blocks!(len, 'failed);
        return Ok(total);
    };
    // SAFETY: forwarded.
    unsafe {
        settle(look, at, len, fault, |_| {
            total += 1;
            true
        })?;
    }
    Ok(total)
}

/// Number of positions that [`positions`] writes for each word of masks without a test of how many there are.
const FEW: usize = 4;

/// Writes the positions from `from` on at which `bytes` have `byte`, in ascending order, to `out`, until it may have too little
/// room. Returns their number, and where to continue: the end, or a position further on if `out` has room for four registers.
///
/// # Safety
/// The CPU has these registers.
#[inline(always)]
pub(super) unsafe fn positions<V: Vector>(bytes: &[u8], byte: u8, from: usize, out: &mut [u32]) -> (usize, usize) {
    let group = 4 * V::BYTES;
    let (mut at, mut count) = (from, 0);
    // SAFETY: forwarded.
    let wanted = unsafe { V::splat(byte) };
    while bytes.len() - at >= group && out.len() - count >= group {
        let ptr = bytes[at..][..group].as_ptr();
        // (No closure: in one, the registers would not stay registers.)
        // SAFETY: forwarded; a group of bytes.
        let four = unsafe {
            [
                V::plain(ptr).eq(wanted),
                V::plain(ptr.add(V::BYTES)).eq(wanted),
                V::plain(ptr.add(2 * V::BYTES)).eq(wanted),
                V::plain(ptr.add(3 * V::BYTES)).eq(wanted),
            ]
        };
        // SAFETY: forwarded.
        if unsafe { any(four) } {
            // SAFETY: forwarded.
            let masks = unsafe { [four[0].mask(), four[1].mask(), four[2].mask(), four[3].mask()] };
            // As many masks at once as a word has room for.
            let bits = V::BITS as usize * V::BYTES;
            let together = 64 / bits;
            for first in (0..4).step_by(together) {
                let mut mask = 0;
                for index in 0..together {
                    mask |= masks[first + index] << (bits * index);
                }
                let hits = (mask.count_ones() / V::BITS) as usize;
                let start = at + first * V::BYTES;
                let places = &mut out[count..][..together * V::BYTES];
                // A branch on the number of hits would often be mispredicted.
                for place in &mut places[..FEW] {
                    *place = (start + lowest::<V>(mask)) as u32;
                    mask = without_lowest::<V>(mask);
                }
                if hits > FEW {
                    for place in &mut places[FEW..hits] {
                        *place = (start + lowest::<V>(mask)) as u32;
                        mask = without_lowest::<V>(mask);
                    }
                }
                count += hits;
            }
        }
        at += group;
    }
    if bytes.len() - at < group {
        while at < bytes.len() && count < out.len() {
            out[count] = at as u32;
            count += usize::from(bytes[at] == byte);
            at += 1;
        }
    }
    (count, at)
}

/// Returns a mask without its lowest position; an empty one stays empty.
#[inline(always)]
fn without_lowest<V: Vector>(mask: u64) -> u64 {
    if V::BITS == 1 {
        return mask & mask.wrapping_sub(1);
    }
    // The bits of a position are equal.
    mask & !((mask & mask.wrapping_neg()) * ((1 << V::BITS) - 1))
}

/// Handles a fault at or after position `at`: calls `found` with each position, until it returns false, and reports the
/// byte that cannot be loaded. That byte is not touched again, if the fault has its address.
///
/// # Safety
/// As [`first`], without vectors.
#[cold]
unsafe fn settle<L: Look>(
    look: &L,
    at: usize,
    len: usize,
    fault: Fault,
    mut found: impl FnMut(usize) -> bool,
) -> Result<(), Short> {
    let bytes = len.saturating_add(look.width() - 1);
    let bad = look.clear(&fault, bytes).max(at).min(bytes);
    // Positions that end before it, or all.
    let end = if bad == bytes { len } else { (bad + 1).saturating_sub(look.width()).max(at) };
    for position in at..end {
        // SAFETY: forwarded.
        match unsafe { look.settle(position) } {
            Ok(true) if !found(position) => return Ok(()),
            Ok(_) => {}
            Err((behind, fault)) => return Err(Short { done: position + behind, fault }),
        }
    }
    if bad == bytes { Ok(()) } else { Err(Short { done: bad, fault }) }
}

/// Returns the last of `len` positions that is accepted.
///
/// # Errors
/// The offset of a byte that could not be loaded, and its fault: no position after it is accepted.
///
/// # Safety
/// As [`first`].
#[inline(always)]
pub(super) unsafe fn last<V: Vector, L: Look>(look: &L, len: usize) -> Result<Option<usize>, (usize, Fault)> {
    let group = 4 * V::BYTES;
    // Positions from here on are done.
    let mut end = len;
    macro_rules! blocks {
        ($to:expr, $failed:lifetime) => {
            while end > $to {
                let count = (end - $to).min(BLOCK);
                // SAFETY: forwarded.
                match unsafe { few(look, end - count, count, len) } {
                    Ok(mut mask) => {
                        while mask != 0 {
                            let hit = highest::<Block>(mask);
                            // SAFETY: forwarded.
                            match unsafe { look.accept(end - count + hit) } {
                                Ok(true) => return Ok(Some(end - count + hit)),
                                Ok(false) => mask = without::<Block>(mask, hit),
                                Err(fault) => break $failed fault,
                            }
                        }
                    }
                    Err(fault) => break $failed fault,
                }
                end -= count;
            }
        };
    }
    // One repetition, in case the failed bytes are accessible again.
    let mut again = true;
    loop {
        let fault = 'failed: {
            if end >= 2 * group {
                blocks!(end - (V::BYTES - look.to_multiple_of(V::BYTES, end)) % V::BYTES, 'failed);
            }
            while end >= group {
                // SAFETY: forwarded; a group is left.
                match unsafe { look.four::<V>(end - group) } {
                    // SAFETY: forwarded.
                    Ok(four) if unsafe { any(four) } => {
                        for (i, mask) in four.into_iter().enumerate().rev() {
                            // SAFETY: forwarded.
                            let mut mask = unsafe { mask.mask() };
                            while mask != 0 {
                                let hit = highest::<V>(mask);
                                let position = end - group + i * V::BYTES + hit;
                                // SAFETY: forwarded.
                                match unsafe { look.accept(position) } {
                                    Ok(true) => return Ok(Some(position)),
                                    Ok(false) => mask = without::<V>(mask, hit),
                                    Err(fault) => break 'failed fault,
                                }
                            }
                        }
                    }
                    Ok(_) => {}
                    Err(fault) => break 'failed fault,
                }
                end -= group;
            }
            blocks!(0, 'failed);
            return Ok(None);
        };
        let from = end.saturating_sub(group);
        // All bytes from here on were loaded.
        let loaded = end + look.reach();
        let mut bad = None;
        for at in (from..loaded).rev() {
            // SAFETY: forwarded; positions have these bytes.
            if let Err(fault) = unsafe { look.touch(at) } {
                bad = Some((at, fault));
                break;
            }
        }
        for position in (bad.map_or(from, |(at, _)| at + 1)..end).rev() {
            // SAFETY: forwarded.
            match unsafe { look.settle(position) } {
                Ok(true) => return Ok(Some(position)),
                Ok(false) => {}
                Err((behind, fault)) => return Err((position + behind, fault)),
            }
        }
        if let Some(bad) = bad {
            return Err(bad);
        }
        if !again {
            return Err((from, fault));
        }
        (again, end) = (false, from);
    }
}
