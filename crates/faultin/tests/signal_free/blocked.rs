//! Threads that block SIGSEGV and SIGBUS, like helper threads of many programs: every accessor of a map or view made in
//! another thread gives the same result as there.

use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::SeqCst;

use faultin::iov::IovSource;
use faultin::shared::ring::{Consumer, Producer, RingLayout};
use faultin::signal::refresh_mask;
use faultin::{Access, Cause, Fault, Granularity, ReadView, Short, WriteView, page_size};
use faultin::{
    FileMap, FileMapMut, MapError, MapOptions,
    map::{Backend, Change, Rights, Watch},
    shared::SharedMap,
};

use crate::emulator::{dies_behind_the_end, hides_pages_without_rights};
use crate::pages::{Bad, Pages, pattern};
use crate::{Scenario, child};

pub const SCENARIOS: &[Scenario] = &[
    ("file maps", file_maps),
    ("writable maps", writable_maps),
    ("shared maps", shared_maps),
    ("views", views),
    ("late", late),
    ("late reader", late_reader),
    ("late source", late_source),
    ("open again", open_again),
    ("pending", pending),
];

/// Blocks every signal in this thread.
pub fn block_all() {
    // SAFETY: this thread's mask.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        assert_eq!(libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut()), 0);
    }
}

/// Returns what `run` returns in a thread that blocks every signal.
fn in_a_blocked_thread<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            block_all();
            run()
        });
        thread.join().expect("no panic")
    })
}

fn file(len: usize) -> File {
    let file = tempfile::tempfile().expect("a file");
    let bytes: Vec<u8> = (0..len).map(pattern).collect();
    file.write_all_at(&bytes, 0).expect("room");
    file
}

fn shrunk<T: Debug>(result: Result<T, MapError>, to: u64) -> usize {
    let error = result.expect_err("the file was cut");
    assert!(matches!(error.change(), Some(Change::Shrunk { to: now, .. }) if now == to), "{error:?}");
    error.done()
}

#[test]
fn a_file_that_is_cut_is_an_error_of_every_reader() {
    if !dies_behind_the_end() {
        child::check("file maps");
    }
}

fn file_maps() {
    let page = page_size();
    let bytes: Vec<u8> = (0..3 * page).map(pattern).collect();
    for watch in [Watch::Reader, Watch::Appending, Watch::Contents, Watch::Nothing] {
        let file = file(3 * page);
        let own = file.try_clone().expect("a descriptor");
        let map = MapOptions::new().watch(watch).backend(Backend::Mapped).from_file(own).expect("a map");
        in_a_blocked_thread(|| {
            let mut out = vec![0; 3 * page];
            assert_eq!(map.read_at(&mut out, 0).expect("all of it"), 3 * page);
            assert!(out == bytes);
            assert_eq!(map.load::<u32>(100).expect("a word").to_ne_bytes(), bytes[100..104]);
            assert_eq!(map.count_byte(bytes[7], ..).expect("readable"), count(&bytes, bytes[7]));
            file.set_len(page as u64).expect("cut");
            // All of these would be faults.
            assert_eq!(shrunk(map.read_at(&mut out, 0), page as u64), page, "{watch:?}");
            assert!(out[..page] == bytes[..page]);
            shrunk(map.load::<u64>(page as u64), page as u64);
            shrunk(map.find(b"\xff\xfe", page as u64..), page as u64);
            shrunk(map.count_byte(0xff, page as u64..), page as u64);
            shrunk(map.chunks(page as u64..).for_each(|_| {}), page as u64);
            let mut reader = map.reader();
            let mut all = Vec::new();
            assert!(reader.read_to_end(&mut all).is_err());
            // SAFETY: a sum does not rely on the bytes.
            let sum = unsafe { map.with_slice(.., |bytes| bytes.iter().map(|&b| usize::from(b)).sum::<usize>()) };
            let expected = bytes[..page].iter().map(|&b| usize::from(b)).sum::<usize>();
            assert_eq!(sum.expect_err("the file was cut").value, Some(expected));
        });
    }
}

fn count(bytes: &[u8], byte: u8) -> u64 {
    bytes.iter().filter(|&&b| b == byte).count() as u64
}

#[test]
fn a_file_that_is_cut_is_an_error_of_every_store() {
    if !dies_behind_the_end() {
        child::check("writable maps");
    }
}

fn writable_maps() {
    let page = page_size();
    for watch in [Watch::Reader, Watch::Nothing] {
        let file = file(3 * page);
        let own = file.try_clone().expect("a descriptor");
        let map = MapOptions::new().watch(watch).backend(Backend::Mapped).from_file_mut(own).expect("a map");
        let map: &FileMapMut = &map;
        in_a_blocked_thread(|| {
            map.write_at(b"stored", page as u64 - 3).expect("room");
            map.fill(8..13, 0x55).expect("room");
            map.store(16, 0x0102_0304_u32).expect("room");
            let mut seen = [0; 6];
            file.read_exact_at(&mut seen, page as u64 - 3).expect("there");
            assert_eq!(&seen, b"stored");
            file.read_exact_at(&mut seen, 8).expect("there");
            assert_eq!(seen[..5], [0x55; 5]);
            file.set_len(page as u64).expect("cut");
            assert_eq!(shrunk(map.write_at(&[1; 100], page as u64 - 50), page as u64), 50, "{watch:?}");
            shrunk(map.fill(page as u64..page as u64 + 10, 1), page as u64);
            shrunk(map.store(page as u64 + 8, 1_u64), page as u64);
            assert_eq!(file.metadata().expect("a file").len(), page as u64);
        });
    }
}

#[test]
fn a_peer_that_cuts_shared_memory_is_an_error() {
    if !dies_behind_the_end() {
        child::check("shared maps");
    }
}

fn shared_maps() {
    const LAYOUT: RingLayout = RingLayout { head: 0, tail: 64, data: 128, entry: 16, capacity: 16 };
    let page = page_size();
    for sealed in [false, true] {
        let map = SharedMap::create("peer", 3 * page).expect("a memfd");
        if sealed {
            map.seal_shrink().expect("ours");
        }
        let peer = File::from(map.try_clone_fd().expect("a descriptor"));
        let to_read = SharedMap::from_file(peer.try_clone().expect("one more"), 3 * page, Rights::Read).expect("a map");
        in_a_blocked_thread(|| {
            map.write_at(b"hello", 700).expect("room");
            assert_eq!(&to_read.read_once::<[u8; 5]>(700).expect("there"), b"hello");
            map.store(704, 7_u64).expect("room");
            assert_eq!(map.fetch_add(704, 1_u64, SeqCst).expect("aligned"), 7);
            assert_eq!(map.load_atomic::<u64>(704, SeqCst).expect("aligned"), 8);
            assert_eq!(map.compare_exchange(704, 8_u64, 9, SeqCst, SeqCst).expect("aligned"), Ok(8));
            assert_eq!(map.load::<u64>(704).expect("there"), 9);
            let mut producer = Producer::new(&map, LAYOUT).expect("a ring");
            let mut consumer = Consumer::new(&map, LAYOUT).expect("a ring");
            assert_eq!(producer.push(&[3; 32]).expect("room"), 2);
            let mut entries = [0; 32];
            assert_eq!(consumer.consume(&mut entries).expect("two"), 2);
            assert_eq!(entries, [3; 32]);
            let refused = to_read.write_at(b"no", 0).expect_err("a map to read");
            assert_eq!(refused.fault().map(|fault| fault.cause()), Some(Cause::Protection));
            if sealed {
                return;
            }
            peer.set_len(page as u64).expect("cut");
            assert_eq!(shrunk(map.read_at(&mut vec![0; 3 * page], 0), page as u64), page);
            assert_eq!(shrunk(map.write_at(&[1; 100], page as u64 - 50), page as u64), 50);
            shrunk(map.fill(page as u64..2 * page as u64, 1), page as u64);
            shrunk(map.load::<u32>(page as u64), page as u64);
            shrunk(map.store(page as u64, 1_u32), page as u64);
            shrunk(map.swap(page as u64, 1_u32), page as u64);
            shrunk(map.load_atomic::<u32>(page as u64, SeqCst), page as u64);
            shrunk(map.fetch_max(page as u64, 1_u32, SeqCst), page as u64);
        });
    }
}

/// The parts of a fault to compare: no signal reports the kernel's.
type Named = (Access, Cause, Option<usize>);

fn named(fault: Fault) -> Named {
    (fault.access(), fault.cause(), fault.address())
}

fn short<T>(result: Result<T, Short>) -> Result<T, (usize, Named)> {
    result.map_err(|short| (short.done, named(short.fault)))
}

/// The results of every operation of both views at this offset, as text.
fn every_operation(read: ReadView<'_>, write: WriteView<'_>, at: usize, len: usize) -> Vec<String> {
    let some = NonZeroUsize::new(len).expect("not empty");
    let mut out = vec![0; len];
    let mut results = Vec::new();
    let mut add = |name: &str, result: &dyn Debug| results.push(format!("{name}: {result:?}"));
    add("read", &(short(read.read(&mut out, at)), &out));
    out.fill(0);
    add("read_streaming", &(short(read.read_streaming(&mut out, at)), &out));
    let mut uninit = vec![std::mem::MaybeUninit::new(0); len];
    let halves = read.read_uninit(&mut uninit, at);
    add(
        "read_uninit",
        &halves.map(|init| init.to_vec()).map_err(|s| (s.init.to_vec(), s.uninit.len(), named(s.fault))),
    );
    add("load u8", &read.load::<u8>(at).map_err(named));
    add("strnlen", &short(read.strnlen(at)));
    add("strncpy", &(short(read.strncpy(&mut out, at)), &out));
    add("is_zeroed", &short(read.is_zeroed(at..at + len)));
    add("find", &short(read.find(b"\xfe\xfd", at..at + len)));
    add("find 4", &short(read.find(&(at..at + 4).map(pattern).collect::<Vec<u8>>(), at..at + len)));
    add("find_any", &short(read.find_any([0xfe, pattern(at)], at..at + len)));
    add("count_byte", &short(read.count_byte(pattern(at), at..at + len)));
    add("compare", &short(read.compare(at..at + len, &read, at)));
    add("compare other", &short(read.compare(at..at + len.min(at), &read, 0)));
    add("read_struct", &read.read_struct(&mut out, at..at + len).map_err(|_| "no structure"));
    add("fault_in", &read.fault_in(at, some).map_err(named));
    add("copy_to", &short(read.copy_to(at..at + len, &write, at)));
    for granularity in [Granularity::Page, Granularity::Line, Granularity::Tag] {
        add("probe", &short(read.probe(at..at + len, granularity)));
        add("probe write", &short(write.probe(at..at + len, granularity)));
    }
    add("write", &short(write.write(&vec![0x33; len], at)));
    add("fill", &short(write.fill(at..at + len, 0x44)));
    add("store", &write.store(at, 0x66_u8).map_err(named));
    add("fault_in write", &write.fault_in(at, some).map_err(named));
    let word = at & !7;
    add("store u64", &write.store(word, 7_u64).map_err(named));
    add("load u64", &read.load::<u64>(word).map_err(named));
    add("load_atomic", &read.load_atomic::<u64>(word, SeqCst).map_err(named));
    add("store_atomic", &write.store_atomic(word, 8_u64, SeqCst).map_err(named));
    add("swap", &write.swap(word, 9_u64).map_err(named));
    add("compare_exchange", &write.compare_exchange(word, 9_u64, 10, SeqCst, SeqCst).map_err(named));
    add("fetch_add", &write.fetch_add(word, 1_u64, SeqCst).map_err(named));
    add("fetch_nand", &write.fetch_nand(word, 3_u64, SeqCst).map_err(named));
    results
}

#[test]
fn views_give_what_they_give_in_other_threads() {
    if !dies_behind_the_end() {
        child::check("views");
    }
}

fn views() {
    let page = page_size();
    for bad in Bad::ALL {
        for (good, len) in
            [(0, 40), (1, 1), (9, 9), (9, 10), (100, 99), (100, 3000), (page, page + 1), (2 * page, 3 * page)]
        {
            let results = |blocked: bool| {
                let mut pages = Pages::new(bad, 2 * page);
                pages.all().iter_mut().enumerate().for_each(|(i, byte)| *byte = 1 + pattern(i) / 2);
                let base = pages.boundary().wrapping_sub(2 * page);
                // SAFETY: mapped or reserved during the views' use: no other thread maps memory meanwhile.
                let (read, write) = unsafe {
                    let (read, write) = (ReadView::new(base, 5 * page), WriteView::new(base, 5 * page));
                    (read.expect("the handler"), write.expect("the handler"))
                };
                let run = || every_operation(read, write, 2 * page - good, len);
                let results = if blocked { in_a_blocked_thread(run) } else { run() };
                let relative = |text: String| text.replace(&format!("{}", base.addr() + 2 * page), "the boundary");
                (results.into_iter().map(relative).collect::<Vec<_>>(), pages.all().to_vec())
            };
            let (open, blocked) = (results(false), results(true));
            for (open, blocked) in open.0.iter().zip(&blocked.0) {
                assert_eq!(blocked, open, "{len} bytes, {good} good before {bad:?}");
            }
            assert!(open.1 == blocked.1, "{len} bytes, {good} good before {bad:?}");
        }
    }
}

#[test]
fn a_thread_that_blocks_later_is_noticed() {
    if !dies_behind_the_end() {
        child::check("late");
    }
}

fn late() {
    let page = page_size();
    let file = file(2 * page);
    let map = FileMap::from_file(file.try_clone().expect("a descriptor")).expect("a map");
    let view_of = |map: &FileMap| map.read_at(&mut [0; 8], page as u64);
    assert_eq!(view_of(&map).expect("there"), 8);
    let pages = Pages::new(Bad::NoAccess, page);
    // SAFETY: mapped during the view's use.
    let view = unsafe { ReadView::new(pages.boundary(), page) }.expect("the handler");
    assert_eq!(view.load::<u32>(0).map_err(|fault| fault.cause()), Err(Cause::Protection));
    block_all();
    // Checking the file is a system call, so the mask is queried as well.
    file.set_len(100).expect("cut");
    assert_eq!(shrunk(view_of(&map), 100), 0);
    // Now the thread's mask is known.
    assert_eq!(view.load::<u32>(0).map_err(|fault| fault.cause()), Err(Cause::Protection));
}

#[test]
fn a_reader_notices_a_thread_that_blocks_later() {
    if !dies_behind_the_end() {
        child::check("late reader");
    }
}

#[test]
fn a_source_notices_a_thread_that_blocks_later() {
    if !dies_behind_the_end() {
        child::check("late source");
    }
}

/// The results of `read` for the second page after the thread has blocked its signals and the file was truncated.
fn later(read: impl Fn(&FileMap) -> bool) {
    let page = page_size();
    let file = file(2 * page);
    let map = FileMap::from_file(file.try_clone().expect("a descriptor")).expect("a map");
    assert!(read(&map));
    block_all();
    file.set_len(100).expect("cut");
    assert!(!read(&map));
}

fn late_reader() {
    later(|map| {
        let mut reader = map.reader();
        reader.seek(SeekFrom::Start(page_size() as u64)).expect("within");
        reader.read_exact(&mut [0; 8]).is_ok()
    });
}

fn late_source() {
    later(|map| {
        let mut bytes = vec![0; 2 * page_size()];
        IovSource::one(map).copy_from_iter(&mut bytes).is_ok()
    });
}

#[test]
fn a_signal_that_waits_goes_on_waiting() {
    if !hides_pages_without_rights() {
        child::check("pending");
    }
}

/// A thread that blocks the signals has one of them pending for `sigwait`. If it were delivered, it would kill.
fn pending() {
    let page = page_size();
    let mut pages = Pages::new(Bad::NoAccess, page);
    pages.all().fill(7);
    // SAFETY: mapped during the views' use.
    let view = unsafe { ReadView::new(pages.boundary().wrapping_sub(page), 2 * page) }.expect("the handler");
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        in_a_blocked_thread(|| {
            // SAFETY: sent to this thread, which blocks it.
            assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), signal) }, 0);
            assert_eq!(view.load::<u32>(0).map_err(|fault| fault.cause()), Ok(0x0707_0707));
            assert_eq!(view.load::<u32>(page).map_err(|fault| fault.cause()), Err(Cause::Protection));
            assert_eq!(view.read(&mut [0; 2], page - 1).map_err(|short| short.done), Err(1));
            let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: takes the signal, if it is pending; zeros are a valid set.
            let taken = unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&mut set, signal);
                libc::sigtimedwait(&set, std::ptr::null_mut(), &at_once)
            };
            assert_eq!(taken, signal);
        });
    }
}

#[test]
fn a_thread_that_unblocks_again_makes_its_accesses_itself() {
    if !hides_pages_without_rights() {
        child::check("open again");
    }
}

fn open_again() {
    let page = page_size();
    let pages = Pages::new(Bad::NoAccess, page);
    // SAFETY: mapped during the view's use.
    let view = unsafe { ReadView::new(pages.boundary(), page) }.expect("the handler");
    let signals = || {
        let before = faultin::signal::counters().total();
        assert_eq!(view.read(&mut [0; 8], 0).map_err(|short| short.fault.cause()), Err(Cause::Protection));
        faultin::signal::counters().total() - before
    };
    assert_eq!(signals(), 1);
    block_all();
    assert!(refresh_mask());
    assert_eq!(signals(), 0);
    // SAFETY: this thread's mask.
    unsafe {
        let none: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
    assert_eq!(signals(), 1);
    std::io::stdout().flush().expect("stdout");
}
