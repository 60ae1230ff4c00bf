//! Operations on a file that no other thread uses: it is compared as a whole, truncated to any length and extended again,
//! closed and opened.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use faultin_cache::CachedFile;

use super::buffers::UNTOUCHED;
use super::schedule::Since;
use super::tally::Kind;
use super::upkeep::Synced;
use super::worker::{Checked, Worker};

impl Worker<'_> {
    pub fn whole(&self, number: usize) -> Checked {
        let file = self.file(number);
        let mut open = file.open.write();
        let mut len = file.tail.lock();
        let since = self.world.schedule.since();
        match self.random.below(4) {
            0 => self.compare(number, &open, *len, since),
            1 => self.cut(number, &open, &mut len),
            2 => self.settled(number, &open, *len).map(drop),
            _ => {
                if !self.settled(number, &open, *len)? {
                    return Ok(());
                }
                self.begin(Kind::Reopen, number, &(0..*len), "");
                let mappings = std::mem::take(&mut *file.pool.lock());
                drop(mappings);
                file.reopen(self.world, &mut open)
            }
        }
    }

    /// Compares all of it with the model.
    pub fn compare(&self, number: usize, open: &CachedFile, len: usize, since: Since) -> Checked {
        self.begin(Kind::Whole, number, &(0..len), "");
        let mut bytes = vec![UNTOUCHED; len + self.world.page];
        let done = if self.random.once_in(2) {
            self.count(open.read_at(&mut bytes, 0), len, since)?
        } else {
            let mapped = self.mapping(number, open, &(0..len), false, None)?;
            self.view_read(&mapped, &(0..len), &mut bytes[..len], since)?
        };
        self.check(number, 0, &bytes[..done])
    }

    /// Truncates within the base, and extends again.
    fn cut(&self, number: usize, open: &CachedFile, len: &mut usize) -> Checked {
        let file = self.file(number);
        let to = self.random.below(file.base);
        self.begin(Kind::SetLen, number, &(*len..to), "from, to, and back");
        // The failures end at some time.
        loop {
            let since = self.world.schedule.since();
            if self.done(open.set_len(to as u64), since)? {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let back = file.base + self.random.below(file.most - file.base);
        loop {
            let since = self.world.schedule.since();
            if self.done(open.set_len(back as u64), since)? {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        file.model.zero(to..back);
        *len = back;
        self.compare(number, open, back, self.world.schedule.since())
    }

    /// Writes again what a sync has lost, as required: returns whether that succeeded.
    fn write_again(&self, number: usize, open: &CachedFile, len: usize, ranges: Vec<Range<u64>>) -> Checked<bool> {
        for range in ranges {
            let (start, end) = (range.start as usize, len.min(range.end as usize));
            if start >= end {
                return Err(format!("bytes {range:?} of {len} are lost"));
            }
            self.begin(Kind::WriteAgain, number, &(start..end), "");
            let since = self.world.schedule.since();
            let mut bytes = vec![UNTOUCHED; end - start];
            let read = self.count(open.read_at(&mut bytes, range.start), bytes.len(), since)?;
            self.check(number, start, &bytes[..read])?;
            if read < bytes.len() || self.count(open.write_at(&bytes, range.start), bytes.len(), since)? < bytes.len() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Checks that everything is written back, and the store has the expected contents: returns whether the write
    /// succeeded.
    pub fn settled(&self, number: usize, open: &CachedFile, len: usize) -> Checked<bool> {
        self.begin(Kind::Settled, number, &(0..len), "");
        match self.sync(number)? {
            Synced::Durable => {}
            Synced::Failed => return Ok(false),
            Synced::Lost(ranges) => {
                if !self.write_again(number, open, len, ranges)? {
                    return Ok(false);
                }
                let Synced::Durable = self.sync(number)? else { return Ok(false) };
            }
        }
        if open.dirty() > 0 {
            return Err(format!("{} bytes are dirty after a sync", open.dirty()));
        }
        let store = &self.file(number).store;
        if let Some(wrong) = store.wrong() {
            return Err(format!("the store was asked for {wrong}"));
        }
        let bytes = store.contents().map_err(|error| error.to_string())?;
        if bytes.len() != len {
            return Err(format!("the store has {} bytes, where there are {len}", bytes.len()));
        }
        self.check(number, 0, &bytes)?;
        Ok(true)
    }
}
