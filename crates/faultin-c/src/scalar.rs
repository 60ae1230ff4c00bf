//! Loads, stores and atomic operations of 8 to 64 bits on memory that may fault.

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering;

use faultin::{Access, Cause, raw, signal_free};

use crate::fault::{Fault, failed};
use crate::handler::has_handler;

/// A memory order: an argument of atomic operations. The numbers are those of memory_order in C and C++, with gcc and clang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Order {
    /// No order.
    Relaxed = 0,
    /// As FAULTIN_ORDER_ACQUIRE.
    Consume = 1,
    /// Loads only: later accesses stay after it.
    Acquire = 2,
    /// Stores only: earlier accesses stay before it.
    Release = 3,
    /// Operations that load and store: both.
    AcqRel = 4,
    /// One order of all such operations.
    SeqCst = 5,
}

fn order(number: c_int) -> Option<Ordering> {
    const RELAXED: c_int = Order::Relaxed as c_int;
    const CONSUME: c_int = Order::Consume as c_int;
    const ACQUIRE: c_int = Order::Acquire as c_int;
    const RELEASE: c_int = Order::Release as c_int;
    const ACQ_REL: c_int = Order::AcqRel as c_int;
    const SEQ_CST: c_int = Order::SeqCst as c_int;
    Some(match number {
        RELAXED => Ordering::Relaxed,
        CONSUME | ACQUIRE => Ordering::Acquire,
        RELEASE => Ordering::Release,
        ACQ_REL => Ordering::AcqRel,
        SEQ_CST => Ordering::SeqCst,
        _ => return None,
    })
}

/// Returns the order of a compare-exchange that stores nothing.
fn without_store(order: Ordering) -> Ordering {
    match order {
        Ordering::Release => Ordering::Relaxed,
        Ordering::AcqRel => Ordering::Acquire,
        other => other,
    }
}

/// Returns the order of an atomic operation that is possible now: not without a handler, because the kernel's copies are not
/// atomic.
fn atomic(order: c_int, access: Access, address: usize) -> Result<Ordering, faultin::Fault> {
    match self::order(order) {
        Some(order) if has_handler() => Ok(order),
        _ => Err(faultin::Fault::rejected(access, Cause::Unsupported, address)),
    }
}

/// Writes a result where the caller wants it; returns 0, or the error number of the fault.
///
/// # Safety
/// `to` is null or valid for writes, and so is `fault`.
#[inline(always)]
unsafe fn give<T>(result: Result<T, faultin::Fault>, to: *mut T, fault: *mut Fault) -> c_int {
    match result {
        Ok(value) => {
            if !to.is_null() {
                // SAFETY: forwarded.
                unsafe { to.write(value) };
            }
            0
        }
        // SAFETY: forwarded.
        Err(stop) => unsafe { failed(&stop, fault) },
    }
}

/// Defines the functions for one size. The header is made from their expansion.
macro_rules! scalars {
    ($type:ty: $load:ident, $store:ident, $atomic_load:ident, $atomic_store:ident, $exchange:ident,
     $compare_exchange:ident; $($fetch:ident = $operation:ident $what:literal),*) => {
        /// Loads a value from memory that may fault. It may be misaligned. With a handler, an aligned value is loaded at once;
        /// without one, the kernel copies its bytes, and it may be torn while another thread stores it.
        ///
        /// Async-signal-safe: does not allocate or lock, and leaves errno alone.
        ///
        /// @param value  Where the value is written.
        /// @param src    Memory that may fault.
        /// @param fault  Written after an error; may be NULL.
        /// @return 0, or the error number of the fault; `value` is not written then.
        ///
        /// # Safety
        /// `src` is memory that may fault or be read. `value` is valid for writes, `fault` is null or valid for writes.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $load(value: *mut $type, src: *const c_void, fault: *mut Fault) -> c_int {
            // SAFETY: forwarded; with a handler, faults are recovered.
            unsafe {
                let result = match has_handler() {
                    true => raw::load::<$type>(src.cast()),
                    false => signal_free::load::<$type>(src.cast()),
                };
                give(result, value, fault)
            }
        }

        /// Stores a value to memory that may fault. It may be misaligned. With a handler, an aligned value is stored at once;
        /// without one, the kernel copies its bytes, and another thread may see a part of it.
        ///
        /// Async-signal-safe: does not allocate or lock, and leaves errno alone.
        ///
        /// @param dst    Memory that may fault.
        /// @param value  The value.
        /// @param fault  Written after an error; may be NULL.
        /// @return 0, or the error number of the fault; nothing was stored then.
        ///
        /// # Safety
        /// `dst` is memory that may fault or be written. `fault` is null or valid for writes.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $store(dst: *mut c_void, value: $type, fault: *mut Fault) -> c_int {
            // SAFETY: forwarded; with a handler, faults are recovered.
            unsafe {
                let result = match has_handler() {
                    true => raw::store::<$type>(dst.cast(), value),
                    false => signal_free::store::<$type>(dst.cast(), value),
                };
                give(result, core::ptr::null_mut(), fault)
            }
        }

        /// Loads a value atomically from memory that may fault.
        ///
        /// Async-signal-safe: does not allocate or lock, and leaves errno alone.
        ///
        /// @param value  Where the value is written.
        /// @param src    Memory that may fault.
        /// @param order  enum faultin_order: relaxed, consume, acquire or sequentially consistent.
        /// @param fault  Written after an error; may be NULL.
        /// @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler and for another order,
        ///         FAULTIN_CAUSE_ALIGNMENT if it is misaligned.
        ///
        /// # Safety
        /// `src` is memory that may fault or be read. `value` is valid for writes, `fault` is null or valid for writes.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $atomic_load(
            value: *mut $type,
            src: *const c_void,
            order: c_int,
            fault: *mut Fault,
        ) -> c_int {
            // SAFETY: forwarded; faults are recovered.
            unsafe {
                let result = atomic(order, Access::Read, src.addr())
                    .and_then(|order| raw::load_atomic::<$type>(src.cast(), order));
                give(result, value, fault)
            }
        }

        /// Stores a value atomically to memory that may fault.
        ///
        /// Async-signal-safe: does not allocate or lock, and leaves errno alone.
        ///
        /// @param dst    Memory that may fault.
        /// @param value  The value.
        /// @param order  enum faultin_order: relaxed, release or sequentially consistent.
        /// @param fault  Written after an error; may be NULL.
        /// @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler and for another order,
        ///         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
        ///
        /// # Safety
        /// `dst` is memory that may fault or be written. `fault` is null or valid for writes.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $atomic_store(
            dst: *mut c_void,
            value: $type,
            order: c_int,
            fault: *mut Fault,
        ) -> c_int {
            // SAFETY: forwarded; faults are recovered.
            unsafe {
                let result = atomic(order, Access::Write, dst.addr())
                    .and_then(|order| raw::store_atomic::<$type>(dst.cast(), value, order));
                give(result, core::ptr::null_mut(), fault)
            }
        }

        /// Exchanges a value atomically in memory that may fault, sequentially consistent.
        ///
        /// Async-signal-safe: does not allocate or lock, and leaves errno alone.
        ///
        /// @param dst     Memory that may fault.
        /// @param value   The new value.
        /// @param before  Where the previous value is written; may be NULL.
        /// @param fault   Written after an error; may be NULL.
        /// @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
        ///         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
        ///
        /// # Safety
        /// `dst` is memory that may fault or be written. `before` and `fault` are null or valid for writes.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $exchange(
            dst: *mut c_void,
            value: $type,
            before: *mut $type,
            fault: *mut Fault,
        ) -> c_int {
            // SAFETY: forwarded; faults are recovered.
            unsafe {
                let result = atomic(Order::SeqCst as c_int, Access::Write, dst.addr())
                    .and_then(|_| raw::swap::<$type>(dst.cast(), value));
                give(result, before, fault)
            }
        }

        /// Stores a value atomically in memory that may fault if the expected value is there.
        ///
        /// Async-signal-safe: does not allocate or lock, and leaves errno alone.
        ///
        /// @param dst        Memory that may fault.
        /// @param expected   The expected value; the one that was found is written there.
        /// @param desired    The new value.
        /// @param order      enum faultin_order; a part of it that releases applies only if the value is stored.
        /// @param exchanged  1 is written there if the value was stored, 0 if another one was found; may be NULL.
        /// @param fault      Written after an error; may be NULL.
        /// @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
        ///         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
        ///
        /// # Safety
        /// `dst` is memory that may fault or be written. `expected` is valid for reads and writes, `exchanged` and `fault`
        /// are null or valid for writes.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $compare_exchange(
            dst: *mut c_void,
            expected: *mut $type,
            desired: $type,
            order: c_int,
            exchanged: *mut c_int,
            fault: *mut Fault,
        ) -> c_int {
            // SAFETY: forwarded; faults are recovered.
            unsafe {
                let result = atomic(order, Access::Write, dst.addr()).and_then(|order| {
                    let failure = without_store(order);
                    raw::compare_exchange::<$type>(dst.cast(), expected.read(), desired, order, failure)
                });
                let result = result.map(|found| {
                    let was_stored = c_int::from(found.is_ok());
                    let (Ok(found) | Err(found)) = found;
                    expected.write(found);
                    was_stored
                });
                give(result, exchanged, fault)
            }
        }

        $(
            #[doc = concat!(" Atomically ", $what, " a value in memory that may fault.")]
            ///
            /// Async-signal-safe: does not allocate or lock, and leaves errno alone.
            ///
            /// @param dst     Memory that may fault.
            /// @param value   The operand.
            /// @param before  Where the previous value is written; may be NULL.
            /// @param order   enum faultin_order.
            /// @param fault   Written after an error; may be NULL.
            /// @return 0, or the error number of the fault: FAULTIN_CAUSE_UNSUPPORTED without a handler,
            ///         FAULTIN_CAUSE_ALIGNMENT if it is misaligned. Nothing was stored then.
            ///
            /// # Safety
            /// `dst` is memory that may fault or be written. `before` and `fault` are null or valid for writes.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $fetch(
                dst: *mut c_void,
                value: $type,
                before: *mut $type,
                order: c_int,
                fault: *mut Fault,
            ) -> c_int {
                // SAFETY: forwarded; faults are recovered.
                unsafe {
                    let result = atomic(order, Access::Write, dst.addr())
                        .and_then(|order| raw::$operation::<$type>(dst.cast(), value, order));
                    give(result, before, fault)
                }
            }
        )*
    };
}

scalars!(u8: faultin_load_u8, faultin_store_u8, faultin_atomic_load_u8, faultin_atomic_store_u8,
    faultin_atomic_exchange_u8, faultin_atomic_compare_exchange_u8;
    faultin_atomic_fetch_add_u8 = fetch_add "adds", faultin_atomic_fetch_sub_u8 = fetch_sub "subtracts",
    faultin_atomic_fetch_and_u8 = fetch_and "ands", faultin_atomic_fetch_or_u8 = fetch_or "ors",
    faultin_atomic_fetch_xor_u8 = fetch_xor "xors");
scalars!(u16: faultin_load_u16, faultin_store_u16, faultin_atomic_load_u16, faultin_atomic_store_u16,
    faultin_atomic_exchange_u16, faultin_atomic_compare_exchange_u16;
    faultin_atomic_fetch_add_u16 = fetch_add "adds", faultin_atomic_fetch_sub_u16 = fetch_sub "subtracts",
    faultin_atomic_fetch_and_u16 = fetch_and "ands", faultin_atomic_fetch_or_u16 = fetch_or "ors",
    faultin_atomic_fetch_xor_u16 = fetch_xor "xors");
scalars!(u32: faultin_load_u32, faultin_store_u32, faultin_atomic_load_u32, faultin_atomic_store_u32,
    faultin_atomic_exchange_u32, faultin_atomic_compare_exchange_u32;
    faultin_atomic_fetch_add_u32 = fetch_add "adds", faultin_atomic_fetch_sub_u32 = fetch_sub "subtracts",
    faultin_atomic_fetch_and_u32 = fetch_and "ands", faultin_atomic_fetch_or_u32 = fetch_or "ors",
    faultin_atomic_fetch_xor_u32 = fetch_xor "xors");
scalars!(u64: faultin_load_u64, faultin_store_u64, faultin_atomic_load_u64, faultin_atomic_store_u64,
    faultin_atomic_exchange_u64, faultin_atomic_compare_exchange_u64;
    faultin_atomic_fetch_add_u64 = fetch_add "adds", faultin_atomic_fetch_sub_u64 = fetch_sub "subtracts",
    faultin_atomic_fetch_and_u64 = fetch_and "ands", faultin_atomic_fetch_or_u64 = fetch_or "ors",
    faultin_atomic_fetch_xor_u64 = fetch_xor "xors");
