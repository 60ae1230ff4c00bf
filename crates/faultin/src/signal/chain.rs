//! Passing a signal on to whoever had it before us, as the kernel would have.
//!
//! What is emulated and what must differ is listed in SAFETY.md. Nothing here may build a cycle: a predecessor that was
//! installed above us will call us again, and then we are not called by the kernel; that is how we know to take the
//! other way.

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering;

use crate::arch::context::syscall4;
use crate::registry::{Disposition, Registry};

/// The kernel's `struct sigaction`, not the C library's.
#[repr(C)]
struct KernelSigaction {
    handler: usize,
    flags: usize,
    #[cfg(target_arch = "x86_64")]
    restorer: usize,
    mask: u64,
}

/// The kernel's `sigset_t`, in bytes.
const SIGSET: usize = size_of::<u64>();

/// # Safety
/// As [`recover`](super::handler::recover).
pub(crate) unsafe fn forward(
    registry: &Registry,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
    from_kernel: bool,
) {
    registry.forwarded.fetch_add(1, Ordering::Relaxed);
    let previous = &registry.previous[usize::from(signal == libc::SIGBUS)];
    let above = if from_kernel { previous.top.get().map(|action| (action, &previous.top)) } else { None };
    let (action, record) = match above {
        Some(found) => found,
        None => match previous.base.get() {
            Some(action) => (action, &previous.base),
            // Nobody was recorded: we are called by a host that owns the handler, and have nothing to add.
            None => return,
        },
    };
    // SAFETY: forwarded from the caller.
    unsafe { deliver(&action, record, signal, info, context) }
}

/// # Safety
/// As [`forward`]; `action` was installed for `signal`.
unsafe fn deliver(
    action: &libc::sigaction,
    record: &Disposition,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    // A one-shot handler's second signal finds the default.
    let spent = action.sa_flags & libc::SA_RESETHAND != 0 && record.spent.swap(1, Ordering::Relaxed) != 0;
    let handler = if spent { libc::SIG_DFL } else { action.sa_sigaction };
    // SAFETY: `info` is the signal's.
    let synchronous = unsafe { (*info).si_code } > 0;
    match handler {
        // The kernel does not let a process ignore its own fault: it resets the disposition and kills.
        libc::SIG_IGN if !synchronous => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: forwarded from the caller.
            unsafe { die(signal, info, synchronous) }
        }
        _ => {
            // Blocked while it runs: its own mask, and the signal itself unless it said otherwise. The kernel restores
            // the interrupted mask when we return.
            // SAFETY: a `sigset_t` begins with the kernel's, and `action` outlives the call.
            unsafe {
                let mut mask = *core::ptr::from_ref(&action.sa_mask).cast::<u64>();
                if action.sa_flags & libc::SA_NODEFER == 0 {
                    mask |= 1 << (signal - 1);
                }
                block(mask);
                if action.sa_flags & libc::SA_SIGINFO != 0 {
                    let call: unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                        core::mem::transmute(handler);
                    call(signal, info, context);
                } else {
                    let call: unsafe extern "C" fn(c_int) = core::mem::transmute(handler);
                    call(signal);
                }
            }
        }
    }
}

/// The default action, with the original `siginfo` and program counter in the core: the fault happens again when we
/// return, and what came from elsewhere is sent to ourselves again, unchanged.
///
/// # Safety
/// `info` is the signal's.
unsafe fn die(signal: c_int, info: *mut libc::siginfo_t, synchronous: bool) {
    let default = KernelSigaction {
        handler: libc::SIG_DFL,
        flags: 0,
        #[cfg(target_arch = "x86_64")]
        restorer: 0,
        mask: 0,
    };
    // SAFETY: a valid kernel sigaction; the call changes nothing but the disposition.
    unsafe {
        syscall4(libc::SYS_rt_sigaction, signal as usize, core::ptr::from_ref(&default).addr(), 0, SIGSET);
    }
    if !synchronous {
        // Blocked until our return restores the interrupted mask, so that it strikes at the interrupted instruction.
        block(1 << (signal - 1));
        // SAFETY: sends this thread the siginfo it just received.
        unsafe {
            let process = syscall4(libc::SYS_getpid, 0, 0, 0, 0) as usize;
            let thread = syscall4(libc::SYS_gettid, 0, 0, 0, 0) as usize;
            syscall4(libc::SYS_rt_tgsigqueueinfo, process, thread, signal as usize, info.addr());
        }
    }
}

fn block(mask: u64) {
    // SAFETY: changes this thread's mask until the signal returns.
    unsafe {
        syscall4(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK as usize,
            core::ptr::from_ref(&mask).addr(),
            0,
            SIGSET,
        );
    }
}
