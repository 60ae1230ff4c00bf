//! What only Linux has: slices of mappings, maps to write, the choice of a backend, reads that do not wait, and files of the
//! kernel's.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use faultin::{
    FileMap, FileMapMut, FileReader, MapOptions,
    map::{Backend, Change, Reason, Rights, Watch, has_known_size},
    shared::SharedMap,
};

use crate::fixture::{content, each, overwrite, page_size, set_len, settle};
use crate::modes::word;

/// A copy of all bytes, made in a closure.
pub fn with_slice(map: &FileMap) -> Result<Vec<u8>, faultin::map::Damaged<Vec<u8>>> {
    // SAFETY: a copy does not rely on the bytes.
    unsafe { map.with_slice(.., <[u8]>::to_vec) }
}

/// What [`with_slice`] says after an event is the cell of the table, and the bytes are those that the file has `now`.
pub fn is_in_a_slice(map: &FileMap, watch: Watch, cell: &str, now: &[u8], what: &str) {
    for time in 0..2 {
        match with_slice(map) {
            Ok(bytes) => {
                assert_eq!(cell, "`Ok`", "{what}, time {time}");
                assert!(bytes == now, "{what}, time {time}");
            }
            Err(damaged) => {
                assert_eq!(word(damaged.change), cell, "{what}, time {time}: {damaged}");
                assert_eq!(damaged.change, damaged.error.change());
                let value = damaged.value.as_ref().expect("it ran");
                let there = now.len().min(value.len());
                assert!(value[..there] == now[..there], "{what}, time {time}");
                let log = matches!(damaged.change, Some(Change::Grown { .. } | Change::Rewritten));
                let names = damaged.to_string().contains("Watch::Appending");
                assert_eq!(names, log && watch != Watch::Appending, "{what}, time {time}: {damaged}");
            }
        }
    }
}

#[test]
fn what_an_operation_accepted_is_no_change_for_the_next() {
    each(|case| {
        let path = case.file("file", 1000);
        settle(&path);
        let map = case.options().open(&path).expect("map it");
        overwrite(&path, 10, b"other");
        assert_eq!(with_slice(&map).expect_err("it cannot read again").change, Some(Change::Rewritten));
        assert_eq!(with_slice(&map).expect_err("an error accepts nothing").change, Some(Change::Rewritten));
        let mut bytes = [0; 5];
        map.read_exact_at(&mut bytes, 10).expect("read again");
        assert_eq!(&bytes, b"other");
        if case.backend == faultin::map::Backend::Mapped && !is_of_layers(&path) && !cfg!(faultin_syscall) {
            with_slice(&map).expect("it was accepted");
        }
        // But not for operations that use the mapped file.
        assert_eq!(map.verify().expect_err("rewritten").change(), Some(Change::Rewritten));
        assert_eq!(map.refresh().expect("asked"), Some(Change::Rewritten));
        map.verify().expect("it is as it is");
        with_slice(&map).expect("it is as it is");
    });
}

/// A mapping on a layered file system may stop showing the file, so nothing is accepted before a refresh.
fn is_of_layers(path: &Path) -> bool {
    let path = std::ffi::CString::new(path.to_str().expect("text")).expect("no NUL");
    // SAFETY: a string that ends with NUL, and a `statfs` to write.
    unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        assert_eq!(libc::statfs(path.as_ptr(), &mut stat), 0);
        stat.f_type as u32 == 0x794c_7630
    }
}

#[test]
fn a_file_that_is_open_the_wrong_way_is_an_error_not_a_fault() {
    each(|case| {
        let path = case.file("file", 10_000);
        let write_only = || std::fs::File::options().write(true).open(&path).expect("open");
        match case.options().from_file(write_only()) {
            // A mapping needs read permission; with pread the first read reports the lack of it.
            Err(error) => assert_eq!(error.errno(), Some(libc::EACCES)),
            Ok(map) => assert_eq!(map.read_at(&mut [0], 0).expect_err("not for reading").errno(), Some(libc::EBADF)),
        }
        let read_only = std::fs::File::open(&path).expect("open");
        match case.options().from_file_mut(read_only) {
            Err(error) => assert_eq!(error.errno(), Some(libc::EACCES)),
            Ok(map) => assert_eq!(map.write_at(&[1], 0).expect_err("not for writing").errno(), Some(libc::EBADF)),
        }
    });
}

/// Files that the kernel generates when they are read: their reported sizes are 0 or a page, whatever their contents.
const MADE_UP: [&str; 4] =
    ["/proc/cpuinfo", "/proc/self/cmdline", "/sys/devices/system/cpu/online", "/proc/sys/kernel/ostype"];

/// Whether a file is on proc or sysfs. User-mode emulators open files of their own for some of [`MADE_UP`].
fn is_made_up(file: &File) -> bool {
    // SAFETY: a structure of integers, which the call initializes.
    let kind = unsafe {
        let mut system: libc::statfs = std::mem::zeroed();
        assert_eq!(libc::fstatfs(file.as_raw_fd(), &mut system), 0);
        system.f_type as u32
    };
    [0x9fa0, 0x6265_6572].contains(&kind)
}

#[test]
fn a_file_whose_size_is_not_known_is_refused_and_read_as_a_stream() {
    each(|case| {
        for path in MADE_UP {
            let bytes = match std::fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    faultin_test::skipped("kernel-files", format_args!("{path}: {error}"));
                    continue;
                }
            };
            assert!(!bytes.is_empty());
            if !is_made_up(&File::open(path).expect("open")) {
                faultin_test::skipped(
                    "native",
                    format_args!("{path}: the emulator has put a file of its own in its place"),
                );
                continue;
            }
            assert!(!has_known_size(&File::open(path).expect("open")).expect("asked"));
            let file = || File::open(path).expect("open");
            for error in [
                case.options().open(path).map(drop).expect_err("no size"),
                case.options().watch(Watch::Nothing).length(1).open(path).map(drop).expect_err("no size"),
                case.options().from_file(file()).map(drop).expect_err("no size"),
                case.options().from_file_mut(file()).map(drop).expect_err("no size"),
                SharedMap::from_file(file(), 1, Rights::Read).map(drop).expect_err("no size"),
            ] {
                assert!(matches!(error.reason(), Reason::Unsupported(_)) && error.is_stream(), "{path}: {error:?}");
                assert_eq!((error.errno(), error.kind()), (Some(libc::EOPNOTSUPP), std::io::ErrorKind::Unsupported));
                assert!(error.to_string().ends_with("its size is not known, read it as a stream"), "{error}");
            }
            let mut streamed = Vec::new();
            let mut reader = FileReader::open(path).expect("as a stream");
            reader.read_to_end(&mut streamed).expect("read");
            assert!(reader.as_map().is_none());
            // Volatile values (the clocks of the CPUs) change without a change of length.
            assert_eq!(streamed.len() > 3, bytes.len() > 3, "{path}");
            assert_eq!(streamed[..3], bytes[..3], "{path}");
        }
    });
}

#[test]
fn a_file_of_which_reading_waits_is_refused_without_being_read() {
    let waits = ["/sys/kernel/tracing/trace_pipe", "/sys/kernel/debug/tracing/trace_pipe", "/proc/kmsg"];
    let Some(path) = waits.into_iter().find(|path| File::open(path).is_ok()) else {
        return faultin_test::skipped("root", "no file of the kernel's to wait for");
    };
    let error = FileMap::open(path).map(drop).expect_err("no size");
    assert!(error.is_stream(), "{error}");
}

#[test]
fn a_map_to_write_reads() {
    each(|case| {
        let path = case.file("file", 10_000);
        let map = case.options().open_mut(&path).expect("map it");
        map.write_at(b"needle", 5000).expect("room");
        assert_eq!(map.find(b"needle", ..).expect("read"), Some(5000));
        assert_eq!(map.lines(..).next().expect("a line").expect("read")[..20], content(20));
        map.fill(9_990.., 0).expect("room");
        assert!(map.is_zeroed(9_990..).expect("read") && !map.is_zeroed(9_989..).expect("read"));
        let error = map.fill(9_990..=10_000, 1).expect_err("one too many");
        assert!(matches!(error.reason(), Reason::PastEnd { len: 10_000 }) && error.done() == 10);
        assert!(std::fs::read(&path).expect("read").ends_with(&[1; 10]));
        fn takes_a_map(map: impl AsRef<FileMap>) -> u64 {
            map.as_ref().len()
        }
        assert_eq!(takes_a_map(map), 10_000);
    });
}

#[test]
fn a_file_that_is_open_is_mapped_to_write() {
    each(|case| {
        let path = case.file("file", 100);
        let open = || File::options().read(true).write(true).open(&path).expect("open");
        let write = case.options().from_file_mut_at(open(), &path).expect("map it");
        assert_eq!(write.path(), Some(&*path));
        assert_eq!(write.as_fd().as_raw_fd(), write.file().as_raw_fd());

        std::fs::rename(case.file("other", 7), &path).expect("rename");
        let error = write.verify().expect_err("another file");
        assert_eq!(error.change(), Some(Change::Replaced));
        assert!(error.to_string().starts_with(&*path.to_string_lossy()), "{error}");
        assert_eq!(FileMapMut::from_file_at(open(), &path).expect("map it").len(), 7);
    });
}

#[test]
fn the_backend_is_a_mapping_where_faults_are_recovered() {
    let file = || tempfile::tempfile().expect("a file");
    let automatic = FileMap::from_file(file()).expect("map it").backend();
    assert_eq!(automatic, if cfg!(faultin_syscall) { Backend::Pread } else { Backend::Mapped });
    // A thread that blocks the signal would die on a fault.
    let blocked = std::thread::spawn(move || {
        // SAFETY: this thread's own mask.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGBUS);
            assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()), 0);
        }
        FileMap::from_file(file()).expect("open it").backend()
    });
    assert_eq!(blocked.join().expect("no panic"), Backend::Pread);
    let pread = MapOptions::new().backend(Backend::Pread).from_file(file()).expect("open it");
    assert_eq!(pread.backend(), Backend::Pread);
}

#[test]
fn reading_without_waiting_gives_what_is_in_memory_and_says_where_it_ends() {
    let page = page_size();
    let len = 1536 * page;
    let whole = content(len);
    each(|case| {
        let (path, map) = case.mapped(len);
        let mut dst = vec![0; len];
        match map.try_read_at(&mut dst, 0) {
            Ok(read) => assert!(read == len && dst == whole, "it has just been written"),
            Err(error) if matches!(error.reason(), Reason::Unsupported(_)) => {
                assert_eq!((error.done(), error.errno()), (0, Some(libc::EOPNOTSUPP)), "{error}");
                return faultin_test::skipped("nowait", format_args!("for files at {}", path.display()));
            }
            Err(error) => panic!("{error}"),
        }
        // Clean pages that are not mapped can be dropped.
        drop(map);
        let file = std::fs::File::open(&path).expect("open");
        file.sync_all().expect("sync");
        // SAFETY: a hint about an open file.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 1024 * page as i64, 0, libc::POSIX_FADV_DONTNEED) };
        let map = case.options().open(&path).expect("map it");
        let error = match map.try_read_at(&mut dst, 0) {
            Err(error) => error,
            Ok(_) => {
                return faultin_test::skipped(
                    "page-cache",
                    format_args!("pages of {} are not dropped when asked", path.display()),
                );
            }
        };
        assert!(matches!(error.reason(), Reason::NotResident), "{error:?}");
        assert_eq!(error.errno(), Some(libc::EAGAIN));
        assert!(error.done() < len);
        assert_eq!(dst[..error.done()], whole[..error.done()]);
        // A read that may wait makes it resident.
        assert_eq!(map.read_at(&mut dst, 0).expect("whole"), len);
        assert_eq!(map.try_read_at(&mut dst, 0).expect("whole"), len);
        assert_eq!(map.try_read_at(&mut dst, len as u64 - 5).expect("whole"), 5);
        assert_eq!(map.try_read_at(&mut dst, u64::MAX).expect("whole"), 0);
        set_len(&path, 10);
        let error = map.try_read_at(&mut dst, 0).expect_err("cut");
        assert!(error.change().is_some() && error.done() == 10, "{error:?}");
    });
}
