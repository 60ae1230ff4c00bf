//! Loads, stores and atomics of 128 bits: pairs of registers.

use core::arch::asm;
use core::sync::atomic::Ordering;

use super::touch_write;
use crate::fault::outcome::fault_of;
use crate::fault::{Access, Cause, Fault};

/// One guarded load of a pair.
macro_rules! load_pair {
    ($ptr:ident $(, $options:ident)?) => {{
        let (err, low, high): (u64, u64, u64);
        // SAFETY: one load with a table entry.
        unsafe {
            asm!(
                "mov {err}, xzr",
                guarded!("1", "ldp {addr}, {high}, [{ptr}]"),
                ptr = in(reg) $ptr,
                err = out(reg) err,
                addr = lateout(reg) low,
                high = lateout(reg) high,
                options(nostack, preserves_flags $(, $options)?),
            );
        }
        outcome!(err, low as usize, u128::from(low) | u128::from(high) << 64)
    }};
}

/// A load of two halves; not one single-copy atomic access.
///
/// # Safety
/// As the other loads.
#[inline(always)]
pub unsafe fn load_128(ptr: *const u128) -> Result<u128, Fault> {
    load_pair!(ptr, readonly)
}

/// A store of two halves; not one single-copy atomic access. Nothing is stored if a part of it cannot be: CPUs store the
/// halves one after the other, so where they do not share a granule, the right to store the end is checked first.
///
/// # Safety
/// As the other stores.
#[inline(always)]
pub unsafe fn store_128(ptr: *mut u128, value: u128) -> Result<(), Fault> {
    if !ptr.addr().is_multiple_of(16) {
        // SAFETY: forwarded.
        unsafe { try_end(ptr.cast()) }?;
    }
    let (err, addr): (u64, u64);
    // SAFETY: one store with a table entry.
    unsafe {
        asm!(
            "mov {err}, xzr",
            guarded!("2", "stp {addr}, {high}, [{ptr}]"),
            ptr = in(reg) ptr,
            high = in(reg) (value >> 64) as u64,
            err = out(reg) err,
            addr = inlateout(reg) value as u64 => addr,
            options(nostack, preserves_flags),
        );
    }
    outcome!(err, addr as usize, ())
}

/// Checks that the last of sixteen misaligned bytes can be stored; if not, returns the fault that one store of all of them
/// would have.
///
/// # Safety
/// As the stores.
#[inline]
unsafe fn try_end(start: *mut u8) -> Result<(), Fault> {
    let end = start.wrapping_add(15);
    // SAFETY: forwarded; both bytes belong to the range.
    unsafe { touch_write(end) }.or_else(|fault| {
        // SAFETY: as above.
        unsafe { touch_write(start) }?;
        Err(fault.at(end.addr() & !15))
    })
}

/// Exclusive pairs: `$between` computes `tmp`, `tmp_high` from `addr`, `old_high` and the operands.
macro_rules! exclusive_pair {
    ($ptr:ident, $between:expr, $($operand:tt)*) => {{
        let (err, low, high): (u64, u64, u64);
        // SAFETY: one read-modify-write with table entries.
        unsafe {
            asm!(
                "mov {err}, xzr",
                exclusive!(
                    "ldaxp {addr}, {old_high}, [{ptr}]",
                    $between,
                    "stlxp {status:w}, {tmp}, {tmp_high}, [{ptr}]"
                ),
                ptr = in(reg) $ptr,
                err = out(reg) err,
                addr = out(reg) low,
                old_high = out(reg) high,
                tmp = out(reg) _,
                tmp_high = out(reg) _,
                status = out(reg) _,
                $($operand)*
                options(nostack),
            );
        }
        outcome!(err, low as usize, u128::from(low) | u128::from(high) << 64)
    }};
}

/// Exclusive pairs, sequentially consistent: the old value, and whether it was `current`.
///
/// # Safety
/// As the store; `ptr` is aligned to 16 bytes.
#[inline(always)]
pub unsafe fn compare_exchange_128(
    ptr: *mut u128,
    current: u128,
    new: u128,
    _success: Ordering,
    _failure: Ordering,
) -> Result<Result<u128, u128>, Fault> {
    let old = exclusive_pair!(
        ptr,
        "cmp {addr}, {current}
         ccmp {old_high}, {current_high}, #0, eq
         csel {tmp}, {new}, {addr}, eq
         csel {tmp_high}, {new_high}, {old_high}, eq",
        current = in(reg) current as u64,
        current_high = in(reg) (current >> 64) as u64,
        new = in(reg) new as u64,
        new_high = in(reg) (new >> 64) as u64,
    )?;
    Ok(if old == current { Ok(old) } else { Err(old) })
}

macro_rules! pair_ops {
    ($($name:ident $low:literal $high:literal;)*) => {$(
        /// Performs the operation of this name on exclusive pairs, sequentially consistent; returns the old value.
        ///
        /// # Safety
        /// As the store; `ptr` is aligned to 16 bytes.
        #[inline(always)]
        pub unsafe fn $name(ptr: *mut u128, value: u128, _order: Ordering) -> Result<u128, Fault> {
            exclusive_pair!(
                ptr,
                concat!($low, "\n", $high),
                value = in(reg) value as u64,
                value_high = in(reg) (value >> 64) as u64,
            )
        }
    )*};
}
pair_ops! {
    swap_any_128 "mov {tmp}, {value}" "mov {tmp_high}, {value_high}";
    fetch_add_128 "adds {tmp}, {addr}, {value}" "adc {tmp_high}, {old_high}, {value_high}";
    fetch_and_128 "and {tmp}, {addr}, {value}" "and {tmp_high}, {old_high}, {value_high}";
    fetch_or_128 "orr {tmp}, {addr}, {value}" "orr {tmp_high}, {old_high}, {value_high}";
    fetch_xor_128 "eor {tmp}, {addr}, {value}" "eor {tmp_high}, {old_high}, {value_high}";
}

/// Exchanges the value, sequentially consistent.
///
/// # Safety
/// As the store; `ptr` is aligned to 16 bytes.
#[inline(always)]
pub unsafe fn swap_128(ptr: *mut u128, value: u128) -> Result<u128, Fault> {
    // SAFETY: forwarded.
    unsafe { swap_any_128(ptr, value, Ordering::SeqCst) }
}

/// A 16-byte load in one access. CPUs with LSE2 make an aligned pair one access; an exclusive pair would be one too, but
/// only if it stores, which needs the right to store.
///
/// # Safety
/// As the other loads; `ptr` is aligned to 16 bytes.
#[inline(always)]
pub unsafe fn atomic_load_128(ptr: *const u128, order: Ordering) -> Result<u128, Fault> {
    if !has_lse2() {
        return Err(Fault::rejected(Access::Read, Cause::Unsupported, ptr.addr()));
    }
    if order == Ordering::SeqCst {
        barrier();
    }
    let value = load_pair!(ptr)?;
    if order != Ordering::Relaxed {
        barrier();
    }
    Ok(value)
}

/// A 16-byte store in one access.
///
/// # Safety
/// As the store; `ptr` is aligned to 16 bytes.
#[inline(always)]
pub unsafe fn atomic_store_128(ptr: *mut u128, value: u128, order: Ordering) -> Result<(), Fault> {
    if !has_lse2() {
        // SAFETY: forwarded.
        return unsafe { swap_any_128(ptr, value, order) }.map(|_| ());
    }
    if order != Ordering::Relaxed {
        barrier();
    }
    // SAFETY: forwarded; an aligned pair is one access on CPUs with LSE2.
    unsafe { store_128(ptr, value) }?;
    if order == Ordering::SeqCst {
        barrier();
    }
    Ok(())
}

/// Orders every access before it against every access after it.
#[inline(always)]
fn barrier() {
    core::sync::atomic::fence(Ordering::SeqCst);
}

#[cfg(feature = "std")]
fn has_lse2() -> bool {
    std::arch::is_aarch64_feature_detected!("lse2")
}

// Without detection: what the target guarantees.
#[cfg(not(feature = "std"))]
const fn has_lse2() -> bool {
    cfg!(target_feature = "lse2")
}
