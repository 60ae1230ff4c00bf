//! Reports of writeback errors: each handle gets an error once.

use std::sync::atomic::{AtomicU32, Ordering};

use faultin_cache::store::MemoryStore;
use faultin_cache::write::WriteLoop;
use faultin_cache::{Cache, CacheOptions, CachedFile, Error, FileOptions};

use crate::common::kernel_loops;
use crate::faulty::{Answer, Faulty, What};

fn cache() -> Cache {
    CacheOptions::new().block(16).limit(64).build()
}

fn open(cache: &Cache, how: WriteLoop) -> (CachedFile, Faulty) {
    let store = Faulty::new(MemoryStore::new([]));
    (cache.open_with(store.clone(), FileOptions::new().max_folio(16).write_loop(how)).unwrap(), store)
}

/// Makes the next calls of this kind fail with these errors in turn.
fn fail_next(store: &Faulty, what: What, errors: &'static [i32]) {
    let next = AtomicU32::new(0);
    store.plan(move |call| {
        if call.what != what {
            return Answer::Do;
        }
        let turn = next.fetch_add(1, Ordering::Relaxed) as usize;
        errors.get(turn).map_or(Answer::Do, |&errno| Answer::Fail(errno))
    });
}

fn errno(result: Result<(), Error>) -> Option<i32> {
    result.err().map(|error| error.errno().expect("the store's"))
}

#[test]
fn each_handle_reports_an_error_once() {
    for what in [What::Write, What::SetLen, What::Sync] {
        let cache = cache();
        let (first, store) = open(&cache, WriteLoop::DEFAULT);
        let second = first.clone();
        first.write_at(&[1; 10], 0).unwrap();
        first.set_len(40).unwrap();
        fail_next(&store, what, &[libc::EIO]);
        assert_eq!(errno(first.sync_all()), Some(libc::EIO), "{what:?}");
        // This handle has reported the error, and a clone starts with its state.
        let third = first.clone();
        assert_eq!(errno(first.sync_all()), None, "{what:?}");
        assert_eq!(errno(third.sync_data()), None, "{what:?}");
        // This handle has not reported it, and neither has its clone.
        let fourth = second.clone();
        assert_eq!(errno(second.sync_data()), Some(libc::EIO), "{what:?}");
        assert_eq!(errno(second.sync_all()), None, "{what:?}");
        assert_eq!(errno(fourth.sync_all()), Some(libc::EIO), "{what:?}");
        assert_eq!(errno(fourth.sync_all()), None, "{what:?}");
    }
}

#[test]
fn what_was_not_written_stays_dirty_and_is_tried_again() {
    let cache = cache();
    let (file, store) = open(&cache, WriteLoop::DEFAULT);
    file.write_at(&[1; 48], 0).unwrap();
    // The middle block.
    store.plan(|call| if (call.what, call.pos) == (What::Write, 16) { Answer::Fail(libc::EIO) } else { Answer::Do });
    assert_eq!(errno(file.sync_all()), Some(libc::EIO));
    assert_eq!(file.dirty(), 16);
    assert_eq!(store.memory.contents()[32..], [1; 16], "it goes on behind");
    // A second failure is a second error.
    assert_eq!(errno(file.sync_all()), Some(libc::EIO));
    cache.drop_clean();
    assert_eq!(cache.used(), 16, "what is dirty is kept");
    store.heal();
    assert_eq!(errno(file.sync_all()), None);
    assert_eq!((file.dirty(), store.memory.contents()), (0, vec![1; 48]));
}

#[test]
fn the_first_of_several_errors_is_reported_and_none_is_left() {
    let cache = cache();
    let (file, store) = open(&cache, WriteLoop::DEFAULT);
    file.write_at(&[1; 32], 0).unwrap();
    fail_next(&store, What::Write, &[libc::EIO, libc::ENOSPC]);
    assert_eq!(errno(file.write_back(0..u64::MAX)), Some(libc::EIO), "write_back tells of the first");
    assert_eq!(errno(file.sync_all()), Some(libc::EIO));
    assert_eq!(errno(file.sync_all()), None);
}

#[test]
fn an_error_of_writing_through_is_reported_by_sync() {
    let cache = cache();
    let (file, store) = open(&cache, kernel_loops::FUSE_FILL_WRITE_PAGES);
    fail_next(&store, What::Write, &[libc::ENOSPC]);
    assert_eq!(file.write_at(&[1; 16], 0).unwrap(), 16, "it counts");
    assert_eq!(file.dirty(), 16);
    assert_eq!(errno(file.sync_all()), Some(libc::ENOSPC));
    assert_eq!((file.dirty(), errno(file.sync_all())), (0, None));
}

/// Another file needed the memory and could not get it.
#[test]
fn an_error_of_reclaim_is_reported_by_sync() {
    let cache = cache();
    let (file, store) = open(&cache, WriteLoop::DEFAULT);
    file.write_at(&[1; 64], 0).unwrap();
    store.refuse(What::Write, libc::EIO);
    let (other, other_store) = open(&cache, WriteLoop::DEFAULT);
    // Two folios are available; a third one would require reclaiming one of the other file's.
    let partial = other.write_at(&[2; 64], 0).expect("its own are written instead");
    assert_eq!(partial, 64);
    other.sync_all().unwrap();
    assert_eq!(other_store.memory.contents(), [2; 64]);
    // Only now is none of its own folios reclaimable.
    other_store.refuse(What::Write, libc::ENOSPC);
    let partial = other.write_at(&[3; 64], 0).unwrap_err();
    assert!(matches!(partial.error, Error::Full { store: Some(_), .. }), "{partial}");
    store.heal();
    other_store.heal();
    assert_eq!(errno(file.sync_all()), Some(libc::EIO));
    assert_eq!(errno(file.sync_all()), None);
    assert_eq!(errno(other.sync_all()), Some(libc::ENOSPC));
    assert_eq!(store.memory.contents(), [1; 64]);
}

#[test]
fn the_cache_reports_an_error_and_leaves_it_to_the_handles_too() {
    let cache = cache();
    let (file, store) = open(&cache, WriteLoop::DEFAULT);
    let (other, other_store) = open(&cache, WriteLoop::DEFAULT);
    file.write_at(&[1; 16], 0).unwrap();
    other.write_at(&[2; 16], 0).unwrap();
    fail_next(&store, What::Write, &[libc::EIO]);
    assert_eq!(errno(cache.sync()), Some(libc::EIO));
    assert_eq!(other_store.memory.contents(), [2; 16], "the other files are written all the same");
    assert_eq!(errno(cache.sync()), None);
    assert_eq!(errno(file.sync_all()), Some(libc::EIO));
    assert_eq!(errno(other.sync_all()), None);
}
