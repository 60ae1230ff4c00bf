//! Loads, stores and atomics of fixed size: one instruction with a table entry, inlined into the caller.
//!
//! `err` is zeroed before the instruction and stays 0 unless it faults; `addr` is any register that is free by then. x86-64
//! orders every load as acquire and every store as release, so only the stores of `SeqCst` differ: they are `xchg`. All
//! operations of 16 bytes are two 8-byte halves, except the atomic ones.

use core::arch::asm;
#[cfg(feature = "std")]
use core::arch::x86_64::__m128i;
use core::sync::atomic::Ordering;

use crate::fault::outcome::fault_of;
use crate::fault::{Access, Cause, Fault};

macro_rules! outcome {
    ($err:ident, $addr:expr, $value:expr) => {
        if $err == 0 { Ok($value) } else { Err(fault_of($err, $addr)) }
    };
}

macro_rules! loads {
    ($name:ident, $acquire:ident, $ty:ty, $insn:literal) => {
        #[doc = concat!("`", $insn, "`.")]
        ///
        /// # Safety
        /// `ptr` points to memory that may be read as this type, or to foreign memory; the handler is reached.
        #[inline(always)]
        pub unsafe fn $name(ptr: *const $ty) -> Result<$ty, Fault> {
            let (err, value): (u64, u64);
            // SAFETY: one load with a table entry. `readonly`: it writes no memory.
            unsafe {
                asm!(
                    "xor {err:e}, {err:e}",
                    guarded!("1", $insn),
                    ptr = in(reg) ptr,
                    err = out(reg) err,
                    addr = lateout(reg) value,
                    options(nostack, readonly),
                );
            }
            outcome!(err, value as usize, value as $ty)
        }

        /// Does the same, and the compiler may not move a later access before it.
        ///
        /// # Safety
        /// As the plain load.
        #[inline(always)]
        pub unsafe fn $acquire(ptr: *const $ty) -> Result<$ty, Fault> {
            let (err, value): (u64, u64);
            // SAFETY: one load with a table entry. Not `readonly`, which makes it a compiler barrier.
            unsafe {
                asm!(
                    "xor {err:e}, {err:e}",
                    guarded!("1", $insn),
                    ptr = in(reg) ptr,
                    err = out(reg) err,
                    addr = lateout(reg) value,
                    options(nostack),
                );
            }
            outcome!(err, value as usize, value as $ty)
        }
    };
}
loads!(load_8, load_acquire_8, u8, "movzx {addr:e}, byte ptr [{ptr}]");
loads!(load_16, load_acquire_16, u16, "movzx {addr:e}, word ptr [{ptr}]");
loads!(load_32, load_acquire_32, u32, "mov {addr:e}, [{ptr}]");
loads!(load_64, load_acquire_64, u64, "mov {addr}, [{ptr}]");

macro_rules! stores {
    ($name:ident, $swap:ident, $add:ident, $cas:ident, $ty:ty, $size:literal, $modifier:literal) => {
        /// A store.
        ///
        /// # Safety
        /// `ptr` points to memory that may be written as this type, or to foreign memory that its owner lets us
        /// write; the handler is reached.
        #[inline(always)]
        pub unsafe fn $name(ptr: *mut $ty, value: $ty) -> Result<(), Fault> {
            let (err, addr): (u64, u64);
            // SAFETY: one store with a table entry.
            unsafe {
                asm!(
                    "xor {err:e}, {err:e}",
                    guarded!("2", concat!("mov ", $size, " ptr [{ptr}], {addr", $modifier, "}")),
                    ptr = in(reg) ptr,
                    err = out(reg) err,
                    addr = inlateout(reg) value as u64 => addr,
                    options(nostack),
                );
            }
            outcome!(err, addr as usize, ())
        }

        /// `xchg`.
        ///
        /// # Safety
        /// As the store.
        #[inline(always)]
        pub unsafe fn $swap(ptr: *mut $ty, value: $ty) -> Result<$ty, Fault> {
            let (err, old): (u64, u64);
            // SAFETY: one read-modify-write with a table entry.
            unsafe {
                asm!(
                    "xor {err:e}, {err:e}",
                    guarded!("2", concat!("xchg ", $size, " ptr [{ptr}], {addr", $modifier, "}")),
                    ptr = in(reg) ptr,
                    err = out(reg) err,
                    addr = inlateout(reg) value as u64 => old,
                    options(nostack),
                );
            }
            outcome!(err, old as usize, old as $ty)
        }

        /// `lock xadd`.
        ///
        /// # Safety
        /// As the store.
        #[inline(always)]
        pub unsafe fn $add(ptr: *mut $ty, value: $ty, _order: Ordering) -> Result<$ty, Fault> {
            let (err, old): (u64, u64);
            // SAFETY: one read-modify-write with a table entry.
            unsafe {
                asm!(
                    "xor {err:e}, {err:e}",
                    guarded!("2", concat!("lock xadd ", $size, " ptr [{ptr}], {addr", $modifier, "}")),
                    ptr = in(reg) ptr,
                    err = out(reg) err,
                    addr = inlateout(reg) value as u64 => old,
                    options(nostack),
                );
            }
            outcome!(err, old as usize, old as $ty)
        }

        /// `lock cmpxchg`: the old value, and whether it was `current`.
        ///
        /// # Safety
        /// As the store.
        #[inline(always)]
        pub unsafe fn $cas(
            ptr: *mut $ty,
            current: $ty,
            new: $ty,
            _success: Ordering,
            _failure: Ordering,
        ) -> Result<Result<$ty, $ty>, Fault> {
            let (err, addr, old): (u64, u64, u64);
            // SAFETY: one read-modify-write with a table entry.
            unsafe {
                asm!(
                    "xor {err:e}, {err:e}",
                    guarded!("2", concat!("lock cmpxchg ", $size, " ptr [{ptr}], {addr", $modifier, "}")),
                    ptr = in(reg) ptr,
                    err = out(reg) err,
                    addr = inlateout(reg) new as u64 => addr,
                    inlateout("rax") current as u64 => old,
                    options(nostack),
                );
            }
            // The instruction leaves the old value in rax either way, so comparing it is equivalent to the zero flag.
            let old = old as $ty;
            outcome!(err, addr as usize, if old == current { Ok(old) } else { Err(old) })
        }
    };
}
stores!(store_8, swap_8, fetch_add_8, compare_exchange_8, u8, "byte", ":l");
stores!(store_16, swap_16, fetch_add_16, compare_exchange_16, u16, "word", ":x");
stores!(store_32, swap_32, fetch_add_32, compare_exchange_32, u32, "dword", ":e");
stores!(store_64, swap_64, fetch_add_64, compare_exchange_64, u64, "qword", ":r");

macro_rules! ordered {
    ($load:ident, $store:ident, $plain:ident, $acquire:ident, $put:ident, $swap:ident, $ty:ty) => {
        /// A load with an ordering; the caller has checked alignment and ordering.
        ///
        /// # Safety
        /// As the plain load.
        #[inline(always)]
        pub unsafe fn $load(ptr: *const $ty, order: Ordering) -> Result<$ty, Fault> {
            // SAFETY: forwarded.
            unsafe { if order == Ordering::Relaxed { $plain(ptr) } else { $acquire(ptr) } }
        }

        /// A store with an ordering; the caller has checked alignment and ordering.
        ///
        /// # Safety
        /// As the plain store.
        #[inline(always)]
        pub unsafe fn $store(ptr: *mut $ty, value: $ty, order: Ordering) -> Result<(), Fault> {
            // SAFETY: forwarded.
            unsafe { if order == Ordering::SeqCst { $swap(ptr, value).map(|_| ()) } else { $put(ptr, value) } }
        }
    };
}
ordered!(atomic_load_8, atomic_store_8, load_8, load_acquire_8, store_8, swap_8, u8);
ordered!(atomic_load_16, atomic_store_16, load_16, load_acquire_16, store_16, swap_16, u16);
ordered!(atomic_load_32, atomic_store_32, load_32, load_acquire_32, store_32, swap_32, u32);
ordered!(atomic_load_64, atomic_store_64, load_64, load_acquire_64, store_64, swap_64, u64);

macro_rules! fetch_ops {
    ($($name:ident $cas:ident $load:ident $ty:ty, |$old:ident, $value:ident| $new:expr;)*) => {$(
        /// A loop of load and `lock cmpxchg`: the instructions with a memory operand do not return the old value.
        ///
        /// # Safety
        /// As the store.
        #[inline(always)]
        pub unsafe fn $name(ptr: *mut $ty, $value: $ty, order: Ordering) -> Result<$ty, Fault> {
            // SAFETY: forwarded.
            let mut $old = unsafe { $load(ptr) }.map_err(as_store)?;
            loop {
                // SAFETY: forwarded.
                match unsafe { $cas(ptr, $old, $new, order, Ordering::Relaxed) }? {
                    Ok(old) => return Ok(old),
                    Err(now) => $old = now,
                }
            }
        }
    )*};
}
fetch_ops! {
    fetch_and_8 compare_exchange_8 load_8 u8, |old, value| old & value;
    fetch_and_16 compare_exchange_16 load_16 u16, |old, value| old & value;
    fetch_and_32 compare_exchange_32 load_32 u32, |old, value| old & value;
    fetch_and_64 compare_exchange_64 load_64 u64, |old, value| old & value;
    fetch_or_8 compare_exchange_8 load_8 u8, |old, value| old | value;
    fetch_or_16 compare_exchange_16 load_16 u16, |old, value| old | value;
    fetch_or_32 compare_exchange_32 load_32 u32, |old, value| old | value;
    fetch_or_64 compare_exchange_64 load_64 u64, |old, value| old | value;
    fetch_xor_8 compare_exchange_8 load_8 u8, |old, value| old ^ value;
    fetch_xor_16 compare_exchange_16 load_16 u16, |old, value| old ^ value;
    fetch_xor_32 compare_exchange_32 load_32 u32, |old, value| old ^ value;
    fetch_xor_64 compare_exchange_64 load_64 u64, |old, value| old ^ value;
    fetch_and_128 compare_exchange_128 load_128 u128, |old, value| old & value;
    fetch_or_128 compare_exchange_128 load_128 u128, |old, value| old | value;
    fetch_xor_128 compare_exchange_128 load_128 u128, |old, value| old ^ value;
    fetch_add_128 compare_exchange_128 load_128 u128, |old, value| old.wrapping_add(value);
    swap_any_128 compare_exchange_128 load_128 u128, |_old, value| value;
}

/// Reports the fault as a store: the load of a read-modify-write loop is part of an operation that needs the right to
/// store.
#[cold]
fn as_store(fault: Fault) -> Fault {
    fault.of_kind(Access::Write)
}

/// Two 8-byte loads; not one single-copy atomic access.
///
/// # Safety
/// As the other loads.
#[inline(always)]
pub unsafe fn load_128(ptr: *const u128) -> Result<u128, Fault> {
    // SAFETY: forwarded; both halves are in the same 16 bytes.
    unsafe {
        let low = load_64(ptr.cast())?;
        let high = load_64(ptr.cast::<u64>().wrapping_add(1))?;
        Ok(u128::from(low) | u128::from(high) << 64)
    }
}

/// Two 8-byte stores, the upper half first: a build without `std` uses no vector registers. If the upper half can be stored
/// and the lower cannot (the value begins on a page that cannot be written), the upper half is restored.
///
/// # Safety
/// As the other stores.
#[cfg(not(feature = "std"))]
#[inline(always)]
pub unsafe fn store_128(ptr: *mut u128, value: u128) -> Result<(), Fault> {
    let (low, high) = (ptr.cast::<u64>(), ptr.cast::<u64>().wrapping_add(1));
    // SAFETY: forwarded; both halves are in the same 16 bytes.
    unsafe {
        let before = load_64(high).map_err(as_store)?;
        store_64(high, (value >> 64) as u64)?;
        store_64(low, value as u64).inspect_err(|_| {
            let _ = store_64(high, before);
        })
    }
}

/// One 16-byte store, so that nothing is stored if a part of it cannot be; not single-copy atomic.
///
/// # Safety
/// As the other stores.
#[cfg(feature = "std")]
#[inline(always)]
pub unsafe fn store_128(ptr: *mut u128, value: u128) -> Result<(), Fault> {
    let (err, addr): (u64, u64);
    // SAFETY: one store with a table entry.
    unsafe {
        asm!(
            "xor {err:e}, {err:e}",
            "xor {addr:e}, {addr:e}",
            guarded!("2", "movups [{ptr}], {value}"),
            ptr = in(reg) ptr,
            value = in(xmm_reg) core::mem::transmute::<u128, __m128i>(value),
            err = out(reg) err,
            addr = out(reg) addr,
            options(nostack),
        );
    }
    outcome!(err, addr as usize, ())
}

/// Loads 16 bytes into a vector register: the access that every scan of memory uses.
///
/// # Safety
/// As the other loads, for 16 bytes at any alignment.
#[cfg(feature = "std")]
#[inline(always)]
pub unsafe fn load_vector(ptr: *const u8) -> Result<Block, Fault> {
    let (err, addr): (u64, u64);
    let value: __m128i;
    // SAFETY: one load with a table entry.
    unsafe {
        asm!(
            "xor {err:e}, {err:e}",
            guarded!("1", "movups {value}, [{ptr}]"),
            ptr = in(reg) ptr,
            value = out(xmm_reg) value,
            err = out(reg) err,
            addr = out(reg) addr,
            options(nostack, readonly),
        );
    }
    outcome!(err, addr as usize, Block(value))
}

/// Sixteen bytes in a vector register.
#[cfg(feature = "std")]
#[derive(Clone, Copy)]
pub struct Block(pub(super) __m128i);

#[cfg(feature = "std")]
impl Block {
    /// Returns one bit per byte that is zero, the first byte's lowest.
    #[inline(always)]
    pub fn zero_bytes(self) -> u32 {
        use core::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_setzero_si128};
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(self.0, _mm_setzero_si128())) as u32 }
    }

    /// Returns the bits that are set in either.
    #[inline(always)]
    pub fn or(self, other: Block) -> Block {
        // SAFETY: SSE2 is part of x86-64.
        Block(unsafe { core::arch::x86_64::_mm_or_si128(self.0, other.0) })
    }

    /// Returns the bytes in memory order.
    #[inline(always)]
    pub fn bytes(self) -> [u8; 16] {
        // SAFETY: both types are 16 plain bytes.
        unsafe { core::mem::transmute(self.0) }
    }
}

/// `lock cmpxchg16b`. rbx belongs to the compiler, so the low half is exchanged with it; the fixup comes before rbx is
/// restored.
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
    if !has_cmpxchg16b() {
        return Err(Fault::rejected(Access::Write, Cause::Unsupported, ptr.addr()));
    }
    let (err, low, high, addr): (u64, u64, u64, u64);
    // SAFETY: one read-modify-write with a table entry; rbx is restored on both ways out. Every register is named, because
    // an operand that the compiler chooses might be rbx itself.
    unsafe {
        asm!(
            "xor r8d, r8d",
            "xchg rbx, rsi",
            "2: lock cmpxchg16b xmmword ptr [rdi]",
            "3: mov rbx, rsi",
            __faultin_object!(),
            entry_at!("2b", "3b", "2 | (8 << 2) | (9 << 7)"),
            in("rdi") ptr,
            out("r8") err,
            out("r9") addr,
            inout("rsi") new as u64 => _,
            in("rcx") (new >> 64) as u64,
            inout("rax") current as u64 => low,
            inout("rdx") (current >> 64) as u64 => high,
            options(nostack),
        );
    }
    let old = u128::from(low) | u128::from(high) << 64;
    outcome!(err, addr as usize, if old == current { Ok(old) } else { Err(old) })
}

/// A 16-byte load in one access. Only CPUs with AVX guarantee that an aligned vector load is one access; `lock cmpxchg16b`
/// would be too, but needs the right to store.
///
/// # Safety
/// As the other loads; `ptr` is aligned to 16 bytes.
#[inline(always)]
pub unsafe fn atomic_load_128(ptr: *const u128, order: Ordering) -> Result<u128, Fault> {
    #[cfg(feature = "std")]
    if has_avx() {
        // SAFETY: forwarded.
        let block = unsafe { load_vector(ptr.cast()) }?;
        if order != Ordering::Relaxed {
            core::sync::atomic::compiler_fence(order);
        }
        return Ok(u128::from_ne_bytes(block.bytes()));
    }
    let _ = order;
    Err(Fault::rejected(Access::Read, Cause::Unsupported, ptr.addr()))
}

/// A 16-byte store in one access.
///
/// # Safety
/// As the store; `ptr` is aligned to 16 bytes.
#[inline(always)]
pub unsafe fn atomic_store_128(ptr: *mut u128, value: u128, order: Ordering) -> Result<(), Fault> {
    #[cfg(feature = "std")]
    if order != Ordering::SeqCst && has_avx() {
        // SAFETY: forwarded; an aligned 16-byte vector store is one access on CPUs with AVX.
        return unsafe { store_128(ptr, value) };
    }
    // SAFETY: forwarded.
    unsafe { swap_any_128(ptr, value, order) }.map(|_| ())
}

/// `lock cmpxchg16b` in a loop.
///
/// # Safety
/// As the store; `ptr` is aligned to 16 bytes.
#[inline(always)]
pub unsafe fn swap_128(ptr: *mut u128, value: u128) -> Result<u128, Fault> {
    // SAFETY: forwarded.
    unsafe { swap_any_128(ptr, value, Ordering::SeqCst) }
}

#[cfg(feature = "std")]
fn has_avx() -> bool {
    std::arch::is_x86_feature_detected!("avx")
}

#[cfg(feature = "std")]
fn has_cmpxchg16b() -> bool {
    std::arch::is_x86_feature_detected!("cmpxchg16b")
}

// Without detection: what the target guarantees.
#[cfg(not(feature = "std"))]
const fn has_cmpxchg16b() -> bool {
    cfg!(target_feature = "cmpxchg16b")
}

/// Loads one byte and discards it.
///
/// # Safety
/// As the other loads.
#[cfg(feature = "std")]
#[inline(always)]
pub unsafe fn touch_read(ptr: *const u8) -> Result<(), Fault> {
    let (err, addr): (u64, u64);
    // SAFETY: one load with a table entry. Not `readonly`: a load whose result is unused must still happen.
    unsafe {
        asm!(
            "xor {err:e}, {err:e}",
            guarded!("1", "movzx {addr:e}, byte ptr [{ptr}]"),
            ptr = in(reg) ptr,
            err = out(reg) err,
            addr = lateout(reg) addr,
            options(nostack),
        );
    }
    outcome!(err, addr as usize, ())
}

/// `lock or byte [p], 0`: this needs the right to store, and no byte changes, whichever threads write at the same time.
///
/// # Safety
/// As the stores.
#[cfg(feature = "std")]
#[inline(always)]
pub unsafe fn touch_write(ptr: *mut u8) -> Result<(), Fault> {
    let (err, addr): (u64, u64);
    // SAFETY: one atomic read-modify-write with a table entry that stores what it loaded.
    unsafe {
        asm!(
            "xor {err:e}, {err:e}",
            guarded!("2", "lock or byte ptr [{ptr}], 0"),
            ptr = in(reg) ptr,
            err = out(reg) err,
            addr = lateout(reg) addr,
            options(nostack),
        );
    }
    outcome!(err, addr as usize, ())
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
        asm!(
            "xor {err:e}, {err:e}",
            "20: movzx {addr:e}, byte ptr [{ptr}]",
            "21: movzx {addr:e}, byte ptr [{ptr} + {s}]",
            "22: movzx {addr:e}, byte ptr [{ptr} + 2 * {s}]",
            "23: movzx {addr:e}, byte ptr [{ptr} + 3 * {s}]",
            "24: movzx {addr:e}, byte ptr [{ptr} + 4 * {s}]",
            "25: movzx {addr:e}, byte ptr [{ptr} + 5 * {s}]",
            "26: movzx {addr:e}, byte ptr [{ptr} + 6 * {s}]",
            "27: movzx {addr:e}, byte ptr [{ptr} + 7 * {s}]",
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
    outcome!(err, addr as usize, ())
}
