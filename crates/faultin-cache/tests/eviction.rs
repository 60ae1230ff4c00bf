//! What the cache evicts: miss ratios beside exact simulations, scans, and many files. One thread, and the same in each run.

use std::sync::Arc;

use faultin_cache::{Advice, Cache, CacheOptions, CachedFile, FileOptions};
use faultin_test::eviction::{BLOCKS, Lru, Policy, ROOM, S3Fifo, Sieve, Zipf, miss_ratio, traces};
use faultin_test::{Random, Zeros};

const BLOCK: usize = 4096;

/// A file of zeros, read at random, and its store.
struct File {
    handle: CachedFile,
    store: Arc<Zeros>,
    buffer: Vec<u8>,
}

impl File {
    fn open(cache: &Cache, blocks: u64) -> File {
        let store = Arc::new(Zeros::new(blocks * BLOCK as u64));
        let handle = cache.open_with(Arc::clone(&store), FileOptions::new().max_folio(BLOCK)).unwrap();
        handle.advise(Advice::Random);
        File { handle, store, buffer: vec![0; BLOCK] }
    }

    /// Reads a block. Returns whether it was cached.
    fn hits(&mut self, block: u64) -> bool {
        self.hits_in_steps(block, BLOCK)
    }

    /// Reads a block in steps of `step` bytes.
    fn hits_in_steps(&mut self, block: u64, step: usize) -> bool {
        let before = self.store.reads();
        for at in (0..BLOCK).step_by(step) {
            let read = self.handle.read_at(&mut self.buffer[..step], block * BLOCK as u64 + at as u64).unwrap();
            assert_eq!(read, step);
        }
        self.store.reads() == before
    }
}

fn cache(blocks: usize) -> Cache {
    CacheOptions::new().block(BLOCK).limit(blocks * BLOCK).build()
}

/// On each trace the cache misses about as often as S3-FIFO itself does, and on those with a Zipf distribution no more often than SIEVE.
#[test]
fn miss_ratios_are_those_of_s3_fifo() {
    for trace in traces(300_000) {
        let simulated = |policy: &mut dyn Policy| miss_ratio(&trace.accesses, |block| policy.access(block));
        let sieve = simulated(&mut Sieve::new(ROOM));
        let s3_fifo = simulated(&mut S3Fifo::new(ROOM));
        let lru = simulated(&mut Lru::new(ROOM));
        let mut file = File::open(&cache(ROOM), 2 * u64::from(BLOCKS));
        let ours = miss_ratio(&trace.accesses, |block| file.hits(u64::from(block)));
        let says = format!("{}: ours {ours:.4}, S3-FIFO {s3_fifo:.4}, SIEVE {sieve:.4}, LRU {lru:.4}", trace.name);
        // Sixteen blocks are freed at once, and places are remembered longer: a loop feels the one and the other.
        let allowed = if trace.name.starts_with("a loop") { 0.05 } else { 0.006 };
        assert!(ours <= s3_fifo + allowed, "{says}");
        if trace.name.starts_with("Zipf") {
            assert!(ours <= sieve, "{says}");
        }
    }
}

/// A scan of eight times the cache, in steps of any size, does not evict blocks that are used again and again.
#[test]
fn a_scan_leaves_popular_blocks() {
    for step in [512, BLOCK] {
        let cache = cache(1_024);
        let (mut popular, mut scanned) = (File::open(&cache, 512), File::open(&cache, 8 * 1_024));
        let random = Random::new(1);
        // Until they are known to be popular: they come back after they were evicted, or are used while they are new.
        for block in 0..1_024 {
            popular.hits(random.below(512));
            popular.hits(random.below(512));
            scanned.hits(block);
        }
        let mut missed = 0;
        for block in 1_024..8 * 1_024 {
            scanned.hits_in_steps(block, step);
            missed += u32::from(!popular.hits(random.below(512)));
        }
        assert!(missed < 7 * 1_024 / 20, "{missed} of {} in steps of {step}", 7 * 1_024);
    }
}

/// Files with the same popularity have the same share of the cache, whichever was opened first, and a file that is read
/// once does not take theirs.
#[test]
fn many_files_share_fairly() {
    const FILES: u64 = 200;
    let cache = cache(1_000);
    let mut files: Vec<_> = (0..FILES).map(|_| File::open(&cache, 20)).collect();
    let random = Random::new(2);
    // Half of the blocks of each file are ten times as popular as the others.
    let access = |files: &mut [File], hits: Option<&mut [u64]>| {
        let file = random.below(FILES) as usize;
        let block = if random.below(11) < 10 { random.below(4) } else { 4 + random.below(16) };
        let hit = files[file].hits(block);
        if let Some(hits) = hits {
            hits[file] += u64::from(hit);
        }
    };
    for _ in 0..40_000 {
        access(&mut files, None);
    }
    let mut hits = [0; FILES as usize];
    for _ in 0..100_000 {
        access(&mut files, Some(&mut hits));
    }
    let (least, most) = (hits.iter().min().unwrap(), hits.iter().max().unwrap());
    // Each has 500 accesses, of which the 800 popular blocks are 455; the standard deviation is 22.
    assert!(*least > 300 && *most < 600, "{least} to {most}");
    let all: u64 = hits.iter().sum();
    assert!(all > 85_000, "{all}");
}

/// Closing a file frees its place for another one, whose blocks are not mistaken for the old ones.
#[test]
fn a_slot_that_is_used_again() {
    let cache = cache(64);
    let mut other = File::open(&cache, 1_000);
    for turn in 0..50 {
        let mut file = File::open(&cache, 100);
        for block in 0..100 {
            assert!(!file.hits(block), "turn {turn}: a new file has nothing cached");
            other.hits((turn * 7 + block) % 1_000);
        }
        assert!(cache.used() <= cache.limit());
    }
    drop(other);
    assert_eq!(cache.used(), 0);
}

/// The distribution of the traces is what its name says.
#[test]
fn the_first_blocks_of_zipf() {
    let numbers = Random::new(3);
    let zipf = Zipf::new(1_000, 1.0, &numbers);
    let mut counts = vec![0_u32; 1_000];
    for _ in 0..100_000 {
        counts[zipf.draw(&numbers) as usize] += 1;
    }
    counts.sort_unstable_by_key(|&count| std::cmp::Reverse(count));
    // The harmonic number of 1,000 is 7.485.
    for (rank, expected) in [(0, 13_359), (1, 6_680), (9, 1_336)] {
        assert!(counts[rank].abs_diff(expected) < expected / 10, "{rank}: {}", counts[rank]);
    }
}
