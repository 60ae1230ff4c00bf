//! All of these operations, by several threads, on files whose bytes are known, in caches that are too small.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use faultin_cache::Error;
use faultin_cache::store::ReadRequest;

use super::gate::Gate;
use super::{BLOCK, block, cache, open};
use faultin_test::Random;

/// The byte at a position, in the version that was written last: each block has one version, which its first byte shows.
fn byte(version: u8, at: usize) -> u8 {
    if at.is_multiple_of(BLOCK) { version } else { version ^ (at * 7 + at / BLOCK) as u8 }
}

const BLOCKS: usize = 96;

/// Checks that each whole block of these bytes is of one version.
fn check(pos: usize, bytes: &[u8], what: &str) {
    let first = pos.next_multiple_of(BLOCK);
    for start in (first..pos + bytes.len()).step_by(BLOCK) {
        let part = &bytes[start - pos..bytes.len().min(start - pos + BLOCK)];
        let version = part[0];
        let wrong = part.iter().enumerate().position(|(at, &is)| is != byte(version, start + at));
        assert_eq!(wrong, None, "{what}: block {} of version {version}", start / BLOCK);
    }
}

#[test]
fn reads_of_all_kinds_see_each_block_as_it_is_before_or_after_a_write() {
    for blocks in [4, 32, 64, 200] {
        let all: Vec<u8> = (0..BLOCKS * BLOCK).map(|at| byte(0, at)).collect();
        let store = Gate::new(&all);
        store.state.at_hand.store(20 * BLOCK, SeqCst);
        let small = cache(blocks);
        let file = open(&small, Arc::clone(&store));
        thread::scope(|scope| {
            for thread in 0..4 {
                let (file, small) = (file.clone(), &small);
                scope.spawn(move || {
                    let random = Random::new(blocks as u64 * 10 + thread);
                    let below = |end: usize| random.below(end as u64) as usize;
                    for turn in 0..300 {
                        let start = below(BLOCKS);
                        match below(6) {
                            0 | 1 => {
                                let version = 1 + below(250) as u8;
                                let bytes: Vec<u8> =
                                    (start * BLOCK..(start + 1) * BLOCK).map(|at| byte(version, at)).collect();
                                assert_eq!(file.write_at(&bytes, block(start)).unwrap(), BLOCK);
                            }
                            2 => {
                                let mut bytes = vec![0; below(4 * BLOCK)];
                                let pos = below(BLOCKS * BLOCK);
                                let read = file.try_read_at(&mut bytes, pos as u64);
                                let done = match read {
                                    Ok(done) => done,
                                    Err(partial) if matches!(partial.error, Error::WouldBlock) => partial.done,
                                    Err(partial) => panic!("{partial}"),
                                };
                                check(pos, &bytes[..done], "try_read_at");
                            }
                            3 => {
                                let ranges: Vec<_> =
                                    (0..1 + below(6)).map(|_| (below(BLOCKS * BLOCK), below(40 * BLOCK))).collect();
                                let mut buffers: Vec<_> = ranges.iter().map(|&(_, len)| vec![0; len]).collect();
                                let mut reads: Vec<_> = ranges
                                    .iter()
                                    .zip(&mut buffers)
                                    .map(|(&(pos, _), bytes)| ReadRequest::new(pos as u64, bytes))
                                    .collect();
                                let results = file.read_many(&mut reads);
                                for ((&(pos, len), result), bytes) in ranges.iter().zip(results).zip(&buffers) {
                                    let ought = len.min(BLOCKS * BLOCK - pos);
                                    assert_eq!(result.unwrap(), ought);
                                    check(pos, &bytes[..ought], "read_many");
                                }
                            }
                            4 => {
                                file.prefetch(&[block(start)..block(start + below(10))]);
                            }
                            _ if turn % 4 == 0 => file.write_back(0..u64::MAX).unwrap(),
                            _ if turn % 4 == 1 => small.drop_clean(),
                            _ => {
                                let found = file.resident(block(start)..u64::MAX);
                                assert!(found.is_ok() || matches!(found, Err(Error::WouldBlock)));
                            }
                        }
                    }
                });
            }
        });
        let mut bytes = vec![0; BLOCKS * BLOCK];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        check(0, &bytes, "in the end");
    }
}
