//! What the disk tier may keep of which stores: only what cannot be mistaken for the bytes of another object.

mod support;

use std::sync::Arc;
use std::time::Duration;

use faultin_store::disk::Disk;
use faultin_store::object_store::memory::InMemory;
use faultin_store::object_store::path::Path;
use faultin_store::object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use faultin_store::{Object, Store, StoreOptions};
use support::pattern;

const BLOCK: usize = 64 << 10;
const LEN: usize = 4 * BLOCK;

/// A tier, and the directory that it is in.
fn tier() -> (tempfile::TempDir, Arc<Disk>) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path().join("tier"), 16 << 20).unwrap();
    (folder, Arc::new(disk))
}

fn store(disk: &Arc<Disk>) -> Store {
    StoreOptions::new().read_ahead(false).disk(Arc::clone(disk)).build().unwrap()
}

/// Reads all but the first block, block by block and again together, and waits until the tier has what it gets.
fn check(object: &Object, bytes: &[u8], disk: &Disk) {
    let mut read = vec![0; BLOCK];
    for at in (BLOCK..LEN).step_by(BLOCK) {
        assert_eq!(object.read(&mut read, at as u64).unwrap(), BLOCK);
        assert!(read == bytes[at..at + BLOCK], "bytes of another object from {at} on");
        assert!(disk.flush(Duration::from_secs(60)));
    }
    let mut read = vec![0; LEN - BLOCK];
    assert_eq!(object.read(&mut read, BLOCK as u64).unwrap(), read.len());
    assert!(read == bytes[BLOCK..]);
}

fn put(store: &dyn ObjectStore, path: &Path, bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.put(path, PutPayload::from(bytes.to_vec()))).unwrap();
}

/// The entity tags of `object_store`'s store in memory are numbers, which begin anew with each.
#[test]
fn stores_in_memory_are_not_kept_on_disk() {
    let (_folder, disk) = tier();
    for seed in 1..4 {
        let (store, bytes) = (store(&disk), pattern(LEN, seed));
        let (backend, path) = store.backend("memory:///x").unwrap();
        put(&*backend, &path, &bytes);
        check(&store.open("memory:///x").unwrap(), &bytes, &disk);
        // One that the program has made.
        let own = Arc::new(InMemory::new());
        put(&*own, &path, &bytes);
        check(&store.open_in(own, &path, "test:///x").unwrap(), &bytes, &disk);
    }
    assert_eq!((disk.stats().stored, disk.stats().hits), (0, 0));
}

#[test]
fn files_are_kept_on_disk() {
    let (folder, disk) = tier();
    let (file, bytes) = (folder.path().join("file"), pattern(LEN, 1));
    std::fs::write(&file, &bytes).unwrap();
    age(&file, Duration::from_secs(10));
    for hits in [0, 3] {
        let object = store(&disk).open(&format!("file://{}", file.display())).unwrap();
        check(&object, &bytes, &disk);
        while disk.stats().stored < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(object.stats().disk_hits >= hits, "{:?}", object.stats());
    }
}

fn age(file: &std::path::Path, age: Duration) {
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_modified(std::time::SystemTime::now() - age).unwrap();
}

/// Its next change may be in the same tick of the file system's clock: then its entity tag would stand for two contents.
#[test]
fn a_file_that_has_changed_just_now_is_not_kept_on_disk() {
    let (folder, disk) = tier();
    let file = folder.path().join("file");
    let url = format!("file://{}", file.display());
    let time = std::time::SystemTime::now();
    for seed in 1..3 {
        let bytes = pattern(LEN, seed);
        // In place, and in one tick.
        let target = std::fs::File::options().write(true).create(true).truncate(false).open(&file).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&target, &bytes, 0).unwrap();
        target.set_modified(time).unwrap();
        check(&store(&disk).open(&url).unwrap(), &bytes, &disk);
    }
    assert_eq!(disk.stats().stored, 0);
}
