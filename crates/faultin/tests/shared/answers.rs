//! Results of operations while the peer behaves, and at the end of the map.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use faultin::{Cause, Scalar};
use faultin::{MapError, map::Reason};

use crate::fixture::{content, each, pattern};

fn past_end(error: &MapError, len: usize) -> bool {
    error.done() == 0 && matches!(error.reason(), Reason::PastEnd { len: l } if *l == len as u64)
}

#[test]
fn what_is_read_is_the_peers_and_what_is_stored_it_sees() {
    let page = faultin::page_size();
    let len = 3 * page + 50;
    each(|case| {
        let (file, map) = case.shared(len);
        let mut model = content(len);
        for (at, size) in [(0, 1), (5, 100), (page - 3, 6), (20, 2 * page + 9), (len - 1, 1), (9, 0), (0, len)] {
            let mut seen = vec![0; size];
            assert_eq!(map.read_at(&mut seen, at as u64).expect("ours"), size);
            assert_eq!(seen, model[at..at + size]);
            let new: Vec<u8> = (0..size).map(|i| (i * 7 + at) as u8).collect();
            map.write_at(&new, at as u64).expect("room");
            model[at..at + size].copy_from_slice(&new);
            map.read_exact_at(&mut seen, at as u64).expect("ours");
            assert_eq!(seen, new);
        }
        map.fill(30..2030, 0xee).expect("room");
        model[30..2030].fill(0xee);
        map.store(page as u64 - 3, 0x0123_4567_89ab_cdef_u64).expect("misaligned is fine");
        model[page - 3..page + 5].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_ne_bytes());
        assert_eq!(map.load::<u64>(page as u64 - 3).expect("there"), 0x0123_4567_89ab_cdef);
        assert_eq!(map.read_once::<[u16; 3]>(30).expect("there"), [0xeeee; 3]);
        let mut now = vec![0; len + 1];
        assert_eq!(file.read_at(&mut now, 0).expect("read"), len, "it did not grow");
        assert_eq!(now[..len], model);
        map.verify().expect("as long as it was");
    });
}

#[test]
fn lengths_that_a_client_made_up_touch_nothing() {
    let len = faultin::page_size() + 10;
    each(|case| {
        let (file, map) = case.shared(len);
        for at in [len as u64, len as u64 + 1, 1 << 40, u64::MAX] {
            assert_eq!(map.read_at(&mut [0; 8], at).expect("nothing there"), 0);
        }
        let mut dst = [0xcc; 20];
        assert_eq!(map.read_at(&mut dst, len as u64 - 5).expect("five"), 5);
        assert_eq!((&dst[..5], dst[5]), (&content(len)[len - 5..], 0xcc));
        for at in [len as u64 - 7, len as u64, u64::MAX - 3, u64::MAX] {
            let mut dst = [0xcc; 8];
            let error = map.read_exact_at(&mut dst, at).expect_err("not so many");
            assert!(past_end(&error, len) && error.offset() == at, "{error:?}");
            assert_eq!(dst, [0xcc; 8]);
            assert!(past_end(&map.write_at(&[1; 8], at).expect_err("no room"), len));
            assert!(past_end(&map.fill(at..=at.saturating_add(7), 1).expect_err("no room"), len));
            assert!(past_end(&map.fill(at..=u64::MAX, 1).expect_err("no room"), len));
            assert!(past_end(&map.store(at, 1_u64).expect_err("no room"), len));
            assert!(past_end(&map.load::<u64>(at).expect_err("not there"), len));
            assert!(past_end(&map.read_once::<[u8; 8]>(at).expect_err("not there"), len));
            assert!(past_end(&map.swap(at, 1_u64).expect_err("not there"), len));
        }
        let mut now = vec![0; len + 1];
        assert_eq!(file.read_at(&mut now, 0).expect("read"), len);
        assert_eq!(now[..len], content(len));
    });
}

#[test]
fn atomic_operations_are_those_of_the_views() {
    fn of<T: Scalar + std::fmt::Debug>(map: &faultin::shared::SharedMap, [zero, one, two, three]: [T; 4]) {
        const O: Ordering = Ordering::AcqRel;
        map.store_atomic(8, zero, Ordering::Release).expect("there");
        assert_eq!(map.fetch_add(8, three, O).expect("there"), zero);
        assert_eq!(map.fetch_sub(8, one, O).expect("there"), three);
        assert_eq!(map.fetch_or(8, one, O).expect("there"), two);
        assert_eq!(map.fetch_and(8, two, O).expect("there"), three);
        assert_eq!(map.fetch_xor(8, three, O).expect("there"), two);
        assert_eq!(map.fetch_max(8, three, O).expect("there"), one);
        assert_eq!(map.fetch_min(8, two, O).expect("there"), three);
        assert_eq!(map.swap(8, one).expect("there"), two);
        let exchange = |from, to| map.compare_exchange(8, from, to, O, Ordering::Acquire).expect("there");
        assert_eq!((exchange(one, three), exchange(one, two)), (Ok(one), Err(three)));
        assert_eq!(map.fetch_nand(8, three, O).expect("there"), three);
        map.fetch_and(8, three, O).expect("there");
        assert_eq!(map.load_atomic::<T>(8, Ordering::Acquire).expect("there"), zero);
        let error = map.swap(9, one);
        if size_of::<T>() > 1 {
            let fault = error.expect_err("misaligned").fault().expect("a refusal");
            assert_eq!(fault.cause(), Cause::Alignment);
        }
        let fault = map.load_atomic::<T>(8, Ordering::Release).expect_err("no such load").fault();
        assert_eq!(fault.expect("a refusal").cause(), Cause::Unsupported);
    }
    each(|case| {
        let (_file, map) = case.shared(64);
        if !case.is_mapped() {
            let error = map.swap(8, 1_u32).expect_err("not over pread");
            assert!(matches!(error.reason(), Reason::Unsupported(_)), "{error:?}");
            let mut now = [0; 64];
            assert_eq!(map.read_at(&mut now, 0).expect("there"), 64);
            return assert_eq!(now, std::array::from_fn(pattern));
        }
        if cfg!(faultin_syscall) {
            return faultin_test::skipped("assembly", "atomic operations");
        }
        of::<u8>(&map, [0, 1, 2, 3]);
        of::<u16>(&map, [0, 1, 2, 3]);
        of::<u32>(&map, [0, 1, 2, 3]);
        of::<i64>(&map, [0, 1, 2, 3]);
    });
}
