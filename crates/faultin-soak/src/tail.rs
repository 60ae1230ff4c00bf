//! Operations that one thread at a time performs: after the base of a file, and on its length, while the other threads
//! continue before it, in the same page, too.

use std::num::NonZeroUsize;
use std::ops::Range;

use faultin::iov::{IovSource, ReadSegment};
use faultin::{Cause, WriteView};
use faultin_cache::CachedFile;

use super::buffers::{UNTOUCHED, read_part, write_part};
use super::mapped::{load, store};
use super::schedule::Since;
use super::tally::Kind;
use super::upkeep::Synced;
use super::worker::{Checked, Worker};

/// The tail of a file, used exclusively.
struct Tail<'t> {
    file: usize,
    open: &'t CachedFile,
    len: &'t mut usize,
    since: Since,
}

impl Worker<'_> {
    pub fn tail(&self, file: usize) -> Checked {
        let opened = self.opened([file]);
        let Some(mut len) = self.file(file).tail.try_lock() else { return Ok(()) };
        let since = self.world.schedule.since();
        let mut tail = Tail { file, open: opened.get(file), len: &mut len, since };
        match self.random.below(22) {
            0..5 => self.set_len(&mut tail),
            5..7 => self.append(&mut tail),
            7..9 => self.write_tail(&mut tail),
            9..11 => self.read_tail(&tail),
            11..13 => self.map_tail(&tail),
            13..15 => self.store_behind(&tail),
            15 => self.punch_tail(&tail),
            16..19 => self.grow(&mut tail),
            19 | 20 => self.append_bad(&mut tail),
            _ => self.stored(&tail),
        }?;
        let is = tail.open.len().map_err(|error| error.to_string())?;
        if is != *tail.len as u64 {
            return Err(format!("{is} bytes long, where there are {}", tail.len));
        }
        Ok(())
    }

    /// Returns a length at which errors are more likely than at others.
    fn length(&self, range: Range<usize>) -> usize {
        let page = self.world.page;
        let len = range.start + self.random.below(range.len());
        match self.random.below(4) {
            0 => (len.next_multiple_of(page)).clamp(range.start, range.end - 1),
            1 => (len / page * page + 1).clamp(range.start, range.end - 1),
            _ => len,
        }
    }

    fn set_len(&self, tail: &mut Tail<'_>) -> Checked {
        let file = self.file(tail.file);
        let len = self.length(file.base..file.most + 1);
        self.begin(Kind::SetLen, tail.file, &(*tail.len..len), "from, to");
        if self.done(tail.open.set_len(len as u64), tail.since)? {
            if len > *tail.len {
                file.model.zero(*tail.len..len);
            }
            *tail.len = len;
        }
        Ok(())
    }

    fn append(&self, tail: &mut Tail<'_>) -> Checked {
        let file = self.file(tail.file);
        let room = (file.most - *tail.len).min(3 * self.world.page);
        let bytes = self.random.bytes(self.random.below(room + 1));
        let range = *tail.len..*tail.len + bytes.len();
        self.begin(Kind::Append, tail.file, &range, "");
        let done = self.count(tail.open.append(&bytes), bytes.len(), tail.since)?;
        file.model.set(range.start, &bytes[..done]);
        *tail.len += done;
        Ok(())
    }

    /// Appends from a buffer that ends early: the space allocated for the rest is freed.
    fn append_bad(&self, tail: &mut Tail<'_>) -> Checked {
        let file = self.file(tail.file);
        let room = (file.most - *tail.len).min(2 * self.world.page);
        let bytes = self.random.bytes(self.random.below(room + 1));
        let range = *tail.len..*tail.len + bytes.len();
        self.begin(Kind::AppendBad, tail.file, &range, "and then nothing");
        // All of it is bad.
        let bad = self.faulting.view(0, 1 + self.random.below(self.world.page))?;
        let segments = [ReadSegment::from(bytes.as_slice()), bad.as_read().into()];
        let result = tail.open.append_iter(&mut IovSource::new(&segments));
        let done = self.ended_by_its_buffer(result, bytes.len(), tail.since)?;
        file.model.set(range.start, &bytes[..done]);
        *tail.len += done;
        Ok(())
    }

    /// Writes at the end, across it, or past it: from a mapping of the last bytes of the file.
    fn grow(&self, tail: &mut Tail<'_>) -> Checked {
        let (file, page) = (self.file(tail.file), self.world.page);
        let len = *tail.len;
        let least = file.base.max(len.saturating_sub(page));
        if least == len || len == file.most {
            return Ok(());
        }
        let from = self.random.part(least..len, page);
        let at = match self.random.below(3) {
            0 => len,
            // Across the end, but not over the bytes being written.
            1 => from.end + self.random.below(len - from.end + 1),
            _ => (len + self.random.below(2 * page)).min(file.most),
        };
        let from = from.start..from.end.min(from.start + (file.most - at));
        let mapped = self.mapping(tail.file, tail.open, &from, true, None)?;
        let more = format!("to {at}, of {len}, {:?}", mapped.mapping.mode());
        self.begin(Kind::Grow, tail.file, &from, &more);
        if self.random.once_in(2) {
            let bytes = self.random.bytes(from.len());
            let done = self.view_write(&mapped, &from, &bytes, tail.since)?;
            file.model.set(from.start, &bytes[..done]);
        }
        let mut source = IovSource::one(read_part(&mapped, &from)?);
        let result = match at == len && self.random.once_in(2) {
            true => tail.open.append_iter(&mut source),
            false => tail.open.write_iter(&mut source, at as u64),
        };
        let done = self.count(result, from.len(), tail.since)?;
        if done > 0 {
            if at > len {
                file.model.zero(len..at);
            }
            file.model.copy(at, &file.model, from.start, done);
            *tail.len = len.max(at + done);
        }
        Ok(())
    }

    /// Checks that after a sync the store is as long as the file, whose length no other thread changes.
    fn stored(&self, tail: &Tail<'_>) -> Checked {
        let store = &self.file(tail.file).store;
        if !store.is_exact() {
            return Ok(());
        }
        self.begin(Kind::Stored, tail.file, &(0..*tail.len), "");
        let Synced::Durable = self.sync(tail.file)? else { return Ok(()) };
        let is = store.stored().map_err(|error| error.to_string())?;
        match is == *tail.len as u64 {
            true => Ok(()),
            false => Err(format!("the store has {is} bytes after a sync, where there are {}", tail.len)),
        }
    }

    /// Writes, also past the end: then there are zeros in between.
    fn write_tail(&self, tail: &mut Tail<'_>) -> Checked {
        let file = self.file(tail.file);
        let range = self.random.part(file.base..file.most, 3 * self.world.page);
        self.begin(Kind::Write, tail.file, &range, &format!("of {}", tail.len));
        let bytes = self.random.bytes(range.len());
        let done = self.count(tail.open.write_at(&bytes, range.start as u64), bytes.len(), tail.since)?;
        if done > 0 && range.start > *tail.len {
            file.model.zero(*tail.len..range.start);
        }
        file.model.set(range.start, &bytes[..done]);
        if done > 0 {
            *tail.len = (*tail.len).max(range.start + done);
        }
        Ok(())
    }

    fn read_tail(&self, tail: &Tail<'_>) -> Checked {
        let file = self.file(tail.file);
        let range = self.random.part(file.base..file.most, 12 * self.world.page);
        self.begin(Kind::Read, tail.file, &range, &format!("of {}", tail.len));
        let mut bytes = vec![UNTOUCHED; range.len()];
        let ought = range.end.min(*tail.len).saturating_sub(range.start);
        let at = range.start as u64;
        let result = if self.random.once_in(2) {
            tail.open.read_at(&mut bytes, at)
        } else {
            tail.open.read_direct(&mut faultin::iov::IovDest::<WriteView<'_>>::one(bytes.as_mut_slice()), at)
        };
        let done = self.count(result, ought, tail.since)?;
        self.check(tail.file, range.start, &bytes[..done])?;
        if bytes[done..].iter().any(|byte| *byte != UNTOUCHED) {
            return Err(format!("the buffer was changed behind the count, {done}"));
        }
        Ok(())
    }

    /// Loads and stores, by instructions if possible.
    fn map_tail(&self, tail: &Tail<'_>) -> Checked {
        let file = self.file(tail.file);
        if *tail.len == file.base {
            return Ok(());
        }
        let range = self.random.part(file.base..*tail.len, 2 * self.world.page);
        let mapped = self.mapping(tail.file, tail.open, &range, true, None)?;
        let quiet = self.world.schedule.quiet().filter(|_| self.random.once_in(2));
        let kinds = if quiet.is_some() { [Kind::Load, Kind::Store] } else { [Kind::ViewRead, Kind::ViewWrite] };
        let write = self.random.once_in(2);
        let more = format!("{:?}, of {}", mapped.mapping.mode(), tail.len);
        self.begin(kinds[usize::from(write)], tail.file, &range, &more);
        let mut bytes = self.random.bytes(range.len());
        let done = match (write, quiet.is_some()) {
            (true, true) => {
                store(&mapped, &range, &bytes);
                range.len()
            }
            (true, false) => self.view_write(&mapped, &range, &bytes, tail.since)?,
            (false, true) => {
                bytes = load(&mapped, &range);
                range.len()
            }
            (false, false) => self.view_read(&mapped, &range, &mut bytes, tail.since)?,
        };
        if write {
            file.model.set(range.start, &bytes[..done]);
            return Ok(());
        }
        self.check(tail.file, range.start, &bytes[..done])
    }

    /// Stores past the end, in the page in which the file ends: these bytes must never be seen. The page after that must be
    /// inaccessible.
    fn store_behind(&self, tail: &Tail<'_>) -> Checked {
        let page = self.world.page;
        let end = tail.len.next_multiple_of(page);
        let range = *tail.len..end + page;
        self.begin(Kind::Behind, tail.file, &range, "");
        let mapped = self.mapping(tail.file, tail.open, &range, true, None)?;
        let behind = *tail.len..end;
        if !behind.is_empty() {
            let bytes = vec![0xbb; behind.len()];
            self.view_write(&mapped, &behind, &bytes, tail.since)?;
        }
        let last = end..end + page;
        let outside = Some(Cause::Backing);
        let read = read_part(&mapped, &last)?.fault_in(self.random.below(page), NonZeroUsize::MIN);
        let write = write_part(&mapped, &last)?.write(&[1], self.random.below(page));
        let causes = (read.err().map(|fault| fault.cause()), write.err().map(|short| short.fault.cause()));
        if causes.0 != outside || causes.1.is_none() {
            return Err(format!("behind the end there is something: {causes:?}"));
        }
        Ok(())
    }

    fn punch_tail(&self, tail: &Tail<'_>) -> Checked {
        let file = self.file(tail.file);
        let range = self.random.part(file.base..file.most, 12 * self.world.page);
        self.begin(Kind::Punch, tail.file, &range, &format!("of {}", tail.len));
        let inside = range.start..range.end.min(*tail.len);
        let done = self.done(tail.open.punch_hole(range.start as u64..range.end as u64), tail.since)?;
        if inside.start < inside.end {
            match done {
                true => file.model.zero(inside),
                false => file.model.doubt(inside),
            }
        }
        Ok(())
    }
}
