//! Retries, deadlines, and a store that is down.

#![allow(clippy::single_range_in_vec_init, reason = "lists of requests, of which there is one")]

mod support;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use faultin::events::Entry;
use faultin::map::Rights;
use faultin_cache::Cache;
use faultin_cache::pager::{AttachError, Mode};
use faultin_cache::store::ReadRequest;
use faultin_store::object_store::path::Path;
use faultin_store::{Cause, Error, Event, Object, Store, StoreOptions, What};
use support::{Does, PATH, Scripted, copy, pattern};

const BLOCK: usize = 64 << 10;
const LEN: usize = 40 * BLOCK;

fn options() -> StoreOptions {
    StoreOptions::new()
        .read_ahead(false)
        .deadline(Duration::from_secs(20))
        .attempt(Duration::from_secs(5))
        .backoff(Duration::from_millis(1), Duration::from_millis(5))
}

fn open(options: StoreOptions, backend: &Arc<Scripted>) -> Object {
    let store = options.build().unwrap();
    let object = store.open_in(Arc::clone(backend) as _, &Path::from(PATH), "test:///data").unwrap();
    backend.requests();
    object
}

fn read(object: &Object, block: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; BLOCK];
    let read = object.read(&mut bytes, (block * BLOCK) as u64)?;
    assert_eq!(read, BLOCK);
    Ok(bytes)
}

/// The innermost reason.
fn last(cause: &Cause) -> &Cause {
    match cause {
        Cause::Deadline { last: Some(cause), .. } | Cause::Down { last: cause, .. } => last(cause),
        cause => cause,
    }
}

#[test]
fn a_connection_that_ends_is_tried_again_from_the_first_block_that_is_missing() {
    let bytes = pattern(LEN, 1);
    let backend = Scripted::new(&bytes);
    let object = open(options(), &backend);
    backend.next([Does::Breaks(2 * BLOCK + 100), Does::Breaks(0), Does::Breaks(BLOCK)]);
    let mut read = vec![0; 6 * BLOCK];
    assert_eq!(object.read(&mut read, 4 * BLOCK as u64).unwrap(), read.len());
    assert_eq!(read, bytes[4 * BLOCK..10 * BLOCK]);
    let starts: Vec<_> = backend.requests().iter().map(|range| range.start as usize / BLOCK).collect();
    assert_eq!(starts, [4, 6, 6, 7]);
    let stats = object.stats();
    assert_eq!((stats.requests, stats.retries), (5, 3), "{stats:?}");
    let retried = object.store().events().iter().filter(|event| matches!(event.what, What::Retried(_))).count();
    assert_eq!(retried, 3);
}

#[test]
fn the_retries_of_a_handle_are_a_budget() {
    let backend = Scripted::new(&pattern(LEN, 1));
    let object = open(options(), &backend);
    backend.always(Some(Does::Breaks(0)));
    for (retries, block) in [(0, 1), (3, 2)] {
        // Another object of the store: the first one that fails finds it down.
        let object = object.refresh().err().map_or_else(|| object.clone(), |_| open_again(&backend));
        let error = read(&object.with_retries(retries), block).unwrap_err();
        assert!(matches!(error.cause(), Cause::Connection(_)), "{error}");
        assert_eq!(error.attempts(), retries + 1, "{error}");
    }
}

fn open_again(backend: &Arc<Scripted>) -> Object {
    backend.always(None);
    let object = open(options(), backend);
    backend.always(Some(Does::Breaks(0)));
    object
}

#[test]
fn a_deadline_ends_whatever_is_under_way_and_says_what_it_was() {
    let limit = Duration::from_millis(300);
    let cases = [
        (Does::Hangs, Duration::from_secs(60), None),
        (Does::Stalls(BLOCK / 2), Duration::from_secs(60), None),
        (Does::Hangs, Duration::from_millis(50), Some("no answer within 50ms")),
        (Does::Stalls(BLOCK / 2), Duration::from_millis(50), Some("no answer within 50ms")),
        (Does::Breaks(100), Duration::from_secs(60), Some("reset by the test")),
    ];
    let backend = Scripted::new(&pattern(LEN, 1));
    for (does, attempt, says) in cases {
        backend.always(None);
        let options = options().attempt(attempt).retries(1_000_000);
        let object = open(options, &backend).with_deadline(limit);
        backend.always(Some(does.clone()));
        let error = read(&object, 1).unwrap_err();
        let Cause::Deadline { after, last } = error.cause() else { panic!("{does:?}: {error}") };
        assert!(*after <= limit && *after > limit / 2, "{does:?}: {error}");
        assert_eq!(last.is_some(), says.is_some(), "{does:?}: {error}");
        assert!(error.to_string().contains(says.unwrap_or("the deadline")), "{does:?}: {error}");
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);
    }
}

#[test]
fn a_store_that_is_down_holds_no_thread_for_longer_than_one_deadline_and_heals_by_itself() {
    let bytes = pattern(LEN, 1);
    let backend = Scripted::new(&bytes);
    let limit = Duration::from_millis(500);
    let object = open(options().deadline(limit), &backend);
    backend.always(Some(Does::Hangs));
    let begun = Instant::now();
    // One after the other, as a pager's thread would.
    let mut downs = 0;
    for block in 1..30 {
        let error = read(&object, block).unwrap_err();
        downs += usize::from(matches!(error.cause(), Cause::Down { .. }));
        assert!(matches!(error.cause(), Cause::Down { .. } | Cause::Deadline { .. }), "{error}");
    }
    assert!(downs >= 25, "{downs} of 29 failed at once, in {:?}", begun.elapsed());
    assert!(object.store().stats().down.is_some());
    // Also later, when one now and then is let through: each of those waits, and the next one is as much later.
    let waited = |_| {
        thread::sleep(Duration::from_millis(20));
        matches!(read(&object, 7).unwrap_err().cause(), Cause::Deadline { .. })
    };
    let probes = (0..60).map(waited).filter(|&waited| waited).count();
    assert!((1..20).contains(&probes), "{probes} of 60 have waited");
    backend.always(None);
    let healed = (0..2000).find_map(|_| {
        thread::sleep(Duration::from_millis(5));
        read(&object, 7).ok()
    });
    assert_eq!(healed.expect("it never heals"), bytes[7 * BLOCK..8 * BLOCK]);
    assert_eq!(object.store().stats().down, None);
    let events: Vec<_> = object.store().events().iter().map(|event| event.what.clone()).collect();
    assert!(events.iter().any(|what| matches!(what, What::Down(_))), "{events:?}");
    assert!(events.iter().any(|what| matches!(what, What::Up)), "{events:?}");
}

#[test]
fn a_store_that_sends_a_body_is_not_down_for_an_access_that_joins_late() {
    let bytes = pattern(LEN, 1);
    let backend = Scripted::new(&bytes);
    let object = open(options(), &backend);
    backend.pace(Duration::from_millis(5));
    thread::scope(|scope| {
        let long = scope.spawn(|| {
            let mut read = vec![0; 30 * BLOCK];
            assert_eq!(object.read(&mut read, BLOCK as u64).unwrap(), read.len());
            assert!(read == bytes[BLOCK..31 * BLOCK]);
        });
        while backend.active().0 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(50));
        let error = read(&object.with_deadline(Duration::from_millis(100)), 30).unwrap_err();
        assert!(matches!(error.cause(), Cause::Deadline { .. }), "{error}");
        assert!(!long.is_finished(), "the machine is too slow for this test: the body is there already");
    });
    let events = object.store().events();
    assert!(!events.iter().any(|event| matches!(event.what, What::Down(_))), "{events:?}");
}

#[test]
fn faults_of_mappings_of_a_store_that_is_down_fail_together_in_any_mode() {
    let limit = Duration::from_secs(1);
    for mode in Mode::ALL {
        let bytes = pattern(LEN, 1);
        let backend = Scripted::new(&bytes);
        let object = open(options().deadline(limit), &backend);
        let file = Cache::new().open(object.clone()).unwrap();
        let map = match file.map(0..LEN as u64, Rights::Read, mode) {
            Ok(map) => map,
            Err(error @ AttachError::Mode { .. }) => {
                faultin_test::skipped("uffd", error);
                continue;
            }
            Err(error) => panic!("{mode:?}: {error}"),
        };
        backend.always(Some(Does::Hangs));
        let begun = Instant::now();
        thread::scope(|scope| {
            for thread in 1..9 {
                let map = &map;
                scope.spawn(move || {
                    let (done, fault) = copy(&map.read_view().unwrap(), &mut [0; 100], thread * 4 * BLOCK);
                    assert_eq!((done, fault.map(|fault| fault.cause())), (0, Some(faultin::Cause::Backing)));
                });
            }
        });
        let took = begun.elapsed();
        // Not eight deadlines: the figure is generous, because the machine may be busy.
        assert!(took < 4 * limit, "{mode:?}: eight threads took {took:?}");
        let error = map.last_error().unwrap();
        let error = Error::of(&error).unwrap_or_else(|| panic!("{error}"));
        assert!(matches!(error.cause(), Cause::Down { .. } | Cause::Deadline { .. }), "{error}");
        backend.always(None);
        let healed = (0..2000).any(|_| {
            thread::sleep(Duration::from_millis(5));
            let mut read = [0; 100];
            copy(&map.read_view().unwrap(), &mut read, 4 * BLOCK).0 == 100 && read == bytes[4 * BLOCK..4 * BLOCK + 100]
        });
        assert!(healed, "{mode:?}");
    }
}

#[test]
fn what_a_store_has_noted_and_the_faults_of_mappings_are_in_one_order() {
    let backend = Scripted::new(&pattern(LEN, 1));
    let object = open(options().retries(1), &backend);
    let file = Cache::new().open(object.clone()).unwrap();
    let map = file.map(0..LEN as u64, Rights::Read, Mode::Mprotect).unwrap();
    let view = map.read_view().unwrap();
    backend.always(Some(Does::Breaks(0)));
    let (done, fault) = copy(&view, &mut [0; 100], 4 * BLOCK);
    assert_eq!((done, fault.map(|fault| fault.cause())), (0, Some(faultin::Cause::Backing)));

    let events = faultin::events();
    let entries: Vec<Entry<'_>> = events.entries().collect();
    let noted: Vec<u64> = object.store().events().iter().map(|note| note.sequence).collect();
    let place = |is_it: &dyn Fn(&Event) -> bool| {
        let is_it = |entry: &Entry<'_>| match entry {
            Entry::Note(note) => noted.contains(&note.sequence) && note.downcast_ref().is_some_and(is_it),
            _ => false,
        };
        entries.iter().position(is_it)
    };
    let retried = place(&|event| matches!(event.what, What::Retried(_))).expect("it was tried again");
    let failed = place(&|event| matches!(event.what, What::Failed(_))).expect("it has failed");
    assert!(retried < failed, "{entries:?}");
    let says = entries[failed].to_string();
    assert!(says.starts_with("test:///data, bytes 262144 to ") && says.contains("attempt 2: "), "{says}");
    // The copy has faulted before anything was requested. Without a handler it has not.
    let pages = view.as_ptr().addr()..view.as_ptr().addr() + LEN;
    let faulted = |entry: &Entry<'_>| match entry {
        Entry::Fault(event) => event.fault.address().is_some_and(|at| pages.contains(&at)),
        _ => false,
    };
    if faultin::signal::status().is_covered() {
        assert!(entries.iter().position(faulted).expect("it has faulted") < retried, "{entries:?}");
    }
}

#[test]
fn what_no_thread_waits_for_is_cancelled() {
    let backend = Scripted::new(&pattern(LEN, 1));
    let object = open(options().retries(0), &backend);
    backend.always(Some(Does::Hangs));
    let error = read(&object.with_deadline(Duration::from_millis(50)), 3).unwrap_err();
    assert!(matches!(last(error.cause()), Cause::Deadline { .. }), "{error}");
    let is_idle = |_| {
        thread::sleep(Duration::from_millis(5));
        backend.active().0 == 0
    };
    assert!((0..2000).any(is_idle), "{:?}", backend.active());
    // An object that is dropped takes its readahead with it.
    backend.always(None);
    let object = open(StoreOptions::new(), &backend);
    read(&object, 0).unwrap();
    backend.always(Some(Does::Hangs));
    let short = object.with_deadline(Duration::from_millis(50));
    let _ = read(&short, 1);
    let _ = read(&short, 2);
    drop((object, short));
    assert!((0..2000).any(is_idle), "{:?}", backend.active());
}

#[test]
fn a_store_that_is_down_fails_those_that_open_its_objects_at_once_and_a_probe_finds_that_it_works_again() {
    let backend = Scripted::new(&pattern(LEN, 1));
    let object = open(options().deadline(Duration::from_millis(300)), &backend);
    backend.always(Some(Does::Hangs));
    let causes: Vec<_> = (0..4).map(|_| object.refresh().unwrap_err().cause().clone()).collect();
    assert!(matches!(causes[0], Cause::Deadline { .. }), "{causes:?}");
    // One of them may be a probe.
    assert!(causes.iter().any(|cause| matches!(cause, Cause::Down { .. })), "{causes:?}");
    assert!(object.store().events().iter().any(|event| matches!(event.what, What::Down(_))));
    assert!(object.store().events().iter().any(|event| matches!(event.what, What::Failed(Cause::Deadline { .. }))));
    assert!(object.store().stats().down.is_some());
    // Accesses know of it, too.
    assert!(matches!(read(&object, 9).unwrap_err().cause(), Cause::Down { .. } | Cause::Deadline { .. }));
    backend.always(None);
    let opened =
        (0..1000).find_map(|_| object.refresh().inspect_err(|_| thread::sleep(Duration::from_millis(10))).ok());
    assert_eq!(read(&opened.expect("it works again"), 9).unwrap().len(), BLOCK);
    assert!(object.store().stats().down.is_none());
}

#[test]
fn a_child_of_fork_opens_objects_in_a_store_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    std::fs::write(&path, "to be").unwrap();
    let url = format!("file://{}", path.display());
    let object = Object::open(&url).unwrap();
    // SAFETY: the child makes a few calls, for which this test has no lock, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child if it hangs.
        unsafe { libc::alarm(300) };
        let opened = Object::open(&url).and_then(|object| object.read(&mut [0; 5], 0));
        let again = Object::open(&url).is_ok_and(|again| again.version() == object.version());
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!(again && opened.is_ok_and(|read| read == 5)))) };
    }
    let mut status = 0;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
}

#[test]
fn what_an_object_has_done_is_counted_once_while_a_request_outlives_it() {
    let backend = Scripted::new(&pattern(LEN, 1));
    let object = open(options().read_ahead(true), &backend);
    let store = object.store().clone();
    (0..6).for_each(|block| drop(read(&object, block).unwrap()));
    backend.always(Some(Does::Hangs));
    let waits = object.clone();
    let reader = thread::spawn(move || read(&waits.with_deadline(Duration::from_millis(200)), 30));
    let sums: Vec<_> = (0..20)
        .map(|_| {
            thread::sleep(Duration::from_millis(1));
            store.stats().objects.read
        })
        .collect();
    drop(object);
    assert!(reader.join().unwrap().is_err());
    let after: Vec<_> = (0..200).map(|_| store.stats().objects.read).collect();
    assert!(sums.iter().chain(&after).all(|&read| read == 6 * BLOCK as u64), "{sums:?} {after:?}");
}

#[test]
fn a_child_of_fork_gets_an_error_at_once() {
    let backend = Scripted::new(&pattern(LEN, 1));
    let object = open(options(), &backend);
    let store: Store = object.store().clone();
    // SAFETY: the child makes one call, which takes no lock of the library, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_closed = object.read(&mut [0; 10], 0).is_err_and(|error| matches!(error.cause(), Cause::Closed));
        drop((object, store));
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!is_closed)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(object.read(&mut [0; 10], 0).unwrap(), 10);
}

#[test]
fn nothing_is_requested_behind_the_first_byte_that_cannot_be_had() {
    let bytes = pattern(LEN, 1);
    let backend = Scripted::new(&bytes);
    // Ten parts of four blocks, a request each.
    let object = open(options().memory(16 * BLOCK), &backend);
    backend.next([Does::Well, Does::Well]);
    backend.always(Some(Does::Fails));
    let mut read = vec![0; LEN];
    assert_eq!(object.read(&mut read, 0).unwrap(), 8 * BLOCK);
    assert!(read[..8 * BLOCK] == bytes[..8 * BLOCK]);
    let starts: Vec<_> = backend.requests().iter().map(|range| range.start as usize / BLOCK).collect();
    // The first block has come with the object.
    assert_eq!(starts, [1, 4, 8]);
    // Of two ranges, one may go on.
    let (mut first, mut second) = (vec![0; 4 * BLOCK], vec![0; 4 * BLOCK]);
    let mut reads = [ReadRequest::new(10 * BLOCK as u64, &mut first), ReadRequest::new(30 * BLOCK as u64, &mut second)];
    backend.next([Does::Fails, Does::Well, Does::Well]);
    let results = object.read_many(&mut reads);
    assert!(matches!(results[..], [Err(_), Ok(read)] if read == 4 * BLOCK), "{results:?}");
}

/// One server, or its memory, does not hold up another one.
#[test]
fn a_store_that_hangs_leaves_turns_and_memory_to_others() {
    for (requests, memory) in [(3, 64 << 20), (64, 16 * BLOCK)] {
        let store = options().requests(requests).memory(memory).request_bytes(BLOCK).build().unwrap();
        let [hangs, works] = [1, 2].map(|seed| Scripted::new(&pattern(LEN, seed)));
        let [object, other] = [&hangs, &works]
            .map(|backend| store.open_in(Arc::clone(backend) as _, &Path::from(PATH), "test:///data").unwrap());
        hangs.always(Some(Does::Hangs));
        let before = hangs.active().0;
        thread::scope(|scope| {
            for block in 1..30 {
                let object = object.with_deadline(Duration::from_secs(4));
                scope.spawn(move || read(&object, block).unwrap_err());
            }
            while hangs.active().0 < before + 3 {
                thread::sleep(Duration::from_millis(5));
            }
            thread::sleep(Duration::from_millis(200));
            let other = other.with_deadline(Duration::from_secs(2));
            for block in 1..10 {
                read(&other, block).unwrap_or_else(|error| panic!("{requests} requests, {memory} bytes: {error}"));
            }
        });
    }
}
