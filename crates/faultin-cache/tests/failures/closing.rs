//! Files that are closed before the store has taken everything.

use faultin_cache::store::MemoryStore;
use faultin_cache::{Cache, CacheOptions};

use crate::faulty::{Faulty, What};

fn cache() -> Cache {
    CacheOptions::new().block(16).limit(160).build()
}

/// Writes and closes a file while the store refuses, and returns the store.
fn closed_in_vain(cache: &Cache, what: What) -> Faulty {
    let store = Faulty::new(MemoryStore::new([]));
    let file = cache.open(store.clone()).unwrap();
    file.write_at(&[1; 20], 0).unwrap();
    file.set_len(50).unwrap();
    store.refuse(what, libc::EIO);
    let clone = file.clone();
    drop(file);
    assert_eq!(store.calls(), 0, "not the last one");
    drop(clone);
    assert!(store.calls() > 0);
    store
}

fn ought() -> Vec<u8> {
    let mut bytes = vec![1; 50];
    bytes[20..].fill(0);
    bytes
}

#[test]
fn it_stays_in_the_cache_until_the_store_takes_it() {
    for what in [What::Write, What::SetLen] {
        let cache = cache();
        let store = closed_in_vain(&cache, what);
        assert_ne!(store.memory.contents(), ought(), "{what:?}");
        assert!(cache.used() > 0, "{what:?}");
        assert_eq!(cache.sync().unwrap_err().errno(), Some(libc::EIO), "{what:?}");
        assert!(cache.used() > 0, "{what:?}");
        store.heal();
        cache.sync().unwrap();
        assert_eq!((store.memory.contents(), cache.used()), (ought(), 0), "{what:?}");
        let calls = store.calls();
        cache.sync().unwrap();
        assert_eq!(store.calls(), calls, "it is forgotten");
    }
}

#[test]
fn the_end_of_the_cache_is_the_last_chance() {
    let cache = cache();
    let store = closed_in_vain(&cache, What::Write);
    let other = cache.clone();
    store.heal();
    drop(cache);
    assert!(store.memory.contents().is_empty(), "not the last clone");
    drop(other);
    assert_eq!(store.memory.contents(), ought());
}

#[test]
fn nothing_is_left_of_a_cache_whose_store_never_took_it() {
    let cache = cache();
    let store = closed_in_vain(&cache, What::Write);
    drop(cache);
    assert_eq!(std::sync::Arc::strong_count(&store.memory), 1, "the store is not kept");
}

#[test]
fn a_file_may_outlive_its_cache() {
    let cache = cache();
    let store = Faulty::new(MemoryStore::new([7; 30]));
    let file = cache.open(store.clone()).unwrap();
    drop(cache);
    file.write_at(&[8; 10], 5).unwrap();
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, 14).unwrap(), 1);
    assert_eq!(byte, [8]);
    drop(file);
    assert_eq!(store.memory.contents()[4..16], [7, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7]);
    assert_eq!(std::sync::Arc::strong_count(&store.memory), 1);
}
