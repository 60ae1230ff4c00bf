//! Scalars, strings, scans, structures and views, next to a bad page and away from it.

mod pages;

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

use faultin::{Access, Cause, ReadView, Scalar, WriteView, raw::StructError};
use pages::{Bad, CANARY, Pages, pattern, serial};

fn filled(bad: Bad) -> Pages {
    faultin::install().expect("install");
    let mut pages = Pages::new(bad, faultin::page_size());
    pages.all().iter_mut().enumerate().for_each(|(i, b)| *b = pattern(i) | 1);
    pages
}

/// One type's plain access at every distance from the boundary.
fn plain<T: Scalar + std::fmt::Debug>(value: T) {
    for bad in Bad::ALL {
        let mut pages = filled(bad);
        let size = size_of::<T>();
        for good in 0..=2 * size {
            let ptr = pages.boundary().wrapping_sub(good).cast::<T>();
            let fits = good >= size;
            // SAFETY: may fault, as intended; may be misaligned, which plain accesses allow.
            let (loaded, stored) = unsafe { (faultin::raw::load(ptr), faultin::raw::store(ptr, value)) };
            let what = format!("{size} bytes, {good} good before {bad:?}");
            match bad.cause(Access::Read) {
                Some(cause) if !fits => {
                    let fault = loaded.expect_err(&what);
                    assert_eq!((fault.cause(), fault.access()), (cause, Access::Read), "{what}");
                    let at = fault.address().expect(&what).wrapping_sub(ptr.addr());
                    assert!(at < size, "{what}: the address lies in the access");
                }
                _ => assert!(loaded.is_ok(), "{what}"),
            }
            match bad.cause(Access::Write) {
                Some(cause) if !fits => {
                    let fault = stored.expect_err(&what);
                    assert_eq!((fault.cause(), fault.access()), (cause, Access::Write), "{what}");
                    let start = pages.good;
                    let before = &pages.before()[start - good..];
                    let same = before.iter().enumerate().all(|(i, &b)| b == pattern(start - good + i) | 1);
                    assert!(same, "{what}: a store that faults stores nothing");
                }
                _ => {
                    assert_eq!(stored, Ok(()), "{what}");
                    // SAFETY: just stored.
                    assert_eq!(unsafe { faultin::raw::load(ptr) }, Ok(value), "{what}");
                    pages.all().iter_mut().enumerate().for_each(|(i, b)| *b = pattern(i) | 1);
                }
            }
        }
    }
}

#[test]
fn plain_loads_and_stores_of_every_size_are_all_or_nothing() {
    let _one = serial();
    plain(0x5a_u8);
    plain(-2_i8);
    plain(0x1234_u16);
    plain(-1234_i16);
    plain(0x1234_5678_u32);
    plain(i32::MIN);
    plain(0x1234_5678_9abc_def0_u64);
    plain(i64::MIN);
    plain(usize::MAX);
    plain(isize::MIN);
    plain(0x1234_5678_9abc_def0_0fed_cba9_8765_4321_u128);
    plain(i128::MIN);
}

macro_rules! atomics {
    ($($ty:ident)*) => {$(
        let mut word: [$ty; 2] = [5, 9];
        let ptr = word.as_mut_ptr();
        // SAFETY: plain memory of this type, aligned.
        unsafe {
            use Ordering::*;
            assert_eq!(faultin::raw::swap(ptr, 6), Ok(5));
            assert_eq!(faultin::raw::fetch_add(ptr, 3, AcqRel), Ok(6));
            assert_eq!(faultin::raw::fetch_sub(ptr, 1, Relaxed), Ok(9));
            assert_eq!(faultin::raw::fetch_and(ptr, 0xc, SeqCst), Ok(8));
            assert_eq!(faultin::raw::fetch_or(ptr, 0x3, Acquire), Ok(8));
            assert_eq!(faultin::raw::fetch_xor(ptr, 0x1, Release), Ok(11));
            assert_eq!(faultin::raw::fetch_nand(ptr, 0xf, SeqCst), Ok(10));
            assert_eq!(faultin::raw::swap(ptr, 10), Ok(!10));
            assert_eq!(faultin::raw::fetch_max(ptr, 12, SeqCst), Ok(10));
            assert_eq!(faultin::raw::fetch_min(ptr, 4, SeqCst), Ok(12));
            assert_eq!(faultin::raw::compare_exchange(ptr, 4, 7, AcqRel, Acquire), Ok(Ok(4)));
            assert_eq!(faultin::raw::compare_exchange(ptr, 4, 8, SeqCst, Relaxed), Ok(Err(7)));
            for order in [Relaxed, Release, SeqCst] {
                assert_eq!(faultin::raw::store_atomic(ptr, 3, order), Ok(()));
            }
            for order in [Relaxed, Acquire, SeqCst] {
                match faultin::raw::load_atomic(ptr, order) {
                    // Atomics of 128 bits need CPU support.
                    Err(fault) if size_of::<$ty>() == 16 => assert_eq!(fault.cause(), Cause::Unsupported),
                    other => assert_eq!(other, Ok(3)),
                }
            }
            assert_eq!(faultin::raw::load(ptr.add(1)), Ok(9), "the neighbour");
            // Invalid alignment and orderings are refused.
            if size_of::<$ty>() > 1 {
                let odd = ptr.byte_add(1);
                for fault in [
                    faultin::raw::load_atomic(odd, Relaxed).unwrap_err(),
                    faultin::raw::store_atomic(odd, 1, Relaxed).unwrap_err(),
                    faultin::raw::swap(odd, 1).unwrap_err(),
                    faultin::raw::fetch_add(odd, 1, Relaxed).unwrap_err(),
                    faultin::raw::fetch_max(odd, 1, Relaxed).unwrap_err(),
                    faultin::raw::compare_exchange(odd, 1, 1, Relaxed, Relaxed).unwrap_err(),
                ] {
                    assert_eq!((fault.cause(), fault.errno()), (Cause::Alignment, libc::EINVAL));
                }
            }
            assert_eq!(faultin::raw::load_atomic(ptr, Release).unwrap_err().cause(), Cause::Unsupported);
            assert_eq!(faultin::raw::store_atomic(ptr, 1, Acquire).unwrap_err().cause(), Cause::Unsupported);
            assert_eq!(faultin::raw::compare_exchange(ptr, 1, 1, SeqCst, Release).unwrap_err().cause(), Cause::Unsupported);
        }
        // On a bad page.
        for bad in [Bad::Unmapped, Bad::ReadOnly] {
            let pages = Pages::new(bad, faultin::page_size());
            let ptr = pages.boundary().cast::<$ty>();
            let cause = bad.cause(Access::Write).expect("bad for stores");
            // SAFETY: may fault, as intended.
            unsafe {
                for fault in [
                    faultin::raw::store_atomic(ptr, 1, Ordering::SeqCst).unwrap_err(),
                    faultin::raw::store_atomic(ptr, 1, Ordering::Release).unwrap_err(),
                    faultin::raw::swap(ptr, 1).unwrap_err(),
                    faultin::raw::fetch_add(ptr, 1, Ordering::SeqCst).unwrap_err(),
                    faultin::raw::fetch_and(ptr, 1, Ordering::SeqCst).unwrap_err(),
                    faultin::raw::fetch_or(ptr, 1, Ordering::SeqCst).unwrap_err(),
                    faultin::raw::fetch_xor(ptr, 1, Ordering::SeqCst).unwrap_err(),
                    faultin::raw::fetch_nand(ptr, 1, Ordering::SeqCst).unwrap_err(),
                    faultin::raw::fetch_max(ptr, 1, Ordering::SeqCst).unwrap_err(),
                    faultin::raw::compare_exchange(ptr, 1, 1, Ordering::SeqCst, Ordering::SeqCst).unwrap_err(),
                ] {
                    assert_eq!((fault.cause(), fault.access()), (cause, Access::Write), "{bad:?}");
                }
                if bad.cause(Access::Read).is_some() {
                    let fault = faultin::raw::load_atomic(ptr, Ordering::Acquire).unwrap_err();
                    // (CPUs without LSE2 or AVX do not load 16 bytes at once.)
                    let mut good = [0 as $ty; 2];
                    let aligned = good.as_mut_ptr().map_addr(|at| at.next_multiple_of(size_of::<$ty>()));
                    let is_supported = faultin::raw::load_atomic(aligned, Ordering::Acquire).is_ok();
                    let cause = if is_supported { Cause::Unmapped } else { Cause::Unsupported };
                    assert_eq!((fault.cause(), is_supported || size_of::<$ty>() == 16), (cause, true));
                }
            }
        }
    )*};
}

#[test]
fn atomics_do_what_their_names_say_and_refuse_what_they_cannot() {
    let _one = serial();
    faultin::install().expect("install");
    atomics!(u8 u16 u32 u64 usize);
    #[repr(align(16))]
    struct Aligned([u128; 2]);
    let mut wide = Aligned([5, 9]);
    let ptr = wide.0.as_mut_ptr();
    // SAFETY: plain memory, aligned to 16.
    if unsafe { faultin::raw::swap(ptr, 5) }.is_err() {
        return faultin_test::skipped("wide-atomics", "no 128-bit compare-exchange");
    }
    // The macro's array of u128 is aligned to 16 by the ABI of every target with these operations.
    atomics!(u128);
}

#[test]
fn concurrent_fetch_adds_lose_nothing() {
    let _one = serial();
    faultin::install().expect("install");
    let word = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    // SAFETY: plain memory, accessed only atomically.
                    unsafe {
                        faultin::raw::fetch_add(word.as_ptr(), 1, Ordering::Relaxed).expect("resident");
                        faultin::raw::fetch_xor(word.as_ptr(), 1 << 63, Ordering::Relaxed).expect("resident");
                    }
                }
            });
        }
    });
    assert_eq!(word.into_inner(), 40_000);
}

#[test]
fn strings_stop_at_nul_and_touch_no_page_they_need_not() {
    let _one = serial();
    for bad in [Bad::Unmapped, Bad::NoAccess, Bad::PastEnd] {
        let mut pages = filled(bad);
        let cause = bad.cause(Access::Read);
        for good in 0..100_usize {
            for nul in 0..good + 1 {
                let start = pages.good;
                if nul < good {
                    pages.before()[start - good + nul] = 0;
                }
                let src = pages.boundary().wrapping_sub(good);
                for max in [0, nul, nul + 1, good, good + 5, usize::MAX] {
                    let what = format!("{good} good before {bad:?}, NUL at {nul}, at most {max}");
                    let mut out = [CANARY; 128];
                    // SAFETY: may fault, as intended; `out` holds 128 bytes.
                    let (len, copied) = unsafe {
                        (faultin::raw::strnlen(src, max), faultin::raw::strncpy(out.as_mut_ptr(), src, max.min(128)))
                    };
                    let (expected, written) = if nul < good && nul < max {
                        (Ok(nul), nul + 1)
                    } else if max <= good {
                        (Ok(max), max)
                    } else {
                        (Err(good), good)
                    };
                    match expected {
                        Ok(n) => assert_eq!((len, copied), (Ok(n), Ok(n)), "{what}"),
                        Err(done) => {
                            for short in [len.expect_err(&what), copied.expect_err(&what)] {
                                assert_eq!((short.done, Some(short.fault.cause())), (done, cause), "{what}");
                                assert_eq!(short.fault.address(), Some(pages.boundary().addr()), "{what}");
                            }
                        }
                    }
                    let start = pages.good;
                    assert_eq!(out[..written], pages.before()[start - good..][..written], "{what}");
                    assert!(out[written..].iter().all(|&b| b == CANARY), "{what}");
                }
                let start = pages.good;
                if nul < good {
                    pages.before()[start - good + nul] = 1;
                }
            }
        }
    }
}

#[test]
fn scans_find_the_first_difference_or_the_exact_fault() {
    let _one = serial();
    for bad in [Bad::Unmapped, Bad::PastEnd] {
        let mut pages = filled(bad);
        let mut other = filled(bad);
        pages.before().fill(0);
        other.before().fill(0);
        let start = pages.good;
        let plain = vec![0_u8; 4096];
        for good in (0..150).chain([255, 256, 300]) {
            let src = pages.boundary().wrapping_sub(good);
            for size in [0, good / 2, good, good + 1, good + 16, good + 64, good + 300] {
                let before = faultin::signal::counters().total();
                // SAFETY: may fault, as intended; `plain` is long enough.
                let (zero, same, rev) = unsafe {
                    (
                        faultin::raw::is_zeroed(src, size),
                        faultin::raw::compare(src, plain.as_ptr(), size),
                        faultin::raw::compare(plain.as_ptr(), src, size),
                    )
                };
                let what = format!("{size} bytes, {good} good before {bad:?}");
                if size <= good {
                    assert_eq!((zero, same, rev), (Ok(true), Ok(None), Ok(None)), "{what}");
                } else {
                    for short in [zero.expect_err(&what), same.expect_err(&what), rev.expect_err(&what)] {
                        assert_eq!((short.done, short.fault.access()), (good, Access::Read), "{what}");
                    }
                    assert!(faultin::signal::counters().total() - before <= 3, "one signal each: {what}");
                }
            }
            // A difference before the fault, at each position.
            for at in 0..good {
                pages.before()[start - good + at] = 0x80;
                // SAFETY: as above.
                unsafe {
                    assert_eq!(faultin::raw::is_zeroed(src, good + 40), Ok(false), "byte {at} of {good}");
                    assert_eq!(faultin::raw::is_zeroed(src, at), Ok(true), "before byte {at}");
                    assert_eq!(
                        faultin::raw::compare(src, plain.as_ptr(), good + 40),
                        Ok(Some(at)),
                        "byte {at} of {good}"
                    );
                    let near = other.boundary().wrapping_sub(good);
                    assert_eq!(faultin::raw::compare(near, src, good + 40), Ok(Some(at)), "both near a fault");
                }
                pages.before()[start - good + at] = 0;
            }
        }
    }
}

#[test]
fn versioned_structures_complete_shorter_ones_and_check_longer_ones() {
    let _one = serial();
    let mut pages = filled(Bad::NoAccess);
    let start = pages.good;
    let bytes: Vec<u8> = (1..=32).collect();
    for src_len in 0..=32_usize {
        for dst_len in 0..=32_usize {
            for dirty in [None, Some(dst_len), Some(src_len.saturating_sub(1))] {
                let dirty = dirty.filter(|&d| d >= dst_len && d < src_len);
                let common = src_len.min(dst_len);
                pages.before()[start - src_len..][..common].copy_from_slice(&bytes[..common]);
                pages.before()[start - src_len + common..].fill(0);
                if let Some(d) = dirty {
                    pages.before()[start - src_len + d] = 1;
                }
                let mut dst = [CANARY; 40];
                let src = pages.boundary().wrapping_sub(src_len);
                // SAFETY: `dst` has 40 bytes; `src` may fault.
                let result = unsafe { faultin::raw::copy_struct_in(dst.as_mut_ptr(), dst_len, src, src_len) };
                let what = format!("{src_len} bytes into {dst_len}, dirty {dirty:?}");
                if dirty.is_some() {
                    assert_eq!(result, Err(StructError::TooBig), "{what}");
                    assert!(dst.iter().all(|&b| b == CANARY), "checked before anything is copied: {what}");
                } else {
                    assert_eq!(result, Ok(()), "{what}");
                    assert_eq!(dst[..common], bytes[..common], "{what}");
                    assert!(dst[common..dst_len].iter().all(|&b| b == 0), "{what}");
                    assert!(dst[dst_len..].iter().all(|&b| b == CANARY), "{what}");
                }
            }
            // One byte more than is accessible.
            let src = pages.boundary().wrapping_sub(src_len);
            let mut dst = [0; 40];
            // SAFETY: as above.
            let result = unsafe { faultin::raw::copy_struct_in(dst.as_mut_ptr(), dst_len, src, src_len + 1) };
            match result {
                Err(StructError::Fault(fault)) => assert_eq!(fault.cause(), Cause::Protection),
                Err(StructError::TooBig) => {}
                other => assert!(dst_len <= src_len && other.is_err(), "{src_len} {dst_len}: {other:?}"),
            }
        }
    }
}

#[test]
fn views_keep_to_their_bounds_and_give_back_both_halves() {
    let _one = serial();
    let mut pages = filled(Bad::PastEnd);
    let page = faultin::page_size();
    let start = pages.boundary().wrapping_sub(page);
    // SAFETY: `pages` keeps the range.
    let (read, write) = unsafe {
        (ReadView::new(start, 3 * page).expect("install"), WriteView::new(start, 3 * page).expect("install"))
    };
    // In bounds, with short counts.
    let mut buffer = vec![MaybeUninit::uninit(); page];
    let faultin::raw::ShortRead { init, uninit, fault } =
        read.read_uninit(&mut buffer, page - 100).expect_err("past the end");
    assert_eq!((init.len(), uninit.len(), fault.cause()), (100, page - 100, Cause::Backing));
    assert_eq!(init, &pages.before()[page - 100..]);
    assert_eq!(write.write(b"abcdef", page - 3).expect_err("past the end").done, 3);
    assert_eq!(read.load::<u32>(page - 4), Ok(u32::from_ne_bytes([pages.before()[page - 4], b'a', b'b', b'c'])));
    assert_eq!(write.fill(page - 7..page - 7 + 20, 9).expect_err("past the end").done, 7);
    assert_eq!(write.fetch_add::<u8>(page - 1, 1, Ordering::SeqCst), Ok(9));
    assert_eq!(read.load::<u8>(page - 1), Ok(10));
    assert_eq!(read.copy_to(0..100, &write, page - 50).expect_err("past the end").done, 50);
    // Out of bounds: refused without an effect.
    let out = |fault: faultin::Fault| assert_eq!((fault.cause(), fault.errno()), (Cause::OutOfRange, libc::EINVAL));
    out(read.read(&mut [0; 2], 3 * page - 1).expect_err("leaves the view").fault);
    out(read.load::<u64>(usize::MAX - 2).expect_err("wraps"));
    out(write.store::<u16>(3 * page, 1).expect_err("behind the view"));
    out(write.write(&[], 3 * page + 1).expect_err("starts behind the view").fault);
    assert_eq!(write.write(&[], 3 * page), Ok(()), "nothing, at the very end");
    // Parts.
    assert!(read.subslice(std::ops::Range { start: 5, end: 4 }).is_none() && read.subslice(0..3 * page + 1).is_none());
    let (left, right) = read.split_at(page).expect("in bounds");
    assert_eq!((left.len(), right.len(), right.as_ptr()), (page, 2 * page, pages.boundary().cast_const()));
    assert!(read.split_at(3 * page + 1).is_none());
    assert_eq!(left.strnlen(0), Ok(page));
    out(left.strnlen(page + 1).expect_err("behind the view").fault);
    assert_eq!(right.fault_in(0, 1.try_into().expect("not 0")).expect_err("bad").cause(), Cause::Backing);
}

#[test]
fn the_floating_point_state_travels_and_a_bad_page_stops_it() {
    let _one = serial();
    let size = faultin::fpstate::image_size();
    if size == 0 {
        return faultin_test::skipped("xsave", "no image of the floating-point state");
    }
    let page = faultin::page_size();
    let mut pages = Pages::new(Bad::NoAccess, 4 * page);
    pages.all().fill(0);
    let align = faultin::fpstate::ALIGN;
    let room = size.next_multiple_of(align);
    let image = faultin::fpstate::Image::patterned(3);
    let view = |good: usize| {
        let ptr = pages.boundary().wrapping_sub(good);
        // SAFETY: `pages` keeps the range.
        unsafe { WriteView::new(ptr, room).expect("install") }
    };
    let whole = view(room);
    faultin::fpstate::save(&whole, &image).expect("resident");
    let arrived = faultin::fpstate::restore(&whole.as_read()).expect("resident");
    assert!(arrived.same_registers(&image));
    assert!(!arrived.same_registers(&faultin::fpstate::Image::patterned(4)));
    for good in (0..room).step_by(align) {
        let part = view(good);
        let cause = |r: Result<(), faultin::Fault>| r.map_err(|f| f.cause());
        assert_eq!(cause(faultin::fpstate::save(&part, &image)), Err(Cause::Protection), "{good} of {room} good");
        assert_eq!(
            cause(faultin::fpstate::restore(&part.as_read()).map(|_| ())),
            Err(Cause::Protection),
            "{good} of {room} good"
        );
    }
    let fault = faultin::fpstate::restore(&whole.as_read().subslice(0..size - 1).expect("in bounds"));
    assert_eq!(fault.map(|_| ()).unwrap_err().cause(), Cause::OutOfRange);
    let odd = view(room + 8).as_read();
    assert_eq!(faultin::fpstate::restore(&odd).map(|_| ()).unwrap_err().cause(), Cause::Alignment);
}

#[test]
fn the_signal_free_mode_counts_the_same() {
    if faultin_test::is_emulated() {
        return faultin_test::skipped(
            "native",
            "an emulator fails an assertion of its own in calls that are given bad memory",
        );
    }
    let _one = serial();
    for bad in Bad::ALL {
        let mut pages = filled(bad);
        let start = pages.good;
        for good in [0_usize, 1, 7, 100] {
            let ptr = pages.boundary().wrapping_sub(good);
            let mut out = [CANARY; 200];
            // SAFETY: `out` has 200 bytes; `ptr` may fault.
            let read = unsafe { faultin::signal_free::copy_in(out.as_mut_ptr(), ptr, 150) };
            if read.is_err_and(|short| short.fault.cause() == Cause::Unsupported) {
                return faultin_test::skipped("process-vm", "process_vm_readv on ourselves");
            }
            let expected = if bad.cause(Access::Read).is_some() { Err(good) } else { Ok(()) };
            assert_eq!(read.map_err(|s| s.done), expected, "{good} good before {bad:?}");
            let done = if read.is_ok() { 150 } else { good };
            assert_eq!(out[..done], pages.all()[start - good..][..done]);
            assert!(out[done..].iter().all(|&b| b == CANARY));
            let source = [0x33; 150];
            // SAFETY: as above.
            let written = unsafe { faultin::signal_free::copy_out(ptr, source.as_ptr(), 150) };
            assert_eq!(written.map_err(|s| s.done), Err(good), "{good} good before {bad:?}");
            assert!(pages.before()[start - good..].iter().all(|&b| b == 0x33));
            pages.all().iter_mut().enumerate().for_each(|(i, b)| *b = pattern(i) | 1);
        }
        // SAFETY: may fault.
        let loaded = unsafe { faultin::signal_free::load(pages.boundary().cast::<u64>()) };
        assert_eq!(loaded.is_err(), bad.cause(Access::Read).is_some(), "{bad:?}");
    }
}
