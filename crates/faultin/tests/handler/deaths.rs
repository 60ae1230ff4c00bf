//! How a process dies of signals that are not this crate's: as without it.

use crate::Ends;
use crate::child::{self, SIGNALS, Sent, status_is};
use crate::foreign::{self, A};

crate::scenarios! {
    null_dereference_under_rusts_handler_dies_with_its_own_address_and_pc => Ends::Killed(libc::SIGSEGV), |_| {
        faultin::install().unwrap();
        child::ours_is_recovered();
        child::dies_of_null();
    };
    null_dereference_under_the_default_dies_with_its_own_address_and_pc => Ends::Killed(libc::SIGSEGV), |_| {
        child::clean_slate();
        faultin::install().unwrap();
        child::ours_is_recovered();
        child::dies_of_null();
    };
    jump_to_null_dies_there => Ends::Killed(libc::SIGSEGV), |_| {
        child::clean_slate();
        faultin::install().unwrap();
        child::ours_is_recovered();
        child::dies(libc::SIGSEGV, child::SEGV_MAPERR, 0, 0, Some(0));
        // SAFETY: kills this process, as the test intends.
        unsafe { child::jump(0) };
    };
    access_beyond_end_of_file_dies_with_its_own_address_and_pc => Ends::Killed(libc::SIGBUS), |_| {
        child::clean_slate();
        faultin::install().unwrap();
        child::dies_of_foreign_fault(libc::SIGBUS);
    };
    own_fault_while_ignored_dies_as_the_kernel_has_it => Ends::Killed(libc::SIGSEGV), |_| {
        for signal in SIGNALS {
            child::install(signal, libc::SIG_IGN, 0, &[]);
        }
        faultin::install().unwrap();
        child::ours_is_recovered();
        child::dies_of_null();
    };
    /// A trap is reported after its instruction: returning in order to repeat it would mean to survive it.
    fault_that_would_not_happen_again_still_dies => Ends::Killed(libc::SIGSEGV), |_| {
        child::clean_slate();
        faultin::install().unwrap();
        #[cfg(target_arch = "x86_64")]
        {
            const SI_KERNEL: i32 = 0x80;
            child::dies(libc::SIGSEGV, SI_KERNEL, 0, 0, Some(trap_pc() + 2));
            // SAFETY: kills this process, as the test intends.
            unsafe { trap() };
        }
        #[cfg(not(target_arch = "x86_64"))]
        child::skip("x86-64", "a trap instruction that raises SIGSEGV");
    };
    fault_that_somebody_repairs_after_passing_it_on_still_dies => Ends::Killed(libc::SIGSEGV), |_| {
        child::clean_slate();
        faultin::install().unwrap();
        let flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        foreign::install(A, libc::SIGSEGV, flags, &[], |who, signal, info, context| {
            foreign::pass_on(who, signal, info, context);
            child::repair();
        });
        child::dies_of_foreign_fault(libc::SIGSEGV);
    };
    stack_overflow_is_still_reported_by_rust => Ends::Killed(libc::SIGABRT), |_| {
        faultin::install().unwrap();
        child::ours_is_recovered();
        println!("stderr will have: has overflowed its stack");
        child::dies(libc::SIGABRT, libc::SI_TKILL, child::pid(), 0, None);
        std::hint::black_box(overflow(1));
    };
    stack_overflow_in_a_thread_of_another_name_is_still_reported => Ends::Killed(libc::SIGABRT), |_| {
        faultin::install().unwrap();
        println!("stderr will have: thread 'deep'");
        let deep = std::thread::Builder::new().name("deep".into()).spawn(|| {
            child::dies(libc::SIGABRT, libc::SI_TKILL, child::pid(), 0, None);
            overflow(1)
        });
        std::hint::black_box(deep.unwrap().join().ok());
    };
    /// Rust's handler reacts to a signal that is not a stack overflow by setting the default action and returning. A sent
    /// signal is not fatal then, with or without this crate; but the next fault would be.
    sent_signal_under_rusts_handler_resets_both_and_reinstall_heals => Ends::Well, |_| {
        faultin::install().unwrap();
        for signal in SIGNALS {
            Sent::Tgkill.send(signal);
        }
        status_is!(Absent);
        faultin::signal::reinstall().unwrap();
        status_is!(Direct);
        child::ours_is_recovered();
    };
    init_process_of_a_container_ignores_sent_signals_and_keeps_its_handler => Ends::Well, |_| {
        child::clean_slate();
        faultin::install().unwrap();
        // SAFETY: the next child is the init process of a new namespace.
        if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
            child::skip("namespaces", "no right to make a pid namespace");
        }
        let status = child::fork(|| {
            assert_eq!(std::process::id(), 1);
            for signal in SIGNALS {
                Sent::Tgkill.send(signal);
            }
            status_is!(Direct);
            child::ours_is_recovered();
            // SAFETY: kills this process, as the test intends.
            unsafe { child::peek(0) };
        });
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "{status:#x}");
    };
}

/// A sent signal with the default action: its own sender and value, at the interrupted instruction.
#[test]
fn sent_signal_under_the_default_dies_with_its_own_siginfo_and_pc() {
    for signal in SIGNALS {
        for (i, _) in Sent::ALL.iter().enumerate() {
            crate::parent::check("deaths::sent", &format!("{signal} {i}"), Ends::Killed(signal));
        }
    }
}

/// `BUS_MCEERR_AO` comes from the kernel, but is unrelated to the interrupted instruction.
#[test]
fn poison_found_elsewhere_is_no_fault_of_the_interrupted_instruction() {
    crate::parent::check("deaths::poison_elsewhere", "", Ends::Killed(libc::SIGBUS));
}

pub(crate) const TABLES: &[crate::Scenario] = &[
    ("deaths::sent", |argument| {
        let (signal, sent) = argument.split_once(' ').unwrap();
        child::clean_slate();
        faultin::install().unwrap();
        child::ours_is_recovered();
        child::dies_of(Sent::ALL[sent.parse::<usize>().unwrap()], signal.parse().unwrap());
    }),
    ("deaths::poison_elsewhere", |_| {
        child::clean_slate();
        foreign::install(A, libc::SIGBUS, libc::SA_SIGINFO, &[], foreign::nothing);
        faultin::install().unwrap();
        assert_eq!(child::queue(child::tid(), libc::SIGBUS, child::BUS_MCEERR_AO), 0);
        let seen = foreign::seen(A);
        assert_eq!((seen.calls, seen.code, seen.addr), (1, child::BUS_MCEERR_AO, child::VALUE));
        status_is!(Direct);
        // And with the default action.
        child::clean_slate();
        faultin::signal::reinstall().unwrap();
        child::dies(libc::SIGBUS, child::BUS_MCEERR_AO, child::VALUE, 0, None);
        child::queue(child::tid(), libc::SIGBUS, child::BUS_MCEERR_AO);
    }),
];

/// `int 4`, the overflow trap: two bytes, reported after them.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn trap() {
    core::arch::naked_asm!("int 4", "ret");
}

#[cfg(target_arch = "x86_64")]
fn trap_pc() -> usize {
    trap as *const () as usize
}

/// Overflows the stack.
#[allow(unconditional_recursion)]
fn overflow(depth: usize) -> usize {
    let frame = std::hint::black_box([depth; 64]);
    overflow(frame[depth % 64] + 1) + frame[1]
}
