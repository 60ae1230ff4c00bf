//! Caches full of bytes that the store does not accept, and caches with hardly any memory.

use faultin_cache::store::MemoryStore;
use faultin_cache::write::WriteLoop;
use faultin_cache::{Cache, CacheOptions, CachedFile, Error, FileOptions};

use crate::common::compare::assert_same;
use crate::common::kernel_loops;
use crate::faulty::{Faulty, What};

const BLOCK: usize = 16;

fn cache(limit: usize) -> Cache {
    CacheOptions::new().block(BLOCK).limit(limit).build()
}

fn open(cache: &Cache, max_folio: usize, how: &WriteLoop, bytes: &[u8]) -> (CachedFile, Faulty) {
    let store = Faulty::new(MemoryStore::new(bytes));
    let options = FileOptions::new().max_folio(max_folio).write_loop(how.clone());
    (cache.open_with(store.clone(), options).unwrap(), store)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_full_cache_says_why_and_loses_nothing() {
    for max_folio in [BLOCK, 4 * BLOCK] {
        let cache = cache(8 * BLOCK);
        let (file, store) = open(&cache, max_folio, &WriteLoop::DEFAULT, &[]);
        store.refuse(What::Write, libc::ENOSPC);
        let bytes = pattern(50 * BLOCK);
        let partial = file.write_at(&bytes, 0).unwrap_err();
        let Error::Full { used, limit, store: Some(why) } = &partial.error else { panic!("{partial}") };
        assert_eq!((*used, *limit, why.raw_os_error()), (8 * BLOCK, 8 * BLOCK, Some(libc::ENOSPC)));
        assert_eq!(partial.error.errno(), Some(libc::ENOSPC));
        let says = partial.to_string();
        assert!(says.contains("128 of 128 bytes") && says.contains("No space left"), "{says}");
        let done = partial.done;
        assert_eq!((done, file.len().unwrap(), file.dirty()), (8 * BLOCK, 8 * BLOCK as u64, 8 * BLOCK as u64));
        // Repeatedly, without loss; cached bytes can be overwritten.
        for _ in 0..3 {
            assert_eq!(file.append(&[9; 40]).unwrap_err().done, 0);
        }
        file.write_at(&bytes[..20], 0).unwrap();
        store.heal();
        file.write_at(&bytes[done..], done as u64).unwrap();
        let _ = file.sync_all();
        file.sync_all().unwrap();
        assert_same(&store.memory.contents(), &bytes, "in the store");
    }
}

#[test]
fn a_full_cache_refuses_to_read_what_is_not_there() {
    let cache = cache(4 * BLOCK);
    let (file, store) = open(&cache, BLOCK, &WriteLoop::DEFAULT, &pattern(16 * BLOCK));
    file.write_at(&[9; 4 * BLOCK], 0).unwrap();
    store.refuse(What::Write, libc::EIO);
    let mut bytes = [0; 3 * BLOCK];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len(), "what is there");
    let partial = file.read_at(&mut bytes, 3 * BLOCK as u64).unwrap_err();
    assert_eq!((partial.done, partial.error.errno()), (BLOCK, Some(libc::EIO)));
    assert!(matches!(partial.error, Error::Full { .. }));
    assert!(matches!(file.will_need(0..u64::MAX), Err(Error::Full { .. })));
}

#[test]
fn who_has_nothing_may_have_two_folios() {
    let cache = cache(4 * BLOCK);
    let (file, store) = open(&cache, BLOCK, &WriteLoop::DEFAULT, &[]);
    file.write_at(&pattern(4 * BLOCK), 0).unwrap();
    store.refuse(What::Write, libc::EIO);
    let (other, other_store) = open(&cache, BLOCK, &WriteLoop::DEFAULT, &pattern(16 * BLOCK));
    let mut bytes = vec![0; 16 * BLOCK];
    assert_eq!(other.read_at(&mut bytes, 0).unwrap(), bytes.len());
    assert_same(&bytes, &pattern(16 * BLOCK), "read");
    other.write_at(&[3; 12 * BLOCK], 7).unwrap();
    other.sync_all().unwrap();
    assert_eq!(other_store.memory.contents()[7..7 + 12 * BLOCK], [3; 12 * BLOCK]);
    assert!(cache.used() <= cache.limit() + 2 * BLOCK, "{}", cache.used());
    assert_eq!(file.dirty(), 4 * BLOCK as u64);
}

const LOOPS: [WriteLoop; 6] = [
    WriteLoop::DEFAULT,
    kernel_loops::GENERIC_PERFORM_WRITE,
    kernel_loops::NTFS_PERFORM_WRITE,
    kernel_loops::FUSE_FILL_WRITE_PAGES,
    kernel_loops::BTRFS_BUFFERED_WRITE,
    kernel_loops::F2FS_FILE_WRITE_ITER,
];

/// Limits of nothing, one byte, a block, and less than a write: folios are reclaimed during the write.
#[test]
fn hardly_any_memory_is_enough() {
    for (limit, max_folio) in [0, 1, BLOCK, 2 * BLOCK, 5 * BLOCK].into_iter().zip([16, 32, 64, 16, 8192]) {
        for how in &LOOPS {
            let what = format!("{limit} bytes, {how:?}");
            let cache = cache(limit);
            let old = pattern(90 * BLOCK);
            let (file, store) = open(&cache, max_folio, how, &old);
            let new: Vec<u8> = (0..90 * BLOCK).map(|at| 255 - (at % 200) as u8).collect();
            let mut ought = old.clone();
            for pos in [5, 7 * BLOCK, 31 * BLOCK + 3] {
                assert_eq!(file.write_at(&new[pos..pos + 50 * BLOCK - 9], pos as u64).unwrap(), 50 * BLOCK - 9);
                ought[pos..pos + 50 * BLOCK - 9].copy_from_slice(&new[pos..pos + 50 * BLOCK - 9]);
                assert!(cache.used() <= limit + 2 * BLOCK, "{what}: {}", cache.used());
                let mut is = vec![0; ought.len()];
                assert_eq!(file.read_at(&mut is, 0).unwrap(), is.len());
                assert_same(&is, &ought, &what);
                assert!(cache.used() <= limit + 2 * BLOCK, "{what}: {}", cache.used());
            }
            file.sync_all().unwrap();
            assert_same(&store.memory.contents(), &ought, &what);
        }
    }
}

/// A hole that needs more memory than the limit, in a store that does not support holes.
#[test]
fn a_hole_may_be_larger_than_the_memory() {
    let cache = cache(4 * BLOCK);
    let (file, store) = open(&cache, 4 * BLOCK, &WriteLoop::DEFAULT, &pattern(64 * BLOCK));
    store.plan(|call| match call.what {
        What::PunchHole => crate::faulty::Answer::Fail(libc::EOPNOTSUPP),
        _ => crate::faulty::Answer::Do,
    });
    file.punch_hole(3..60 * BLOCK as u64 + 5).unwrap();
    file.sync_all().unwrap();
    let mut ought = pattern(64 * BLOCK);
    ought[3..60 * BLOCK + 5].fill(0);
    assert_same(&store.memory.contents(), &ought, "in the store");
}

/// A used-up quota refuses the write exactly: free space can be used to the last byte.
#[test]
fn a_quota_is_exact() {
    let cache = cache(64 * BLOCK);
    let store = Faulty::new(MemoryStore::with_capacity(pattern(8 * BLOCK), 8 * BLOCK as u64));
    let options = FileOptions::new().write_loop(kernel_loops::BTRFS_BUFFERED_WRITE);
    let file = cache.open_with(store.clone(), options).unwrap();
    file.write_at(&[1; 6 * BLOCK], 0).unwrap();
    assert_eq!((store.memory.reserved(), file.dirty()), (6 * BLOCK as u64, 6 * BLOCK as u64));
    let partial = file.write_at(&[2; 3 * BLOCK], 6 * BLOCK as u64).unwrap_err();
    assert_eq!((partial.done, store.memory.reserved()), (0, 6 * BLOCK as u64), "{partial}");
    assert!(matches!(&partial.error, Error::Store(error) if error.kind() == std::io::ErrorKind::StorageFull));
    file.write_at(&[2; BLOCK], 6 * BLOCK as u64).unwrap();
    // A hole in a part of a block needs space for the block, too.
    file.punch_hole(7 * BLOCK as u64 + 1..7 * BLOCK as u64 + 3).unwrap();
    assert_eq!(store.memory.reserved(), 8 * BLOCK as u64);
    file.sync_all().unwrap();
    assert_eq!((store.memory.reserved(), file.dirty()), (0, 0));
    assert_eq!(store.memory.contents()[7 * BLOCK..7 * BLOCK + 4], [pattern(200)[112], 0, 0, pattern(200)[115]]);
}

#[test]
fn a_hole_beyond_the_quota_changes_nothing() {
    let cache = cache(64 * BLOCK);
    let store = Faulty::new(MemoryStore::with_capacity(pattern(8 * BLOCK), 8 * BLOCK as u64));
    let options = FileOptions::new().write_loop(kernel_loops::BTRFS_BUFFERED_WRITE);
    let file = cache.open_with(store.clone(), options).unwrap();
    store.refuse(What::Reserve, libc::EDQUOT);
    assert_eq!(file.punch_hole(3..9).unwrap_err().errno(), Some(libc::EDQUOT));
    assert_eq!((store.memory.reserved(), file.dirty()), (0, 0));
    let mut bytes = [0; BLOCK];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), BLOCK);
    assert_eq!(bytes[..], pattern(BLOCK)[..]);
    file.sync_all().unwrap();
    assert_eq!(store.memory.contents(), pattern(8 * BLOCK));
}
