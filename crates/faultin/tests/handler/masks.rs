//! Which signals are blocked: while this crate's handler runs, while a predecessor runs, and afterwards.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use crate::Ends;
use crate::child::{self, SIGNALS, Sent};
use crate::foreign::{self, A, B};

/// Those that an instruction causes.
const SYNCHRONOUS: [i32; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

fn set(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// The kernel's mask of a signal's action: the C library shows less of it.
fn mask_of_disposition(signal: i32) -> u64 {
    #[repr(C)]
    #[derive(Default)]
    struct KernelSigaction {
        handler: usize,
        flags: usize,
        restorer: usize,
        mask: u64,
    }
    let mut now = KernelSigaction::default();
    // SAFETY: a query; the kernel writes one of its structures and a signal set of 8 bytes.
    let asked = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, 0_usize, &raw mut now, 8_usize) };
    assert_eq!(asked, 0);
    now.mask
}

/// The mask that `B` found in force after its predecessor had returned.
static AFTER: AtomicU64 = AtomicU64::new(0);

const PLAIN: i32 = libc::SA_SIGINFO;
const NODEFER: i32 = libc::SA_SIGINFO | libc::SA_NODEFER;

/// A foreign handler's flags and mask.
type Handler = (i32, &'static [i32]);

const HANDLERS: [Handler; 4] =
    [(PLAIN, &[]), (NODEFER, &[]), (PLAIN, &[libc::SIGUSR1, libc::SIGBUS]), (NODEFER, &[libc::SIGUSR2, 60])];

/// What a handler's flags and mask add to the current mask.
fn wishes((flags, blocked): Handler, signal: i32) -> u64 {
    set(blocked) | if flags & libc::SA_NODEFER == 0 { set(&[signal]) } else { 0 }
}

crate::scenarios! {
    what_can_wait_waits_while_ours_runs_also_the_c_librarys_own => Ends::Well, |_| {
        faultin::install().unwrap();
        let open = set(&SYNCHRONOUS) | set(&[libc::SIGKILL, libc::SIGSTOP]);
        for signal in SIGNALS {
            assert_eq!(mask_of_disposition(signal), !open, "{:#x}", mask_of_disposition(signal));
        }
        faultin::signal::raise_to_top().unwrap();
        assert_eq!(mask_of_disposition(libc::SIGSEGV), !open);
    };
    predecessor_runs_with_the_interrupted_mask_and_its_own => Ends::Well, |_| {
        for signal in SIGNALS {
            for interrupted in [&[][..], &[libc::SIGALRM, 34], &[libc::SIGTERM, libc::SIGUSR1, libc::SIGILL]] {
                for handler in HANDLERS {
                    child::clean_slate();
                    child::change_mask(libc::SIG_SETMASK, interrupted);
                    let (flags, blocked) = handler;
                    foreign::install(A, signal, flags, blocked, foreign::repair);
                    faultin::signal::raise_to_top().unwrap();
                    foreign::forget();
                    child::foreign_fault(signal);
                    let seen = foreign::seen(A);
                    let expected = set(interrupted) | wishes(handler, signal);
                    assert_eq!((seen.calls, seen.mask), (1, expected), "{interrupted:?} {handler:?}: {:#x}", seen.mask);
                    assert_eq!(child::mask(), set(interrupted), "afterwards");
                }
            }
        }
    };
    /// A thread in `sigsuspend` runs with a mask other than the one that its frame restores: only the former leaves the
    /// awaited signal unblocked.
    predecessor_of_a_signal_that_was_waited_for_runs_with_the_mask_of_the_frame => Ends::Well, |_| {
        for signal in SIGNALS {
            child::skip_if_emulated("sending", signal);
            for handler in HANDLERS {
                child::clean_slate();
                let (flags, blocked) = handler;
                foreign::install(A, signal, flags, blocked, foreign::nothing);
                faultin::signal::raise_to_top().unwrap();
                foreign::forget();
                child::change_mask(libc::SIG_SETMASK, &[signal, libc::SIGALRM]);
                Sent::Tgkill.send(signal);
                assert_eq!(foreign::seen(A).calls, 0, "{handler:?}: it is blocked");
                // SAFETY: all zero is the empty set.
                unsafe { libc::sigsuspend(&core::mem::zeroed()) };
                let (seen, expected) = (foreign::seen(A), set(&[libc::SIGALRM]) | wishes(handler, signal));
                assert_eq!((seen.calls, seen.mask), (1, expected), "{handler:?}: {:#x}", seen.mask);
                assert_eq!(child::mask(), set(&[signal, libc::SIGALRM]), "afterwards");
            }
        }
    };
    /// Nothing that the handler above this crate's blocks is unblocked, and its mask is in force again when it continues.
    predecessor_that_another_handler_called_adds_to_that_ones_mask_and_gives_it_back => Ends::Well, |_| {
        let signal = libc::SIGSEGV;
        child::change_mask(libc::SIG_SETMASK, &[libc::SIGALRM]);
        for above in HANDLERS {
            for below in HANDLERS {
                child::clean_slate();
                foreign::install(A, signal, below.0, below.1, foreign::repair);
                faultin::signal::raise_to_top().unwrap();
                foreign::install(B, signal, above.0, above.1, |who, signal, info, context| {
                    foreign::pass_on(who, signal, info, context);
                    AFTER.store(child::mask(), SeqCst);
                });
                foreign::forget();
                child::foreign_fault(signal);
                assert_eq!(foreign::order(), "BA");
                let of_above = set(&[libc::SIGALRM]) | wishes(above, signal);
                let (b, a) = (foreign::seen(B).mask, foreign::seen(A).mask);
                assert_eq!((b, a), (of_above, of_above | wishes(below, signal)), "{above:?} {below:?}: {b:#x} {a:#x}");
                assert_eq!(AFTER.load(SeqCst), of_above, "{above:?} {below:?}: {:#x}", AFTER.load(SeqCst));
                assert_eq!(child::mask(), set(&[libc::SIGALRM]), "afterwards");
            }
        }
    };
    /// A handler that blocks everything, as a runtime's does, and continues with a jump: the stack looks as if the kernel
    /// had called this crate's handler.
    predecessor_that_was_jumped_to_unblocks_nothing => Ends::Well, |_| {
        child::clean_slate();
        foreign::install(A, libc::SIGSEGV, NODEFER, &[], foreign::repair);
        faultin::signal::raise_to_top().unwrap();
        let all: Vec<i32> = (1..32).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)).collect();
        let ours = child::install(libc::SIGSEGV, jumps as *const () as usize, libc::SA_SIGINFO, &all);
        JUMPS_TO.store(ours.sa_sigaction, SeqCst);
        child::foreign_fault(libc::SIGSEGV);
        let seen = foreign::seen(A);
        assert_eq!((seen.calls, seen.mask), (1, set(&all)), "{:#x}", seen.mask);
        assert_eq!(child::mask(), 0);
    };
    predecessor_takes_signals_at_once_that_it_does_not_block => Ends::Well, |_| {
        static DURING: AtomicUsize = AtomicUsize::new(0);
        child::clean_slate();
        foreign::install(B, libc::SIGUSR1, libc::SA_SIGINFO, &[], foreign::nothing);
        foreign::install(A, libc::SIGSEGV, libc::SA_SIGINFO, &[], |_, _, _, _| {
            Sent::Tgkill.send(libc::SIGUSR1);
            DURING.store(foreign::seen(B).calls, SeqCst);
            child::repair();
        });
        faultin::install().unwrap();
        child::foreign_fault(libc::SIGSEGV);
        assert_eq!(DURING.load(SeqCst), 1);
    };
    /// What `sigsetjmp` without a mask and `siglongjmp` find: as without this crate, only its own signal is blocked.
    predecessor_that_never_returns_leaves_the_mask_it_ran_with => Ends::Well, |_| {
        for ours in [false, true] {
            child::clean_slate();
            child::change_mask(libc::SIG_SETMASK, &[libc::SIGALRM]);
            // Not on the alternate stack, which would count as in use from then on.
            child::without_alternate_stack(|| {
                child::install(libc::SIGSEGV, leaps as *const () as usize, PLAIN, &[libc::SIGUSR1]);
                if ours {
                    faultin::signal::raise_to_top().unwrap();
                }
                // SAFETY: the handler jumps back into it.
                unsafe { peek_or_come_back(child::bad(libc::SIGSEGV)) };
            });
            assert_eq!(child::mask(), set(&[libc::SIGALRM, libc::SIGUSR1, libc::SIGSEGV]), "{ours}: {:#x}", child::mask());
            child::change_mask(libc::SIG_SETMASK, &[]);
        }
        child::ours_is_recovered();
    };
}

static JUMPS_TO: AtomicUsize = AtomicUsize::new(0);

/// A handler that passes the signal on with a jump.
#[unsafe(naked)]
extern "C" fn jumps(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!("mov rax, [rip + {to}]", "jmp rax", to = sym JUMPS_TO);
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!("adrp x9, {to}", "ldr x9, [x9, :lo12:{to}]", "br x9", to = sym JUMPS_TO);
}

/// The stack pointer in [`peek_or_come_back`].
static BACK: AtomicUsize = AtomicUsize::new(0);

/// Loads a byte; also returns if a handler [`leaps`].
#[unsafe(naked)]
unsafe extern "C" fn peek_or_come_back(_address: usize) {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "mov [rip + {back}], rsp",
        "mov al, [rdi]",
        "jmp {end}",
        back = sym BACK, end = sym come_back,
    );
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!(
        "stp x29, x30, [sp, #-96]!", "stp x19, x20, [sp, #16]", "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]", "stp x25, x26, [sp, #64]", "stp x27, x28, [sp, #80]",
        "adrp x9, {back}", "mov x10, sp", "str x10, [x9, :lo12:{back}]",
        "ldrb w0, [x0]",
        "b {end}",
        back = sym BACK, end = sym come_back,
    );
}

/// The end of [`peek_or_come_back`].
#[unsafe(naked)]
unsafe extern "C" fn come_back() {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!("pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx", "ret");
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!(
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp x29, x30, [sp], #96",
        "ret",
    );
}

/// A handler that does not return.
#[unsafe(naked)]
extern "C" fn leaps(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!("mov rsp, [rip + {back}]", "jmp {end}", back = sym BACK, end = sym come_back);
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!(
        "adrp x9, {back}", "ldr x10, [x9, :lo12:{back}]", "mov sp, x10", "b {end}", back = sym BACK, end = sym come_back,
    );
}
