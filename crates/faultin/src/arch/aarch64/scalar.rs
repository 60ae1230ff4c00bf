//! Loads, stores and atomics of fixed size: one instruction with a table entry (two where an exclusive load and store are a
//! loop), inlined into the caller.
//!
//! `err` is zeroed before the instruction and stays 0 unless it faults; `addr` is any register that is free by then.
//! Read-modify-write operations are single instructions where the target has them (`lse`), loops otherwise. They store in
//! any case, also where a comparison fails, so that both forms need the right to store.

use core::arch::asm;
use core::sync::atomic::Ordering;

use crate::fault::Fault;
use crate::fault::outcome::fault_of;

macro_rules! outcome {
    ($err:ident, $addr:expr, $value:expr) => {
        if $err == 0 { Ok($value) } else { Err(fault_of($err, $addr)) }
    };
}

/// The load-acquire that may pass earlier store-releases to other addresses, which suffices for `Acquire`.
#[cfg(target_feature = "rcpc")]
macro_rules! acquire {
    ($suffix:literal) => {
        concat!("ldapr", $suffix)
    };
}
#[cfg(not(target_feature = "rcpc"))]
macro_rules! acquire {
    ($suffix:literal) => {
        concat!("ldar", $suffix)
    };
}

/// One guarded load. `$options` is `readonly` where the compiler may move other accesses across it.
macro_rules! load {
    ($ptr:ident, $ty:ty, $modifier:literal, $insn:expr $(, $options:ident)?) => {{
        let (err, value): (u64, u64);
        // SAFETY: one load with a table entry.
        unsafe {
            asm!(
                "mov {err}, xzr",
                guarded!("1", concat!($insn, " {addr:", $modifier, "}, [{ptr}]")),
                ptr = in(reg) $ptr,
                err = out(reg) err,
                addr = lateout(reg) value,
                options(nostack, preserves_flags $(, $options)?),
            );
        }
        outcome!(err, value as usize, value as $ty)
    }};
}

/// One guarded store.
macro_rules! store {
    ($ptr:ident, $value:ident, $modifier:literal, $insn:expr) => {{
        let (err, addr): (u64, u64);
        // SAFETY: one store with a table entry.
        unsafe {
            asm!(
                "mov {err}, xzr",
                guarded!("2", concat!($insn, " {addr:", $modifier, "}, [{ptr}]")),
                ptr = in(reg) $ptr,
                err = out(reg) err,
                addr = inlateout(reg) u64::from($value) => addr,
                options(nostack, preserves_flags),
            );
        }
        outcome!(err, addr as usize, ())
    }};
}

macro_rules! accesses {
    (
        $load:ident, $store:ident, $atomic_load:ident, $atomic_store:ident,
        $ty:ty, $suffix:literal, $modifier:literal
    ) => {
        /// A load.
        ///
        /// # Safety
        /// `ptr` points to memory that may be read as this type, or to foreign memory; the handler is reached.
        #[inline(always)]
        pub unsafe fn $load(ptr: *const $ty) -> Result<$ty, Fault> {
            load!(ptr, $ty, $modifier, concat!("ldr", $suffix), readonly)
        }

        /// A load with an ordering; the caller has checked alignment and ordering.
        ///
        /// # Safety
        /// As the plain load.
        #[inline(always)]
        pub unsafe fn $atomic_load(ptr: *const $ty, order: Ordering) -> Result<$ty, Fault> {
            match order {
                Ordering::Relaxed => load!(ptr, $ty, $modifier, concat!("ldr", $suffix)),
                Ordering::Acquire => load!(ptr, $ty, $modifier, acquire!($suffix)),
                _ => load!(ptr, $ty, $modifier, concat!("ldar", $suffix)),
            }
        }

        /// A store.
        ///
        /// # Safety
        /// `ptr` points to memory that may be written as this type, or to foreign memory that its owner lets us
        /// write; the handler is reached.
        #[inline(always)]
        pub unsafe fn $store(ptr: *mut $ty, value: $ty) -> Result<(), Fault> {
            store!(ptr, value, $modifier, concat!("str", $suffix))
        }

        /// A store with an ordering; the caller has checked alignment and ordering.
        ///
        /// # Safety
        /// As the plain store.
        #[inline(always)]
        pub unsafe fn $atomic_store(ptr: *mut $ty, value: $ty, order: Ordering) -> Result<(), Fault> {
            match order {
                Ordering::Relaxed => store!(ptr, value, $modifier, concat!("str", $suffix)),
                _ => store!(ptr, value, $modifier, concat!("stlr", $suffix)),
            }
        }
    };
}
accesses!(load_8, store_8, atomic_load_8, atomic_store_8, u8, "b", "w");
accesses!(load_16, store_16, atomic_load_16, atomic_store_16, u16, "h", "w");
accesses!(load_32, store_32, atomic_load_32, atomic_store_32, u32, "", "w");
accesses!(load_64, store_64, atomic_load_64, atomic_store_64, u64, "", "x");

/// Picks the instructions for an ordering: `$make!(acquire, release, ...)` with "a" or "", and "l" or "".
macro_rules! by_order {
    ($order:expr, $make:ident, $($argument:tt)*) => {
        match $order {
            Ordering::Relaxed => $make!("", "", $($argument)*),
            Ordering::Acquire => $make!("a", "", $($argument)*),
            Ordering::Release => $make!("", "l", $($argument)*),
            _ => $make!("a", "l", $($argument)*),
        }
    };
}

/// Returns the ordering of one instruction that covers both outcomes of a comparison.
#[inline(always)]
const fn either(success: Ordering, failure: Ordering) -> Ordering {
    match (success, failure) {
        (_, Ordering::Relaxed) => success,
        (Ordering::Relaxed | Ordering::Acquire, Ordering::Acquire) => Ordering::Acquire,
        _ => Ordering::AcqRel,
    }
}

/// One instruction that returns the old value: `$insn` is its name up to the ordering.
#[cfg(target_feature = "lse")]
macro_rules! read_modify_write {
    (
        $acquire:literal, $release:literal, $ptr:ident, $value:expr,
        ($ty:ty, $suffix:literal, $modifier:literal), $insn:literal, $between:expr
    ) => {{
        let (err, old): (u64, u64);
        // SAFETY: one read-modify-write with a table entry.
        unsafe {
            asm!(
                "mov {err}, xzr",
                guarded!(
                    "2",
                    concat!(
                        $insn, $acquire, $release, $suffix,
                        " {value:", $modifier, "}, {addr:", $modifier, "}, [{ptr}]"
                    )
                ),
                ptr = in(reg) $ptr,
                value = in(reg) u64::from($value),
                err = out(reg) err,
                addr = lateout(reg) old,
                options(nostack, preserves_flags),
            );
        }
        outcome!(err, old as usize, old as $ty)
    }};
}

/// An exclusive load and store, where `$between` computes `tmp` from `addr` (the old value) and `value`.
#[cfg(not(target_feature = "lse"))]
macro_rules! read_modify_write {
    (
        $acquire:literal, $release:literal, $ptr:ident, $value:expr,
        ($ty:ty, $suffix:literal, $modifier:literal), $insn:literal, $between:expr
    ) => {{
        let (err, old): (u64, u64);
        // SAFETY: one read-modify-write with table entries.
        unsafe {
            asm!(
                "mov {err}, xzr",
                exclusive!(
                    concat!("ld", $acquire, "xr", $suffix, " {addr:", $modifier, "}, [{ptr}]"),
                    $between,
                    concat!("st", $release, "xr", $suffix, " {status:w}, {tmp:", $modifier, "}, [{ptr}]")
                ),
                ptr = in(reg) $ptr,
                value = in(reg) u64::from($value),
                err = out(reg) err,
                addr = out(reg) old,
                tmp = out(reg) _,
                status = out(reg) _,
                options(nostack, preserves_flags),
            );
        }
        outcome!(err, old as usize, old as $ty)
    }};
}

/// The old value, and whether it was `current`.
#[cfg(target_feature = "lse")]
macro_rules! compare_and_swap {
    (
        $acquire:literal, $release:literal, $ptr:ident, $current:ident, $new:ident,
        ($ty:ty, $suffix:literal, $modifier:literal)
    ) => {{
        let (err, old): (u64, u64);
        // SAFETY: one read-modify-write with a table entry.
        unsafe {
            asm!(
                "mov {err}, xzr",
                guarded!(
                    "2",
                    concat!(
                        "cas", $acquire, $release, $suffix,
                        " {addr:", $modifier, "}, {new:", $modifier, "}, [{ptr}]"
                    )
                ),
                ptr = in(reg) $ptr,
                new = in(reg) u64::from($new),
                err = out(reg) err,
                addr = inout(reg) u64::from($current) => old,
                options(nostack, preserves_flags),
            );
        }
        let found = old as $ty;
        outcome!(err, old as usize, if found == $current { Ok(found) } else { Err(found) })
    }};
}

/// The old value, and whether it was `current`. Where it was not, it is stored again.
#[cfg(not(target_feature = "lse"))]
macro_rules! compare_and_swap {
    (
        $acquire:literal, $release:literal, $ptr:ident, $current:ident, $new:ident,
        ($ty:ty, $suffix:literal, $modifier:literal)
    ) => {{
        let (err, old): (u64, u64);
        // SAFETY: one read-modify-write with table entries.
        unsafe {
            asm!(
                "mov {err}, xzr",
                exclusive!(
                    concat!("ld", $acquire, "xr", $suffix, " {addr:", $modifier, "}, [{ptr}]"),
                    "cmp {addr}, {current}\n csel {tmp}, {new}, {addr}, eq",
                    concat!("st", $release, "xr", $suffix, " {status:w}, {tmp:", $modifier, "}, [{ptr}]")
                ),
                ptr = in(reg) $ptr,
                current = in(reg) u64::from($current),
                new = in(reg) u64::from($new),
                err = out(reg) err,
                addr = out(reg) old,
                tmp = out(reg) _,
                status = out(reg) _,
                options(nostack),
            );
        }
        let found = old as $ty;
        outcome!(err, old as usize, if found == $current { Ok(found) } else { Err(found) })
    }};
}

macro_rules! read_modify_writes {
    ($swap:ident, $add:ident, $and:ident, $or:ident, $xor:ident, $cas:ident, $ty:ty, $form:tt) => {
        /// Exchanges the value, sequentially consistent.
        ///
        /// # Safety
        /// Those of the store; `ptr` is aligned.
        #[inline(always)]
        pub unsafe fn $swap(ptr: *mut $ty, value: $ty) -> Result<$ty, Fault> {
            read_modify_write!("a", "l", ptr, value, $form, "swp", "mov {tmp}, {value}")
        }

        /// Adds and returns the old value.
        ///
        /// # Safety
        /// Those of the store; `ptr` is aligned.
        #[inline(always)]
        pub unsafe fn $add(ptr: *mut $ty, value: $ty, order: Ordering) -> Result<$ty, Fault> {
            by_order!(order, read_modify_write, ptr, value, $form, "ldadd", "add {tmp}, {addr}, {value}")
        }

        /// Bitwise and; returns the old value. The CPU's instruction clears the bits that it is given.
        ///
        /// # Safety
        /// Those of the store; `ptr` is aligned.
        #[inline(always)]
        pub unsafe fn $and(ptr: *mut $ty, value: $ty, order: Ordering) -> Result<$ty, Fault> {
            by_order!(order, read_modify_write, ptr, (!value), $form, "ldclr", "bic {tmp}, {addr}, {value}")
        }

        /// Bitwise or; returns the old value.
        ///
        /// # Safety
        /// Those of the store; `ptr` is aligned.
        #[inline(always)]
        pub unsafe fn $or(ptr: *mut $ty, value: $ty, order: Ordering) -> Result<$ty, Fault> {
            by_order!(order, read_modify_write, ptr, value, $form, "ldset", "orr {tmp}, {addr}, {value}")
        }

        /// Bitwise exclusive or; returns the old value.
        ///
        /// # Safety
        /// Those of the store; `ptr` is aligned.
        #[inline(always)]
        pub unsafe fn $xor(ptr: *mut $ty, value: $ty, order: Ordering) -> Result<$ty, Fault> {
            by_order!(order, read_modify_write, ptr, value, $form, "ldeor", "eor {tmp}, {addr}, {value}")
        }

        /// Stores `new` if the value is `current`: the old value, and whether it was.
        ///
        /// # Safety
        /// Those of the store; `ptr` is aligned.
        #[inline(always)]
        pub unsafe fn $cas(
            ptr: *mut $ty,
            current: $ty,
            new: $ty,
            success: Ordering,
            failure: Ordering,
        ) -> Result<Result<$ty, $ty>, Fault> {
            by_order!(either(success, failure), compare_and_swap, ptr, current, new, $form)
        }
    };
}
read_modify_writes!(swap_8, fetch_add_8, fetch_and_8, fetch_or_8, fetch_xor_8, compare_exchange_8, u8, (u8, "b", "w"));
read_modify_writes!(
    swap_16,
    fetch_add_16,
    fetch_and_16,
    fetch_or_16,
    fetch_xor_16,
    compare_exchange_16,
    u16,
    (u16, "h", "w")
);
read_modify_writes!(
    swap_32,
    fetch_add_32,
    fetch_and_32,
    fetch_or_32,
    fetch_xor_32,
    compare_exchange_32,
    u32,
    (u32, "", "w")
);
read_modify_writes!(
    swap_64,
    fetch_add_64,
    fetch_and_64,
    fetch_or_64,
    fetch_xor_64,
    compare_exchange_64,
    u64,
    (u64, "", "x")
);

/// Loads one byte and discards it.
///
/// # Safety
/// As the other loads.
#[cfg(feature = "std")]
#[inline(always)]
pub unsafe fn touch_read(ptr: *const u8) -> Result<(), Fault> {
    // Not `readonly`: a load whose result is unused must still happen.
    load!(ptr, u8, "w", "ldrb").map(|_| ())
}

/// Number of bytes, each at its own address, that [`touch_read_many`] loads.
#[cfg(feature = "std")]
pub const MANY: usize = 8;

/// Loads and discards [`MANY`] bytes, `STRIDE` apart. A fault does not tell which of them failed.
///
/// # Safety
/// As the other loads, for each byte.
#[cfg(feature = "std")]
#[inline(always)]
pub unsafe fn touch_read_many<const STRIDE: usize>(ptr: *const u8) -> Result<(), Fault> {
    let (err, addr): (u64, u64);
    // SAFETY: loads with a table entry each. Not `readonly`: loads whose results are unused must still happen.
    unsafe {
        core::arch::asm!(
            "mov {err}, xzr",
            "20: ldrb {addr:w}, [{ptr}]",
            "21: ldrb {addr:w}, [{ptr}, #{s}]",
            "22: ldrb {addr:w}, [{ptr}, #2 * {s}]",
            "23: ldrb {addr:w}, [{ptr}, #3 * {s}]",
            "24: ldrb {addr:w}, [{ptr}, #4 * {s}]",
            "25: ldrb {addr:w}, [{ptr}, #5 * {s}]",
            "26: ldrb {addr:w}, [{ptr}, #6 * {s}]",
            "27: ldrb {addr:w}, [{ptr}, #7 * {s}]",
            "3:",
            prelude!(),
            entry_at!("20b", "3b", info!("1")),
            entry_at!("21b", "3b", info!("1")),
            entry_at!("22b", "3b", info!("1")),
            entry_at!("23b", "3b", info!("1")),
            entry_at!("24b", "3b", info!("1")),
            entry_at!("25b", "3b", info!("1")),
            entry_at!("26b", "3b", info!("1")),
            entry_at!("27b", "3b", info!("1")),
            s = const STRIDE,
            ptr = in(reg) ptr,
            err = out(reg) err,
            addr = out(reg) addr,
            options(nostack),
        );
    }
    if err == 0 { Ok(()) } else { Err(crate::fault::outcome::fault_of(err, addr as usize)) }
}

/// Sets no bit of a byte, atomically: this needs the right to store, and no byte changes, whichever threads write at the
/// same time.
///
/// # Safety
/// As the stores.
#[inline(always)]
pub unsafe fn touch_write(ptr: *mut u8) -> Result<(), Fault> {
    read_modify_write!("", "", ptr, 0_u8, (u8, "b", "w"), "ldset", "orr {tmp}, {addr}, {value}").map(|_| ())
}

// Below the macros, which both use.
#[cfg(feature = "std")]
mod block;
mod pair;

#[cfg(feature = "std")]
pub use block::{Block, load_vector};
pub use pair::*;
