//! The [passes](super::pass) with the widest registers of this CPU.

use super::look::Look;
use super::pass;
use crate::arch::Block;
use crate::fault::{Fault, Short};

macro_rules! widest {
    ($($name:ident -> $result:ty;)*) => {$(
        #[doc = concat!("[`pass::", stringify!($name), "`].")]
        ///
        /// # Safety
        /// The look may load what `len` positions need.
        pub(super) unsafe fn $name<L: Look>(look: &L, len: usize) -> $result {
            #[cfg(all(target_arch = "x86_64", not(any(faultin_syscall, faultin_portable))))]
            {
                /// # Safety
                /// As above, and the CPU has AVX2.
                #[target_feature(enable = "avx2")]
                unsafe fn wide<L: Look>(look: &L, len: usize) -> $result {
                    // SAFETY: forwarded.
                    unsafe { pass::$name::<crate::arch::Wide, L>(look, len) }
                }
                if crate::arch::dispatch::wide() {
                    // SAFETY: forwarded; the CPU has AVX2.
                    return unsafe { wide(look, len) };
                }
            }
            // SAFETY: forwarded; every target has these registers.
            unsafe { pass::$name::<Block, L>(look, len) }
        }
    )*};
}
widest! {
    first -> Result<Option<usize>, Short>;
    count -> Result<usize, Short>;
    last -> Result<Option<usize>, (usize, Fault)>;
}

/// [`pass::positions`].
pub(super) fn positions(bytes: &[u8], byte: u8, from: usize, out: &mut [u32]) -> (usize, usize) {
    #[cfg(all(target_arch = "x86_64", not(any(faultin_syscall, faultin_portable))))]
    {
        /// # Safety
        /// The CPU has these features.
        #[target_feature(enable = "avx2,popcnt,bmi1")]
        unsafe fn wide(bytes: &[u8], byte: u8, from: usize, out: &mut [u32]) -> (usize, usize) {
            // SAFETY: forwarded.
            unsafe { pass::positions::<crate::arch::Wide>(bytes, byte, from, out) }
        }
        if crate::arch::dispatch::wide() {
            // SAFETY: what is wide has these features.
            return unsafe { wide(bytes, byte, from, out) };
        }
    }
    // SAFETY: every target has these registers.
    unsafe { pass::positions::<Block>(bytes, byte, from, out) }
}
