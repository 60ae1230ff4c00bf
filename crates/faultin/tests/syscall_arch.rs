//! The architecture without assembly of ours, on any machine: `RUSTFLAGS="--cfg faultin_syscall" cargo test --package
//! faultin --test syscall_arch`. The counts are those of the assembly; the causes are the kernel's `EFAULT`.
#![cfg(faultin_syscall)]

mod pages;

use std::num::NonZeroUsize;

use faultin::{Access, Cause};
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
                    assert_eq!(named(faultin::copy_in(out.as_mut_ptr(), ptr, size)), expected(Access::Read), "{what}");
                    let done = if expected(Access::Read).is_ok() { size } else { good };
                    assert_eq!(out[..done], pages.all()[start - good..][..done], "{what}");
                    assert!(out[done..].iter().all(|&b| b == CANARY), "{what}");
                    assert_eq!(named(faultin::copy_out(ptr, source.as_ptr(), size)), expected(Access::Write), "{what}");
                    assert_eq!(named(faultin::fill(ptr, 7, size)), expected(Access::Write), "{what}");
                    let done = if expected(Access::Write).is_ok() { size } else { good };
                    let seen = pages.all();
                    assert!(seen[start - good..][..done].iter().all(|&b| b == 7), "{what}");
                    let after = start - good + done;
                    assert!(seen[after..].iter().enumerate().all(|(i, &b)| b == pattern(after + i)), "{what}");
                    if let Some(len) = NonZeroUsize::new(size) {
                        let prefix = faultin::fault_in_readable(ptr, len).map(NonZeroUsize::get).unwrap_or(0);
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
            assert!(faultin::load(ptr).is_err());
            assert!(faultin::store(ptr, 5).is_err());
        }
        assert!(pages.all().iter().all(|&b| b == 1), "a store that faults stores nothing");
    }
    let mut word = 3_u64;
    // SAFETY: plain memory.
    unsafe {
        assert_eq!(faultin::store(&raw mut word, 9), Ok(()));
        assert_eq!(faultin::load(&raw const word), Ok(9));
        assert_eq!(faultin::swap(&raw mut word, 1).unwrap_err().cause(), Cause::Unsupported);
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
        assert_eq!(faultin::is_zeroed(ptr, 40), Ok(true));
        assert_eq!(faultin::is_zeroed(ptr, 41).unwrap_err().done, 40);
        assert_eq!(faultin::strnlen(ptr, 9), Ok(0));
        pages.all().fill(b'x');
        assert_eq!(faultin::strnlen(ptr, 100).unwrap_err().done, 40);
        assert_eq!(faultin::is_zeroed(ptr, 41), Ok(false));
    }
}
