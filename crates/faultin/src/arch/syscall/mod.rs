//! Architectures without assembly of this crate: the kernel makes every access (see [`signal_free`](crate::signal_free)).
//!
//! The interface is that of the other folders. There is no exception table, so no handler is needed, and installing one
//! succeeds without doing anything. `--cfg faultin_syscall` builds this on any machine, for its tests.
//!
//! Nothing is atomic here, so the atomic operations are [`Cause::Unsupported`].

use core::sync::atomic::Ordering;

use crate::fault::outcome::FaultCode;
use crate::fault::outcome::Outcome;
use crate::fault::{Access, Cause, Fault, Short};
use crate::signal_free;
use crate::table::Object;

pub(crate) mod context;
pub(crate) mod cpu;
pub(crate) mod dispatch;
#[cfg(feature = "internals")]
pub mod fpstate;
mod wide;

pub use wide::Block;

/// Whether accesses fault in the thread that makes them.
pub(crate) const HAS_TABLE: bool = false;

/// A page size that is the smallest of any architecture.
pub(crate) const MIN_PAGE: usize = 1 << 10;

pub(crate) const fn untag(address: usize) -> usize {
    address
}

pub(crate) const fn less_canonical(_a: usize, _b: usize) -> bool {
    false
}

/// An object with an empty table.
pub(crate) fn object() -> &'static Object {
    static OBJECT: Object = Object::empty();
    &OBJECT
}

fn outcome(dst: *mut u8, result: Result<(), Short>, len: usize) -> Outcome {
    match result {
        Ok(()) => Outcome { code: 0, si_addr: 0, reached: dst.addr().wrapping_add(len) },
        Err(short) => Outcome {
            code: FaultCode::of(&short.fault).0,
            si_addr: short.fault.address().unwrap_or(0),
            reached: dst.addr().wrapping_add(short.done),
        },
    }
}

/// # Safety
/// As `signal_free::copy_in`, where both ranges may be foreign memory.
pub(crate) unsafe fn copy_bytes(dst: *mut u8, src: *const u8, len: usize) -> Outcome {
    // SAFETY: the kernel checks both ranges; forwarded.
    let result = unsafe { signal_free::copy_in(dst, src, len) };
    let result = result.map_err(|short| {
        let (from, to) = (src.wrapping_add(short.done).addr(), dst.wrapping_add(short.done).addr());
        if short.fault.cause() == Cause::Unsupported {
            return short;
        }
        // The kernel does not report which side it was.
        let fault = match (signal_free::touch(Access::Read, from), signal_free::touch(Access::Write, to)) {
            (Err(fault), _) | (Ok(()), Err(fault)) => fault,
            // Its owner has made it accessible since.
            (Ok(()), Ok(())) => short.fault,
        };
        Short { fault, ..short }
    });
    outcome(dst, result, len)
}

/// # Safety
/// As [`copy_bytes`].
pub(crate) unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) -> Outcome {
    // SAFETY: forwarded.
    unsafe { copy_bytes(dst, src, len) }
}

/// # Safety
/// As [`copy_bytes`].
pub(crate) unsafe fn copy_streaming(dst: *mut u8, src: *const u8, len: usize) -> Outcome {
    // SAFETY: forwarded.
    unsafe { copy_bytes(dst, src, len) }
}

/// # Safety
/// As [`copy_bytes`].
pub(crate) unsafe fn copy_unpredictable(dst: *mut u8, src: *const u8, len: usize) -> Outcome {
    // SAFETY: forwarded.
    unsafe { copy_bytes(dst, src, len) }
}

/// # Safety
/// As `signal_free::fill`.
pub(crate) unsafe fn fill_bytes(dst: *mut u8, byte: u8, len: usize) -> Outcome {
    // SAFETY: forwarded.
    outcome(dst, unsafe { signal_free::fill(dst, byte, len) }, len)
}

/// # Safety
/// As [`fill_bytes`].
pub(crate) unsafe fn fill(dst: *mut u8, byte: u8, len: usize) -> Outcome {
    // SAFETY: forwarded.
    unsafe { fill_bytes(dst, byte, len) }
}

macro_rules! scalars {
    ($($ty:ident $load:ident $store:ident $aload:ident $astore:ident $swap:ident $cas:ident
        [$($fetch:ident)*];)*) => {$(
        /// # Safety
        /// As `signal_free::load`.
        pub unsafe fn $load(ptr: *const $ty) -> Result<$ty, Fault> {
            let mut bytes = [0; size_of::<$ty>()];
            // SAFETY: a local array; forwarded.
            unsafe { signal_free::copy_in(bytes.as_mut_ptr(), ptr.cast(), bytes.len()) }.map_err(|s| s.fault)?;
            Ok($ty::from_ne_bytes(bytes))
        }

        /// # Safety
        /// As `signal_free::store`.
        pub unsafe fn $store(ptr: *mut $ty, value: $ty) -> Result<(), Fault> {
            let bytes = value.to_ne_bytes();
            // SAFETY: a local array; forwarded.
            unsafe { signal_free::store_bytes(ptr.cast(), bytes.as_ptr(), bytes.len()) }
        }

        /// # Safety
        /// None: always fails.
        pub unsafe fn $aload(ptr: *const $ty, _: Ordering) -> Result<$ty, Fault> {
            Err(Fault::rejected(Access::Read, Cause::Unsupported, ptr.addr()))
        }

        /// # Safety
        /// None: always fails.
        pub unsafe fn $astore(ptr: *mut $ty, _: $ty, _: Ordering) -> Result<(), Fault> {
            Err(Fault::rejected(Access::Write, Cause::Unsupported, ptr.addr()))
        }

        /// # Safety
        /// None: always fails.
        pub unsafe fn $swap(ptr: *mut $ty, _: $ty) -> Result<$ty, Fault> {
            Err(Fault::rejected(Access::Write, Cause::Unsupported, ptr.addr()))
        }

        /// # Safety
        /// None: always fails.
        pub unsafe fn $cas(ptr: *mut $ty, _: $ty, _: $ty, _: Ordering, _: Ordering) -> Result<Result<$ty, $ty>, Fault> {
            Err(Fault::rejected(Access::Write, Cause::Unsupported, ptr.addr()))
        }

        $(
        /// # Safety
        /// None: always fails.
        pub unsafe fn $fetch(ptr: *mut $ty, _: $ty, _: Ordering) -> Result<$ty, Fault> {
            Err(Fault::rejected(Access::Write, Cause::Unsupported, ptr.addr()))
        }
        )*
    )*};
}
scalars! {
    u8 load_8 store_8 atomic_load_8 atomic_store_8 swap_8 compare_exchange_8
        [fetch_add_8 fetch_and_8 fetch_or_8 fetch_xor_8];
    u16 load_16 store_16 atomic_load_16 atomic_store_16 swap_16 compare_exchange_16
        [fetch_add_16 fetch_and_16 fetch_or_16 fetch_xor_16];
    u32 load_32 store_32 atomic_load_32 atomic_store_32 swap_32 compare_exchange_32
        [fetch_add_32 fetch_and_32 fetch_or_32 fetch_xor_32];
    u64 load_64 store_64 atomic_load_64 atomic_store_64 swap_64 compare_exchange_64
        [fetch_add_64 fetch_and_64 fetch_or_64 fetch_xor_64];
    u128 load_128 store_128 atomic_load_128 atomic_store_128 swap_128 compare_exchange_128
        [fetch_add_128 fetch_and_128 fetch_or_128 fetch_xor_128];
}

impl Block {
    /// Returns one bit per byte that is zero, the first byte's lowest.
    pub fn zero_bytes(self) -> u32 {
        self.0.iter().rev().fold(0, |bits, &b| bits << 1 | u32::from(b == 0))
    }

    /// Returns the bytes in memory order.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

/// # Safety
/// As `signal_free::copy_in`.
pub unsafe fn load_vector(ptr: *const u8) -> Result<Block, Fault> {
    let mut bytes = [0; 16];
    // SAFETY: a local array; forwarded.
    unsafe { signal_free::copy_in(bytes.as_mut_ptr(), ptr, 16) }.map_err(|short| short.fault)?;
    Ok(Block(bytes))
}

/// # Safety
/// None: the kernel checks.
pub unsafe fn touch_read(ptr: *const u8) -> Result<(), Fault> {
    signal_free::touch(Access::Read, ptr.addr())
}

/// Number of bytes, each at its own address, that [`touch_read_many`] loads.
pub const MANY: usize = 8;

/// # Safety
/// As [`touch_read`], for each byte.
pub unsafe fn touch_read_many<const STRIDE: usize>(ptr: *const u8) -> Result<(), Fault> {
    // SAFETY: forwarded.
    (0..MANY).try_for_each(|i| unsafe { touch_read(ptr.wrapping_add(i * STRIDE)) })
}

/// Adds 0 to the word of the byte, which loses no store of another thread.
///
/// # Safety
/// The byte is foreign memory that its owner lets us write.
pub unsafe fn touch_write(ptr: *mut u8) -> Result<(), Fault> {
    signal_free::touch(Access::Write, ptr.addr())
}
