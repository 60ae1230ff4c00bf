//! Files that reclaim each other's memory.

use std::thread;

use faultin_cache::write::WriteLoop;
use faultin_cache::{Cache, CacheOptions, FileOptions};
use faultin_test::Random;

use crate::Until;
use crate::common::compare::assert_same;
use crate::common::kernel_loops;
use crate::common::watchdog;
use crate::slow::Slow;

const BLOCK: usize = 32;
const LEN: usize = 64 * BLOCK;

/// Uses a file of its own in every way, compared with a vector.
fn use_one(cache: &Cache, seed: u64, how: &WriteLoop) {
    let random = Random::new(seed);
    let store = Slow::new([]);
    let options = FileOptions::new().max_folio(2 * BLOCK).write_loop(how.clone());
    let file = cache.open_with(store.clone(), options).unwrap();
    let mut model: Vec<u8> = Vec::new();
    for turn in 0..3_000 {
        let pos = random.below(LEN as u64) as usize;
        let len = random.below(6 * BLOCK as u64) as usize;
        match random.below(8) {
            0..4 => {
                let fill = 1 + (turn % 255) as u8;
                assert_eq!(file.write_at(&vec![fill; len], pos as u64).unwrap(), len);
                if len > 0 {
                    model.resize(model.len().max(pos + len), 0);
                    model[pos..pos + len].fill(fill);
                }
            }
            4..7 => {
                let mut bytes = vec![0xee; len];
                let read = file.read_at(&mut bytes, pos as u64).unwrap();
                let from = pos.min(model.len());
                assert_same(&bytes[..read], &model[from..model.len().min(pos + len).max(from)], "read");
            }
            _ => file.sync_all().unwrap(),
        }
    }
    file.sync_all().unwrap();
    assert_same(&store.memory.contents(), &model, "in the store");
    assert_eq!((file.dirty(), store.memory.reserved()), (0, 0));
}

/// No write is refused: writeback by another thread is no reason to.
#[test]
fn files_that_share_hardly_any_memory() {
    watchdog::start();
    for (how, limit) in [
        (WriteLoop::DEFAULT, 0),
        (WriteLoop::DEFAULT, 4),
        (kernel_loops::BTRFS_BUFFERED_WRITE, 6),
        (kernel_loops::NTFS_PERFORM_WRITE, 16),
    ] {
        let cache = CacheOptions::new().block(BLOCK).limit(limit * BLOCK).build();
        let until = Until::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                until.each_time(|| {
                    cache.sync().unwrap();
                    cache.drop_clean();
                    let used = cache.used();
                    // Two folios of each of the files.
                    assert!(used <= limit * BLOCK + 3 * 2 * 2 * BLOCK, "{used}");
                });
            });
            let _done = until.done_at_end();
            thread::scope(|scope| {
                for seed in 0..3 {
                    let (cache, how) = (&cache, &how);
                    scope.spawn(move || use_one(cache, seed, how));
                }
            });
        });
        assert_eq!(cache.used(), 0, "{how:?}");
    }
}

/// Writers of one file, each in its own part, while it is constantly written back.
#[test]
fn writers_of_one_file_are_not_refused_because_it_is_written_back() {
    watchdog::start();
    let cache = CacheOptions::new().block(BLOCK).limit(2 * BLOCK).build();
    let store = Slow::new([]);
    let file = cache.open_with(store.clone(), FileOptions::new().max_folio(BLOCK)).unwrap();
    let until = Until::new();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| until.each_time(|| file.sync_all().unwrap()));
        }
        let _done = until.done_at_end();
        thread::scope(|scope| {
            for thread in 0..2_u64 {
                let file = &file;
                scope.spawn(move || {
                    for turn in 0..2_000_u64 {
                        let pos = (2 * (turn % 7) + thread) * 5 * BLOCK as u64;
                        let bytes = vec![1 + thread as u8; 5 * BLOCK];
                        assert_eq!(file.write_at(&bytes, pos).unwrap(), bytes.len());
                    }
                });
            }
        });
    });
    file.sync_all().unwrap();
    for (at, part) in store.memory.contents().chunks(5 * BLOCK).enumerate() {
        assert_same(part, &[1 + at as u8 % 2; 5 * BLOCK], "a part");
    }
}
