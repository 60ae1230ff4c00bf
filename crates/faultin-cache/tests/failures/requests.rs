//! Invalid and extreme positions, lengths, lists and options.

use std::io;
use std::ops::Range;
use std::panic::catch_unwind;

use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin::{ReadView, WriteView};
use faultin_cache::store::{MemoryStore, Store};
use faultin_cache::{Cache, CacheOptions, CachedFile, Error, FileOptions, Partial};

use crate::common::kernel_loops;

const MAX: u64 = i64::MAX as u64;

fn open(bytes: &[u8]) -> (Cache, CachedFile) {
    let cache = CacheOptions::new().block(16).limit(1024).build();
    let file = cache.open(MemoryStore::new(bytes)).unwrap();
    (cache, file)
}

fn content(file: &CachedFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

#[track_caller]
fn is_too_large(result: Result<usize, Partial>, pos: u64, len: u64) {
    let partial = result.unwrap_err();
    let named = matches!(partial.error, Error::TooLarge { pos: p, len: l } if (p, l) == (pos, len));
    assert!(partial.done == 0 && named, "{partial}");
    assert_eq!(partial.error.errno(), Some(libc::EINVAL));
    let says = partial.to_string();
    assert!(says.contains(&format!("{len} bytes at {pos}")) && says.contains(&MAX.to_string()), "{says}");
}

#[test]
fn positions_that_no_file_has() {
    let (_cache, file) = open(&[7; 20]);
    for pos in [MAX, MAX + 1, u64::MAX - 1, u64::MAX] {
        is_too_large(file.write_at(b"ab", pos), pos, 2);
        is_too_large(file.read_at(&mut [0; 2], pos), pos, 2);
        let mut two = [0; 2];
        is_too_large(file.write_direct(&mut IovSource::<ReadView<'_>>::one(&b"ab"[..]), pos), pos, 2);
        is_too_large(file.read_direct(&mut IovDest::<WriteView<'_>>::one(&mut two[..]), pos), pos, 2);
    }
    is_too_large(file.write_at(b"ab", MAX - 1), MAX - 1, 2);
    is_too_large(file.read_at(&mut [0; 2], MAX - 1), MAX - 1, 2);
    for len in [MAX + 1, u64::MAX] {
        assert!(matches!(file.set_len(len), Err(Error::TooLarge { .. })));
        assert!(matches!(file.punch_hole(len..u64::MAX), Err(Error::TooLarge { .. })));
    }
    assert_eq!(content(&file), [7; 20]);
    assert_eq!(file.dirty(), 0);
}

#[test]
fn the_last_positions_that_a_file_has() {
    let (cache, file) = open(&[7; 20]);
    assert_eq!(file.write_at(b"ab", MAX - 2).unwrap(), 2);
    assert_eq!(file.len().unwrap(), MAX);
    let mut bytes = [1; 8];
    assert_eq!(file.read_at(&mut bytes, MAX - 8).unwrap(), 8);
    assert_eq!(&bytes, b"\0\0\0\0\0\0ab");
    assert_eq!(file.read_at(&mut bytes[..1], MAX - 1).unwrap(), 1);
    is_too_large(file.append(b"c"), MAX, 1);
    assert_eq!(file.append(b"").unwrap(), 0);
    file.punch_hole(MAX - 1..u64::MAX).unwrap();
    file.punch_hole(MAX - 100_000..MAX - 90_000).unwrap();
    file.dont_need(MAX - 1000..u64::MAX).unwrap();
    file.will_need(MAX - 10..u64::MAX).unwrap();
    assert_eq!(file.read_at(&mut bytes[..3], MAX - 3).unwrap(), 3);
    assert_eq!(&bytes[..3], b"\0a\0");
    let error = file.write_back(MAX - 5..u64::MAX).unwrap_err();
    assert!(matches!(&error, Error::Store(error) if error.kind() == io::ErrorKind::StorageFull), "{error}");
    file.set_len(20).unwrap();
    assert_eq!(content(&file), [7; 20]);
    assert!(file.sync_all().is_err(), "what has failed before");
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(cache.used(), 0);
}

#[test]
fn ranges_that_are_empty_or_the_wrong_way_round() {
    let (_cache, file) = open(&[7; 100]);
    file.write_at(&[8; 10], 30).unwrap();
    let ought = content(&file);
    let dirty = file.dirty();
    #[allow(clippy::reversed_empty_ranges, reason = "this is what it is about")]
    let ranges: [Range<u64>; 6] = [0..0, 50..50, 60..20, u64::MAX..0, 100..u64::MAX, 1000..2000];
    for range in ranges {
        // No position past the maximum file size is valid.
        let result = file.punch_hole(range.clone());
        let is_refused = matches!(result, Err(Error::TooLarge { pos, .. }) if pos == range.start);
        assert_eq!((result.is_ok(), is_refused), (range.start <= MAX, range.start > MAX), "{range:?}: {result:?}");
        file.will_need(range.clone()).unwrap();
        file.dont_need(range.clone()).unwrap();
        file.write_back(range.clone()).unwrap();
        assert_eq!((content(&file), file.dirty()), (ought.clone(), dirty), "{range:?}");
    }
}

#[test]
fn lists_without_bytes() {
    let (_cache, file) = open(&[7; 20]);
    let none: [ReadSegment<'_, ReadView<'_>>; 0] = [];
    let empty = [b""[..].into(), b""[..].into(), b""[..].into()];
    for pos in [0, 5, 20, 1000, MAX] {
        for segments in [&none[..], &empty[..]] {
            assert_eq!(file.write_iter(&mut IovSource::new(segments), pos).unwrap(), 0);
            assert_eq!(file.append_iter(&mut IovSource::new(segments)).unwrap(), 0);
            assert_eq!(file.write_direct(&mut IovSource::new(segments), pos).unwrap(), 0);
        }
        let mut none: [WriteSegment<'_, WriteView<'_>>; 0] = [];
        assert_eq!(file.read_iter(&mut IovDest::new(&mut none), pos).unwrap(), 0);
        assert_eq!(file.read_direct(&mut IovDest::new(&mut none), pos).unwrap(), 0);
    }
    assert_eq!((content(&file), file.dirty()), (vec![7; 20], 0));
}

#[test]
fn lists_of_more_segments_than_the_kernel_allows() {
    let bytes: Vec<u8> = (0..5000).map(|at| (at % 251) as u8).collect();
    for (step, every) in [(1, 1), (3, 2)] {
        let (_cache, file) = open(&[]);
        // With empty segments between.
        let parts: Vec<&[u8]> =
            bytes.chunks(step).flat_map(|part| [part, &part[..0]].into_iter().take(every)).collect();
        let segments: Vec<ReadSegment<'_, ReadView<'_>>> = parts.iter().map(|part| (*part).into()).collect();
        assert!(segments.len() > 1024, "{}", segments.len());
        assert_eq!(file.write_iter(&mut IovSource::new(&segments), 7).unwrap(), bytes.len());
        assert_eq!(content(&file)[7..], bytes);
        let mut back = vec![0; bytes.len()];
        let mut segments: Vec<WriteSegment<'_, WriteView<'_>>> = back.chunks_mut(step).map(Into::into).collect();
        assert_eq!(file.read_iter(&mut IovDest::new(&mut segments), 7).unwrap(), bytes.len());
        assert_eq!(back, bytes);
    }
}

#[test]
fn the_same_bytes_several_times() {
    let (_cache, file) = open(&[]);
    let bytes = b"abcdefgh";
    let segments: Vec<ReadSegment<'_, ReadView<'_>>> = [0..8, 2..6, 4..8, 0..8].map(|part| bytes[part].into()).into();
    assert_eq!(file.write_iter(&mut IovSource::new(&segments), 0).unwrap(), 24);
    assert_eq!(content(&file), b"abcdefghcdefefghabcdefgh");
}

#[test]
fn a_block_is_a_power_of_two() {
    for block in [0, 3, 4095, 4097, 1 << 31, 1 << 63, usize::MAX] {
        let panic = catch_unwind(|| CacheOptions::new().block(block)).unwrap_err();
        let says = panic.downcast_ref::<String>().expect("a message");
        assert!(says.contains(&block.to_string()) && says.contains("power of two"), "{says}");
    }
}

/// Any sizes give a working cache or an error.
#[test]
fn extreme_sizes() {
    for block in [1, 2, 1 << 16, 2 << 20] {
        for limit in [0, 1, usize::MAX / 2, usize::MAX] {
            for max_folio in [0, 1, 5000, usize::MAX] {
                let what = format!("blocks of {block}, limit {limit}, folios of {max_folio}");
                let cache = CacheOptions::new().block(block).limit(limit).build();
                let store = std::sync::Arc::new(MemoryStore::new([7; 300]));
                let options = FileOptions::new().max_folio(max_folio);
                let file = cache.open_with(store.clone(), options).unwrap();
                file.write_at(&[8; 100], 250).unwrap();
                assert_eq!(content(&file), [&[7; 250][..], &[8; 100]].concat(), "{what}");
                file.sync_all().unwrap();
                assert_eq!(store.contents().len(), 350, "{what}");
            }
        }
    }
}

/// A store with only a length and an alignment.
struct Strange {
    len: io::Result<u64>,
    alignment: usize,
}

impl Store for Strange {
    fn alignment(&self) -> usize {
        self.alignment
    }

    fn len(&self) -> io::Result<u64> {
        match &self.len {
            Ok(len) => Ok(*len),
            Err(error) => Err(error.kind().into()),
        }
    }

    fn read_at(&self, buf: &mut [u8], _: u64) -> io::Result<usize> {
        buf.fill(1);
        Ok(buf.len())
    }

    fn write_at(&self, buf: &[u8], _: u64) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn stores_that_cannot_be_opened() {
    let cache = CacheOptions::new().block(4096).limit(1 << 20).build();
    let open = |len: io::Result<u64>, alignment| cache.open(Strange { len, alignment });
    for len in [MAX + 1, u64::MAX] {
        let error = open(Ok(len), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let says = error.to_string();
        assert!(says.contains(&len.to_string()) && says.contains(&MAX.to_string()), "{says}");
    }
    for alignment in [0, 3, 4095, 8192] {
        let error = open(Ok(10), alignment).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let says = error.to_string();
        assert!(says.contains(&alignment.to_string()) && says.contains("4096"), "{says}");
    }
    let error = open(Err(io::ErrorKind::PermissionDenied.into()), 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    // The maximum file size, aligned to a block, is valid.
    let file = open(Ok(MAX), 4096).unwrap();
    let mut bytes = [0; 10];
    assert_eq!(file.read_at(&mut bytes, MAX - 10).unwrap(), 10);
    assert_eq!(bytes, [1; 10]);
}

/// An unsupported setting is reported when the file is opened, not at the first write.
#[test]
fn knobs_that_a_store_does_not_have() {
    let cache = CacheOptions::new().block(16).limit(1024).build();
    for (how, knob) in
        [(kernel_loops::BTRFS_BUFFERED_WRITE, "reserve"), (kernel_loops::F2FS_FILE_WRITE_ITER, "preallocate")]
    {
        let options = FileOptions::new().write_loop(how);
        let error = cache.open_with(Strange { len: Ok(0), alignment: 1 }, options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("WriteLoop::{knob}")), "{error}");
    }
}
