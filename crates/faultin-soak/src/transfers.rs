//! Reads and writes of a thread's own bytes, with all kinds of buffers.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin::{ReadView, WriteView};

use super::buffers::{Opened, Part, UNTOUCHED};
use super::tally::Kind;
use super::worker::{Checked, Worker};

/// Maximum number of pages of a read or a write.
const MOST: usize = 4;

impl Worker<'_> {
    fn parts(
        &self,
        opened: &Opened<'_>,
        layout: Vec<Option<(usize, Range<usize>)>>,
        len: usize,
        writable: bool,
    ) -> Checked<Vec<Part>> {
        let mapped: usize = layout.iter().flatten().map(|(_, range)| range.len()).sum();
        let mut plain = layout.iter().filter(|part| part.is_none()).count();
        let mut left = len.saturating_sub(mapped);
        let mut parts = Vec::new();
        for part in layout {
            parts.push(match part {
                Some((file, range)) => {
                    self.world.tally.mapped_buffers.fetch_add(1, Relaxed);
                    let mapped = self.mapping(file, opened.get(file), &range, writable, None)?;
                    Part::Mapped(mapped, file, range)
                }
                None => {
                    let some = if plain == 1 { left } else { self.random.below(left + 1) };
                    (plain, left) = (plain - 1, left - some);
                    Part::Plain(if writable { vec![UNTOUCHED; some] } else { self.random.bytes(some) })
                }
            });
        }
        Ok(parts)
    }

    pub fn write(&self, file: usize) -> Checked {
        let direct = self.random.once_in(3);
        let kind = if direct { Kind::WriteDirect } else { Kind::Write };
        let to = self.own(file, MOST * self.world.page);
        let layout = self.layout(to.len(), (file, &to));
        self.begin(kind, file, &to, &format!("from {layout:?}"));
        let opened = self.opened(layout.iter().flatten().map(|(file, _)| *file).chain([file]));
        let since = self.world.schedule.since();
        let parts = self.parts(&opened, layout, to.len(), false)?;
        let len: usize = parts.iter().map(Part::len).sum();
        let segments: Vec<ReadSegment<'_, ReadView<'_>>> = parts.iter().map(Part::source).collect::<Checked<_>>()?;
        let mut source = IovSource::new(&segments);
        let open = opened.get(file);
        let result = if direct {
            open.write_direct(&mut source, to.start as u64)
        } else {
            open.write_iter(&mut source, to.start as u64)
        };
        let done = self.count(result, len, since)?;
        let model = &self.file(file).model;
        let (mut at, mut left) = (to.start, done);
        for part in &parts {
            let some = part.len().min(left);
            match part {
                Part::Plain(bytes) => model.set(at, &bytes[..some]),
                Part::Mapped(_, from, range) => model.copy(at, &self.file(*from).model, range.start, some),
            }
            (at, left) = (at + some, left - some);
        }
        Ok(())
    }

    pub fn read(&self, file: usize) -> Checked {
        let direct = self.random.once_in(3);
        let kind = if direct { Kind::ReadDirect } else { Kind::Read };
        let from = self.own(file, MOST * self.world.page);
        let layout = self.layout(from.len(), (file, &from));
        self.begin(kind, file, &from, &format!("to {layout:?}"));
        let opened = self.opened(layout.iter().flatten().map(|(file, _)| *file).chain([file]));
        let since = self.world.schedule.since();
        let mut parts = self.parts(&opened, layout, from.len(), true)?;
        let len: usize = parts.iter().map(Part::len).sum();
        let mut segments: Vec<WriteSegment<'_, WriteView<'_>>> =
            parts.iter_mut().map(Part::dest).collect::<Checked<_>>()?;
        let mut dest = IovDest::new(&mut segments);
        let open = opened.get(file);
        let result = if direct {
            open.read_direct(&mut dest, from.start as u64)
        } else {
            open.read_iter(&mut dest, from.start as u64)
        };
        let done = self.count(result, len, since)?;
        drop(segments);
        let (mut at, mut left) = (from.start, done);
        for part in &parts {
            let some = part.len().min(left);
            match part {
                Part::Plain(bytes) => {
                    self.check(file, at, &bytes[..some])?;
                    if bytes[some..].iter().any(|byte| *byte != UNTOUCHED) {
                        return Err(format!("the buffer was changed behind the count, {done}"));
                    }
                }
                Part::Mapped(_, to, range) => {
                    self.file(*to).model.copy(range.start, &self.file(file).model, at, some);
                }
            }
            (at, left) = (at + some, left - some);
        }
        Ok(())
    }

    /// Makes a buffer that ends early: after a plain part, in an inaccessible page or a mapping past the end of its file.
    fn bad(&self, len: usize) -> (usize, usize) {
        let plain = self.random.below(len);
        (plain, self.random.below(len - plain).min(2 * self.world.page))
    }

    pub fn write_bad(&self, file: usize) -> Checked {
        let to = self.own(file, 2 * self.world.page);
        let (plain, good) = self.bad(to.len());
        let direct = self.random.once_in(3);
        let behind = self.random.once_in(4);
        self.begin(Kind::WriteBad, file, &to, &format!("{plain}, then {good} good, direct {direct}, behind {behind}"));
        let opened = self.opened([file]);
        let (open, since) = (opened.get(file), self.world.schedule.since());
        let bytes = self.random.bytes(plain + good);
        let rest = to.len() - plain;
        let faulting = self.faulting.view(good, rest.min(good + self.world.page))?;
        faulting.write(&bytes[plain..], 0).map_err(|short| short.to_string())?;
        let mapped = behind.then(|| self.behind(file, open, rest)).transpose()?;
        let (view, good) = match &mapped {
            Some((mapped, range)) => (super::buffers::read_part(mapped, range)?, 0),
            None => (faulting.as_read(), good),
        };
        let segments = [ReadSegment::from(&bytes[..plain]), view.into()];
        let mut source = IovSource::new(&segments);
        let result = if direct {
            open.write_direct(&mut source, to.start as u64)
        } else {
            open.write_iter(&mut source, to.start as u64)
        };
        let done = self.ended_by_its_buffer(result, plain + good, since)?;
        self.file(file).model.set(to.start, &bytes[..done]);
        Ok(())
    }

    pub fn read_bad(&self, file: usize) -> Checked {
        let from = self.own(file, 2 * self.world.page);
        let (plain, good) = self.bad(from.len());
        let direct = self.random.once_in(3);
        let behind = self.random.once_in(4);
        self.begin(Kind::ReadBad, file, &from, &format!("{plain}, then {good} good, direct {direct}, behind {behind}"));
        let opened = self.opened([file]);
        let (open, since) = (opened.get(file), self.world.schedule.since());
        let mut bytes = vec![UNTOUCHED; plain];
        let rest = from.len() - plain;
        let faulting = self.faulting.view(good, rest.min(good + self.world.page))?;
        faulting.fill(0..good, UNTOUCHED).map_err(|short| short.to_string())?;
        let mapped = behind.then(|| self.behind(file, open, rest)).transpose()?;
        let (view, there) = match &mapped {
            Some((mapped, range)) => (super::buffers::write_part(mapped, range)?, 0),
            None => (self.faulting.view(good, faulting.len())?, good),
        };
        let mut segments = [WriteSegment::from(bytes.as_mut_slice()), view.into()];
        let mut dest = IovDest::new(&mut segments);
        let result = if direct {
            open.read_direct(&mut dest, from.start as u64)
        } else {
            open.read_iter(&mut dest, from.start as u64)
        };
        let done = self.ended_by_its_buffer(result, plain + there, since)?;
        let mut tail = vec![0; good];
        faulting.as_read().read(&mut tail, 0).map_err(|short| short.to_string())?;
        bytes.extend(tail);
        self.check(file, from.start, &bytes[..done])?;
        if bytes[done..].iter().any(|byte| *byte != UNTOUCHED) {
            return Err(format!("the buffer was changed behind the count, {done}"));
        }
        Ok(())
    }

    /// Makes a mapping of pages after the page in which the file ends.
    fn behind(
        &self,
        file: usize,
        open: &faultin_cache::CachedFile,
        len: usize,
    ) -> Checked<(std::sync::Arc<super::world::Mapped>, Range<usize>)> {
        let start = self.file(file).most.next_multiple_of(self.world.page);
        let range = start..start + len;
        Ok((self.mapping(file, open, &range, true, None)?, range))
    }

    /// Returns the count, if it is the position at which the buffer ends, and the error says so.
    pub fn ended_by_its_buffer(
        &self,
        result: Result<usize, faultin_cache::Partial>,
        ought: usize,
        since: super::schedule::Since,
    ) -> Checked<usize> {
        match result {
            Err(partial) if partial.done == ought && matches!(partial.error, faultin_cache::Error::Fault(_)) => {
                Ok(ought)
            }
            Err(partial) => self.count(Err(partial), ought, since),
            Ok(done) => Err(format!("{done} bytes and no error, where the buffer ends after {ought}")),
        }
    }
}
