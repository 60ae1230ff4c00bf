//! Buffers that are mappings of a file of the same cache, which cannot hold both: every byte is moved, and each store is
//! read about once.

use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin_cache::pager::{Mapping, Mode};
use faultin_cache::write::WriteLoop;
use faultin_cache::{CacheOptions, CachedFile, FileOptions, Partial};

use crate::common::compare::assert_same;
use crate::common::kernel_loops;
use crate::common::watchdog;
use crate::counted::{map, open, pattern};

const PAGE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Write,
    WriteDirect,
    Read,
    ReadDirect,
}

const ALL: [What; 4] = [What::Write, What::WriteDirect, What::Read, What::ReadDirect];

/// Moves `at_once` bytes in each call, in segments of `segment` bytes.
fn transfer(
    what: What,
    file: &CachedFile,
    mapping: &Mapping,
    place: std::ops::Range<usize>,
    segment: usize,
) -> Result<usize, Partial> {
    let pos = place.start as u64;
    let cuts = || place.clone().step_by(segment).map(|at| at..place.end.min(at + segment));
    match what {
        What::Write | What::WriteDirect => {
            let view = mapping.read_view().unwrap();
            let parts: Vec<ReadSegment<'_, _>> = cuts().map(|cut| view.subslice(cut).unwrap().into()).collect();
            let mut from = IovSource::new(&parts);
            if what == What::Write { file.write_iter(&mut from, pos) } else { file.write_direct(&mut from, pos) }
        }
        What::Read | What::ReadDirect => {
            let view = mapping.write_view().unwrap();
            let mut parts: Vec<WriteSegment<'_, _>> = cuts().map(|cut| view.subslice(cut).unwrap().into()).collect();
            let mut to = IovDest::new(&mut parts);
            if what == What::Read { file.read_iter(&mut to, pos) } else { file.read_direct(&mut to, pos) }
        }
    }
}

/// Moves a file to or from a mapping of another one; afterwards both have the source's bytes.
fn check(blocks: usize, pages: usize, at_once: usize, segment: usize, what: What, mode: Mode, how: &WriteLoop) {
    watchdog::start();
    let len = pages * PAGE;
    let bytes = [pattern(len, 1), pattern(len, 2)];
    let cache = CacheOptions::new().block(PAGE).limit(blocks * PAGE).build();
    let (mapped, mapped_store) = open(&cache, &bytes[0], 512);
    let store = crate::counted::Counted::new(bytes[1].clone(), 512);
    let options = FileOptions::new().write_loop(how.clone());
    let file = cache.open_with(std::sync::Arc::clone(&store), options).unwrap();
    let Some(mapping) = map(&mapped, len, mode) else { return };
    let case =
        format!("{what:?}, {mode:?}, {blocks} blocks, {pages} pages, {at_once} bytes a call, segments of {segment}");
    for at in (0..len).step_by(at_once) {
        let moved = transfer(what, &file, &mapping, at..at + at_once, segment);
        assert_eq!(moved.map_err(|partial| (at + partial.done, partial.to_string())), Ok(at_once), "{case}");
    }
    for (name, store) in [("the mapped file", &mapped_store), ("the other file", &store)] {
        let times = store.read() as f64 / len as f64;
        assert!(times <= 2.5, "{case}: {name}'s store was read {times:.1} times");
    }
    let expected = if matches!(what, What::Write | What::WriteDirect) { &bytes[0] } else { &bytes[1] };
    drop(mapping);
    for (file, store) in [(mapped, mapped_store), (file, store)] {
        file.sync_all().unwrap();
        assert_same(&store.memory.contents(), expected, &case);
    }
}

/// A cache as large as each of the two files.
#[test]
fn a_file_is_read_to_a_mapping_where_both_do_not_fit() {
    for mode in Mode::ALL {
        for (blocks, at_once) in [(256, 256), (256, 16), (256, 1), (512, 256)] {
            check(blocks, 256, at_once * PAGE, at_once * PAGE, What::Read, mode, &WriteLoop::DEFAULT);
        }
    }
    // Large enough for more rounds than may lack progress in a row.
    check(4096, 4096, 4096 * PAGE, 4096 * PAGE, What::Read, Mode::Signal, &WriteLoop::DEFAULT);
}

#[test]
fn a_cache_of_two_blocks_for_each_file_is_enough() {
    for what in ALL {
        for mode in Mode::ALL {
            check(4, 64, 64 * PAGE, 64 * PAGE, what, mode, &WriteLoop::DEFAULT);
        }
    }
}

#[test]
fn a_cache_smaller_than_what_is_faulted_in_at_once() {
    for what in ALL {
        for blocks in [5, 8, 64, 128] {
            check(blocks, 512, 512 * PAGE, 512 * PAGE, what, Mode::Mprotect, &WriteLoop::DEFAULT);
            check(blocks, 512, 512 * PAGE, 512 * PAGE, what, Mode::Signal, &WriteLoop::DEFAULT);
        }
    }
}

/// Loops that fault in before each attempt.
#[test]
fn loops_that_fault_in_first_ask_for_no_more_than_can_stay() {
    for how in [
        kernel_loops::GENERIC_PERFORM_WRITE_5_18,
        kernel_loops::NTFS_PERFORM_WRITE_5_18,
        kernel_loops::FUSE_FILL_WRITE_PAGES_5_16,
        kernel_loops::BTRFS_BUFFERED_WRITE,
        kernel_loops::F2FS_FILE_WRITE_ITER,
        kernel_loops::IOMAP_WRITE_ITER,
    ] {
        for blocks in [4, 16] {
            // Only a store in memory reserves and allocates.
            let how = how.clone().reserve(false).preallocate(faultin_cache::write::Preallocate::No);
            check(blocks, 128, 128 * PAGE, 128 * PAGE, What::Write, Mode::Mprotect, &how);
        }
    }
}

/// Many segments of a few bytes, each on its own page: the store of the mapped file is read about once for each page.
#[test]
fn many_short_segments_on_pages_of_their_own() {
    watchdog::start();
    let pages = 256;
    for mode in Mode::ALL {
        for blocks in [4, 16, 64] {
            for what in ALL {
                let cache = CacheOptions::new().block(PAGE).limit(blocks * PAGE).build();
                let (mapped, mapped_store) = open(&cache, &pattern(pages * PAGE, 1), 1);
                let len = pages * 8;
                let (file, store) = open(&cache, &pattern(len, 2), 1);
                let Some(mapping) = map(&mapped, pages * PAGE, mode) else { continue };
                let cuts = || (0..pages).map(|page| page * PAGE + 100..page * PAGE + 108);
                let (read, write) = (mapping.read_view().unwrap(), mapping.write_view().unwrap());
                let from: Vec<ReadSegment<'_, _>> = cuts().map(|cut| read.subslice(cut).unwrap().into()).collect();
                let mut to: Vec<WriteSegment<'_, _>> = cuts().map(|cut| write.subslice(cut).unwrap().into()).collect();
                let moved = match what {
                    What::Write => file.write_iter(&mut IovSource::new(&from), 0),
                    What::WriteDirect => file.write_direct(&mut IovSource::new(&from), 0),
                    What::Read => file.read_iter(&mut IovDest::new(&mut to), 0),
                    What::ReadDirect => file.read_direct(&mut IovDest::new(&mut to), 0),
                };
                let case = format!("{what:?}, {mode:?}, {blocks} blocks");
                assert_eq!(moved.map_err(|partial| (partial.done, partial.to_string())), Ok(len), "{case}");
                let times = mapped_store.read() as f64 / (pages * PAGE) as f64;
                assert!(times <= 2.5, "{case}: the mapped file's store was read {times:.1} times");
                let times = store.read() as f64 / (pages * PAGE) as f64;
                assert!(times <= 2.5, "{case}: the file's store was read {times:.1} times the pages of the buffer");
            }
        }
    }
}

/// The mapped file is in another cache, which the loop does not know: it requests less after a round without progress.
#[test]
fn a_mapping_in_a_smaller_cache_than_the_files() {
    watchdog::start();
    let len = 2048 * PAGE;
    for what in ALL {
        let small = CacheOptions::new().block(PAGE).limit(6 * PAGE).build();
        let (mapped, mapped_store) = open(&small, &pattern(len, 1), 1);
        let (file, _) = open(&CacheOptions::new().limit(64 << 20).build(), &pattern(len, 2), 1);
        let Some(mapping) = map(&mapped, len, Mode::Mprotect) else { continue };
        let moved = transfer(what, &file, &mapping, 0..len, len);
        assert_eq!(moved.map_err(|partial| (partial.done, partial.to_string())), Ok(len), "{what:?}");
        let times = mapped_store.read() as f64 / len as f64;
        assert!(times <= 2.5, "{what:?}: the mapped file's store was read {times:.1} times");
    }
}
