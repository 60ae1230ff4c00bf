//! One function per operation and type, so that the check finds each inlined access in its own function.
//!
//! None is ever called. Their arguments and results are plain integers, so that the operation's access is the only one
//! through a pointer in a register.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// A function of this module: its name and its address.
pub type Operation = (&'static str, usize);

macro_rules! operations {
    (@one $list:ident $ty:ident $name:literal |$ptr:ident, $a:ident, $b:ident| $body:expr) => {{
        /// # Safety
        /// As the operation.
        #[inline(never)]
        unsafe extern "C" fn operation($ptr: *mut $ty, $a: u64, $b: u64) -> bool {
            let _ = ($a, $b);
            // SAFETY: forwarded.
            unsafe { $body }
        }
        $list.push((concat!(stringify!($ty), "::", $name), operation as *const () as usize));
    }};
    ($($ty:ident)*) => {
        /// All of them.
        pub fn all() -> Vec<Operation> {
            let mut list = Vec::new();
            $(
                operations!(@one list $ty "load" |p, _a, _b| faultin::raw::load(p).is_ok());
                operations!(@one list $ty "store" |p, a, _b| faultin::raw::store(p, a as $ty).is_ok());
                operations!(@one list $ty "load relaxed" |p, _a, _b| faultin::raw::load_atomic(p, Relaxed).is_ok());
                operations!(@one list $ty "load acquire" |p, _a, _b| faultin::raw::load_atomic(p, Acquire).is_ok());
                operations!(@one list $ty "load seqcst" |p, _a, _b| faultin::raw::load_atomic(p, SeqCst).is_ok());
                operations!(@one list $ty "store relaxed" |p, a, _b| faultin::raw::store_atomic(p, a as $ty, Relaxed).is_ok());
                operations!(@one list $ty "store release" |p, a, _b| faultin::raw::store_atomic(p, a as $ty, Release).is_ok());
                operations!(@one list $ty "store seqcst" |p, a, _b| faultin::raw::store_atomic(p, a as $ty, SeqCst).is_ok());
                operations!(@one list $ty "swap" |p, a, _b| faultin::raw::swap(p, a as $ty).is_ok());
                operations!(@one list $ty "compare_exchange" |p, a, b| {
                    faultin::raw::compare_exchange(p, a as $ty, b as $ty, AcqRel, Acquire).is_ok()
                });
                operations!(@one list $ty "fetch_add" |p, a, _b| faultin::raw::fetch_add(p, a as $ty, AcqRel).is_ok());
                operations!(@one list $ty "fetch_sub" |p, a, _b| faultin::raw::fetch_sub(p, a as $ty, AcqRel).is_ok());
                operations!(@one list $ty "fetch_and" |p, a, _b| faultin::raw::fetch_and(p, a as $ty, AcqRel).is_ok());
                operations!(@one list $ty "fetch_or" |p, a, _b| faultin::raw::fetch_or(p, a as $ty, AcqRel).is_ok());
                operations!(@one list $ty "fetch_xor" |p, a, _b| faultin::raw::fetch_xor(p, a as $ty, AcqRel).is_ok());
                operations!(@one list $ty "fetch_nand" |p, a, _b| faultin::raw::fetch_nand(p, a as $ty, AcqRel).is_ok());
                operations!(@one list $ty "fetch_max" |p, a, _b| faultin::raw::fetch_max(p, a as $ty, AcqRel).is_ok());
                operations!(@one list $ty "fetch_min" |p, a, _b| faultin::raw::fetch_min(p, a as $ty, AcqRel).is_ok());
            )*
            #[cfg(target_arch = "x86_64")]
            list.push(("counting_copy_short", counting_copy_short as *const () as usize));
            list
        }
    };
}
/// # Safety
/// As the operation.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
unsafe extern "C" fn counting_copy_short(
    dst: *mut u8,
    src: *const u8,
    len: usize,
    caller: *mut core::ffi::c_void,
) -> usize {
    // SAFETY: forwarded.
    unsafe { faultin::raw::counting_copy_short(dst, src, len, caller) }
}
operations!(u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 usize isize);

/// References the other code of the crate with table entries, so that it is linked into this executable.
pub fn link_the_rest() {
    let functions: [*const (); 20] = [
        faultin::raw::copy_in as *const (),
        faultin::raw::copy_out as *const (),
        faultin::raw::copy as *const (),
        faultin::raw::copy_unpredictable as *const (),
        faultin::raw::fill as *const (),
        faultin::raw::strnlen as *const (),
        faultin::raw::strncpy as *const (),
        faultin::raw::is_zeroed as *const (),
        faultin::raw::compare as *const (),
        faultin::raw::find as *const (),
        faultin::raw::rfind as *const (),
        faultin::raw::find_any::<3> as *const (),
        faultin::raw::rfind_byte as *const (),
        faultin::raw::count_byte as *const (),
        faultin::raw::crc32c as *const (),
        faultin::raw::fault_in_writeable as *const (),
        faultin::raw::fault_in_readable as *const (),
        faultin::raw::probe_write as *const (),
        faultin::fpstate::save as *const (),
        faultin::fpstate::restore as *const (),
    ];
    std::hint::black_box(functions);
}
