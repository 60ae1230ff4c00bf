//! A file of a cache, the expected bytes, and operations on both.

use std::ops::Range;

use faultin::Access;
use faultin::iov::{IovDest, IovSource};
use faultin_cache::copy::{MayWait, NoWait};
use faultin_cache::store::MemoryStore;
use faultin_cache::write::WriteLoop;
use faultin_cache::{Advice, Cache, CacheOptions, CachedFile, Error, FileOptions, Partial};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::buffer::Buffer;
use crate::common::compare::first_difference;
use crate::common::stores::{Manner, Picky};
use crate::loops::may_lose;

/// Sizes and the properties of the store.
#[derive(Clone, Debug)]
pub struct Setting {
    pub block: usize,
    /// In blocks.
    pub limit: usize,
    /// In blocks.
    pub max_folio: usize,
    pub how: WriteLoop,
    pub manner: Manner,
    pub seed: u64,
    /// The initial length of the store in bytes.
    pub len: usize,
}

/// How a buffer is written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Cached,
    /// For writes; reads are [`Cached`](Self::Cached).
    Append,
    Direct,
}

#[derive(Clone, Debug)]
pub enum Op {
    Write { way: Way, pos: u64, buffer: Buffer, wait: bool },
    Read { way: Way, pos: u64, buffer: Buffer, wait: bool },
    ReadAll,
    SetLen(u64),
    PunchHole(Range<u64>),
    WriteBack(Range<u64>),
    WillNeed(Range<u64>),
    DontNeed(Range<u64>),
    Advise(Advice),
    DropClean,
    SyncAll,
    SyncData,
    SyncCache,
    Clone,
    Close,
    Reopen,
}

pub struct World {
    setting: Setting,
    cache: Cache,
    pub store: Picky,
    files: Vec<CachedFile>,
    pub model: Vec<u8>,
    turn: usize,
}

/// The byte in recycled folios; no test writes it.
pub const STALE: u8 = 0xee;

/// A cache whose memory was used completely and is full of [`STALE`].
pub fn used_cache(block: usize, limit: usize) -> Cache {
    let cache = CacheOptions::new().block(block).limit(limit).build();
    let options = FileOptions::new().max_folio(block);
    let file = cache.open_with(MemoryStore::new([]), options).expect("a store in memory");
    file.write_at(&vec![STALE; limit], 0).expect("it fits");
    assert_eq!(cache.used(), limit);
    drop(file);
    assert_eq!(cache.used(), 0);
    cache
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 0xdf) as u8 + 1).collect()
}

impl World {
    pub fn new(setting: &Setting) -> World {
        let model = content(setting.len);
        let cache = used_cache(setting.block, setting.limit * setting.block);
        let store = Picky::new(MemoryStore::new(model.clone()), setting.manner, setting.seed);
        let mut world = World { setting: setting.clone(), cache, store, files: Vec::new(), model, turn: 0 };
        world.open();
        world
    }

    fn open(&mut self) {
        let Setting { block, max_folio, how, .. } = &self.setting;
        let options = FileOptions::new().max_folio(block * max_folio).write_loop(how.clone());
        self.files.push(self.cache.open_with(self.store.clone(), options).expect("nothing is wrong with it"));
    }

    pub fn file(&self) -> &CachedFile {
        &self.files[self.turn % self.files.len()]
    }

    /// Runs an operation and checks its results.
    pub fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        self.turn += 1;
        match op {
            Op::Write { way, pos, buffer, wait } => self.write(*way, *pos, buffer, *wait)?,
            Op::Read { way, pos, buffer, wait } => self.read(*way, *pos, buffer, *wait)?,
            Op::ReadAll => self.read_all()?,
            Op::SetLen(len) => {
                must(self.file().set_len(*len))?;
                self.model.resize(*len as usize, 0);
            }
            Op::PunchHole(range) => {
                must(self.file().punch_hole(range.clone()))?;
                let len = self.model.len();
                self.model[len.min(range.start as usize)..len.min(range.end as usize)].fill(0);
            }
            Op::WriteBack(range) => must(self.file().write_back(range.clone()))?,
            Op::WillNeed(range) => must(self.file().will_need(range.clone()))?,
            Op::DontNeed(range) => must(self.file().dont_need(range.clone()))?,
            Op::Advise(advice) => self.file().advise(*advice),
            Op::DropClean => {
                self.cache.drop_clean();
                let dirty = self.file().dirty();
                prop_assert!(dirty > 0 || self.cache.used() == 0, "{} bytes of clean folios stay", self.cache.used());
            }
            Op::SyncAll => must(self.file().sync_all())?,
            Op::SyncData => must(self.file().sync_data())?,
            Op::SyncCache => must(self.cache.sync())?,
            Op::Clone => self.files.push(self.file().clone()),
            Op::Close => {
                let at = self.turn % self.files.len();
                self.files.swap_remove(at);
                if self.files.is_empty() {
                    self.closed()?;
                    self.open();
                }
            }
            Op::Reopen => {
                self.files.clear();
                self.closed()?;
                self.open();
            }
        }
        if matches!(op, Op::SyncAll | Op::SyncData | Op::SyncCache) {
            prop_assert_eq!(self.file().dirty(), 0);
            self.stored()?;
        }
        self.is_within_bounds()
    }

    /// Checks the final state.
    pub fn finish(mut self) -> Result<(), TestCaseError> {
        self.read_all()?;
        self.files.clear();
        self.closed()
    }

    fn is_within_bounds(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.store.first_wrong(), None, "asked of the store");
        let (file, used) = (self.file(), self.cache.used());
        prop_assert_eq!(must(file.len())?, self.model.len() as u64);
        let beyond = 2 * self.setting.max_folio * self.setting.block;
        prop_assert!(used <= self.cache.limit() + beyond, "{used} bytes used, the limit is {}", self.cache.limit());
        prop_assert!(file.dirty() <= used as u64, "{} dirty bytes in {used}", file.dirty());
        if self.setting.how.reserve {
            prop_assert_eq!(self.store.memory.reserved(), file.dirty());
        }
        Ok(())
    }

    /// Checks the state after the file was closed.
    fn closed(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.cache.used(), 0);
        prop_assert_eq!(self.store.memory.reserved(), 0);
        self.stored()
    }

    fn stored(&self) -> Result<(), TestCaseError> {
        let contents = self.store.memory.contents();
        prop_assert_eq!(first_difference(&contents, &self.model), None, "in the store");
        Ok(())
    }

    fn read_all(&self) -> Result<(), TestCaseError> {
        let mut bytes = vec![STALE; self.model.len() + 3];
        let count = must(self.file().read_at(&mut bytes, 0))?;
        prop_assert_eq!(&bytes[count..], [STALE; 3], "behind the end");
        prop_assert_eq!(first_difference(&bytes[..count], &self.model), None, "of the file");
        Ok(())
    }

    fn write(&mut self, way: Way, pos: u64, buffer: &Buffer, wait: bool) -> Result<(), TestCaseError> {
        let made = buffer.make(self.turn);
        let segments = made.read_segments();
        let mut from = IovSource::new(&segments);
        let file = self.file();
        let result = match (way, wait) {
            (Way::Cached, true) => file.write_iter_with::<_, MayWait>(&mut from, pos, &mut ()),
            (Way::Cached, false) => file.write_iter_with::<_, NoWait>(&mut from, pos, &mut ()),
            (Way::Append, true) => file.append_iter_with::<_, MayWait>(&mut from, &mut ()),
            (Way::Append, false) => file.append_iter_with::<_, NoWait>(&mut from, &mut ()),
            (Way::Direct, true) => file.write_direct_with::<_, MayWait>(&mut from, pos, &mut ()),
            (Way::Direct, false) => file.write_direct_with::<_, NoWait>(&mut from, pos, &mut ()),
        };
        let done = count(&result);
        prop_assert_eq!((from.moved(), from.count()), (done, made.len() - done), "where the list stands");
        let good = made.accessible(Access::Read);
        let least = match may_lose(&self.setting.how, self.setting.block) {
            Some(lost) if buffer.is_quiet() => good.saturating_sub(lost),
            _ => 0,
        };
        prop_assert!((least..=good).contains(&done), "{done} bytes written, of {least} to {good}: {result:?}");
        let is_exact = least == good;
        let is_right = match &result {
            Ok(_) => done == made.len(),
            Err(Partial { error: Error::Fault(_), .. }) => done < made.len(),
            Err(Partial { error: Error::NoProgress(_), .. }) => done < made.len() && !is_exact,
            Err(_) => false,
        };
        prop_assert!(is_right, "{} bytes, of which {good} are good: {result:?}", made.len());
        if done > 0 {
            let start = if way == Way::Append { self.model.len() } else { pos as usize };
            self.model.resize(self.model.len().max(start + done), 0);
            self.model[start..start + done].copy_from_slice(&made.bytes()[..done]);
        }
        Ok(())
    }

    fn read(&mut self, way: Way, pos: u64, buffer: &Buffer, wait: bool) -> Result<(), TestCaseError> {
        let mut made = buffer.make(self.turn);
        let (good, places) = (made.accessible(Access::Write), made.places.clone());
        let (mut plain, sim) = (made.plain.clone(), made.sim.clone());
        let mut state = sim.state();
        let mut segments = made.write_segments();
        let mut to = IovDest::new(&mut segments);
        let file = self.file();
        let result = match (way, wait) {
            (Way::Direct, true) => file.read_direct_with::<_, MayWait>(&mut to, pos, &mut ()),
            (Way::Direct, false) => file.read_direct_with::<_, NoWait>(&mut to, pos, &mut ()),
            (_, true) => file.read_iter_with::<_, MayWait>(&mut to, pos, &mut ()),
            (_, false) => file.read_iter_with::<_, NoWait>(&mut to, pos, &mut ()),
        };
        let done = count(&result);
        prop_assert_eq!((to.moved(), to.count()), (done, places.len() - done), "where the list stands");
        let there = places.len().min(self.model.len().saturating_sub(pos as usize));
        let most = good.min(there);
        let least = if buffer.is_quiet() { most } else { 0 };
        prop_assert!((least..=most).contains(&done), "{done} bytes read, of {least} to {most}: {result:?}");
        let is_right = match &result {
            Ok(_) => done == there,
            Err(Partial { error: Error::Fault(_), .. }) => done < there,
            Err(Partial { error: Error::NoProgress(_), .. }) => done < there && !buffer.is_quiet(),
            Err(_) => false,
        };
        prop_assert!(is_right, "{there} bytes to be had, {good} are good: {result:?}");
        // The bytes read are in their places, and nothing else has changed.
        for (index, &(whose, at)) in places[..done].iter().enumerate() {
            let byte = self.model[pos as usize + index];
            match whose {
                Some(whose) => plain[whose][at] = byte,
                None => state.bytes_mut()[at] = byte,
            }
        }
        prop_assert_eq!(&made.plain, &plain);
        prop_assert_eq!(first_difference(sim.state().bytes(), state.bytes()), None, "in the buffer");
        Ok(())
    }
}

/// For operations that cannot fail while the store works.
fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, TestCaseError> {
    result.map_err(|error| TestCaseError::fail(format!("refused: {error}")))
}

fn count(result: &Result<usize, Partial>) -> usize {
    match result {
        Ok(done) => *done,
        Err(partial) => partial.done,
    }
}
