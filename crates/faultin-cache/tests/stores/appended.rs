//! Appends past the cache: any number of segments of any length, at any file size.

use std::sync::Arc;
use std::thread;

use faultin::ReadView;
use faultin::iov::{IovSource, ReadSegment};
use faultin_cache::store::{FileStore, MemoryStore, Store};
use faultin_cache::{Cache, CacheOptions, Error};
use faultin_test::Random;
use faultin_test::skipped;

use crate::common::compare::assert_same;
use crate::common::stores::{Manner, Picky};
use crate::file_with;

fn cache() -> Cache {
    CacheOptions::new().block(4096).limit(1 << 20).build()
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| 1 + ((at + seed) % 251) as u8).collect()
}

/// A readable page followed by an unreadable one.
fn half_bad() -> ReadView<'static> {
    let page = faultin::page_size();
    let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, placed by the kernel; it is never unmapped.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), 2 * page, rights, flags, -1, 0) };
    assert_ne!(base, libc::MAP_FAILED);
    // SAFETY: within that mapping.
    unsafe {
        base.cast::<u8>().write_bytes(9, page);
        assert_eq!(libc::mprotect(base.byte_add(page), page, libc::PROT_NONE), 0);
    }
    // SAFETY: the mapping stays.
    unsafe { ReadView::new(base.cast(), 2 * page) }.unwrap()
}

#[test]
fn any_segments_at_any_end() {
    let random = Random::new(7);
    for (unit, short) in [(1, false), (1, true), (512, false), (512, true), (4096, true)] {
        for start in [0, 1, 511, 512, 4096, 5000] {
            let store =
                Picky::new(MemoryStore::new(pattern(start, 3)), Manner { alignment: unit, short, holes: true }, 5);
            let file = cache().open(store.clone()).unwrap();
            let mut ought = pattern(start, 3);
            for turn in 0..6 {
                let parts: Vec<_> =
                    (0..random.below(5)).map(|n| pattern(random.below(3000) as usize, turn + n as usize)).collect();
                let segments: Vec<_> = parts.iter().map(|part| ReadSegment::Plain(part)).collect();
                let mut from = IovSource::<ReadView<'_>>::new(&segments);
                let len: usize = parts.iter().map(Vec::len).sum();
                assert_eq!(file.append_direct(&mut from).unwrap(), len);
                assert_eq!((from.count(), from.moved()), (0, len));
                ought.extend(parts.concat());
                assert_eq!(file.len().unwrap(), ought.len() as u64);
            }
            let mut is = vec![0; ought.len()];
            assert_eq!(file.read_at(&mut is, 0).unwrap(), ought.len());
            assert_same(&is, &ought, "read");
            file.sync_all().unwrap();
            assert_same(&store.memory.contents(), &ought, "written");
            assert_eq!(store.first_wrong(), None);
        }
    }
}

/// Whole units do not wait for a sync.
#[test]
fn whole_units_go_past_the_cache() {
    let store = Picky::new(MemoryStore::new(pattern(100, 0)), Manner { alignment: 512, ..Manner::PLAIN }, 5);
    let file = cache().open(store.clone()).unwrap();
    let bytes = pattern(10_000, 1);
    file.append_direct(&mut IovSource::<ReadView<'_>>::one(&bytes[..])).unwrap();
    let end = 10_100 / 512 * 512;
    assert_same(&store.memory.contents()[512..end], &bytes[412..end - 100], "before a sync");
    assert!(file.dirty() <= 2 * 4096, "the ends only: {}", file.dirty());
}

#[test]
fn what_cannot_be_read_ends_it_with_an_exact_count() {
    let page = faultin::page_size();
    for (unit, start) in [(1, 0), (512, 0), (512, 100), (512, 3), (4096, 5000)] {
        let store = Picky::new(MemoryStore::new(pattern(start, 0)), Manner { alignment: unit, ..Manner::PLAIN }, 5);
        let file = cache().open(store.clone()).unwrap();
        let plain = pattern(777, 2);
        let segments = [ReadSegment::Plain(&plain), ReadSegment::Memory(half_bad()), ReadSegment::Plain(&plain)];
        let mut from = IovSource::new(&segments);
        let partial = file.append_direct(&mut from).unwrap_err();
        assert!(matches!(partial.error, Error::Fault(_)), "{partial}");
        assert_eq!((partial.done, from.moved(), from.count()), (777 + page, 777 + page, page + 777));
        let mut ought = pattern(start, 0);
        ought.extend(&plain);
        ought.resize(start + 777 + page, 9);
        file.sync_all().unwrap();
        assert_same(&store.memory.contents(), &ought, "written");
    }
}

#[test]
fn appends_of_several_threads_are_whole() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("file");
    let store = match FileStore::direct(file_with(&path, b"")) {
        Ok(store) => store,
        Err(why) => return skipped("direct-io", why),
    };
    let record = 2 * store.alignment() + 100;
    let file = Arc::new(cache().open(store).unwrap());
    thread::scope(|scope| {
        for thread in 1..=4_u8 {
            let file = Arc::clone(&file);
            scope.spawn(move || {
                for turn in 0..20 {
                    let bytes = vec![thread; record];
                    let (first, second) = bytes.split_at(turn * 7);
                    let segments = [ReadSegment::Plain(first), ReadSegment::Plain(second)];
                    let mut from = IovSource::<ReadView<'_>>::new(&segments);
                    let done = if turn % 3 == 0 { file.append_iter(&mut from) } else { file.append_direct(&mut from) };
                    assert_eq!(done.unwrap(), record);
                }
            });
        }
    });
    file.sync_all().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 80 * record);
    let mut counts = [0; 5];
    for record in bytes.chunks(record) {
        assert!(record.iter().all(|byte| *byte == record[0]), "torn");
        counts[record[0] as usize] += 1;
    }
    assert_eq!(counts, [0, 20, 20, 20, 20]);
}

/// A store of fixed length: nothing is written.
#[test]
fn a_store_of_a_fixed_length_is_not_appended_to() {
    struct Fixed(MemoryStore);
    impl Store for Fixed {
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn is_fixed(&self) -> bool {
            true
        }
        fn read_at(&self, buf: &mut [u8], pos: u64) -> std::io::Result<usize> {
            self.0.read_at(buf, pos)
        }
        fn write_at(&self, buf: &[u8], pos: u64) -> std::io::Result<usize> {
            self.0.write_at(buf, pos)
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            panic!("{len}: its length is fixed")
        }
        fn sync(&self, _: bool) -> std::io::Result<()> {
            Ok(())
        }
    }
    let store = Arc::new(Fixed(MemoryStore::new(pattern(8192, 0))));
    let file = cache().open(Arc::clone(&store)).unwrap();
    let mut from = IovSource::<ReadView<'_>>::one(&b"more"[..]);
    let partial = file.append_direct(&mut from).unwrap_err();
    assert!(matches!(partial.error, Error::FixedLength { pos: 8192, len: 4, size: 8192 }), "{partial}");
    assert_eq!((partial.done, from.count(), file.dirty()), (0, 4, 0));
    file.write_at(&[7; 4096], 4096).unwrap();
    file.punch_hole(0..4096).unwrap();
    file.set_len(8192).unwrap();
    file.set_len(4096).unwrap_err();
    file.sync_all().unwrap();
    let mut ought = vec![0; 8192];
    ought[4096..].fill(7);
    assert_same(&store.0.contents(), &ought, "written");
}
