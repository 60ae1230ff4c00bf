//! What a handler knows of the code that it interrupted, and of the stack that it runs on.

/// Bytes that our handler needs on the stack below the kernel's frame, to recover from a fault of ours or to pass a signal on,
/// with every check of a debug build. `tests/handler/room.rs` holds the handler to it.
pub(crate) const HANDLER: usize = 2048;

/// Bytes that a guard needs below the frame of [`serve_others`](super::handler), counted likewise.
pub(super) const GUARD: usize = 2048;

/// What [`Pager::in_signal`](super::pager::Pager::in_signal) is told of the thread that it runs on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[repr(C)]
pub struct Interrupted {
    /// The signals that the interrupted code blocks, one bit each, the lowest for signal 1. A signal that is pending and not among
    /// them is delivered when the handler returns, and no earlier.
    pub blocked: u64,
    /// Bytes that are left on the thread's alternate signal stack. `usize::MAX` where the handler does not run on one: what such
    /// a stack has left is not known, and an overflow of it meets its guard page.
    pub room: usize,
}

impl Interrupted {
    /// Of the code whose registers these are.
    #[inline(always)]
    pub(super) fn of(context: &libc::ucontext_t) -> Interrupted {
        let here = 0_u8;
        let here = (&raw const here).addr();
        // The kernel notes the alternate stack in the frame, also one that it takes away while a handler runs (SS_AUTODISARM).
        let stack = &context.uc_stack;
        let used_up = here.wrapping_sub(stack.ss_sp.addr());
        let room = if used_up < stack.ss_size { used_up } else { usize::MAX };
        Interrupted { blocked: interrupted_mask(context), room }
    }
}

/// The signals that the interrupted code blocks, in the kernel's set.
pub(super) fn interrupted_mask(context: &libc::ucontext_t) -> u64 {
    const { assert!(size_of::<libc::sigset_t>() >= size_of::<u64>()) };
    // SAFETY: the C library's signal set begins with the kernel's.
    unsafe { (&raw const context.uc_sigmask).cast::<u64>().read_unaligned() }
}
