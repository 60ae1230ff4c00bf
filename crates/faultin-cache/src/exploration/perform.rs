//! The operations of a script, and the expected outcome of each.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::rc::Rc;

use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin::{ReadView, Short, WriteView};

use super::Found;
use super::memory::BAD;
use super::script::{Op, Part};
use super::world::{File, World, pattern};
use crate::copy::MayWait;
use crate::error::{Error, Partial};
use crate::file::CachedFile;
use crate::pager::Mapping;
use crate::store::ReadRequest;
use crate::write::Observer;

/// What a read writes to.
type Dest<'s, 'b> = IovDest<'s, 'b, WriteView<'b>>;

/// The value of a byte that no operation may touch.
const UNTOUCHED: u8 = 0xe7;

impl Op {
    pub(super) fn uses_mapping_of(&self, file: usize) -> bool {
        let is_of = |part: &Part| match part {
            Part::Map { file: of, .. } | Part::Pieces { file: of, .. } => *of == file,
            Part::Plain(_) | Part::Bad { .. } => false,
        };
        matches!(self, Op::Touch { file: of, .. } if *of == file) || self.parts().iter().any(is_of)
    }
}

/// A part of a buffer; the bytes of a mapping are in the file.
#[derive(Clone, Debug)]
enum Piece {
    Plain(usize),
    Bad { good: usize },
    Map { file: usize, range: Range<usize> },
}

/// A buffer.
#[derive(Debug)]
struct Buffer {
    pieces: Vec<Piece>,
    len: usize,
    /// Number of bytes before the first bad one.
    good: usize,
}

/// The maximum cost of an operation.
#[derive(Debug, Default)]
struct Bound {
    /// Number of pages of the buffer, blocks of the file, and segments.
    units: usize,
    /// Number of bytes of each file's blocks that it concerns.
    bytes: [usize; 2],
}

impl Bound {
    fn about(&mut self, file: usize, range: &Range<usize>, page: usize) {
        if !range.is_empty() {
            let blocks = range.end.div_ceil(page) - range.start / page;
            self.units += blocks;
            self.bytes[file] += blocks * page;
        }
    }
}

/// Counts attempts. Each is a moment.
struct Looks<'w>(&'w World);

impl Observer for Looks<'_> {
    fn copied(&mut self, _: usize, _: &Result<usize, Short>) {
        self.0.attempts.set(self.0.attempts.get() + 1);
        self.0.moment();
    }
}

impl World {
    /// Makes the buffer of an operation, with the current lengths of the files: a part of a mapping ends where the file
    /// does.
    fn buffer(&self, parts: &[Part]) -> Buffer {
        let within = |file: usize, at: usize, len: usize| {
            let mapped = self.file(file).mapping.as_ref().map_or(0, Mapping::len);
            let end = self.models[file].borrow().len().min(mapped);
            Piece::Map { file, range: at.min(end)..at.saturating_add(len).min(end) }
        };
        let mut pieces = Vec::new();
        for part in parts {
            match *part {
                Part::Plain(len) => pieces.push(Piece::Plain(len)),
                Part::Bad { good } => pieces.push(Piece::Bad { good: good.min(self.page) }),
                Part::Map { file, at, len } => pieces.push(within(file, at, len)),
                Part::Pieces { file, count, len } => {
                    pieces.extend((0..count).map(|index| within(file, index * self.page, len)));
                }
            }
        }
        let len = |piece: &Piece| match piece {
            Piece::Plain(len) => *len,
            Piece::Bad { good } => good + BAD,
            Piece::Map { range, .. } => range.len(),
        };
        let bad = pieces.iter().position(|piece| matches!(piece, Piece::Bad { .. }));
        let all = pieces.iter().map(len).sum();
        let good = bad.map_or(all, |bad| pieces[..=bad].iter().map(len).sum::<usize>() - BAD);
        Buffer { len: all, good, pieces }
    }

    /// Returns the accessible bytes of a buffer.
    fn bytes(&self, buffer: &Buffer, plain: &[Vec<u8>]) -> Vec<u8> {
        let mut plain = plain.iter();
        let mut bytes = Vec::new();
        for piece in &buffer.pieces {
            match piece {
                Piece::Plain(_) => bytes.extend(plain.next().expect("one for each")),
                Piece::Bad { good } => bytes.extend([self.faulting.good(*good), vec![0; BAD]].concat()),
                Piece::Map { file, range } => bytes.extend(&self.models[*file].borrow()[range.clone()]),
            }
        }
        bytes.truncate(buffer.good);
        bytes
    }

    fn plain(&self, buffer: &Buffer, byte: impl Fn(usize) -> u8) -> Vec<Vec<u8>> {
        let of = |piece: &Piece| match piece {
            Piece::Plain(len) => Some((0..*len).map(&byte).collect()),
            _ => None,
        };
        buffer.pieces.iter().filter_map(of).collect()
    }

    /// Returns whether the buffer and a part of a file are the same bytes.
    fn overlaps(buffer: &Buffer, file: usize, range: &Range<usize>) -> bool {
        buffer.pieces.iter().any(|piece| match piece {
            Piece::Map { file: of, range: part } => *of == file && part.start < range.end && range.start < part.end,
            _ => false,
        })
    }

    fn bound(&self, buffer: &Buffer, file: usize, range: Range<usize>) -> Bound {
        let mut bound = Bound::default();
        bound.about(file, &range, self.page);
        for piece in &buffer.pieces {
            bound.units += 1;
            match piece {
                Piece::Plain(_) => {}
                Piece::Bad { .. } => bound.units += 1,
                Piece::Map { file, range } => bound.about(*file, range, self.page),
            }
        }
        bound
    }

    /// Returns whether another thread acts at every moment.
    fn is_pestered(&self) -> bool {
        self.script.turns.iter().any(|turn| turn.op == self.op.get() && turn.always)
    }

    /// Returns the maximum number of moments of an operation.
    fn most_moments(&self, units: usize) -> usize {
        // A store with short counts is called more often.
        let calls = if self.script.setup.short == 0 { 1 } else { self.page.div_ceil(self.script.setup.short) };
        let each = if self.is_pestered() { 1500 } else { 150 };
        2000 + each * calls * units
    }

    pub(super) fn perform(self: &Rc<Self>, number: usize, op: &Op) {
        self.op.set(number);
        match op {
            Op::Write { file, at, direct, from } => self.write(*file, Some(*at), *direct, from),
            Op::Append { file, from } => self.write(*file, None, false, from),
            Op::Read { file, at, direct, to } => self.read(*file, *at, *direct, to),
            Op::SetLen { file, len } => {
                let result = self.run(self.most_moments(4), || self.file(*file).handle.set_len(*len as u64));
                if self.came(*file, result) {
                    self.models[*file].borrow_mut().resize(*len, 0);
                }
            }
            Op::Punch { file, at, len } => {
                let end = at.saturating_add(*len);
                let range = *at as u64..end as u64;
                let result = self.run(self.most_moments(8), || self.file(*file).handle.punch_hole(range));
                let mut model = self.models[*file].borrow_mut();
                match self.came(*file, result) {
                    true => {
                        let end = end.min(model.len());
                        model[(*at).min(end)..end].fill(0);
                    }
                    // A part of it may be zeros.
                    false => self.learn(*file, &mut model),
                }
            }
            Op::Sync { file } => {
                let units = self.models[*file].borrow().len() / self.page + 1;
                let result = self.run(self.most_moments(units), || self.file(*file).handle.sync_all());
                if self.came(*file, result) {
                    self.is_durable(*file, "after a sync");
                }
            }
            Op::WillNeed { file, at, len } => {
                let end = at.saturating_add(*len);
                let mut bound = Bound::default();
                bound.about(*file, &(*at..end.min(self.models[*file].borrow().len())), self.page);
                let before = self.has_been_read();
                let range = *at as u64..end as u64;
                let result = self.run(self.most_moments(4 + bound.units), || self.file(*file).handle.will_need(range));
                self.came(*file, result);
                self.has_read(before, &bound);
            }
            Op::TryRead { file, at, to } => self.try_read(*file, *at, to),
            Op::Many { file, at, len, count } => self.read_many(*file, *at, *len, *count),
            Op::Fill { file, at, len } => {
                let range = *at..at.saturating_add(*len);
                let mut bound = Bound::default();
                bound.about(*file, &(range.start..range.end.min(self.models[*file].borrow().len())), self.page);
                let before = self.has_been_read();
                let handle = self.file(*file);
                let run = range.start as u64..range.end as u64;
                self.run(self.most_moments(4 + bound.units), || handle.handle.inode().fill_many(Vec::from([run])));
                self.has_read(before, &bound);
            }
            Op::Touch { file, at } => self.touch(*file, *at),
            Op::Fail { file, what, skip, times } => self.stores[*file].fail(*what, *skip, *times),
            Op::Reopen { file } => self.reopen_checked(*file),
        }
        for file in 0..2 {
            let (is, ought) = (self.file(file).handle.len(), self.models[file].borrow().len() as u64);
            if !matches!(is, Ok(is) if is == ought) {
                self.find(Found::Length { op: number, file, is: format!("{is:?}"), ought, when: "in the cache" });
            }
        }
    }

    /// Checks whether an operation has succeeded, which it must unless a store has failed.
    fn came(&self, file: usize, result: Option<Result<(), Error>>) -> bool {
        match result {
            Some(Ok(())) => true,
            Some(Err(error)) if self.stores[file].failed() == 0 => {
                self.find(Found::Result { op: self.op.get(), is: error.to_string(), ought: "success".to_owned() });
                false
            }
            _ => false,
        }
    }

    /// Returns the count of an operation, if it is right.
    fn counted(&self, result: Option<Result<usize, Partial>>, ought: usize, is_bad: bool, bound: &Bound) -> usize {
        let op = self.op.get();
        let Some(result) = result else { return 0 };
        let failed = self.stores.iter().any(|store| store.failed() > 0);
        let (done, error) = match &result {
            Ok(done) => (*done, None),
            Err(partial) => (partial.done, Some(&partial.error)),
        };
        let is_right = match error {
            None => done == ought && !is_bad,
            Some(Error::Fault(_)) if done == ought && is_bad => true,
            // Repeated actions of other threads may prevent progress permanently; the error reports that.
            Some(Error::NoProgress(_)) => done <= ought && self.is_pestered(),
            Some(_) => done <= ought && failed,
        };
        if !is_right {
            let is = match error {
                None => format!("{done} bytes"),
                Some(error) => format!("{done} bytes, then: {error} ({error:?})"),
            };
            let bad = if is_bad { ", then a fault" } else { "" };
            self.find(Found::Result { op, is, ought: format!("{ought} bytes{bad}") });
        }
        let most = 4 * bound.units + 8 + 4 * self.acted.get();
        if self.attempts.get() > most && !self.is_pestered() {
            self.find(Found::Attempts { op, is: self.attempts.get(), most });
        }
        done.min(ought)
    }

    /// Checks that no more was read from the stores than allowed.
    fn has_read(&self, before: [u64; 2], bound: &Bound) {
        for (file, before) in before.into_iter().enumerate() {
            let once = (self.script.setup.limit + 4) * self.page;
            let most = (bound.bytes[file] * 5 / 2 + (1 + self.acted.get()) * once) as u64;
            let is = self.stores[file].read() - before;
            if is > most {
                self.find(Found::ReadsTooMuch { op: self.op.get(), file, is, about: bound.bytes[file] as u64, most });
            }
        }
    }

    fn has_been_read(&self) -> [u64; 2] {
        [0, 1].map(|file| self.stores[file].read())
    }

    fn write(&self, file: usize, at: Option<usize>, direct: bool, from: &[Part]) {
        let buffer = self.buffer(from);
        let pos = at.unwrap_or_else(|| self.models[file].borrow().len());
        let seed = self.op.get() + 1;
        self.faulting.fill(|at| pattern(seed + 50, at));
        let plain = self.plain(&buffer, |at| pattern(seed, at));
        let bytes = self.bytes(&buffer, &plain);
        let range = pos..pos + buffer.len;
        let is_murky = Self::overlaps(&buffer, file, &range);
        let bound = self.bound(&buffer, file, range);
        let files = [self.file(0), self.file(1)];
        let segments = self.read_segments(&buffer, &plain, &files);
        let (before, failed) = (self.has_been_read(), self.stores[file].failed());
        let result = self.run(self.most_moments(bound.units), || {
            let (handle, mut looks) = (&files[file].handle, Looks(self));
            let mut source = IovSource::new(&segments);
            match at {
                None => handle.append_iter_with::<_, MayWait>(&mut source, &mut looks),
                Some(at) if direct => handle.write_direct_with::<_, MayWait>(&mut source, at as u64, &mut looks),
                Some(at) => handle.write_iter_with::<_, MayWait>(&mut source, at as u64, &mut looks),
            }
        });
        let done = self.counted(result, buffer.good, buffer.good < buffer.len, &bound);
        self.has_read(before, &bound);
        let mut model = self.models[file].borrow_mut();
        if done > 0 {
            let len = model.len().max(pos + done);
            model.resize(len, 0);
            model[pos..pos + done].copy_from_slice(&bytes[..done]);
        }
        // How much a store has taken of a direct write that failed is unknown.
        if is_murky || direct && self.stores[file].failed() > failed {
            self.learn(file, &mut model);
        }
    }

    /// Handles an operation with several possible outcomes: determines which one it was.
    fn learn(&self, file: usize, model: &mut [u8]) {
        if self.found.borrow().is_some() {
            return;
        }
        let handle = &self.file(file).handle;
        if handle.read_at(model, 0).is_err() {
            self.stores[file].heal();
            let _ = handle.read_at(model, 0);
        }
    }

    fn read_segments<'b>(
        &'b self,
        buffer: &'b Buffer,
        plain: &'b [Vec<u8>],
        files: &'b [Rc<File>; 2],
    ) -> Vec<ReadSegment<'b, ReadView<'b>>> {
        let mut plain = plain.iter();
        let segment = |piece: &Piece| match piece {
            Piece::Plain(_) => ReadSegment::Plain(plain.next().expect("one for each").as_slice()),
            Piece::Bad { good } => ReadSegment::Memory(self.faulting.read_view(*good)),
            Piece::Map { file, range } => {
                let mapping = files[*file].mapping.as_ref().expect("it was mapped");
                let view = mapping.read_view().expect("the handler is there");
                ReadSegment::Memory(view.subslice(range.clone()).expect("the mapping is longer than the file"))
            }
        };
        buffer.pieces.iter().map(segment).collect()
    }

    fn read(&self, file: usize, at: usize, direct: bool, to: &[Part]) {
        let read = |handle: &CachedFile, dest: &mut Dest<'_, '_>, looks: &mut Looks<'_>| match direct {
            true => handle.read_direct_with::<_, MayWait>(dest, at as u64, looks),
            false => handle.read_iter_with::<_, MayWait>(dest, at as u64, looks),
        };
        self.read_by(file, at, to, read, |result, all, ought, bound| {
            Some(self.counted(result, ought, ought < all, bound))
        });
    }

    /// Reads what is in memory: any part of the range, with a reason if that is not all of it.
    fn try_read(&self, file: usize, at: usize, to: &[Part]) {
        let read = |handle: &CachedFile, dest: &mut Dest<'_, '_>, looks: &mut Looks<'_>| {
            handle.try_read_iter_with::<_, MayWait>(dest, at as u64, looks)
        };
        self.read_by(file, at, to, read, |result, all, ought, _| {
            let result = result?;
            let (done, is_right) = match &result {
                Ok(done) => (*done, *done == all),
                Err(Partial { done, error: Error::WouldBlock | Error::Fault(_) }) => (*done, *done <= ought),
                Err(Partial { done, .. }) => (*done, *done <= ought && self.stores[file].failed() > 0),
            };
            if !is_right {
                let ought = format!("{all} bytes, or fewer and a reason");
                self.find(Found::Result { op: self.op.get(), is: format!("{result:?}"), ought });
            }
            Some(done.min(ought))
        });
    }

    /// Reads to a buffer by `read`, and checks what has arrived. `judge` gets the result, the number of bytes that the file
    /// has there, and the number of those for which the buffer is good; it returns how many have arrived.
    fn read_by(
        &self,
        file: usize,
        at: usize,
        to: &[Part],
        read: impl Fn(&CachedFile, &mut Dest<'_, '_>, &mut Looks<'_>) -> Result<usize, Partial>,
        judge: impl FnOnce(Option<Result<usize, Partial>>, usize, usize, &Bound) -> Option<usize>,
    ) {
        let buffer = self.buffer(to);
        let size = self.models[file].borrow().len();
        let all = buffer.len.min(size.saturating_sub(at));
        let ought = all.min(buffer.good);
        let range = at.min(size)..(at + buffer.len).min(size);
        let is_murky = Self::overlaps(&buffer, file, &range);
        let bytes = self.models[file].borrow()[at.min(size)..at.min(size) + ought].to_vec();
        let bound = self.bound(&buffer, file, range);
        self.faulting.fill(|_| UNTOUCHED);
        let mut plain = self.plain(&buffer, |_| UNTOUCHED);
        let files = [self.file(0), self.file(1)];
        let before = self.has_been_read();
        let result = {
            let mut segments = self.write_segments(&buffer, &mut plain, &files);
            self.run(self.most_moments(bound.units), || {
                read(&files[file].handle, &mut IovDest::new(&mut segments), &mut Looks(self))
            })
        };
        let Some(done) = judge(result, all, ought, &bound) else { return };
        self.has_read(before, &bound);
        self.arrived(&buffer, &plain, &bytes[..done], is_murky);
    }

    /// Reads ranges at once, of which each has the result of a read.
    fn read_many(&self, file: usize, at: usize, len: usize, count: usize) {
        let ranges: Vec<_> = (0..count).map(|number| at + number * len / 2..at + number * len / 2 + len).collect();
        let size = self.models[file].borrow().len();
        let mut bound = Bound::default();
        ranges.iter().for_each(|range| bound.about(file, &(range.start.min(size)..range.end.min(size)), self.page));
        bound.units += count;
        let mut buffers: Vec<_> = ranges.iter().map(|range| vec![UNTOUCHED; range.len()]).collect();
        let (opened, before) = (self.file(file), self.has_been_read());
        let results = self.run(self.most_moments(bound.units), || {
            let requests = ranges.iter().zip(&mut buffers);
            let mut requests: Vec<_> =
                requests.map(|(range, bytes)| ReadRequest::new(range.start as u64, bytes)).collect();
            opened.handle.read_many(&mut requests)
        });
        let Some(results) = results else { return };
        for ((range, bytes), result) in ranges.iter().zip(&buffers).zip(results) {
            let ought = range.end.min(size).saturating_sub(range.start.min(size));
            let done = self.counted(Some(result), ought, false, &bound);
            self.same(self.op.get(), &bytes[..done], &self.models[file].borrow()[range.start.min(size)..], "a range");
        }
        // A batch that fails is read again, range by range.
        if self.stores[file].failed() == 0 {
            self.has_read(before, &bound);
        }
    }

    fn write_segments<'b>(
        &'b self,
        buffer: &'b Buffer,
        plain: &'b mut [Vec<u8>],
        files: &'b [Rc<File>; 2],
    ) -> Vec<WriteSegment<'b, WriteView<'b>>> {
        let mut plain = plain.iter_mut();
        let segment = |piece: &Piece| match piece {
            Piece::Plain(_) => WriteSegment::Plain(plain.next().expect("one for each").as_mut_slice()),
            Piece::Bad { good } => WriteSegment::Memory(self.faulting.write_view(*good)),
            Piece::Map { file, range } => {
                let mapping = files[*file].mapping.as_ref().expect("it was mapped");
                let view = mapping.write_view().expect("the handler is there");
                WriteSegment::Memory(view.subslice(range.clone()).expect("the mapping is longer than the file"))
            }
        };
        buffer.pieces.iter().map(segment).collect()
    }

    /// Checks the bytes that a read has put into a buffer.
    fn arrived(&self, buffer: &Buffer, plain: &[Vec<u8>], bytes: &[u8], is_murky: bool) {
        let (mut plain, mut at) = (plain.iter(), 0);
        for piece in &buffer.pieces {
            let part = |len: usize| &bytes[at.min(bytes.len())..(at + len).min(bytes.len())];
            match piece {
                Piece::Plain(len) => {
                    let is = plain.next().expect("one for each");
                    if !is_murky {
                        self.same_as_read(is, part(*len));
                    }
                    at += len;
                }
                Piece::Bad { good } => {
                    if !is_murky {
                        self.same_as_read(&self.faulting.good(*good), part(*good));
                    }
                    // The same memory may follow, which no read reaches.
                    break;
                }
                Piece::Map { file, range } => {
                    let ought = part(range.len());
                    let mut model = self.models[*file].borrow_mut();
                    model[range.start..range.start + ought.len()].copy_from_slice(ought);
                    if is_murky {
                        self.learn(*file, &mut model);
                    }
                    at += range.len();
                }
            }
        }
    }

    /// Checks a part of a buffer in which a read should have changed exactly these bytes.
    fn same_as_read(&self, is: &[u8], read: &[u8]) {
        let mut ought = read.to_vec();
        ought.resize(is.len(), UNTOUCHED);
        self.same(self.op.get(), is, &ought, "the buffer of a read");
    }

    pub(super) fn same(&self, op: usize, is: &[u8], ought: &[u8], of: &'static str) {
        if let Some(at) = (0..is.len().min(ought.len())).find(|&at| is[at] != ought[at]) {
            self.find(Found::Bytes { op, of, at, is: is[at], ought: ought[at] });
        }
    }

    /// Stores a byte through a mapping.
    fn touch(&self, file: usize, at: usize) {
        let opened = self.file(file);
        let mapped = opened.mapping.as_ref().map_or(0, Mapping::len);
        if at >= self.models[file].borrow().len().min(mapped) {
            return;
        }
        let value = pattern(self.op.get() + 7, at);
        let view = opened.mapping.as_ref().expect("it was mapped").write_view().expect("the handler is there");
        let stored = self.run(self.most_moments(2), || {
            for _ in 0..64 {
                if view.write(&[value], at).is_ok() {
                    return Ok(());
                }
                view.fault_in(at, NonZeroUsize::MIN).map_err(|fault| fault.to_string())?;
                self.moment();
            }
            Err("no progress".to_owned())
        });
        match stored {
            Some(Ok(())) => self.models[file].borrow_mut()[at] = value,
            Some(Err(is)) if !self.is_pestered() && self.stores[file].failed() == 0 => {
                self.find(Found::Result { op: self.op.get(), is, ought: "a store".to_owned() });
            }
            _ => {}
        }
    }

    /// Checks that a file's store has the file's bytes.
    pub(super) fn is_durable(&self, file: usize, when: &'static str) {
        let op = self.op.get();
        let (is, ought) = (self.stores[file].contents(), self.models[file].borrow());
        if is.len() != ought.len() {
            let (is, ought) = (format!("{} bytes", is.len()), ought.len() as u64);
            self.find(Found::Length { op, file, is, ought, when });
        }
        self.same(op, &is, &ought, "a store");
    }

    fn reopen_checked(&self, file: usize) {
        self.settle(file);
        if self.found.borrow().is_none() {
            self.reopen(file);
        }
    }

    /// Checks that everything is in the cache and on disk, when no other thread acts and the store works.
    pub(super) fn settle(&self, file: usize) {
        self.stores[file].heal();
        let mut bytes = vec![UNTOUCHED; self.models[file].borrow().len()];
        let opened = self.file(file);
        let read = opened.handle.read_at(&mut bytes, 0);
        if !matches!(read, Ok(read) if read == bytes.len()) {
            let ought = format!("{} bytes, in the end", bytes.len());
            self.find(Found::Result { op: self.op.get(), is: format!("{read:?}"), ought });
            return;
        }
        self.same(self.op.get(), &bytes, &self.models[file].borrow(), "a file");
        // The first sync may report an earlier failure. What that may have lost has to be written again.
        let mut synced = opened.handle.sync_all().or_else(|_| opened.handle.sync_all());
        if let Err(Error::Lost { ranges, .. }) = &synced
            && self.stores[file].failed() > 0
        {
            for range in ranges {
                let bytes =
                    self.models[file].borrow().get(range.start as usize..range.end as usize).map(<[u8]>::to_vec);
                let written = bytes.filter(|bytes| !bytes.is_empty()).map(|b| opened.handle.write_at(&b, range.start));
                if !matches!(written, Some(Ok(written)) if written as u64 == range.end - range.start) {
                    let ought = "lost bytes of the file, which can be written again".to_owned();
                    self.find(Found::Result { op: self.op.get(), is: format!("{range:?}: {written:?}"), ought });
                    return;
                }
            }
            synced = opened.handle.sync_all();
        }
        if let Err(error) = synced {
            self.find(Found::Result {
                op: self.op.get(),
                is: error.to_string(),
                ought: "a sync, in the end".to_owned(),
            });
            return;
        }
        self.is_durable(file, "after a sync, in the end");
    }

    /// Checks the same as [`settle`](Self::settle), for all files, which are then closed.
    pub(super) fn end(&self) {
        for file in 0..2 {
            self.settle(file);
            *self.files[file].borrow_mut() = None;
            if self.found.borrow().is_none() {
                self.is_durable(file, "after it was closed");
            }
        }
    }
}
