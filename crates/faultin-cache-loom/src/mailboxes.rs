//! Models of the pager's mailbox.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread::{self, JoinHandle};

use crate::explore;
use crate::mailbox::Mailbox;

/// The actions before: of the faulting thread, and of the pager's thread for it.
#[derive(Default)]
struct Page {
    wanted: UnsafeCell<bool>,
    filled: UnsafeCell<bool>,
}

// SAFETY: loom watches the cells, and reports accesses that are not in order.
unsafe impl Sync for Page {}
// SAFETY: as above.
unsafe impl Send for Page {}

fn post(mailbox: &Arc<Mailbox>, address: usize) -> JoinHandle<bool> {
    let mailbox = Arc::clone(mailbox);
    thread::spawn(move || mailbox.post(address, None, None))
}

/// Does what the pager's thread does, until it has had `count` requests; answers yes to those at an odd address.
fn serve(mailbox: &Mailbox, count: usize, before: impl Fn(usize)) {
    let mut served = 0;
    loop {
        while let Some(request) = mailbox.take() {
            served += 1;
            before(request.address);
            let odd = request.address % 2 == 1;
            request.answer(odd);
        }
        if served == count {
            return;
        }
        mailbox.bell.wait();
    }
}

#[test]
fn each_gets_its_own_answer() {
    explore(2, || {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let [odd, even] = [1, 2].map(|address| post(&mailbox, address));
        serve(&mailbox, 2, |_| ());
        assert!(odd.join().unwrap());
        assert!(!even.join().unwrap());
        assert!(mailbox.take().is_none());
    });
}

#[test]
fn what_was_done_for_it_was_done_before_the_answer() {
    explore(3, || {
        let (mailbox, page) = (Arc::new(Mailbox::new().unwrap()), Arc::new(Page::default()));
        let posted = {
            let (mailbox, page) = (Arc::clone(&mailbox), Arc::clone(&page));
            thread::spawn(move || {
                // SAFETY: loom reports it if it is wrong; so for the others.
                page.wanted.with_mut(|wanted| unsafe { *wanted = true });
                assert!(mailbox.post(1, None, None));
                // SAFETY: as above.
                assert!(page.filled.with(|filled| unsafe { *filled }));
            })
        };
        serve(&mailbox, 1, |_| {
            // SAFETY: as above.
            assert!(page.wanted.with(|wanted| unsafe { *wanted }));
            // SAFETY: as above.
            page.filled.with_mut(|filled| unsafe { *filled = true });
        });
        posted.join().unwrap();
    });
}

#[test]
fn one_after_the_other() {
    explore(3, || {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let poster = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || [3, 4, 5].map(|address| mailbox.post(address, None, None)))
        };
        serve(&mailbox, 3, |_| ());
        assert_eq!(poster.join().unwrap(), [true, false, true]);
    });
}

#[test]
fn what_is_dropped_is_a_no() {
    explore(3, || {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let posted = post(&mailbox, 1);
        mailbox.bell.wait();
        drop(mailbox.take().expect("it rang after it had come"));
        assert!(!posted.join().unwrap());
    });
}

#[test]
fn closing_answers_everybody() {
    explore(3, || {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let posted = [1, 3].map(|address| post(&mailbox, address));
        mailbox.close();
        posted.into_iter().for_each(|posted| assert!(!posted.join().unwrap()));
        assert!(mailbox.take().is_none());
        assert!(!mailbox.post(1, None, None));
    });
}

#[test]
fn closing_answers_what_has_been_taken() {
    explore(3, || {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let posted = [1, 3].map(|address| post(&mailbox, address));
        let taken = mailbox.take();
        mailbox.close();
        posted.into_iter().for_each(|posted| assert!(!posted.join().unwrap()));
        if let Some(taken) = taken {
            // Too late.
            taken.answer(true);
        }
    });
}

#[test]
fn closing_while_it_is_being_served_answers_once() {
    explore(3, || {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let posted = post(&mailbox, 1);
        let closer = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.close())
        };
        let taken = mailbox.take().map(|request| request.answer(true)).is_some();
        // It was answered with yes only if it was taken.
        assert!(!posted.join().unwrap() || taken);
        closer.join().unwrap();
    });
}

/// One leaves at once, if it has not been answered by then; the other stays.
#[test]
fn who_leaves_takes_its_request_along() {
    explore(2, || {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let leaving = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.post(2, None, Some(&|| true)))
        };
        let staying = post(&mailbox, 1);
        let mut answered = [false; 3];
        while !answered[1] {
            mailbox.bell.wait();
            while let Some(request) = mailbox.take() {
                answered[request.address] = true;
                let odd = request.address % 2 == 1;
                request.answer(odd);
            }
        }
        assert!(staying.join().unwrap());
        // It was answered with no only if its request was taken.
        while let Some(request) = mailbox.take() {
            answered[request.address] = true;
        }
        if !leaving.join().unwrap() {
            assert!(answered[2] || mailbox.take().is_some());
        }
        assert!(mailbox.take().is_none());
    });
}

#[test]
fn who_leaves_while_it_is_closed_gets_one_answer() {
    explore(3, || {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let leaving = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.post(1, None, Some(&|| true)))
        };
        let taken = mailbox.take();
        mailbox.close();
        drop(taken);
        leaving.join().unwrap();
        assert!(mailbox.take().is_none());
    });
}
