//! A fixed sequence of operations in which each call of the store fails once, and random sequences in which many fail.
//!
//! Whatever fails, exactly the counted bytes are in the file, and once the store works again it gets everything.

use std::sync::atomic::{AtomicBool, Ordering};

use faultin_cache::store::MemoryStore;
use faultin_cache::write::WriteLoop;
use faultin_cache::{Cache, CacheOptions, CachedFile, Error, FileOptions, Partial};
use faultin_test::Random;

use crate::common::compare::assert_same;
use crate::common::kernel_loops;
use crate::common::watchdog;
use crate::faulty::{Answer, Faulty, What};

const BLOCK: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Op {
    Write(u64, usize),
    Append(usize),
    Direct(u64, usize),
    Read(u64, usize),
    ReadDirect(u64, usize),
    SetLen(u64),
    PunchHole(u64, u64),
    WriteBack,
    DropClean,
    Sync,
}

/// A bit of everything, in a file of about ten blocks.
const SEQUENCE: [Op; 24] = [
    Op::Read(3, 30),
    Op::Write(5, 20),
    Op::Append(13),
    Op::WriteBack,
    Op::DropClean,
    Op::Write(1, 3),
    Op::PunchHole(4, 35),
    Op::SetLen(70),
    Op::Direct(60, 17),
    Op::ReadDirect(2, 80),
    Op::SetLen(41),
    Op::Write(50, 30),
    Op::PunchHole(45, 60),
    Op::Sync,
    Op::DropClean,
    Op::Write(14, 4),
    Op::SetLen(20),
    Op::SetLen(90),
    Op::Write(85, 3),
    Op::Read(0, 90),
    Op::Write(0, 64),
    Op::PunchHole(0, 90),
    Op::Append(9),
    Op::Sync,
];

struct World {
    cache: Cache,
    store: Faulty,
    file: CachedFile,
    model: Vec<u8>,
    turn: u8,
    how: WriteLoop,
}

impl World {
    fn new(limit: usize, how: &WriteLoop) -> World {
        let model: Vec<u8> = (1..=37).collect();
        let store = Faulty::new(MemoryStore::new(model.clone()));
        let cache = CacheOptions::new().block(BLOCK).limit(limit * BLOCK).build();
        let options = FileOptions::new().max_folio(4 * BLOCK).write_loop(how.clone());
        let file = cache.open_with(store.clone(), options).unwrap();
        World { cache, store, file, model, turn: 0x40, how: how.clone() }
    }

    fn apply(&mut self, op: Op) {
        self.turn = if self.turn == 0xdf { 0x40 } else { self.turn + 1 };
        let bytes = |len| vec![self.turn; len];
        match op {
            Op::Write(pos, len) => {
                let result = self.file.write_at(&bytes(len), pos);
                self.wrote(pos as usize, len, result, false);
            }
            Op::Append(len) => {
                let result = self.file.append(&bytes(len));
                self.wrote(self.model.len(), len, result, false);
            }
            Op::Direct(pos, len) => {
                let from = bytes(len);
                let mut from = faultin::iov::IovSource::<faultin::ReadView<'_>>::one(&from[..]);
                let result = self.file.write_direct(&mut from, pos);
                self.wrote(pos as usize, len, result, true);
            }
            Op::Read(pos, len) => {
                let mut to = vec![0; len];
                let result = self.file.read_at(&mut to, pos);
                self.has_read(pos, &to, result);
            }
            Op::ReadDirect(pos, len) => {
                let mut to = vec![0; len];
                let mut iov = faultin::iov::IovDest::<faultin::WriteView<'_>>::one(&mut to[..]);
                let result = self.file.read_direct(&mut iov, pos);
                self.has_read(pos, &to, result);
            }
            Op::SetLen(len) => match self.file.set_len(len) {
                Ok(()) => self.model.resize(len as usize, 0),
                Err(error) => self.is_the_stores(&error),
            },
            Op::PunchHole(start, end) => {
                let range = (start as usize).min(self.model.len())..(end as usize).min(self.model.len());
                match self.file.punch_hole(start..end) {
                    Ok(()) => self.model[range].fill(0),
                    // A part of the range may be zeros.
                    Err(error) => {
                        self.is_the_stores(&error);
                        self.adopt(range, 0);
                    }
                }
            }
            Op::WriteBack => drop(self.file.write_back(0..u64::MAX).map_err(|error| self.is_the_stores(&error))),
            Op::DropClean => self.cache.drop_clean(),
            Op::Sync => drop(self.file.sync_all().map_err(|error| self.is_the_stores(&error))),
        }
        assert_eq!(self.file.len().unwrap(), self.model.len() as u64, "{op:?}");
        assert!(self.file.dirty() <= self.cache.used() as u64, "{} of {}", self.file.dirty(), self.cache.used());
        if self.how.reserve {
            assert_eq!(self.store.memory.reserved(), self.file.dirty(), "{op:?}");
        }
    }

    fn is_the_stores(&self, error: &Error) {
        let is = matches!(error, Error::Store(_) | Error::Lost { .. } | Error::Full { store: Some(_), .. });
        assert!(is, "{error:?}");
        assert!(matches!(error.errno(), Some(libc::EIO | libc::ENOSPC)), "{error:?}");
    }

    fn wrote(&mut self, pos: usize, len: usize, result: Result<usize, Partial>, direct: bool) {
        let done = match &result {
            Ok(done) => *done,
            Err(partial) => {
                self.is_the_stores(&partial.error);
                partial.done
            }
        };
        assert_eq!(done == len, result.is_ok(), "{result:?}");
        if done > 0 {
            self.model.resize(self.model.len().max(pos + done), 0);
            self.model[pos..pos + done].fill(self.turn);
        }
        if direct && done < len {
            // Which part of a failed write the store has done is unknown.
            let end = self.model.len().min(pos + len);
            self.adopt((pos + done).min(end)..end, self.turn);
        }
    }

    /// Accepts the range's old bytes or `byte`.
    fn adopt(&mut self, range: std::ops::Range<usize>, byte: u8) {
        let content = self.content();
        for at in range {
            assert!(content[at] == self.model[at] || content[at] == byte, "at {at}: {}", content[at]);
            self.model[at] = content[at];
        }
    }

    fn has_read(&self, pos: u64, to: &[u8], result: Result<usize, Partial>) {
        let done = result.unwrap_or_else(|partial| {
            self.is_the_stores(&partial.error);
            partial.done
        });
        let from = self.model.len().min(pos as usize);
        assert_same(&to[..done], &self.model[from..from + done], "read");
        assert!(to[done..].iter().all(|&byte| byte == 0), "behind the count");
    }

    fn content(&self) -> Vec<u8> {
        self.store.at_peace(|| {
            let mut bytes = vec![0; self.model.len()];
            assert_eq!(self.file.read_at(&mut bytes, 0).unwrap(), bytes.len());
            bytes
        })
    }

    /// Heals the store and checks that it gets everything.
    fn finish(self, what: &str) {
        assert_same(&self.content(), &self.model, what);
        self.store.heal();
        // Earlier failures have still to be reported.
        self.store.sync_at_last(&self.file, &self.model).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((self.file.dirty(), self.store.memory.reserved()), (0, 0), "{what}");
        assert_same(&self.store.memory.contents(), &self.model, what);
        drop(self.file);
        assert_eq!(self.cache.used(), 0, "{what}");
    }
}

const LOOPS: [WriteLoop; 5] = [
    WriteLoop::DEFAULT,
    kernel_loops::GENERIC_PERFORM_WRITE,
    kernel_loops::FUSE_FILL_WRITE_PAGES,
    kernel_loops::BTRFS_BUFFERED_WRITE,
    kernel_loops::F2FS_FILE_WRITE_ITER,
];

#[test]
fn each_call_of_the_store_fails_once() {
    watchdog::start();
    let failures = [Answer::Fail(libc::EIO), Answer::Fail(libc::ENOSPC), Answer::FailHalfway(libc::EIO)];
    for (how, limit, look) in LOOPS.iter().flat_map(|how| [(how, 2, false), (how, 64, true), (how, 64, false)]) {
        let mut calls = u64::MAX;
        for nth in 0.. {
            if nth > calls {
                break;
            }
            for failure in failures {
                let mut world = World::new(limit, how);
                world.store.plan(move |call| if call.before == nth { failure } else { Answer::Do });
                for op in SEQUENCE {
                    world.apply(op);
                    if look {
                        assert_same(&world.content(), &world.model, &format!("{how:?}: {failure:?} at {nth}, {op:?}"));
                    }
                }
                calls = world.store.calls();
                world.finish(&format!("{how:?}: {failure:?} at {nth}"));
            }
        }
        assert!((20..1000).contains(&calls), "{calls} calls");
    }
}

#[test]
fn random_calls_fail() {
    watchdog::start();
    for seed in 0..30_000 {
        let random = Random::new(seed);
        let how = &LOOPS[seed as usize % LOOPS.len()];
        let mut world = World::new(1 + random.below(12) as usize, how);
        let often = 2 + random.below(8);
        let dice = Random::new(random.next());
        let halfway = AtomicBool::new(false);
        world.store.plan(move |call| {
            // What cannot be undone past the end of the file stays there.
            let undoes = halfway.swap(false, Ordering::Relaxed) && call.what == What::SetLen;
            match dice.below(4 * often) {
                _ if undoes => Answer::Do,
                0..2 => Answer::Fail(libc::EIO),
                2 => {
                    halfway.store(call.what == What::Write, Ordering::Relaxed);
                    Answer::FailHalfway(libc::ENOSPC)
                }
                3 => Answer::Short(1 + dice.below(8) as usize),
                _ => Answer::Do,
            }
        });
        for _ in 0..20 {
            let (pos, len) = (random.below(100), 1 + random.below(40));
            world.apply(match random.below(14) {
                0..5 => Op::Write(pos, len as usize),
                5 => Op::Append(len as usize),
                6 => Op::Direct(pos, len as usize),
                7 => Op::Read(pos, len as usize),
                8 => Op::ReadDirect(pos, len as usize),
                9 => Op::SetLen(pos),
                10 => Op::PunchHole(pos, pos + len),
                11 => Op::WriteBack,
                12 => Op::DropClean,
                _ => Op::Sync,
            });
        }
        world.finish(&format!("seed {seed}, {how:?}"));
    }
}
