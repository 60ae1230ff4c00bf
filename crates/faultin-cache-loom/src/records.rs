//! Models of data that are read while they are written: predecessors' actions, stamps of files, the epoch of a mapping, the
//! slots of threads that hold locks.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::Arc;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

use crate::explore;
use crate::map::record::Record;
use crate::map::stamp::{Observation, Stamp};
use crate::signal::inside::disposition::{Action, Disposition};
use crate::signal::inside::epoch::Epoch;
use crate::threads::Threads;

#[test]
fn an_action_is_never_a_mixture() {
    let action = |n: u8| Action { handler: n.into(), flags: n.into(), mask: n.into() };
    explore(3, move || {
        let disposition = Arc::new(Disposition::new());
        let writer = {
            let disposition = Arc::clone(&disposition);
            thread::spawn(move || (1..=3).for_each(|n| disposition.set(action(n))))
        };
        let mut last = 0;
        for _ in 0..2 {
            if let Some(Action { handler, flags, mask }) = disposition.get() {
                assert_eq!((handler, handler), (flags as usize, mask as usize));
                assert!(handler >= last);
                last = handler;
            }
        }
        writer.join().unwrap();
        assert_eq!(disposition.get().map(|action| action.handler), Some(3));
    });
}

/// Returns two stamps of one file, with different sizes and times.
fn stamps() -> [Stamp; 2] {
    // SAFETY: a new descriptor.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"loom".as_ptr(), libc::MFD_CLOEXEC)) };
    let mut last: Option<Stamp> = None;
    [1, 2].map(|len| {
        loop {
            file.set_len(len).unwrap();
            let stamp = Stamp::of(&file).unwrap();
            // Also its times, which advance in steps.
            let mut as_long = stamp;
            as_long.size = last.map_or(0, |last| last.size);
            if last != Some(as_long) {
                last = Some(stamp);
                return stamp;
            }
            file.set_len(9).unwrap();
        }
    })
}

#[test]
fn a_stamp_is_never_a_mixture() {
    let seen = stamps().map(|stamp| Observation { settled: stamp.size == 1, ..Observation::of(|| Ok(stamp)).unwrap() });
    explore(2, move || {
        let record = Arc::new(Record::new(seen[0]));
        let writer = {
            let record = Arc::clone(&record);
            thread::spawn(move || record.set(&record.lock(), &seen[1]))
        };
        let now = record.get();
        assert!(seen.contains(&now.last) && now.size == now.last.stamp.size);
        writer.join().unwrap();
        assert_eq!(record.get().last, seen[1]);
    });
}

#[test]
fn a_stamp_that_is_accepted_leaves_the_size() {
    let seen = stamps().map(|stamp| Observation { settled: stamp.size == 1, ..Observation::of(|| Ok(stamp)).unwrap() });
    explore(2, move || {
        let record = Arc::new(Record::new(seen[0]));
        let writer = {
            let record = Arc::clone(&record);
            thread::spawn(move || record.accept(&seen[1], |_| false))
        };
        let now = record.get();
        assert!(seen.contains(&now.last) && now.size == seen[0].stamp.size);
        writer.join().unwrap();
        assert_eq!((record.get().last, record.get().size), (seen[1], seen[0].stamp.size));
    });
}

#[test]
fn zeros_of_a_scan_are_never_taken_for_the_files() {
    const FILE: u32 = 7;
    /// Stands for a system call that maps, which orders what is before it and what is after it.
    fn map(byte: &AtomicU32, new: u32) {
        fence(Ordering::SeqCst);
        byte.store(new, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
    explore(3, || {
        let mapping = Arc::new((Epoch::new(), AtomicU32::new(FILE)));
        let handler = {
            let mapping = Arc::clone(&mapping);
            thread::spawn(move || {
                let (epoch, byte) = &*mapping;
                epoch.damage();
                map(byte, 0);
                // The scan ends.
                map(byte, FILE);
                epoch.heal();
            })
        };
        let (epoch, byte) = &*mapping;
        for _ in 0..2 {
            let before = epoch.now();
            let read = byte.load(Ordering::Relaxed);
            assert!(read == FILE || !epoch.was_whole(before));
        }
        handler.join().unwrap();
        assert!(!epoch.is_damaged());
    });
}

#[test]
fn a_slot_is_one_threads_and_says_what_it_holds() {
    explore(2, || {
        let slots = Arc::new(Threads::new());
        let owners = Arc::new(Mutex::new(Vec::new()));
        let work = |number: u32| {
            let (slots, owners) = (Arc::clone(&slots), Arc::clone(&owners));
            move || {
                let slot = slots.take(number, 1);
                let address = std::ptr::from_ref(slot).addr();
                {
                    let mut owners = owners.lock().unwrap();
                    assert!(!owners.contains(&address));
                    owners.push(address);
                }
                // The query of a handler of this thread.
                assert!(!slots.is_held_by(number));
                slot.count(1);
                assert!(slots.is_held_by(number));
                slot.count(-1);
                assert!(!slots.is_held_by(number));
                slot.count(1);
                owners.lock().unwrap().retain(|&owner| owner != address);
                slots.give_back(slot);
            }
        };
        let threads = [1, 2].map(|number| thread::spawn(work(number)));
        // The answer for another thread may be outdated, but must be one of the two.
        let _ = slots.is_held_by(1);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!slots.is_held_by(1) && !slots.is_held_by(2));
        assert!(slots.all().count() <= 2);
    });
}
