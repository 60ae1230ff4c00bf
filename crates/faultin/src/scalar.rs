//! Loads, stores and atomic operations on memory that may fault: see [`raw`](crate::raw#scalars).

use core::sync::atomic::Ordering;

use crate::arch;
use crate::fault::{Access, Cause, Fault};

mod sealed {
    use super::{Fault, Ordering};

    /// The operations of one type, without checks.
    ///
    /// # Safety
    /// For each: the preconditions of the function of [`super`] with the same name.
    #[allow(missing_docs, clippy::missing_safety_doc)]
    pub trait Operations: Copy + Eq {
        unsafe fn load(ptr: *const Self) -> Result<Self, Fault>;
        unsafe fn store(ptr: *mut Self, value: Self) -> Result<(), Fault>;
        unsafe fn atomic_load(ptr: *const Self, order: Ordering) -> Result<Self, Fault>;
        unsafe fn atomic_store(ptr: *mut Self, value: Self, order: Ordering) -> Result<(), Fault>;
        unsafe fn swap(ptr: *mut Self, value: Self) -> Result<Self, Fault>;
        unsafe fn fetch_add(ptr: *mut Self, value: Self, order: Ordering) -> Result<Self, Fault>;
        unsafe fn fetch_and(ptr: *mut Self, value: Self, order: Ordering) -> Result<Self, Fault>;
        unsafe fn fetch_or(ptr: *mut Self, value: Self, order: Ordering) -> Result<Self, Fault>;
        unsafe fn fetch_xor(ptr: *mut Self, value: Self, order: Ordering) -> Result<Self, Fault>;
        unsafe fn compare_exchange(
            ptr: *mut Self,
            current: Self,
            new: Self,
            success: Ordering,
            failure: Ordering,
        ) -> Result<Result<Self, Self>, Fault>;
        fn wrapping_neg(self) -> Self;
        fn nand(self, other: Self) -> Self;
        fn larger(self, other: Self) -> Self;
        fn smaller(self, other: Self) -> Self;
        // For backends whose memory is not this process's: values as bytes, in the machine's order.
        fn plus(self, other: Self) -> Self;
        fn from_bytes(bytes: &[u8]) -> Self;
        fn put_bytes(self, bytes: &mut [u8]);
    }
}

/// The integers of 8 to 128 bits. The trait is sealed.
pub trait Scalar: sealed::Operations {}

macro_rules! scalars {
    ($($ty:ident as $bits:ident: $load:ident $store:ident $aload:ident $astore:ident $swap:ident $add:ident $and:ident
        $or:ident $xor:ident $cas:ident;)*) => {$(
        impl Scalar for $ty {}
        impl sealed::Operations for $ty {
            #[inline(always)]
            unsafe fn load(ptr: *const Self) -> Result<Self, Fault> {
                // SAFETY: forwarded; the types have the same size.
                unsafe { arch::$load(ptr.cast::<$bits>()) }.map(|v| v as $ty)
            }
            #[inline(always)]
            unsafe fn store(ptr: *mut Self, value: Self) -> Result<(), Fault> {
                // SAFETY: forwarded.
                unsafe { arch::$store(ptr.cast::<$bits>(), value as $bits) }
            }
            #[inline(always)]
            unsafe fn atomic_load(ptr: *const Self, order: Ordering) -> Result<Self, Fault> {
                // SAFETY: forwarded.
                unsafe { arch::$aload(ptr.cast::<$bits>(), order) }.map(|v| v as $ty)
            }
            #[inline(always)]
            unsafe fn atomic_store(ptr: *mut Self, value: Self, order: Ordering) -> Result<(), Fault> {
                // SAFETY: forwarded.
                unsafe { arch::$astore(ptr.cast::<$bits>(), value as $bits, order) }
            }
            #[inline(always)]
            unsafe fn swap(ptr: *mut Self, value: Self) -> Result<Self, Fault> {
                // SAFETY: forwarded.
                unsafe { arch::$swap(ptr.cast::<$bits>(), value as $bits) }.map(|v| v as $ty)
            }
            #[inline(always)]
            unsafe fn fetch_add(ptr: *mut Self, value: Self, order: Ordering) -> Result<Self, Fault> {
                // SAFETY: forwarded.
                unsafe { arch::$add(ptr.cast::<$bits>(), value as $bits, order) }.map(|v| v as $ty)
            }
            #[inline(always)]
            unsafe fn fetch_and(ptr: *mut Self, value: Self, order: Ordering) -> Result<Self, Fault> {
                // SAFETY: forwarded.
                unsafe { arch::$and(ptr.cast::<$bits>(), value as $bits, order) }.map(|v| v as $ty)
            }
            #[inline(always)]
            unsafe fn fetch_or(ptr: *mut Self, value: Self, order: Ordering) -> Result<Self, Fault> {
                // SAFETY: forwarded.
                unsafe { arch::$or(ptr.cast::<$bits>(), value as $bits, order) }.map(|v| v as $ty)
            }
            #[inline(always)]
            unsafe fn fetch_xor(ptr: *mut Self, value: Self, order: Ordering) -> Result<Self, Fault> {
                // SAFETY: forwarded.
                unsafe { arch::$xor(ptr.cast::<$bits>(), value as $bits, order) }.map(|v| v as $ty)
            }
            #[inline(always)]
            unsafe fn compare_exchange(
                ptr: *mut Self,
                current: Self,
                new: Self,
                success: Ordering,
                failure: Ordering,
            ) -> Result<Result<Self, Self>, Fault> {
                // SAFETY: forwarded.
                unsafe { arch::$cas(ptr.cast::<$bits>(), current as $bits, new as $bits, success, failure) }
                    .map(|old| old.map(|v| v as $ty).map_err(|v| v as $ty))
            }
            #[inline(always)]
            fn wrapping_neg(self) -> Self {
                self.wrapping_neg()
            }
            #[inline(always)]
            fn nand(self, other: Self) -> Self {
                !(self & other)
            }
            #[inline(always)]
            fn larger(self, other: Self) -> Self {
                Ord::max(self, other)
            }
            #[inline(always)]
            fn smaller(self, other: Self) -> Self {
                Ord::min(self, other)
            }
            #[inline]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline]
            fn from_bytes(bytes: &[u8]) -> Self {
                let mut value = [0; size_of::<Self>()];
                value.copy_from_slice(bytes);
                Self::from_ne_bytes(value)
            }
            #[inline]
            fn put_bytes(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}

macro_rules! scalars_8 { ($($ty:ident)*) => { scalars! { $($ty as u8: load_8 store_8 atomic_load_8 atomic_store_8
    swap_8 fetch_add_8 fetch_and_8 fetch_or_8 fetch_xor_8 compare_exchange_8;)* } } }
macro_rules! scalars_16 { ($($ty:ident)*) => { scalars! { $($ty as u16: load_16 store_16 atomic_load_16 atomic_store_16
    swap_16 fetch_add_16 fetch_and_16 fetch_or_16 fetch_xor_16 compare_exchange_16;)* } } }
macro_rules! scalars_32 { ($($ty:ident)*) => { scalars! { $($ty as u32: load_32 store_32 atomic_load_32 atomic_store_32
    swap_32 fetch_add_32 fetch_and_32 fetch_or_32 fetch_xor_32 compare_exchange_32;)* } } }
macro_rules! scalars_64 { ($($ty:ident)*) => { scalars! { $($ty as u64: load_64 store_64 atomic_load_64 atomic_store_64
    swap_64 fetch_add_64 fetch_and_64 fetch_or_64 fetch_xor_64 compare_exchange_64;)* } } }
macro_rules! scalars_128 { ($($ty:ident)*) => { scalars! { $($ty as u128: load_128 store_128 atomic_load_128
    atomic_store_128 swap_128 fetch_add_128 fetch_and_128 fetch_or_128 fetch_xor_128 compare_exchange_128;)* } } }
scalars_8!(u8 i8);
scalars_16!(u16 i16);
scalars_32!(u32 i32);
scalars_64!(u64 i64);
scalars_128!(u128 i128);
#[cfg(target_pointer_width = "64")]
scalars_64!(usize isize);
#[cfg(target_pointer_width = "32")]
scalars_32!(usize isize);

/// Loads a value.
///
/// Differs from the kernel's `get_user`: value and error are one result.
///
/// # Errors
/// The [`Fault`] if a byte of the value cannot be loaded.
///
/// # Safety
/// `ptr` is foreign memory that we may read.
#[doc(alias = "get_user")]
#[doc(alias = "unsafe_get_user")]
#[doc(alias = "get_kernel_nofault")]
#[inline(always)]
pub unsafe fn load<T: Scalar>(ptr: *const T) -> Result<T, Fault> {
    // SAFETY: forwarded.
    unsafe { T::load(ptr) }
}

/// Stores a value.
///
/// # Errors
/// The [`Fault`] if a byte of the value cannot be stored.
///
/// # Safety
/// `ptr` is foreign memory that its owner lets us write.
#[doc(alias = "put_user")]
#[doc(alias = "unsafe_put_user")]
#[inline(always)]
pub unsafe fn store<T: Scalar>(ptr: *mut T, value: T) -> Result<(), Fault> {
    // SAFETY: forwarded.
    unsafe { T::store(ptr, value) }
}

#[inline(always)]
fn aligned<T>(ptr: *const T, access: Access) -> Result<(), Fault> {
    // Atomicity needs an alignment of the size, which may be more than the type's.
    if ptr.addr() & (size_of::<T>() - 1) == 0 {
        Ok(())
    } else {
        Err(Fault::rejected(access, Cause::Alignment, ptr.addr()))
    }
}

/// Loads atomically. `order` is `Relaxed`, `Acquire` or `SeqCst`.
///
/// # Errors
/// The [`Fault`] if the value cannot be loaded, is misaligned, or the size or `order` is [unsupported](crate::raw#scalars).
///
/// # Safety
/// As [`load`].
#[inline(always)]
pub unsafe fn load_atomic<T: Scalar>(ptr: *const T, order: Ordering) -> Result<T, Fault> {
    aligned(ptr, Access::Read)?;
    if matches!(order, Ordering::Release | Ordering::AcqRel) {
        return Err(Fault::rejected(Access::Read, Cause::Unsupported, ptr.addr()));
    }
    // SAFETY: forwarded.
    unsafe { T::atomic_load(ptr, order) }
}

/// Stores atomically. `order` is `Relaxed`, `Release` or `SeqCst`.
///
/// # Errors
/// The [`Fault`] if the value cannot be stored, is misaligned, or the size or `order` is [unsupported](crate::raw#scalars).
///
/// # Safety
/// As [`store`].
#[inline(always)]
pub unsafe fn store_atomic<T: Scalar>(ptr: *mut T, value: T, order: Ordering) -> Result<(), Fault> {
    aligned(ptr, Access::Write)?;
    if matches!(order, Ordering::Acquire | Ordering::AcqRel) {
        return Err(Fault::rejected(Access::Write, Cause::Unsupported, ptr.addr()));
    }
    // SAFETY: forwarded.
    unsafe { T::atomic_store(ptr, value, order) }
}

/// Exchanges the value, sequentially consistent: no known CPU has a cheaper exchange.
///
/// # Errors
/// The [`Fault`] if the value cannot be loaded and stored, is misaligned, or the size is [unsupported](crate::raw#scalars).
///
/// # Safety
/// As [`store`].
#[inline(always)]
pub unsafe fn swap<T: Scalar>(ptr: *mut T, value: T) -> Result<T, Fault> {
    aligned(ptr, Access::Write)?;
    // SAFETY: forwarded.
    unsafe { T::swap(ptr, value) }
}

/// Stores `new` if the value is `current`. Returns `Ok(Ok(old))` if it was, `Ok(Err(old))` if not, as `core` does.
///
/// Differs from the kernel's `user_cmpxchg`: any size, and the caller chooses the orderings.
///
/// # Errors
/// The [`Fault`] if the value cannot be loaded and stored (even if it is not `current`), is misaligned, or the size or an
/// ordering is [unsupported](crate::raw#scalars).
///
/// # Safety
/// As [`store`].
#[doc(alias = "try_cmpxchg_user")]
#[doc(alias = "futex_atomic_cmpxchg_inatomic")]
#[inline(always)]
pub unsafe fn compare_exchange<T: Scalar>(
    ptr: *mut T,
    current: T,
    new: T,
    success: Ordering,
    failure: Ordering,
) -> Result<Result<T, T>, Fault> {
    aligned(ptr, Access::Write)?;
    if matches!(failure, Ordering::Release | Ordering::AcqRel) {
        return Err(Fault::rejected(Access::Write, Cause::Unsupported, ptr.addr()));
    }
    // SAFETY: forwarded.
    unsafe { T::compare_exchange(ptr, current, new, success, failure) }
}

macro_rules! fetch {
    ($($name:ident $doc:literal;)*) => {$(
        #[doc = $doc]
        ///
        /// # Errors
        /// The [`Fault`] if the value cannot be loaded and stored, is misaligned, or the size or `order` is
        /// [unsupported](crate::raw#scalars).
        ///
        /// # Safety
        /// As [`store`].
        #[doc(alias = "futex_atomic_op_inuser")]
        #[inline(always)]
        pub unsafe fn $name<T: Scalar>(ptr: *mut T, value: T, order: Ordering) -> Result<T, Fault> {
            aligned(ptr, Access::Write)?;
            // SAFETY: forwarded.
            unsafe { T::$name(ptr, value, order) }
        }
    )*};
}
fetch! {
    fetch_add "Adds (wrapping) and returns the old value: one instruction on x86-64 up to 64 bits.";
    fetch_and "Bitwise and; returns the old value. A loop of load and compare-exchange on x86-64.";
    fetch_or "Bitwise or; returns the old value. A loop of load and compare-exchange on x86-64.";
    fetch_xor "Bitwise exclusive or; returns the old value. A loop of load and compare-exchange on x86-64.";
}

/// Subtracts (wrapping) and returns the old value.
///
/// # Errors
/// The [`Fault`] if the value cannot be loaded and stored, is misaligned, or the size or `order` is
/// [unsupported](crate::raw#scalars).
///
/// # Safety
/// As [`store`].
#[inline(always)]
pub unsafe fn fetch_sub<T: Scalar>(ptr: *mut T, value: T, order: Ordering) -> Result<T, Fault> {
    // SAFETY: forwarded.
    unsafe { fetch_add(ptr, value.wrapping_neg(), order) }
}

macro_rules! fetch_update {
    ($($name:ident $with:ident $doc:literal;)*) => {$(
        #[doc = $doc]
        /// Runs a loop of load and compare-exchange.
        ///
        /// # Errors
        /// The [`Fault`] if the value cannot be loaded and stored, is misaligned, or the size or `order` is
        /// [unsupported](crate::raw#scalars).
        ///
        /// # Safety
        /// As [`store`].
        #[inline(always)]
        pub unsafe fn $name<T: Scalar>(ptr: *mut T, value: T, order: Ordering) -> Result<T, Fault> {
            aligned(ptr, Access::Write)?;
            // SAFETY: forwarded. A torn first value (128 bits) only costs one more round.
            let mut old = unsafe { T::load(ptr) }.map_err(|fault| fault.of_kind(Access::Write))?;
            loop {
                // SAFETY: forwarded.
                match unsafe { T::compare_exchange(ptr, old, old.$with(value), order, Ordering::Relaxed) }? {
                    Ok(old) => return Ok(old),
                    Err(now) => old = now,
                }
            }
        }
    )*};
}
fetch_update! {
    fetch_nand nand "Bitwise not-and; returns the old value.";
    fetch_max larger "The larger of both; returns the old value.";
    fetch_min smaller "The smaller of both; returns the old value.";
}
