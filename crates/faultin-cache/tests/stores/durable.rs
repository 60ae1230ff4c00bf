//! After a sync, the store's length and bytes are the file's: a random model test over every store, with failures.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use faultin::ReadView;
use faultin::iov::{IovSource, ReadSegment};
use faultin_cache::store::{FileStore, MemoryStore, Store, WriteRequest};
use faultin_cache::write::{Preallocate, WriteLoop};
use faultin_cache::{Cache, CacheOptions, CachedFile, FileOptions};
use faultin_test::Random;
use faultin_test::skipped;

use crate::common::compare::first_difference;
use crate::common::stores::{Manner, Picky};
use crate::{file_with, opened};

/// A store that fails at times, also with half of the work done.
struct FailingStore {
    store: Arc<dyn Store>,
    random: Arc<Random>,
    /// One in this many calls fails; 0: none.
    one_in: Arc<AtomicU64>,
}

impl FailingStore {
    fn fails(&self) -> bool {
        let one_in = self.one_in.load(Ordering::Relaxed);
        one_in > 0 && self.random.below(one_in) == 0
    }

    fn done(&self) -> io::Result<()> {
        if self.fails() { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

impl Store for FailingStore {
    fn alignment(&self) -> usize {
        self.store.alignment()
    }

    fn len(&self) -> io::Result<u64> {
        self.store.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.done()?;
        self.store.read_at(buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        if !self.fails() {
            return self.store.write_at(buf, pos);
        }
        let unit = self.alignment();
        let part = self.random.below(buf.len() as u64 + 1) as usize / unit * unit;
        if part > 0 {
            self.store.write_at(&buf[..part], pos)?;
        }
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    fn write_many(&self, writes: &[WriteRequest<'_>]) -> Vec<io::Result<usize>> {
        if self.one_in.load(Ordering::Relaxed) == 0 {
            return self.store.write_many(writes);
        }
        writes.iter().map(|write| self.write_at(write.bytes, write.pos)).collect()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.done()?;
        self.store.set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.done()?;
        self.store.sync(data_only)
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.store.punch_hole(range)
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        if !range.is_empty() {
            self.done()?;
        }
        self.store.allocate(range)
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        let before = self.done();
        let result = self.store.trim(len);
        before.and(result)
    }
}

/// The place of the bytes, and how to read them independently.
enum Home {
    Memory { unit: usize, short: bool },
    File { direct: bool },
}

struct Place {
    path: PathBuf,
    picky: Option<Picky>,
}

impl Place {
    fn contents(&self) -> Vec<u8> {
        match &self.picky {
            Some(picky) => picky.memory.contents(),
            None => std::fs::read(&self.path).unwrap(),
        }
    }

    fn store(&self, home: &Home) -> Option<Arc<dyn Store>> {
        match (home, &self.picky) {
            (_, Some(picky)) => Some(Arc::new(picky.clone())),
            (Home::File { direct: true }, None) => {
                FileStore::direct(opened(&self.path, 0)).ok().map(|s| Arc::new(s) as _)
            }
            _ => Some(Arc::new(FileStore::new(opened(&self.path, 0)).unwrap())),
        }
    }
}

/// A page that cannot be read.
fn bad() -> ReadView<'static> {
    let page = faultin::page_size();
    // SAFETY: a new mapping, placed by the kernel; it is never unmapped.
    let base = unsafe {
        libc::mmap(std::ptr::null_mut(), page, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    assert_ne!(base, libc::MAP_FAILED);
    // SAFETY: the mapping stays.
    unsafe { ReadView::new(base.cast(), page) }.unwrap()
}

struct World<'a> {
    random: &'a Random,
    file: CachedFile,
    ought: Vec<u8>,
    bad: ReadView<'static>,
    one_in: Arc<AtomicU64>,
    longest: u64,
}

impl World<'_> {
    fn bytes(&self, longest: u64) -> Vec<u8> {
        vec![1 + self.random.below(255) as u8; self.random.below(longest) as usize]
    }

    fn written(&mut self, bytes: &[u8], pos: usize) {
        if !bytes.is_empty() {
            self.ought.resize(self.ought.len().max(pos + bytes.len()), 0);
            self.ought[pos..pos + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn write(&mut self, append: bool) {
        let bytes = self.bytes(self.longest / 4);
        let pos = if append { self.ought.len() as u64 } else { self.random.below(self.longest) };
        let mut segments = vec![ReadSegment::Plain(&bytes)];
        if self.random.below(3) == 0 {
            segments.push(ReadSegment::Memory(self.bad));
        }
        let mut from = IovSource::new(&segments);
        let done = match (append, self.random.below(2)) {
            (true, 0) => self.file.append_iter(&mut from),
            // A store has no half-written bytes past the end.
            (true, _) => self.file.append_direct(&mut from),
            (false, _) => self.file.write_iter(&mut from, pos),
        };
        let done = done.unwrap_or_else(|partial| partial.done);
        self.written(&bytes[..done], pos as usize);
    }

    fn write_direct(&mut self) {
        let unit = 512;
        let mut bytes = self.bytes(self.longest / 4);
        let mut pos = self.random.below(self.longest);
        if self.random.below(2) == 0 {
            pos -= pos % unit;
            bytes.truncate(bytes.len() - bytes.len() % unit as usize);
        }
        let mut from = IovSource::<ReadView<'_>>::one(&bytes[..]);
        let result = self.file.write_direct(&mut from, pos);
        let failed = result.is_err();
        let done = result.unwrap_or_else(|partial| partial.done);
        let before = self.ought.clone();
        self.written(&bytes[..done], pos as usize);
        if failed {
            // Uncounted bytes may be in the file, up to its length.
            let one_in = self.one_in.swap(0, Ordering::Relaxed);
            let is = self.contents();
            let (from, to) = (pos as usize + done, (pos as usize + bytes.len()).min(before.len()));
            for at in from..to.max(from) {
                assert!([bytes[at - pos as usize], before[at]].contains(&is[at]), "neither old nor new at {at}");
                self.ought[at] = is[at];
            }
            self.one_in.store(one_in, Ordering::Relaxed);
        }
    }

    fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0xee; self.file.len().unwrap() as usize];
        let count = self.file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(count, bytes.len());
        bytes
    }

    fn set_len(&mut self) {
        let len = self.random.below(self.longest);
        if self.file.set_len(len).is_ok() {
            self.ought.resize(len as usize, 0);
        }
    }

    fn punch(&mut self) {
        let (a, b) = (self.random.below(self.longest), self.random.below(self.longest));
        let range = a.min(b)..a.max(b);
        if self.file.punch_hole(range.clone()).is_ok() {
            let len = self.ought.len();
            self.ought[(range.start as usize).min(len)..(range.end as usize).min(len)].fill(0);
        } else {
            // A part may be zeros.
            let one_in = self.one_in.swap(0, Ordering::Relaxed);
            self.file.punch_hole(range.clone()).unwrap();
            self.one_in.store(one_in, Ordering::Relaxed);
            let len = self.ought.len();
            self.ought[(range.start as usize).min(len)..(range.end as usize).min(len)].fill(0);
        }
    }
}

fn run(home: &Home, how: &WriteLoop, seed: u64, operations: u32) -> Result<(), String> {
    let random = Arc::new(Random::new(seed));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("file");
    let start = vec![0x5a; random.below(5000) as usize];
    drop(file_with(&path, &start));
    let (block, picky) = match home {
        Home::Memory { unit, short } => {
            let manner = Manner { alignment: *unit, short: *short, holes: random.below(2) == 0 };
            (512, Some(Picky::new(MemoryStore::new(start.clone()), manner, seed)))
        }
        Home::File { direct } => (if *direct { 4096 } else { 512 }, None),
    };
    let place = Place { path, picky };
    let one_in = Arc::new(AtomicU64::new(0));
    let cache: Cache = CacheOptions::new().block(block).limit(16 * block).build();
    let open = || {
        let store = place.store(home).ok_or("no direct I/O here")?;
        let store = FailingStore { store, random: Arc::clone(&random), one_in: Arc::clone(&one_in) };
        Ok::<_, String>(cache.open_with(store, FileOptions::new().write_loop(how.clone())).unwrap())
    };
    let longest = 24 * block as u64;
    let file = open()?;
    let mut world = World { random: &random, file, ought: start, bad: bad(), one_in: Arc::clone(&one_in), longest };
    for turn in 0..operations {
        let what = random.below(12);
        match what {
            0..=1 => world.write(true),
            2..=3 => world.write(false),
            4 => world.write_direct(),
            5..=6 => world.set_len(),
            7 => world.punch(),
            8 => cache.drop_clean(),
            9 if random.below(4) == 0 => {
                one_in.store(0, Ordering::Relaxed);
                // Closing is as good as a sync.
                drop(std::mem::replace(&mut world.file, cache.open(MemoryStore::new([])).unwrap()));
                if let Some(difference) = first_difference(&place.contents(), &world.ought) {
                    return Err(format!("seed {seed}, turn {turn}, {how:?}: after closing: {difference}"));
                }
                world.file = open()?;
            }
            10 => one_in.store(if random.below(2) == 0 { 0 } else { 1 + random.below(6) }, Ordering::Relaxed),
            _ => {
                if world.file.sync_all().is_err() {
                    continue;
                }
                let (is, says) = (place.contents(), world.file.len().unwrap());
                let context = |difference| format!("seed {seed}, turn {turn}, {how:?}: after a sync: {difference}");
                if (is.len() as u64, world.file.dirty()) != (says, 0) {
                    let dirty = world.file.dirty();
                    return Err(context(format!("{} bytes, and the file says {says}; {dirty} dirty", is.len())));
                }
                if let Some(difference) = first_difference(&is, &world.ought) {
                    return Err(context(difference));
                }
            }
        }
        if world.file.len().unwrap() != world.ought.len() as u64 {
            return Err(format!("seed {seed}, turn {turn}, operation {what}: the file's length"));
        }
        if one_in.load(Ordering::Relaxed) == 0
            && let Some(difference) = first_difference(&world.contents(), &world.ought)
        {
            return Err(format!("seed {seed}, turn {turn}, operation {what}, {how:?}: read: {difference}"));
        }
    }
    one_in.store(0, Ordering::Relaxed);
    let World { file, ought, .. } = world;
    drop(file);
    let difference = first_difference(&place.contents(), &ought);
    difference.map_or(Ok(()), |difference| Err(format!("seed {seed}: after closing: {difference}")))
}

fn each_way(home: &Home, seeds: Range<u64>) -> Result<(), String> {
    for seed in seeds {
        for preallocate in [Preallocate::No, Preallocate::Yes] {
            for write_through in [false, true] {
                let how = WriteLoop::DEFAULT.preallocate(preallocate).write_through(write_through);
                run(home, &how, seed, 120)?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_store_in_memory() {
    for (unit, short) in [(1, false), (1, true), (128, true), (512, false)] {
        each_way(&Home::Memory { unit, short }, 0..10).unwrap();
    }
}

#[test]
fn a_file() {
    each_way(&Home::File { direct: false }, 0..3).unwrap();
}

#[test]
fn a_file_past_the_kernels_cache() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    if let Err(why) = FileStore::direct(file_with(&folder.path().join("file"), b"")) {
        return skipped("direct-io", why);
    }
    each_way(&Home::File { direct: true }, 6..8).unwrap();
}

/// Truncating a file to its own length releases preallocated space, which may exceed what was written.
#[test]
fn what_was_allocated_in_vain_does_not_make_a_file_longer() {
    for preallocate in [Preallocate::No, Preallocate::Yes] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = folder.path().join("file");
        let how = WriteLoop::DEFAULT.preallocate(preallocate);
        let cache = Cache::new();
        let options = FileOptions::new().write_loop(how);
        let file = cache.open_with(FileStore::new(file_with(&path, b"")).unwrap(), options).unwrap();
        let good = [7; 5000];
        let from = [ReadSegment::Plain(&good), ReadSegment::Memory(bad())];
        assert_eq!(file.write_iter(&mut IovSource::new(&from), 0).unwrap_err().done, 5000);
        file.set_len(100).unwrap();
        file.sync_all().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [7; 100], "{preallocate:?}");
        drop(file);
        assert_eq!(FileStore::new(opened(&path, 0)).unwrap().len().unwrap(), 100, "{preallocate:?}");
    }
}
