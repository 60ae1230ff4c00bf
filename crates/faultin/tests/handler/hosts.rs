//! Hosts that own the handler, and what [`faultin::signal::status`] and the counters return in each state.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use faultin::{Cause, InstallError, signal::SignalOutcome};

use crate::Ends;
use crate::child::{self, SIGNALS, status_is};
use crate::foreign::{self, A};

/// A host's handler: this crate's first, then its own.
fn host(_: usize, signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel's arguments; this handler returns normally.
    if unsafe { faultin::signal::try_handle(signal, info, context) } == SignalOutcome::NotOurs {
        NOT_OURS.fetch_add(1, SeqCst);
        child::repair();
    }
}

static NOT_OURS: AtomicUsize = AtomicUsize::new(0);

crate::scenarios! {
    before_anything_is_installed_status_says_no_and_counters_are_zero => Ends::Well, |_| {
        status_is!(Absent);
        assert_eq!(faultin::signal::counters(), faultin::signal::Counters::default());
    };
    hosts_handler_recovers_our_faults_and_keeps_the_rest => Ends::Well, |_| {
        child::clean_slate();
        faultin::signal::host_owns_handler().unwrap();
        status_is!(Host);
        for signal in SIGNALS {
            foreign::install(A, signal, libc::SA_SIGINFO | libc::SA_NODEFER, &[], host);
        }
        child::ours_is_recovered();
        assert_eq!(NOT_OURS.load(SeqCst), 0);
        for (i, signal) in SIGNALS.into_iter().enumerate() {
            child::foreign_fault(signal);
            assert_eq!(NOT_OURS.load(SeqCst), i + 1);
        }
        child::ours_is_recovered();
    };
    after_host_owns_handler_nothing_of_ours_is_ever_installed => Ends::Well, |_| {
        child::clean_slate();
        faultin::signal::host_owns_handler().unwrap();
        faultin::install().unwrap();
        faultin::signal::reinstall().unwrap();
        assert!(matches!(faultin::signal::raise_to_top(), Err(InstallError::HostOwnsHandler)));
        for signal in SIGNALS {
            assert_eq!(child::install(signal, libc::SIG_DFL, 0, &[]).sa_sigaction, libc::SIG_DFL);
        }
        status_is!(Host);
    };
    host_that_comes_after_our_handler_may_call_it_too => Ends::Well, |_| {
        child::clean_slate();
        faultin::install().unwrap();
        faultin::signal::host_owns_handler().unwrap();
        status_is!(Direct);
        for signal in SIGNALS {
            foreign::install(A, signal, libc::SA_SIGINFO | libc::SA_NODEFER, &[], host);
        }
        status_is!(Below);
        child::ours_is_recovered();
        child::foreign_fault(libc::SIGSEGV);
        assert_eq!((NOT_OURS.load(SeqCst), faultin::signal::counters().forwarded), (1, 0));
    };
    try_handle_refuses_what_is_not_a_fault_of_ours => Ends::Well, |_| {
        faultin::signal::host_owns_handler().unwrap();
        // SAFETY: null is what is tested: a handler without SA_SIGINFO has nothing else to pass.
        let handled = unsafe { faultin::signal::try_handle(libc::SIGSEGV, core::ptr::null_mut(), core::ptr::null_mut()) };
        assert_eq!(handled, SignalOutcome::NotOurs);
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGUSR1] {
            foreign::install(A, signal, libc::SA_SIGINFO, &[], host);
            NOT_OURS.store(0, SeqCst);
            for sent in child::Sent::ALL {
                sent.send(signal);
            }
            assert_eq!(NOT_OURS.load(SeqCst), 3, "signal {signal}");
        }
    };
    handlers_that_we_can_be_raised_above_are_limited_and_the_limit_is_an_error => Ends::Well, |_| {
        child::clean_slate();
        faultin::install().unwrap();
        let raised: Vec<bool> = child::distinct_handlers()
            .into_iter()
            .map(|handler| {
                for signal in SIGNALS {
                    child::install(signal, handler, libc::SA_SIGINFO, &[]);
                }
                match faultin::signal::raise_to_top() {
                    Ok(()) => true,
                    Err(InstallError::TooManyHandlers) => {
                        // Nothing has changed: the host's handler is still installed.
                        assert_eq!(faultin::signal::status().segv, faultin::signal::HandlerState::Below(handler));
                        false
                    }
                    Err(error) => panic!("{error}"),
                }
            })
            .collect();
        assert_eq!(raised, [true, true, true, true, true, true, true, false]);
    };
    counters_count_each_cause_once_per_signal => Ends::Well, |_| {
        faultin::install().unwrap();
        let protection = child::forbidden();
        #[allow(unused_mut, clippy::useless_vec)] // grows on x86-64
        let mut rows = vec![
            (Cause::Unmapped, child::edge()),
            (Cause::Protection, protection),
            (Cause::Backing, child::beyond_end_of_file()),
        ];
        #[cfg(target_arch = "x86_64")]
        rows.push((Cause::NonCanonical, 0xdead << 48));
        for (i, (cause, at)) in rows.iter().enumerate() {
            for round in 1..=3 {
                let before = faultin::signal::counters().total();
                // SAFETY: memory of the tests, or unmapped.
                let fault = unsafe { faultin::raw::load::<u8>(core::ptr::with_exposed_provenance(*at)) }.unwrap_err();
                assert_eq!(fault.cause(), *cause);
                let counters = faultin::signal::counters();
                assert_eq!((counters.recovered(*cause), counters.total() - before), (round, 1), "{cause:?}");
                assert_eq!(counters.total(), 3 * i as u64 + round);
                assert_eq!(counters.forwarded, 0);
            }
        }
    };
}
