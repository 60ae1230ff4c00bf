//! The cost of reading shared memory: sealed, checked and unchecked, against `memcpy` from a raw mapping.
//!
//! `cargo run --release --example shared_cost`. Nanoseconds per call; medians of interleaved rounds.

use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::time::Instant;

use faultin::shared::ring::{Consumer, Producer, RingLayout};
use faultin::{
    map::{Rights, Watch},
    shared::{SharedMap, SharedOptions},
};

const LEN: usize = 1 << 20;
const ROUNDS: usize = 41;

/// Returns the medians of the time of each of `ways`, in nanoseconds, for `calls` calls in each round.
fn medians(calls: usize, ways: &mut [&mut dyn FnMut(usize)]) -> Vec<f64> {
    let mut taken = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for (way, taken) in ways.iter_mut().zip(&mut taken) {
            let start = Instant::now();
            (0..calls).for_each(&mut **way);
            taken.push(start.elapsed().as_nanos() as f64 / calls as f64);
        }
    }
    taken.iter_mut().for_each(|taken| taken.sort_by(f64::total_cmp));
    taken.iter().map(|taken| taken[ROUNDS / 2]).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let looked_at = SharedMap::create("looked at", LEN)?;
    looked_at.fill(.., 7)?;
    let unwatched = SharedOptions::new().watch(Watch::Nothing);
    let unwatched = unwatched.from_file(looked_at.try_clone_fd()?.into(), LEN, Rights::Read)?;
    let sealed = SharedOptions::new().seal_shrink().create("sealed", LEN)?;
    sealed.fill(.., 7)?;
    let fd = sealed.try_clone_fd()?;
    // SAFETY: a new mapping, which stays until the process ends, of a file that cannot be truncated and is not written to.
    let raw: &[u8] = unsafe {
        let raw = libc::mmap(std::ptr::null_mut(), LEN, libc::PROT_READ, libc::MAP_SHARED, fd.as_raw_fd(), 0);
        assert_ne!(raw, libc::MAP_FAILED);
        std::slice::from_raw_parts(raw.cast(), LEN)
    };

    println!(
        "{:>8} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "bytes", "raw", "sealed", "unwatched", "looked at", "sealed/raw"
    );
    for size in [64, 4 << 10, 64 << 10] {
        let (mut a, mut b, mut c, mut d) = (vec![0; size], vec![0; size], vec![0; size], vec![0; size]);
        let at = |i: usize| i * 8192 % (LEN - size);
        let taken = medians(
            (32 << 20) / (size + 4096),
            &mut [
                &mut |i| black_box(&mut a).copy_from_slice(&black_box(raw)[at(i)..at(i) + size]),
                &mut |i| assert!(sealed.read_at(black_box(&mut b), at(i) as u64).is_ok()),
                &mut |i| assert!(unwatched.read_at(black_box(&mut c), at(i) as u64).is_ok()),
                &mut |i| assert!(looked_at.read_at(black_box(&mut d), at(i) as u64).is_ok()),
            ],
        );
        print!("{size:>8}");
        taken.iter().for_each(|taken| print!(" {taken:>10.1}"));
        println!(" {:>12.2}", taken[1] / taken[0]);
    }

    let layout = RingLayout { head: 0, tail: 64, data: 128, entry: 16, capacity: 256 };
    let entries = [1; 16 * 16];
    let mut rings = Vec::new();
    for map in [&sealed, &looked_at] {
        map.fill(..128, 0)?;
        rings.push((Producer::new(map, layout)?, Consumer::new(map, layout)?));
    }
    let [(p, c), (q, d)] = &mut rings[..] else { return Ok(()) };
    let pass = |producer: &mut Producer<'_>, consumer: &mut Consumer<'_>| {
        let mut seen = [0; 16 * 16];
        assert!(producer.push(black_box(&entries)).is_ok_and(|count| count == 16));
        assert!(consumer.consume(black_box(&mut seen)).is_ok_and(|count| count == 16));
    };
    let taken = medians(10_000, &mut [&mut |_| pass(p, c), &mut |_| pass(q, d)]);
    println!("16 entries of 16 bytes through a ring: {:.1} sealed, {:.1} looked at", taken[0], taken[1]);
    Ok(())
}
