//! Reads that do not wait, reads of several ranges, and what is read ahead.

use faultin_cache::Error;
use faultin_cache::store::ReadRequest;

use super::buffers::UNTOUCHED;
use super::tally::Kind;
use super::worker::{Checked, Worker};

/// Maximum number of pages of a range.
const MOST: usize = 24;

impl Worker<'_> {
    pub fn stalls(&self, file: usize) -> Checked {
        match self.random.below(6) {
            0..2 => self.try_read(file),
            2..4 => self.read_many(file),
            4 => self.prefetch(file),
            _ => self.resident(file),
        }
    }

    /// Reads what is in memory: any part of it is right, if the reason is that the rest is not.
    fn try_read(&self, file: usize) -> Checked {
        let from = self.own(file, MOST * self.world.page);
        self.begin(Kind::TryRead, file, &from, "");
        let opened = self.opened([file]);
        let since = self.world.schedule.since();
        let mut bytes = vec![UNTOUCHED; from.len()];
        let done = match opened.get(file).try_read_at(&mut bytes, from.start as u64) {
            Err(partial) if matches!(partial.error, Error::WouldBlock) => partial.done,
            result => self.count(result, from.len(), since)?,
        };
        self.check(file, from.start, &bytes[..done])?;
        match bytes[done..].iter().any(|byte| *byte != UNTOUCHED) {
            true => Err(format!("the buffer was changed behind the count, {done}")),
            false => Ok(()),
        }
    }

    fn read_many(&self, file: usize) -> Checked {
        let ranges: Vec<_> = (0..1 + self.random.below(8)).map(|_| self.own(file, MOST * self.world.page)).collect();
        self.begin(Kind::ReadMany, file, &ranges[0], &format!("and {} more", ranges.len() - 1));
        let opened = self.opened([file]);
        let since = self.world.schedule.since();
        let mut buffers: Vec<_> = ranges.iter().map(|range| vec![UNTOUCHED; range.len()]).collect();
        let requests = ranges.iter().zip(&mut buffers);
        let mut requests: Vec<_> = requests.map(|(range, bytes)| ReadRequest::new(range.start as u64, bytes)).collect();
        let results = opened.get(file).read_many(&mut requests);
        if results.len() != ranges.len() {
            return Err(format!("{} results of {} ranges", results.len(), ranges.len()));
        }
        for ((range, bytes), result) in ranges.iter().zip(&buffers).zip(results) {
            let done = self.count(result, range.len(), since)?;
            self.check(file, range.start, &bytes[..done])?;
        }
        Ok(())
    }

    fn prefetch(&self, file: usize) -> Checked {
        let page = self.world.page;
        let parts: Vec<_> =
            (0..1 + self.random.below(4)).map(|_| self.random.part(0..self.file(file).most, 12 * page)).collect();
        self.begin(Kind::Prefetch, file, &parts[0], &format!("and {} more", parts.len() - 1));
        let opened = self.opened([file]);
        let ranges: Vec<_> = parts.iter().map(|part| part.start as u64..part.end as u64).collect();
        let (taken, all) = (opened.get(file).prefetch(&ranges), parts.iter().map(|part| part.len() as u64).sum());
        if taken > all { Err(format!("{taken} bytes are prefetched, of {all}")) } else { Ok(()) }
    }

    fn resident(&self, file: usize) -> Checked {
        let part = self.random.part(0..self.file(file).most, 100 * self.world.page);
        self.begin(Kind::Resident, file, &part, "");
        let opened = self.opened([file]);
        match opened.get(file).resident(part.start as u64..part.end as u64) {
            Ok(found) if found.bytes() <= part.len() as u64 => Ok(()),
            Ok(found) => Err(format!("{} of {} bytes are resident", found.bytes(), part.len())),
            Err(Error::WouldBlock) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}
