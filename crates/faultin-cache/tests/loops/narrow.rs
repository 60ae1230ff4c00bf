//! Accesses that need more pages at once than the cache has: each ends, and what `fault_in` and `probe` report is true when
//! they return.

use std::num::NonZeroUsize;
use std::ptr;

use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin::{Cause, Granularity, ReadView, Short, WriteView};
use faultin_cache::pager::{Mapping, Mode};
use faultin_cache::{CacheOptions, Error, Partial};

use crate::common::compare::assert_same;
use crate::common::watchdog;
use crate::counted::{map, open, pattern};

const PAGE: usize = 4096;
const PAGES: usize = 16;
const LEN: usize = PAGES * PAGE;

/// The length in bytes of an access that begins 55 bytes before the end of a page.
const ACROSS: usize = 128;

/// The start of an access that needs this page and the next one.
fn across(page: usize) -> usize {
    (page + 1) * PAGE - 55
}

/// A copy by code that does not handle faults.
fn foreign_read(mapping: &Mapping, at: usize) -> [u8; ACROSS] {
    assert!(at + ACROSS <= mapping.len());
    let mut bytes = [0; ACROSS];
    // SAFETY: within the mapping, whose faults are resolved.
    unsafe { ptr::copy_nonoverlapping(mapping.as_ptr().add(at), bytes.as_mut_ptr(), ACROSS) };
    bytes
}

/// A single instruction that needs two pages.
fn foreign_load(mapping: &Mapping, page: usize) -> u64 {
    let at = (page + 1) * PAGE - 3;
    assert!(at + 8 <= mapping.len());
    // SAFETY: within the mapping, whose faults are resolved.
    unsafe { mapping.as_ptr().add(at).cast::<u64>().read_unaligned() }
}

/// The mapping has the reason why a copy stopped: the cache is full of bytes that the store does not accept.
fn assert_full(mapping: &Mapping, short: &Short, case: &str) {
    assert_eq!(short.fault.cause(), Cause::Backing, "{case}: {short}");
    match mapping.last_error() {
        Some(Error::Full { store: Some(why), .. }) => assert_eq!(why.raw_os_error(), Some(libc::EIO), "{case}"),
        other => panic!("{case}: {other:?}"),
    }
}

/// One page stays dirty; the two pages of the access do not evict each other.
#[test]
fn an_access_across_two_pages_beside_a_page_that_cannot_be_written() {
    watchdog::start();
    for mode in Mode::ALL {
        for blocks in [0, 1, 2, 3, 4, 8] {
            for dirty in [0, 1, 2, 5, 15] {
                let cache = CacheOptions::new().block(PAGE).limit(blocks * PAGE).build();
                let (file, store) = open(&cache, &pattern(LEN, 1), 1);
                let Some(mapping) = map(&file, LEN, mode) else { continue };
                let mut expected = pattern(LEN, 1);
                store.refuse_writes(true);
                file.write_at(&[8; 40], (dirty * PAGE) as u64).unwrap();
                expected[dirty * PAGE..][..40].fill(8);
                let view = mapping.read_view().unwrap();
                for page in 0..PAGES - 1 {
                    let case = format!("{mode:?}, {blocks} blocks, page {dirty} dirty, across page {page}");
                    let at = across(page);
                    let ought = &expected[at..at + ACROSS];
                    assert_eq!(foreign_read(&mapping, at), ought, "{case}");
                    let ought_load = u64::from_ne_bytes(expected[(page + 1) * PAGE - 3..][..8].try_into().unwrap());
                    assert_eq!(foreign_load(&mapping, page), ought_load, "{case}");
                    let is = restart(
                        LEN,
                        |done| {
                            let mut bytes = [0; ACROSS];
                            let read = view.read(&mut bytes[..ACROSS.saturating_sub(done)], at + done);
                            (read.map_or_else(|short| short.done, |()| ACROSS - done), ACROSS - done)
                        },
                        |done| view.fault_in(at + done, NonZeroUsize::new(ACROSS - done).unwrap()).map(drop).is_ok(),
                    );
                    assert_eq!(is, ACROSS, "{case}");
                }
                let most = (blocks + 4) * PAGE;
                assert!(cache.used() <= most, "{mode:?}, {blocks} blocks: {} bytes", cache.used());
                store.refuse_writes(false);
                let _ = file.sync_all();
                file.sync_all().unwrap();
                assert_same(&store.memory.contents(), &expected, &format!("{mode:?}, {blocks} blocks"));
            }
        }
    }
}

/// The restart rule: copies until `copy` has moved everything that it requests. Returns the number of bytes moved.
fn restart(
    most: usize,
    mut copy: impl FnMut(usize) -> (usize, usize),
    mut fault_in: impl FnMut(usize) -> bool,
) -> usize {
    let mut done = 0;
    for _ in 0..4 * most {
        let (moved, asked) = copy(done);
        done += moved;
        if moved == asked || moved == 0 && !fault_in(done) {
            return done;
        }
    }
    panic!("{done} bytes, and no end");
}

/// Stores dirty more and more pages, which stay in memory: each store ends, from some point on with the store's error.
#[test]
fn stores_across_two_pages_end_while_the_store_refuses_writes() {
    watchdog::start();
    for mode in Mode::ALL {
        for blocks in [0, 1, 2, 4] {
            let cache = CacheOptions::new().block(PAGE).limit(blocks * PAGE).build();
            let (file, store) = open(&cache, &pattern(LEN, 1), 1);
            let Some(mapping) = map(&file, LEN, mode) else { continue };
            let mut expected = pattern(LEN, 1);
            store.refuse_writes(true);
            let view = mapping.write_view().unwrap();
            let mut refused = 0;
            for page in 0..PAGES - 1 {
                let case = format!("{mode:?}, {blocks} blocks, across page {page}");
                let (at, bytes) = (across(page), [page as u8 + 1; ACROSS]);
                let done = restart(
                    LEN,
                    |done| {
                        let written = view.write(&bytes[done..], at + done);
                        (written.map_or_else(|short| short.done, |()| ACROSS - done), ACROSS - done)
                    },
                    |done| match view.fault_in(at + done, NonZeroUsize::new(ACROSS - done).unwrap()) {
                        Ok(_) => true,
                        Err(fault) => {
                            assert_full(&mapping, &Short { done, fault }, &case);
                            refused += 1;
                            false
                        }
                    },
                );
                expected[at..at + done].fill(page as u8 + 1);
                // Loads end as well, there and elsewhere.
                for at in [at, across((page + 7) % (PAGES - 1))] {
                    let mut is = [0; ACROSS];
                    match view.as_read().read(&mut is, at) {
                        Ok(()) => assert_eq!(is, expected[at..at + ACROSS], "{case}"),
                        Err(short) => assert_eq!(is[..short.done], expected[at..at + short.done], "{case}"),
                    }
                }
            }
            assert!(refused > 0, "{mode:?}, {blocks} blocks");
            let most = (blocks + 4) * PAGE;
            assert!(cache.used() <= most, "{mode:?}, {blocks} blocks: {} bytes", cache.used());
            store.refuse_writes(false);
            let _ = file.sync_all();
            file.sync_all().unwrap();
            assert_same(&store.memory.contents(), &expected, &format!("{mode:?}, {blocks} blocks"));
            view.write(&expected, 0).or_else(|_| view.fault_in(0, NonZeroUsize::MIN).map(drop)).unwrap();
        }
    }
}

/// The consumer requests more bytes than the cache holds.
#[test]
fn the_restart_rule_ends_with_a_length_that_does_not_fit() {
    watchdog::start();
    for mode in Mode::ALL {
        for blocks in [0, 1, 2, 3, 4, 15] {
            for writes in [false, true] {
                let cache = CacheOptions::new().block(PAGE).limit(blocks * PAGE).build();
                let (file, store) = open(&cache, &pattern(LEN, 1), 1);
                let Some(mapping) = map(&file, LEN, mode) else { continue };
                let case = format!("{mode:?}, {blocks} blocks, writes: {writes}");
                let bytes = pattern(LEN, 2);
                let mut is = vec![0; LEN];
                let (read, write) = (mapping.read_view().unwrap(), mapping.write_view().unwrap());
                let mut rounds = 0;
                let done = restart(
                    64,
                    |done| {
                        rounds += 1;
                        let copied =
                            if writes { write.write(&bytes[done..], done) } else { read.read(&mut is[done..], done) };
                        (copied.map_or_else(|short| short.done, |()| LEN - done), LEN - done)
                    },
                    |done| {
                        let len = NonZeroUsize::new(LEN - done).unwrap();
                        let usable = if writes { write.fault_in(done, len) } else { read.fault_in(done, len) }.unwrap();
                        let still = |len| match writes {
                            true => write.write(&bytes[done..done + len], done),
                            false => read.read(&mut vec![0; len], done),
                        };
                        assert_eq!(still(usable.get()), Ok(()), "{case}: {usable} bytes at {done} were promised");
                        true
                    },
                );
                assert_eq!(done, LEN, "{case}");
                assert!(rounds <= 4 * PAGES, "{case}: {rounds} rounds");
                let times = store.read() as f64 / LEN as f64;
                assert!(times <= if mode == Mode::Thread { 16.0 } else { 6.0 }, "{case}: read {times:.1} times");
                if writes {
                    file.sync_all().unwrap();
                    assert_same(&store.memory.contents(), &bytes, &case);
                } else {
                    assert_same(&is, &pattern(LEN, 1), &case);
                }
            }
        }
    }
}

/// Everything that a probe has reported accessible is accessible when it returns.
#[test]
fn a_probe_is_short_where_all_of_it_does_not_stay() {
    watchdog::start();
    for mode in [Mode::Signal, Mode::Mprotect] {
        for blocks in [1, 2, 3, 4, 15, 16] {
            for granularity in [Granularity::Page, Granularity::Line, Granularity::Tag] {
                for start in [0, 1, PAGE - 1, 3 * PAGE] {
                    for stores in [false, true] {
                        let cache = CacheOptions::new().block(PAGE).limit(blocks * PAGE).build();
                        let (file, _) = open(&cache, &pattern(LEN, 1), 1);
                        let Some(mapping) = map(&file, LEN, mode) else { continue };
                        let case = format!("{mode:?}, {blocks} blocks, {granularity:?} from {start}, stores: {stores}");
                        let (read, write) = (mapping.read_view().unwrap(), mapping.write_view().unwrap());
                        let len = LEN - start;
                        let proven = match stores {
                            true => write.probe(start..start + len, granularity),
                            false => read.probe(start..start + len, granularity),
                        };
                        let pages = (start % PAGE + len).div_ceil(PAGE);
                        let done = match proven {
                            Ok(()) => {
                                assert!(pages <= blocks.max(2), "{case}: all of {pages} pages");
                                len
                            }
                            Err(short) => {
                                assert!(pages > blocks, "{case}: {short}");
                                assert_eq!(short.fault.cause(), Cause::NotResident, "{case}: {short}");
                                short.done
                            }
                        };
                        let is = match stores {
                            true => write.write(&vec![1; done], start),
                            false => read.read(&mut vec![0; done], start),
                        };
                        assert_eq!(is, Ok(()), "{case}: {done} bytes were proven");
                    }
                }
            }
        }
    }
}

/// The same for lists whose segments are on separate pages.
#[test]
fn lists_promise_what_stays() {
    watchdog::start();
    for mode in [Mode::Signal, Mode::Mprotect] {
        for blocks in [1, 2, 3, 4, 16] {
            let cache = CacheOptions::new().block(PAGE).limit(blocks * PAGE).build();
            let (file, _) = open(&cache, &pattern(LEN, 1), 1);
            let Some(mapping) = map(&file, LEN, mode) else { continue };
            let case = format!("{mode:?}, {blocks} blocks");
            let (read, write) = (mapping.read_view().unwrap(), mapping.write_view().unwrap());
            let cuts = || (0..PAGES).map(|page| page * PAGE + 100..page * PAGE + 108);
            let len = NonZeroUsize::new(8 * PAGES).unwrap();
            let segments: Vec<ReadSegment<'_, ReadView<'_>>> =
                cuts().map(|cut| read.subslice(cut).unwrap().into()).collect();
            let promised = IovSource::new(&segments).fault_in(len).unwrap().get();
            let mut is = vec![0; promised];
            assert_eq!(IovSource::new(&segments).copy_from_iter(&mut is), Ok(promised), "{case}");
            let proven = IovSource::new(&segments).probe(len.get(), Granularity::Page);
            let proven = proven.map_or_else(|short| short.done, |()| len.get());
            let mut is = vec![0; proven];
            assert_eq!(IovSource::new(&segments).copy_from_iter(&mut is), Ok(proven), "{case}");
            let mut segments: Vec<WriteSegment<'_, WriteView<'_>>> =
                cuts().map(|cut| write.subslice(cut).unwrap().into()).collect();
            let promised = IovDest::new(&mut segments).fault_in(len).unwrap().get();
            assert_eq!(IovDest::new(&mut segments).copy_to_iter(&vec![1; promised]), Ok(promised), "{case}");
        }
    }
}

/// A loop that ends because the store does not accept dirty bytes reports that, not an eviction of its buffer. The bytes
/// that it moved before stay.
#[test]
fn a_loop_that_ends_because_the_store_refuses_gives_its_reason() {
    watchdog::start();
    for mode in Mode::ALL {
        for blocks in [0, 1, 2, 3, 4, 8] {
            let cache = CacheOptions::new().block(PAGE).limit(blocks * PAGE).build();
            let (file, store) = open(&cache, &pattern(LEN, 1), 1);
            let Some(mapping) = map(&file, LEN, mode) else { continue };
            let mut expected = pattern(LEN, 1);
            store.refuse_writes(true);
            let mut refused = 0;
            for round in 0..2 * PAGES {
                let (from, to) = ((round * 5 + 3) % PAGES * PAGE, (round * 7 + 1) % PAGES * PAGE);
                if from == to {
                    continue;
                }
                let writes = round % 3 != 0;
                let moved = if writes {
                    let view = mapping.read_view().unwrap().subslice(from..from + PAGE).unwrap();
                    file.write_iter(&mut IovSource::one(view), to as u64)
                } else {
                    let view = mapping.write_view().unwrap().subslice(to..to + PAGE).unwrap();
                    file.read_iter(&mut IovDest::one(view), from as u64)
                };
                let case = format!("{mode:?}, {blocks} blocks, round {round}, writes: {writes}");
                let done = match moved {
                    Ok(done) => done,
                    Err(Partial { done, error: Error::Full { store: Some(why), .. } }) => {
                        assert_eq!(why.raw_os_error(), Some(libc::EIO), "{case}");
                        refused += 1;
                        done
                    }
                    Err(partial) => panic!("{case}: {partial:?}"),
                };
                expected.copy_within(from..from + done, to);
            }
            assert!(refused > 0, "{mode:?}, {blocks} blocks");
            store.refuse_writes(false);
            let _ = file.sync_all();
            file.sync_all().unwrap();
            assert_same(&store.memory.contents(), &expected, &format!("{mode:?}, {blocks} blocks"));
        }
    }
}
