//! fault_in and probe on every kind of memory: the prefix is right, nothing changes, and where page tables do not suffice,
//! an access decides.

mod pages;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use faultin::{Access, Cause, Fault, Granularity, Short};
use pages::{Bad, Pages, pattern, serial};

/// Sizes that reach every method: touching, populating, populating in growing blocks.
const PAGES: [usize; 9] = [1, 2, 3, 5, 17, 40, 300, 2100, 5000];

fn fault_in(access: Access, ptr: *mut u8, len: usize) -> Result<usize, Fault> {
    let len = NonZeroUsize::new(len).expect("not 0");
    // SAFETY: may fault, as intended.
    let prefix = unsafe {
        match access {
            Access::Read => faultin::raw::fault_in_readable(ptr, len),
            Access::Write => faultin::raw::fault_in_writeable(ptr, len),
        }
    };
    prefix.map(NonZeroUsize::get)
}

fn probe(access: Access, ptr: *mut u8, len: usize, granularity: Granularity) -> Result<(), Short> {
    // SAFETY: may fault, as intended.
    unsafe {
        match access {
            Access::Read => faultin::raw::probe_read(ptr, len, granularity),
            Access::Write => faultin::raw::probe_write(ptr, len, granularity),
        }
    }
}

const GRANULARITIES: [Granularity; 3] = [Granularity::Page, Granularity::Line, Granularity::Tag];

/// Asserts the results of all primitives for `len` bytes at `ptr`, of which `good` are accessible.
fn judge(what: &str, access: Access, ptr: *mut u8, good: usize, len: usize, cause: Option<Cause>) {
    let found = fault_in(access, ptr, len);
    let what = format!("{what}, {access:?}, {good} good of {len}");
    match cause.filter(|_| good < len) {
        None => assert_eq!(found, Ok(len), "{what}"),
        Some(cause) if good == 0 => {
            assert_eq!(found.map_err(|f| (f.cause(), f.access())), Err((cause, access)), "{what}")
        }
        Some(_) => assert_eq!(found, Ok(good), "{what}"),
    }
    for granularity in GRANULARITIES {
        let proven = probe(access, ptr, len, granularity);
        match cause.filter(|_| good < len) {
            None => assert_eq!(proven, Ok(()), "{what}, {granularity:?}"),
            Some(cause) => {
                let short = proven.expect_err(&what);
                assert_eq!((short.done, short.fault.cause()), (good, cause), "{what}, {granularity:?}");
            }
        }
    }
}

#[test]
fn the_prefix_ends_where_the_first_bad_page_begins() {
    let _one = serial();
    faultin::install().expect("install");
    let page = faultin::page_size();
    for bad in Bad::ALL {
        for count in PAGES {
            let mut pages = Pages::new(bad, count * page);
            pages.all().iter_mut().enumerate().for_each(|(i, b)| *b = pattern(i));
            let boundary = pages.boundary();
            for access in [Access::Read, Access::Write] {
                let cause = bad.cause(access);
                for offset in [0, 1, page - 1] {
                    let start = boundary.wrapping_sub(count * page - offset);
                    let good = count * page - offset;
                    let kind = format!("{count} pages before {bad:?}");
                    judge(&kind, access, start, good, good, cause);
                    judge(&kind, access, start, good, good + 1, cause);
                    judge(&kind, access, start, good, good + page, cause);
                    // A length that exceeds all memory.
                    if cause.is_some() {
                        judge(&kind, access, start, good, usize::MAX / 2, cause);
                    }
                }
                judge(&format!("{bad:?}"), access, boundary, 0, 10, cause);
            }
            let same = pages.all().iter().enumerate().all(|(i, &b)| b == pattern(i));
            assert!(same, "{count} pages before {bad:?}: a byte changed");
        }
    }
}

/// A private mapping for experiments.
fn anonymous(pages: usize) -> (*mut u8, usize) {
    let len = pages * faultin::page_size();
    // SAFETY: a new mapping.
    let map = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(map, libc::MAP_FAILED);
    (map.cast(), len)
}

fn unmap(map: *mut u8, len: usize) {
    // SAFETY: this test's mapping.
    unsafe { libc::munmap(map.cast(), len) };
}

#[test]
fn guard_pages_are_found_where_page_tables_say_nothing() {
    let _one = serial();
    faultin::install().expect("install");
    const MADV_GUARD_INSTALL: i32 = 102;
    let page = faultin::page_size();
    for good in [1, 40, 3000] {
        let (map, len) = anonymous(good + 10);
        // User-mode emulation accepts and ignores any advice.
        // SAFETY: a part of the mapping; the first call has an advice that does not exist.
        let installed = unsafe {
            libc::madvise(map.cast(), page, i32::MAX) != 0
                && libc::madvise(map.add(good * page).cast(), page, MADV_GUARD_INSTALL) == 0
        };
        if !installed {
            faultin_test::skipped("guard-pages", "no MADV_GUARD_INSTALL");
            return unmap(map, len);
        }
        for access in [Access::Read, Access::Write] {
            judge("guard page", access, map, good * page, len, Some(Cause::Unmapped));
        }
        unmap(map, len);
    }
}

#[test]
fn secret_memory_is_accessible_although_page_table_queries_refuse_it() {
    let _one = serial();
    faultin::install().expect("install");
    let len = 40 * faultin::page_size();
    // SAFETY: a new descriptor, if the kernel has the call.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, 0) } as i32;
    if fd < 0 {
        return faultin_test::skipped("memfd-secret", std::io::Error::last_os_error());
    }
    // SAFETY: a new mapping of it.
    let map = unsafe {
        libc::ftruncate(fd, len as libc::off_t);
        let map = libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0);
        libc::close(fd);
        map
    };
    assert_ne!(map, libc::MAP_FAILED, "mmap of secret memory: {}", std::io::Error::last_os_error());
    for access in [Access::Read, Access::Write] {
        judge("memfd_secret", access, map.cast(), len, len, None);
    }
    unmap(map.cast(), len);
}

#[test]
fn protection_keys_are_obeyed() {
    let _one = serial();
    faultin::install().expect("install");
    let (map, len) = anonymous(40);
    let page = faultin::page_size();
    // SAFETY: requests a key that denies every access.
    let key = unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, 1) };
    if key < 0 {
        faultin_test::skipped("protection-keys", std::io::Error::last_os_error());
        return unmap(map, len);
    }
    // SAFETY: a part of the mapping.
    unsafe { libc::syscall(libc::SYS_pkey_mprotect, map.add(20 * page), len - 20 * page, 3, key) };
    for access in [Access::Read, Access::Write] {
        judge("protection key", access, map, 20 * page, len, Some(Cause::ProtectionKey));
    }
    // SAFETY: the test's own key.
    unsafe { libc::syscall(libc::SYS_pkey_free, key) };
    unmap(map, len);
}

#[test]
fn the_signal_cause_tells_null_kernel_and_non_canonical_addresses_apart() {
    let _one = serial();
    faultin::install().expect("install");
    for access in [Access::Read, Access::Write] {
        for len in [1, 100, 1 << 20] {
            judge("null", access, std::ptr::null_mut(), 0, len, Some(Cause::Unmapped));
            let wild = std::ptr::without_provenance_mut(1 << 62);
            let fault = fault_in(access, wild, len).expect_err("no such address");
            assert!(matches!(fault.cause(), Cause::NonCanonical | Cause::Unmapped), "{fault:?}");
            let top = std::ptr::without_provenance_mut(usize::MAX);
            assert!(fault_in(access, top, len).is_err(), "the last byte of the address space");
        }
    }
}

#[test]
fn a_store_probe_loses_no_concurrent_store() {
    let _one = serial();
    faultin::install().expect("install");
    let word = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let ptr = word.as_ptr().cast::<u8>();
                assert_eq!(fault_in(Access::Write, ptr, 8), Ok(8));
                assert_eq!(probe(Access::Write, ptr, 8, Granularity::Tag), Ok(()));
            }
        });
        for i in 0..300_000_u64 {
            assert_eq!(word.fetch_add(1, Ordering::Relaxed), i, "a store was undone");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn large_ranges_come_in_whatever_their_pages_are() {
    let _one = serial();
    faultin::install().expect("install");
    let page = faultin::page_size();
    for advice in [libc::MADV_NOHUGEPAGE, libc::MADV_HUGEPAGE] {
        for access in [Access::Read, Access::Write] {
            let (map, len) = anonymous(20_000);
            // SAFETY: the mapping; an unknown advice changes nothing.
            unsafe { libc::madvise(map.cast(), len, advice) };
            assert_eq!(fault_in(access, map, len), Ok(len));
            let mut resident = vec![0_u8; len / page];
            // SAFETY: one byte per page.
            if unsafe { libc::mincore(map.cast(), len, resident.as_mut_ptr()) } == 0 && access == Access::Write {
                assert!(resident.iter().all(|&r| r & 1 == 1), "a page was not brought in");
            }
            assert_eq!(fault_in(access, map.wrapping_add(1), len - 1), Ok(len - 1), "again, resident");
            assert_eq!(probe(access, map, len, Granularity::Page), Ok(()));
            unmap(map, len);
        }
    }
}
