//! Signals sent by a thread or process while a thread is in one of this crate's copies.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use crate::Ends;
use crate::child::{self, SIGNALS, Sent};
use crate::foreign::{self, A, B};

crate::scenarios! {
    /// The program counter of the interrupted copy may be in the table, but the signal is not a fault of the copy.
    signals_sent_into_a_copy_go_to_the_predecessor_and_leave_the_count_alone => Ends::Well, |_| {
        static IN_TABLE: AtomicUsize = AtomicUsize::new(0);
        static IN_COPY: AtomicUsize = AtomicUsize::new(0);
        static STRANGE: AtomicUsize = AtomicUsize::new(0);
        static HANDLED: AtomicUsize = AtomicUsize::new(0);
        child::clean_slate();
        for signal in SIGNALS {
            foreign::install(A, signal, libc::SA_SIGINFO | libc::SA_RESTART, &SIGNALS, |who, signal, _, _| {
                let seen = foreign::seen(who);
                let sites = faultin::table::own_table().sites();
                if sites.clone().any(|site| site.insn == seen.pc) {
                    IN_TABLE.fetch_add(1, SeqCst);
                }
                if sites.clone().any(|site| site.insn.abs_diff(seen.pc) < 32) {
                    IN_COPY.fetch_add(1, SeqCst);
                }
                let expected = (signal, libc::SI_QUEUE, child::pid(), child::VALUE);
                if (seen.signal, seen.code, seen.addr, seen.value) != expected {
                    STRANGE.fetch_add(1, SeqCst);
                }
                HANDLED.fetch_add(1, SeqCst);
            });
        }
        faultin::install().unwrap();
        let forwarded = faultin::signal::counters().forwarded;
        let (me, done) = (child::tid(), std::sync::Arc::new(AtomicBool::new(false)));
        let sender = std::thread::spawn({
            let done = done.clone();
            move || {
                child::change_mask(libc::SIG_BLOCK, &SIGNALS);
                let mut sent = 0;
                while !done.load(SeqCst) {
                    let (before, time) = (HANDLED.load(SeqCst), std::time::Instant::now());
                    Sent::Queued.send_to(me, SIGNALS[sent % 2]);
                    sent += 1;
                    // A signal sent while a fault's signal is pending is lost, with or without this crate: a process has at
                    // most one of a kind pending.
                    while HANDLED.load(SeqCst) == before && time.elapsed().as_millis() < 5 {
                        std::hint::spin_loop();
                    }
                }
                sent
            }
        });
        // A long copy and a short one, each up to a bad page: every size class and its loop.
        let good = 64 * child::page();
        let source = child::readable_before_bad(good);
        let mut target = vec![1_u8; good + 256];
        let start = std::time::Instant::now();
        let mut rounds = 0_usize;
        while rounds < 100 || (IN_TABLE.load(SeqCst) < 20 && start.elapsed().as_secs() < 10) {
            for len in [good, 300, 40] {
                let from = source + good - len;
                target[len..len + 100].fill(1);
                // SAFETY: the target is a local; the source is memory of the tests that ends in a bad page.
                let short = unsafe {
                    let from = core::ptr::with_exposed_provenance(from);
                    faultin::raw::copy_in(target.as_mut_ptr(), from, len + 100)
                }
                .unwrap_err();
                assert_eq!((short.done, short.fault.cause()), (len, faultin::Cause::Backing), "{short:?}");
                assert!(target[len..len + 100].iter().all(|b| *b == 1), "a byte behind the count was stored");
                // SAFETY: as before, without the bad page.
                unsafe { faultin::raw::copy_in(target.as_mut_ptr(), core::ptr::with_exposed_provenance(from), len) }.unwrap();
            }
            rounds += 1;
        }
        done.store(true, SeqCst);
        let sent = sender.join().unwrap();
        let handled = HANDLED.load(SeqCst);
        println!(
            "{sent} signals sent, {handled} handled, {} in copies, {} at table entries",
            IN_COPY.load(SeqCst),
            IN_TABLE.load(SeqCst)
        );
        assert_eq!(STRANGE.load(SeqCst), 0);
        assert!(handled <= sent && foreign::seen(A).calls == handled);
        assert_eq!(faultin::signal::counters().forwarded - forwarded, handled as u64);
        assert!(IN_COPY.load(SeqCst) > 0, "none of {handled} signals met a copy in {rounds} rounds");
    };
    /// The kernel sends it with a positive code, as for a fault; otherwise only a thread can send that to itself.
    poison_found_elsewhere_during_a_copy_goes_to_the_predecessor => Ends::Well, |_| {
        static IN_TABLE: AtomicUsize = AtomicUsize::new(0);
        child::skip_if_emulated("sending", libc::SIGBUS);
        child::clean_slate();
        foreign::install(B, libc::SIGBUS, libc::SA_SIGINFO | libc::SA_RESTART, &[], |who, _, _, _| {
            let seen = foreign::seen(who);
            if faultin::table::own_table().sites().any(|site| site.insn == seen.pc) {
                IN_TABLE.fetch_add(1, SeqCst);
            }
        });
        faultin::install().unwrap();
        let flags = libc::SA_SIGINFO | libc::SA_RESTART;
        foreign::install(A, libc::SIGUSR1, flags, &[libc::SIGBUS], |_, _, _, _| {
            // Stays pending until this handler returns, and is delivered where the copy was interrupted.
            child::queue(child::tid(), libc::SIGBUS, child::BUS_MCEERR_AO);
        });
        let (me, done) = (child::tid(), std::sync::Arc::new(AtomicBool::new(false)));
        let sender = std::thread::spawn({
            let done = done.clone();
            move || while !done.load(SeqCst) {
                Sent::Tgkill.send_to(me, libc::SIGUSR1);
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        });
        let len = 64 * child::page();
        let (source, mut target) = (vec![1_u8; len], vec![0_u8; len]);
        let start = std::time::Instant::now();
        while foreign::seen(B).calls < 50 || (IN_TABLE.load(SeqCst) < 5 && start.elapsed().as_secs() < 10) {
            // SAFETY: both are locals; no fault is expected.
            unsafe { faultin::raw::copy_in(target.as_mut_ptr(), source.as_ptr(), len) }.unwrap();
        }
        done.store(true, SeqCst);
        sender.join().unwrap();
        assert_eq!(foreign::seen(B).code, child::BUS_MCEERR_AO);
        assert_eq!(faultin::signal::counters().total(), 0);
        assert!(IN_TABLE.load(SeqCst) > 0, "no signal met an instruction of the table");
    };
    copy_in_a_handler_that_interrupts_a_copy_changes_nothing_of_it => Ends::Well, |_| {
        faultin::install().unwrap();
        foreign::install(A, libc::SIGUSR1, libc::SA_SIGINFO | libc::SA_RESTART, &[], |_, _, _, _| {
            child::ours_is_recovered();
        });
        let (me, done) = (child::tid(), std::sync::Arc::new(AtomicBool::new(false)));
        let sender = std::thread::spawn({
            let done = done.clone();
            move || while !done.load(SeqCst) {
                Sent::Tgkill.send_to(me, libc::SIGUSR1);
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        let good = 16 * child::page();
        let source = child::readable_before_bad(good);
        let mut target = vec![1_u8; good + 100];
        while foreign::seen(A).calls < 100 {
            target.fill(1);
            // SAFETY: the target is a local; the source is memory of the tests that ends in a bad page.
            let short = unsafe {
                faultin::raw::copy_in(target.as_mut_ptr(), core::ptr::with_exposed_provenance(source), good + 100)
            }
            .unwrap_err();
            assert_eq!(short.done, good);
            assert!(target[..good].iter().all(|b| *b == 0) && target[good..].iter().all(|b| *b == 1));
        }
        done.store(true, SeqCst);
        sender.join().unwrap();
    };
}
