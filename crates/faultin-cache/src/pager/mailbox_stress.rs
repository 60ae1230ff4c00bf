//! The mailbox with real threads, signals and futexes; `crates/faultin-cache-loom` has the orders of its steps.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, OnceLock};
use std::thread;

use faultin::Access;

use super::inside::mailbox::{Mailbox, Request};

/// Does what the pager's thread does: polls, and takes until there is nothing.
fn serve(mailbox: &Mailbox, end: &AtomicBool, mut request: impl FnMut(Request<'_>)) {
    while !end.load(Ordering::Relaxed) {
        let mut fd = libc::pollfd { fd: mailbox.fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor. There is no time limit: posting and closing ring.
        unsafe { libc::poll(&raw mut fd, 1, -1) };
        while let Some(taken) = mailbox.take() {
            request(taken);
        }
    }
}

#[test]
fn each_of_many_threads_gets_its_own_answer() {
    const THREADS: usize = 100;
    const ROUNDS: usize = 100;
    let mailbox = Mailbox::new().unwrap();
    let end = AtomicBool::new(false);
    let taken = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            serve(&mailbox, &end, |request| {
                taken.fetch_add(1, Ordering::Relaxed);
                let expected = if request.address % 3 == 0 { Some(Access::Write) } else { None };
                assert_eq!(request.access, expected);
                let odd = request.address % 2 == 1;
                // No, both by an answer and by dropping it.
                if odd || request.address % 4 == 0 { request.answer(odd) } else { drop(request) }
            });
        });
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for me in 0..THREADS {
                let (start, mailbox) = (&start, &mailbox);
                scope.spawn(move || {
                    start.wait();
                    for address in me * ROUNDS..(me + 1) * ROUNDS {
                        let access = if address % 3 == 0 { Some(Access::Write) } else { None };
                        assert_eq!(mailbox.post(address, access, None), address % 2 == 1);
                    }
                });
            }
        });
        end.store(true, Ordering::Relaxed);
        mailbox.close();
    });
    assert_eq!(taken.into_inner(), THREADS * ROUNDS);
}

#[test]
fn the_oldest_is_first() {
    let mailbox = Mailbox::new().unwrap();
    thread::scope(|scope| {
        for address in 0..3 {
            let mailbox = &mailbox;
            scope.spawn(move || assert!(mailbox.post(address, None, None)));
            // The bell is rung after it is in the list.
            let mut fd = libc::pollfd { fd: mailbox.fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor.
            assert_eq!(unsafe { libc::poll(&raw mut fd, 1, -1) }, 1);
            let mut count = [0_u8; 8];
            // SAFETY: a buffer of its own.
            assert_eq!(unsafe { libc::read(fd.fd, count.as_mut_ptr().cast(), 8) }, 8);
        }
        let mut taken: Vec<_> = std::iter::from_fn(|| mailbox.take()).collect();
        assert_eq!(taken.iter().map(|request| request.address).collect::<Vec<_>>(), [0, 1, 2]);
        // Answered in another order than they were taken.
        taken.swap_remove(1).answer(true);
        taken.into_iter().for_each(|request| request.answer(true));
    });
}

#[test]
fn closing_it_answers_everybody_who_waits_or_comes() {
    let mailbox = Mailbox::new().unwrap();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..10)
            .map(|at| {
                scope.spawn({
                    let mailbox = &mailbox;
                    move || mailbox.post(at, None, None)
                })
            })
            .collect();
        let taken = std::iter::repeat_with(|| mailbox.take()).inspect(|_| thread::yield_now()).find_map(|taken| taken);
        mailbox.close();
        for posted in waiting {
            assert!(!posted.join().unwrap());
        }
        // Too late.
        taken.unwrap().answer(true);
    });
    assert!(!mailbox.post(0, None, None));
    assert!(mailbox.take().is_none());
    mailbox.close();
}

/// The mailbox that the handler posts to.
static NESTED: OnceLock<Mailbox> = OnceLock::new();
static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn fault_in_a_handler(_: libc::c_int) {
    let mailbox = NESTED.get().expect("it is made before there is a handler");
    // An address that is answered with yes.
    if mailbox.post(1, None, None) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
}

/// More threads than there are words wait for an answer, each is interrupted there by a handler that posts again, and that
/// one by another.
#[test]
fn a_handler_that_interrupts_one_that_waits_posts_in_turn() {
    const THREADS: usize = 70;
    const DEPTH: usize = 3;
    let mailbox = NESTED.get_or_init(|| Mailbox::new().unwrap());
    let signal = libc::SIGRTMIN() + 3;
    // SAFETY: an async-signal-safe handler, for a signal of this test.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = fault_in_a_handler as *const () as usize;
        action.sa_flags = libc::SA_NODEFER;
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
    let threads = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let posting: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    // SAFETY: no conditions.
                    threads.lock().unwrap().push(unsafe { libc::pthread_self() });
                    // No: an even address.
                    assert!(!mailbox.post(0, None, None));
                })
            })
            .collect();
        // Nothing is answered before all of them wait, at every depth.
        let mut requests = Vec::new();
        let mut gather = |count: usize| {
            while requests.len() < count {
                match mailbox.take() {
                    Some(request) => requests.push(request),
                    None => thread::yield_now(),
                }
            }
        };
        gather(THREADS);
        for depth in 1..=DEPTH {
            for &thread in threads.lock().unwrap().iter() {
                // SAFETY: it waits for an answer, so it exists.
                assert_eq!(unsafe { libc::pthread_kill(thread, signal) }, 0);
            }
            gather(THREADS * (depth + 1));
        }
        // The ones beneath first: their threads cannot check for the answer.
        for request in requests {
            let odd = request.address % 2 == 1;
            request.answer(odd);
        }
        posting.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(HANDLED.load(Ordering::Relaxed), THREADS * DEPTH);
}

/// Threads that leave repeatedly, and post again, as they do for signals. Each gets its own answer in the end.
#[test]
fn who_leaves_posts_again_and_gets_its_answer() {
    const THREADS: usize = 8;
    let mailbox = Mailbox::new().unwrap();
    let (end, left) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0_usize;
            serve(&mailbox, &end, |request| {
                count += 1;
                // Some are withdrawn while they are being resolved.
                if count.is_multiple_of(3) {
                    thread::sleep(std::time::Duration::from_millis(25));
                }
                let odd = request.address % 2 == 1;
                request.answer(odd);
            });
        });
        thread::scope(|scope| {
            for address in 0..THREADS {
                let (mailbox, left) = (&mailbox, &left);
                scope.spawn(move || {
                    for turn in 0..5 {
                        let again = AtomicBool::new(true);
                        let leave = || again.swap(false, Ordering::Relaxed);
                        let mut answer = mailbox.post(address, None, Some(&leave));
                        if !again.into_inner() && address % 2 == 0 && answer {
                            // It has left: only then an even address is told to try again.
                            left.fetch_add(1, Ordering::Relaxed);
                            answer = mailbox.post(address, None, None);
                        }
                        assert_eq!(answer, address % 2 == 1, "turn {turn}");
                    }
                });
            }
        });
        end.store(true, Ordering::Relaxed);
        mailbox.close();
    });
    assert!(left.into_inner() > 0, "nobody has left");
}
