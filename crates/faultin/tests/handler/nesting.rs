//! Faults within handlers.

use crate::Ends;
use crate::child::{self, status_is};
use crate::foreign::{self, A, B};

const NESTABLE: i32 = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;

crate::scenarios! {
    predecessor_with_nodefer_may_use_accesses_that_fault => Ends::Well, |_| {
        child::clean_slate();
        foreign::install(A, libc::SIGSEGV, NESTABLE, &[], |_, _, _, _| {
            child::ours_is_recovered();
            child::repair();
        });
        faultin::install().unwrap();
        child::foreign_fault(libc::SIGSEGV);
        assert_eq!(foreign::seen(A).calls, 1);
        child::ours_is_recovered();
    };
    handler_above_us_with_nodefer_may_use_accesses_that_fault => Ends::Well, |_| {
        child::clean_slate();
        faultin::install().unwrap();
        foreign::install(A, libc::SIGSEGV, NESTABLE, &[], |who, signal, info, context| {
            // Its own access with this crate first calls it again: such a fault is not its own.
            if foreign::seen(who).calls == 1 {
                child::ours_is_recovered();
                child::repair();
            } else {
                foreign::pass_on(who, signal, info, context);
            }
        });
        child::foreign_fault(libc::SIGSEGV);
        assert!(foreign::seen(A).calls > 1);
    };
    /// The kernel kills a process for a fault whose signal is blocked, and a handler without SA_NODEFER blocks it.
    predecessor_without_nodefer_dies_of_our_faults_and_status_tells => Ends::Killed(libc::SIGSEGV), |_| {
        child::clean_slate();
        foreign::install(A, libc::SIGSEGV, libc::SA_SIGINFO | libc::SA_ONSTACK, &[], |_, _, _, _| {
            let status = faultin::signal::status();
            assert!(status.segv_blocked && !status.bus_blocked && !status.is_covered(), "{status:?}");
            let edge = child::edge();
            child::dies(libc::SIGSEGV, child::SEGV_MAPERR, edge, 0, None);
            // SAFETY: kills this process, as the test intends.
            let _ = unsafe { faultin::raw::load::<u8>(core::ptr::with_exposed_provenance(edge)) };
        });
        faultin::install().unwrap();
        child::foreign_fault(libc::SIGSEGV);
    };
    predecessor_of_one_signal_may_use_accesses_that_fault_with_the_other => Ends::Well, |_| {
        child::clean_slate();
        foreign::install(A, libc::SIGSEGV, libc::SA_SIGINFO, &[], |_, _, _, _| {
            let at = child::beyond_end_of_file();
            // SAFETY: memory of the tests, past the end of its file.
            let fault = unsafe { faultin::raw::load::<u32>(core::ptr::with_exposed_provenance(at)) }.unwrap_err();
            assert_eq!(fault.cause(), faultin::Cause::Backing);
            child::repair();
        });
        faultin::install().unwrap();
        child::foreign_fault(libc::SIGSEGV);
        assert_eq!(foreign::seen(A).calls, 1);
    };
    predecessor_that_crashes_itself_dies_of_its_own_fault => Ends::Killed(libc::SIGSEGV), |_| {
        child::clean_slate();
        foreign::install(A, libc::SIGSEGV, libc::SA_SIGINFO, &[], |_, _, _, _| child::dies_of_null());
        faultin::install().unwrap();
        println!("calls: A");
        child::foreign_fault(libc::SIGSEGV);
    };
    /// Two signals at once: each passes through this crate's handler separately.
    crash_inside_a_handler_passes_every_handler_again => Ends::Well, |_| {
        child::clean_slate();
        foreign::install(A, libc::SIGSEGV, NESTABLE, &[], foreign::repair);
        faultin::install().unwrap();
        foreign::install(B, libc::SIGSEGV, NESTABLE, &[], |who, signal, info, context| {
            if foreign::seen(who).calls == 1 {
                let outer = child::REPAIR.load(std::sync::atomic::Ordering::SeqCst);
                child::foreign_fault(libc::SIGSEGV);
                child::REPAIR.store(outer, std::sync::atomic::Ordering::SeqCst);
            }
            foreign::pass_on(who, signal, info, context);
        });
        faultin::signal::raise_to_top().unwrap();
        status_of_segv();
        child::foreign_fault(libc::SIGSEGV);
        assert_eq!(foreign::order(), "BBAA");
        child::ours_is_recovered();
    };
    /// Like Python's faulthandler: it reports, restores the action that it found, and raises the signal again at once.
    handler_that_restores_what_it_found_and_raises_again_is_called_once => Ends::Killed(libc::SIGSEGV), |_| {
        child::clean_slate();
        faultin::install().unwrap();
        foreign::install(A, libc::SIGSEGV, NESTABLE, &[], |who, signal, _, _| {
            foreign::remove(who, signal);
            child::dies(signal, libc::SI_TKILL, child::pid(), 0, None);
            child::Sent::Tgkill.send(signal);
        });
        faultin::signal::raise_to_top().unwrap();
        child::ours_is_recovered();
        println!("calls: A");
        child::foreign_fault(libc::SIGSEGV);
    };
    fault_of_ours_in_a_handler_of_another_signal_is_recovered => Ends::Well, |_| {
        faultin::install().unwrap();
        foreign::install(A, libc::SIGUSR1, libc::SA_SIGINFO, &[], |_, _, _, _| child::ours_is_recovered());
        child::Sent::Tgkill.send(libc::SIGUSR1);
        assert_eq!(foreign::seen(A).calls, 1);
        status_is!(Direct);
    };
}

/// Only SIGSEGV has foreign handlers here.
fn status_of_segv() {
    assert_eq!(faultin::signal::status().segv, faultin::signal::HandlerState::Direct);
}
