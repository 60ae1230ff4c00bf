//! Maps and mappings as buffers of reads and writes: they end where their file ends.

use std::num::NonZeroUsize;

use faultin::Granularity;
use faultin::iov::{IovDest, IovSource, ReadSegment};
use faultin::map::Rights;
use faultin::memory::{ReadMemory, WriteMemory};
use faultin::{Cause, Short, page_size};
use faultin::{
    FileMap, FileMapMut,
    map::{Change, Watch},
    shared::SharedMap,
};
use faultin_cache::pager::{MappingDest, MappingSource};
use faultin_cache::store::MemoryStore;
use faultin_cache::{Cache, CacheOptions, CachedFile, Error};

use crate::modes::{each, map, pattern};

const LEN: usize = 1000;

fn cache() -> Cache {
    CacheOptions::new().limit(64 * page_size()).build()
}

fn empty(cache: &Cache) -> CachedFile {
    cache.open(std::sync::Arc::new(MemoryStore::new([]))).unwrap()
}

fn contents(file: &CachedFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn on_disk(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

/// Copies all of `bytes`, or as many as the destination accepts; faults in pages that are not resident.
fn store(dest: &mut IovDest<'_, '_, MappingDest<'_>>, bytes: &[u8]) -> Result<usize, Short> {
    let mut done = 0;
    while done < bytes.len() && !dest.is_empty() {
        match dest.copy_to_iter(&bytes[done..]) {
            Ok(copied) => done += copied,
            Err(short) => {
                done += short.done;
                let rest = NonZeroUsize::new(bytes.len() - done).expect("it was short");
                dest.fault_in(rest).map_err(|fault| Short { done, fault })?;
            }
        }
    }
    Ok(done)
}

#[test]
fn a_mapped_file_of_1000_bytes_appends_1000() {
    let (cache, source) = (cache(), on_disk(&pattern(LEN)));
    let file = empty(&cache);
    let map = FileMap::open(source.path()).unwrap();
    assert_eq!(file.append_iter(&mut IovSource::one(&map)).unwrap(), LEN);
    let writable = FileMapMut::open(source.path()).unwrap();
    assert_eq!(file.append_iter(&mut IovSource::one(&*writable)).unwrap(), LEN);
    let shared = SharedMap::create("segments", LEN).unwrap();
    shared.write_at(&pattern(LEN), 0).unwrap();
    assert_eq!(file.append_iter(&mut IovSource::one(&shared)).unwrap(), LEN);
    assert!(contents(&file) == pattern(LEN).repeat(3));
    // Plain memory and maps in one write, over existing bytes.
    let segments: [ReadSegment<'_, _>; 4] =
        [(&b"head"[..]).into(), map.source(100..200).into(), shared.source(..50).into(), (&map).into()];
    assert_eq!(file.write_iter(&mut IovSource::new(&segments), 10).unwrap(), 4 + 100 + 50 + LEN);
    let bytes = pattern(LEN);
    let written = [b"head", &bytes[100..200], &bytes[..50], &bytes].concat();
    assert!(contents(&file)[10..].starts_with(&written));
    assert_eq!(file.len().unwrap(), 3 * LEN as u64);
}

#[test]
fn a_read_to_a_mapped_file_ends_where_it_does() {
    let (cache, target) = (cache(), on_disk(&[b'-'; LEN]));
    let file = empty(&cache);
    file.append(&pattern(3 * page_size())).unwrap();
    let map = FileMapMut::open(target.path()).unwrap();
    assert_eq!(file.read_iter(&mut IovDest::one(&map), 5).unwrap(), LEN);
    assert!(std::fs::read(target.path()).unwrap() == pattern(3 * page_size())[5..5 + LEN]);
    // Truncated during the operation: the counted bytes are in the file, which has not grown.
    let dest = map.dest(..);
    target.as_file().set_len(300).unwrap();
    let partial = file.read_iter(&mut IovDest::one(dest.clone()), 5).unwrap_err();
    assert_eq!(partial.done, 300);
    assert!(matches!(partial.error, Error::Fault(fault) if fault.cause() == Cause::Backing), "{partial}");
    assert_eq!(dest.take_error().unwrap().change(), Some(Change::Shrunk { from: LEN as u64, to: 300 }));
    assert!(std::fs::read(target.path()).unwrap() == pattern(3 * page_size())[5..305]);
}

#[test]
fn a_mapped_file_that_changes_is_no_source_of_zeros() {
    let len = 5 * page_size() + 100;
    for watch in [Watch::Reader, Watch::Appending, Watch::Contents] {
        let (cache, source) = (cache(), on_disk(&pattern(len)));
        let file = empty(&cache);
        file.append(b"before").unwrap();
        let map = faultin::MapOptions::new().watch(watch).open(source.path()).unwrap();
        let from = map.source(..);
        let cut = 2 * page_size() + 50;
        source.as_file().set_len(cut as u64).unwrap();
        let partial = file.append_iter(&mut IovSource::one(from.clone())).unwrap_err();
        assert_eq!(partial.done, cut, "{partial}");
        assert_eq!(from.take_error().unwrap().change(), Some(Change::Shrunk { from: len as u64, to: cut as u64 }));
        assert!(contents(&file) == [b"before", &pattern(len)[..cut]].concat());
        // Longer again, with zeros that were never in the map: either the current bytes or an error.
        source.as_file().set_len(len as u64).unwrap();
        let again = file.append_iter(&mut IovSource::one(from.clone()));
        if watch == Watch::Contents {
            assert_eq!(again.unwrap_err().done, 0);
            assert_eq!(from.take_error().unwrap().change(), Some(Change::Rewritten));
            assert_eq!(file.len().unwrap(), 6 + cut as u64);
        }
    }
}

#[test]
fn a_mapping_of_a_cached_file_ends_where_the_file_does() {
    for len in [LEN, page_size() + 17, 3 * page_size()] {
        let bytes = pattern(len);
        each(&bytes, |cache, file, _, mode| {
            let mapping = map(file, mode, len as u64 + 5 * page_size() as u64).unwrap();
            let other = empty(cache);
            let mut source = IovSource::one(mapping.source().unwrap());
            assert_eq!(source.count(), len, "{mode:?}");
            source.probe(len, Granularity::Page).unwrap();
            assert_eq!(other.append_iter(&mut source).unwrap(), len);
            assert!(contents(&other) == bytes, "{mode:?}");
            // To its own file: once, and not to the end of the page.
            assert_eq!(file.append_iter(&mut IovSource::one(mapping.source().unwrap())).unwrap(), len);
            assert!(contents(file) == bytes.repeat(2), "{mode:?}");
            // A destination does not extend its file.
            let mut dest = IovDest::one(mapping.dest().unwrap());
            assert_eq!(store(&mut dest, &vec![b'd'; 20 * page_size()]).unwrap(), 2 * len);
            assert!(contents(file) == vec![b'd'; 2 * len], "{mode:?}");
            let tail = mapping.source().unwrap();
            let (plain, whole) = (&b"plain"[..], 2 * len);
            let segments: [ReadSegment<'_, MappingSource<'_>>; 3] = [plain.into(), tail.clone().into(), tail.into()];
            assert_eq!(other.write_iter(&mut IovSource::new(&segments), 0).unwrap(), 5 + 2 * whole);
            assert!(contents(&other) == [plain, &vec![b'd'; 2 * whole]].concat());
            // A mapping that begins at an offset in its file.
            drop(mapping);
            let part = file.map(page_size() as u64..u64::MAX >> 2, Rights::Read, mode);
            if let (Ok(part), true) = (part, page_size() < 2 * len) {
                assert_eq!(IovSource::one(part.source().unwrap()).count(), 2 * len - page_size());
            }
        });
    }
}

#[test]
fn a_mapping_whose_file_is_cut_is_no_source_of_zeros() {
    let page = page_size();
    let bytes = pattern(3 * page);
    each(&bytes, |cache, file, _, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        let (source, dest) = (mapping.source().unwrap(), mapping.dest().unwrap());
        for regrown in [false, true] {
            let cut = page + 100;
            file.set_len(cut as u64).unwrap();
            if regrown {
                file.set_len(bytes.len() as u64).unwrap();
            }
            let other = empty(cache);
            let partial = other.append_iter(&mut IovSource::one(source.clone())).unwrap_err();
            assert_eq!(partial.done, cut, "{mode:?}, {partial}");
            assert!(matches!(partial.error, Error::Fault(fault) if fault.cause() == Cause::Backing), "{partial}");
            assert!(contents(&other) == bytes[..cut], "{mode:?}");
            let mut rest = IovSource::one(source.clone());
            rest.advance(cut);
            let one = NonZeroUsize::MIN;
            assert_eq!(rest.fault_in(one).unwrap_err().cause(), Cause::Backing);
            assert_eq!(IovSource::one(source.clone()).probe(2 * page, Granularity::Page).unwrap_err().done, cut);
            let mut to = IovDest::one(dest.clone());
            assert_eq!(store(&mut to, &bytes).unwrap_err().done, cut, "{mode:?}");
            assert_eq!(to.fault_in(one).unwrap_err().cause(), Cause::Backing);
        }
        // A source that is created now has the file's current length.
        assert_eq!(IovSource::one(mapping.source().unwrap()).count(), bytes.len());
        let mut all = vec![1; bytes.len()];
        let now = mapping.source().unwrap();
        while let Err(short) = IovSource::one(now.clone()).copy_from_iter_full(&mut all) {
            now.fault_in(short.done, NonZeroUsize::MIN).unwrap();
        }
        assert!(all == contents(file), "{mode:?}");
    });
}

#[test]
fn a_part_that_no_address_has_is_none() {
    let bytes = pattern(2 * page_size());
    each(&bytes, |_, file, _, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        let (source, dest) = (mapping.source().unwrap(), mapping.dest().unwrap());
        let part = source.subslice(page_size()..bytes.len()).unwrap();
        for start in [bytes.len() + 1, usize::MAX / 2, usize::MAX - 1, usize::MAX] {
            assert!(
                source.subslice(start..usize::MAX).is_none() && part.subslice(start..usize::MAX).is_none(),
                "{start}"
            );
            assert!(dest.subslice(start..usize::MAX).is_none(), "{start}");
            assert_eq!(part.load::<u8>(start).unwrap_err().cause(), Cause::OutOfRange, "{start}");
            assert_eq!(part.read(&mut [0; 2], start).unwrap_err().done, 0, "{start}");
            assert_eq!(dest.store(start, 1_u8).unwrap_err().cause(), Cause::OutOfRange, "{start}");
        }
    });
}
