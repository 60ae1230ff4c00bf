//! Appended records: none is torn or lost, and each is present once.

use std::thread;

use faultin::ReadView;
use faultin::iov::IovSource;
use faultin_cache::write::WriteLoop;
use faultin_cache::{CacheOptions, FileOptions};

use crate::Until;
use crate::common::kernel_loops;
use crate::common::watchdog;
use crate::slow::Slow;

const THREADS: u8 = 4;
const RECORDS: u32 = 1500;

/// A record: `b'#'`, the thread, a number of four bytes, the length, and the bytes.
fn record(thread: u8, number: u32) -> Vec<u8> {
    let len = (number.wrapping_mul(2_654_435_761) >> 24) as u8 % 90;
    let fill = thread.wrapping_mul(31).wrapping_add(number as u8);
    let head = [&[b'#', thread][..], &number.to_le_bytes(), &[len]].concat();
    [head, vec![fill; len as usize]].concat()
}

/// Checks that each thread's records are in order; returns their numbers.
fn check(mut bytes: &[u8]) -> [u32; THREADS as usize] {
    let mut next = [0; THREADS as usize];
    while !bytes.is_empty() {
        assert!(
            bytes.len() > 1 && bytes[0] == b'#' && bytes[1] < THREADS,
            "no record: {:02x?}",
            &bytes[..bytes.len().min(32)]
        );
        let thread = bytes[1];
        let number = &mut next[thread as usize];
        let ought = record(thread, *number);
        assert!(bytes.starts_with(&ought), "not record {number} of {thread}: {:02x?}", &bytes[..bytes.len().min(32)]);
        *number += 1;
        bytes = &bytes[ought.len()..];
    }
    next
}

#[test]
fn each_record_is_there_once_and_whole() {
    watchdog::start();
    let loops = [
        WriteLoop::DEFAULT,
        kernel_loops::GENERIC_PERFORM_WRITE,
        kernel_loops::BTRFS_BUFFERED_WRITE,
        kernel_loops::FUSE_FILL_WRITE_PAGES,
    ];
    for how in loops {
        let cache = CacheOptions::new().block(64).limit(512).build();
        let store = Slow::new([]);
        let options = FileOptions::new().max_folio(256).write_loop(how.clone());
        let file = cache.open_with(store.clone(), options).unwrap();
        let until = Until::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                until.each_time(|| {
                    file.sync_all().unwrap();
                    cache.drop_clean();
                    // The contents are whole records, except for the last one.
                    let len = file.len().unwrap();
                    let mut bytes = vec![0; len as usize];
                    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
                    assert!(bytes.is_empty() || bytes[0] == b'#');
                });
            });
            let _done = until.done_at_end();
            thread::scope(|scope| {
                for thread in 0..THREADS {
                    let file = file.clone();
                    scope.spawn(move || {
                        for number in 0..RECORDS {
                            let record = record(thread, number);
                            // In two segments with the boundary anywhere.
                            let (head, tail) = record.split_at(number as usize % record.len());
                            let segments = [head.into(), tail.into()];
                            let mut from = IovSource::<ReadView<'_>>::new(&segments);
                            assert_eq!(file.append_iter(&mut from).unwrap(), record.len());
                        }
                    });
                }
            });
        });
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(check(&bytes), [RECORDS; THREADS as usize], "{how:?}");
        file.sync_all().unwrap();
        assert_eq!((file.dirty(), store.memory.reserved()), (0, 0), "{how:?}");
        assert_eq!(check(&store.memory.contents()), [RECORDS; THREADS as usize], "{how:?}: in the store");
        drop(file);
        assert_eq!(cache.used(), 0);
    }
}
