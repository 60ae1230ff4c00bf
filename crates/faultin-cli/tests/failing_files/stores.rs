//! Files and devices as stores of cached files. A block device has a fixed length, and a write that it has refused is
//! retried successfully once that is possible. A file whose server returns too few bytes is an error.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use faultin::iov::IovSource;
use faultin::{FileMap, ReadView};
use faultin_cache::store::{FileStore, Store};
use faultin_cache::write::{Preallocate, WriteLoop};
use faultin_cache::{CacheOptions, CachedFile, Error, FileOptions};
use faultin_test::skipped;

use crate::{BLOCK, content, control, environment, forget, serial, tag};

const LEN: u64 = 4 << 20;

/// A loop device on this image, which is detached with the last descriptor of it.
fn device(image: &Path) -> Result<File, String> {
    let losetup = |args: &[&str]| {
        let output = Command::new("losetup").args(args).output().map_err(|error| format!("losetup: {error}"))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    };
    let name = losetup(&["--find", "--show", &image.display().to_string()])?;
    let file = File::options().read(true).write(true).open(&name).map_err(|error| format!("{name}: {error}"));
    losetup(&["--detach", &name])?;
    file
}

/// Uses up all free space.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("a file");
    while file.write_all(&[1; 4096]).is_ok() {}
}

fn each_way(test: impl Fn(&Path, File, fn(File) -> io::Result<FileStore>)) {
    let _one = serial();
    let Some(folder) = environment("full-memory") else { return };
    for make in [FileStore::new as fn(File) -> io::Result<FileStore>, FileStore::direct] {
        let image = folder.join("image");
        File::create(&image).and_then(|file| file.set_len(LEN)).expect("an image");
        match device(&image) {
            Ok(file) => test(&folder, file, make),
            Err(why) => skipped("loop", why),
        }
        let _ = fs::remove_file(&image);
        let _ = fs::remove_file(folder.join("fill"));
    }
}

fn open(store: FileStore) -> CachedFile {
    CacheOptions::new().limit(8 << 20).build().open(store).expect("a device is a store")
}

#[test]
fn the_length_of_a_device_is_asked_for_and_fixed() {
    each_way(|folder, given, make| {
        let mut other = given.try_clone().expect("a descriptor");
        other.seek(SeekFrom::Start(12345)).expect("a position");
        // SAFETY: queries a descriptor owned here.
        let flags = || unsafe { libc::fcntl(other.as_raw_fd(), libc::F_GETFL) };
        let before = flags();
        let store = make(given).expect("a device is a store");
        assert_eq!((store.len().expect("its length"), store.is_fixed()), (LEN, true));
        assert_eq!(flags(), before);
        let file = open(store);
        let is_refused = |error: Error| {
            assert!(matches!(error, Error::FixedLength { size: LEN, .. }), "{error}");
            assert_eq!(error.errno(), Some(libc::ENOSPC));
        };
        for pos in [LEN - 4096, LEN, LEN + 4096] {
            let partial = file.write_at(&[7; 8192], pos).expect_err("it would grow");
            assert_eq!(partial.done, 0);
            is_refused(partial.error);
            let bytes = [7; 8192];
            is_refused(
                file.write_direct(&mut IovSource::<ReadView<'_>>::one(&bytes[..]), pos)
                    .expect_err("it would grow")
                    .error,
            );
        }
        is_refused(file.append(b"more").expect_err("it would grow").error);
        for len in [0, LEN - 1, LEN + 1] {
            is_refused(file.set_len(len).expect_err("it would change"));
        }
        file.set_len(LEN).expect("that it has");
        assert_eq!((file.dirty(), file.len().expect("its length")), (0, LEN));
        // The last byte, and a hole.
        file.write_at(&[7; 10000], LEN - 10000).expect("there is room");
        file.sync_all().expect("written");
        file.punch_hole(LEN - 8192..LEN - 4096).expect("zeros");
        file.sync_all().expect("written");
        let is = fs::read(folder.join("image")).expect("the image");
        assert_eq!(is.len() as u64, LEN);
        let mut ought = vec![0; LEN as usize];
        ought[LEN as usize - 10000..].fill(7);
        ought[LEN as usize - 8192..LEN as usize - 4096].fill(0);
        assert!(is == ought);
        assert_eq!(other.stream_position().expect("a position"), 12345);
    });
}

#[test]
fn nothing_is_allocated_on_a_device_in_advance() {
    each_way(|_, given, make| {
        let how = WriteLoop::DEFAULT.preallocate(Preallocate::Yes);
        let cache = CacheOptions::new().build();
        let opened = cache.open_with(make(given).expect("a store"), FileOptions::new().write_loop(how));
        assert_eq!(opened.expect_err("it cannot").kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_write_that_a_device_has_refused_is_done_when_there_is_room() {
    each_way(|folder, given, make| {
        let store = make(given).expect("a device is a store");
        let is_direct = store.alignment() > 1;
        let file = open(store);
        file.write_at(&[6; 8192], 0).expect("dirty");
        file.sync_all().expect("there is room");
        fill(&folder.join("fill"));
        // One by one and scattered.
        for block in 0..4_u64 {
            file.write_at(&[7; 4096], (1 << 20) + block * 65536).expect("dirty");
        }
        file.write_at(&[7; 4096], LEN - 4096).expect("dirty");
        let error = file.sync_all().expect_err("there is no room");
        let errno = error.errno();
        // Past the kernel's page cache the error is the device's; the page cache only reports that there was one.
        assert_eq!(errno, Some(if is_direct { libc::ENOSPC } else { libc::EIO }), "{error}");
        assert_eq!(file.dirty(), 5 * 4096, "all of it");
        assert_eq!(file.sync_all().expect_err("there still is none").errno(), errno);
        fs::remove_file(folder.join("fill")).expect("room");
        file.sync_all().expect("there is room");
        assert_eq!(file.dirty(), 0);
        file.sync_all().expect("nothing is left to report");
        let mut ought = vec![0; LEN as usize];
        ought[..8192].fill(6);
        for block in 0..4 {
            ought[(1 << 20) + block * 65536..][..4096].fill(7);
        }
        ought[LEN as usize - 4096..].fill(7);
        assert!(fs::read(folder.join("image")).expect("the image") == ought);
    });
}

/// The kernel drops what it cannot write and reports that to one `fsync` only: the next one succeeds, without the bytes.
#[test]
fn what_a_disk_has_taken_and_lost_is_reported_until_it_is_written_again() {
    let _one = serial();
    let (Some(folder), Some(disk)) = (environment("blocks"), environment("fuse")) else { return };
    let (path, block) = (folder.join("lost"), 5);
    control(&disk, "heal");
    let mut before = tag(9000);
    before.resize(BLOCK, b'x');
    let zeros = vec![0; block * BLOCK];
    fs::write(&path, [&zeros[..], &before, &zeros].concat())
        .and_then(|()| File::open(&path)?.sync_all())
        .expect("a file");
    let given = || File::options().read(true).write(true).open(&path).expect("the file");
    let other = given();
    let cache = CacheOptions::new().limit(8 << 20).build();
    let file = cache.open(FileStore::new(given()).expect("a file is a store")).expect("its length");
    // The position of the file on the disk: found by its contents.
    let image = FileMap::open(disk.with_extension("image")).expect("the disk");
    let at = image.find(&before, ..).expect("readable").expect("written");
    control(&disk, &format!("eio-write image {at} {BLOCK}"));
    let range = (block * BLOCK) as u64..((block + 1) * BLOCK) as u64;
    let bytes = vec![7; BLOCK];
    file.write_at(&bytes, range.start).expect("dirty");
    file.write_back(range.clone()).expect("the kernel's page cache has taken it");
    cache.drop_clean();
    let error = file.sync_all().expect_err("the disk has refused it");
    assert_eq!(error.errno(), Some(libc::EIO), "{error}");
    control(&disk, "heal");
    File::open(&path).and_then(|file| file.sync_all()).expect("the kernel has reported it already");
    let on_disk = || {
        forget(&path);
        fs::read(&path).expect("the file")[block * BLOCK..][..BLOCK].to_vec()
    };
    assert!(on_disk() == before, "they are lost");
    for _ in 0..2 {
        match file.sync_all() {
            Err(Error::Lost { ranges, .. }) => assert_eq!(ranges, std::slice::from_ref(&range)),
            other => panic!("{other:?}"),
        }
    }
    file.write_at(&bytes, range.start).expect("written again");
    file.sync_all().expect("the disk works");
    assert!(on_disk() == bytes);
    // A descriptor that was open before the failure has a report of its own coming.
    assert_eq!(other.sync_all().expect_err("not reported yet").raw_os_error(), Some(libc::EIO));
    fs::remove_file(&path).expect("remove");
}

#[test]
fn a_served_file_that_falls_short_is_an_error_of_its_store() {
    let _one = serial();
    let Some(folder) = environment("fuse") else { return };
    let path = folder.join("data");
    let (whole, short) = (content(), 40 * BLOCK + 100);
    for make in [FileStore::new as fn(File) -> io::Result<FileStore>, FileStore::direct] {
        control(&folder, "heal");
        forget(&path);
        let given = File::options().read(true).write(true).open(&path).expect("the file");
        let store = make(given).expect("a file is a store");
        let is_direct = store.alignment() > 1;
        let file = open(store);
        control(&folder, &format!("short data {short} {}", 100 * BLOCK));
        let mut all = vec![0xee; whole.len()];
        let partial = file.read_at(&mut all, 0).expect_err("it ends before its end");
        assert!(matches!(partial.error, Error::Store(_)), "{partial}");
        // The kernel's page cache completes the page with zeros and treats them as the file's: they cannot be told apart.
        let ends = if is_direct { 40 * BLOCK } else { partial.done.min(short) };
        assert!(partial.done <= if is_direct { ends } else { 41 * BLOCK }, "{partial}");
        assert!(partial.done >= 32 * BLOCK && all[..ends] == whole[..ends], "{partial}");
        assert!(all[partial.done..].iter().all(|&byte| byte == 0xee), "{partial}");
        control(&folder, "heal");
        if is_direct {
            assert_eq!(file.read_at(&mut all, 0).expect("whole"), whole.len());
            assert!(all == whole);
        }
    }
}
