//! Memory that another file used before: neither readers nor the store get any of its old bytes.

use faultin::iov::{IovSource, ReadSegment};
use faultin_cache::copy::NoWait;
use faultin_cache::store::MemoryStore;
use faultin_cache::{CachedFile, FileOptions};
use faultin_sim::{Action, Geometry, Permission, Sim};

use crate::common::compare::assert_same;
use crate::common::stores::{Manner, Picky};
use crate::loops::NAMED;
use crate::world::{STALE, used_cache};

const BLOCK: usize = 512;

/// For each named loop, a file of a used cache with its store, which has `len` bytes of 7 and needs whole sectors.
fn files(len: usize) -> impl Iterator<Item = (CachedFile, Picky, String)> {
    NAMED.into_iter().map(move |how| {
        let cache = used_cache(BLOCK, 16 * BLOCK);
        let manner = Manner { alignment: BLOCK, ..Manner::PLAIN };
        let store = Picky::new(MemoryStore::new(vec![7; len]), manner, 1);
        let name = format!("{how:?}");
        let options = FileOptions::new().max_folio(8 * BLOCK).write_loop(how);
        (cache.open_with(store.clone(), options).expect("a store in memory"), store, name)
    })
}

fn content(file: &CachedFile) -> Vec<u8> {
    let mut bytes = vec![STALE; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

/// `len` zeros except for these parts.
fn zeros_but(len: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, part) in parts {
        bytes[*at..at + part.len()].copy_from_slice(part);
    }
    bytes
}

#[test]
fn gaps_between_writes_are_zeros() {
    for (file, store, how) in files(0) {
        for pos in [3, 700, 5000, 2047] {
            file.write_at(b"some", pos).unwrap();
        }
        let ought = zeros_but(5004, &[(3, b"some"), (700, b"some"), (5000, b"some"), (2047, b"some")]);
        assert_same(&content(&file), &ought, &how);
        file.sync_all().unwrap();
        assert_same(&store.memory.contents(), &ought, &how);
    }
}

#[test]
fn an_extension_is_zeros() {
    for (file, store, how) in files(0) {
        file.write_at(&[9; 1000], 0).unwrap();
        file.set_len(10).unwrap();
        file.set_len(900).unwrap();
        file.append(&[8; 300]).unwrap();
        file.set_len(4000).unwrap();
        let ought = zeros_but(4000, &[(0, &[9; 10]), (900, &[8; 300])]);
        assert_same(&content(&file), &ought, &how);
        file.sync_all().unwrap();
        assert_same(&store.memory.contents(), &ought, &how);
    }
}

#[test]
fn a_hole_is_zeros() {
    for (file, store, how) in files(6000) {
        file.write_at(&[9; 1000], 1000).unwrap();
        file.punch_hole(1200..5900).unwrap();
        let ought = zeros_but(6000, &[(0, &[7; 1000]), (1000, &[9; 200]), (5900, &[7; 100])]);
        assert_same(&content(&file), &ought, &how);
        file.sync_all().unwrap();
        assert_same(&store.memory.contents(), &ought, &how);
    }
}

/// A buffer of which only the beginning is readable, at each offset in a block: before the end of the file, across it, and
/// past it.
#[test]
fn a_short_copy_shows_nothing_behind_it() {
    const PAGE: usize = 64;
    for (good, pos) in [(1, 0), (100, 0), (100, 30), (513, 0), (700, 900), (900, 1400), (60, 1500), (600, 4000)] {
        for (file, store, how) in files(1500) {
            let sim = Sim::new(Geometry::new(PAGE, 1), 40);
            sim.act(Action::Protect(good..sim.len(), Permission::Unmapped));
            (0..40).for_each(|page| sim.act(Action::Evict(page)));
            let segment = ReadSegment::Memory(sim.read_range(0..sim.len()));
            let mut from = IovSource::one(segment);
            let partial = file.write_iter_with::<_, NoWait>(&mut from, pos as u64, &mut ()).expect_err("it ends");
            assert!(partial.done <= good, "{how}: {} of {good}", partial.done);
            let mut ought = vec![7; 1500];
            if partial.done > 0 {
                ought.resize((pos + partial.done).max(1500), 0);
                ought[pos..pos + partial.done].fill(0);
            }
            assert_same(&content(&file), &ought, &format!("{how}: {good} good bytes at {pos}"));
            file.sync_all().unwrap();
            assert_same(&store.memory.contents(), &ought, &format!("{how}: {good} good bytes at {pos}"));
        }
    }
}

/// The last unit goes to the store as a whole, with zeros past the end of the file.
#[test]
fn the_store_gets_zeros_behind_the_end() {
    for (file, store, how) in files(0) {
        file.write_at(&[9; 700], 0).unwrap();
        file.set_len(600).unwrap();
        file.write_back(0..u64::MAX).unwrap();
        let contents = store.memory.contents();
        assert_same(&contents, &zeros_but(contents.len(), &[(0, &[9; 600])]), &how);
        file.sync_all().unwrap();
        assert_same(&store.memory.contents(), &[9; 600], &how);
    }
}
