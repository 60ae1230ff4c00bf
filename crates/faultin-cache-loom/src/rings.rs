//! Models of the ring of events: writers in handlers of several threads, with cells that all of them need, and a reader.

use std::sync::Arc;

use loom::thread;

use crate::explore;
use crate::signal::inside::ring::{Cell, Ring};

/// Two words that belong together, for each writer and record.
fn words(me: u64, number: u64) -> [u64; 2] {
    let first = 10 * me + number;
    [first, !first]
}

fn check([first, second]: [u64; 2]) {
    assert_eq!(second, !first, "the words of one record");
}

#[test]
fn a_record_is_never_torn() {
    explore(3, || {
        let ring = Arc::new(Ring::<2, 1>::new());
        let writers = [1, 2].map(|me| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || ring.push(words(me, 0)))
        });
        for (ticket, record) in ring.records() {
            check(record);
            assert!(ticket < ring.count());
        }
        for writer in writers {
            writer.join().unwrap();
        }
        let records: Vec<_> = ring.records().collect();
        assert_eq!((ring.count(), records.len()), (2, 1), "counted, and one of them kept");
        check(records[0].1);
    });
}

/// A thread that was interrupted in its cell for a whole round: the others go on, and its words are in no record of theirs.
#[test]
fn a_writer_that_is_overtaken_spoils_no_record() {
    explore(2, || {
        let ring = Arc::new(Ring::<2, 2>::new());
        let slow = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || ring.push(words(1, 0)))
        };
        for number in 0..3 {
            ring.push(words(2, number));
            for (_, record) in ring.records() {
                check(record);
            }
        }
        slow.join().unwrap();
        let records: Vec<_> = ring.records().collect();
        records.iter().for_each(|(_, record)| check(*record));
        assert_eq!(ring.count(), 4);
        assert_eq!(records.len(), 2, "no cell stays empty or closed");
    });
}

/// The owner of a mapping keeps the position of an event while another event overwrites it: the position is of the event
/// whose ticket it has.
#[test]
fn what_is_kept_for_a_record_is_of_that_record() {
    explore(3, || {
        let kept = Arc::new(Cell::<2>::new());
        let other = {
            let kept = Arc::clone(&kept);
            thread::spawn(move || kept.write(1, words(1, 1)))
        };
        let first = kept.write(0, words(0, 0));
        if let Some((ticket, record)) = kept.read() {
            assert_eq!(record, words(ticket, ticket));
        }
        let second = other.join().unwrap();
        assert!(first || second, "one is not in the way of the other unless that writes");
        let (ticket, record) = kept.read().expect("one was written");
        assert_eq!((ticket, record), if second { (1, words(1, 1)) } else { (0, words(0, 0)) });
    });
}
