//! Files that cannot be read, or whose file system is full: `cargo xtask env files` makes the file systems and runs these
//! tests. Elsewhere each test reports what is missing.

mod common;
#[path = "failing_files/layers.rs"]
mod layers;
#[path = "failing_files/stores.rs"]
mod stores;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use faultin::{
    FileMap, FileMapMut, FileReader, MapError, MapOptions,
    map::{Backend, Reason, Watch},
};

/// As `xtask` writes them.
const BLOCK: usize = 4096;
const BLOCKS: usize = 256;
const CORRUPT: usize = 77;

fn content() -> Vec<u8> {
    let block = |i: usize| {
        let mut block = tag(i);
        block.resize(BLOCK, b'a' + (i % 26) as u8);
        block
    };
    (0..BLOCKS).flat_map(block).collect()
}

fn tag(block: usize) -> Vec<u8> {
    format!("faultin block {block:08} ").into_bytes()
}

/// One at a time: the failures are state of the servers.
fn serial() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file system of this name, if it exists.
fn environment(name: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("FAULTIN_FAILING_FILES").map(PathBuf::from) else {
        faultin_test::skipped("failing-files", format_args!("`cargo xtask env files` makes them ({name})"));
        return None;
    };
    if let Ok(missing) = fs::read_to_string(root.join(format!("{name}.missing"))) {
        faultin_test::skipped(name, missing.trim());
        return None;
    }
    Some(root.join(name))
}

/// Tells a server what to fail.
fn control(folder: &Path, line: &str) {
    let mut control = File::options().write(true).open(folder.join("control")).expect("the server");
    control.write_all(line.as_bytes()).expect(line);
}

/// Drops a file from the kernel's page cache.
fn forget(path: &Path) {
    let file = File::open(path).expect("open");
    // SAFETY: a hint for a descriptor owned here.
    assert_eq!(unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) }, 0);
}

fn each_backend(path: &Path, test: impl Fn(&FileMap)) {
    for backend in [Backend::Mapped, Backend::Pread] {
        println!("{backend:?}");
        forget(path);
        test(&MapOptions::new().backend(backend).open(path).expect("open"));
    }
}

fn errno(error: &MapError) -> Option<i32> {
    match error.reason() {
        Reason::Io(error) => error.raw_os_error(),
        _ => None,
    }
}

/// All reading operations stop at this block with this error, and not before it except by as many blocks as the kernel
/// reads at once.
fn stops_at(path: &Path, map: &FileMap, block: usize, code: i32, as_one: usize) {
    let (whole, at) = (content(), block * BLOCK);
    let first = at - (as_one - 1) * BLOCK;
    let named = |error: &MapError| {
        assert_eq!((errno(error), error.path()), (Some(code), Some(path)), "{error}");
        let offset = error.offset() as usize;
        assert!((first..=at).contains(&offset) && offset.is_multiple_of(BLOCK), "block {block}: {error}");
        offset
    };
    let mut all = vec![0; whole.len()];
    let error = map.read_at(&mut all, 0).unwrap_err();
    assert_eq!(error.done(), named(&error));
    assert!(all[..error.done()] == whole[..error.done()]);
    assert_eq!(named(&map.load::<u64>(at as u64).unwrap_err()), at);
    let mut seen = Vec::new();
    let stopped = named(&map.chunks(..).for_each(|chunk| seen.extend_from_slice(chunk)).unwrap_err());
    assert!(seen == whole[..stopped]);
    named(&map.find(b"not there", ..).unwrap_err());
    named(&map.count_byte(b'a', ..).unwrap_err());
    named(&map.crc32c(..).unwrap_err());
    assert_eq!(map.find(&tag(first / BLOCK - 1), ..).unwrap(), Some((first - BLOCK) as u64), "before it");
    let behind = (block + as_one).min(BLOCKS - 1);
    assert_eq!(map.rfind(&tag(behind), ..).unwrap(), Some((behind * BLOCK) as u64), "behind it");
    // Backwards, it stops at the block's last byte.
    let error = map.rfind(b"not there", ..).unwrap_err();
    assert_eq!(errno(&error), Some(code), "{error}");
    assert!((at..behind * BLOCK).contains(&(error.offset() as usize)), "{error}");
    // SAFETY: a copy does not rely on the bytes.
    let damaged = unsafe { map.with_slice(.., <[u8]>::to_vec) }.expect_err("it cannot be read");
    let bad = named(&damaged.error);
    assert_eq!(damaged.first_bad, Some(bad as u64));
    let copy = damaged.value.as_ref().expect("it ran");
    assert!(copy[..bad] == whole[..bad]);
    for range in &damaged.ranges {
        assert!(copy[range.start as usize..range.end as usize].iter().all(|&b| b == 0), "zeros");
    }
    if map.backend() == Backend::Mapped {
        let end = damaged.ranges.last().expect("there are some").end as usize;
        assert!((at + BLOCK..=behind * BLOCK).contains(&end), "{damaged:?}");
        assert!(copy[end..] == whole[end..]);
    }
    is_told_by_sum(path, first..=at, code);
}

/// `faultin sum` reports the position and the reason, and continues with the other files.
fn is_told_by_sum(path: &Path, at: RangeInclusive<usize>, code: i32) {
    let other = tempfile::NamedTempFile::new().expect("a file");
    let output = common::faultin().arg("sum").arg(path).arg(other.path()).output().expect("it runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let why = std::io::Error::from_raw_os_error(code).to_string();
    assert!(stderr.contains(&path.display().to_string()) && stderr.contains(&why), "{stderr}");
    let far = at.step_by(BLOCK).any(|at| stderr.contains(&format!("byte {at}")));
    assert!(far, "how far it got: {stderr}");
    assert_eq!(stdout, format!("{}  {}\n", blake3::hash(b""), other.path().display()));
}

/// No operation fails any more.
fn is_whole(map: &FileMap) {
    let whole = content();
    let mut all = vec![0; whole.len()];
    map.read_exact_at(&mut all, 0).expect("whole");
    assert!(all == whole);
    // SAFETY: a hash does not rely on the bytes.
    assert_eq!(unsafe { map.with_slice(.., blake3::hash) }.expect("whole"), blake3::hash(&whole));
    assert_eq!(map.find(b"not there", ..).expect("whole"), None);
}

#[test]
fn a_served_file_that_cannot_be_read_heals_with_its_server() {
    let _one = serial();
    let Some(folder) = environment("fuse") else { return };
    let path = folder.join("data");
    control(&folder, "heal");
    each_backend(&path, |map| {
        control(&folder, &format!("eio data {} {BLOCK}", 40 * BLOCK));
        stops_at(&path, map, 40, libc::EIO, 1);
        control(&folder, "heal");
        is_whole(map);
    });
}

#[test]
fn a_served_file_that_falls_short_is_an_error_no_later_than_a_read_says() {
    let _one = serial();
    let Some(folder) = environment("fuse") else { return };
    let path = folder.join("data");
    control(&folder, "heal");
    let (whole, short) = (content(), 40 * BLOCK + 100);
    each_backend(&path, |map| {
        control(&folder, &format!("short data {short} {}", 100 * BLOCK));
        let mut all = vec![0; whole.len()];
        let error = map.read_at(&mut all, 0).expect_err("it ends before its end");
        assert_eq!(error.change().is_some(), errno(&error).is_none(), "{error}");
        // The kernel completes the page with zeros and treats them as the file's: they cannot be told apart, and read(2)
        // returns them, too. There is nothing past that page.
        assert!((short..41 * BLOCK + 1).contains(&error.done()), "{error}");
        assert!(all[..short] == whole[..short] && all[short..error.done()].iter().all(|&b| b == 0));
        // SAFETY: a copy does not rely on the bytes.
        let damaged = unsafe { map.with_slice(.., <[u8]>::to_vec) }.expect_err("it ends before its end");
        assert!(damaged.first_bad.is_some_and(|bad| bad as usize <= 41 * BLOCK), "{damaged}");
        assert!(map.count_byte(b'a', ..).is_err());
        control(&folder, "heal");
    });
    // The completed page stays cached until it is dropped.
    forget(&path);
    is_whole(&FileMap::open(&path).expect("healed"));
}

#[test]
fn a_change_time_that_moves_at_every_question_is_recognised_and_left_out() {
    let _one = serial();
    let Some(folder) = environment("fuse") else { return };
    let path = folder.join("data");
    control(&folder, "heal");
    control(&folder, "restless data 0 0");
    for watch in [Watch::Reader, Watch::Contents] {
        let map = MapOptions::new().watch(watch).open(&path).expect("open");
        let coverage = map.watches();
        assert!(coverage.size && coverage.modified && !coverage.changed, "{coverage:?}");
        is_whole(&map);
        map.verify().expect("nothing has happened");
        assert_eq!(map.refresh().expect("asked"), None);
    }
    // A checksum needs the size and the time of modification only, unless each change has to be an error.
    let sum = |args: &[&str]| common::faultin().arg("sum").args(args).arg(&path).output().expect("it runs");
    assert_eq!(sum(&[]).status.code(), Some(0));
    let strict = sum(&["--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&strict.stderr).contains("another change time at each look"), "{strict:?}");
    control(&folder, "heal");
    assert_eq!(sum(&["--strict"]).status.code(), Some(0));
    assert!(FileMap::open(&path).expect("open").watches().changed);
}

#[test]
fn a_served_file_without_a_size_is_a_stream() {
    let _one = serial();
    let Some(folder) = environment("fuse") else { return };
    let path = folder.join("control");
    assert_eq!(fs::metadata(&path).expect("asked").len(), 0);
    let refused = [
        FileMap::open(&path).map(drop),
        FileMap::from_file(File::open(&path).expect("open")).map(drop),
        FileMapMut::open(&path).map(drop),
        MapOptions::new().backend(Backend::Pread).open(&path).map(drop),
    ];
    for error in refused {
        let error = error.expect_err("its size is not known");
        assert!(error.is_stream() && matches!(error.reason(), Reason::Unsupported(_)), "{error}");
    }
    let mut text = String::new();
    FileReader::open(&path).expect("as a stream").read_to_string(&mut text).expect("read");
    assert_eq!(text, "ready\n");
    let output = common::faultin().arg("sum").arg(&path).output().expect("it runs");
    let line = format!("{}  {}\n", blake3::hash(b"ready\n"), path.display());
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()), (Some(0), line));
}

#[test]
fn a_server_that_dies_takes_nobody_with_it() {
    let _one = serial();
    let Some(folder) = environment("dying") else { return };
    let path = folder.join("data");
    let open = |backend| MapOptions::new().backend(backend).open(&path).expect("open");
    let maps = [open(Backend::Mapped), open(Backend::Pread)];
    let mut start = [0; BLOCK];
    maps.iter().for_each(|map| map.read_exact_at(&mut start, 0).expect("it lives"));
    let mut control = File::options().write(true).open(folder.join("control")).expect("the server");
    control.write_all(b"die").expect_err("nobody answers");
    for map in &maps {
        let mut all = vec![0; BLOCKS * BLOCK];
        let error = map.read_at(&mut all, 0).expect_err("it is dead");
        println!("{error}");
        assert!([libc::ENOTCONN, libc::ECONNABORTED].contains(&errno(&error).expect("an errno")), "{error}");
        assert_eq!(error.path(), Some(&*path));
        assert!(map.find(b"x", ..).is_err() && map.crc32c(..).is_err() && map.verify().is_err());
        // SAFETY: only the length is used.
        assert!(unsafe { map.with_slice(.., <[u8]>::to_vec) }.is_err());
    }
    let output = common::faultin().arg("sum").arg(&path).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn bad_blocks_of_a_disk_are_exact_and_heal() {
    let _one = serial();
    let (Some(folder), Some(disk)) = (environment("blocks"), environment("fuse")) else { return };
    let path = folder.join("data");
    control(&disk, "heal");
    // The position of the block on the disk: found by its contents.
    let image = FileMap::open(disk.with_extension("image")).expect("the disk");
    for block in [3, 100, 254] {
        let at = image.find(&tag(block), ..).expect("readable").expect("written");
        each_backend(&path, |map| {
            control(&disk, &format!("eio image {at} {BLOCK}"));
            stops_at(&path, map, block, libc::EIO, 1);
            control(&disk, "heal");
            is_whole(map);
        });
    }
}

#[test]
fn a_wrong_checksum_is_an_error_where_it_is() {
    let _one = serial();
    let Some(folder) = environment("checksum") else { return };
    let path = folder.join("data");
    each_backend(&path, |map| stops_at(&path, map, CORRUPT, libc::EIO, 1));
}

#[test]
fn a_full_disk_is_an_error_of_the_store_and_of_allocate_before_it() {
    let _one = serial();
    for name in ["full-disk", "full-memory"] {
        let Some(folder) = environment(name) else { continue };
        for backend in [Backend::Mapped, Backend::Pread] {
            let path = folder.join("holes");
            let len = 32 << 20;
            File::create(&path).and_then(|file| file.set_len(len)).expect("a sparse file");
            let map: FileMapMut = MapOptions::new().backend(backend).open_mut(&path).expect("open");
            let bytes = vec![7; 1 << 20];
            let mut at = 0;
            let error = loop {
                match map.write_at(&bytes, at) {
                    Ok(_) if at < len => at += bytes.len() as u64,
                    Ok(_) => panic!("{name} is not full"),
                    Err(error) => break error,
                }
            };
            println!("{name} {backend:?}: {error}");
            assert!(matches!(error.reason(), Reason::NoSpace), "{error:?}");
            assert_eq!(error.path(), Some(&*path));
            // The counted bytes are in the file.
            let done = (at as usize + error.done()).saturating_sub(1);
            let mut byte = [0];
            map.read_at(&mut byte, done as u64).expect("stored");
            assert_eq!(byte, [7], "byte {done}");
            let error = map.allocate(0..len).expect_err("it cannot have room");
            assert!(matches!(error.reason(), Reason::NoSpace), "{error:?}");
            drop(map);
            fs::remove_file(&path).expect("remove");
        }
    }
}

#[test]
fn huge_pages_that_are_used_up_are_an_error() {
    let _one = serial();
    let Some(folder) = environment("huge-pages") else { return };
    let huge = 2 << 20;
    let file = |name: &str, pages: u64| {
        let path = folder.join(name);
        let file = File::create(&path).and_then(|file| file.set_len(pages * huge));
        file.map(|()| path)
    };
    let path = match file("three", 3) {
        Ok(path) => path,
        Err(error) => {
            return faultin_test::skipped("huge-pages", format_args!("a file of three: {error}"));
        }
    };
    // The kernel reserves huge pages for mappings, and has only two.
    let error = MapOptions::new().backend(Backend::Mapped).open_mut(&path).expect_err("there are two");
    assert_eq!(errno(&error), Some(libc::ENOMEM), "{error}");
    // It is still readable without a mapping: holes.
    let map = FileMap::open(&path).expect("over pread");
    assert!(map.is_zeroed(..).expect("holes"));
    let fits = file("two", 2).expect("a file");
    let map = MapOptions::new().backend(Backend::Mapped).open_mut(&fits).expect("two pages");
    map.write_at(&[1; 100], huge - 50).expect("they are there");
    drop(map);
    // Mapped completely, and not past its end; truncated during a slice access, and mapped again.
    let map = MapOptions::new().watch(Watch::Appending).open(&fits).expect("two pages");
    // SAFETY: a sum does not rely on the bytes.
    let damaged = unsafe {
        map.with_slice(.., |bytes| {
            File::options().write(true).open(&fits).and_then(|file| file.set_len(huge)).expect("cut");
            bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>()
        })
    }
    .expect_err("it was cut");
    if map.backend() == Backend::Mapped {
        assert_eq!((damaged.value, damaged.first_bad), (Some(50), Some(huge)));
    }
    map.refresh().expect("it can be asked");
    assert_eq!(map.count_byte(1, ..).expect("whole"), 50);
}

#[test]
fn a_poisoned_page_is_damage_of_one_page() {
    const MADV_HWPOISON: i32 = 100;
    let _one = serial();
    // Only where failures are injected: the machine loses a page.
    let Some(folder) = environment("full-memory") else { return };
    let path = folder.join("poisoned");
    fs::write(&path, &content()[..16 * BLOCK]).expect("a file");
    let map = FileMap::open(&path).expect("open");
    let page = faultin::page_size();
    // SAFETY: a copy does not rely on the bytes; the page belongs to the test's file.
    let result = unsafe {
        map.with_slice(.., |bytes| {
            let place = bytes.as_ptr().wrapping_add(2 * page).cast_mut();
            match libc::madvise(place.cast(), page, MADV_HWPOISON) {
                0 => Ok(bytes.to_vec()),
                _ => Err(std::io::Error::last_os_error()),
            }
        })
    };
    match result {
        Ok(Err(error)) => {
            faultin_test::skipped("hwpoison", error);
        }
        Ok(Ok(_)) => panic!("a poisoned page was read"),
        Err(damaged) => {
            assert_eq!(damaged.ranges, core::slice::from_ref(&(2 * page as u64..3 * page as u64)));
            assert_eq!(map.load::<u8>(2 * page as u64).map_err(|error| error.offset()), Err(2 * page as u64));
        }
    }
}
