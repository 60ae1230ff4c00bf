//! What is no file, or no part of one: an error that says what it is.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use faultin::{
    FileMap, FileMapMut, FileReader, MapError,
    map::{Backend, Change, Reason, Rights, Watch, has_known_size},
    shared::SharedMap,
};

use crate::fixture::{content, each, set_len};

#[test]
fn an_empty_file_is_a_map_without_bytes_that_can_grow() {
    each(|case| {
        let (path, map) = case.mapped(0);
        assert_eq!((map.len(), map.read_at(&mut [0; 9], 0).expect("empty")), (0, 0));
        assert!(map.chunks(..).next_chunk().expect("empty").is_none());
        assert!(map.load::<u8>(0).is_err());
        let grown = content(100_000);
        std::fs::write(&path, &grown).expect("write");
        assert_eq!(map.read_at(&mut [0; 9], 0).expect("its length is what it was"), 0);
        assert_eq!(map.refresh().expect("grown"), Some(Change::Grown { from: 0, to: 100_000 }));
        let mut all = vec![0; 100_000];
        map.read_exact_at(&mut all, 0).expect("whole");
        assert_eq!(all, grown);
    });
}

#[test]
fn what_is_not_a_regular_file_is_refused_and_not_waited_for() {
    each(|case| {
        let folder = case.path("folder");
        std::fs::create_dir(&folder).expect("a folder");
        let pipe = case.path("pipe");
        let name = CString::new(pipe.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: a path.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let socket = case.path("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        for (path, errno) in [
            (folder, libc::EISDIR),
            (pipe, libc::ESPIPE),
            (socket, libc::ESPIPE),
            ("/dev/null".into(), libc::ESPIPE),
            ("/dev/zero".into(), libc::ESPIPE),
        ] {
            for error in [
                case.options().open(&path).map(|_| ()).expect_err("not a file"),
                case.options().open_mut(&path).map(|_| ()).expect_err("not a file"),
            ] {
                assert!(matches!(error.reason(), Reason::NotAFile(_)), "{error:?}");
                assert_eq!(error.errno(), Some(errno), "{error}");
                assert_eq!(error.path(), Some(&*path));
                assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
            }
        }
    });
}

#[test]
fn a_file_that_cannot_be_opened_says_why() {
    each(|case| {
        let path = case.path("missing");
        for error in [
            FileMap::open(&path).map(|_| ()).expect_err("missing"),
            FileMapMut::open(&path).map(|_| ()).expect_err("missing"),
            case.options().open(&path).map(|_| ()).expect_err("missing"),
        ] {
            assert_eq!((error.errno(), error.path()), (Some(libc::ENOENT), Some(&*path)));
            assert_eq!(error.into_io().kind(), std::io::ErrorKind::NotFound);
        }
    });
}

#[test]
fn a_file_that_is_open_the_wrong_way_is_an_error_not_a_fault() {
    each(|case| {
        let path = case.file("file", 10_000);
        let write_only = || std::fs::File::options().write(true).open(&path).expect("open");
        match case.options().from_file(write_only()) {
            // A mapping needs the right to read; over pread the first read says so.
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

#[test]
fn a_window_that_begins_behind_the_file_is_refused() {
    each(|case| {
        let path = case.file("file", 100);
        let error = case.options().offset(101).open(&path).map(|_| ()).expect_err("behind");
        assert!(matches!(error.reason(), Reason::PastEnd { len: 100 }), "{error:?}");
        assert_eq!((error.offset(), error.kind()), (101, std::io::ErrorKind::UnexpectedEof));
        case.options().offset(u64::MAX).open(&path).map(|_| ()).expect_err("behind");

        let map = case.options().offset(100).open(&path).expect("at its end");
        assert_eq!(map.len(), 0);
        set_len(&path, 150);
        map.refresh().expect("grown");
        assert_eq!(map.len(), 50);
        set_len(&path, 20);
        assert_eq!(map.read_at(&mut [0], 0).expect_err("cut").change(), Some(Change::Shrunk { from: 150, to: 20 }));
        map.refresh().expect("cut");
        assert_eq!((map.len(), map.read_at(&mut [0; 9], 0).expect("nothing")), (0, 0));
    });
}

#[test]
fn a_file_larger_than_memory_is_read_where_it_is_asked() {
    each(|case| {
        let path = case.file("file", 10);
        let huge = 1_u64 << 40;
        if std::fs::File::options().write(true).open(&path).expect("open").set_len(huge).is_err() {
            return faultin_test::skipped("large-files", format_args!("{}: no tebibyte", path.display()));
        }
        let options = case.options().length(u64::MAX);
        let map = options.open(&path).unwrap_or_else(|error| {
            assert_eq!(error.errno(), Some(libc::ENOMEM), "{error}");
            faultin_test::skipped("address-space", "no tebibyte of addresses");
            options.backend(Backend::Automatic).open(&path).expect("over pread")
        });
        assert_eq!(map.len(), huge);
        assert_eq!(map.load::<u64>(huge - 8).expect("a hole"), 0);
        assert_eq!(map.load::<u8>(0).expect("a byte"), content(1)[0]);
        assert!(map.load::<u64>(huge - 7).is_err());
    });
}

/// Files that the kernel makes up when they are read: their sizes are 0 or a page, whatever they have.
const MADE_UP: [&str; 4] =
    ["/proc/cpuinfo", "/proc/self/cmdline", "/sys/devices/system/cpu/online", "/proc/sys/kernel/ostype"];

/// Whether a file is one of proc or sysfs. Emulators of user mode open a file of their own for some of [`MADE_UP`].
fn is_made_up(file: &File) -> bool {
    // SAFETY: a structure of integers, which the call fills in.
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
            // What changes from one moment to the next (the clocks of the CPUs) changes in place.
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
fn the_reader_of_any_file_maps_what_has_a_size() {
    each(|case| {
        let path = case.file("file", 300_000);
        let mut reader = FileReader::open(&path).expect("open");
        let mut bytes = vec![0; 1000];
        reader.read_exact(&mut bytes).expect("read");
        let map = reader.as_map().expect("a file with a size");
        assert_eq!((map.len(), map.path()), (300_000, Some(&*path)));
        assert_eq!(bytes, content(1000));
        // What was buffered was the file's when it was read. Then:
        set_len(&path, 200_000);
        let mut rest = Vec::new();
        let error = reader.read_to_end(&mut rest).expect_err("cut");
        let error = error.get_ref().and_then(|error| error.downcast_ref::<MapError>()).expect("a map's error");
        assert_eq!(error.change(), Some(Change::Shrunk { from: 300_000, to: 200_000 }));

        let folder = case.path("folder");
        std::fs::create_dir(&folder).expect("a folder");
        let error = FileReader::open(&folder).map(drop).expect_err("a folder");
        assert!(matches!(error.reason(), Reason::NotAFile(_)) && !error.is_stream(), "{error:?}");
        let empty = case.file("empty", 0);
        assert!(has_known_size(&File::open(&empty).expect("open")).expect("asked"));
        assert_eq!(FileReader::open(&empty).expect("open").read_to_end(&mut rest).expect("nothing"), 0);

        let zeros = FileReader::open("/dev/zero").expect("as a stream");
        assert_eq!(zeros.take(5).bytes().map(|byte| byte.expect("a zero")).collect::<Vec<u8>>(), [0; 5]);
        let pipe = case.path("pipe");
        let name = CString::new(pipe.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: a path.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| std::fs::write(&pipe, "through a pipe").expect("write"));
            let mut text = String::new();
            FileReader::open(&pipe).expect("as a stream").read_to_string(&mut text).expect("read");
            assert_eq!(text, "through a pipe");
        });
    });
}
