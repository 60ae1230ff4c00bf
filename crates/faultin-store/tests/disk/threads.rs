//! Threads that read, store and evict at the same time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use super::*;

#[test]
fn threads_see_right_bytes_within_the_limit() {
    const SLOTS: usize = 64;
    const BLOCKS: u64 = 200;
    let place = Place::new();
    let disk = place.open(SLOTS);
    let (found, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|worker| {
                let (disk, found) = (&disk, &found);
                scope.spawn(move || {
                    let random = Random::for_user(7, worker);
                    for _ in 0..20_000 {
                        // Some blocks are more popular than others.
                        let block = random.below(random.below(BLOCKS) + 1);
                        if has(disk, block) {
                            found.fetch_add(1, Relaxed);
                        } else {
                            disk.put(key(block), bytes(block).into());
                        }
                    }
                })
            })
            .collect();
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Relaxed) {
                most = most.max(used(&place.dir()));
                thread::sleep(Duration::from_millis(1));
            }
            most
        });
        // So that the watching thread ends when one of them fails.
        let ends: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Relaxed);
        let most = watch.join().expect("no panic");
        assert!(most <= limit(SLOTS), "{most} bytes");
        ends.into_iter().for_each(|end| end.expect("no panic"));
    });
    assert!(disk.flush(Duration::from_secs(60)));
    let stats = disk.stats();
    assert!(stats.evicted > 0 && found.into_inner() > 0, "{stats:?}");
    assert_eq!((stats.damaged, stats.errors, stats.late), (0, 0, 0), "{stats:?}");
    drop(disk);
    let again = place.open(SLOTS);
    assert_eq!(count(&again, 0..BLOCKS) as u64, stats.blocks);
}

#[test]
fn tiers_are_opened_and_dropped_while_others_are_used() {
    let place = Place::new();
    thread::scope(|scope| {
        for worker in 0..4 {
            let place = &place;
            scope.spawn(move || {
                for round in 0..20 {
                    let disk = place.open(16);
                    put(&disk, worker..worker + 3);
                    count(&disk, 0..10);
                    assert!(disk.stats().state != DiskState::Opening, "{round}");
                }
            });
        }
    });
}

/// It has none of the tier's threads, and locks that they held when it was forked stay locked in it.
#[test]
fn a_child_of_fork_has_a_tier_that_misses_and_ends_at_once() {
    let place = Place::new();
    let disk = place.open(16);
    put(&disk, 0..4);
    // SAFETY: the child makes calls that take no lock of the tier, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut buf = [0; SLOT];
        let misses = disk.get(&key(0), &mut buf).is_none();
        disk.put(key(9), vec![0; SLOT].into());
        let (ends, stats) = (disk.flush(Duration::from_secs(600)), disk.stats());
        let is_closed = stats.state == DiskState::Closed && stats.dropped == 1 && stats.blocks == 0;
        let begun = std::time::Instant::now();
        drop(disk);
        let is_fast = begun.elapsed() < Duration::from_millis(900);
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!(misses && ends && is_closed && is_fast))) };
    }
    let mut status = 0;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(count(&disk, 0..4), 4);
    assert_eq!(disk.stats().state, DiskState::Ready);
}
