//! Requirements on files as stores, and changes of the descriptor, position and length by other code.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use faultin_cache::store::{FileStore, Store};
use faultin_cache::{Cache, CacheOptions, CachedFile, Error};
use faultin_test::skipped;

use crate::{file_with, opened};

const LEN: usize = 16 << 10;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

type Make = fn(File) -> io::Result<FileStore>;

const MAKE: [Make; 2] = [FileStore::new, FileStore::direct];

#[track_caller]
fn is_refused(file: impl Fn() -> File, why: &str) {
    for make in MAKE {
        let error = make(file()).expect_err("it cannot be a store");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn what_cannot_be_a_store_is_refused_with_a_sentence() {
    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, [7; LEN]).unwrap();
    is_refused(|| opened(&path, libc::O_APPEND), "O_APPEND");
    is_refused(|| File::open(&path).unwrap(), "not open for both");
    is_refused(|| File::options().write(true).open(&path).unwrap(), "not open for both");
    is_refused(|| opened(&path, libc::O_PATH), "not open for both");
    is_refused(|| File::options().read(true).write(true).open("/dev/zero").unwrap(), "a character device");
    let pipe = folder.path().join("pipe");
    let name = std::ffi::CString::new(pipe.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: a path that ends with a NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    is_refused(|| File::options().read(true).write(true).open(&pipe).unwrap(), "a pipe");
    is_refused(|| File::options().read(true).write(true).open("/proc/self/comm").unwrap(), "size is not known");
    assert_eq!(std::fs::read(&path).unwrap(), [7; LEN]);
}

fn flags(file: &File) -> i32 {
    // SAFETY: queries a descriptor owned here.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }
}

/// Two descriptors of one open file description: changes that the store makes to it would be visible through the other.
fn shared(path: &Path) -> (File, File) {
    let file = opened(path, 0);
    (file.try_clone().unwrap(), file)
}

#[test]
fn the_callers_description_stays_as_it_is() {
    let folder = folder();
    let path = folder.path().join("file");
    for make in MAKE {
        drop(file_with(&path, &[7; LEN]));
        let (mut other, given) = shared(&path);
        other.seek(SeekFrom::Start(123)).unwrap();
        let before = flags(&other);
        let store = match make(given) {
            Ok(store) => store,
            Err(why) => return skipped("direct-io", why),
        };
        assert_eq!(store.len().unwrap(), LEN as u64);
        let file = Cache::new().open(store).unwrap();
        file.write_at(&[8; 4096], 4096).unwrap();
        file.sync_all().unwrap();
        assert_eq!((flags(&other), other.stream_position().unwrap()), (before, 123));
    }
}

/// Bytes are written at the right position, whatever flags the caller sets on a shared open file description.
#[test]
fn a_description_that_gets_o_append_later_does_not_matter() {
    let folder = folder();
    let path = folder.path().join("file");
    for make in MAKE {
        drop(file_with(&path, &[7; LEN]));
        let (other, given) = shared(&path);
        let store = match make(given) {
            Ok(store) => store,
            Err(why) => return skipped("direct-io", why),
        };
        let file = Cache::new().open(store).unwrap();
        // SAFETY: sets flags of a descriptor owned here.
        assert_eq!(unsafe { libc::fcntl(other.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) }, 0);
        file.write_at(&[8; 4096], 4096).unwrap();
        file.sync_all().unwrap();
        let mut ought = [7; LEN];
        ought[4096..8192].fill(8);
        assert_eq!(std::fs::read(&path).unwrap(), ought);
    }
}

struct Truncated {
    folder: tempfile::TempDir,
    path: PathBuf,
    cache: Cache,
    file: CachedFile,
}

/// A cached file whose kernel file other code has truncated to `len` bytes.
fn truncated(make: Make, len: u64) -> Option<Truncated> {
    let folder = folder();
    let path = folder.path().join("file");
    let store = make(file_with(&path, &[7; LEN])).map_err(|why| skipped("direct-io", why)).ok()?;
    let cache = CacheOptions::new().build();
    let file = cache.open(store).unwrap();
    opened(&path, 0).set_len(len).unwrap();
    Some(Truncated { folder, path, cache, file })
}

#[track_caller]
fn is_told(error: &Error, is: u64) {
    let says = error.to_string();
    assert!(matches!(error, Error::Store(_)), "{says}");
    assert!(says.contains("truncated") && says.contains(&is.to_string()) && says.contains(&LEN.to_string()), "{says}");
}

#[test]
fn a_file_that_other_code_truncates_is_an_error_and_not_zeros() {
    for make in MAKE {
        for len in [0, 100, 8192, LEN as u64 - 1] {
            let Some(Truncated { folder: _folder, path, cache: _cache, file }) = truncated(make, len) else { return };
            // Also without anything to write.
            is_told(&file.sync_all().unwrap_err(), len);
            let mut bytes = [0xee; LEN];
            let partial = file.read_at(&mut bytes, 0).unwrap_err();
            is_told(&partial.error, len);
            assert_eq!(partial.done as u64, len / 4096 * 4096);
            assert!(bytes[..partial.done].iter().all(|&byte| byte == 7));
            assert!(bytes[partial.done..].iter().all(|&byte| byte == 0xee));
            assert_eq!(std::fs::metadata(&path).unwrap().len(), len, "it is not made longer");
        }
    }
}

#[test]
fn a_truncated_file_is_not_silently_made_longer_again() {
    for make in MAKE {
        let Some(Truncated { folder: _folder, path, cache, file }) = truncated(make, 100) else { return };
        file.write_at(&[8; 4096], 12288).unwrap();
        is_told(&file.sync_all().unwrap_err(), 100);
        assert_eq!(file.dirty(), 4096, "it stays");
        file.append(&[9; 10]).unwrap();
        is_told(&file.sync_all().unwrap_err(), 100);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 100);
        // The remaining bytes can be kept: then the file is usable again.
        file.set_len(50).unwrap();
        let _ = file.sync_all();
        cache.drop_clean();
        file.append(&[9; 10]).unwrap();
        file.sync_all().unwrap();
        let mut ought = vec![7; 50];
        ought.resize(60, 9);
        assert_eq!((file.dirty(), std::fs::read(&path).unwrap()), (0, ought));
    }
}

/// The original case: a file of 16 KiB that is open for appending.
#[test]
fn nothing_is_written_to_the_end_of_a_file_that_appends() {
    let folder = folder();
    let path = folder.path().join("file");
    std::fs::write(&path, [7; LEN]).unwrap();
    for make in MAKE {
        let appending = File::options().read(true).append(true).open(&path).unwrap();
        make(appending).expect_err("refused");
        let mut byte = [0];
        opened(&path, 0).read_exact_at(&mut byte, 4096).unwrap();
        assert_eq!((byte, std::fs::metadata(&path).unwrap().len()), ([7], LEN as u64));
    }
}
