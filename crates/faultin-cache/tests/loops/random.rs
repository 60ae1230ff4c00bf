//! Buffers of any shape, in any number of segments and mapped files, in caches of as little as two blocks for each file in
//! use: every byte is moved, the files have the expected contents, and no store is read much more often than the segments
//! need.

use std::sync::Arc;

use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin_cache::pager::{Mapping, Mode};
use faultin_cache::store::Store;
use faultin_cache::write::{Preallocate, WriteLoop};
use faultin_cache::{CacheOptions, CachedFile, FileOptions};
use faultin_test::Random;

use crate::common::compare::assert_same;
use crate::common::kernel_loops;
use crate::common::watchdog;
use crate::counted::{Counted, map, open, pattern};

const PAGE: usize = 4096;
const PAGES: usize = 48;
const LEN: usize = PAGES * PAGE;

/// A segment: its mapped file, or plain memory, and its range.
#[derive(Clone, Copy, Debug)]
struct Part {
    file: Option<usize>,
    start: usize,
    len: usize,
}

/// As many segments as fit, at increasing positions in each file, with gaps.
fn parts(random: &Random, files: usize) -> Vec<Part> {
    let mut next = vec![0; files];
    let (longest, gap) = ([1, 100, PAGE, 8 * PAGE][random.below(4) as usize], [1, PAGE][random.below(2) as usize]);
    let most = 1 + random.below(200) as usize;
    let mut parts = Vec::new();
    while parts.len() < most {
        let len = random.below(longest as u64 + 1) as usize;
        if random.below(8) == 0 {
            parts.push(Part { file: None, start: 0, len });
            continue;
        }
        let file = random.below(files as u64) as usize;
        let start = next[file] + random.below(gap as u64) as usize;
        if start + len > LEN {
            break;
        }
        next[file] = start + len;
        parts.push(Part { file: Some(file), start, len });
    }
    parts
}

/// Bytes of the pages that the segments of a file touch. A page counts once for each run of segments without another page
/// of the file between them.
fn needed(parts: &[Part], file: usize) -> usize {
    let mut last = None;
    let mut pages = 0;
    for part in parts.iter().filter(|part| part.file == Some(file) && part.len > 0) {
        for page in part.start / PAGE..=(part.start + part.len - 1) / PAGE {
            if last != Some(page) {
                pages += 1;
            }
            last = Some(page);
        }
    }
    pages * PAGE
}

/// The loops that work with a store that makes no promises.
fn any_loop(random: &Random) -> WriteLoop {
    let loops = [
        WriteLoop::DEFAULT,
        kernel_loops::GENERIC_PERFORM_WRITE,
        kernel_loops::GENERIC_PERFORM_WRITE_5_18,
        kernel_loops::NTFS_PERFORM_WRITE,
        kernel_loops::FUSE_FILL_WRITE_PAGES,
        kernel_loops::FUSE_FILL_WRITE_PAGES_5_16,
        kernel_loops::BTRFS_BUFFERED_WRITE,
    ];
    let how = loops[random.below(loops.len() as u64) as usize].clone();
    how.reserve(false).preallocate(Preallocate::No)
}

struct Mapped {
    file: CachedFile,
    store: Arc<Counted>,
    mapping: Mapping,
    bytes: Vec<u8>,
}

fn check(seed: u64, mode: Mode) {
    let random = Random::new(seed);
    let files = 1 + random.below(3) as usize;
    // Each mapped file, and the one that is read or written.
    let blocks = 2 * (files + 1) + [0, 0, 1, 5, 40][random.below(5) as usize];
    let cache = CacheOptions::new().block(PAGE).limit(blocks * PAGE).build();
    let mut mapped = Vec::new();
    for number in 0..files {
        let bytes = pattern(LEN, number);
        let (file, store) = open(&cache, &bytes, 1);
        let Some(mapping) = map(&file, LEN, mode) else { return };
        mapped.push(Mapped { file, store, mapping, bytes });
    }
    let parts = parts(&random, files);
    let len: usize = parts.iter().map(|part| part.len).sum();
    let unit = [1, 512][random.below(2) as usize];
    let how = any_loop(&random);
    let pos = random.below(3 * PAGE as u64) as usize / unit * unit;
    let [direct, writes] = [random.below(2) == 0, random.below(2) == 0];
    let case = format!(
        "seed {seed}, {mode:?}: {blocks} blocks, {files} files, {len} bytes in {} segments at {pos}, direct: {direct}, writes: {writes}, {how:?}",
        parts.len()
    );
    // As long as what is read; a write makes it longer.
    let mut contents = pattern(if writes { pos + len / 2 } else { pos + len }, 9);
    let store = Counted::new(contents.clone(), unit);
    let file = cache.open_with(Arc::clone(&store), FileOptions::new().write_loop(how)).unwrap();
    let plain = pattern(8 * PAGE, 5);
    let moved = if writes {
        let segments: Vec<ReadSegment<'_, _>> = parts
            .iter()
            .map(|part| match part.file {
                Some(file) => mapped[file]
                    .mapping
                    .read_view()
                    .unwrap()
                    .subslice(part.start..part.start + part.len)
                    .unwrap()
                    .into(),
                None => plain[..part.len].into(),
            })
            .collect();
        let mut from = IovSource::new(&segments);
        if direct { file.write_direct(&mut from, pos as u64) } else { file.write_iter(&mut from, pos as u64) }
    } else {
        let mut plain: Vec<Vec<u8>> =
            parts.iter().map(|part| vec![0; if part.file.is_none() { part.len } else { 0 }]).collect();
        let mut segments: Vec<WriteSegment<'_, _>> = parts
            .iter()
            .zip(&mut plain)
            .map(|(part, plain)| match part.file {
                Some(file) => mapped[file]
                    .mapping
                    .write_view()
                    .unwrap()
                    .subslice(part.start..part.start + part.len)
                    .unwrap()
                    .into(),
                None => plain.as_mut_slice().into(),
            })
            .collect();
        let mut to = IovDest::new(&mut segments);
        if direct { file.read_direct(&mut to, pos as u64) } else { file.read_iter(&mut to, pos as u64) }
    };
    assert_eq!(moved.map_err(|partial| (partial.done, partial.to_string())), Ok(len), "{case}");
    let mut total = 0;
    for (number, mapped) in mapped.iter().enumerate() {
        let (read, needed) = (mapped.store.read(), needed(&parts, number));
        total += needed;
        // Readahead of a few pages is at most a block or two.
        assert!(
            read as f64 <= 2.5 * needed as f64 + 2.0 * PAGE as f64,
            "{case}: read {read} of {needed} of file {number}"
        );
    }
    let bound = 2.5 * (len + total) as f64 + 4.0 * PAGE as f64;
    assert!(store.read() as f64 <= bound, "{case}: read {} of {len}", store.read());

    let mut at = pos;
    for part in &parts {
        let bytes = at..at + part.len;
        at = bytes.end;
        match (part.file, writes) {
            (file, true) => {
                contents.resize(contents.len().max(bytes.end), 0);
                let from = file.map_or(&plain, |file| &mapped[file].bytes);
                contents[bytes].copy_from_slice(&from[part.start..part.start + part.len]);
            }
            (Some(file), false) => {
                mapped[file].bytes[part.start..part.start + part.len].copy_from_slice(&contents[bytes])
            }
            (None, false) => {}
        }
    }
    for Mapped { file, store, mapping, bytes } in mapped {
        drop(mapping);
        file.sync_all().unwrap();
        assert_same(&store.memory.contents(), &bytes, &case);
    }
    file.sync_all().unwrap();
    assert_same(&store.memory.contents(), &contents, &case);
    assert_eq!(store.len().unwrap(), contents.len() as u64, "{case}");
}

fn cases() -> u64 {
    std::env::var("FAULTIN_LOOPS_CASES").map_or(60, |cases| cases.parse().unwrap())
}

#[test]
fn random_buffers_by_signal() {
    watchdog::start();
    (0..cases()).for_each(|seed| check(seed, Mode::Signal));
}

#[test]
fn random_buffers_by_a_thread() {
    watchdog::start();
    (0..cases()).for_each(|seed| check(1000 + seed, Mode::Thread));
}

#[test]
fn random_buffers_by_mprotect() {
    watchdog::start();
    (0..cases()).for_each(|seed| check(2000 + seed, Mode::Mprotect));
}
