//! An `io::Error` keeps everything of an error that was converted to it.

use std::error::Error;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use faultin::iov::{ImportError, IovRangeError};
use faultin::signal_free::{Process, ProcessError};
use faultin::{
    Access, Cause, Fault, InstallError, Short,
    raw::{ShortRead, StructError},
};
use faultin::{
    FileMap, MapError, MapOptions,
    map::{Change, Damaged, Reason},
};

/// A function of a program that uses `io::Error` for all of its errors.
fn read(path: &Path, dst: &mut [u8], at: u64) -> io::Result<()> {
    Ok(FileMap::open(path)?.read_exact_at(dst, at)?)
}

/// Checks that the whole of `error` is in its conversion, and returns that.
fn kept<E: Error + Clone + Into<io::Error> + 'static>(error: E, kind: ErrorKind, errno: Option<i32>) -> io::Error {
    let (says, source) = (error.to_string(), error.source().map(ToString::to_string));
    let io: io::Error = error.into();
    assert_eq!(io.to_string(), says);
    assert_eq!(io.kind(), kind, "{says}");
    assert_eq!(faultin::errno(&io), errno, "{says}");
    assert!(io.get_ref().is_some_and(|inner| inner.is::<E>()), "{io:?}");
    assert_eq!(io.source().map(ToString::to_string), source, "{says}");
    io
}

/// std's kind for this number.
fn kind(errno: i32) -> ErrorKind {
    io::Error::from_raw_os_error(errno).kind()
}

#[test]
fn a_question_mark_keeps_what_a_map_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing");
    let error = read(&missing, &mut [], 0).expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(faultin::errno(&error), Some(libc::ENOENT));
    assert_eq!(error.to_string(), format!("{}: No such file or directory (os error 2)", missing.display()));
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<MapError>()).expect("the map's error");
    assert_eq!((inner.done(), inner.errno()), (0, Some(libc::ENOENT)));
    assert!(error.source().is_some_and(|source| source.is::<io::Error>()));

    let file = folder.path().join("file");
    std::fs::write(&file, [7; 100]).expect("write it");
    let error = read(&file, &mut [0; 60], 80).expect_err("20 bytes are left");
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<MapError>()).expect("the map's error");
    assert_eq!((error.kind(), inner.done(), inner.offset(), inner.errno()), (ErrorKind::UnexpectedEof, 20, 100, None));
    assert!(matches!(inner.reason(), Reason::PastEnd { len: 100 }));
}

#[test]
fn a_change_keeps_its_kind_and_its_count() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), [7; 10_000]).expect("write it");
    let map = FileMap::open(file.path()).expect("map it");
    file.as_file().set_len(100).expect("cut it");
    let error = map.read_at(&mut [0; 10_000], 0).expect_err("it was cut");
    let says = error.to_string();
    let error = io::Error::from(error);
    assert_eq!((error.kind(), error.to_string()), (kind(libc::ESTALE), says));
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<MapError>()).expect("the map's error");
    assert_eq!((inner.done(), inner.change()), (100, Some(Change::Shrunk { from: 10_000, to: 100 })));
    assert_eq!(faultin::errno(&error), Some(libc::ESTALE));
    // The closure's result and the damaged ranges are dropped; the reason is kept.
    // SAFETY: nothing relies on the bytes.
    let damaged: Damaged<usize> = unsafe { map.with_slice(.., <[u8]>::len) }.expect_err("it was cut");
    let error = io::Error::from(damaged);
    assert!(error.get_ref().is_some_and(|inner| inner.is::<MapError>()), "{error:?}");
    // As returned by a reader.
    let error = map.reader().read_to_end(&mut Vec::new()).expect_err("it was cut");
    assert!(error.get_ref().is_some_and(|inner| inner.is::<MapError>()), "{error:?}");
}

#[test]
fn accesses_keep_their_count_and_cause() {
    let uncategorized = kind(libc::EFAULT);
    let fault = Fault::rejected(Access::Read, Cause::Unmapped, 0x1000);
    let short = Short { done: 17, fault };
    let io = kept(short, uncategorized, Some(libc::EFAULT));
    assert_eq!(io.get_ref().and_then(|inner| inner.downcast_ref::<Short>()), Some(&short));
    kept(fault, uncategorized, Some(libc::EFAULT));
    kept(Fault::rejected(Access::Read, Cause::NotResident, 0), ErrorKind::WouldBlock, Some(libc::EAGAIN));
    kept(Fault::rejected(Access::Write, Cause::Deadlock, 0), ErrorKind::Deadlock, Some(libc::EDEADLK));
    kept(StructError::Fault(fault), uncategorized, Some(libc::EFAULT));
    kept(StructError::TooBig, kind(libc::E2BIG), Some(libc::E2BIG));
    kept(IovRangeError, ErrorKind::InvalidInput, Some(libc::EINVAL));
    let (mut init, mut uninit) = ([0; 3], [std::mem::MaybeUninit::uninit(); 2]);
    let read = ShortRead { init: &mut init, uninit: &mut uninit, fault };
    let error = io::Error::from(read);
    assert_eq!(error.get_ref().and_then(|inner| inner.downcast_ref::<Short>()), Some(&Short { done: 3, fault }));
}

#[test]
fn the_rest_keeps_what_it_says() {
    let whole = |error: io::Error, kind: ErrorKind, errno: Option<i32>, says: &str| {
        assert_eq!((error.kind(), faultin::errno(&error)), (kind, errno), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        error
    };
    let error = ImportError::NegativeLength { segment: 3 };
    let error = whole(error.into(), ErrorKind::InvalidInput, Some(libc::EINVAL), "segment 3");
    assert!(error.get_ref().is_some_and(|inner| inner.is::<ImportError>()));
    let error = InstallError::Sigaction(libc::SIGBUS, io::Error::from_raw_os_error(libc::EPERM));
    let error = whole(error.into(), ErrorKind::PermissionDenied, Some(libc::EPERM), "sigaction for signal 7");
    assert!(error.get_ref().is_some_and(|inner| inner.is::<InstallError>()));
    assert!(error.source().is_some_and(|source| source.is::<io::Error>()));
    let error = whole(InstallError::Unsupported.into(), ErrorKind::Unsupported, None, "signal-free");
    assert!(error.get_ref().is_some_and(|inner| inner.is::<InstallError>()));

    let process = match Process::from_pid(std::process::id() as i32) {
        Ok(process) => process,
        Err(error) => return faultin_test::skipped("process-vm", error.to_string()),
    };
    let page = faultin::page_size();
    let error = process.read(&mut [0; 8], page).expect_err("nothing is mapped there");
    let error = whole(error.into(), kind(libc::EFAULT), Some(libc::EFAULT), "read 0 bytes of another process");
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ProcessError>()).expect("the whole error");
    assert_eq!(inner.done(), 0);
    assert!(error.source().is_some_and(|source| source.is::<Fault>()));
}

#[test]
fn a_path_is_said_once_and_a_place_only_where_something_happened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("named-once");
    let once = |error: &MapError, says: &str| {
        let text = error.to_string();
        let mut whole = text.clone();
        let mut source = error.source();
        while let Some(inner) = source {
            whole += &format!(": {inner}");
            source = inner.source();
        }
        assert_eq!(whole.matches("named-once").count(), 1, "{whole}");
        assert_eq!(text, format!("{}: {says}", path.display()));
    };
    // There was no operation at the map's offset.
    let at = MapOptions::new().offset(5000);
    once(&at.open(&path).expect_err("missing"), "No such file or directory (os error 2)");
    std::fs::write(&path, [7; 10_000]).expect("write it");
    let options = || MapOptions::new().offset(5000);
    let map = options().open(&path).expect("map it");
    std::fs::write(&path, [7; 200]).expect("write it");
    let change = "the file was truncated from 10000 to 200 bytes";
    once(&map.read_at(&mut [0; 10], 1000).expect_err("cut"), change);
    once(&map.verify().expect_err("cut"), change);
    std::fs::write(&path, [8; 10_000]).expect("write it");
    map.refresh().expect("take it");
    std::fs::rename(folder.path().join("named-once"), folder.path().join("away")).expect("rename");
    let gone = map.verify().expect_err("its name is gone");
    assert!(!gone.to_string().contains("at byte"), "{gone}");
    std::fs::rename(folder.path().join("away"), &path).expect("rename");
    map.refresh().expect("take it");
    // A requested position that is not in the map.
    let error = map.read_exact_at(&mut [0; 10], 4995).expect_err("5 bytes are left");
    once(&error, "at byte 10000: beyond the end: the map has 5000 bytes");
}
