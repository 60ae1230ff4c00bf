//! Another process that continuously truncates and extends the buffer, punches holes into it and writes to it: every
//! operation ends, after at most one fault, with the peer's bytes or with an exact count.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;

use faultin::Cause;
use faultin::shared::ring::{Consumer, RingError, RingLayout};
use faultin::{
    MapError,
    map::{Backend, Change, Reason, Rights},
    shared::SharedOptions,
};

use crate::fixture::{Case, Kind, content, each, failed, memfd, pattern, seal, serial};

/// Rounds of the test's own operations.
fn rounds() -> usize {
    if cfg!(target_arch = "x86_64") { 3000 } else { 100 }
}

/// The peer's endless activity.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Truncates to nothing, extends, fills.
    Truncate,
    /// Truncates to the middle of a page, extends, fills the truncated part.
    Trim,
    /// Punches holes and fills them; also tries to truncate.
    Punch,
}

/// A forked process; it dies with this one, or when this is dropped.
struct Peer(libc::pid_t);

impl Peer {
    /// Starts it, and waits for its first round.
    fn new(file: &File, len: usize, deed: Deed) -> Peer {
        let (mut started, starts) = std::io::pipe().expect("a pipe");
        let start = starts.as_raw_fd();
        let (fd, whole) = (file.as_raw_fd(), content(len));
        let (middle, mut first) = (len / 3, true);
        // SAFETY: the child only makes system calls with existing memory until it is killed.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: as above.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    let cut = if deed == Deed::Trim { middle } else { 0 };
                    if deed == Deed::Punch {
                        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                        libc::fallocate(fd, mode, 0, len as libc::off_t);
                    }
                    libc::ftruncate(fd, cut as libc::off_t);
                    libc::ftruncate(fd, len as libc::off_t);
                    libc::pwrite(fd, whole.as_ptr().cast(), len, 0);
                    libc::write(start, whole.as_ptr().cast(), usize::from(first));
                    first = false;
                }
            },
            child if child > 0 => {
                let peer = Peer(child);
                started.read_exact(&mut [0]).expect("it starts");
                peer
            }
            _ => panic!("fork: {}", std::io::Error::last_os_error()),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SAFETY: a child of this process.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Whether the bytes are the pattern, or zero after a truncation.
fn are_the_peers(bytes: &[u8], at: usize) -> bool {
    bytes.iter().enumerate().all(|(i, &byte)| byte == 0 || byte == pattern(at + i))
}

/// Whether an error is that of a truncated file, with a possible count.
fn is_cut(error: &MapError, case: Case, at: usize, size: usize) -> bool {
    let cut = match error.reason() {
        Reason::Changed(Change::Shrunk { to, .. }) => *to < (at + size) as u64,
        // Extended again before it could be checked.
        Reason::Fault(fault) => case.is_mapped() && fault.cause() == failed(Cause::Backing),
        _ => false,
    };
    cut && error.done() <= size && error.offset() == (at + error.done()) as u64
}

#[test]
fn a_peer_that_shrinks_for_ever_costs_a_reader_one_fault_per_operation() {
    let len = 30 * faultin::page_size() + 11;
    for deed in [Deed::Truncate, Deed::Trim] {
        each(|case| {
            let (file, map) = case.shared(len);
            let _peer = Peer::new(&file, len, deed);
            let before = faultin::signal::counters().total();
            let (mut good, mut cut) = (0, 0);
            let mut seen = vec![0; len];
            let mut round = 0;
            while round < rounds() || cut == 0 && round < 1000 * rounds() {
                round += 1;
                let at = (round * 997) % len;
                let size = (round * 4099) % (len - at) + 1;
                let done = match map.read_at(&mut seen[..size], at as u64) {
                    Ok(read) => {
                        assert_eq!(read, size);
                        good += 1;
                        read
                    }
                    Err(error) => {
                        assert!(is_cut(&error, case, at, size), "{error:?}");
                        cut += 1;
                        error.done()
                    }
                };
                assert!(are_the_peers(&seen[..done], at), "round {round}: not what the peer wrote");
            }
            let signals = faultin::signal::counters().total() - before;
            assert!(signals <= round as u64, "{signals} signals in {round} operations");
            assert!(cut > 0, "the peer was not there");
            println!("{good} good, {cut} cut, {signals} signals");
        });
    }
}

#[test]
fn a_peer_that_shrinks_for_ever_costs_a_writer_one_fault_per_operation() {
    let len = 30 * faultin::page_size() + 11;
    each(|case| {
        let (file, map) = case.shared(len);
        let _peer = Peer::new(&file, len, Deed::Truncate);
        let before = faultin::signal::counters().total();
        let ours = content(len);
        for round in 0..rounds() {
            let at = (round * 997) % len;
            let size = (round * 4099) % (len - at) + 1;
            let stored = match round % 3 {
                0 => map.fill(at as u64..(at + size) as u64, 0),
                1 => map.write_at(&ours[at..at + size], at as u64),
                _ => map.store(at as u64, ours[at]),
            };
            if let Err(error) = stored {
                assert!(is_cut(&error, case, at, size), "{error:?}");
            }
        }
        let signals = faultin::signal::counters().total() - before;
        assert!(signals <= rounds() as u64, "{signals} signals in {} operations", rounds());
    });
}

#[test]
fn a_peer_cannot_make_sealed_memory_fail() {
    let _one = serial();
    let len = 30 * faultin::page_size() + 11;
    for backend in [Backend::Mapped, Backend::Pread] {
        let file = memfd(0);
        file.set_len(len as u64).expect("room");
        seal(&file, libc::F_SEAL_SHRINK).expect("a memfd");
        let ours = file.try_clone().expect("a descriptor");
        let map = SharedOptions::new().backend(backend).from_file(ours, len, Rights::ReadWrite).expect("map it");
        let _peer = Peer::new(&file, len, Deed::Punch);
        let before = faultin::signal::counters().total();
        let mut seen = vec![0; len];
        for round in 0..rounds() {
            let at = (round * 997) % len;
            map.read_exact_at(&mut seen[at..], at as u64).expect("sealed");
            assert!(are_the_peers(&seen[at..], at));
            map.store(at as u64, pattern(at)).expect("sealed");
        }
        assert_eq!(faultin::signal::counters().total(), before, "no faults");
    }
}

#[test]
fn a_peer_that_takes_a_ring_away_is_reported_and_nothing_is_consumed() {
    let _one = serial();
    if cfg!(faultin_syscall) {
        return faultin_test::skipped("assembly", "atomic operations");
    }
    let len = 4 * faultin::page_size();
    // The peer's pattern covers the counters, too: 1 and more, always the same, and 0 after a truncation.
    let layout = RingLayout { head: 0, tail: 8, data: 64, entry: 4, capacity: 1024 };
    let file = memfd(0);
    file.set_len(len as u64).expect("room");
    let ours = file.try_clone().expect("a descriptor");
    let map = SharedOptions::new().backend(Backend::Mapped).from_file(ours, len, Rights::ReadWrite).expect("map it");
    let mut consumer = Consumer::new(&map, layout).expect("a ring");
    let _peer = Peer::new(&file, len, Deed::Truncate);
    let case = Case { kind: Kind::Memfd, backend: Backend::Mapped };
    let (mut lies, mut cuts) = (0, 0);
    let mut seen = [0; 4096];
    let mut round = 0;
    while round < rounds() || (lies == 0 || cuts == 0) && round < 1000 * rounds() {
        round += 1;
        let head = consumer.head();
        match consumer.consume(&mut seen) {
            Ok(count) => assert_eq!((count, consumer.head()), (0, head), "round {round}: zeros are an empty ring"),
            Err(RingError::Indices { .. }) => lies += 1,
            Err(RingError::Map(error)) => {
                let at = error.offset() as usize - error.done();
                assert!(is_cut(&error, case, at, len - at), "{error:?}");
                cuts += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!(consumer.head(), head);
    }
    assert!(lies > 0 && cuts > 0, "the peer was not there: {lies} lies, {cuts} cuts");
}
