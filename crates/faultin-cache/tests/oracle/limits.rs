//! Lists that are refused, and positions near the maximum.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use faultin::page_size;
use faultin_cache::store::{FileStore, MemoryStore};
use faultin_cache::{CacheOptions, FileOptions};
use faultin_test::Random;
use faultin_test::is_emulated;

use crate::kernel::{Home, KernelFile};
use crate::ours::{OurFile, Way};
use crate::region::{Kind, PAGES, Region, memfd};

/// The kernel's limit of segments in one list.
const UIO_MAXIOV: usize = 1024;

/// The kernel's limit of bytes in one call.
fn max_rw_count() -> usize {
    i32::MAX as usize & !(page_size() - 1)
}

/// The largest length of a file.
const MOST: u64 = i64::MAX as u64;

/// A kernel address, where the sign distinguishes the halves of the address space.
const KERNEL: usize = 0xffff_8000_0000_0000;

fn iovec(base: usize, len: usize) -> libc::iovec {
    libc::iovec { iov_base: std::ptr::without_provenance_mut(base), iov_len: len }
}

/// Good pages, except the third.
fn region() -> Region {
    let mut region = Region::new();
    let mut kinds = [Kind::Good; PAGES];
    kinds[2] = Kind::NoAccess;
    region.lay_out(kinds);
    region.fill(1);
    region
}

#[test]
fn lists_are_refused_for_the_same_reasons() {
    let _serial = crate::serial();
    let (region, page, most) = (region(), page_size(), max_rw_count());
    let good = |len| region.part(100, len);
    let long = |len| libc::iovec { iov_len: len, ..region.part(100, 0) };
    let negative = isize::MIN as usize;
    let cases: Vec<(&str, Vec<libc::iovec>)> = vec![
        ("none", vec![]),
        ("one", vec![good(10)]),
        ("one, empty, nowhere", vec![iovec(0, 0)]),
        ("empty ones and bad ones in front", vec![iovec(8, 0), iovec(0, 0), good(3)]),
        ("nothing but empty ones", vec![iovec(8, 0); 3]),
        ("as many as allowed", vec![good(1); UIO_MAXIOV]),
        ("as many as allowed, most of them empty", [vec![good(0); UIO_MAXIOV - 1], vec![good(9)]].concat()),
        ("as many as allowed, the last one bad", [vec![good(2); UIO_MAXIOV - 1], vec![iovec(8, 9)]].concat()),
        ("one more", vec![good(1); UIO_MAXIOV + 1]),
        ("one more, all empty", vec![good(0); UIO_MAXIOV + 1]),
        ("a negative length", vec![good(1), long(negative)]),
        ("a negative length, alone", vec![long(negative)]),
        ("a length of all ones", vec![long(usize::MAX)]),
        ("the largest length", vec![long(isize::MAX as usize)]),
        ("the largest lengths", vec![long(isize::MAX as usize), long(isize::MAX as usize)]),
        ("a negative length behind a bad address", vec![iovec(KERNEL, 1), long(negative)]),
        ("null", vec![iovec(0, 1)]),
        ("null behind something", vec![good(7), iovec(0, 1)]),
        ("the kernel's memory", vec![iovec(KERNEL, 1)]),
        ("the kernel's memory behind something", vec![good(7), iovec(KERNEL, 1)]),
        ("the kernel's memory, nothing of it", vec![good(1), iovec(KERNEL, 0)]),
        ("the kernel's memory, alone and nothing of it", vec![iovec(KERNEL, 0)]),
        ("a range that wraps around", vec![iovec(usize::MAX - 1, 4), good(1)]),
        ("up to a bad page", vec![long(4 * page)]),
        ("more than a call moves, in one", vec![long(most + page)]),
        ("more than a call moves, in two", vec![long(most - 5), long(100)]),
        ("more than a call moves, of memory that is not there", vec![iovec(page, most + page)]),
    ];
    let emulated = is_emulated();
    if emulated {
        faultin_test::skipped("native", "the kernel's opinion of lists: emulators of user mode have their own");
    }
    let bytes = Random::new(5).bytes(3 * page);
    for (name, list) in &cases {
        for pos in [0, 77, bytes.len() as u64, bytes.len() as u64 + 100] {
            let kernel = KernelFile::new(Home::Memfd);
            kernel.replace(&bytes);
            let cache = CacheOptions::new().limit(1 << 20).build();
            let store = Arc::new(MemoryStore::new(bytes.as_slice()));
            let ours = OurFile::new(&cache, store, FileOptions::new()).unwrap();
            for way in [Way::Buffered, Way::Direct] {
                // SAFETY: parts of the region, or unmapped addresses, or a range behind an inaccessible page.
                let write = unsafe { ours.write(list, pos, way) }.unwrap();
                // SAFETY: as above.
                let read = unsafe { ours.read(list, pos, way) }.unwrap();
                if emulated {
                    continue;
                }
                let answer = kernel.write(list, pos);
                // A failed write's effect on the file's length is tested elsewhere.
                let len = ours.file.len().unwrap();
                if answer.is_err() {
                    kernel.file.set_len(len).unwrap();
                }
                assert_eq!(write.answer, answer, "writing {name} at {pos}");
                assert_eq!(read.answer, kernel.read(list, pos), "reading {name} at {pos}");
                assert!(ours.contents(Way::Direct).unwrap() == kernel.contents(), "{name} at {pos}");
            }
        }
    }
}

#[test]
fn positions_end_where_the_kernels_do() {
    let _serial = crate::serial();
    if is_emulated() {
        return faultin_test::skipped(
            "native",
            "the kernel's opinion of positions: emulators of user mode have their own",
        );
    }
    let (region, page) = (region(), page_size() as u64);
    let positions = [
        MOST - 3 * page - 7,
        MOST - page,
        MOST - page + 1,
        MOST - 64,
        MOST - 5,
        MOST - 1,
        MOST,
        MOST + 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    for (block, max_folio) in [(64, 64), (64, 2048), (4096, 4096), (4096, 2 << 20), (65536, 65536)] {
        for pos in positions {
            for (start, len) in
                [(0, 0), (0, 1), (0, 4), (0, 5), (0, 6), (10, 63), (1, page as usize), (7, 8000), (page as usize, 5000)]
            {
                let what = format!("{len} bytes from {start} on at {pos:#x}, {block} {max_folio}");
                let kernel = KernelFile::new(Home::Memfd);
                let store = memfd();
                let cache = CacheOptions::new().block(block).limit(4 * block).build();
                let options = FileOptions::new().max_folio(max_folio);
                let files = [Way::Buffered, Way::Direct].map(|way| {
                    let store = Arc::new(FileStore::new(store.try_clone().unwrap()).unwrap());
                    (way, OurFile::new(&cache, store, options.clone()).unwrap())
                });
                let segments = [region.part(start, len)];
                let (answer, read) = (kernel.write(&segments, pos), kernel.read(&segments, pos));
                // The last possible bytes.
                let window = |file: &std::fs::File| {
                    let mut bytes = vec![0; 4 * page as usize];
                    let read = file.read_at(&mut bytes, MOST - 4 * page).unwrap();
                    bytes.truncate(read);
                    bytes
                };
                for (way, ours) in files {
                    // SAFETY: a part of the region, which the kernel and this code load from in turn.
                    let outcome = unsafe { ours.write(&segments, pos, way) }.unwrap();
                    assert_eq!(outcome.answer, answer, "writing {what}");
                    assert_eq!(ours.file.len().unwrap(), kernel.len(), "{what}");
                    // SAFETY: as above, and store to; the same bytes are stored.
                    let outcome = unsafe { ours.read(&segments, pos, way) }.unwrap();
                    assert_eq!(outcome.answer, read, "reading {what}");
                    ours.file.sync_all().unwrap();
                    assert_eq!(store.metadata().unwrap().len(), kernel.len(), "{what}");
                    assert!(window(&store) == window(&kernel.file), "{what}");
                    ours.file.set_len(0).unwrap();
                    ours.file.sync_all().unwrap();
                }
            }
        }
    }
}

#[test]
fn lists_of_megabytes_go_through_large_folios() {
    let _serial = crate::serial();
    let (region, page) = (region(), page_size());
    // Two good pages repeatedly, then up to the bad one and no further.
    let mut list = vec![region.part(0, 2 * page); UIO_MAXIOV - 2];
    list.extend([region.part(page + 9, page), region.part(5 * page, page)]);
    if !KernelFile::new(Home::Memfd).is_exact() {
        return faultin_test::skipped("exact-counts", "this kernel's counts of lists of megabytes need not be exact");
    }
    for (block, max_folio, limit) in [(4096, 2 << 20, 64 << 20), (4096, 2 << 20, 1 << 20), (512, 65536, 128 << 10)] {
        for pos in [0, 5, (2 << 20) - 100] {
            let (kernel, bytes) = (KernelFile::new(Home::Memfd), Random::new(8).bytes(3 << 20));
            kernel.replace(&bytes);
            let cache = CacheOptions::new().block(block).limit(limit).build();
            let options = FileOptions::new().max_folio(max_folio);
            region.fill(2);
            let answer = kernel.write(&list, pos);
            let expected = kernel.contents();
            for way in [Way::Buffered, Way::Direct] {
                let what = format!("{way:?} at {pos}, folios of {max_folio}, limit {limit}");
                let store = Arc::new(MemoryStore::new(bytes.as_slice()));
                let ours = OurFile::new(&cache, store, options.clone()).unwrap();
                region.fill(2);
                // SAFETY: parts of the region, which the kernel and this code load from in turn.
                let outcome = unsafe { ours.write(&list, pos, way) }.unwrap();
                assert_eq!((outcome.answer, outcome.whole), (answer, false), "{what}");
                assert!(ours.contents(Way::Direct).unwrap() == expected, "{what}");
                let read = kernel.read(&list, pos + 1);
                let filled = region.contents();
                region.fill(3);
                // SAFETY: parts of the region, which the kernel and this code store to in turn.
                let outcome = unsafe { ours.read(&list, pos + 1, way) }.unwrap();
                assert_eq!(outcome.answer, read, "{what}");
                assert!(region.contents()[..2 * page] == filled[..2 * page], "{what}");
                ours.file.sync_all().unwrap();
                assert!(ours.stored().unwrap() == expected, "{what}");
            }
        }
    }
}
