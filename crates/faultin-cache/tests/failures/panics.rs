//! Stores and observers that panic: the file stays usable, no counted byte is lost, and no lock stays held.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin::{Fault, Short};
use faultin_cache::copy::NoWait;
use faultin_cache::store::MemoryStore;
use faultin_cache::write::{Decision, Observer, WriteLoop};
use faultin_cache::{Cache, CacheOptions, CachedFile, FileOptions};
use faultin_sim::{Action, Geometry, Permission, Sim};

use crate::common::compare::assert_same;
use crate::common::kernel_loops;
use crate::common::watchdog;
use crate::faulty::{Answer, Faulty, What};

const BLOCK: usize = 8;
const LEN: usize = 61;

const LOOPS: [WriteLoop; 5] = [
    WriteLoop::DEFAULT,
    kernel_loops::GENERIC_PERFORM_WRITE,
    kernel_loops::FUSE_FILL_WRITE_PAGES,
    kernel_loops::BTRFS_BUFFERED_WRITE,
    kernel_loops::F2FS_FILE_WRITE_ITER,
];

struct World {
    cache: Cache,
    file: CachedFile,
    store: Faulty,
    how: WriteLoop,
}

impl World {
    fn new(how: &WriteLoop, limit: usize) -> World {
        let cache = CacheOptions::new().block(BLOCK).limit(limit * BLOCK).build();
        let store = Faulty::new(MemoryStore::new(old()));
        let options = FileOptions::new().max_folio(4 * BLOCK).write_loop(how.clone());
        World { file: cache.open_with(store.clone(), options).unwrap(), cache, store, how: how.clone() }
    }

    /// All bytes of the file.
    fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0xee; self.file.len().expect("no lock is kept") as usize];
        assert_eq!(self.file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        bytes
    }

    /// After a panic: the readable bytes stay the same after eviction, and reach the store.
    fn check_soundness(self, what: &str) -> Vec<u8> {
        if self.how.reserve {
            assert_eq!(self.store.memory.reserved(), self.file.dirty(), "{what}");
        }
        let content = self.content();
        // What the store may have past the end does not become a part of the file.
        self.file.set_len(content.len() as u64 + 40).unwrap();
        assert_same(&self.content()[content.len()..], &[0; 40], &format!("{what}: after it has grown"));
        self.file.set_len(content.len() as u64).unwrap();
        self.cache.drop_clean();
        assert_same(&self.content(), &content, &format!("{what}: without what is clean"));
        // Every lock is free.
        self.file.write_at(&[99], 0).unwrap();
        self.file.punch_hole(0..1).unwrap();
        self.file.write_at(&content[..1], 0).unwrap();
        self.store.sync_at_last(&self.file, &content).unwrap();
        assert_eq!((self.file.dirty(), self.store.memory.reserved()), (0, 0), "{what}");
        assert_same(&self.store.memory.contents(), &content, &format!("{what}: in the store"));
        drop(self.file);
        assert_eq!(self.cache.used(), 0, "{what}");
        content
    }
}

fn old() -> Vec<u8> {
    (1..=LEN as u8).collect()
}

/// Each byte is an old one or, in this range, a new one; bytes past the old end are new ones or zeros.
fn is_mixture(content: &[u8], range: std::ops::Range<usize>, new: u8, what: &str) {
    assert!(content.len() >= LEN.min(range.start), "{what}: {} bytes", content.len());
    for (at, &byte) in content.iter().enumerate() {
        let was = old().get(at).copied().unwrap_or(0);
        assert!(byte == was || (range.contains(&at) && byte == new), "{what}: {byte} at {at}");
    }
}

fn caught<T>(f: impl FnOnce() -> T) -> std::thread::Result<T> {
    catch_unwind(AssertUnwindSafe(f))
}

#[test]
fn a_store_that_panics() {
    watchdog::start();
    type Op = (&'static str, std::ops::Range<usize>, u8, fn(&CachedFile));
    let ops: [Op; 9] = [
        ("write", 10..75, 200, |file| drop(file.write_at(&[200; 65], 10))),
        ("small write", 10..12, 200, |file| drop(file.write_at(&[200; 2], 10))),
        ("write of a buffer that ends", 30..74, 200, |file| {
            let sim = buffer();
            drop(file.write_iter(&mut IovSource::one(ReadSegment::Memory(sim.read_range(0..48))), 30))
        }),
        ("append", 61..90, 200, |file| drop(file.append(&[200; 29]))),
        ("read", 0..0, 0, |file| drop(file.read_at(&mut [0; 100], 0))),
        ("hole", 5..50, 0, |file| drop(file.punch_hole(5..50))),
        ("cut", 20..61, 0, |file| drop(file.set_len(20))),
        ("sync", 0..0, 0, |file| drop(file.sync_all())),
        ("direct write", 16..70, 200, |file| {
            drop(file.write_direct(&mut IovSource::<faultin::ReadView<'_>>::one(&[200; 54][..]), 16))
        }),
    ];
    let mut panics = 0;
    for how in &LOOPS {
        for (limit, warm) in [(1, false), (40, false), (40, true)] {
            for (name, range, new, op) in &ops {
                let answers = [Answer::Panic, Answer::PanicAfterwards];
                let mut panics_at = |nth: u64, answer: Answer| {
                    let world = World::new(how, limit);
                    // Dirty bytes from before.
                    world.file.write_at(&[40, 41], 39).unwrap();
                    if warm {
                        // Blocks that are uptodate, and some that are not.
                        world.file.read_at(&mut [0; 2], 30).unwrap();
                        world.file.read_at(&mut [0; 2], 55).unwrap();
                    }
                    let before = world.store.calls();
                    world.store.plan(move |call| if call.before == before + nth { answer } else { Answer::Do });
                    let result = caught(|| op(&world.file));
                    world.store.heal();
                    let what = format!("{how:?}, {limit} blocks, warm: {warm}, {name}: call {nth}, {answer:?}");
                    is_mixture(&world.content(), range.clone(), *new, &what);
                    world.check_soundness(&what);
                    panics += usize::from(result.is_err());
                    result.is_err()
                };
                for answer in answers {
                    _ = (0..).find(|&nth| !panics_at(nth, answer));
                }
            }
        }
    }
    assert!(panics > 100, "{panics} panics");
}

/// Panics at the `left`th notification.
struct Touchy {
    left: usize,
}

impl Touchy {
    fn told(&mut self) {
        self.left = self.left.checked_sub(1).unwrap_or_else(|| panic!("the observer panics"));
    }
}

impl Observer for Touchy {
    fn locked(&mut self) {
        self.told();
    }

    fn unlocked(&mut self) {
        self.told();
    }

    fn faulted_in(&mut self, _: usize, _: &Result<NonZeroUsize, Fault>) {
        self.told();
    }

    fn copied(&mut self, _: usize, _: &Result<usize, Short>) {
        self.told();
    }

    fn decided(&mut self, _: Decision) {
        self.told();
    }

    fn again(&mut self) -> ControlFlow<()> {
        self.told();
        ControlFlow::Continue(())
    }
}

/// Two pages of nines, neither of them resident, and an unmapped page.
fn buffer() -> Sim {
    let sim = Sim::new(Geometry::new(16, 4), 3);
    let mut state = sim.state();
    state.bytes_mut().fill(200);
    sim.restore(&state);
    sim.act(Action::Protect(44..48, Permission::Unmapped));
    (0..3).for_each(|page| sim.act(Action::Evict(page)));
    sim
}

#[test]
fn an_observer_that_panics_in_a_write() {
    watchdog::start();
    let mut panics = 0;
    for how in &LOOPS {
        for (limit, direct) in [(1, false), (40, false), (40, true)] {
            for warm in [false, true] {
                for left in 0.. {
                    let world = World::new(how, limit);
                    world.file.write_at(&[40, 41], 39).unwrap();
                    if warm {
                        world.content();
                    }
                    let sim = buffer();
                    let result = caught(|| {
                        let segment = ReadSegment::Memory(sim.read_range(0..48));
                        let (mut from, mut observer) = (IovSource::one(segment), Touchy { left });
                        if direct {
                            world.file.write_direct_with::<_, NoWait>(&mut from, 30, &mut observer)
                        } else {
                            world.file.write_iter_with::<_, NoWait>(&mut from, 30, &mut observer)
                        }
                    });
                    let what = format!("{how:?}, {limit} blocks, direct: {direct}, warm: {warm}, after {left}");
                    let content = world.content();
                    is_mixture(&content, 30..74, 200, &what);
                    // A prefix without gaps.
                    let written = content[30..].iter().take_while(|&&byte| byte == 200).count();
                    assert!(content[30 + written..].iter().all(|&byte| byte != 200), "{what}: {content:?}");
                    world.check_soundness(&what);
                    match result {
                        Ok(result) => {
                            assert_eq!((result.unwrap_err().done, written), (44, 44), "{what}");
                            break;
                        }
                        Err(_) => panics += 1,
                    }
                }
            }
        }
    }
    assert!(panics > 100, "{panics} panics");
}

#[test]
fn an_observer_that_panics_in_a_read() {
    watchdog::start();
    let mut panics = 0;
    for direct in [false, true] {
        for left in 0.. {
            let world = World::new(&WriteLoop::DEFAULT, 2);
            world.file.write_at(&[40, 41], 39).unwrap();
            let sim = buffer();
            let result = caught(|| {
                let mut to = IovDest::one(WriteSegment::Memory(sim.write_range(0..48)));
                let mut observer = Touchy { left };
                if direct {
                    world.file.read_direct_with::<_, NoWait>(&mut to, 10, &mut observer)
                } else {
                    world.file.read_iter_with::<_, NoWait>(&mut to, 10, &mut observer)
                }
            });
            let state = sim.state();
            let read = state.bytes().iter().take_while(|&&byte| byte != 200).count();
            assert_same(&state.bytes()[..read], &old()[10..10 + read], "read");
            assert!(state.bytes()[read..].iter().all(|&byte| byte == 200), "after {left}");
            assert_same(&world.check_soundness(&format!("after {left}")), &old(), "the file");
            match result {
                Ok(result) => {
                    assert_eq!((result.unwrap_err().done, read), (44, 44));
                    break;
                }
                Err(_) => panics += 1,
            }
        }
    }
    assert!(panics > 5, "{panics} panics");
}

#[test]
fn a_store_that_panics_while_its_cache_is_dropped_in_a_panic_does_not_end_the_process() {
    let store = Faulty::new(MemoryStore::new(old()));
    store.plan(|call| if call.what == What::Write { Answer::Panic } else { Answer::Do });
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let cache = CacheOptions::new().block(BLOCK).limit(4 * BLOCK).build();
        let file = cache.open(store.clone()).unwrap();
        file.write_at(b"x", 0).unwrap();
        // The file is dropped before its cache.
        let (_cache, _file) = (cache, file);
        panic!("another bug");
    }));
    assert!(panicked.is_err());
}
