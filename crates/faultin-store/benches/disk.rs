//! `cargo bench -p faultin-store --bench disk`: warm reads from the disk tier beside `pread` and the same checksum of the same bytes.
//!
//! A round reads a few blocks in each way, which takes less time than other programs get at once. The ways take turns in another order
//! each time, and have a file each, so that none finds in the processor's caches what another one has read. The ratio is the median of the
//! rounds' ratios.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use faultin_store::disk::{Disk, Key};
use faultin_test::Random;
use twox_hash::XxHash3_64;

const BLOCK: usize = 64 << 10;
const BLOCKS: u64 = 512;
const PASSES: usize = 41;

/// Number of blocks of a round.
const ROUND: usize = 16;

/// The largest ratio that meets the bound.
const BOUND: f64 = 1.2;

fn key(block: u64) -> Key {
    let start = block * BLOCK as u64;
    Key {
        object: "s3://bucket/path/to/an/object".into(),
        version: "\"9b2cf535f27731c974343645a3985328\"".into(),
        range: start..start + BLOCK as u64,
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // On the disk of the build directory: /tmp may be in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let plain = ["bare", "summed"].map(|name| {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).open(folder.path().join(name)).expect("a file")
    });
    let disk = Disk::open(folder.path().join("tier"), 2 * BLOCKS * BLOCK as u64).expect("a tier");
    let random = Random::new(1);
    for block in 0..BLOCKS {
        let bytes = random.bytes(BLOCK);
        plain.iter().for_each(|file| file.write_all_at(&bytes, block * BLOCK as u64).expect("written"));
        disk.put(key(block), bytes.into());
        assert!(disk.flush(Duration::from_secs(60)));
    }
    // What is not yet written would be written in the middle of the rounds.
    rustix::fs::sync();
    let mut order: Vec<u64> = (0..BLOCKS).collect();
    random.shuffle(&mut order);
    let keys: Vec<Key> = (0..BLOCKS).map(key).collect();
    let mut buf = vec![0; BLOCK];
    let pread =
        |file: usize, block: u64, buf: &mut [u8]| plain[file].read_exact_at(buf, block * BLOCK as u64).expect("read");
    let mut times = [const { Vec::new() }; 3];
    for (round, blocks) in (0..PASSES).flat_map(|_| order.chunks_exact(ROUND)).enumerate() {
        for way in (0..3).map(|way| (round + way) % 3) {
            let start = Instant::now();
            for &block in blocks {
                match way {
                    0 => pread(0, block, &mut buf),
                    1 => {
                        pread(1, block, &mut buf);
                        black_box(XxHash3_64::oneshot(&buf));
                    }
                    _ => assert_eq!(disk.get(&keys[block as usize], &mut buf), Some(BLOCK)),
                }
            }
            times[way].push(start.elapsed().as_secs_f64() / ROUND as f64 * 1e6);
        }
    }
    let [mut bare, mut summed, mut tier] = times;
    let mut ratios: Vec<f64> = tier.iter().zip(&summed).map(|(tier, summed)| tier / summed).collect();
    let ratio = median(&mut ratios);
    println!(
        "64 KiB: pread {:.2} us, with XXH3 {:.2} us, tier {:.2} us",
        median(&mut bare),
        median(&mut summed),
        median(&mut tier)
    );
    println!("a warm read from the disk tier takes {ratio:.3} of pread plus checksum (bound {BOUND})");
    let stats = disk.stats();
    assert_eq!((stats.misses, stats.late), (0, 0), "{stats:?}");
    if ratio > BOUND {
        std::process::exit(1);
    }
}
