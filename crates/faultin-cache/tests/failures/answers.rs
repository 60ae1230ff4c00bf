//! Stores that return short counts, zero, excessive counts, or `EINTR`.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use faultin::ReadView;
use faultin::iov::IovSource;
use faultin_cache::store::MemoryStore;
use faultin_cache::{Cache, CacheOptions, CachedFile, Error};

use crate::common::compare::assert_same;
use crate::faulty::{Answer, Faulty, What};

const LEN: usize = 100;

fn file() -> (Cache, CachedFile, Faulty) {
    let cache = CacheOptions::new().block(16).limit(1024).build();
    let store = Faulty::new(MemoryStore::new((1..=LEN as u8).collect::<Vec<_>>()));
    let file = cache.open(store.clone()).unwrap();
    (cache, file, store)
}

fn read(file: &CachedFile) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0xee; LEN];
    let count = file.read_at(&mut bytes, 0).map_err(|partial| partial.error)?;
    bytes.truncate(count);
    Ok(bytes)
}

#[test]
fn a_short_answer_is_gone_on_with() {
    for most in [1, 7, 16] {
        let (_cache, file, store) = file();
        store.plan(move |_| Answer::Short(most));
        let mut ought: Vec<u8> = (1..=LEN as u8).collect();
        assert_same(&read(&file).unwrap(), &ought, "read");
        file.write_at(&[200; 50], 25).unwrap();
        ought[25..75].fill(200);
        file.sync_all().unwrap();
        assert_same(&store.memory.contents(), &ought, "written");
    }
}

#[test]
fn an_interrupted_call_is_made_again() {
    let (_cache, file, store) = file();
    let left = AtomicU32::new(5);
    store.plan(move |_| {
        let again = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if again { Answer::Interrupted } else { Answer::Do }
    });
    assert_same(&read(&file).unwrap(), &(1..=LEN as u8).collect::<Vec<_>>(), "read");
    file.write_at(&[200; LEN], 0).unwrap();
    let left = AtomicU32::new(5);
    store.plan(move |call| match call.what {
        What::Write if left.load(Ordering::Relaxed) > 0 => {
            left.fetch_sub(1, Ordering::Relaxed);
            Answer::Interrupted
        }
        _ => Answer::Do,
    });
    file.sync_all().unwrap();
    assert_same(&store.memory.contents(), &[200; LEN], "written");
}

#[test]
fn a_store_that_takes_nothing_has_failed() {
    let (_cache, file, store) = file();
    file.write_at(&[200; 40], 0).unwrap();
    store.plan(|call| if call.what == What::Write { Answer::Short(0) } else { Answer::Do });
    let Err(Error::Store(error)) = file.sync_all() else { panic!("it took nothing") };
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    assert_eq!(file.dirty(), 48);
    store.heal();
    file.sync_all().unwrap();
    assert_eq!((&store.memory.contents()[..40], file.dirty()), (&[200; 40][..], 0));
}

/// It reported more bytes: the result must not be zeros or another file's bytes.
#[test]
fn a_store_that_ends_before_its_length_has_failed() {
    let (_cache, file, store) = file();
    store.plan(|call| {
        if call.pos + call.len > 32 { Answer::Short(32_u64.saturating_sub(call.pos) as usize) } else { Answer::Do }
    });
    let mut bytes = [0xee; LEN];
    let partial = file.read_at(&mut bytes, 0).unwrap_err();
    let Error::Store(error) = partial.error else { panic!("{partial}") };
    assert_eq!((partial.done, error.kind()), (32, io::ErrorKind::UnexpectedEof));
    let says = error.to_string();
    assert!(says.contains("ends at byte 32") && says.contains("length is 100"), "{says}");
    assert_same(&bytes[..32], &(1..=32).collect::<Vec<_>>(), "before it");
    assert_same(&bytes[32..], &[0xee; LEN - 32], "behind it");
    store.heal();
    assert_same(&read(&file).unwrap(), &(1..=LEN as u8).collect::<Vec<_>>(), "well again");
}

#[test]
fn nothing_is_believed_of_an_answer_that_is_too_long() {
    let (_cache, file, store) = file();
    store.plan(|_| Answer::Over(3));
    let Err(Error::Store(error)) = read(&file) else { panic!("it cannot have read that much") };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("says it has read") && error.to_string().contains("asked for"), "{error}");
    store.heal();
    let mut ought: Vec<u8> = (1..=LEN as u8).collect();
    assert_same(&read(&file).unwrap(), &ought, "read again");

    file.write_at(&[200; 16], 16).unwrap();
    ought[16..32].fill(200);
    store.plan(|_| Answer::Over(1));
    let Err(Error::Store(error)) = file.sync_all() else { panic!("it cannot have written that much") };
    assert!(error.to_string().contains("written 17 bytes where it was asked for 16"), "{error}");
    assert_eq!(file.dirty(), 16);
    store.heal();
    file.sync_all().unwrap();
    assert_same(&store.memory.contents(), &ought, "written again");
}

/// A failed read leaves nothing in the cache that could be taken for the file's bytes.
#[test]
fn a_read_that_fails_halfway_is_forgotten() {
    let (_cache, file, store) = file();
    store.plan(|call| if call.what == What::Read { Answer::FailHalfway(libc::EIO) } else { Answer::Do });
    for _ in 0..3 {
        assert_eq!(read(&file).unwrap_err().errno(), Some(libc::EIO));
    }
    // A write of a part of a block needs the rest.
    let partial = file.write_at(&[200; 3], 5).unwrap_err();
    assert_eq!((partial.done, partial.error.errno()), (0, Some(libc::EIO)));
    // A write of whole blocks does not.
    assert_eq!(file.write_at(&[201; 16], 16).unwrap(), 16);
    store.heal();
    let mut ought: Vec<u8> = (1..=LEN as u8).collect();
    ought[16..32].fill(201);
    assert_same(&read(&file).unwrap(), &ought, "read");
}

/// Endless interruptions are an error in a call that nothing else would end.
#[test]
fn a_store_that_is_always_interrupted_has_failed() {
    let fails = |result: Result<(), Error>| {
        let Err(Error::Store(error)) = result else { panic!("{result:?}") };
        assert!(error.to_string().contains("interrupted 2000 times in a row"), "{error}");
        // Callers retry interrupted calls.
        assert_ne!(error.kind(), io::ErrorKind::Interrupted);
    };
    for after in [0, 3] {
        let (_cache, file, store) = file();
        // Interruptions with progress between them are not counted.
        let next = AtomicU32::new(0);
        store.plan(move |_| match next.fetch_add(1, Ordering::Relaxed) {
            turn if turn / 1500 < after && turn % 1500 == 1499 => Answer::Short(16),
            _ => Answer::Interrupted,
        });
        fails(read(&file).map(drop));
        file.write_at(&[1; 16], 0).unwrap();
        fails(file.sync_all());
        assert_eq!(file.dirty(), 16);
        fails(
            file.write_direct(&mut IovSource::<ReadView<'_>>::one(&[2; 16][..]), 32)
                .map(drop)
                .map_err(|error| error.error),
        );
        store.heal();
        file.sync_all().unwrap();
        assert_eq!(store.memory.contents()[..16], [1; 16]);
    }
}
