//! Short counts, and stores that end before their length.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use faultin::WriteView;
use faultin::iov::IovDest;
use faultin_cache::store::{MemoryStore, Store};
use faultin_cache::{Cache, CacheOptions, CachedFile, Error};

use crate::common::compare::assert_same;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| 1 + (at % 251) as u8).collect()
}

/// A store that transfers at most `most` bytes at a time and reports a length of `says` bytes.
struct Slow {
    memory: MemoryStore,
    unit: usize,
    most: AtomicUsize,
    says: AtomicU64,
}

impl Slow {
    fn new(bytes: Vec<u8>, unit: usize, most: usize) -> Arc<Slow> {
        let says = AtomicU64::new(bytes.len() as u64);
        Arc::new(Slow { memory: MemoryStore::new(bytes), unit, most: most.into(), says })
    }

    fn part(&self, len: usize) -> usize {
        len.min(self.most.load(Ordering::Relaxed))
    }
}

impl Store for Slow {
    fn alignment(&self) -> usize {
        self.unit
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.says.load(Ordering::Relaxed))
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        assert!(pos.is_multiple_of(self.unit as u64) && buf.len().is_multiple_of(self.unit), "{pos}, {}", buf.len());
        let part = self.part(buf.len());
        self.memory.read_at(&mut buf[..part], pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        assert!(pos.is_multiple_of(self.unit as u64) && buf.len().is_multiple_of(self.unit), "{pos}, {}", buf.len());
        self.memory.write_at(&buf[..self.part(buf.len())], pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

fn cache() -> Cache {
    CacheOptions::new().block(4096).limit(1 << 20).build()
}

fn read(file: &CachedFile) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0xee; file.len()? as usize];
    let count = file.read_at(&mut bytes, 0).map_err(|partial| partial.error)?;
    bytes.truncate(count);
    Ok(bytes)
}

fn read_direct(file: &CachedFile) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0xee; file.len()? as usize];
    let count = {
        let mut to = IovDest::<WriteView<'_>>::one(&mut bytes[..]);
        file.read_direct(&mut to, 0).map_err(|partial| partial.error)?
    };
    bytes.truncate(count);
    Ok(bytes)
}

#[test]
fn a_count_within_a_unit_is_not_the_end() {
    for (unit, most) in [(512, 1000), (512, 512), (512, 513), (1, 1000), (1, 1), (4096, 5000)] {
        for len in [100_000, 512 * 100, 1000, 99] {
            let ought = pattern(len);
            let file = cache().open(Slow::new(ought.clone(), unit, most)).unwrap();
            assert_same(&read_direct(&file).unwrap(), &ought, "read past the cache");
            assert_same(&read(&file).unwrap(), &ought, "read");
        }
    }
}

#[test]
fn what_is_written_in_odd_parts_arrives() {
    for (unit, most) in [(512, 1000), (1, 7)] {
        let store = Slow::new(Vec::new(), unit, most);
        let file = cache().open(Arc::clone(&store)).unwrap();
        let ought = pattern(20_001);
        file.write_at(&ought, 0).unwrap();
        file.sync_all().unwrap();
        assert_same(&store.memory.contents(), &ought, "written");
    }
}

/// It returns less than a unit: neither the end nor progress.
#[test]
fn a_store_that_never_gives_a_unit_has_failed() {
    let store = Slow::new(pattern(10_000), 512, 100);
    let file = cache().open(Arc::clone(&store)).unwrap();
    for result in [read(&file), read_direct(&file)] {
        let Err(Error::Store(error)) = result else { panic!("it cannot have read that: {result:?}") };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    }
    store.most.store(1000, Ordering::Relaxed);
    assert_same(&read(&file).unwrap(), &pattern(10_000), "well again");
}

#[test]
fn an_end_before_the_length_is_an_error_with_both() {
    for unit in [1, 512] {
        for has in [0, 512, 3000, 60_000] {
            let store = Slow::new(pattern(has), unit, 1000);
            store.says.store(100_000, Ordering::Relaxed);
            let file = cache().open(store).unwrap();
            for result in [read(&file), read_direct(&file)] {
                let Err(Error::Store(error)) = result else { panic!("{unit}, {has}: those bytes are nowhere") };
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                let says = error.to_string();
                assert!(says.contains(&has.to_string()) && says.contains("100000"), "{says}");
            }
            // It returns the bytes that it has.
            let mut before = vec![0; has / 4096 * 4096];
            assert_eq!(file.read_at(&mut before, 0).unwrap(), before.len());
            assert_same(&before, &pattern(before.len()), "before it");
        }
    }
}

/// There is nothing past the store's length, also if others extend the store, or it has more than it reports.
#[test]
fn what_lies_behind_the_length_is_not_the_files() {
    let store = Slow::new(pattern(3000), 1, 1 << 20);
    store.says.store(1000, Ordering::Relaxed);
    let file = cache().open(store).unwrap();
    file.set_len(2000).unwrap();
    let mut ought = pattern(1000);
    ought.resize(2000, 0);
    assert_same(&read_direct(&file).unwrap(), &ought, "read past the cache");
    assert_same(&read(&file).unwrap(), &ought, "read");
}
