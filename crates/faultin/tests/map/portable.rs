//! Where there is no handler: the one backend that there is, and what an operation says that needs more.

use std::fs::File;
use std::io::{BufRead, Read};

use faultin::{
    Cause, FileMap, FileReader, InstallError, MapOptions,
    map::{Advice, Backend, Reason, Watch},
};

use crate::fixture::{content, each, set_len};

#[test]
fn the_backend_is_pread_and_a_mapping_is_refused() {
    each(|case| {
        let path = case.file("file", 100);
        for options in [MapOptions::new(), MapOptions::new().backend(Backend::Pread)] {
            assert_eq!(options.open(&path).expect("open it").backend(), Backend::Pread);
        }
        let error = MapOptions::new().backend(Backend::Mapped).open(&path).map(drop).expect_err("no handler");
        assert!(matches!(error.reason(), Reason::Handler(InstallError::Unsupported)), "{error:?}");
        assert_eq!((error.errno(), error.path()), (Some(libc::ENOSYS), Some(&*path)));
        assert!(error.to_string().ends_with("Backend::Automatic would have used pread"), "{error}");
        assert_eq!(error.into_io().kind(), std::io::ErrorKind::Unsupported);
    });
}

#[test]
fn nothing_is_read_that_would_have_to_be_in_memory() {
    each(|case| {
        let (_, map) = case.mapped(100);
        let error = map.try_read_at(&mut [0; 10], 0).expect_err("no such call");
        assert!(matches!(error.reason(), Reason::Unsupported(_)), "{error:?}");
        assert_eq!((error.done(), error.errno()), (0, Some(libc::EOPNOTSUPP)));
        assert_eq!(map.try_read_at(&mut [0; 10], 100).expect("the end"), 0);
    });
}

#[test]
fn errors_have_no_fault() {
    each(|case| {
        let (path, map) = case.mapped(100_000);
        set_len(&path, 10);
        for error in [
            map.read_exact_at(&mut [0; 20], 0).expect_err("cut"),
            map.load::<u128>(50_000).expect_err("cut"),
            map.chunks(5..).for_each(|_| {}).expect_err("cut"),
            map.count_byte(0, ..).expect_err("cut"),
        ] {
            assert!(error.fault().is_none() && error.change().is_some(), "{error:?}");
        }
    });
    // The types of faults are there, for code that is written once.
    let fault = faultin::Fault::rejected(faultin::Access::Read, Cause::Unmapped, 4096);
    assert_eq!(std::io::Error::from(fault).kind(), std::io::Error::from_raw_os_error(libc::EFAULT).kind());
}

#[test]
fn windows_begin_anywhere_and_hints_are_no_errors() {
    let whole = content(10_000);
    each(|case| {
        let path = case.file("file", whole.len());
        for start in [0, 1, 4095, 4096, 9_999] {
            let options = MapOptions::new().offset(start as u64).populate(true).huge_pages(true);
            let map = options.advise(Advice::WillNeed).watch(Watch::Nothing).open(&path).expect("open it");
            let mut read = Vec::new();
            map.reader().read_to_end(&mut read).expect("whole");
            assert_eq!(read, whole[start..]);
            assert_eq!(map.load::<u8>(0).expect("there"), whole[start]);
        }
    });
}

/// What a portable tool does with a file, in the words that it has everywhere.
#[test]
fn a_tool_sums_searches_and_follows() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<FileMap>();
    each(|case| {
        let path = case.path("log");
        std::fs::write(&path, "one\ntwo\n").expect("write");
        let map = MapOptions::new().watch(Watch::Contents).open(&path).expect("open it");
        let mut all = Vec::new();
        map.chunks(..).of(4096).for_each(|chunk| all.extend_from_slice(chunk)).expect("unchanged");
        assert_eq!(all, b"one\ntwo\n");
        assert!(map.watches().settled && map.verify().is_ok());

        let log = MapOptions::new().watch(Watch::Appending).open(&path).expect("open it");
        std::fs::write(&path, "one\ntwo\nthree\n").expect("write");
        log.refresh().expect("it grew");
        assert_eq!(log.find(b"three", ..).expect("there"), Some(8));
        assert_eq!(log.lines(..).count(), 3);
        assert!(map.read_at(&mut [0; 8], 0).is_err(), "not what it was");

        let mut lines = FileReader::open(&path).expect("open it").lines();
        assert_eq!(lines.next().expect("a line").expect("read"), "one");
    });
}

#[test]
fn values_of_types_of_the_caller_are_read() {
    use faultin::typed::bytemuck::ReadAs;
    let (_folder, path) = (tempfile::tempdir().expect("a folder"), "values");
    let path = _folder.path().join(path);
    std::fs::write(&path, [7, 0, 0, 0, 9, 0, 0, 0]).expect("write");
    let map = FileMap::open(&path).expect("open it");
    let values: [u32; 2] = map.read_as(0).expect("there");
    assert_eq!(values.map(u32::from_le), [7, 9]);
    assert!(map.read_as::<u64>(1).is_err(), "it ends before");
}

#[test]
fn what_has_bytes_and_no_size_is_a_stream() {
    // On Linux there are such files in proc; other systems may have none there.
    let path = "/proc/self/status";
    let Ok(file) = File::open(path) else {
        return faultin_test::skipped("kernel-files", format_args!("{path}: none"));
    };
    assert!(!faultin::map::has_known_size(&file).expect("asked"));
    let mut reader = FileReader::open(path).expect("as a stream");
    assert!(reader.as_map().is_none());
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read");
    assert!(text.starts_with("Name:"), "{text}");
}
