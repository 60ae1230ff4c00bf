//! `CachedFile::try_read_at`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use faultin::WriteView;
use faultin::iov::IovDest;
use faultin_cache::Error;
use faultin_cache::store::{FileStore, MemoryStore};

use super::gate::Gate;
use super::{BLOCK, block, cache, open, pattern};

const UNTOUCHED: u8 = 0xe7;

/// Reads, and checks the count, the bytes, and that no byte after them was touched. Returns the error.
fn read(file: &faultin_cache::CachedFile, all: &[u8], pos: u64, len: usize, ought: usize) -> Option<Error> {
    let mut bytes = vec![UNTOUCHED; len];
    let result = file.try_read_at(&mut bytes, pos);
    let (done, error) = match result {
        Ok(done) => (done, None),
        Err(partial) => (partial.done, Some(partial.error)),
    };
    assert_eq!(done, ought, "{error:?}");
    assert!(bytes[..done] == all[pos as usize..pos as usize + done], "other bytes");
    assert!(bytes[done..].iter().all(|&byte| byte == UNTOUCHED), "changed after the count");
    error
}

#[test]
fn what_is_cached_is_read_and_the_first_missing_block_ends_it() {
    let all = pattern(8 * BLOCK + 50);
    let store = Gate::new(&all);
    let file = open(&cache(64), Arc::clone(&store));
    assert!(matches!(read(&file, &all, 10, 100, 0), Some(Error::WouldBlock)));
    assert_eq!(read(&file, &all, block(8) + 50, 0, 0).map(|error| error.to_string()), None);
    file.read_at(&mut [0; 2 * BLOCK], 0).unwrap();
    file.read_at(&mut [0; 50], block(8)).unwrap();
    store.close();
    assert!(read(&file, &all, 10, 100, 100).is_none());
    assert!(matches!(read(&file, &all, 10, 3 * BLOCK, 2 * BLOCK - 10), Some(Error::WouldBlock)));
    assert!(read(&file, &all, block(8) + 40, 100, 10).is_none(), "the end of the file is no error");
    let waits = (file.stats().waits, file.stats().misses, file.stats().errors);
    assert_eq!(waits, (2, 2, 2), "only the reads that may wait have waited");
}

#[test]
fn a_block_that_another_thread_is_filling_is_not_waited_for() {
    let all = pattern(8 * BLOCK);
    let store = Gate::new(&all);
    let file = open(&cache(64), Arc::clone(&store));
    store.close();
    thread::scope(|scope| {
        let reader = scope.spawn(|| file.read_at(&mut [0; 100], block(3)));
        store.until_waiting(1);
        assert!(matches!(read(&file, &all, block(3), 100, 0), Some(Error::WouldBlock)));
        store.open();
        assert_eq!(reader.join().unwrap().unwrap(), 100);
    });
    assert!(read(&file, &all, block(3), 100, 100).is_none());
}

#[test]
fn what_the_store_has_at_hand_is_read_and_cached() {
    let all = pattern(8 * BLOCK + 50);
    let store = Gate::new(&all);
    let file = open(&cache(64), Arc::clone(&store));
    store.close();
    store.state.at_hand.store(3 * BLOCK + 100, SeqCst);
    // Only whole blocks are valid.
    assert!(matches!(read(&file, &all, 10, 5 * BLOCK, 3 * BLOCK - 10), Some(Error::WouldBlock)));
    store.state.at_hand.store(0, SeqCst);
    assert!(read(&file, &all, 10, 100, 100).is_none());
    assert_eq!(file.resident(0..u64::MAX).unwrap().runs(), [0..block(3)]);
    store.state.at_hand.store(usize::MAX, SeqCst);
    assert!(read(&file, &all, block(2), 100 * BLOCK, 6 * BLOCK + 50).is_none());
    assert_eq!((store.state.reads.load(SeqCst), store.state.batches.load(SeqCst)), (0, 0));
    assert_eq!(file.stats().waits, 0);
    // The part of a block that was at hand was read twice, and did not count.
    assert_eq!(file.store_stats().read, (8 * BLOCK + 50 + 2 * 100) as u64);
}

#[test]
fn a_store_that_fails_at_once_is_an_error_with_the_count_before() {
    let all = pattern(8 * BLOCK);
    let store = Gate::new(&all);
    let file = open(&cache(64), Arc::clone(&store));
    store.state.at_hand.store(usize::MAX, SeqCst);
    store.state.bad.store(2 * BLOCK, SeqCst);
    assert!(matches!(read(&file, &all, 5, 3 * BLOCK, 2 * BLOCK - 5), Some(Error::Store(_) | Error::WouldBlock)));
    let error = read(&file, &all, block(2), 10, 0);
    assert_eq!(error.and_then(|error| error.errno()), Some(libc::EIO));
}

#[test]
fn memory_that_would_have_to_be_written_back_is_not_waited_for() {
    let all = pattern(8 * BLOCK);
    let store = Gate::new(&all);
    let small = cache(4);
    let file = open(&small, Arc::clone(&store));
    store.state.at_hand.store(usize::MAX, SeqCst);
    let mut all_now = all.clone();
    for number in 0..4 {
        file.write_at(&[number as u8; BLOCK], block(number)).unwrap();
        all_now[number * BLOCK..(number + 1) * BLOCK].fill(number as u8);
    }
    store.close();
    assert!(matches!(read(&file, &all_now, block(6), 10, 0), Some(Error::WouldBlock)));
    assert_eq!(file.dirty(), 4 * BLOCK as u64);
    assert!(read(&file, &all_now, block(1), 10, 10).is_none());
    store.open();
}

#[test]
fn a_buffer_that_faults_is_not_faulted_in() {
    let all = pattern(2 * BLOCK);
    let file = open(&cache(64), MemoryStore::new(all.as_slice()));
    let page = faultin::page_size();
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            2 * page,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(base, libc::MAP_FAILED);
    // SAFETY: the second page of the mapping above, to which there is no reference.
    assert_eq!(unsafe { libc::mprotect(base.byte_add(page), page, libc::PROT_NONE) }, 0);
    // SAFETY: the mapping stays for the rest of the process.
    let view = unsafe { WriteView::new(base.cast(), 2 * page) }.expect("the handler is there");
    let from = page - 100;
    let part = view.subslice(from..page + 50).expect("it is within");
    let mut to = IovDest::one(part);
    let partial = file.try_read_iter(&mut to, 7).unwrap_err();
    assert_eq!((partial.done, to.count()), (100, 50));
    assert!(matches!(partial.error, Error::Fault(_)), "{partial}");
    let mut bytes = [0; 100];
    view.as_read().read(&mut bytes, from).unwrap();
    assert_eq!(bytes, all[7..107]);
}

/// Returns a file in this folder with these bytes, which are on the disk.
fn on_disk(folder: &std::path::Path, bytes: &[u8]) -> File {
    let file = File::options().read(true).write(true).create_new(true).open(folder.join("data")).expect("a file");
    file.write_all_at(bytes, 0).expect("write it");
    file.sync_all().expect("sync it");
    file
}

/// On a file system of a disk, and on tmpfs, which cannot tell what it has without waiting.
#[test]
fn a_file_is_read_as_far_as_the_kernel_has_it_or_not_at_all() {
    let folders =
        [tempfile::tempdir().expect("a folder"), tempfile::tempdir_in("/dev/shm").expect("a folder on tmpfs")];
    for folder in folders {
        let all = pattern(64 * BLOCK + 77);
        let disk = on_disk(folder.path(), &all);
        let file = open(&cache(256), FileStore::new(disk.try_clone().unwrap()).expect("a store"));
        let mut bytes = vec![0; all.len()];
        match file.try_read_at(&mut bytes, 0) {
            Ok(read) => assert_eq!(read, all.len()),
            Err(partial) => {
                assert!(matches!(partial.error, Error::WouldBlock), "{partial}");
                assert!(bytes[..partial.done] == all[..partial.done]);
                file.read_at(&mut bytes, 0).unwrap();
                assert_eq!(file.try_read_at(&mut bytes, 0).unwrap(), all.len());
            }
        }
        assert!(bytes == all);
        // Other code truncates it: what is cached stays, the rest is an error of the read that may wait.
        let half = open(&cache(256), FileStore::new(disk.try_clone().unwrap()).expect("a store"));
        half.read_at(&mut bytes[..BLOCK], 0).unwrap();
        disk.set_len(BLOCK as u64 + 10).unwrap();
        let partial = half.try_read_at(&mut bytes, 0).unwrap_err();
        assert!(partial.done <= BLOCK && matches!(partial.error, Error::WouldBlock), "{partial}");
        let partial = half.read_at(&mut bytes, 0).unwrap_err();
        assert!(matches!(partial.error, Error::Store(_)), "{partial}");
    }
}

#[test]
fn a_store_of_direct_io_never_has_anything_at_hand() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = pattern(16 * BLOCK);
    let store = match FileStore::direct(on_disk(folder.path(), &all)) {
        Ok(store) => store,
        Err(error) => return faultin_test::skipped("o-direct", error),
    };
    let file = open(&cache(64), store);
    assert!(matches!(read(&file, &all, 0, 100, 0), Some(Error::WouldBlock)));
    file.read_at(&mut [0; 100], 0).unwrap();
    assert!(read(&file, &all, 0, 100, 100).is_none());
}
