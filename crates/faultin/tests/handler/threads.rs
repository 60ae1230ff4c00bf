//! Threads, their masks and stacks, and processes that fork.

use std::sync::Barrier;

use faultin::Cause;

use crate::Ends;
use crate::child::{self, SIGNALS, status_is};

crate::scenarios! {
    /// The kernel kills a process for a fault whose signal is blocked: it cannot be recovered, but `status` reports it in
    /// advance.
    blocked_signal_dies_of_our_fault_and_status_tells_before => Ends::Killed(libc::SIGSEGV), |_| {
        faultin::install().unwrap();
        child::change_mask(libc::SIG_BLOCK, &[libc::SIGBUS]);
        let status = faultin::signal::status();
        assert!(!status.segv_blocked && status.bus_blocked && !status.is_covered(), "{status:?}");
        child::change_mask(libc::SIG_UNBLOCK, &[libc::SIGBUS]);
        child::ours_is_recovered();
        child::change_mask(libc::SIG_BLOCK, &[libc::SIGSEGV]);
        let status = faultin::signal::status();
        assert!(status.segv_blocked && !status.bus_blocked && !status.is_covered(), "{status:?}");
        let edge = child::edge();
        child::dies(libc::SIGSEGV, child::SEGV_MAPERR, edge, 0, None);
        // SAFETY: kills this process, as the test intends.
        let _ = unsafe { faultin::raw::load::<u8>(core::ptr::with_exposed_provenance(edge)) };
    };
    mask_is_the_threads_own => Ends::Well, |_| {
        faultin::install().unwrap();
        child::change_mask(libc::SIG_BLOCK, &SIGNALS);
        std::thread::spawn(|| {
            assert!(faultin::signal::status().segv_blocked, "a new thread inherits the mask");
            child::change_mask(libc::SIG_UNBLOCK, &SIGNALS);
            status_is!(Direct);
            child::ours_is_recovered();
        })
        .join()
        .unwrap();
        assert!(faultin::signal::status().segv_blocked && faultin::signal::status().bus_blocked);
    };
    recovery_restores_mask_and_registers => Ends::Well, |_| {
        faultin::install().unwrap();
        child::change_mask(libc::SIG_BLOCK, &[libc::SIGUSR1, libc::SIGALRM]);
        let before = child::mask();
        child::ours_is_recovered();
        assert_eq!(child::mask(), before);
    };
    threads_that_fault_at_the_same_time_all_recover_and_all_count => Ends::Well, |_| {
        const THREADS: u64 = 4;
        const FAULTS: u64 = 2000;
        faultin::install().unwrap();
        let barrier = Barrier::new(THREADS as usize);
        let (unmapped, backing) = (child::NOWHERE, child::beyond_end_of_file());
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    barrier.wait();
                    for i in 0..FAULTS {
                        let at = if i % 2 == 0 { unmapped } else { backing };
                        // SAFETY: memory of the tests that is never mapped.
                        let fault =
                            unsafe { faultin::raw::load::<u64>(core::ptr::with_exposed_provenance(at)) }.unwrap_err();
                        assert_eq!(fault.address(), Some(at));
                    }
                });
            }
        });
        let counters = faultin::signal::counters();
        assert_eq!(counters.recovered(Cause::Unmapped), THREADS * FAULTS / 2);
        assert_eq!(counters.recovered(Cause::Backing), THREADS * FAULTS / 2);
    };
    threads_that_install_at_the_same_time_install_once => Ends::Well, |_| {
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    faultin::install().unwrap();
                    // SAFETY: memory of the tests that is never mapped.
                    let byte = unsafe { faultin::raw::load::<u8>(core::ptr::with_exposed_provenance(child::NOWHERE)) };
                    assert_eq!(byte.unwrap_err().cause(), Cause::Unmapped);
                });
            }
        });
        status_is!(Direct);
        child::ours_is_recovered();
        child::dies_in_a_fork();
    };
    forked_child_recovers_and_counts_for_itself => Ends::Well, |_| {
        faultin::install().unwrap();
        child::ours_is_recovered();
        let before = faultin::signal::counters();
        let status = child::fork(|| {
            assert_eq!(faultin::signal::counters(), before, "inherited");
            status_is!(Direct);
            child::ours_is_recovered();
            assert!(faultin::signal::counters().total() > before.total());
            faultin::signal::raise_to_top().unwrap();
            faultin::signal::reinstall().unwrap();
            child::ours_is_recovered();
        });
        assert_eq!(status, 0);
        assert_eq!(faultin::signal::counters(), before, "the child's faults are not the parent's");
        child::ours_is_recovered();
    };
    forked_child_of_a_process_that_is_installing_again_can_install_again => Ends::Well, |_| {
        faultin::install().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| while !done.load(std::sync::atomic::Ordering::SeqCst) {
                faultin::signal::reinstall().unwrap();
            });
            for _ in 0..50 {
                let status = child::fork(|| {
                    faultin::signal::reinstall().unwrap();
                    status_is!(Direct);
                });
                assert_eq!(status, 0);
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
    };
    /// The kernel's own frame needs most of the room: 2 KiB, or far more with wide vector registers.
    small_alternate_stack_is_enough => Ends::Well, |_| {
        faultin::install().unwrap();
        // SAFETY: returns a number.
        let least = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
        let size = least.max(libc::MINSIGSTKSZ) + ROOM;
        let used = child::on_alternate_stack(size, child::ours_is_recovered);
        assert!(used > 0, "the stack was not used");
        println!("{used} of {size} bytes were used, {least} by the kernel");
    };
    alternate_stack_is_not_needed => Ends::Well, |_| {
        faultin::install().unwrap();
        child::without_alternate_stack(child::ours_is_recovered);
    };
}

/// The handler's need besides the kernel's frame, in a debug build with all checks.
const ROOM: usize = 2048;
