//! The loops of the cache that belong to no row, explored like the rows: the default write, appending, reading, and both
//! directions past the cache. Every setting of a row is explored in `explore.rs`.

use std::io;
use std::sync::Arc;

use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin::memory::{ReadMemory, WriteMemory};
use faultin_audit::Variant;
use faultin_audit::caller::{Caller, Code, Ended, Halt, Job};
use faultin_audit::expect::Ends::With;
use faultin_audit::expect::{Expected, Moved};
use faultin_audit::explore::{Bound, explore};
use faultin_audit::log::{Log, Stuck};
use faultin_audit::user::{Object, Registers, Scale, User};
use faultin_cache::copy::NoWait;
use faultin_cache::store::{MemoryStore, Store};
use faultin_cache::write::{Observer, WriteLoop};
use faultin_cache::{CacheOptions, CachedFile, Error, FileOptions, Partial};

const BLOCK: usize = 4;
/// The store's unit.
const UNIT: usize = 2;
/// The position of the write or read: not at a block's beginning.
const POS: usize = 10;
/// The end of the file, within that.
const END: usize = 21;

/// Returns the initial contents of the file.
fn before() -> Vec<u8> {
    (0..END as u8).map(|byte| byte ^ 0x80).collect()
}

/// A store with a unit.
struct Units(MemoryStore);

impl Store for Units {
    fn alignment(&self) -> usize {
        UNIT
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        assert_eq!((buf.len() % UNIT, pos % UNIT as u64), (0, 0), "a read that is not of units");
        self.0.read_at(buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        assert_eq!((buf.len() % UNIT, pos % UNIT as u64), (0, 0), "a write that is not of units");
        self.0.write_at(buf, pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.0.sync(data_only)
    }
}

/// Ends the loop where the log sees it repeat itself, and logs its locks.
struct Looker<'a, 'l>(&'a mut Log<'l>, Option<Stuck>);

impl Observer for Looker<'_, '_> {
    fn locked(&mut self) {
        self.0.lock("the inode");
    }

    fn unlocked(&mut self) {
        self.0.unlock("the inode");
    }

    fn faulted_in(&mut self, len: usize, result: &Result<std::num::NonZeroUsize, faultin::Fault>) {
        self.0.accessed("fault-in", len, result);
    }

    fn copied(&mut self, len: usize, result: &Result<usize, faultin::Short>) {
        self.0.copied("copy", len, &result.map(drop));
    }

    fn again(&mut self) -> std::ops::ControlFlow<()> {
        self.1 = self.0.again().err();
        if self.1.is_some() { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    }
}

fn open() -> io::Result<(CachedFile, Arc<Units>)> {
    let store = Arc::new(Units(MemoryStore::new(before())));
    // Two folios of two blocks, so that something is always being evicted.
    let cache = CacheOptions::new().block(BLOCK).limit(4 * BLOCK).build();
    let options = FileOptions::new().max_folio(2 * BLOCK).write_loop(WriteLoop::DEFAULT);
    Ok((cache.open_with(Arc::clone(&store), options)?, store))
}

fn ended(result: Result<usize, Partial>, stuck: Option<Stuck>, all: usize) -> Result<(usize, &'static str), Halt> {
    if let Some(stuck) = stuck {
        return Err(Halt::Stuck(stuck));
    }
    match result {
        Ok(moved) if moved == all => Ok((moved, "ok")),
        Ok(moved) => Err(Halt::Machine(io::Error::other(format!("{moved} of {all} bytes, and no reason")))),
        Err(Partial { done: 0, error: Error::Fault(_) | Error::NoProgress(_) }) => Ok((0, "EFAULT")),
        Err(Partial { done, error: Error::Fault(_) | Error::NoProgress(_) }) => Ok((done, "short")),
        Err(Partial { error: Error::Deadlock(_), .. }) => Err(Halt::Stuck(Stuck::Deadlock)),
        Err(Partial { error, .. }) => Err(Halt::Machine(error.into())),
    }
}

/// Checks that the file is `before` with `moved` at `pos`, in the cache and in the store.
fn check(file: &CachedFile, store: &Units, pos: usize, moved: &[u8]) -> Result<(), String> {
    let mut expected = before();
    expected.resize(END.max(pos + moved.len()), 0);
    expected[pos..pos + moved.len()].copy_from_slice(moved);
    let mut cached = vec![0; expected.len() + 1];
    let read = file.read_at(&mut cached, 0).map_err(|partial| partial.to_string())?;
    if cached[..read] != expected {
        return Err(format!("in the cache {:?}, where {expected:?} must be", &cached[..read]));
    }
    file.sync_all().map_err(|error| error.to_string())?;
    if store.0.contents() != expected {
        return Err(format!("in the store {:?}, where {expected:?} must be", store.0.contents()));
    }
    Ok(())
}

/// Returns the segments of the list: with an empty one.
fn cuts(len: usize) -> [std::ops::Range<usize>; 3] {
    [0..len / 3, len / 3..len / 3, len / 3..len]
}

#[derive(Clone, Copy)]
enum Write {
    Default,
    Append,
    Direct,
}

/// A loop that writes to the file.
struct Writes(Write);

/// A loop that reads the file to the user; past the cache, or not.
struct Reads {
    direct: bool,
}

const EXPECTED: [Expected; 2] = [Expected::new([
    (With("ok", Moved::All), "every byte can be accessed"),
    (With("short", Moved::Accessible), "some can"),
    (With("EFAULT", Moved::Nothing), "none can"),
]); 2];

fn object() -> Object {
    Object::new((1..=14).collect(), 6).with_tail(10).with_restart(6)
}

impl Code for Writes {
    fn object<R: Registers>(&self, _: Scale) -> Object {
        object()
    }

    fn run<U: User>(&self, _: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let (file, store) = open()?;
        let buffer = user.source()?;
        let parts = cuts(buffer.len()).map(|cut| ReadSegment::Memory(buffer.subslice(cut).expect("within")));
        let mut from = IovSource::new(&parts);
        // Something is in the cache already, and dirty.
        file.write_at(&before()[POS..POS + 3], POS as u64).map_err(io::Error::from)?;
        let mut looker = Looker(log, None);
        let (pos, result) = match self.0 {
            Write::Default => (POS, file.write_iter_with::<_, NoWait>(&mut from, POS as u64, &mut looker)),
            Write::Append => (END, file.append_iter_with::<_, NoWait>(&mut from, &mut looker)),
            Write::Direct => (POS, file.write_direct_with::<_, NoWait>(&mut from, POS as u64, &mut looker)),
        };
        let (moved, status) = ended(result, looker.1, buffer.len())?;
        let mut product = check(&file, &store, pos, &user.contents()?[..moved]);
        if from.moved() != moved {
            product = Err(format!("the position moved by {}, the count says {moved}", from.moved()));
        }
        Ok(Ended { status, moved, product })
    }

    fn attempts_per_event(&self) -> usize {
        2
    }
}

impl Code for Reads {
    fn object<R: Registers>(&self, _: Scale) -> Object {
        // The previous contents of the user's memory differ from the bytes read.
        Object { bytes: vec![0x77; object().len()], ..object() }
    }

    fn run<U: User>(&self, _: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let (file, store) = open()?;
        file.write_at(&[0xee; 3], POS as u64 + 2).map_err(io::Error::from)?;
        let mut expected = before();
        expected[POS + 2..POS + 5].fill(0xee);
        let buffer = user.dest()?;
        let len = buffer.len();
        let mut parts = cuts(len).map(|cut| WriteSegment::Memory(buffer.subslice(cut).expect("within")));
        let mut to = IovDest::new(&mut parts);
        let mut looker = Looker(log, None);
        let result = match self.direct {
            false => file.read_iter_with::<_, NoWait>(&mut to, POS as u64, &mut looker),
            true => file.read_direct_with::<_, NoWait>(&mut to, POS as u64, &mut looker),
        };
        let (moved, status) = ended(result, looker.1, END - POS)?;
        let contents = user.contents()?;
        let right = contents[..moved] == expected[POS..POS + moved] && contents[moved..].iter().all(|&b| b == 0x77);
        let mut product = if right { Ok(()) } else { Err(format!("{moved} bytes read: {contents:?}")) };
        if to.moved() != moved {
            product = Err(format!("the position moved by {}, the count says {moved}", to.moved()));
        }
        let kept = check(&file, &store, POS + 2, &[0xee; 3]);
        Ok(Ended { status, moved, product: product.and(kept) })
    }

    fn attempts_per_event(&self) -> usize {
        2
    }
}

fn nothing_is_wrong_with(name: &'static str, stores: bool, job: &'static dyn Job) {
    let caller = Caller { name, place: "cache", stores, expected: &EXPECTED, job: Some(job), ..Caller::NOT_YET };
    let found = explore(&caller, job, Variant::Fixed, Bound::TESTS, None, |_| {});
    let findings: String = found.findings.iter().map(|finding| format!("{finding}\n")).collect();
    assert!(found.findings.is_empty() && found.exhausted, "{name}: {:?}\n{findings}", found.figures);
    assert!(found.figures.states > 10_000, "{name}: {:?}", found.figures);
}

#[test]
fn the_default_write_has_no_finding() {
    nothing_is_wrong_with("write", false, &Writes(Write::Default));
}

#[test]
fn appending_has_no_finding() {
    nothing_is_wrong_with("append", false, &Writes(Write::Append));
}

#[test]
fn writing_past_the_cache_has_no_finding() {
    nothing_is_wrong_with("direct write", false, &Writes(Write::Direct));
}

#[test]
fn reading_has_no_finding() {
    nothing_is_wrong_with("read", true, &Reads { direct: false });
}

#[test]
fn reading_past_the_cache_has_no_finding() {
    nothing_is_wrong_with("direct read", true, &Reads { direct: true });
}
