//! Many threads, and locks that would otherwise deadlock.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use faultin::iov::{IovDest, IovSource};
use faultin::map::Rights;
use faultin::{Cause, page_size};
use faultin_cache::copy::MayWait;
use faultin_cache::mutation::{Bug, Mutated};
use faultin_cache::pager::Mode;
use faultin_cache::store::MemoryStore;
use faultin_cache::{Cache, CacheOptions, Error};

use crate::common::buggy::Buggy;
use crate::common::watchdog;
use crate::modes::{each, load, map, pattern, store};

const ROUNDS: usize = if cfg!(target_arch = "x86_64") { 300 } else { 20 };

/// Runs each of `works` in its own thread, and `meanwhile` repeatedly in another, until all of them have ended or panicked.
fn beside(meanwhile: impl Fn() + Sync, works: impl IntoIterator<Item = impl FnOnce() + Send>) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let working: Vec<_> = works.into_iter().map(|work| scope.spawn(work)).collect();
        scope.spawn(|| {
            while !done.load(Relaxed) {
                meanwhile();
            }
        });
        let ended: Vec<_> = working.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Relaxed);
        ended.into_iter().for_each(|result| result.unwrap());
    });
}

/// Threads that store to separate bytes of shared pages while these are evicted and written back.
#[test]
fn no_store_is_lost() {
    let page = page_size();
    let bytes = vec![0; 96 * page];
    each(&bytes, |cache, file, home, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        let take_away = || {
            cache.drop_clean();
            file.sync_all().unwrap();
            assert!(cache.used() <= cache.limit() + 8 * page);
        };
        let mapping = &mapping;
        let write = |number: usize| {
            move || {
                for round in 0..ROUNDS {
                    let at = (round * 31 % 96) * page + number;
                    let byte = load(mapping, at);
                    store(mapping, at, byte.wrapping_add(1));
                }
            }
        };
        beside(take_away, (0..3).map(write));
        file.sync_all().unwrap();
        let contents = home.contents();
        for number in 0..3 {
            let sum: usize = (0..96).map(|index| usize::from(contents[index * page + number])).sum();
            assert_eq!(sum, ROUNDS, "{mode:?}, thread {number}");
        }
    });
}

/// Each thread writes from and reads to a mapping of the file that the other one writes and reads.
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
                        // Writes the same bytes to their own place.
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

/// A caller that holds its lock while the buffer is faulted in would wait for itself.
#[test]
fn a_fault_that_needs_the_lock_is_a_deadlock_that_is_reported() {
    watchdog::start();
    let page = page_size();
    for mode in Mode::ALL {
        let file = Cache::new().open(MemoryStore::new(pattern(8 * page))).unwrap();
        let Some(mapping) = map(&file, mode, 8 * page as u64) else { continue };
        let source = || IovSource::one(mapping.read_view().unwrap());
        let dest = || IovDest::one(mapping.write_view().unwrap());
        let buggy = Mutated::new(&file, Buggy(Some(Bug::FaultsInUnderTheLock)));
        let results = [
            buggy.write_iter_with::<_, MayWait>(&mut source(), 0, &mut ()),
            buggy.read_iter_with::<_, MayWait>(&mut dest(), 0, &mut ()),
            buggy.write_direct_with::<_, MayWait>(&mut source(), 0, &mut ()),
            buggy.read_direct_with::<_, MayWait>(&mut dest(), 0, &mut ()),
        ];
        for result in results {
            let partial = result.unwrap_err();
            let Error::Fault(fault) = partial.error else { panic!("{mode:?}: {partial}") };
            assert_eq!((fault.cause(), fault.errno(), partial.done), (Cause::Deadlock, libc::EDEADLK, 0), "{mode:?}");
            let Some(Error::Deadlock(deadlock)) = mapping.last_error() else { panic!("{:?}", mapping.last_error()) };
            assert_eq!(deadlock.cycle.len(), 1);
            assert_eq!(deadlock.cycle[0].lock.file(), file.number());
        }
        // No lock is held, and everything works.
        assert_eq!(load(&mapping, page), pattern(2 * page)[page]);
    }
}

/// Threads that fault on the same pages at the same time: the later ones find them readable, and have not stored to them.
#[test]
fn many_read_a_mapping_for_reading() {
    let page = page_size();
    let bytes = pattern(16 * page);
    each(&bytes, |cache, file, _, mode| {
        let mapping = file.map(0..bytes.len() as u64, Rights::Read, mode).unwrap();
        let read = || {
            for round in 0..20 * ROUNDS {
                let at = round % 16 * page + round % page;
                assert_eq!(load(&mapping, at), bytes[at], "{mode:?}");
            }
        };
        beside(|| cache.drop_clean(), [read; 3]);
        assert_eq!(file.dirty(), 0);
    });
}

#[test]
fn mappings_come_and_go_while_others_fault() {
    let page = page_size();
    let bytes = pattern(32 * page);
    each(&bytes, |cache, file, _, mode| {
        let take_away = || {
            cache.drop_clean();
            thread::yield_now();
        };
        let bytes = &bytes;
        let come_and_go = |number: usize| {
            move || {
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
            }
        };
        beside(take_away, (0..2).map(come_and_go));
    });
}

/// Blocks that are larger than a page.
#[test]
fn mappings_of_blocks_of_several_pages_show_each_store() {
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

/// Faults of a signal handler that interrupts a thread anywhere, on the alternate stack of Rust's threads, but never during
/// the resolution of another fault.
#[test]
fn a_handler_that_faults_itself() {
    use std::sync::atomic::{AtomicPtr, AtomicUsize};

    static AT: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
    static CALLS: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn touch(_: libc::c_int) {
        let page = CALLS.fetch_add(1, Relaxed) % 32;
        let at = AT.load(Relaxed).wrapping_add(page * page_size());
        if !AT.load(Relaxed).is_null() {
            // SAFETY: within a mapping whose faults the pager resolves, and which exists while signals are sent.
            unsafe { at.read_volatile() };
        }
    }

    let page = page_size();
    let bytes = pattern(32 * page);
    // SAFETY: a handler that is a function of this program and async-signal-safe.
    unsafe { libc::signal(libc::SIGUSR1, touch as *const () as libc::sighandler_t) };
    each(&bytes, |cache, file, _, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        AT.store(mapping.as_ptr(), Relaxed);
        let (done, before) = (AtomicBool::new(false), CALLS.load(Relaxed));
        thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let (mapping, done, bytes) = (&mapping, &done, &bytes);
            let worker = scope.spawn(move || {
                // SAFETY: returns the thread's id.
                tell.send(unsafe { libc::pthread_self() }).unwrap();
                for round in 0..ROUNDS {
                    let at = (round * 7 % 32) * page;
                    assert_eq!(load(mapping, at), bytes[at], "{mode:?}");
                }
                done.store(true, Relaxed);
                while CALLS.load(Relaxed) < before + 20 {
                    thread::yield_now();
                }
            });
            let thread = told.recv().unwrap();
            while !done.load(Relaxed) || CALLS.load(Relaxed) < before + 20 {
                cache.drop_clean();
                // SAFETY: the thread has not ended: it waits for as many signals as this sends.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                thread::yield_now();
            }
            worker.join().unwrap();
        });
        AT.store(std::ptr::null_mut(), Relaxed);
    });
}

/// A thread evicts and writes back everything all the time. Reads and writes with the file itself as the buffer end
/// nevertheless.
#[test]
fn an_eviction_storm_keeps_nobody_from_going_on() {
    let page = page_size();
    let bytes = pattern(32 * page);
    each(&bytes, |cache, file, _, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        let (source, dest) = (mapping.read_view().unwrap(), mapping.write_view().unwrap());
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let storm = scope.spawn(|| {
                while !done.load(Relaxed) {
                    file.sync_all().unwrap();
                    cache.drop_clean();
                    file.dont_need(0..u64::MAX).unwrap();
                }
            });
            let results: Vec<_> = (0..ROUNDS / 4)
                .map(|round| {
                    let (at, len) = (round * 700 % (20 * page), 2 * page + 100);
                    let from = || IovSource::one(source.subslice(at..at + len).unwrap());
                    let to = || IovDest::one(dest.subslice(at..at + len).unwrap());
                    match round % 4 {
                        0 => file.write_iter(&mut from(), at as u64),
                        1 => file.read_iter(&mut to(), at as u64),
                        2 => file.write_direct(&mut from(), at as u64),
                        _ => file.read_direct(&mut to(), at as u64),
                    }
                })
                .collect();
            done.store(true, Relaxed);
            storm.join().unwrap();
            for (round, result) in results.into_iter().enumerate() {
                assert_eq!(result.unwrap(), 2 * page + 100, "{mode:?}, round {round}");
            }
        });
        let mut now = vec![0; bytes.len()];
        file.read_at(&mut now, 0).unwrap();
        assert!(now == bytes, "{mode:?}");
    });
}
