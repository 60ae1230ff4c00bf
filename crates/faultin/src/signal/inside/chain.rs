//! Passing a signal on to the handler that was installed before ours, as the kernel would have.
//!
//! SAFETY.md lists what is emulated and what must differ. No code here may build a cycle. Our handler has one
//! [entry](super::handler::ENTRIES) per *generation*, an installation: the signal goes to the handler that was there just
//! before the generation that was entered. So a handler that was above an older generation of ours, and has a younger one
//! above it now, leads down to the older one, and from there further down. A handler that installed itself twice may still
//! lead in a circle of its own; each pass of a signal through us is noted in its context, and none goes the same way twice.

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering;

use super::disposition::{Action, Disposition};
use super::handler::{self, Entry, bit, is_asynchronous};
use super::registry::Registry;
use super::stack;
use crate::arch::context::syscall4;

/// The kernel's `struct sigaction`, not the C library's.
#[repr(C)]
struct KernelSigaction {
    handler: usize,
    flags: usize,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    restorer: usize,
    mask: u64,
}

impl KernelSigaction {
    const DEFAULT: Self = KernelSigaction {
        handler: libc::SIG_DFL,
        flags: 0,
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        restorer: 0,
        mask: 0,
    };
}

/// The bits that show that [`handler::MASK`] is in force. A user-mode emulator keeps the last two signals for itself.
const SHOWN: u64 = handler::MASK & !(bit(63) | bit(64));

/// The signals that the kernel lets no thread block.
const UNBLOCKABLE: u64 = bit(libc::SIGKILL) | bit(libc::SIGSTOP);

/// Size of the kernel's `sigset_t`, in bytes.
const SIGSET: usize = size_of::<u64>();

/// One pass of a signal through a registry's handler. The passes that are under way for the same signal form a list that
/// begins in `uc_link` of its context: the kernel leaves that word 0 and does not read it back.
#[repr(C, align(16))]
struct Pass {
    registry: *const Registry,
    generation: usize,
    outer: usize,
}

/// Marks a pointer in `uc_link` as a [`Pass`]: no `ucontext_t` has such an address.
const PASS_TAG: usize = 5;

impl Pass {
    /// Returns the pass that `word` leads to, if it is one.
    ///
    /// # Safety
    /// `word` comes from `uc_link` of a signal that is still being handled, or from a pass of such a signal.
    unsafe fn at<'a>(word: usize) -> Option<&'a Pass> {
        if word & 15 != PASS_TAG {
            return None;
        }
        // SAFETY: a tagged word points to a pass in a frame of `forward` that has not returned: it restores `uc_link`
        // before it does.
        Some(unsafe { &*core::ptr::with_exposed_provenance::<Pass>(word - PASS_TAG) })
    }
}

/// Passes the signal on to the predecessor of this `generation` of our handler.
///
/// # Safety
/// As [`recover`](super::handler::recover), except that `info` and `context` may be null.
#[cold]
#[inline(never)]
pub(crate) unsafe fn forward(
    registry: &Registry,
    generation: usize,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    let Some(previous) = registry.previous(signal) else { return };
    let context = context.cast::<libc::ucontext_t>();
    let link = if context.is_null() {
        core::ptr::null_mut()
    } else {
        // SAFETY: a signal's context by contract.
        unsafe { (&raw mut (*context).uc_link).cast::<usize>() }
    };
    // SAFETY: not null, and a part of the context.
    let outer = if link.is_null() { 0 } else { unsafe { *link } };
    // SAFETY: `outer` is this signal's `uc_link`.
    let (taken, nested) = unsafe { taken(registry, outer) };
    if !nested {
        registry.forwarded.fetch_add(1, Ordering::Relaxed);
    }
    // The handler that the kernel calls has had this signal.
    let top = current_handler(signal);
    for (generation, before) in previous.before.iter().enumerate().take(generation + 1).rev() {
        let Some(action) = before.get() else { continue };
        if taken & (1 << generation) != 0 || Some(action.handler) == top {
            continue;
        }
        let pass = Pass { registry, generation, outer };
        // SAFETY: `link` is null or a part of the context. The rest is forwarded.
        unsafe {
            if !link.is_null() {
                link.write((&raw const pass).expose_provenance() | PASS_TAG);
            }
            deliver(&action, before, signal, info, context.cast());
            if !link.is_null() {
                link.write(outer);
            }
        }
        return;
    }
    // Every way down leads back to here: there the chain ends, with the default action.
    // SAFETY: forwarded.
    unsafe { die(signal, info) }
}

/// Returns the generations whose way down this signal has taken in this registry, one bit each, and whether it has taken
/// any.
///
/// # Safety
/// As [`Pass::at`].
unsafe fn taken(registry: &Registry, mut word: usize) -> (usize, bool) {
    let (mut taken, mut nested) = (0, false);
    // SAFETY: forwarded.
    while let Some(pass) = unsafe { Pass::at(word) } {
        if core::ptr::eq(pass.registry, registry) {
            taken |= 1 << pass.generation;
            nested = true;
        }
        word = pass.outer;
    }
    (taken, nested)
}

/// # Safety
/// As [`forward`]; `action` was in force for `signal`, and `before` is its record.
unsafe fn deliver(
    action: &Action,
    before: &Disposition,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    // The second signal of a one-shot handler gets the default action.
    let spent = action.flags & libc::SA_RESETHAND != 0 && before.spent.swap(1, Ordering::Relaxed) != 0;
    match if spent { libc::SIG_DFL } else { action.handler } {
        // The kernel does not let a process ignore its own fault: it resets the disposition and kills.
        // SAFETY: `info` is null or the signal's.
        libc::SIG_IGN if unsafe { info.as_ref() }.is_none_or(|info| is_asynchronous(signal, info.si_code)) => {}
        // SAFETY: forwarded.
        libc::SIG_DFL | libc::SIG_IGN => unsafe { die(signal, info) },
        handler => {
            let deferred = if action.flags & libc::SA_NODEFER == 0 { bit(signal) } else { 0 };
            // SAFETY: `context` is null or the signal's.
            let mask = unsafe { PredecessorMask::enter(action.mask | deferred, context) };
            // SAFETY: neither default nor "ignore", so a function, of the type that its flags say.
            unsafe {
                if action.flags & libc::SA_SIGINFO != 0 {
                    let call: Entry = core::mem::transmute(handler);
                    call(signal, info, context);
                } else {
                    let call: unsafe extern "C-unwind" fn(c_int) = core::mem::transmute(handler);
                    call(signal);
                }
            }
            mask.leave(signal);
        }
    }
}

/// The thread's mask around the call of a predecessor, which must run with the mask that it asked for and not with what our
/// handler blocks: it may need the signals, may never return, and may read the mask.
struct PredecessorMask {
    /// The mask that was in force before.
    before: u64,
    /// Whether the kernel called us.
    by_kernel: bool,
}

impl PredecessorMask {
    /// Blocks `own`, as the kernel would have: in addition to what the interrupted code blocks if the kernel called us. If
    /// another handler did, the mask in force is that handler's, and nothing of it is unblocked.
    ///
    /// The kernel called us if the mask that it sets for our handler is in force: all of [`handler::MASK`], and not the
    /// signals that it leaves open. The stack does not tell: a handler that passes a signal on by a jump leaves it as the
    /// kernel did.
    ///
    /// # Safety
    /// `context` is null or the signal's.
    unsafe fn enter(own: u64, context: *const c_void) -> PredecessorMask {
        let before = change_mask(libc::SIG_BLOCK, own);
        // SAFETY: not null, so the signal's.
        let interrupted = unsafe { context.cast::<libc::ucontext_t>().as_ref() }.map(stack::interrupted_mask);
        // A thread in sigsuspend(2) or ppoll(2) has another mask than the frame's, of which only the signals that our
        // handler leaves open are still visible. (A handler that blocks even those was not called by the kernel.)
        let is_kernels = before & SHOWN == SHOWN && before | handler::MASK != !UNBLOCKABLE;
        let interrupted = interrupted.filter(|_| is_kernels);
        if let Some(interrupted) = interrupted {
            change_mask(libc::SIG_SETMASK, interrupted & handler::MASK | before & !handler::MASK | own);
        }
        PredecessorMask { before, by_kernel: interrupted.is_some() }
    }

    /// Restores the mask that was in force, except that a pending `signal` stays pending: one that the predecessor, or
    /// [`die`] beneath it, has sent must strike at the interrupted instruction, when the kernel restores its mask.
    fn leave(self, signal: c_int) {
        if self.by_kernel {
            // Our own return follows, so signals that the predecessor has left blocked may stay blocked until then.
            change_mask(libc::SIG_BLOCK, self.before);
        } else {
            change_mask(libc::SIG_SETMASK, self.before | pending() & bit(signal));
        }
    }
}

/// Takes the default action, with the original `siginfo` and program counter in the core: the signal is sent to this thread
/// again, unchanged, and stays pending until our return restores the interrupted mask and instruction.
///
/// A fault would usually also happen again by itself, but not always: another thread may have mapped the page by then, and
/// a trap has moved past its instruction.
///
/// # Safety
/// `info` is null or the signal's.
unsafe fn die(signal: c_int, info: *mut libc::siginfo_t) {
    // SAFETY: queries two numbers.
    let (process, thread) = unsafe { (syscall4(libc::SYS_getpid, 0, 0, 0, 0), syscall4(libc::SYS_gettid, 0, 0, 0, 0)) };
    // SAFETY: by contract.
    let asynchronous = unsafe { info.as_ref() }.is_none_or(|info| is_asynchronous(signal, info.si_code));
    if asynchronous && process == 1 {
        // The init process of a container gets no signal from inside that it has no handler for.
        return;
    }
    let default = KernelSigaction::DEFAULT;
    // SAFETY: a valid kernel sigaction; the call changes nothing but the disposition.
    unsafe {
        let default = (&raw const default).expose_provenance();
        syscall4(libc::SYS_rt_sigaction, signal as usize, default, 0, SIGSET);
    }
    change_mask(libc::SIG_BLOCK, bit(signal));
    // SAFETY: sends this thread the signal that it just received; without its `siginfo` if that is forbidden.
    unsafe {
        let (process, thread, number) = (process as usize, thread as usize, signal as usize);
        if syscall4(libc::SYS_rt_tgsigqueueinfo, process, thread, number, info.expose_provenance()) != 0 {
            syscall4(libc::SYS_tgkill, process, thread, number, 0);
        }
    }
}

/// Returns the function that the kernel calls for `signal`, if it calls one.
pub(crate) fn current_handler(signal: c_int) -> Option<usize> {
    let mut now = KernelSigaction::DEFAULT;
    // SAFETY: only a query; `now` is as large as what the kernel writes.
    unsafe {
        let now = (&raw mut now).expose_provenance();
        syscall4(libc::SYS_rt_sigaction, signal as usize, 0, now, SIGSET);
    }
    (now.handler != libc::SIG_DFL && now.handler != libc::SIG_IGN).then_some(now.handler)
}

/// Changes which signals this thread blocks; returns the previous mask.
pub(crate) fn change_mask(how: c_int, mask: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: reads one kernel signal set and writes another.
    unsafe {
        let (mask, before) = ((&raw const mask).expose_provenance(), (&raw mut before).expose_provenance());
        syscall4(libc::SYS_rt_sigprocmask, how as usize, mask, before, SIGSET);
    }
    before
}

/// Returns the signals that are pending until this thread unblocks them.
pub(crate) fn pending() -> u64 {
    let mut pending = 0_u64;
    // SAFETY: writes one kernel signal set.
    unsafe { syscall4(libc::SYS_rt_sigpending, (&raw mut pending).expose_provenance(), SIGSET, 0, 0) };
    pending
}
