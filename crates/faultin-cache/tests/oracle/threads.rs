//! Writers, with threads that sync and evict what they write, at limits without spare memory: no operation may fail for
//! lack of memory that can be reclaimed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use faultin_cache::store::MemoryStore;
use faultin_cache::{CacheOptions, CachedFile, FileOptions};

use faultin_test::Random;

/// The approximate maximum length of a file in bytes.
const LONG: u64 = 10_000;

/// Writes, punches, truncates and reads a file that no other thread changes; returns the expected bytes.
fn work(file: &CachedFile, seed: u64, rounds: u64) -> Vec<u8> {
    let mut model = Vec::new();
    for round in 0..rounds {
        let at = (round * 7919 + seed) % LONG;
        let bytes = Random::new(seed + round).bytes(1 + (round * 31 % 3000) as usize);
        let end = at as usize + bytes.len();
        assert_eq!(file.write_at(&bytes, at).unwrap(), bytes.len());
        if model.len() < end {
            model.resize(end, 0);
        }
        model[at as usize..end].copy_from_slice(&bytes);
        if round % 7 == 0 {
            let hole = at / 2..at / 2 + 777;
            file.punch_hole(hole.clone()).unwrap();
            let to = model.len().min(hole.end as usize);
            model[(hole.start as usize).min(to)..to].fill(0);
        }
        if round % 11 == 0 {
            file.set_len(at).unwrap();
            model.resize(at as usize, 0);
        }
        if round % 5 == 0 {
            let mut read = vec![0; model.len()];
            assert_eq!(file.read_at(&mut read, 0).unwrap(), model.len());
            assert!(read == model, "round {round}");
        }
    }
    model
}

#[test]
fn who_syncs_and_who_evicts_take_no_memory_from_writers() {
    let _serial = crate::serial();
    let rounds = if cfg!(target_arch = "x86_64") { 1500 } else { 100 };
    for (block, blocks) in [(64, 0), (64, 3), (512, 4), (4096, 2)] {
        let cache = CacheOptions::new().block(block).limit(blocks * block).build();
        let stores = [0, 1].map(|_| Arc::new(MemoryStore::new([])));
        let options = FileOptions::new().max_folio(4 * block);
        let files = [0, 1].map(|index| cache.open_with(Arc::clone(&stores[index]), options.clone()).unwrap());
        let done = AtomicBool::new(false);
        let models = thread::scope(|scope| {
            let writers = [0, 1].map(|index| {
                let file = files[index].clone();
                scope.spawn(move || work(&file, 1000 * index as u64, rounds))
            });
            for file in &files {
                let (file, done, cache) = (file.clone(), &done, &cache);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        file.sync_all().unwrap();
                        cache.drop_clean();
                    }
                });
            }
            let models = writers.map(thread::ScopedJoinHandle::join);
            done.store(true, Ordering::Relaxed);
            models.map(|model| model.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        for (index, model) in models.iter().enumerate() {
            files[index].sync_all().unwrap();
            assert!(&stores[index].contents() == model, "file {index}, blocks of {block}");
        }
    }
}
