//! Operations that change no byte, or make holes: syncs, evictions, advice, punches.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use faultin_cache::{Advice, CachedFile, Error};

use super::tally::Kind;
use super::worker::{Checked, Worker};

/// The result of a sync.
pub enum Synced {
    Durable,
    /// Its store has failed.
    Failed,
    /// These bytes have to be written again.
    Lost(Vec<Range<u64>>),
}

impl Worker<'_> {
    pub fn upkeep(&self, file: usize) -> Checked {
        let page = self.world.page;
        let part = self.random.part(0..self.file(file).most, 12 * page);
        let range = part.start as u64..part.end as u64;
        let opened = self.opened([file]);
        let (open, since) = (opened.get(file), self.world.schedule.since());
        match self.random.below(8) {
            0..2 => {
                self.begin(Kind::Sync, file, &part, "");
                self.sync(file).map(drop)
            }
            2 => {
                self.begin(Kind::WriteBack, file, &part, "");
                self.done(open.write_back(range), since).map(drop)
            }
            3 => {
                self.begin(Kind::WillNeed, file, &part, "");
                self.done(open.will_need(range), since).map(drop)
            }
            4..6 => {
                self.begin(Kind::DontNeed, file, &part, "");
                self.done(open.dont_need(range), since).map(drop)
            }
            6 => {
                self.begin(Kind::DropClean, file, &part, "");
                self.world.cache.drop_clean();
                Ok(())
            }
            _ => {
                let advice = [Advice::Normal, Advice::Sequential, Advice::Random];
                open.advise(advice[self.random.below(advice.len())]);
                self.len(file, open)
            }
        }
    }

    /// Makes the file durable. An error must be one that the store returned since the last report; bytes are lost only if a
    /// sync of the store has failed since one of the file has succeeded.
    pub fn sync(&self, file: usize) -> Checked<Synced> {
        let file = self.file(file);
        let mut syncs = file.syncs.lock();
        let told = std::mem::replace(&mut syncs.last, self.world.schedule.since());
        let handle = &syncs.handle;
        let result = if self.random.once_in(2) { handle.sync_all() } else { handle.sync_data() };
        let failed = file.store.syncs_failed.load(Relaxed);
        match result {
            Ok(()) => {
                syncs.failed = failed;
                Ok(Synced::Durable)
            }
            Err(Error::Store(_)) if self.world.schedule.excuses(told) => Ok(Synced::Failed),
            Err(Error::Lost { ranges, .. }) if failed > syncs.failed => Ok(Synced::Lost(ranges)),
            Err(error) => Err(format!("{error}, and the store has not failed since that was reported last")),
        }
    }

    /// Checks the length, which the owner of the tail sets, never less than the base.
    fn len(&self, file: usize, open: &CachedFile) -> Checked {
        let len = open.len().map_err(|error| error.to_string())? as usize;
        let file = self.file(file);
        match (file.base..=file.most).contains(&len) {
            true => Ok(()),
            false => Err(format!("{len} bytes long, where there are {} to {}", file.base, file.most)),
        }
    }

    pub fn punch(&self, file: usize) -> Checked {
        let range = self.own(file, 8 * self.world.page);
        self.begin(Kind::Punch, file, &range, "");
        let opened = self.opened([file]);
        let since = self.world.schedule.since();
        let result = opened.get(file).punch_hole(range.start as u64..range.end as u64);
        let model = &self.file(file).model;
        match self.done(result, since)? {
            true => model.zero(range),
            false => model.doubt(range),
        }
        Ok(())
    }
}
