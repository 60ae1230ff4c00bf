//! Objects other than regular files, and invalid ranges: an error that names the reason.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use faultin::{
    FileMap, FileReader, MapError,
    map::{Backend, Change, Reason, has_known_size},
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
                FileMap::open(&path).map(|_| ()).expect_err("not a file"),
                #[cfg(not(faultin_portable))]
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
            #[cfg(not(faultin_portable))]
            faultin::FileMapMut::open(&path).map(|_| ()).expect_err("missing"),
            case.options().open(&path).map(|_| ()).expect_err("missing"),
        ] {
            assert_eq!((error.errno(), error.path()), (Some(libc::ENOENT), Some(&*path)));
            assert_eq!(error.into_io().kind(), std::io::ErrorKind::NotFound);
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
        // The buffered bytes were the file's when they were read. Then:
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
