//! The page cache compared with the kernel's: reads and writes of a file in memory, in the released form (with limit, locks and
//! dirty blocks), with a buffer that may fault.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;

use faultin::iov::{IovDest, IovSource};
use faultin::{FileMap, ReadView, WriteView};
use faultin_cache::store::{FileStore, MemoryStore, Store};
use faultin_cache::write::WriteLoop;
use faultin_cache::{Cache, CacheOptions, CachedFile, FileOptions};

use super::case::{Bound, Case};
use super::measure::Bench;
use super::report::{Goal, Row};
use super::sample::{Sampler, cold, hot};

const PWRITE: &str = "pwrite, tmpfs";
const PREAD: &str = "pread, tmpfs";

/// The sizes of one read or write.
const SIZES: [(&str, usize); 3] = [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)];

/// Goal: minimum ratio of the kernel's time to ours.
const OVERWRITE: f64 = 1.7;
const FRESH: f64 = 1.5;
const RECYCLED: f64 = 2.2;
const READ: f64 = 1.5;
const STREAMING: f64 = 3.0;
/// Goal: maximum ratio of our time to the kernel's.
const ONE_BYTE: f64 = 0.15;

pub fn run(bench: &mut Bench) -> Result<(), String> {
    let len = if bench.quick { 4 << 20 } else { 1 << 30 };
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let kernel = tmpfs_file().map_err(|error| format!("a file on /dev/shm: {error}"))?;
    let buffer: Vec<u8> = (0..1 << 20).map(|at: u32| (at / 7) as u8 | 1).collect();
    // SAFETY: a buffer that exists long enough, and is not written to.
    let view = unsafe { ReadView::new(buffer.as_ptr(), buffer.len()) }.map_err(|error| said(&error))?;

    let cache = CacheOptions::new().limit(2 * len + (64 << 20)).build();
    let ours = cache.open(MemoryStore::new([])).map_err(|error| said(&error))?;
    let streaming = WriteLoop::DEFAULT.streaming(true);
    let streamed = cache
        .open_with(MemoryStore::new([]), FileOptions::new().write_loop(streaming))
        .map_err(|error| said(&error))?;
    if bench.wants("overwrite") || bench.wants("read") || bench.wants("streaming") {
        // The overwritten bytes existed before.
        let filled = [&ours, &streamed].into_iter().all(|file| write_all(file, &view, 1 << 20, len));
        if !filled || !kernel_write_all(&kernel, &buffer, 1 << 20, len) {
            return Err("the files could not be filled".to_owned());
        }
    }
    for (name, size) in SIZES {
        let calls = len / size;
        for (what, file, bound) in [("overwrite", &ours, OVERWRITE), ("overwrite, streaming", &streamed, STREAMING)] {
            bench.run(
                Case::new(format!("{what}, {name}"), size, hot(|| write_all(file, &view, size, len))).per(calls).peer(
                    PWRITE,
                    Some(Bound::times(1.0 / bound)),
                    hot(|| kernel_write_all(&kernel, &buffer, size, len)),
                ),
            );
        }
        bench.run(Case::new(format!("read, {name}"), size, hot(|| read_all(&ours, size, len))).per(calls).peer(
            PREAD,
            Some(Bound::times(1.0 / READ)),
            hot(|| kernel_read_all(&kernel, size, len)),
        ));
    }
    one_byte(bench, &ours, &kernel, &view, &buffer);
    resident(bench, &cache, &kernel)?;
    drop((ours, streamed, cache));
    fresh(bench, &view, &buffer, len);
    writeback(bench);
    goals(bench);
    Ok(())
}

fn goals(bench: &mut Bench) {
    let rows = &bench.rows;
    let about = |what: &'static str, peer: &'static str, goal: String, bound: f64| {
        Goal::worst(&goal, bound, rows, move |row: &Row| row.name.starts_with(what) && row.peer == peer)
    };
    let faster = |what, times: f64| format!("{what} (at least {times}x as fast)");
    let goals = [
        about("cache overwrite, 4", PWRITE, faster("overwrite, 4 KiB, pwrite", OVERWRITE), 1.0 / OVERWRITE),
        about("cache overwrite, 64", PWRITE, faster("overwrite, 64 KiB, pwrite", OVERWRITE), 1.0 / OVERWRITE),
        about("cache overwrite, 1", PWRITE, faster("overwrite, 1 MiB, pwrite", OVERWRITE), 1.0 / OVERWRITE),
        about("cache fresh", PWRITE, faster("fresh memory, pwrite to a new file", FRESH), 1.0 / FRESH),
        about("cache recycled", PWRITE, faster("recycled memory, pwrite to a new file", RECYCLED), 1.0 / RECYCLED),
        about("cache read", PREAD, faster("read, pread", READ), 1.0 / READ),
        about("cache overwrite, streaming", PWRITE, faster("streaming, pwrite", STREAMING), 1.0 / STREAMING),
        about("cache one byte", PWRITE, "write one byte, pwrite".to_owned(), ONE_BYTE),
    ];
    let goals: Vec<Goal> = goals.into_iter().flatten().collect();
    bench.goals.extend(goals);
}

/// Measures writes of one byte to the position of the last one.
fn one_byte(bench: &mut Bench, ours: &CachedFile, kernel: &File, view: &ReadView<'_>, buffer: &[u8]) {
    let Some(byte) = view.subslice(0..1) else { return };
    let written = move || ours.write_iter(&mut IovSource::one(black_box(byte)), black_box(4095)).is_ok_and(|n| n == 1);
    bench.run(Case::new("one byte", 1, hot(written)).peer(
        PWRITE,
        Some(Bound::times(ONE_BYTE)),
        hot(|| kernel.write_at(black_box(&buffer[..1]), black_box(4095)).is_ok_and(|n| n == 1)),
    ));
}

/// Measures how long it takes to find out which blocks are in memory, for each of them: in one folio, and in one each.
fn resident(bench: &mut Bench, cache: &Cache, kernel: &File) -> Result<(), String> {
    const LEN: u64 = 1 << 20;
    let said = |error: &dyn std::fmt::Display| error.to_string();
    if !bench.wants("resident, ") {
        return Ok(());
    }
    let bytes = vec![1; LEN as usize];
    kernel.write_all_at(&bytes, 0).map_err(|error| said(&error))?;
    let map = FileMap::from_file(kernel.try_clone().map_err(|error| said(&error))?).map_err(|error| said(&error))?;
    let block = faultin::page_size().max(4096);
    for (what, folio) in [("large folios", LEN as usize), ("small folios", block)] {
        let options = FileOptions::new().max_folio(folio);
        let ours = cache.open_with(MemoryStore::new([]), options).map_err(|error| said(&error))?;
        ours.write_all_at(&bytes, 0).map_err(|error| said(&error))?;
        let all = |bytes: u64| bytes == LEN;
        let asked = || ours.resident(black_box(0..LEN)).is_ok_and(|found| all(found.bytes()));
        let mapped = || map.resident(black_box(0..LEN)).is_ok_and(|found| all(found.bytes()));
        bench.run(Case::new(format!("resident, {what}"), block, hot(asked)).per(LEN as usize / block).peer(
            "mincore, FileMap",
            None,
            hot(mapped),
        ));
    }
    Ok(())
}

/// Measures files that are made before and removed after.
fn fresh(bench: &mut Bench, view: &ReadView<'_>, buffer: &[u8], len: usize) {
    for (name, size) in SIZES {
        let calls = len / size;
        let theirs =
            || -> Sampler<'_> { hot(|| tmpfs_file().is_ok_and(|file| kernel_write_all(&file, buffer, size, len))) };
        // Truncating a file before it is closed corresponds to unlinking it in the kernel: nothing has to be kept.
        let once = |cache: &Cache| {
            cache.open(MemoryStore::new([])).is_ok_and(|file| {
                let written = write_all(&file, view, size, len);
                written && file.set_len(0).is_ok()
            })
        };
        let with_limit = || CacheOptions::new().limit(len + (64 << 20)).build();
        bench.run(Case::new(format!("fresh, {name}"), size, hot(|| once(&with_limit()))).per(calls).peer(
            PWRITE,
            Some(Bound::times(1.0 / FRESH)),
            theirs(),
        ));
        let cache = with_limit();
        bench.run(Case::new(format!("recycled, {name}"), size, hot(|| once(&cache))).per(calls).peer(
            PWRITE,
            Some(Bound::times(1.0 / RECYCLED)),
            theirs(),
        ));
    }
}

/// Measures scattered blocks to a disk, past the kernel's cache: submitted together, and one after the other.
fn writeback(bench: &mut Bench) {
    const NAME: &str = "writeback of scattered blocks";
    if !bench.wants(NAME) {
        return;
    }
    let blocks = if bench.quick { 64 } else { 2048 };
    let cache = CacheOptions::new().limit(256 << 20).build();
    let direct = || FileStore::direct(tempfile::tempfile()?);
    let opened = direct().and_then(|store| Ok((cache.open(store)?, cache.open(OneByOne(direct()?))?)));
    let (together, apart) = match opened {
        Ok(files) => files,
        Err(error) => return bench.skip(NAME, &format!("O_DIRECT in {}: {error}", std::env::temp_dir().display())),
    };
    // Every other block, so that no two of them are one write.
    let dirty = move |file: &CachedFile| {
        let block = [7_u8; 4096];
        (0..blocks).all(|at| file.write_at(&block, at * 8192).is_ok())
    };
    // The blocks of the file exist before it is measured.
    let ready = |file: &CachedFile| dirty(file) && file.sync_all().is_ok();
    if !ready(&together) || !ready(&apart) {
        return bench.skip(NAME, "the files could not be written");
    }
    let written = |file: &CachedFile| file.write_back(0..u64::MAX).is_ok() && file.dirty() == 0;
    let sampler = |file| -> Sampler<'_> { cold(move || assert!(dirty(file)), move || written(file)) };
    bench.run(Case::new(NAME, 4096, sampler(&together)).per(blocks as usize).peer(
        "one at a time",
        None,
        sampler(&apart),
    ));
}

/// A store that gets one write at a time.
struct OneByOne(FileStore);

impl Store for OneByOne {
    fn alignment(&self) -> usize {
        self.0.alignment()
    }

    fn len(&self) -> std::io::Result<u64> {
        Store::len(&self.0)
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> std::io::Result<usize> {
        Store::read_at(&self.0, buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> std::io::Result<usize> {
        Store::write_at(&self.0, buf, pos)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self, data_only: bool) -> std::io::Result<()> {
        self.0.sync(data_only)
    }
}

fn tmpfs_file() -> std::io::Result<File> {
    tempfile::tempfile_in("/dev/shm")
}

fn write_all(file: &CachedFile, view: &ReadView<'_>, size: usize, len: usize) -> bool {
    let Some(view) = view.subslice(0..size) else { return false };
    (0..len).step_by(size).all(|at| file.write_iter(&mut IovSource::one(view), at as u64).is_ok_and(|n| n == size))
}

fn kernel_write_all(file: &File, buffer: &[u8], size: usize, len: usize) -> bool {
    (0..len).step_by(size).all(|at| file.write_at(&buffer[..size], at as u64).is_ok_and(|n| n == size))
}

fn read_all(file: &CachedFile, size: usize, len: usize) -> bool {
    let mut buffer = vec![0_u8; size];
    // SAFETY: a buffer that exists long enough, and nothing else uses it meanwhile.
    let Ok(view) = (unsafe { WriteView::new(buffer.as_mut_ptr(), size) }) else { return false };
    let read = |at: usize| file.read_iter(&mut IovDest::one(view), at as u64).is_ok_and(|n| n == size);
    (0..len).step_by(size).all(read) && buffer[size - 1] != 0
}

fn kernel_read_all(file: &File, size: usize, len: usize) -> bool {
    let mut buffer = vec![0_u8; size];
    (0..len).step_by(size).all(|at| file.read_at(&mut buffer, at as u64).is_ok_and(|n| n == size))
        && buffer[size - 1] != 0
}
