//! Models of the pager's mailbox.

use std::sync::Arc;

use loom::thread::{self, JoinHandle};

use crate::explore;
use crate::mailbox::Mailbox;

fn post(mailbox: &Arc<Mailbox>, address: usize) -> JoinHandle<bool> {
    let mailbox = Arc::clone(mailbox);
    thread::spawn(move || mailbox.post(address, None, 1))
}

/// As the pager's thread does, until it has had `count` of them; yes to those at an odd address.
fn serve(mailbox: &Mailbox, count: usize) {
    let mut served = 0;
    loop {
        while let Some(request) = mailbox.take() {
            served += 1;
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
    explore(|| {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let [odd, even] = [1, 2].map(|address| post(&mailbox, address));
        serve(&mailbox, 2);
        assert!(odd.join().unwrap());
        assert!(!even.join().unwrap());
        assert!(mailbox.take().is_none());
    });
}

#[test]
fn one_after_the_other() {
    explore(|| {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let poster = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || [3, 4, 5].map(|address| mailbox.post(address, None, 1)))
        };
        serve(&mailbox, 3);
        assert_eq!(poster.join().unwrap(), [true, false, true]);
    });
}

#[test]
fn what_is_dropped_is_a_no() {
    explore(|| {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let posted = post(&mailbox, 1);
        mailbox.bell.wait();
        drop(mailbox.take().expect("it rang after it had come"));
        assert!(!posted.join().unwrap());
    });
}

#[test]
fn closing_answers_everybody() {
    explore(|| {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let posted = [1, 3].map(|address| post(&mailbox, address));
        mailbox.close();
        posted.map(|posted| assert!(!posted.join().unwrap()));
        assert!(mailbox.take().is_none());
        assert!(!mailbox.post(1, None, 1));
    });
}

#[test]
fn closing_while_it_is_being_served_answers_once() {
    explore(|| {
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
