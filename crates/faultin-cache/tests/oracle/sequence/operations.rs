//! Operations and their expected results.

use std::ops::Range;
use std::sync::Arc;

use faultin::Access;
use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin_cache::copy::{MayWait, NoWait};
use faultin_cache::write::FaultIn;
use faultin_cache::{Advice, CachedFile, Error, Partial};
use faultin_sim::{SimRead, SimWrite};

use super::memory::{self, Memory};
use super::store::Picky;
use super::{Source, Tally, World};

/// The approximate maximum length of a file in bytes.
const LONG: usize = 200;

/// An operation.
#[derive(Clone, Debug)]
pub enum Operation {
    Write {
        way: Way,
        pos: usize,
        segments: Vec<Range<usize>>,
        may_wait: bool,
        seed: u8,
    },
    Read {
        way: Way,
        pos: usize,
        segments: Vec<Range<usize>>,
        may_wait: bool,
    },
    SetLen(usize),
    PunchHole(Range<usize>),
    Sync {
        data_only: bool,
    },
    SyncCache,
    WriteBack(Range<usize>),
    DropClean,
    DontNeed(Range<usize>),
    WillNeed(Range<usize>),
    Advise(Advice),
    /// Reads the file through the cache.
    Look,
    /// Closes the file and opens it again.
    Reopen,
    /// Changes the memory.
    Spoil,
    Heal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Buffered,
    Direct,
    Append,
}

impl Operation {
    pub fn new(source: &mut Source<'_>, len: usize) -> Operation {
        match source.below(40) {
            0..=13 => Operation::Write {
                way: source.one_of(&[Way::Buffered, Way::Buffered, Way::Buffered, Way::Direct, Way::Append]),
                pos: position(source, len),
                segments: segments(source),
                may_wait: source.once_in(2),
                seed: source.byte(),
            },
            14..=21 => Operation::Read {
                way: source.one_of(&[Way::Buffered, Way::Buffered, Way::Direct]),
                pos: position(source, len),
                segments: segments(source),
                may_wait: source.once_in(2),
            },
            22..=23 => Operation::SetLen(position(source, len)),
            24..=26 => Operation::PunchHole(source.range(LONG)),
            27..=28 => Operation::Sync { data_only: source.once_in(2) },
            29 => Operation::SyncCache,
            30 => Operation::WriteBack(source.range(LONG)),
            31 => Operation::DropClean,
            32 => Operation::DontNeed(source.range(LONG)),
            33 => Operation::WillNeed(source.range(LONG)),
            34 => Operation::Advise(source.one_of(&[Advice::Normal, Advice::Sequential, Advice::Random])),
            35 => Operation::Reopen,
            36 => Operation::Spoil,
            37 => Operation::Heal,
            _ => Operation::Look,
        }
    }
}

fn position(source: &mut Source<'_>, len: usize) -> usize {
    match source.below(4) {
        0 => len,
        1 => len.saturating_add_signed(source.below(32) as isize - 16),
        _ => source.below(LONG),
    }
}

/// Parts of the memory, in any order, empty and overlapping ones among them.
fn segments(source: &mut Source<'_>) -> Vec<Range<usize>> {
    (0..source.below(4)).map(|_| source.range(memory::LEN)).collect()
}

fn bytes_in(segments: &[Range<usize>]) -> usize {
    segments.iter().map(ExactSizeIterator::len).sum()
}

/// The number of accessible bytes at the beginning of a list.
fn good_bytes(memory: &Memory, segments: &[Range<usize>], access: Access) -> usize {
    segments.iter().cloned().flatten().take_while(|&at| memory.is_good(access, at)).count()
}

/// A running operation on file number `index`, and which of the store's calls failed during it.
pub struct Doing<'a> {
    pub world: &'a mut World,
    pub index: usize,
    failures_before: u32,
}

impl<'a> Doing<'a> {
    pub fn new(world: &'a mut World, index: usize) -> Doing<'a> {
        let failures_before = world.failures();
        Doing { world, index, failures_before }
    }

    fn file(&self) -> &CachedFile {
        &self.world.files[self.index].file
    }

    fn store(&self) -> &Picky {
        &self.world.files[self.index].store
    }

    fn model(&mut self) -> &mut Vec<u8> {
        &mut self.world.files[self.index].model
    }

    /// Whether a store has failed during the operation: then the user's memory need not be the cause.
    fn has_failed(&self) -> bool {
        self.world.failures() > self.failures_before
    }

    /// # Errors
    /// The difference from the expected result.
    pub fn run(&mut self, operation: &Operation, source: &mut Source<'_>, tally: &mut Tally) -> Result<(), String> {
        match operation {
            Operation::Write { way, pos, segments, may_wait, seed } => {
                self.world.memory.fill(*seed);
                let (moved, wanted) = self.write(*way, *pos, segments, *may_wait)?;
                tally.count(moved, wanted);
            }
            Operation::Read { way, pos, segments, may_wait } => {
                let (moved, wanted) = self.read(*way, *pos, segments, *may_wait)?;
                tally.count(moved, wanted);
            }
            Operation::SetLen(len) => {
                let result = self.file().set_len(*len as u64);
                if self.settled(result)? {
                    self.model().resize(*len, 0);
                }
            }
            Operation::PunchHole(range) => self.punch_hole(range.clone())?,
            Operation::Sync { data_only } => self.sync(*data_only)?,
            Operation::SyncCache => {
                match self.world.cache.sync() {
                    Err(Error::Lost { .. }) if self.world.failed_syncs() > 0 => (),
                    result => drop(self.settled(result)?),
                }
                if !self.has_failed() {
                    self.world.files.iter().try_for_each(|file| file.is_stored())?;
                }
            }
            Operation::WriteBack(range) => {
                let result = self.file().write_back(range.start as u64..range.end as u64);
                self.settled(result)?;
            }
            Operation::DropClean => self.world.cache.drop_clean(),
            Operation::DontNeed(range) => {
                let result = self.file().dont_need(range.start as u64..range.end as u64);
                result.map_err(|error| error.to_string())?;
            }
            Operation::WillNeed(range) => {
                let result = self.file().will_need(range.start as u64..range.end as u64);
                self.settled(result)?;
            }
            Operation::Advise(advice) => self.file().advise(*advice),
            Operation::Look => self.look()?,
            Operation::Reopen => self.world.reopen(self.index)?,
            Operation::Spoil => self.world.memory.spoil(source),
            Operation::Heal => self.world.memory.heal(),
        }
        tally.failed += u64::from(self.has_failed());
        Ok(())
    }

    /// Whether it succeeded. It must not fail unless a store does.
    fn settled(&self, result: Result<(), Error>) -> Result<bool, String> {
        match result {
            Ok(()) => Ok(true),
            Err(Error::Store(_) | Error::Full { .. }) if self.has_failed() => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// How many of `total` bytes were moved with a list whose first `good` bytes are accessible.
    fn moved(&self, result: Result<usize, Partial>, good: usize, total: usize, exact: bool) -> Result<usize, String> {
        let said = format!("{result:?}, where {good} of {total} bytes are good");
        let (done, error) = match result {
            Ok(done) => (done, None),
            Err(partial) => (partial.done, Some(partial.error)),
        };
        let right = match error {
            None => done == total && good >= total,
            Some(Error::Fault(_)) if good < total => done == good || (!exact || self.has_failed()) && done < good,
            Some(Error::Store(_) | Error::Full { .. }) => self.has_failed() && done <= good.min(total),
            Some(_) => false,
        };
        if right { Ok(done) } else { Err(said) }
    }

    fn write(
        &mut self,
        way: Way,
        pos: usize,
        segments: &[Range<usize>],
        may_wait: bool,
    ) -> Result<(usize, usize), String> {
        let memory = &self.world.memory;
        let list: Vec<_> =
            segments.iter().map(|range| ReadSegment::Memory(memory.sim.read_range(range.clone()))).collect();
        let mut from = IovSource::<SimRead>::new(&list);
        let (file, at) = (self.file(), pos as u64);
        let result = match (way, may_wait) {
            (Way::Buffered, true) => file.write_iter_with::<_, MayWait>(&mut from, at, &mut ()),
            (Way::Buffered, false) => file.write_iter_with::<_, NoWait>(&mut from, at, &mut ()),
            (Way::Direct, true) => file.write_direct_with::<_, MayWait>(&mut from, at, &mut ()),
            (Way::Direct, false) => file.write_direct_with::<_, NoWait>(&mut from, at, &mut ()),
            (Way::Append, true) => file.append_iter_with::<_, MayWait>(&mut from, &mut ()),
            (Way::Append, false) => file.append_iter_with::<_, NoWait>(&mut from, &mut ()),
        };
        let total = bytes_in(segments);
        let exact = self.world.write_loop.fault_in != FaultIn::BeforeAll;
        let done = self.moved(result, good_bytes(memory, segments, Access::Read), total, exact)?;
        if from.moved() != done {
            return Err(format!("{done} bytes are written, and the list is at {}", from.moved()));
        }
        let bytes = memory.bytes();
        let model = self.model();
        let pos = if way == Way::Append { model.len() } else { pos };
        if done > 0 && model.len() < pos + done {
            model.resize(pos + done, 0);
        }
        for (offset, at) in segments.iter().cloned().flatten().take(done).enumerate() {
            model[pos + offset] = bytes[at];
        }
        Ok((done, total))
    }

    fn read(
        &mut self,
        way: Way,
        pos: usize,
        segments: &[Range<usize>],
        may_wait: bool,
    ) -> Result<(usize, usize), String> {
        let memory = &self.world.memory;
        let mut expected = memory.bytes();
        let mut list: Vec<_> =
            segments.iter().map(|range| WriteSegment::Memory(memory.sim.write_range(range.clone()))).collect();
        let mut to = IovDest::<SimWrite>::new(&mut list);
        let (file, at) = (self.file(), pos as u64);
        let result = match (way, may_wait) {
            (Way::Direct, true) => file.read_direct_with::<_, MayWait>(&mut to, at, &mut ()),
            (Way::Direct, false) => file.read_direct_with::<_, NoWait>(&mut to, at, &mut ()),
            (_, true) => file.read_iter_with::<_, MayWait>(&mut to, at, &mut ()),
            (_, false) => file.read_iter_with::<_, NoWait>(&mut to, at, &mut ()),
        };
        let model = &self.world.files[self.index].model;
        let total = bytes_in(segments).min(model.len().saturating_sub(pos));
        let done = self.moved(result, good_bytes(memory, segments, Access::Write), total, true)?;
        if to.moved() != done {
            return Err(format!("{done} bytes are read, and the list is at {}", to.moved()));
        }
        for (offset, at) in segments.iter().cloned().flatten().take(done).enumerate() {
            expected[at] = model[pos + offset];
        }
        super::same("the memory", &memory.bytes(), &expected)?;
        Ok((done, total))
    }

    fn punch_hole(&mut self, range: Range<usize>) -> Result<(), String> {
        let result = self.file().punch_hole(range.start as u64..range.end as u64);
        let whole = self.settled(result)?;
        let end = range.end.min(self.model().len());
        let part = range.start.min(end)..end;
        if whole {
            self.model()[part].fill(0);
            return Ok(());
        }
        // A part of it may be zeros.
        self.world.fail_after(None);
        let bytes = self.world.files[self.index].contents()?;
        for at in part {
            let byte = bytes.get(at).copied().unwrap_or(1);
            if byte == 0 {
                self.model()[at] = 0;
            }
        }
        Ok(())
    }

    fn sync(&mut self, data_only: bool) -> Result<(), String> {
        let result = if data_only { self.file().sync_data() } else { self.file().sync_all() };
        let failures = self.store().failures();
        let file = &mut self.world.files[self.index];
        let unseen = failures > std::mem::replace(&mut file.failures_seen, failures);
        match result {
            Ok(()) if self.has_failed() => Err("a sync succeeds of which a call of the store has failed".into()),
            Ok(()) => self.world.files[self.index].is_stored(),
            Err(Error::Store(_)) if unseen && self.has_failed() => Ok(()),
            // Reported late: the call that failed has succeeded now.
            Err(Error::Store(_)) if unseen => self.world.files[self.index].is_stored(),
            // What a failed sync may have lost is reported until it is written again. (This store loses nothing.)
            Err(Error::Lost { .. }) if self.has_failed() => Ok(()),
            Err(Error::Lost { .. }) if self.store().failed_syncs() > 0 => self.world.files[self.index].is_stored(),
            Err(error) => Err(error.to_string()),
        }
    }

    fn look(&mut self) -> Result<(), String> {
        let mut bytes = vec![0xa5; self.model().len()];
        let result = self.file().read_at(&mut bytes, 0);
        let done = self.moved(result, bytes.len(), bytes.len(), true)?;
        super::same("the file, read through the cache,", &bytes[..done], &self.model()[..done])
    }
}

/// A file and its expected bytes.
pub struct Party {
    pub file: CachedFile,
    pub store: Arc<Picky>,
    pub model: Vec<u8>,
    /// Failed calls of the store that a sync has reported or could have reported.
    pub failures_seen: u32,
}

impl Party {
    /// All bytes, read past the cache, which does not change it.
    pub fn contents(&self) -> Result<Vec<u8>, String> {
        let len = self.file.len().map_err(|error| error.to_string())?;
        let mut bytes = vec![0xa5; len as usize];
        let mut to = IovDest::<SimWrite>::one(&mut *bytes);
        match self.file.read_direct(&mut to, 0) {
            Ok(read) if read as u64 == len => Ok(bytes),
            other => Err(format!("{other:?} of {len} bytes are read")),
        }
    }

    /// Checks that the store has everything.
    pub fn is_stored(&self) -> Result<(), String> {
        if self.file.dirty() > 0 {
            return Err(format!("{} bytes are dirty", self.file.dirty()));
        }
        super::same("the store", &self.store.contents(), &self.model)
    }
}
