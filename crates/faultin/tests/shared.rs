//! Memory shared with a peer that is not trusted: one that shrinks it for ever, lies about its indices, or has less than
//! it says.

// Without assembly of ours there is no shared memory of ours.
#![cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))]

#[allow(dead_code)]
mod processes;

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use faultin::Cause;
use faultin::map::{Consumer, Producer, Reason, RingError, RingLayout, SharedMap};
use processes::skipped;
use proptest::prelude::*;

/// One test at a time: they count the process's signals.
fn serial() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shared(len: usize) -> SharedMap {
    let map = SharedMap::create(c"faultin-test", len).unwrap();
    assert_eq!((map.len(), map.is_sealed()), (len, false));
    map
}

fn again(map: &SharedMap) -> File {
    File::options().read(true).write(true).open(format!("/proc/self/fd/{}", map.file().as_raw_fd())).unwrap()
}

#[test]
fn both_sides_see_the_same_bytes() {
    let _one = serial();
    let ours = shared(10_000);
    let theirs = SharedMap::from_file(again(&ours), 10_000).unwrap();
    ours.write_at(b"hello", 4094).unwrap();
    assert_eq!(&theirs.read_once::<5>(4094).unwrap(), b"hello");
    theirs.store(8, 7_u64).unwrap();
    assert_eq!(ours.load::<u64>(8), Ok(7));
    assert_eq!(ours.view_mut().fetch_add(8, 5_u64, Ordering::AcqRel), Ok(7));
    assert_eq!(theirs.view().load_atomic::<u64>(8, Ordering::Acquire), Ok(12));
    assert_eq!(ours.view().find(0, 10_000, b"hello"), Ok(Some(4094)));
}

#[test]
fn bounds_are_those_of_the_map_and_not_of_its_pages() {
    let _one = serial();
    let map = shared(100);
    for (at, len) in [(100, 1), (96, 5), (101, 0), (usize::MAX, 1), (1, usize::MAX)] {
        let mut bytes = vec![0; len.min(8)];
        if len <= 8 {
            assert_eq!(map.read_at(&mut bytes, at).unwrap_err().fault.cause(), Cause::OutOfRange);
            assert_eq!(map.write_at(&bytes, at).unwrap_err().fault.cause(), Cause::OutOfRange);
        }
        // SAFETY: a length is right for any bytes.
        let error = unsafe { map.with_slice(at, len, <[u8]>::len) }.unwrap_err();
        assert!(matches!(error.error().reason(), Reason::PastEnd { len: 100 }), "{error}");
        assert!(error.value().is_none());
    }
    assert_eq!(map.load::<u64>(93).unwrap_err().cause(), Cause::OutOfRange);
    assert_eq!(map.store(99, 1_u16).unwrap_err().cause(), Cause::OutOfRange);
    map.read_at(&mut [], 100).unwrap();
    assert!(shared(0).is_empty());
}

#[test]
fn what_cannot_be_shared_says_why() {
    let _one = serial();
    let map = shared(5000);
    let error = SharedMap::from_file(again(&map), 5001).unwrap_err();
    assert!(matches!(error.reason(), Reason::PastEnd { len: 5000 }), "{error}");
    let read_only = || File::open(format!("/proc/self/fd/{}", map.file().as_raw_fd())).unwrap();
    let error = SharedMap::from_file(read_only(), 5000).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EACCES), "{error}");
    let error = SharedMap::from_file(File::open("/dev/null").unwrap(), 1).unwrap_err();
    assert!(matches!(error.reason(), Reason::NotAFile(_)), "{error}");
    let map = SharedMap::read_only(read_only(), 5000).unwrap();
    assert_eq!(map.write_at(b"x", 0).unwrap_err().fault.cause(), Cause::Protection);
    assert_eq!(map.store(0, 1_u8).unwrap_err().cause(), Cause::Protection);
    assert_eq!(map.load::<u8>(0), Ok(0));
    let error = SharedMap::create(c"faultin-test", usize::MAX).unwrap_err();
    assert!(matches!(error.reason(), Reason::Io(_)), "{error}");
}

#[test]
fn memory_that_is_gone_is_a_count_and_back_it_is_memory_again() {
    let _one = serial();
    let page = faultin::page_size();
    let map = shared(8 * page);
    let peer = again(&map);
    map.view_mut().fill(0, 9, 8 * page).unwrap();
    peer.set_len(2 * page as u64 + 50).unwrap();
    let mut bytes = vec![1; 7 * page];
    let before = faultin::counters();
    // The rest of the last page is there, and zero.
    let short = map.read_at(&mut bytes, 10).unwrap_err();
    assert_eq!((short.done, short.fault.cause()), (3 * page - 10, Cause::Backing));
    assert!(bytes[3 * page - 10..].iter().all(|&b| b == 1));
    assert_eq!(map.write_at(&bytes, page).unwrap_err().done, 2 * page);
    assert_eq!(map.load::<u32>(5 * page).unwrap_err().cause(), Cause::Backing);
    assert_eq!(faultin::counters().total() - before.total(), 3, "one signal each");
    // SAFETY: a sum is right for any bytes.
    let sum = |map: &SharedMap| unsafe { map.with_slice(0, 8 * page, |b| b.iter().map(|&b| usize::from(b)).sum()) };
    let damaged = sum(&map).unwrap_err();
    assert_eq!(damaged.ranges(), core::slice::from_ref(&(2 * page as u64 + 50..8 * page as u64)));
    // (What was stored behind the end stands in the page until somebody drops it.)
    assert_eq!(damaged.into_value(), Some(3 * page * 9));
    peer.set_len(8 * page as u64).unwrap();
    map.view_mut().fill(0, 1, 8 * page).unwrap();
    assert_eq!(sum(&map).unwrap(), 8 * page);
}

#[test]
fn sealed_memory_cannot_go() {
    let _one = serial();
    let page = faultin::page_size();
    let mut map = shared(4 * page);
    map.seal().unwrap();
    assert!(map.is_sealed());
    let peer = again(&map);
    assert_eq!(peer.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert!(SharedMap::from_file(again(&map), page).unwrap().is_sealed(), "and the peer can tell");
    // SAFETY: a length.
    assert_eq!(unsafe { map.with_slice(page, page, <[u8]>::len) }.unwrap(), page);
    // A file knows no seals.
    let mut file = SharedMap::from_file(tempfile::tempfile().unwrap(), 0).unwrap();
    assert!(!file.is_sealed());
    assert!(matches!(file.seal().unwrap_err().reason(), Reason::Io(_)));
}

#[test]
fn huge_pages_are_never_taken_for_sealed() {
    let _one = serial();
    let flags = libc::MFD_HUGETLB | libc::MFD_ALLOW_SEALING;
    // SAFETY: a string and flags; a new descriptor.
    let file = unsafe {
        let fd = libc::memfd_create(c"faultin-test".as_ptr(), flags);
        if fd < 0 {
            return skipped(format_args!("memory on huge pages: {}", std::io::Error::last_os_error()));
        }
        File::from_raw_fd(fd)
    };
    file.set_len(2 << 20).unwrap();
    // SAFETY: a command about a descriptor of ours.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) }, 0);
    match SharedMap::from_file(file, 2 << 20) {
        Ok(map) => assert!(!map.is_sealed()),
        Err(error) => skipped(format_args!("huge pages in the pool: {error}")),
    }
}

/// A shell that shrinks and grows the memory until it is killed.
struct Peer(Child);

impl Peer {
    fn new(map: &SharedMap) -> Option<Peer> {
        let path = format!("/proc/{}/fd/{}", std::process::id(), map.file().as_raw_fd());
        let script = r#"while :; do truncate -s 0 "$0"; truncate -s "$1" "$0"; truncate -s 5000 "$0"; done"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script, &path, &map.len().to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        match shell.spawn() {
            Ok(child) => Some(Peer(child)),
            Err(error) => {
                skipped(format_args!("sh: {error}"));
                None
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }
}

#[test]
fn a_peer_that_shrinks_it_for_ever_costs_one_fault_an_access() {
    let _one = serial();
    let page = faultin::page_size();
    let map = shared(20 * page);
    let Some(_peer) = Peer::new(&map) else { return };
    let mut bytes = vec![0; 20 * page];
    let (mut short, mut whole, mut damaged) = (0, 0, 0);
    let before = faultin::counters();
    let (mut accesses, mut slices) = (0, 0);
    let start = std::time::Instant::now();
    // Until both have been seen often, with a bound for machines that are too slow for it.
    while (short < 50 || whole < 50 || damaged < 20) && start.elapsed().as_secs() < 20 {
        for result in [map.read_at(&mut bytes, 0), map.write_at(&bytes, 0), map.view_mut().fill(0, 5, bytes.len())] {
            accesses += 1;
            match result {
                Ok(()) => whole += 1,
                Err(error) => {
                    assert_eq!(error.fault.cause(), Cause::Backing, "{error}");
                    assert!(error.done < bytes.len());
                    short += 1;
                }
            }
        }
        // SAFETY: a sum is right for any bytes.
        let slice = unsafe { map.with_slice(0, 20 * page, |b| b.iter().map(|&b| u64::from(b)).sum::<u64>()) };
        slices += 1;
        if let Err(error) = slice {
            assert!(error.first_bad().is_some() && error.value().is_some());
            damaged += 1;
        }
    }
    let after = faultin::counters();
    println!("{accesses} accesses: {whole} whole, {short} short; {slices} slices: {damaged} damaged");
    assert!(short > 0 && whole > 0 && damaged > 0);
    assert!(after.total() - before.total() <= 2 * accesses, "signals");
    assert!(after.substituted - before.substituted <= 20 * slices, "each page once at most");
}

const LAYOUT: RingLayout = RingLayout { head: 0, tail: 64, data: 128, capacity: 256 };

#[test]
fn layouts_that_are_no_ring_are_refused() {
    let _one = serial();
    let map = shared(1000);
    for layout in [
        RingLayout { capacity: 0, ..LAYOUT },
        RingLayout { capacity: 100, ..LAYOUT },
        RingLayout { capacity: 1024, ..LAYOUT },
        RingLayout { head: 2, ..LAYOUT },
        RingLayout { head: 64, ..LAYOUT },
        RingLayout { head: 200, ..LAYOUT },
        RingLayout { tail: 380, ..LAYOUT },
        RingLayout { tail: 1000, ..LAYOUT },
        RingLayout { tail: usize::MAX - 3, ..LAYOUT },
        RingLayout { data: 900, ..LAYOUT },
        RingLayout { data: usize::MAX, ..LAYOUT },
    ] {
        assert!(matches!(Consumer::new(&map, layout), Err(RingError::Layout(_))), "{layout:?}");
        assert!(matches!(Producer::new(&map, layout), Err(RingError::Layout(_))), "{layout:?}");
    }
    for layout in [LAYOUT, RingLayout { tail: 384, ..LAYOUT }, RingLayout { head: 124, ..LAYOUT }] {
        Consumer::new(&map, layout).unwrap();
    }
}

#[test]
fn a_peer_that_lies_or_takes_the_memory_away_is_named() {
    let _one = serial();
    let page = faultin::page_size();
    let map = shared(2 * page);
    let layout = RingLayout { data: page - 128, ..LAYOUT };
    let (mut producer, mut consumer) = (Producer::new(&map, layout).unwrap(), Consumer::new(&map, layout).unwrap());
    assert_eq!(producer.push(&[3; 200]), Ok(200));
    let mut bytes = [0; 300];
    for tail in [257_u32, u32::MAX, 1 << 31] {
        map.store(64, tail).unwrap();
        let lie = RingError::Index { ours: 0, theirs: tail, capacity: 256 };
        assert_eq!(consumer.snapshot(&mut bytes), Err(lie));
    }
    map.store(64, 200_u32).unwrap();
    // What it says of our own index is of no interest.
    map.store(0, 77_u32).unwrap();
    assert_eq!(consumer.snapshot(&mut bytes), Ok(200));
    consumer.advance(1000).unwrap();
    assert_eq!(map.load::<u32>(0), Ok(200), "no more than was seen");
    assert_eq!(consumer.snapshot(&mut bytes), Ok(0));
    map.store(0, 201_u32).unwrap();
    assert_eq!(producer.push(b"x"), Err(RingError::Index { ours: 200, theirs: 201, capacity: 256 }));
    map.store(0, 200_u32).unwrap();
    assert_eq!(producer.push(&[4; 200]), Ok(200));
    again(&map).set_len(page as u64).unwrap();
    match consumer.snapshot(&mut bytes) {
        // From 200 to 256 behind the page, then on from its start.
        Err(RingError::Short(short)) => assert_eq!((short.done, short.fault.cause()), (0, Cause::Backing)),
        other => panic!("{other:?}"),
    }
    again(&map).set_len(2 * page as u64).unwrap();
    assert_eq!(consumer.snapshot(&mut bytes), Ok(200), "nothing was taken out");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_ring_is_a_queue(steps in proptest::collection::vec((any::<bool>(), 0_usize..400), 0..200)) {
        let _one = serial();
        let map = shared(1000);
        let (mut producer, mut consumer) = (Producer::new(&map, LAYOUT).unwrap(), Consumer::new(&map, LAYOUT).unwrap());
        let (mut queue, mut next) = (VecDeque::<u8>::new(), 0_u8);
        for (push, len) in steps {
            if push {
                let bytes: Vec<u8> = (0..len).map(|i| next.wrapping_add(i as u8)).collect();
                let pushed = producer.push(&bytes).unwrap();
                prop_assert_eq!(pushed, len.min(256 - queue.len()));
                queue.extend(&bytes[..pushed]);
                next = next.wrapping_add(pushed as u8);
            } else {
                let mut bytes = vec![0; len];
                let seen = consumer.snapshot(&mut bytes).unwrap();
                prop_assert_eq!(seen, len.min(queue.len()));
                prop_assert!(queue.iter().zip(&bytes[..seen]).all(|(a, b)| a == b));
                let taken = seen / 2 + seen % 2;
                consumer.advance(taken).unwrap();
                queue.drain(..taken);
            }
        }
    }
}

#[test]
fn two_threads_stream_through_a_ring() {
    let _one = serial();
    let total = if cfg!(target_arch = "x86_64") { 4 << 20 } else { 1 << 18 };
    let map = shared(1000);
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 16) as u8;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut producer = Producer::new(&map, LAYOUT).unwrap();
            let mut sent = 0;
            while sent < total {
                let bytes: Vec<u8> = (sent..total.min(sent + 100)).map(byte).collect();
                match producer.push(&bytes).unwrap() {
                    0 => std::thread::yield_now(),
                    pushed => sent += pushed,
                }
            }
        });
        let mut consumer = Consumer::new(&map, LAYOUT).unwrap();
        let (mut got, mut bytes) = (0, [0; 150]);
        while got < total {
            match consumer.snapshot(&mut bytes).unwrap() {
                0 => std::thread::yield_now(),
                seen => {
                    assert!((got..).zip(&bytes[..seen]).all(|(i, &b)| b == byte(i)));
                    consumer.advance(seen).unwrap();
                    got += seen;
                }
            }
        }
    });
}
