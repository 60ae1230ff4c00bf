//! Objects are read as they were opened, or not at all.

#![allow(clippy::single_range_in_vec_init, reason = "lists of requests, of which there is one")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use faultin_cache::{Cache, CacheOptions};
use faultin_store::object_store::path::Path;
use faultin_store::{Cause, Error, Object, Store, StoreOptions};
use support::{Does, PATH, Scripted, pattern};

const BLOCK: usize = 64 << 10;
const LEN: usize = 10 * BLOCK + 12_345;

fn options() -> StoreOptions {
    StoreOptions::new()
        .deadline(Duration::from_secs(20))
        .attempt(Duration::from_secs(5))
        .backoff(Duration::from_millis(1), Duration::from_millis(5))
}

fn open_with(options: StoreOptions, backend: &Arc<Scripted>) -> Result<Object, Error> {
    let backend = Arc::clone(backend);
    options.build().unwrap().open_in(backend, &Path::from(PATH), "test:///data")
}

/// Without readahead, so that each request is one of the test.
fn open(backend: &Arc<Scripted>) -> Object {
    let object = open_with(options().read_ahead(false), backend).unwrap();
    assert_eq!(backend.requests(), [0..BLOCK as u64]);
    object
}

/// Returns the error of a cached file's reader.
fn error_of(object: &Object, pos: u64) -> Error {
    let file = Cache::new().open(object.clone()).unwrap();
    let partial = file.read_at(&mut [0; 10], pos).unwrap_err();
    Error::of(&partial).unwrap_or_else(|| panic!("no error of the store: {partial}")).clone()
}

#[test]
fn an_object_is_read_as_it_is_and_its_end_is_its_end() {
    for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, LEN] {
        let bytes = pattern(len, 1);
        let backend = Scripted::new(&bytes);
        let object = open_with(options(), &backend).unwrap();
        assert_eq!((object.size(), object.version().len), (len as u64, len as u64));
        let file = Cache::new().open(object.clone()).unwrap();
        let mut read = vec![0; len + 10];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), len);
        assert_eq!(&read[..len], &bytes[..]);
        let mut read = vec![0; len + 10];
        assert_eq!(object.read(&mut read, 0).unwrap(), len);
        assert_eq!(&read[..len], &bytes[..]);
        assert_eq!(object.read(&mut read, len as u64).unwrap(), 0);
        assert_eq!(object.read(&mut read, u64::MAX).unwrap(), 0);
    }
}

#[test]
fn a_replaced_object_is_an_error_with_both_versions_and_never_mixed_bytes() {
    let (old, new) = (pattern(LEN, 1), pattern(LEN + 5, 2));
    let backend = Scripted::new(&old);
    let object = open(&backend);
    let mut part = vec![0; 3 * BLOCK];
    assert_eq!(object.read(&mut part, 0).unwrap(), part.len());
    backend.write(&new);
    let error = error_of(&object, 4 * BLOCK as u64);
    let Cause::Replaced { pinned, found: Some(found) } = error.cause() else { panic!("{error}") };
    assert_eq!((pinned, found.len, error.attempts()), (object.version(), new.len() as u64, 1));
    assert_ne!(found.etag, pinned.etag);
    let says = error.to_string();
    for part in
        ["test:///data, bytes 262144 to 327680, attempt 1: ", "replaced", &pinned.to_string(), &found.to_string()]
    {
        assert!(says.contains(part), "{part}: {says}");
    }
    // A read over the border of what was fetched is short, and its rest an error.
    let mut read = vec![0; 4 * BLOCK];
    let got = object.read(&mut read, 0);
    assert!(matches!(got, Ok(got) if read[..got] == old[..got]) || got.is_err());
    let fresh = object.refresh().unwrap();
    assert_eq!(fresh.version(), found);
    let mut read = vec![0; new.len()];
    assert_eq!(fresh.read(&mut read, 0).unwrap(), new.len());
    assert_eq!(read, new);
}

#[test]
fn a_deleted_object_is_replaced_by_nothing_and_a_missing_one_is_not_found() {
    let backend = Scripted::new(&pattern(LEN, 1));
    let object = open(&backend);
    backend.delete();
    let error = error_of(&object, 2 * BLOCK as u64);
    assert!(matches!(error.cause(), Cause::Replaced { found: None, .. }), "{error}");
    let error = object.refresh().unwrap_err();
    assert!(matches!(error.cause(), Cause::NotFound), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn answers_that_are_not_what_was_asked_for_are_errors_and_are_not_tried_again() {
    let cases = [
        (Does::Differs(-1), "the body has 65535 bytes instead of 65536"),
        (Does::Differs(1), "the body has more than the requested 65536 bytes"),
        (Does::Differs(-65_536), "the body has 0 bytes"),
        (Does::Shifted(1), "the answer has bytes 131073 to 196609"),
        (Does::Retagged, "the store has etag \"another\""),
        (Does::Untagged, "was replaced"),
        (Does::Fails, "as the test wants"),
    ];
    let bytes = pattern(LEN, 1);
    let backend = Scripted::new(&bytes);
    for (does, says) in cases {
        let object = open(&backend);
        backend.next([does.clone()]);
        let error = error_of(&object, 2 * BLOCK as u64);
        assert!(error.to_string().contains(says), "{does:?}: {error}");
        assert_eq!((error.attempts(), error.range()), (1, Some(2 * BLOCK as u64..3 * BLOCK as u64)), "{does:?}");
        // It is not remembered.
        let mut read = [0; 10];
        assert_eq!(object.read(&mut read, 2 * BLOCK as u64).unwrap(), 10);
        assert_eq!(read, bytes[2 * BLOCK..][..10]);
        assert_eq!(backend.requests().len(), 2);
    }
}

#[test]
fn an_object_that_is_replaced_while_it_is_opened_or_read_is_one_version_or_an_error() {
    let (old, new) = (pattern(LEN, 1), pattern(LEN, 2));
    for at in 0..12 {
        let backend = Scripted::new(&old);
        backend.next((0..at).map(|_| Does::Well).chain([Does::Replaces(new.clone())]));
        let object = open_with(options().request_bytes(BLOCK), &backend).unwrap();
        let mut read = vec![0; LEN];
        let (got, error) = match object.read(&mut read, 0) {
            Ok(got) => (got, None),
            Err(error) => (0, Some(error)),
        };
        let is_of = |whole: &[u8]| read[..got] == whole[..got];
        assert!(is_of(&old) || is_of(&new), "{at}: {got} bytes are mixed");
        if let Some(error) = error.filter(|error| !matches!(error.cause(), Cause::Replaced { .. })) {
            panic!("{at}: {error}");
        }
    }
}

#[test]
fn a_store_without_entity_tags_is_refused_unless_length_and_time_will_do() {
    let backend = Scripted::new(&pattern(LEN, 1));
    backend.untag();
    let error = open_with(options(), &backend).unwrap_err();
    assert!(matches!(error.cause(), Cause::Unversioned), "{error}");
    let object = open_with(options().accept_unversioned(true).read_ahead(false), &backend).unwrap();
    assert_eq!(object.version().etag, None);
    assert_eq!(object.read(&mut [0; 10], 2 * BLOCK as u64).unwrap(), 10);
    // Of the same length, later.
    std::thread::sleep(Duration::from_millis(5));
    backend.write(&pattern(LEN, 2));
    let error = object.read(&mut [0; 10], 4 * BLOCK as u64).unwrap_err();
    assert!(matches!(error.cause(), Cause::Replaced { .. }), "{error}");
}

#[test]
fn a_file_that_is_replaced_or_written_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let (old, new) = (pattern(LEN, 1), pattern(LEN, 2));
    let url = format!("file://{}", path.display());
    let store = Store::new().unwrap();
    for is_in_place in [false, true] {
        std::fs::write(&path, &old).unwrap();
        let object = store.open(&url).unwrap().with_read_ahead(false);
        let file = CacheOptions::new().build().open(object.clone()).unwrap();
        let mut read = vec![0; LEN];
        assert_eq!(file.read_at(&mut read[..3 * BLOCK], 0).unwrap(), 3 * BLOCK);
        assert_eq!(read[..3 * BLOCK], old[..3 * BLOCK]);
        // A later time of the last change, whatever the granularity of the file system.
        std::thread::sleep(Duration::from_millis(20));
        if is_in_place {
            std::fs::write(&path, &new).unwrap();
        } else {
            std::fs::write(folder.path().join("new"), &new).unwrap();
            std::fs::rename(folder.path().join("new"), &path).unwrap();
        }
        let error = error_of(&object, 8 * BLOCK as u64);
        assert!(matches!(error.cause(), Cause::Replaced { found: Some(_), .. }), "{error}");
        assert!(error.object().starts_with("file:///"), "{error}");
        let fresh = object.refresh().unwrap();
        assert_eq!(fresh.read(&mut read, 0).unwrap(), LEN);
        assert_eq!(read, new);
    }
    let error = store.open(&format!("{url}-none")).unwrap_err();
    assert!(matches!(error.cause(), Cause::NotFound), "{error}");
}

#[test]
fn an_object_is_read_only_and_of_a_fixed_length() {
    let backend = Scripted::new(&pattern(LEN, 1));
    let file = Cache::new().open(open(&backend)).unwrap();
    assert!(file.set_len(5).is_err());
    file.write_at(b"abc", 0).unwrap();
    let error = file.sync_all().unwrap_err();
    assert!(error.to_string().to_lowercase().contains("read-only"), "{error}");
}

#[test]
fn what_cannot_be_opened_says_why_and_names_no_credentials() {
    let store = Store::new().unwrap();
    for url in ["http://me:secret@host/x", "https://host/x?sig=secret", "s3://bucket", "gopher://host/x", "x"] {
        let error = store.open(url).unwrap_err();
        assert!(matches!(error.cause(), Cause::Unsupported(_)), "{error}");
        let says = format!("{error} {error:?}");
        assert!(!says.contains("secret"), "{says}");
    }
    let options = StoreOptions::new().config("aws_secret_access_key", "hunter2hunter2");
    let says = format!("{options:?}{:?}", options.clone().build().unwrap());
    assert!(!says.contains("hunter2"), "{says}");
}
