//! What a handler that was installed before this crate's gets: the same as if the kernel called it.
//!
//! Each row is run twice in one process, before and after this crate's handler is installed, and what the handler got is
//! compared.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::Ends;
use crate::child::{self, SIGNALS, Sent, status_is};
use crate::foreign::{self, A, Seen};

/// What raises the signal.
#[derive(Clone, Copy, Debug)]
enum Raised {
    Fault,
    Sent(Sent),
}

const RAISED: [Raised; 4] =
    [Raised::Fault, Raised::Sent(Sent::Kill), Raised::Sent(Sent::Tgkill), Raised::Sent(Sent::Queued)];

const FLAGS: [(i32, &str); 6] = [
    (libc::SA_SIGINFO, "SIGINFO"),
    (libc::SA_NODEFER, "NODEFER"),
    (libc::SA_ONSTACK, "ONSTACK"),
    (libc::SA_RESETHAND, "RESETHAND"),
    (libc::SA_RESTART, "RESTART"),
    (libc::SA_NODEFER | libc::SA_SIGINFO, "NODEFER|SIGINFO"),
];

const BLOCKED: [&[i32]; 3] = [&[], &[libc::SIGUSR1], &[libc::SIGUSR1, libc::SIGBUS, libc::SIGSEGV]];

#[test]
fn predecessor_sees_what_the_kernel_would_show_it() {
    // Every row in one child: none of them dies.
    crate::parent::check("flags::seen", "", Ends::Well);
}

#[test]
fn one_shot_predecessor_has_one_shot() {
    for signal in SIGNALS {
        for raised in ["fault", "sent"] {
            crate::parent::check("flags::one_shot", &format!("{signal} {raised}"), Ends::Killed(signal));
        }
    }
}

crate::scenarios! {
    ignored_signals_that_are_sent_stay_ignored => Ends::Well, |_| {
        for signal in SIGNALS {
            child::install(signal, libc::SIG_IGN, 0, &[]);
        }
        faultin::install().unwrap();
        for signal in SIGNALS {
            for sent in Sent::ALL {
                let before = faultin::signal::counters().forwarded;
                sent.send(signal);
                assert_eq!(faultin::signal::counters().forwarded - before, 1, "{sent:?} of {signal}");
                status_is!(Direct);
            }
        }
        child::ours_is_recovered();
    };
    system_calls_are_interrupted_as_the_predecessor_wished => Ends::Well, |_| {
        for (flags, interrupted) in [(Some(0), true), (Some(libc::SA_RESTART), false), (None, false)] {
            for ours in [false, true] {
                child::clean_slate();
                match flags {
                    Some(flags) => foreign::install(A, libc::SIGSEGV, flags, &[], foreign::nothing),
                    None => _ = child::install(libc::SIGSEGV, libc::SIG_IGN, 0, &[]),
                }
                if ours {
                    faultin::signal::raise_to_top().unwrap();
                }
                assert_eq!(read_is_interrupted(libc::SIGSEGV), interrupted, "flags {flags:?}, ours {ours}");
            }
        }
    };
}

pub(crate) const TABLES: &[crate::Scenario] = &[("flags::seen", seen_alike), ("flags::one_shot", one_shot)];

fn seen_alike(_: &str) {
    for signal in SIGNALS {
        for (flags, name) in FLAGS {
            for blocked in BLOCKED {
                for raised in RAISED {
                    child::clean_slate();
                    let then = if matches!(raised, Raised::Fault) { foreign::repair } else { foreign::nothing };
                    let play = || {
                        foreign::forget();
                        raise(raised, signal);
                        foreign::seen(A)
                    };
                    foreign::install(A, signal, flags, blocked, then);
                    let alone = play();
                    foreign::install(A, signal, flags, blocked, then);
                    // Installs the first time, and moves above A each time after.
                    faultin::signal::raise_to_top().unwrap();
                    let through_us = play();
                    assert_eq!(alone.calls, 1);
                    // The use of an alternate stack, if there is one, cannot be hidden.
                    let expected = Seen { on_alternate_stack: true, addr: through_us.addr, ..alone };
                    assert_eq!(through_us, expected, "{signal} {name} {blocked:?} {raised:?}");
                    if matches!(raised, Raised::Sent(_)) {
                        assert_eq!(through_us.addr, alone.addr);
                    }
                    if flags & libc::SA_RESETHAND == 0 {
                        status_of(signal);
                    }
                    child::ours_is_recovered();
                }
            }
        }
    }
}

/// The kernel still calls this crate's handler for `signal`.
fn status_of(signal: i32) {
    let status = faultin::signal::status();
    let reached = if signal == libc::SIGBUS { status.bus } else { status.segv };
    assert_eq!(reached, faultin::signal::HandlerState::Direct);
}

fn raise(raised: Raised, signal: i32) {
    match raised {
        Raised::Fault => child::foreign_fault(signal),
        // At the same place each time, because the program counter is compared.
        Raised::Sent(sent) => {
            let before = foreign::seen(A).calls;
            sent.send(signal);
            while foreign::seen(A).calls == before {
                std::thread::yield_now();
            }
        }
    }
}

fn one_shot(argument: &str) {
    let (signal, raised) = argument.split_once(' ').unwrap();
    let signal = signal.parse().unwrap();
    child::clean_slate();
    let then = if raised == "fault" { foreign::repair } else { foreign::nothing };
    foreign::install(A, signal, libc::SA_RESETHAND | libc::SA_SIGINFO, &[], then);
    faultin::install().unwrap();
    if raised == "fault" {
        child::foreign_fault(signal);
    } else {
        Sent::Queued.send(signal);
    }
    assert_eq!(foreign::seen(A).calls, 1);
    child::ours_is_recovered();
    println!("calls: ");
    if raised == "fault" {
        child::dies_of_foreign_fault(signal);
    } else {
        child::dies_of(Sent::Queued, signal);
    }
}

/// Whether `signal` interrupts a blocking `read`.
fn read_is_interrupted(signal: i32) -> bool {
    static READING: AtomicUsize = AtomicUsize::new(0);
    let mut pipe = [0; 2];
    // SAFETY: `pipe` has room for two.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    let me = child::tid();
    READING.store(0, SeqCst);
    let sender = std::thread::spawn(move || {
        while READING.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        Sent::Tgkill.send_to(me, signal);
        std::thread::sleep(std::time::Duration::from_millis(50));
        // SAFETY: one byte to the pipe.
        unsafe { libc::write(pipe[1], c"".as_ptr().cast(), 1) };
    });
    READING.store(1, SeqCst);
    let mut byte = 0_u8;
    // SAFETY: one byte into a local.
    let read = unsafe { libc::read(pipe[0], (&raw mut byte).cast(), 1) };
    let error = std::io::Error::last_os_error();
    sender.join().unwrap();
    assert!(read == 1 || error.raw_os_error() == Some(libc::EINTR), "{error}");
    read != 1
}
