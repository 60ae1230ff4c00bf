//! Random layouts of real memory: the same list passed to the kernel and to this crate.
//!
//! On x86 the kernel's copies stop at the exact byte, and from 6.16 on (tmpfs: 6.14) a write returns what it copied: there
//! the counts are equal. Elsewhere the kernel's count is at most as large, and the bytes before it are the same.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use faultin::iov::{IovDest, IovSource};
use faultin::{Cause, page_size};
use faultin_test::Random;

/// Pages of one kind each, in a row, which segments may touch.
const KINDS: [Kind; 8] =
    [Kind::Good, Kind::Good, Kind::None, Kind::Good, Kind::ReadOnly, Kind::Good, Kind::Unmapped, Kind::PastEnd];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Good,
    ReadOnly,
    None,
    Unmapped,
    PastEnd,
}

const ROUNDS: u32 = 4000;

/// The pages, and a file with their contents.
struct Arena {
    base: *mut u8,
    file: File,
}

fn memfd() -> File {
    // SAFETY: creates a descriptor, which is owned here.
    unsafe {
        let fd = libc::memfd_create(c"iov".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        File::from_raw_fd(fd)
    }
}

impl Arena {
    fn new() -> Arena {
        let page = page_size();
        let file = memfd();
        file.set_len(((KINDS.len() - 1) * page) as u64).unwrap();
        // SAFETY: a new mapping, whose pages are changed in place.
        let base = unsafe {
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            let len = (KINDS.len() + 1) * page;
            let base = libc::mmap(faultin_test::far_below(len), len, rw, libc::MAP_SHARED, file.as_raw_fd(), 0);
            assert_ne!(base, libc::MAP_FAILED);
            for (index, kind) in KINDS.into_iter().enumerate() {
                let at = base.add(index * page);
                let changed = match kind {
                    Kind::None => libc::mprotect(at, page, libc::PROT_NONE),
                    Kind::ReadOnly => libc::mprotect(at, page, libc::PROT_READ),
                    // Another mapping may be placed there, which this test then reads; `serial` prevents that.
                    Kind::Unmapped => libc::munmap(at, page),
                    Kind::Good | Kind::PastEnd => 0,
                };
                assert_eq!(changed, 0);
            }
            base.cast()
        };
        Arena { base, file }
    }

    fn len() -> usize {
        KINDS.len() * page_size()
    }

    fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; (KINDS.len() - 1) * page_size()];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn fill(&self, random: &Random) {
        let bytes: Vec<u8> = (0..(KINDS.len() - 1) * page_size()).map(|_| random.next() as u8).collect();
        self.file.write_all_at(&bytes, 0).unwrap();
    }

    /// A list of segments: most of them good, some empty, at any place.
    fn segments(&self, random: &Random) -> Vec<libc::iovec> {
        let page = page_size();
        (0..random.below(7))
            .map(|_| {
                let within_good = random.below(3) > 0;
                let len = match random.below(5) {
                    0 => 0,
                    1 => random.below(16),
                    2 => random.below(300),
                    _ => random.below(2 * page),
                };
                let start = if within_good { random.below(2 * page) } else { random.below(Arena::len()) };
                let len = if within_good { len.min(2 * page - start) } else { len.min(Arena::len() - start) };
                libc::iovec { iov_base: self.base.wrapping_add(start).cast(), iov_len: len }
            })
            .collect()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the arena's reservation, including its holes.
        unsafe { libc::munmap(self.base.cast(), (KINDS.len() + 1) * page_size()) };
    }
}

/// Whether the kernel's counts are exact.
fn is_exact() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let exact = cfg!(target_arch = "x86_64") && version >= (6, 16);
    if !exact {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            faultin_test::skipped("exact-counts", "this kernel's counts need only be no larger than ours")
        });
    }
    exact
}

/// The result of a system call: a count, or an errno.
fn count(result: isize) -> Result<usize, i32> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// Compares both results for `total` bytes: nothing moved is `EFAULT`.
#[track_caller]
fn agree(what: &str, kernel: Result<usize, i32>, ours: Result<usize, (usize, Cause)>, total: usize) -> usize {
    let ours_done = ours.unwrap_or_else(|(done, _)| done);
    assert_eq!(ours.is_ok(), ours_done == total, "{what}");
    let kernel_done = match kernel {
        Ok(done) => done,
        Err(errno) => {
            assert_eq!(errno, libc::EFAULT, "{what}");
            0
        }
    };
    if is_exact() {
        assert_eq!(kernel.is_ok(), kernel_done > 0 || total == 0, "{what}: {kernel:?}");
        assert_eq!(kernel_done, ours_done, "{what}: {ours:?}");
    } else {
        assert!(kernel_done <= ours_done, "{what}: {kernel_done} {ours:?}");
    }
    kernel_done
}

fn bytes_of(segments: &[libc::iovec]) -> usize {
    segments.iter().map(|segment| segment.iov_len).sum()
}

/// Gathers a list with this crate.
fn gather(segments: &[libc::iovec]) -> (Vec<u8>, Result<usize, (usize, Cause)>) {
    let mut bytes = vec![0; bytes_of(segments)];
    // SAFETY: parts of the arena, or of its unmapped pages.
    let mut iov = unsafe { IovSource::import_iovec(segments) }.unwrap();
    let result = iov.copy_from_iter(&mut bytes);
    assert_eq!(iov.moved(), result.unwrap_or_else(|short| short.done));
    (bytes, result.map_err(|short| (short.done, short.fault.cause())))
}

#[test]
fn writev_takes_what_ours_takes() {
    let _serial = crate::serial();
    let (arena, random, mut shorts) = (Arena::new(), Random::new(0x1001), 0);
    arena.fill(&random);
    for round in 0..ROUNDS {
        let segments = arena.segments(&random);
        let (bytes, ours) = gather(&segments);
        let file = memfd();
        // SAFETY: the kernel reads what is accessible.
        let kernel = count(unsafe { libc::writev(file.as_raw_fd(), segments.as_ptr(), segments.len() as i32) });
        let done = agree(&format!("round {round}: {segments:?}"), kernel, ours, bytes.len());
        let mut written = vec![0; done];
        file.read_exact_at(&mut written, 0).unwrap();
        assert!(written == bytes[..done], "round {round}");
        shorts += u32::from(ours.is_err());
    }
    assert!((ROUNDS / 10..ROUNDS).contains(&shorts), "{shorts} of {ROUNDS} were short");
}

#[test]
fn readv_fills_what_ours_fills() {
    let _serial = crate::serial();
    let (arena, random, mut shorts) = (Arena::new(), Random::new(0x2002), 0);
    let source = memfd();
    let bytes: Vec<u8> = (0..8 * page_size()).map(|_| random.next() as u8 | 1).collect();
    source.write_all_at(&bytes, 0).unwrap();
    for round in 0..ROUNDS {
        let segments = arena.segments(&random);
        let total = bytes_of(&segments).min(bytes.len());
        arena.fill(&Random::new(u64::from(round) + 1));
        // SAFETY: parts of the arena, without references to them.
        let mut iov = unsafe { IovDest::import_iovec(&segments) }.unwrap();
        let ours = iov.copy_to_iter(&bytes[..total]).map_err(|short| (short.done, short.fault.cause()));
        let after_ours = arena.contents();
        arena.fill(&Random::new(u64::from(round) + 1));
        // SAFETY: as above.
        let kernel = unsafe { libc::preadv(source.as_raw_fd(), segments.as_ptr(), segments.len() as i32, 0) };
        let done = agree(&format!("round {round}: {segments:?}"), count(kernel), ours, total);
        if is_exact() || ours == Ok(done) {
            assert!(arena.contents() == after_ours, "round {round}: what was not to be touched was");
        }
        shorts += u32::from(ours.is_err());
    }
    assert!((ROUNDS / 10..ROUNDS).contains(&shorts), "{shorts} of {ROUNDS} were short");
}

/// The number of bytes that the kernel moves between a list and a plain buffer of this process with `process_vm_writev`
/// (out of the list) or `process_vm_readv` (into it), with this process as the other one.
fn other_process(
    call: unsafe extern "C" fn(
        libc::pid_t,
        *const libc::iovec,
        libc::c_ulong,
        *const libc::iovec,
        libc::c_ulong,
        libc::c_ulong,
    ) -> isize,
    segments: &[libc::iovec],
    buffer: &mut [u8],
) -> Result<usize, i32> {
    let remote = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the buffer is a local, and the list is a part of the arena.
    let moved =
        unsafe { call(libc::getpid(), segments.as_ptr(), segments.len() as libc::c_ulong, &raw const remote, 1, 0) };
    count(moved)
}

/// Whether these system calls exist. User-mode emulators lack them.
pub fn has_process_vm() -> bool {
    let (mut a, mut b) = ([0_u8; 1], [0_u8; 1]);
    let local = libc::iovec { iov_base: a.as_mut_ptr().cast(), iov_len: 1 };
    let there = other_process(libc::process_vm_readv, &[local], &mut b).is_ok();
    if !there {
        faultin_test::skipped("process-vm", "process_vm_readv on ourselves");
    }
    there
}

#[test]
fn process_vm_writev_takes_what_ours_takes() {
    let _serial = crate::serial();
    if !has_process_vm() {
        return;
    }
    let (arena, random) = (Arena::new(), Random::new(0x3003));
    arena.fill(&random);
    for round in 0..ROUNDS {
        let segments = arena.segments(&random);
        let (bytes, ours) = gather(&segments);
        let mut received = vec![0; bytes.len()];
        let kernel = other_process(libc::process_vm_writev, &segments, &mut received);
        let done = agree(&format!("round {round}: {segments:?}"), kernel, ours, bytes.len());
        assert!(received[..done] == bytes[..done], "round {round}");
    }
}

#[test]
fn process_vm_readv_fills_what_ours_fills() {
    let _serial = crate::serial();
    if !has_process_vm() {
        return;
    }
    let (arena, random) = (Arena::new(), Random::new(0x4004));
    for round in 0..ROUNDS {
        let segments = arena.segments(&random);
        let mut bytes: Vec<u8> = (0..bytes_of(&segments)).map(|_| random.next() as u8).collect();
        arena.fill(&Random::new(u64::from(round) + 1));
        // SAFETY: parts of the arena, without references to them.
        let mut iov = unsafe { IovDest::import_iovec(&segments) }.unwrap();
        let ours = iov.copy_to_iter(&bytes).map_err(|short| (short.done, short.fault.cause()));
        let after_ours = arena.contents();
        arena.fill(&Random::new(u64::from(round) + 1));
        let total = bytes.len();
        let kernel = other_process(libc::process_vm_readv, &segments, &mut bytes);
        let done = agree(&format!("round {round}: {segments:?}"), kernel, ours, total);
        if is_exact() || ours == Ok(done) {
            assert!(arena.contents() == after_ours, "round {round}");
        }
    }
}
