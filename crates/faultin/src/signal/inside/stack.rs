//! The data that a handler has about the interrupted code and its own stack.

/// Size in bytes that our handler needs on the stack below the kernel's frame, to recover from a fault of ours or to pass a
/// signal on, with every check of a debug build. `tests/handler/room.rs` enforces it.
pub(crate) const HANDLER: usize = 2048;

/// Size in bytes that a guard needs below the frame of [`serve_others`](super::handler), with the same checks.
pub(super) const GUARD: usize = 2048;

/// The data that [`Pager::in_signal`](super::pager::Pager::in_signal) gets about the thread that it runs on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[repr(C)]
pub struct SignalContext {
    /// The signals that the interrupted code blocks, one bit each, the lowest for signal 1. A pending signal that is not
    /// among them is delivered when the handler returns, and no earlier.
    pub blocked: u64,
    /// Number of bytes left on the thread's alternate signal stack. `usize::MAX` where the handler runs on another stack:
    /// the room there is unknown, and an overflow meets the guard page.
    pub room: usize,
}

impl SignalContext {
    /// Reads the data of the code whose registers these are.
    #[inline(always)]
    pub(super) fn of(context: &libc::ucontext_t) -> SignalContext {
        let here = 0_u8;
        let here = (&raw const here).addr();
        // The kernel notes the alternate stack in the frame, also one that it disarms while a handler runs (SS_AUTODISARM).
        let stack = &context.uc_stack;
        let used_up = here.wrapping_sub(stack.ss_sp.addr());
        let room = if used_up < stack.ss_size { used_up } else { usize::MAX };
        SignalContext { blocked: interrupted_mask(context), room }
    }
}

/// Returns the signals that the interrupted code blocks, in the kernel's set.
pub(super) fn interrupted_mask(context: &libc::ucontext_t) -> u64 {
    const { assert!(size_of::<libc::sigset_t>() >= size_of::<u64>()) };
    // SAFETY: the C library's signal set begins with the kernel's.
    unsafe { (&raw const context.uc_sigmask).cast::<u64>().read_unaligned() }
}
