//! The architecture without the crate's assembly, on any machine: `RUSTFLAGS="--cfg faultin_syscall" cargo test --package
//! faultin --test syscall_arch`. The counts are those of the assembly.
#![cfg(faultin_syscall)]

mod pages;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use faultin::{Access, Cause, Short};
use pages::{Bad, CANARY, Pages, pattern, serial};

#[test]
fn counts_are_exact_and_what_follows_is_untouched() {
    let _one = serial();
    faultin::install().expect("nothing to install");
    let page = faultin::page_size();
    let source: Vec<u8> = (0..4 * page).map(pattern).collect();
    for bad in Bad::ALL {
        let mut pages = Pages::new(bad, 2 * page);
        let start = pages.good;
        for good in [0, 1, 8, 100, page - 1, page, page + 7] {
            for size in [0, 1, 8, 99, 101, page, page + 8, 2 * page] {
                let what = format!("{size} bytes, {good} good before {bad:?}");
                pages.all().iter_mut().enumerate().for_each(|(i, b)| *b = pattern(i));
                let ptr = pages.boundary().wrapping_sub(good);
                let expected = |access| {
                    if good < size && bad.cause(access).is_some() { Err((good, access)) } else { Ok(()) }
                };
                let named = |r: Result<(), faultin::Short>| r.map_err(|s| (s.done, s.fault.access()));
                let mut out = vec![CANARY; size + 64];
                // SAFETY: `out` and `source` are long enough; `ptr` may fault.
                unsafe {
                    assert_eq!(
                        named(faultin::raw::copy_in(out.as_mut_ptr(), ptr, size)),
                        expected(Access::Read),
                        "{what}"
                    );
                    let done = if expected(Access::Read).is_ok() { size } else { good };
                    assert_eq!(out[..done], pages.all()[start - good..][..done], "{what}");
                    assert!(out[done..].iter().all(|&b| b == CANARY), "{what}");
                    assert_eq!(
                        named(faultin::raw::copy_out(ptr, source.as_ptr(), size)),
                        expected(Access::Write),
                        "{what}"
                    );
                    assert_eq!(named(faultin::raw::fill(ptr, 7, size)), expected(Access::Write), "{what}");
                    let done = if expected(Access::Write).is_ok() { size } else { good };
                    let seen = pages.all();
                    assert!(seen[start - good..][..done].iter().all(|&b| b == 7), "{what}");
                    let after = start - good + done;
                    assert!(seen[after..].iter().enumerate().all(|(i, &b)| b == pattern(after + i)), "{what}");
                    if let Some(len) = NonZeroUsize::new(size) {
                        let prefix = faultin::raw::fault_in_readable(ptr, len).map(NonZeroUsize::get).unwrap_or(0);
                        let bad_read = expected(Access::Read).is_err();
                        assert_eq!(prefix, if bad_read { good } else { size }, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn scalars_are_all_or_nothing_and_atomics_are_refused() {
    let _one = serial();
    let mut pages = Pages::new(Bad::NoAccess, faultin::page_size());
    pages.all().fill(1);
    for good in 0..8 {
        let ptr = pages.boundary().wrapping_sub(good).cast::<u64>();
        // SAFETY: may fault.
        unsafe {
            assert!(faultin::raw::load(ptr).is_err());
            assert!(faultin::raw::store(ptr, 5).is_err());
        }
        assert!(pages.all().iter().all(|&b| b == 1), "a store that faults stores nothing");
    }
    let mut word = 3_u64;
    // SAFETY: plain memory.
    unsafe {
        assert_eq!(faultin::raw::store(&raw mut word, 9), Ok(()));
        assert_eq!(faultin::raw::load(&raw const word), Ok(9));
        assert_eq!(faultin::raw::swap(&raw mut word, 1).unwrap_err().cause(), Cause::Unsupported);
    }
}

#[test]
fn strings_and_scans_count_exactly() {
    let _one = serial();
    let mut pages = Pages::new(Bad::PastEnd, faultin::page_size());
    pages.all().fill(0);
    let ptr = pages.boundary().wrapping_sub(40);
    // SAFETY: may fault.
    unsafe {
        assert_eq!(faultin::raw::is_zeroed(ptr, 40), Ok(true));
        assert_eq!(faultin::raw::is_zeroed(ptr, 41).unwrap_err().done, 40);
        assert_eq!(faultin::raw::strnlen(ptr, 9), Ok(0));
        pages.all().fill(b'x');
        assert_eq!(faultin::raw::strnlen(ptr, 100).unwrap_err().done, 40);
        assert_eq!(faultin::raw::is_zeroed(ptr, 41), Ok(false));
    }
}

/// The last page of a process's address space, readable and writable.
fn last_page() -> Option<*mut u8> {
    let page = faultin::page_size();
    // The ends of 47, 48 and 39 bits, with and without a guard page of the kernel.
    let ends = [1_usize << 47, 1 << 48, 1 << 39].into_iter().flat_map(|end| [end, end - page]);
    let map = |end: usize| {
        let (rw, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let at = core::ptr::without_provenance_mut(end - page);
        // SAFETY: a new mapping that replaces none.
        let map = unsafe { libc::mmap(at, page, rw, flags | libc::MAP_FIXED_NOREPLACE, -1, 0) };
        (map != libc::MAP_FAILED).then_some(map.cast())
    };
    ends.into_iter().find_map(map)
}

#[test]
fn counts_are_exact_at_the_end_of_the_address_space() {
    let _one = serial();
    let page = faultin::page_size();
    let Some(last) = last_page() else { return faultin_test::skipped("last-page", std::io::Error::last_os_error()) };
    let end = last.wrapping_add(page);
    let source: Vec<u8> = (0..3 * page).map(pattern).collect();
    let plain = Pages::new(Bad::NoAccess, 2 * page);
    let other = plain.boundary().wrapping_sub(2 * page);
    for good in [1, 7, 100, page - 1, page] {
        for more in [1, 5, 300, page, usize::MAX / 2 - good, usize::MAX - page] {
            let (ptr, size) = (end.wrapping_sub(good), good + more);
            let what = format!("{good} good bytes and {more} more");
            let expected = |access| Err((good, access, Some(end.addr())));
            let named = |result: Result<(), Short>| result.map_err(|s| (s.done, s.fault.access(), s.fault.address()));
            // SAFETY: the page belongs to this test; the rest faults.
            unsafe {
                last.write_bytes(0, page);
                if size <= source.len() {
                    let mut out = vec![CANARY; size];
                    assert_eq!(
                        named(faultin::raw::copy_in(out.as_mut_ptr(), ptr, size)),
                        expected(Access::Read),
                        "{what}"
                    );
                    assert!(out[..good].iter().all(|&b| b == 0) && out[good..].iter().all(|&b| b == CANARY), "{what}");
                    let stored = faultin::raw::copy_out(ptr, source.as_ptr(), size);
                    assert_eq!(named(stored), expected(Access::Write), "{what}");
                    let seen = std::slice::from_raw_parts(ptr, good);
                    assert!(seen == &source[..good], "{what}");
                    assert_eq!(named(faultin::raw::copy(other, ptr, size)), expected(Access::Read), "{what}");
                    assert_eq!(named(faultin::raw::copy(ptr, other, size)), expected(Access::Write), "{what}");
                }
                assert_eq!(named(faultin::raw::fill(ptr, 9, size)), expected(Access::Write), "{what}");
                assert!(std::slice::from_raw_parts(ptr, good).iter().all(|&b| b == 9), "{what}");
                last.write_bytes(0, page);
                assert_eq!(faultin::raw::is_zeroed(ptr, size).map_err(|s| s.done), Err(good), "{what}");
                last.write_bytes(1, page);
                assert_eq!(faultin::raw::strnlen(ptr, size).map_err(|s| s.done), Err(good), "{what}");
            }
        }
    }
    // SAFETY: this test's mapping.
    unsafe { libc::munmap(last.cast(), page) };
}

#[test]
fn a_store_that_fails_loses_no_store_of_another_thread() {
    let _one = serial();
    let page = faultin::page_size();
    let pages = Pages::new(Bad::NoAccess, page);
    // Its first byte is in the bad page, its last one in a good page after it.
    let word = pages.after().wrapping_sub(1).cast::<u64>();
    // SAFETY: mapped, and accessed only as an atomic.
    let last = unsafe { AtomicU8::from_ptr(word.cast::<u8>().wrapping_add(7)) };
    let done = AtomicBool::new(false);
    let address = word.expose_provenance();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let word: *mut u64 = core::ptr::with_exposed_provenance_mut(address);
            while !done.load(Ordering::Relaxed) {
                // SAFETY: faults.
                assert!(unsafe { faultin::raw::store(word, 0) }.is_err());
            }
        });
        let mut lost = 0;
        for round in 0..300_000_u32 {
            last.store(round as u8, Ordering::SeqCst);
            for _ in 0..round % 64 {
                std::hint::spin_loop();
            }
            lost += u32::from(last.load(Ordering::SeqCst) != round as u8);
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(lost, 0);
    });
}

#[test]
fn a_fault_has_its_side_its_cause_and_the_address_of_its_first_byte() {
    let _one = serial();
    let page = faultin::page_size();
    for bad in Bad::ALL {
        let pages = Pages::new(bad, 2 * page);
        let other = Pages::new(bad, 2 * page);
        let boundary = pages.boundary();
        let named = |fault: faultin::Fault| (fault.access(), fault.cause(), fault.address());
        let expected = |access, at: *mut u8| match bad.cause(access) {
            Some(cause) => Err((access, cause, Some(at.addr()))),
            None => Ok(()),
        };
        let (from, to) = (other.boundary(), boundary.wrapping_sub(2 * page));
        // SAFETY: foreign memory.
        unsafe {
            for before in 0..8_usize {
                let word = boundary.wrapping_sub(before).cast::<u64>();
                assert_eq!(
                    faultin::raw::store(word, 5).map_err(named),
                    expected(Access::Write, boundary),
                    "{before} {bad:?}"
                );
                let loaded = faultin::raw::load(word).map(|_| ()).map_err(named);
                assert_eq!(loaded, expected(Access::Read, boundary), "{before} {bad:?}");
            }
            // From a bad page into a good one.
            let word = boundary.wrapping_add(page - 3);
            assert_eq!(
                faultin::raw::store(word.cast::<u64>(), 5).map_err(named),
                expected(Access::Write, word),
                "{bad:?}"
            );
            let copied =
                |dst: *mut u8, src: *mut u8| faultin::raw::copy(dst, src, 100).map_err(|s| (s.done, named(s.fault)));
            let short = |access, at| expected(access, at).map_err(|named| (40, named));
            assert_eq!(copied(to, from.wrapping_sub(40)), short(Access::Read, from), "{bad:?}");
            assert_eq!(copied(boundary.wrapping_sub(40), to), short(Access::Write, boundary), "{bad:?}");
            // Both: the load comes first.
            let both = copied(boundary.wrapping_sub(40), from.wrapping_sub(40));
            let first = if bad.cause(Access::Read).is_some() { Access::Read } else { Access::Write };
            let at = if first == Access::Read { from } else { boundary };
            assert_eq!(both, short(first, at), "{bad:?}");
        }
    }
}
