//! The adversary: a thread that unmaps the pages, one after the other, and maps each again with its contents.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::mapping::{Protection, Reservation};

/// Runs `work` concurrently with the adversary; `work` gets the number of pages that were unmapped and mapped again.
pub(super) fn run<R>(range: &Reservation, file: &File, work: impl FnOnce(&AtomicU64) -> R) -> io::Result<R> {
    let (cycles, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        // Dropped also where `work` panics: the scope waits for the thread.
        let stopping = Stopping(&stop);
        let adversary = scope.spawn(|| -> io::Result<()> {
            for index in (0..range.pages()).cycle() {
                range.unmap(index)?;
                thread::yield_now();
                range.map(index, file, Protection::ReadWrite)?;
                thread::yield_now();
                cycles.fetch_add(1, Ordering::Relaxed);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            Ok(())
        });
        let worked = work(&cycles);
        drop(stopping);
        adversary.join().expect("the adversary does not panic")?;
        Ok(worked)
    })
}

struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
