//! A file that is truncated and extended while others read it.

use std::thread;

use faultin_cache::{CacheOptions, FileOptions};
use faultin_test::Random;

use crate::Until;
use crate::common::compare::assert_same;
use crate::common::watchdog;
use crate::slow::Slow;

const BLOCK: usize = 32;
const LEN: usize = 40 * BLOCK;

/// The only byte that is ever written at a position.
fn byte(pos: usize) -> u8 {
    (pos % 250) as u8 + 1
}

fn pattern(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(byte).collect()
}

#[test]
fn what_is_cut_off_never_comes_back() {
    watchdog::start();
    for limit in [4 * BLOCK, 1 << 16] {
        let cache = CacheOptions::new().block(BLOCK).limit(limit).build();
        let store = Slow::new(pattern(0..LEN));
        let file = cache.open_with(store.clone(), FileOptions::new().max_folio(4 * BLOCK)).unwrap();
        let until = Until::new();
        thread::scope(|scope| {
            for seed in 0..2 {
                let (file, until, cache) = (&file, &until, &cache);
                scope.spawn(move || {
                    let random = Random::new(seed);
                    until.each_time(|| {
                        let pos = random.below(LEN as u64) as usize;
                        let mut bytes = vec![0xff; 1 + random.below(200) as usize];
                        let read = file.read_at(&mut bytes, pos as u64).unwrap();
                        assert!(read <= LEN.saturating_sub(pos));
                        for (at, &is) in bytes[..read].iter().enumerate() {
                            assert!(is == 0 || is == byte(pos + at), "{is} at {}", pos + at);
                        }
                        assert!(bytes[read..].iter().all(|&byte| byte == 0xff), "behind the count");
                        match random.below(8) {
                            0 => cache.drop_clean(),
                            1 => file.sync_all().unwrap(),
                            2 => file.will_need(0..u64::MAX).unwrap(),
                            _ => {}
                        }
                    });
                });
            }
            let _done = until.done_at_end();
            let random = Random::new(77);
            let mut model = pattern(0..LEN);
            for _ in 0..5_000 {
                let at = random.below(LEN as u64) as usize;
                match random.below(4) {
                    0 => {
                        file.set_len(at as u64).unwrap();
                        model.resize(at, 0);
                    }
                    1 => {
                        file.set_len(LEN as u64).unwrap();
                        model.resize(LEN, 0);
                    }
                    2 => {
                        let end = (at + 150).min(model.len());
                        file.punch_hole(at as u64..at as u64 + 150).unwrap();
                        model[at.min(end)..end].fill(0);
                    }
                    _ => {
                        let part = at..(at + 1 + random.below(150) as usize).min(LEN);
                        file.write_at(&pattern(part.clone()), at as u64).unwrap();
                        model.resize(model.len().max(part.end), 0);
                        model[part.clone()].copy_from_slice(&pattern(part));
                    }
                }
                // No other thread changes it.
                let pos = random.below(LEN as u64) as usize;
                let mut bytes = vec![0xff; 300];
                let read = file.read_at(&mut bytes, pos as u64).unwrap();
                let from = pos.min(model.len());
                assert_same(&bytes[..read], &model[from..model.len().min(pos + 300)], "what the writer reads");
            }
            file.sync_all().unwrap();
            assert_same(&store.memory.contents(), &model, "in the store");
        });
    }
}
