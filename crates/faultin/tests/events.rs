//! Counters and events of faults: each fault counts once, with its outcome, cause and access; events have the file and the
//! offset while the map is open and afterwards, and are never torn.

// Without the crate's assembly there is no handler.
#![cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))]

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use faultin::events::{Entry, Event, Notes, Outcome};
use faultin::map::{Rights, Watch};
use faultin::pager::{Pager, register};
use faultin::shared::SharedMap;
use faultin::signal::{Counters, counters};
use faultin::{Access, Cause, Fault, FileMap, MapOptions, ReadView, WriteView, events, page_size};
use tempfile::NamedTempFile;

/// Numbers of faults are those of the process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    faultin::install().expect("the handler");
    alone
}

/// What `f` has caused.
fn caused(f: impl FnOnce()) -> (Counters, Vec<Event>) {
    let (before, seen) = (counters(), events().as_slice().last().map(|event| event.sequence));
    f();
    let new = events().into_iter().filter(|event| seen.is_none_or(|seen| event.sequence > seen)).collect();
    (counters().since(&before), new)
}

/// A page that cannot be accessed.
fn nowhere() -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, which stays.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), page_size(), libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    page.cast()
}

/// A file of eight pages, and a map of it.
fn mapped() -> (NamedTempFile, FileMap) {
    let file = NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), vec![7; 8 * page_size()]).expect("write it");
    let map = MapOptions::new().watch(Watch::Nothing).open(file.path()).expect("map it");
    (file, map)
}

fn cut(file: &NamedTempFile, pages: usize) {
    file.as_file().set_len((pages * page_size()) as u64).expect("truncate it");
}

/// Fails at byte `at`, which was cut off.
fn fails(map: &FileMap, at: usize) {
    let error = map.read_exact_at(&mut [0; 5], at as u64).expect_err("it was cut off");
    assert_eq!(error.fault().map(|fault| fault.cause()), Some(Cause::Backing));
}

fn assert_is_at(event: &Event, file: &File, offset: usize) {
    let (meta, found) = (file.metadata().expect("ask for it"), event.file.expect("the file is known"));
    assert_eq!((found.device, found.inode, found.offset), (meta.dev(), meta.ino(), offset as u64), "{event}");
}

#[test]
fn a_recovered_fault_has_its_place_in_the_file_thread_and_time() {
    let _alone = alone();
    let (file, map) = mapped();
    cut(&file, 2);
    let at = 3 * page_size() + 17;
    let begun = SystemTime::now();
    let (counted, new) = caused(|| fails(&map, at));
    assert_eq!((counted.faults(), counted.of(Outcome::Recovered, Cause::Backing, Access::Read)), (1, 1));
    let [event] = new[..] else { panic!("one event: {new:?}") };
    assert_eq!((event.outcome, event.fault.cause()), (Outcome::Recovered, Cause::Backing));
    assert_eq!((event.fault.access(), event.fault.signal()), (Access::Read, libc::SIGBUS));
    assert_is_at(&event, file.as_file(), at);
    assert!(event.instruction.is_some());
    // SAFETY: a number of this thread.
    assert_eq!(event.thread, unsafe { libc::pthread_self() } as u64);
    let tick = Duration::from_millis(10);
    match event.time {
        Some(time) => assert!(time + tick >= begun && time <= SystemTime::now(), "{event:?}"),
        None => faultin_test::skipped("vdso", "no clock without a system call"),
    }
}

#[test]
fn the_place_is_known_after_the_map_is_dropped_and_its_addresses_used_again() {
    let _alone = alone();
    let (file, map) = mapped();
    cut(&file, 2);
    let at = 5 * page_size() + 1;
    let (_, new) = caused(|| fails(&map, at));
    drop(map);
    // Most likely at the same addresses.
    let (other, other_map) = mapped();
    let again = |sequence| events().into_iter().find(|event| event.sequence == sequence).expect("it is kept");
    assert_is_at(&again(new[0].sequence), file.as_file(), at);
    cut(&other, 1);
    let (_, later) = caused(|| fails(&other_map, at));
    assert_is_at(&later[0], other.as_file(), at);
    assert_is_at(&again(new[0].sequence), file.as_file(), at);
    drop(other_map);
    assert_is_at(&again(later[0].sequence), other.as_file(), at);
    assert_is_at(&again(new[0].sequence), file.as_file(), at);
}

#[test]
fn a_fault_of_other_memory_before_a_map_has_its_addresses_is_not_the_maps() {
    let _alone = alone();
    // Memory is unmapped and a file is mapped there, until it gets the same address.
    let (file, map) = mapped();
    drop(map);
    let free = nowhere();
    let (_, new) = caused(|| {
        // SAFETY: a page of this test; the fault is recovered.
        let _ = unsafe { faultin::raw::load(free) }.expect_err("it is forbidden");
    });
    // SAFETY: the page of this test.
    assert_eq!(unsafe { libc::munmap(free.cast(), page_size()) }, 0);
    let maps: Vec<_> =
        (0..4).map(|_| MapOptions::new().watch(Watch::Nothing).open(file.path()).expect("map it")).collect();
    let event = events().into_iter().find(|event| event.sequence == new[0].sequence).expect("it is kept");
    assert_eq!((event.file, event.fault.cause()), (None, Cause::Protection));
    drop(maps);
    let event = events().into_iter().find(|event| event.sequence == new[0].sequence).expect("it is kept");
    assert_eq!(event.file, None);
}

#[test]
fn zeros_for_other_code_are_substituted() {
    let _alone = alone();
    let (file, map) = mapped();
    let at = 6 * page_size() + 9;
    let (counted, new) = caused(|| {
        // SAFETY: nothing relies on a byte.
        let damaged = unsafe {
            map.with_slice(.., |bytes| {
                cut(&file, 1);
                std::ptr::from_ref(&bytes[at]).read_volatile()
            })
        };
        assert_eq!(damaged.expect_err("it was cut").value, Some(0));
    });
    assert_eq!((counted.substituted, counted.all(Outcome::Substituted), counted.faults()), (1, 1, 1));
    assert_eq!((new.len(), new[0].outcome), (1, Outcome::Substituted));
    assert_is_at(&new[0], file.as_file(), at);
}

#[test]
fn loads_and_stores_count_apart() {
    let _alone = alone();
    let page = nowhere();
    // SAFETY: a page of this test.
    let (reads, writes) = unsafe { (ReadView::new(page, 64).unwrap(), WriteView::new(page, 64).unwrap()) };
    let (counted, new) = caused(|| {
        assert!(reads.load::<u32>(0).is_err());
        assert!(writes.store(0, 1_u32).is_err());
        assert!(writes.store(8, 1_u32).is_err());
        // Nothing is accessed, so nothing faults.
        assert_eq!(reads.load::<u32>(62).expect_err("past the end").cause(), Cause::OutOfRange);
    });
    let of = |access| counted.of(Outcome::Recovered, Cause::Protection, access);
    assert_eq!((of(Access::Read), of(Access::Write), counted.recovered(Cause::Protection)), (1, 2, 3));
    assert_eq!((counted.total(), counted.faults()), (3, 3));
    assert!(new.iter().all(|event| event.file.is_none()), "no map of this crate is there");
    let places: Vec<_> = new.iter().map(|event| event.fault.address().map(|at| at - page.addr())).collect();
    assert_eq!(places, [Some(0), Some(0), Some(8)]);
}

/// Refuses everything.
struct Refuses;

// SAFETY: it resolves nothing.
unsafe impl Pager for Refuses {
    fn fault_in(&self, address: usize, _: usize, access: Access) -> Result<(), Fault> {
        Err(Fault::rejected(access, Cause::Backing, address))
    }
}

#[test]
fn a_refusal_of_a_pager_counts() {
    let _alone = alone();
    let page = nowhere();
    // SAFETY: the page of this test.
    let served = unsafe { register(page.addr()..page.addr() + page_size(), Arc::new(Refuses)) }.expect("the handler");
    let (counted, new) = caused(|| {
        // SAFETY: the same page.
        let fault = unsafe { faultin::raw::fault_in_writeable(page, NonZeroUsize::MIN) };
        assert_eq!(fault.expect_err("the pager refuses").cause(), Cause::Backing);
    });
    drop(served);
    assert_eq!(counted.of(Outcome::Refused, Cause::Backing, Access::Write), 1, "{new:?}");
    let refused: Vec<_> = new.iter().filter(|event| event.outcome == Outcome::Refused).collect();
    assert_eq!((refused.len(), refused[0].fault.signal(), refused[0].instruction), (1, 0, None));
}

#[test]
fn a_fault_that_the_kernel_reports_counts_without_a_signal() {
    let _alone = alone();
    let page = nowhere();
    let mut to = [0_u8; 8];
    let (counted, new) = caused(|| {
        // SAFETY: the kernel checks the source; the destination is this array.
        let short = unsafe { faultin::signal_free::copy_in(to.as_mut_ptr(), page, 8) };
        assert_eq!(short.expect_err("it is forbidden").done, 0);
    });
    assert_eq!((counted.all(Outcome::Reported), counted.total()), (1, 0));
    assert_eq!((new.len(), new[0].outcome, new[0].fault.address()), (1, Outcome::Reported, Some(page.addr())));
}

#[test]
fn a_peer_that_shrinks_shared_memory_is_seen_with_the_file() {
    let _alone = alone();
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(2 * page_size() as u64).expect("set its length");
    let peer = file.try_clone().expect("another descriptor");
    let map = SharedMap::from_file(file, 2 * page_size(), Rights::Read).expect("map it");
    peer.set_len(0).expect("shrink it");
    let at = page_size() + 8;
    let (counted, new) = caused(|| assert!(map.read_once::<[u8; 5]>(at as u64).is_err()));
    assert_eq!(counted.recovered(Cause::Backing), 1);
    assert_is_at(&new[0], &peer, at);
}

#[test]
fn what_no_longer_fits_is_counted_as_overwritten() {
    const KEPT: u64 = 256;
    let _alone = alone();
    let page = nowhere();
    let before = counters();
    for _ in 0..2 * KEPT + 3 {
        // SAFETY: a page of this test; the fault is recovered.
        let _ = unsafe { faultin::raw::load(page) }.expect_err("it is forbidden");
    }
    let all = events();
    assert_eq!(counters().since(&before).total(), 2 * KEPT + 3);
    assert_eq!(all.as_slice().len() as u64, KEPT);
    let last = all.as_slice().last().expect("256 of them").sequence;
    assert_eq!(all.overwritten() + KEPT, last + 1);
    let numbers: Vec<u64> = all.into_iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (last + 1 - KEPT..=last).collect::<Vec<_>>());
}

#[test]
fn faults_of_many_threads_are_all_counted_and_no_event_is_torn() {
    const THREADS: usize = 4;
    const EACH: usize = 3_000;
    let _alone = alone();
    let pages: Vec<usize> = (0..THREADS).map(|_| nowhere().addr()).collect();
    let over = AtomicBool::new(false);
    let before = counters();
    let first = events().as_slice().last().map_or(0, |event| event.sequence + 1);
    let seen = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            while !over.load(SeqCst) {
                seen.extend(events().into_iter().filter(|event| event.sequence >= first));
            }
            seen
        });
        let writers: Vec<_> = pages
            .iter()
            .map(|&page| {
                let work = move || {
                    for i in 0..EACH {
                        let at = std::ptr::with_exposed_provenance::<u8>(page + i % page_size());
                        // SAFETY: a page of this test; the fault is recovered.
                        let _ = unsafe { faultin::raw::load(at) }.expect_err("it is forbidden");
                    }
                };
                scope.spawn(move || {
                    work();
                    // SAFETY: a number of this thread.
                    unsafe { libc::pthread_self() as u64 }
                })
            })
            .collect();
        let threads: Vec<u64> = writers.into_iter().map(|writer| writer.join().expect("no panic")).collect();
        over.store(true, SeqCst);
        // Each event has the address of the page that its thread loads from.
        let seen = reader.join().expect("no panic");
        for event in &seen {
            let address = event.fault.address().expect("it is reported");
            let page = pages.iter().position(|page| (*page..page + page_size()).contains(&address));
            assert_eq!(page.map(|page| threads[page]), Some(event.thread), "{event:?}");
        }
        seen.len()
    });
    assert!(seen > 0);
    let counted = counters().since(&before);
    assert_eq!(counted.of(Outcome::Recovered, Cause::Protection, Access::Read), (THREADS * EACH) as u64);
    let last = events();
    assert_eq!(last.overwritten() + last.as_slice().len() as u64, first + (THREADS * EACH) as u64);
}

#[test]
fn another_threads_event_has_what_its_handle_says() {
    let _alone = alone();
    let page = nowhere().addr();
    let (_, new) = caused(|| {
        let go = Arc::new(std::sync::Barrier::new(2));
        let there = Arc::clone(&go);
        let other = thread::spawn(move || {
            there.wait();
            // SAFETY: a page of this test; the fault is recovered.
            let _ = unsafe { faultin::raw::load(std::ptr::with_exposed_provenance::<u8>(page)) };
        });
        let id = other.as_pthread_t() as u64;
        go.wait();
        other.join().expect("no panic");
        assert_eq!(events().as_slice().last().map(|event| event.thread), Some(id));
    });
    assert_eq!(new.len(), 1);
}

/// A load that is forbidden, and recovered.
fn fault(page: *const u8) {
    // SAFETY: a page of this test; the fault is recovered.
    let _ = unsafe { faultin::raw::load(page) }.expect_err("it is forbidden");
}

#[test]
fn notes_and_faults_are_in_one_order() {
    let _alone = alone();
    let (page, first, second) = (nowhere(), Notes::<String>::new(), Notes::<u32>::new());
    first.add("before".into());
    fault(page);
    second.add(1);
    first.add("between".into());
    fault(page);
    fault(page);
    first.add("after".into());
    let events = events();
    let told: Vec<String> = events.entries().map(|entry| entry.to_string()).collect();
    let faulted = events.as_slice().last().expect("the last one").to_string();
    assert_eq!(told[told.len() - 7..], ["before", &faulted, "1", "between", &faulted, &faulted, "after"]);
    let notes: Vec<_> = events.notes().iter().rev().take(4).collect();
    assert_eq!(notes[0].downcast_ref::<String>().map(String::as_str), Some("after"));
    assert_eq!((notes[2].downcast_ref(), notes[2].downcast_ref::<String>()), (Some(&1_u32), None));
    assert!(notes.windows(2).all(|pair| pair[0].sequence > pair[1].sequence));
    let faults = |entry: &Entry<'_>| matches!(entry, Entry::Fault(_));
    assert_eq!(events.entries().filter(faults).count(), events.as_slice().len());
}

#[test]
fn an_owner_that_adds_many_notes_overwrites_neither_other_owners_nor_faults() {
    let _alone = alone();
    let (quiet, busy) = (Notes::<&'static str>::new(), Notes::<usize>::new());
    quiet.add("once");
    fault(nowhere());
    let before = events();
    (0..1000).for_each(|number| busy.add(number));
    let after = events();
    assert_eq!((after.as_slice(), after.overwritten()), (before.as_slice(), before.overwritten()));
    let kept: Vec<usize> = busy.last().iter().map(|note| *note.details).collect();
    assert_eq!(kept, (1000 - 256..1000).collect::<Vec<_>>());
    assert_eq!(quiet.last().len(), 1);
    assert!(after.notes().iter().any(|note| note.downcast_ref() == Some(&"once")));
}

#[test]
fn the_notes_of_the_last_owners_that_were_dropped_are_kept() {
    let _alone = alone();
    for number in 0..40_i64 {
        Notes::new().add(number);
    }
    let kept: Vec<i64> = events().notes().iter().filter_map(|note| note.downcast_ref().copied()).collect();
    // The last one that was made had not been dropped when the list was last looked through.
    assert_eq!(kept, (23..40).collect::<Vec<i64>>());
}

#[test]
fn a_child_of_fork_has_notes_of_its_own() {
    let _alone = alone();
    let parents = Notes::<String>::new();
    parents.add("of the parent".into());
    // SAFETY: the child calls what this test is about, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child if it hangs.
        unsafe { libc::alarm(300) };
        parents.add("dropped".into());
        let own = Notes::<String>::new();
        own.add("of the child".into());
        let all = events();
        let is_right =
            parents.last().is_empty() && all.notes().len() == 1 && all.notes()[0].to_string() == "of the child";
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!is_right)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!((status, parents.last().len()), (0, 1));
}
