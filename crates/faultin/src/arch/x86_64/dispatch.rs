//! Which copy this CPU gets: settled by the first call, as an ifunc is, so that no call asks.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::copy_vector::{copy_avx2, copy_avx512, copy_sse2, copy_unpredictable_avx512};
use super::cpu::{self, Vector};

pub(super) static COPY: AtomicPtr<()> = AtomicPtr::new(resolve_copy as *mut ());
pub(super) static COPY_UNPREDICTABLE: AtomicPtr<()> = AtomicPtr::new(resolve_unpredictable as *mut ());

/// Points both entries at the copies for `vector`, whatever the CPU: for tests of every path the CPU can run.
pub(crate) fn select(vector: Vector) {
    let (copy, unpredictable) = match vector {
        Vector::Avx512 => (copy_avx512 as *mut (), copy_unpredictable_avx512 as *mut ()),
        Vector::Avx2 => (copy_avx2 as *mut (), copy_avx2 as *mut ()),
        Vector::Sse2 => (copy_sse2 as *mut (), copy_sse2 as *mut ()),
    };
    COPY.store(copy, Ordering::Relaxed);
    COPY_UNPREDICTABLE.store(unpredictable, Ordering::Relaxed);
}

extern "C" fn resolve() {
    cpu::tune();
    select(cpu::widest());
}

macro_rules! resolver {
    ($name:ident, $slot:ident) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            naked_asm!(
                "push rdi",
                "push rsi",
                "push rdx",
                "call {resolve}",
                "pop rdx",
                "pop rsi",
                "pop rdi",
                "jmp [rip + {slot}]",
                resolve = sym resolve,
                slot = sym $slot,
            )
        }
    };
}
resolver!(resolve_copy, COPY);
resolver!(resolve_unpredictable, COPY_UNPREDICTABLE);
