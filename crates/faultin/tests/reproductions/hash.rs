//! BLAKE3 issue 488: b3sum hashes a mapped file with many threads, and the file is truncated. ([`faultin sum`] is the
//! command; this is how it reads.)
//!
//! [`faultin sum`]: https://docs.rs/faultin-cli

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use faultin::{MapError, MapOptions, map::Watch};

use crate::file::{Place, ROUNDS, Step, cut, judge, meanwhile, text};
use crate::naive;

const THREADS: usize = 4;
const PIECE: u64 = 32 << 10;

/// A sum that depends on each byte and its place (FNV-1a of each piece; the pieces are added).
fn sum_of(piece: &[u8], at: u64) -> u64 {
    piece.iter().fold(0xcbf2_9ce4_8422_2325 ^ at, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn sum_of_all(text: &[u8]) -> u64 {
    let pieces = text.chunks(PIECE as usize).zip((0..).step_by(PIECE as usize));
    pieces.map(|(piece, at)| sum_of(piece, at)).fold(0, u64::wrapping_add)
}

/// The sum of a file, or the first error in it. Threads take pieces as they become free.
fn sum(path: &Path, step: &mut Step) -> Result<u64, MapError> {
    let map = MapOptions::new().watch(Watch::Contents).open(path)?;
    let (next, sum) = (AtomicU64::new(0), AtomicU64::new(0));
    let (step, first): (_, Mutex<Option<MapError>>) = (Mutex::new(step), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut piece = vec![0; PIECE as usize];
                loop {
                    let at = next.fetch_add(PIECE, Ordering::Relaxed);
                    if at >= map.len() {
                        return;
                    }
                    match map.read_at(&mut piece, at) {
                        Ok(len) => sum.fetch_add(sum_of(&piece[..len], at), Ordering::Relaxed),
                        Err(error) => {
                            let mut first = first.lock().expect("nobody panics");
                            if first.as_ref().is_none_or(|first| error.offset() < first.offset()) {
                                *first = Some(error);
                            }
                            return;
                        }
                    };
                    step.lock().expect("nobody panics")();
                }
            });
        }
    });
    match first.into_inner().expect("nobody panics") {
        Some(error) => Err(error),
        None => map.verify().map(|()| sum.into_inner()),
    }
}

#[test]
fn blake3_488() {
    naive::dies("hash::blake3_488", |text, path| {
        let half = text.len() / 2;
        println!("{:x}", sum_of_all(&text[..half]));
        cut(path, half / 2);
        std::thread::scope(|scope| {
            scope.spawn(|| println!("{:x}", sum_of_all(&text[half..])));
        });
    });
    let (place, text) = (Place::new(), text());
    let whole = sum_of_all(&text);
    assert_eq!(sum(&place.file(&text), &mut || ()).expect("nobody cuts it"), whole);
    let pieces = text.len().div_ceil(PIECE as usize);
    let mut met = 0;
    for round in 0..ROUNDS {
        let path = place.file(&text);
        match meanwhile(round, round * pieces / ROUNDS, &path, text.len(), |step| sum(&path, step)) {
            Ok(sum) => assert_eq!(sum, whole, "round {round}: the sum of a file that never was"),
            Err(error) => {
                met += 1;
                judge(round, &error, Some(&path), text.len());
            }
        }
    }
    assert!(met >= ROUNDS / 2, "{met}");
}
