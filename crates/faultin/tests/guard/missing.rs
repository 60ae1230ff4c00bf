//! Pages that fail although the file has them: userfaultfd raises the same signal for a missing page of a tmpfs file as a
//! disk error, and removing the mapping ends the failure.

use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use faultin::Cause;
use faultin::{FileMapMut, map::Reason};

use crate::fixture::{content, each, overwrite, writer};
use crate::scan::{bytes, peek, served};

const UFFD_USER_MODE_ONLY: libc::c_int = 1;
const API: u64 = 0xaa;
const FEATURE_SIGBUS: u64 = 1 << 7;
const FEATURE_MISSING_SHMEM: u64 = 1 << 5;
const FEATURE_POISON: u64 = 1 << 14;
const MODE_MISSING: u64 = 1;
const UFFDIO_API: libc::Ioctl = libc::_IOWR::<[u64; 3]>(0xaa, 0x3f);
const UFFDIO_POISON: libc::Ioctl = libc::_IOWR::<[u64; 4]>(0xaa, 0x08);
const UFFDIO_REGISTER: libc::Ioctl = libc::_IOWR::<[u64; 4]>(0xaa, 0x00);

/// Makes the holes of these pages of a tmpfs file raise SIGBUS in this mapping until the returned value is dropped.
pub fn fail(pages: &[u8]) -> Result<OwnedFd, String> {
    let error = |what: &str| format!("{what}: {}", std::io::Error::last_os_error());
    // SAFETY: makes a descriptor; the calls write to what they are given.
    unsafe {
        let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY);
        if fd < 0 {
            return Err(error("userfaultfd"));
        }
        let uffd = OwnedFd::from_raw_fd(fd as i32);
        let mut api = [API, FEATURE_SIGBUS | FEATURE_MISSING_SHMEM | FEATURE_POISON, 0];
        if libc::ioctl(uffd.as_raw_fd(), UFFDIO_API, &raw mut api) != 0 {
            return Err(error("userfaultfd in SIGBUS mode"));
        }
        let mut register = [pages.as_ptr().addr() as u64, pages.len() as u64, MODE_MISSING, 0];
        if libc::ioctl(uffd.as_raw_fd(), UFFDIO_REGISTER, &raw mut register) != 0 {
            return Err(error("userfaultfd for a tmpfs file's mapping"));
        }
        Ok(uffd)
    }
}

/// A tmpfs file of this many pages, which are holes except for those in `there`.
pub fn sparse(path: &Path, pages: usize, there: impl IntoIterator<Item = usize>) {
    let page = faultin::page_size();
    writer(path).set_len(0).expect("set_len");
    writer(path).set_len((pages * page) as u64).expect("set_len");
    for at in there {
        overwrite(path, at * page, &content(page));
    }
}

/// Runs `test` with options that map and a path, if pages can be made to fail; skips it otherwise.
pub fn with_failing_pages(test: impl Fn(&dyn Fn() -> FileMapMut, &Path)) {
    let mut has_place = false;
    each(|case| {
        let path = case.path("file");
        if !case.faults() || !path.starts_with("/dev/shm") {
            return;
        }
        has_place = true;
        std::fs::write(&path, []).expect("make a file");
        let probe = case.file("probe", faultin::page_size());
        let map = case.options().open_mut(probe).expect("map it");
        // SAFETY: does nothing with the bytes.
        let made = unsafe { map.with_slice(.., |all| fail(all).map(drop)) };
        if let Err(missing) = made.expect("nothing happened") {
            return faultin_test::skipped("uffd", missing);
        }
        // (Only for mappings that could be writable.)
        test(&|| case.options().open_mut(&path).expect("map it"), &path);
    });
    if !has_place {
        faultin_test::skipped("tmpfs", "no file in /dev/shm can be mapped whose pages can be made to fail");
    }
}

#[test]
fn one_page_that_fails_is_one_page_of_zeros() {
    let page = faultin::page_size();
    with_failing_pages(|map, path| {
        sparse(path, 64, (0..64).filter(|at| *at != 20));
        let map = map();
        let before = served();
        let scan = |all: &[u8]| fail(all).map(|uffd| (all.to_vec(), uffd));
        // SAFETY: relies on no byte, stores nothing, keeps nothing.
        let damaged = unsafe { map.with_slice(.., scan) }.expect_err("a page failed");
        assert_eq!(served() - before, 1);
        let bad = 20 * page as u64;
        assert_eq!(damaged.first_bad, Some(bad));
        assert_eq!(damaged.ranges, [bad..bad + page as u64]);
        // Reading the file finds nothing wrong: the mapping is the cause.
        assert!(matches!(damaged.error.reason(), Reason::Fault(fault) if fault.cause() == Cause::Backing));
        let (all, _uffd) = damaged.value.expect("it was called").expect("it was available");
        for at in 0..64 {
            let expected = if at == 20 { vec![0; page] } else { content(page) };
            assert!(all[at * page..][..page] == expected, "page {at}");
        }
        // A restored mapping is not registered with a userfaultfd.
        let before = served();
        assert_eq!(bytes(&map, ..).expect("it has healed").len(), 64 * page);
        assert_eq!(served(), before);
    });
}

#[test]
fn a_mapping_that_fails_everywhere_costs_few_signals_in_every_order() {
    let (page, pages) = (faultin::page_size(), 1000);
    /// The page that is accessed in this turn, of this many.
    type Order = fn(usize, usize) -> usize;
    let orders: [(&str, Order); 3] = [
        ("upwards", |at, _| at),
        ("downwards", |at, pages| pages - 1 - at),
        ("here and there", |at, pages| at * 617 % pages),
    ];
    with_failing_pages(|map, path| {
        sparse(path, pages, []);
        for (name, order) in orders {
            let map = map();
            let before = served();
            let scan = |all: &[u8]| {
                let uffd = fail(all);
                for at in 0..pages {
                    peek(all, order(at, pages) * page);
                }
                uffd
            };
            // SAFETY: as above.
            let damaged = unsafe { map.with_slice(.., scan) }.expect_err("pages failed");
            let signals = served() - before;
            println!("{pages} pages {name}: {signals} signals");
            // log2(1000), 1, and the size of the last block.
            assert!((1..=12).contains(&signals), "{name}: {signals}");
            let covered: u64 = damaged.ranges.iter().map(|range| range.end - range.start).sum();
            assert_eq!(covered, (pages * page) as u64, "{name}: {:?}", damaged.ranges);
            assert_eq!(damaged.first_bad, Some(0));
        }
    });
}

#[test]
fn read_upwards_nothing_before_the_first_bad_byte_is_given_up() {
    let (page, pages) = (faultin::page_size(), 200);
    with_failing_pages(|map, path| {
        for (step, start) in [(1, 13), (2, 5), (3, 7), (7, 33), (16, 1), (50, 100)] {
            sparse(path, pages, (0..pages).filter(|at| *at < start || (at - start) % step != 0));
            let map = map();
            // Page by page: `memcpy` has an order of its own, a different one on each CPU.
            let upwards = |all: &[u8]| {
                let mut copy = Vec::with_capacity(all.len());
                for at in 0..pages {
                    peek(all, at * page);
                    copy.extend_from_slice(&all[at * page..][..page]);
                }
                copy
            };
            let scan = |all: &[u8]| fail(all).map(|uffd| (upwards(all), uffd));
            // SAFETY: as above.
            let damaged = unsafe { map.with_slice(.., scan) }.expect_err("pages failed");
            let bad = start * page;
            assert_eq!(damaged.first_bad, Some(bad as u64), "from {start} every {step}");
            let (all, _uffd) = damaged.value.expect("it was called").expect("it was available");
            let expected: Vec<u8> = (0..start).flat_map(|_| content(page)).collect();
            assert!(all[..bad] == expected, "from {start} every {step}");
            // The bytes outside the ranges are the file's.
            for at in (0..pages).filter(|at| !damaged.ranges.iter().any(|bad| bad.contains(&((at * page) as u64)))) {
                assert!(all[at * page..][..page] == content(page), "page {at}, from {start} every {step}");
            }
        }
    });
}

/// Poisons a page of a mapping that `fail` has registered, which was not accessed yet.
fn poison(uffd: &OwnedFd, all: &[u8], at: usize) -> Result<(), String> {
    let page = faultin::page_size();
    let mut poison = [all[at * page..].as_ptr().addr() as u64, page as u64, 0, 0];
    // SAFETY: a page of this mapping that is not populated yet.
    match unsafe { libc::ioctl(uffd.as_raw_fd(), UFFDIO_POISON, &raw mut poison) } {
        0 => Ok(()),
        _ => Err(format!("poison by userfaultfd: {}", std::io::Error::last_os_error())),
    }
}

#[test]
fn a_read_that_stops_behind_zeros_of_a_scan_does_not_count_them() {
    let page = faultin::page_size();
    with_failing_pages(|map, path| {
        sparse(path, 8, 0..8);
        let map = map();
        let scan = |all: &[u8]| {
            let uffd = fail(all)?;
            poison(&uffd, all, 3)?;
            poison(&uffd, all, 4)?;
            // Page 3 is zeros from here on, and page 4 stops each copy.
            assert_eq!(peek(all, 3 * page), 0);
            let (mut part, mut whole) = (vec![0; 4 * page], Vec::new());
            let read = map.read_exact_at(&mut part, 2 * page as u64).map(|()| part);
            let stream = map.reader().read_to_end(&mut whole).map(|_| whole);
            Ok::<_, String>((read, stream))
        };
        // SAFETY: as above.
        let damaged = match unsafe { map.with_slice(.., scan) } {
            Ok(result) => return faultin_test::skipped("uffd-poison", result.map(drop).expect_err("page 3 was bad")),
            Err(damaged) => damaged,
        };
        let (read, stream) = damaged.value.expect("it was called").expect("poisoned");
        let expected: Vec<u8> = (0..8).flat_map(|_| content(page)).collect();
        assert!(read.expect("the file has it") == expected[..4 * page]);
        assert!(stream.expect("the file has it") == expected);
    });
}

#[test]
fn poisoned_memory_is_damage() {
    let page = faultin::page_size();
    with_failing_pages(|map, path| {
        sparse(path, 8, (0..8).filter(|at| *at != 3));
        let map = map();
        let before = served();
        let scan = |all: &[u8]| {
            let uffd = fail(all)?;
            poison(&uffd, all, 3)?;
            Ok::<_, String>([2, 3, 4].map(|at| peek(all, at * page)))
        };
        // SAFETY: as above.
        match unsafe { map.with_slice(.., scan) } {
            Ok(result) => faultin_test::skipped("uffd-poison", result.expect_err("a poisoned page was read")),
            Err(damaged) => {
                assert_eq!(damaged.value, Some(Ok([content(1)[0], 0, content(1)[0]])));
                assert_eq!(damaged.first_bad, Some(3 * page as u64));
                assert_eq!(damaged.ranges, [3 * page as u64..4 * page as u64]);
                assert_eq!(served() - before, 1);
            }
        }
    });
}
