//! Shared memory as a slice, maps of a part of a file, and maps that change their length.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::SeqCst;

use faultin::iov::IovSource;
use faultin::{
    MapError,
    map::{Backend, Change, Reason, Repair, Rights},
    shared::SharedMap,
};

use crate::fixture::{Kind, content, each, memfd, seal};

const OFFSETS: [usize; 4] = [0, 8, 4096, 10_000];

fn shrunk(error: &MapError) -> Option<u64> {
    match error.change() {
        Some(Change::Shrunk { to, .. }) => Some(to),
        _ => None,
    }
}

#[test]
fn a_map_of_a_part_is_that_part() {
    each(|case| {
        for offset in OFFSETS {
            let len = 20_000;
            let (file, mut model) = (case.file(offset + len + 5), content(offset + len + 5));
            let ours = file.try_clone().expect("a descriptor");
            let map = case.options().offset(offset as u64).from_file(ours, len, Rights::ReadWrite).expect("map it");
            assert_eq!((map.offset(), map.len(), map.backend()), (offset as u64, len, case.backend));
            map.write_at(b"written", 3).expect("room");
            map.fill(len as u64 - 9.., 0xff).expect("room");
            map.store(100, 0x0102_0304_u32).expect("room");
            model[offset + 3..offset + 10].copy_from_slice(b"written");
            model[offset + len - 9..offset + len].fill(0xff);
            model[offset + 100..offset + 104].copy_from_slice(&0x0102_0304_u32.to_ne_bytes());
            let mut seen = vec![0; len + 100];
            assert_eq!(map.read_at(&mut seen, 0).expect("there"), len);
            assert!(seen[..len] == model[offset..offset + len]);
            assert_eq!(map.load::<u32>(100).expect("there"), 0x0102_0304);
            assert_eq!(map.read_once::<[u8; 7]>(3).expect("there"), *b"written");
            if case.is_mapped() {
                assert_eq!(map.fetch_add(104, 1_u64, SeqCst).is_ok(), offset % 8 == 0, "aligned in the file");
            }
            model[offset + 104..offset + 112].copy_from_slice(&map.read_once::<[u8; 8]>(104).expect("there"));
            let mut copied = vec![0; 50];
            let source = map.source(90..130);
            assert_eq!(IovSource::one(source).copy_from_iter(&mut copied).expect("there"), 40);
            assert_eq!(copied[..40], model[offset + 90..offset + 130]);
            let mut all = vec![0; model.len()];
            file.read_exact_at(&mut all, 0).expect("there");
            assert!(all == model, "nothing else was touched");
            // A recipient of the descriptor and the offset maps the same bytes.
            assert!(map.as_fd().as_raw_fd() >= 0);
            let fd = map.try_clone_fd().expect("a descriptor");
            let theirs = case.options().offset(map.offset()).from_fd(fd, 10, Rights::Read).expect("map it");
            assert_eq!(theirs.read_once::<[u8; 10]>(0).expect("there"), model[offset..offset + 10]);

            let error = map.read_exact_at(&mut [0; 2], len as u64 - 1).expect_err("one too many");
            assert!(matches!(error.reason(), Reason::PastEnd { len: 20_000 }), "{error:?}");
            assert_eq!(error.offset(), (offset + len) as u64 - 1);

            // The peer truncates it in the middle of the map.
            file.set_len((offset + 5000) as u64).expect("cut");
            let error = map.read_at(&mut seen, 10).expect_err("cut");
            assert_eq!((shrunk(&error), error.done()), (Some((offset + 5000) as u64), 4990));
            assert_eq!(error.offset(), (offset + 5000) as u64);
            let error = map.write_at(&[1; 100], 4950).expect_err("cut");
            let done = if case.is_mapped() { 50 } else { 0 };
            assert_eq!((shrunk(&error), error.done()), (Some((offset + 5000) as u64), done));
            assert_eq!(shrunk(&map.verify().expect_err("cut")), Some((offset + 5000) as u64));
        }
    });
}

#[test]
fn an_offset_beyond_the_file_is_refused() {
    each(|case| {
        let at = |offset, len| {
            let file = case.file(5000);
            case.options().offset(offset).from_file(file, len, Rights::Read)
        };
        at(4999, 1).expect("the last byte");
        for (offset, len, left) in [(4999, 2, 1), (5000, 1, 0), (9000, 1, 0), (u64::MAX, 1, 0), (1, usize::MAX, 4999)] {
            let error = at(offset, len).expect_err("not there");
            assert!(matches!(error.reason(), Reason::PastEnd { len } if *len == left), "{error:?}");
        }
    });
    let made = faultin::shared::SharedOptions::new().offset(10_000).create("part", 6).expect("memory");
    assert_eq!(std::fs::File::from(made.try_clone_fd().expect("a descriptor")).metadata().expect("ask").len(), 10_006);
    made.write_at(b"cursor", 0).expect("room");
}

#[test]
fn a_map_changes_its_length() {
    each(|case| {
        for offset in OFFSETS {
            let file = case.file(offset + 3000);
            let ours = file.try_clone().expect("a descriptor");
            let options = case.options().offset(offset as u64);
            let mut map = options.from_file(ours, 3000, Rights::ReadWrite).expect("map it");
            let error = map.resize(3001).expect_err("the file has not grown");
            assert!(matches!(error.reason(), Reason::PastEnd { len: 3000 }), "{error:?}");
            assert_eq!(map.len(), 3000);

            let model = content(offset + 300_000);
            file.write_all_at(&model, 0).expect("room");
            map.resize(300_000).expect("it has grown");
            assert_eq!((map.len(), map.backend()), (300_000, case.backend));
            let mut seen = vec![0; 300_000];
            map.read_exact_at(&mut seen, 0).expect("there");
            assert!(seen == model[offset..]);
            map.write_at(b"end", 299_997).expect("room");

            map.resize(1000).expect("shorter");
            assert_eq!(map.read_at(&mut seen, 0).expect("there"), 1000);
            assert!(matches!(map.write_at(&[0], 1000).expect_err("not in it").reason(), Reason::PastEnd { len: 1000 }));
            assert!(matches!(map.resize(0).expect_err("nothing").reason(), Reason::Unsupported(_)));
            map.resize(300_000).expect("as before");
            assert_eq!(map.read_once::<[u8; 3]>(299_997).expect("there"), *b"end");

            // The reported old length is that of the last agreement.
            file.set_len(offset as u64 + 10).expect("cut");
            let error = map.read_at(&mut seen, 0).expect_err("cut");
            let from = (offset + 300_000) as u64;
            assert_eq!(error.change(), Some(Change::Shrunk { from, to: offset as u64 + 10 }));
            assert!(map.resize(300_000).is_err() && map.len() == 300_000);
            map.resize(10).expect("what is left");
            map.verify().expect("it has ten bytes");
            if case.kind == Kind::Memfd {
                assert!(!map.is_sealed());
                seal(&file, libc::F_SEAL_SHRINK).expect("seal it");
                map.resize(5).expect("shorter");
                assert!(map.is_sealed(), "it is asked again");
            }
        }
    });
}

#[test]
fn a_slice_has_the_bytes() {
    each(|case| {
        for offset in OFFSETS {
            let file = case.file(offset + 50_000);
            let map = case.options().offset(offset as u64).from_file(file, 50_000, Rights::Read).expect("map it");
            for (start, end) in [(0, 50_000), (7, 9), (4096, 8192), (100, 100), (49_999, 60_000), (60_000, 70_000)] {
                // SAFETY: a copy, compared afterwards.
                let copy =
                    unsafe { map.with_slice(start as u64..end as u64, <[u8]>::to_vec) }.expect("nothing happens");
                let model = content(offset + 50_000);
                assert!(copy == model[offset + start.min(50_000)..offset + end.min(50_000)], "{start}..{end}");
            }
        }
    });
}

#[test]
fn a_peer_that_truncates_under_a_slice_is_damage() {
    each(|case| {
        let page = faultin::page_size();
        for offset in [0, page, 100] {
            let (len, cut) = (16 * page, 5 * page + 10);
            let file = case.file(offset + len);
            let ours = file.try_clone().expect("a descriptor");
            let map = case.options().offset(offset as u64).from_file(ours, len, Rights::ReadWrite).expect("map it");
            let scan = |bytes: &[u8]| {
                file.set_len((offset + cut) as u64).expect("cut");
                let seen = bytes.to_vec();
                if case.is_mapped() && !cfg!(faultin_syscall) {
                    assert_eq!(map.repair().expect("it is not tried"), Repair::InUse);
                    // Until then the mapping has zeros instead of the bytes of the peer, so reads and stores use the file.
                    file.set_len((offset + len) as u64).expect("as long as before");
                    file.write_all_at(&[7; 16], (offset + 8 * page) as u64).expect("room");
                    assert_eq!(map.read_once::<[u8; 16]>(8 * page as u64).expect("by the file"), [7; 16]);
                    map.write_at(&[9; 4], 9 * page as u64).expect("by the file");
                    map.fill(9 * page as u64 + 4..10 * page as u64, 8).expect("by the file");
                    map.store(10 * page as u64, 6_u32).expect("by the file");
                    let mut stored = vec![0; page + 4];
                    file.read_exact_at(&mut stored, (offset + 9 * page) as u64).expect("there");
                    assert_eq!((&stored[..4], stored[4], stored[page - 1]), (&[9; 4][..], 8, 8));
                    assert_eq!(stored[page..], 6_u32.to_ne_bytes());
                    if offset % 8 == 0 {
                        map.load_atomic::<u64>(8 * page as u64, SeqCst).expect_err("zeros are there");
                        map.fetch_add(8 * page as u64, 1_u64, SeqCst).expect_err("zeros are there");
                        let exchanged = map.compare_exchange(8 * page as u64, 1_u64, 2, SeqCst, SeqCst);
                        exchanged.expect_err("zeros are there");
                    }
                    file.set_len((offset + cut) as u64).expect("cut");
                }
                seen
            };
            // SAFETY: a copy, compared afterwards.
            let read = unsafe { map.with_slice(.., scan) };
            if !case.is_mapped() || cfg!(faultin_syscall) {
                // It had an earlier copy.
                assert!(read.expect("a copy") == content(offset + len)[offset..]);
            } else {
                let damaged = read.expect_err("it was cut");
                let seen = damaged.value.expect("it ran to its end");
                assert_eq!(damaged.ranges, std::slice::from_ref(&(cut as u64..len as u64)));
                assert_eq!((damaged.first_bad, damaged.error.done()), (Some(cut as u64), cut));
                assert_eq!(shrunk(&damaged.error), Some((offset + cut) as u64));
                assert!(seen[..cut] == content(offset + len)[offset..offset + cut]);
                assert!(seen[cut..].iter().all(|&byte| byte == 0));
            }
            // Afterwards the mapping shows the file again.
            file.set_len((offset + len) as u64).expect("as long as before");
            file.write_all_at(&content(offset + len), 0).expect("room");
            assert_eq!(map.repair().expect("nothing to do"), Repair::Whole);
            assert_eq!(map.backend(), case.backend);
            // SAFETY: as above.
            let seen = unsafe { map.with_slice(.., <[u8]>::to_vec) }.expect("it is whole");
            assert!(seen == content(offset + len)[offset..]);
            if case.is_mapped() && offset % 8 == 0 {
                map.store_atomic(0, 5_u64, SeqCst).expect("the mapping is there");
                assert_eq!(map.load_atomic::<u64>(0, SeqCst).expect("the mapping is there"), 5);
            }
        }
    });
}

#[test]
fn a_slice_of_what_was_cut_before_is_damage() {
    each(|case| {
        let len = 4 * faultin::page_size();
        let (file, map) = case.shared(len);
        file.set_len(100).expect("cut");
        // SAFETY: a copy, compared afterwards.
        let damaged = unsafe { map.with_slice(50.., <[u8]>::to_vec) }.expect_err("cut");
        assert_eq!((damaged.ranges.as_slice(), damaged.error.done()), (std::slice::from_ref(&(100..len as u64)), 50));
        let seen = damaged.value.expect("it ran");
        assert!(seen[..50] == content(100)[50..] && seen[50..].iter().all(|&byte| byte == 0));
        // SAFETY: as above.
        assert_eq!(unsafe { map.with_slice(..100, <[u8]>::len) }.expect("that part is there"), 100);
    });
}

#[test]
fn a_panic_in_a_slice_leaves_the_map_whole() {
    each(|case| {
        let len = 4 * faultin::page_size();
        let (file, map) = case.shared(len);
        let cut_and_panic = |bytes: &[u8]| {
            file.set_len(0).expect("cut");
            assert_eq!(bytes[len - 1], if case.is_mapped() { 0 } else { content(len)[len - 1] });
            panic!("on purpose");
        };
        // SAFETY: one byte is read.
        let scan = std::panic::AssertUnwindSafe(|| unsafe { map.with_slice(.., cut_and_panic).is_ok() });
        let panicked = std::panic::catch_unwind(scan).expect_err("it panics");
        if !cfg!(faultin_syscall) {
            assert_eq!(panicked.downcast_ref::<&str>(), Some(&"on purpose"));
        }
        file.write_all_at(&content(len), 0).expect("room");
        assert_eq!(map.repair().expect("nothing to do"), Repair::Whole);
        let mut seen = vec![0; len];
        map.read_exact_at(&mut seen, 0).expect("it is there again");
        assert!(seen == content(len));
    });
}

#[test]
fn a_ring_lies_in_a_part() {
    use faultin::shared::ring::{Consumer, Producer, RingLayout};
    let _one = crate::fixture::serial();
    let file = memfd(0);
    file.set_len(3 * 4096).expect("room");
    let layout = RingLayout { head: 0, tail: 64, data: 128, entry: 4, capacity: 16 };
    let options = faultin::shared::SharedOptions::new().backend(Backend::Mapped).offset(4096 + 512);
    let ours = options.from_file(file.try_clone().expect("a descriptor"), 1024, Rights::ReadWrite).expect("map it");
    let all = SharedMap::from_file(file, 3 * 4096, Rights::ReadWrite).expect("map it");
    let moved = RingLayout { head: 4608, tail: 4608 + 64, data: 4608 + 128, ..layout };
    let (mut producer, mut consumer) =
        (Producer::new(&ours, layout).expect("it fits"), Consumer::new(&all, moved).expect("it fits"));
    for round in 0..40_u32 {
        assert_eq!(producer.push(&round.to_ne_bytes()).expect("room"), 1);
        let mut entry = [0; 4];
        assert_eq!(consumer.consume(&mut entry).expect("there"), 1);
        assert_eq!(u32::from_ne_bytes(entry), round);
    }
}
