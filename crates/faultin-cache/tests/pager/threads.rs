//! Many threads, and locks that would be waited for for ever.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use faultin::iov::{IovDest, IovSource};
use faultin::{Cause, page_size};
use faultin_cache::pager::Mode;
use faultin_cache::store::MemoryStore;
use faultin_cache::write::{Bug, WriteLoop};
use faultin_cache::{Cache, CacheOptions, Error, FileOptions};

use crate::common::watchdog;
use crate::modes::{each, load, map, pattern, store};

const ROUNDS: usize = if cfg!(target_arch = "x86_64") { 300 } else { 20 };

/// Threads that store to bytes of their own in pages that they share, while these are taken away and written back.
#[test]
fn no_store_is_lost() {
    let page = page_size();
    let bytes = vec![0; 96 * page];
    each(&bytes, |cache, file, home, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..3_usize)
                .map(|number| {
                    let mapping = &mapping;
                    scope.spawn(move || {
                        for round in 0..ROUNDS {
                            let at = (round * 31 % 96) * page + number;
                            let byte = load(mapping, at);
                            store(mapping, at, byte.wrapping_add(1));
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    cache.drop_clean();
                    file.sync_all().unwrap();
                    assert!(cache.used() <= cache.limit() + 8 * page);
                }
            });
            let ended: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Relaxed);
            ended.into_iter().for_each(|result| result.unwrap());
        });
        file.sync_all().unwrap();
        let contents = home.contents();
        for number in 0..3 {
            let sum: usize = (0..96).map(|index| usize::from(contents[index * page + number])).sum();
            assert_eq!(sum, ROUNDS, "{mode:?}, thread {number}");
        }
    });
}

/// Each writes from, and reads to, a mapping of the file that the other one writes and reads.
#[test]
fn two_threads_and_two_files_with_each_others_mappings_as_buffers() {
    let page = page_size();
    let bytes = pattern(24 * page);
    each(&bytes, |cache, file, _, mode| {
        let other = cache.open(MemoryStore::new(bytes.clone())).unwrap();
        let maps = [file, &other].map(|file| map(file, mode, bytes.len() as u64).unwrap());
        thread::scope(|scope| {
            for (file, mapping) in [(file, &maps[1]), (&other, &maps[0])] {
                let bytes = &bytes;
                scope.spawn(move || {
                    for round in 0..ROUNDS / 5 {
                        let (at, len) = (round * 1000 % (20 * page), 3 * page);
                        let source = mapping.read_view().unwrap().subslice(at..at + len).unwrap();
                        // The same bytes to where they are already.
                        assert_eq!(file.write_iter(&mut IovSource::one(source), at as u64).unwrap(), len);
                        let dest = mapping.write_view().unwrap().subslice(at..at + len).unwrap();
                        assert_eq!(file.read_iter(&mut IovDest::one(dest), at as u64).unwrap(), len);
                        if round % 4 == 0 {
                            file.sync_all().unwrap();
                            file.dont_need(0..u64::MAX).unwrap();
                        }
                        assert_eq!(load(mapping, at), bytes[at]);
                    }
                });
            }
        });
    });
}

/// What a file system does that keeps its lock while the buffer is faulted in: it would wait for itself.
#[test]
fn a_fault_that_needs_the_lock_is_a_deadlock_that_is_reported() {
    watchdog::start();
    let page = page_size();
    for mode in Mode::ALL {
        let write_loop = WriteLoop { bug: Some(Bug::FaultsInUnderTheLock), ..WriteLoop::DEFAULT };
        let options = FileOptions::new().write_loop(write_loop);
        let file = Cache::new().open_with(MemoryStore::new(pattern(8 * page)), options).unwrap();
        let Some(mapping) = map(&file, mode, 8 * page as u64) else { continue };
        let source = || IovSource::one(mapping.read_view().unwrap());
        let dest = || IovDest::one(mapping.write_view().unwrap());
        let results = [
            file.write_iter(&mut source(), 0),
            file.read_iter(&mut dest(), 0),
            file.write_direct(&mut source(), 0),
            file.read_direct(&mut dest(), 0),
        ];
        for result in results {
            let partial = result.unwrap_err();
            let Error::Fault(fault) = partial.error else { panic!("{mode:?}: {partial}") };
            assert_eq!((fault.cause(), fault.errno(), partial.done), (Cause::Deadlock, libc::EDEADLK, 0), "{mode:?}");
            let Some(Error::Deadlock(deadlock)) = mapping.last_error() else { panic!("{:?}", mapping.last_error()) };
            assert_eq!(deadlock.circle.len(), 1);
            assert_eq!(deadlock.circle[0].lock.file(), file.number());
        }
        // Nothing is locked, and nothing broken.
        assert_eq!(load(&mapping, page), pattern(2 * page)[page]);
    }
}

#[test]
fn mappings_come_and_go_while_others_fault() {
    let page = page_size();
    let bytes = pattern(32 * page);
    each(&bytes, |cache, file, _, mode| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..2_usize)
                .map(|number| {
                    let bytes = &bytes;
                    scope.spawn(move || {
                        for round in 0..ROUNDS / 10 {
                            let mapping = map(file, mode, bytes.len() as u64).unwrap();
                            for turn in 0..8 {
                                let at = ((round + turn * 5) % 32) * page + 64 * number;
                                assert_eq!(load(&mapping, at), bytes[at], "{mode:?}");
                                store(&mapping, at, bytes[at]);
                            }
                            let view = mapping.read_view().unwrap();
                            assert!(view.fault_in(0, NonZeroUsize::new(4 * page).unwrap()).is_ok());
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    cache.drop_clean();
                    thread::yield_now();
                }
            });
            let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Relaxed);
            ended.into_iter().for_each(|result| result.unwrap());
        });
    });
}

/// Blocks that are larger than a page.
#[test]
fn blocks_of_several_pages() {
    watchdog::start();
    let page = page_size();
    let bytes = pattern(64 * page);
    for mode in Mode::ALL {
        let cache = CacheOptions::new().block(4 * page).limit(32 * page).build();
        let file = cache.open(MemoryStore::new(bytes.clone())).unwrap();
        let Some(mapping) = map(&file, mode, bytes.len() as u64) else { continue };
        for index in (0..64).rev() {
            let at = index * page + 3;
            store(&mapping, at, load(&mapping, at) ^ 0xff);
        }
        let mut now = vec![0; bytes.len()];
        file.read_at(&mut now, 0).unwrap();
        assert!(
            (0..bytes.len()).all(|at| now[at] == if at % page == 3 { bytes[at] ^ 0xff } else { bytes[at] }),
            "{mode:?}"
        );
    }
}
