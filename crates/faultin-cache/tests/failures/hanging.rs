//! Stores that hang: operations that need them wait, and other files stay usable.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use faultin::ReadView;
use faultin::iov::IovSource;
use faultin_cache::store::MemoryStore;
use faultin_cache::{Cache, CacheOptions, CachedFile, FileOptions};

use crate::common::compare::assert_same;
use crate::common::watchdog;
use crate::faulty::{Answer, Faulty, What};

const BLOCK: usize = 16;

fn cache(blocks: usize) -> Cache {
    watchdog::start();
    CacheOptions::new().block(BLOCK).limit(blocks * BLOCK).build()
}

fn open(cache: &Cache, bytes: &[u8]) -> (CachedFile, Faulty) {
    let store = Faulty::new(MemoryStore::new(bytes));
    (cache.open_with(store.clone(), FileOptions::new().max_folio(BLOCK)).unwrap(), store)
}

/// Makes calls of this kind hang. The receiver gets a message for each; dropping the sender releases all.
fn hang(store: &Faulty, what: What) -> (Receiver<u64>, Sender<()>) {
    let (tell, told) = mpsc::channel();
    let (release, wait) = mpsc::channel::<()>();
    let (tell, wait) = (Mutex::new(tell), Arc::new(Mutex::new(wait)));
    store.plan(move |call| {
        if call.what == what {
            let _ = tell.lock().unwrap().send(call.pos);
            // Nothing is ever sent: this returns when the sender is dropped.
            let _ = wait.lock().unwrap().recv();
        }
        Answer::Do
    });
    (told, release)
}

/// Uses all operations of a file in a cache with hardly any memory left.
fn use_thoroughly(cache: &Cache, file: &CachedFile, store: &Faulty) {
    let bytes: Vec<u8> = (0..40 * BLOCK).map(|at| (at % 255) as u8).collect();
    for pos in [0, 5] {
        file.write_at(&bytes, pos).unwrap();
        let mut is = vec![0; bytes.len()];
        assert_eq!(file.read_at(&mut is, pos).unwrap(), is.len());
        assert_same(&is, &bytes, "read");
        file.punch_hole(3..90).unwrap();
        file.write_at(&bytes, pos).unwrap();
    }
    file.sync_all().unwrap();
    cache.drop_clean();
    assert_same(&store.memory.contents()[5..], &bytes, "stored");
}

#[test]
fn a_write_that_hangs_is_nothing_to_other_files() {
    let cache = cache(4);
    let (file, store) = open(&cache, &[]);
    file.write_at(&[1; 4 * BLOCK], 0).unwrap();
    let (told, release) = hang(&store, What::Write);
    thread::scope(|scope| {
        let syncing = scope.spawn(|| file.sync_all());
        told.recv().unwrap();
        // The file whose store hangs holds all memory.
        let (other, other_store) = open(&cache, &[]);
        use_thoroughly(&cache, &other, &other_store);
        // It can also be read.
        let mut bytes = [0; 2 * BLOCK];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        assert_eq!(bytes, [1; 2 * BLOCK]);
        assert!(cache.used() <= cache.limit() + 2 * BLOCK);
        drop(release);
        syncing.join().unwrap().unwrap();
    });
    assert_eq!((store.memory.contents(), file.dirty()), (vec![1; 4 * BLOCK], 0));
}

#[test]
fn a_read_that_hangs_is_nothing_to_other_files_and_to_what_is_cached() {
    let cache = cache(4);
    let (file, store) = open(&cache, &[7; 8 * BLOCK]);
    let mut bytes = [0; BLOCK];
    file.read_at(&mut bytes, 0).unwrap();
    let (told, release) = hang(&store, What::Read);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut bytes = [0; BLOCK];
            file.read_at(&mut bytes, 4 * BLOCK as u64).map(|count| (count, bytes))
        });
        assert_eq!(told.recv().unwrap(), 4 * BLOCK as u64);
        let (other, other_store) = open(&cache, &[]);
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [7; BLOCK]);
        file.write_at(&[8; BLOCK], 0).unwrap();
        assert_eq!(file.len().unwrap(), 8 * BLOCK as u64);
        use_thoroughly(&cache, &other, &other_store);
        drop(release);
        assert_eq!(reading.join().unwrap().unwrap(), (BLOCK, [7; BLOCK]));
    });
}

/// Bytes that are overwritten during a read: the reader gets the old or the new ones, and afterwards only the new ones.
#[test]
fn what_was_read_too_late_is_not_kept() {
    for forget in [false, true] {
        let cache = cache(4);
        let (file, store) = open(&cache, &[7; 8 * BLOCK]);
        let (told, release) = hang(&store, What::Read);
        thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut bytes = [0; BLOCK];
                file.read_at(&mut bytes, 4 * BLOCK as u64).map(|count| (count, bytes))
            });
            told.recv().unwrap();
            file.write_at(&[8; BLOCK], 4 * BLOCK as u64).unwrap();
            if forget {
                file.sync_all().unwrap();
                cache.drop_clean();
            }
            drop(release);
            let (count, bytes) = reading.join().unwrap().unwrap();
            assert!((count, bytes) == (BLOCK, [8; BLOCK]), "{bytes:?}");
        });
        let mut bytes = [0; BLOCK];
        file.read_at(&mut bytes, 4 * BLOCK as u64).unwrap();
        assert_eq!(bytes, [8; BLOCK]);
    }
}

/// Operations that change the store directly leave no stale folio.
#[test]
fn what_was_read_before_a_cut_a_hole_or_a_direct_write_is_not_kept() {
    const AT: u64 = 4 * BLOCK as u64;
    type Change = fn(&CachedFile);
    let changes: [(&str, Change, u8); 3] = [
        ("cut", |file| [3, 8 * BLOCK as u64].into_iter().for_each(|len| file.set_len(len).unwrap()), 0),
        ("hole", |file| file.punch_hole(AT..AT + BLOCK as u64).unwrap(), 0),
        (
            "direct write",
            |file| {
                let mut from = IovSource::<ReadView<'_>>::one(&[9; BLOCK][..]);
                assert_eq!(file.write_direct(&mut from, AT).unwrap(), BLOCK);
            },
            9,
        ),
    ];
    for (name, change, ought) in changes {
        let cache = cache(4);
        let (file, store) = open(&cache, &[7; 8 * BLOCK]);
        let (told, release) = hang(&store, What::Read);
        thread::scope(|scope| {
            let reading = scope.spawn(|| file.read_at(&mut [0; BLOCK], AT));
            told.recv().unwrap();
            change(&file);
            drop(release);
            assert_eq!(reading.join().unwrap().unwrap(), BLOCK);
        });
        let mut bytes = [1; BLOCK];
        file.read_at(&mut bytes, AT).unwrap();
        assert_eq!(bytes, [ought; BLOCK], "{name}");
    }
}

/// Each thread that waits for the store has one block, the only memory beyond the limit.
#[test]
fn reads_that_hang_have_a_block_each() {
    const READERS: usize = 6;
    let cache = cache(0);
    let (file, store) = open(&cache, &[7; 20 * BLOCK]);
    let (told, release) = hang(&store, What::Read);
    thread::scope(|scope| {
        let read = |block: usize| {
            let file = &file;
            move || {
                let mut bytes = [0; BLOCK];
                assert_eq!(file.read_at(&mut bytes, (block * BLOCK) as u64).unwrap(), BLOCK);
                assert_eq!(bytes, [7; BLOCK]);
            }
        };
        for block in 0..READERS {
            scope.spawn(read(2 * block));
        }
        assert_eq!(told.iter().take(READERS).count(), READERS);
        file.write_at(&[8; 8 * BLOCK], 12 * BLOCK as u64).unwrap();
        assert!(cache.used() <= (2 + READERS) * BLOCK, "{}", cache.used());
        drop(release);
    });
    assert!(cache.used() <= (2 + READERS) * BLOCK, "{}", cache.used());
    // The next caller that needs memory reclaims the excess.
    file.read_at(&mut [0; BLOCK], BLOCK as u64).unwrap();
    assert!(cache.used() <= 2 * BLOCK, "{}", cache.used());
}
