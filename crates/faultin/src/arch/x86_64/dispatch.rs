//! The choice of the copies for this CPU: made by the first call, as an ifunc is, so that later calls need no test.
//!
//! Callers in other crates call [`copy`] and [`copy_unpredictable`], which jump through a pointer of this object: code is
//! reached directly, a pointer in another crate only by way of the global offset table.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

#[cfg(feature = "internals")]
use super::copy_vector::LIMITS;
use super::copy_vector::{
    copy_avx2, copy_avx512, copy_sse2, copy_streaming_avx512, copy_streaming_sse2, copy_unpredictable_avx512,
    copy_unpredictable_sse2, counting_copy_avx2, counting_copy_avx512, counting_copy_sse2,
};
use super::cpu::{self, Vector};
use crate::copy::CountingCopy;

static COPY: AtomicPtr<()> = AtomicPtr::new(resolve_copy as *mut ());
static COPY_UNPREDICTABLE: AtomicPtr<()> = AtomicPtr::new(resolve_unpredictable as *mut ());
static COPY_STREAMING: AtomicPtr<()> = AtomicPtr::new(resolve_streaming as *mut ());
/// Whether memory is scanned with 32-byte registers.
static WIDE: AtomicBool = AtomicBool::new(false);

#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy() {
    naked_asm!("jmp [rip + {slot}]", slot = sym COPY)
}

#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_unpredictable() {
    naked_asm!("jmp [rip + {slot}]", slot = sym COPY_UNPREDICTABLE)
}

#[unsafe(naked)]
pub(super) unsafe extern "C" fn copy_streaming() {
    naked_asm!("jmp [rip + {slot}]", slot = sym COPY_STREAMING)
}

/// Returns the counting copy for this CPU.
pub(crate) fn counting_copy() -> CountingCopy {
    settle();
    let routine = match cpu::widest() {
        Vector::Avx512 => counting_copy_avx512 as *const (),
        Vector::Avx2 => counting_copy_avx2 as *const (),
        Vector::Sse2 => counting_copy_sse2 as *const (),
    };
    // SAFETY: routines that take these arguments.
    unsafe { core::mem::transmute::<*const (), CountingCopy>(routine) }
}

/// Sets the entries to the copies for `vector`, whatever the CPU detection says: for tests of every path that the CPU can
/// run.
pub(crate) fn select(vector: Vector) {
    let (copy, unpredictable, streaming) = match vector {
        Vector::Avx512 => {
            (copy_avx512 as *mut (), copy_unpredictable_avx512 as *mut (), copy_streaming_avx512 as *mut ())
        }
        Vector::Avx2 => (copy_avx2 as *mut (), copy_unpredictable_sse2 as *mut (), copy_streaming_sse2 as *mut ()),
        Vector::Sse2 => (copy_sse2 as *mut (), copy_unpredictable_sse2 as *mut (), copy_streaming_sse2 as *mut ()),
    };
    COPY.store(copy, Ordering::Relaxed);
    COPY_UNPREDICTABLE.store(unpredictable, Ordering::Relaxed);
    COPY_STREAMING.store(streaming, Ordering::Relaxed);
    WIDE.store(vector >= Vector::Avx2, Ordering::Relaxed);
}

/// Returns whether this CPU has AVX2, and no narrower width was selected.
pub(crate) fn wide() -> bool {
    settle();
    WIDE.load(Ordering::Relaxed)
}

#[cfg(feature = "internals")]
const NAMES: [(&str, Vector); 3] = [("avx512", Vector::Avx512), ("avx2", Vector::Avx2), ("sse2", Vector::Sse2)];

/// Returns the widths of this CPU, widest first.
#[cfg(feature = "internals")]
pub(crate) fn names() -> Vec<&'static str> {
    NAMES.iter().filter(|(_, vector)| *vector <= cpu::widest()).map(|(name, _)| *name).collect()
}

/// Selects a width by name, if the CPU has it.
#[cfg(feature = "internals")]
pub(crate) fn select_by_name(name: &str) -> bool {
    resolved();
    match NAMES.iter().find(|(n, vector)| *n == name && *vector <= cpu::widest()) {
        Some((_, vector)) => {
            select(*vector);
            true
        }
        None => false,
    }
}

/// Returns the sizes at which the vector copies change their way.
#[cfg(feature = "internals")]
pub(crate) fn thresholds() -> [usize; 3] {
    resolved();
    [&LIMITS.rep_min, &LIMITS.rep_max, &LIMITS.nt_min].map(|limit| limit.load(Ordering::Relaxed))
}

/// Sets these sizes, for tests.
#[cfg(feature = "internals")]
pub(crate) fn set_thresholds(thresholds: [usize; 3]) {
    resolved();
    for (limit, value) in [&LIMITS.rep_min, &LIMITS.rep_max, &LIMITS.nt_min].into_iter().zip(thresholds) {
        // Below this the large paths, which align first, would have nothing left to do.
        limit.store(value.max(640), Ordering::Relaxed);
    }
}

/// Resolves once: a second time would undo the choice of a test.
#[cfg(feature = "internals")]
fn resolved() {
    if COPY.load(Ordering::Relaxed) == resolve_copy as *mut () {
        resolve();
    }
}

/// Chooses the copies now, if no copy has yet: a jump that first led to a resolver is predicted as one with several
/// targets, and costs cycles for a while.
pub(crate) fn settle() {
    if COPY.load(Ordering::Relaxed) == resolve_copy as *mut () {
        resolve();
    }
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
                "cld",
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
resolver!(resolve_streaming, COPY_STREAMING);
