//! [`Index`]: which slot has which block, in memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use super::format::{Digest, Record};
use super::queues::Queues;

/// Hashes digests, which are random numbers already.
pub type ByDigest = BuildHasherDefault<Word>;

/// The hasher of [`ByDigest`].
#[derive(Default)]
pub struct Word(u64);

impl Hasher for Word {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The slots of a tier.
///
/// A slot is *fresh* (it had no block when this process opened the tier, and may have no space on the disk), *free* (it has space and
/// no block), *queued* (it has a block, or had a damaged one), or *reserved* (it is being written, or the disk could not write it).
pub struct Index {
    slots: HashMap<u64, u32, ByDigest>,
    records: Vec<Option<Record>>,
    queues: Queues,
    free: Vec<u32>,
    /// The fresh slots before `end`.
    fresh: Vec<u32>,
    /// This slot and those after it, up to `count`, are fresh. The tables end before it, so memory is needed only for what is used.
    end: u32,
    count: u32,
    sequence: u64,
}

/// A slot that was reserved for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    pub slot: u32,
    /// Whether writing it takes space on the disk that the tier has not used so far.
    pub is_fresh: bool,
    /// Whether another block was evicted from it.
    pub evicted: bool,
}

impl Index {
    /// Makes the index of `count` slots, the first ones of which have these records. Of two records of one block, the older one is
    /// dropped.
    pub fn new(mut records: Vec<Option<Record>>, count: u32) -> Index {
        records.truncate(count as usize);
        while records.pop_if(|last| last.is_none()).is_some() {}
        let end = records.len() as u32;
        let mut old: Vec<(u64, u32)> = Vec::new();
        let mut fresh = Vec::new();
        for (slot, record) in (0..end).zip(&records) {
            match record {
                Some(record) => old.push((record.sequence, slot)),
                None => fresh.push(slot),
            }
        }
        old.sort_unstable();
        let sequence = old.last().map_or(0, |(last, _)| last.saturating_add(1));
        let (mut slots, mut free) = (HashMap::default(), Vec::new());
        // The newest first: a record whose place in the table is taken is an older one.
        for &(_, slot) in old.iter().rev() {
            let place = &mut records[slot as usize];
            match place.map(|record| slots.entry(record.digest.short())) {
                Some(Entry::Vacant(entry)) => drop(entry.insert(slot)),
                _ => {
                    *place = None;
                    free.push(slot);
                }
            }
        }
        let mut queues = Queues::default();
        for (_, slot) in old {
            if records[slot as usize].is_some() {
                queues.push_old(slot);
            }
        }
        Index { slots, records, queues, free, fresh, end, count, sequence }
    }

    /// Returns the slot and the record of a block, and counts a use of it.
    pub fn find(&self, digest: Digest) -> Option<(u32, Record)> {
        let slot = *self.slots.get(&digest.short())?;
        let record = self.record(slot).filter(|record| record.digest == digest)?;
        self.queues.touch(slot);
        Some((slot, record))
    }

    /// Returns whether the tier has a block.
    pub fn has(&self, digest: Digest) -> bool {
        self.slots.contains_key(&digest.short())
    }

    /// Reserves a slot, a fresh one only if the tier `may_grow`. A block may be evicted for it. Returns `None` if there is no slot.
    pub fn reserve(&mut self, may_grow: bool) -> Option<Reserved> {
        if let Some(slot) = self.free.pop() {
            return Some(Reserved { slot, is_fresh: false, evicted: false });
        }
        if may_grow && let Some(slot) = self.fresh() {
            return Some(Reserved { slot, is_fresh: true, evicted: false });
        }
        let records = &self.records;
        let record = |slot: u32| records.get(slot as usize).copied().flatten();
        let slot = self.queues.pop(|slot| record(slot).map(|record| record.digest.short()))?;
        let evicted = self.clear(slot).is_some();
        Some(Reserved { slot, is_fresh: false, evicted })
    }

    fn fresh(&mut self) -> Option<u32> {
        self.fresh.pop().or_else(|| {
            let slot = self.end;
            self.end += u32::from(slot < self.count);
            (slot < self.count).then_some(slot)
        })
    }

    /// Returns the number of the next record.
    pub fn next_sequence(&mut self) -> u64 {
        let sequence = self.sequence;
        self.sequence = sequence.saturating_add(1);
        sequence
    }

    /// Makes the block of a reserved slot available: it was written.
    pub fn insert(&mut self, slot: u32, record: Record) {
        let at = slot as usize;
        if self.records.len() <= at {
            self.records.resize(at + 1, None);
        }
        self.records[at] = Some(record);
        self.slots.insert(record.digest.short(), slot);
        self.queues.push(slot, record.digest.short());
    }

    /// Takes a reserved slot back: it was not written.
    pub fn release(&mut self, reserved: Reserved) {
        let list = if reserved.is_fresh { &mut self.fresh } else { &mut self.free };
        list.push(reserved.slot);
    }

    /// Forgets a block whose bytes are not those of its record. Returns false if it has been evicted meanwhile, which explains that.
    pub fn forget(&mut self, slot: u32, sequence: u64) -> bool {
        let is_current = self.record(slot).is_some_and(|record| record.sequence == sequence);
        // The slot is used again when its turn comes.
        is_current && self.clear(slot).is_some()
    }

    /// Returns the number of blocks.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    fn record(&self, slot: u32) -> Option<Record> {
        self.records.get(slot as usize).copied().flatten()
    }

    fn clear(&mut self, slot: u32) -> Option<Record> {
        let record = self.records.get_mut(slot as usize)?.take()?;
        self.slots.remove(&record.digest.short());
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::Key;
    use super::*;

    fn record(block: u64, sequence: u64) -> Record {
        let key = Key { object: "o".into(), version: "v".into(), range: 0..0 };
        Record { digest: Digest::of(&key, &(block..block + 1)), sum: block, sequence, len: NonZeroU32::MIN }
    }

    #[test]
    fn of_two_records_of_a_block_the_newer_one_counts() {
        for (old, new) in [(0, 2), (2, 0)] {
            let mut records = vec![None; 3];
            records[old] = Some(record(7, 10));
            records[new] = Some(record(7, 11));
            let mut index = Index::new(records, 3);
            assert_eq!(index.find(record(7, 0).digest), Some((new as u32, record(7, 11))));
            assert_eq!((index.len(), index.next_sequence()), (1, 12));
            assert_eq!(index.reserve(false), Some(Reserved { slot: old as u32, is_fresh: false, evicted: false }));
        }
    }

    #[test]
    fn slots_are_reserved_once_and_blocks_are_evicted_last() {
        let mut index = Index::new(vec![None, Some(record(1, 1))], 4);
        let mut slots = Vec::new();
        while let Some(reserved) = index.reserve(true) {
            assert_eq!(reserved.evicted, reserved.slot == 1);
            slots.push(reserved.slot);
        }
        assert_eq!(slots, [0, 2, 3, 1]);
        assert!(!index.has(record(1, 1).digest));
    }

    #[test]
    fn a_full_disk_evicts_and_grows_again_later() {
        let mut index = Index::new(vec![Some(record(1, 1))], 2);
        let fresh = index.reserve(true).expect("a slot");
        assert!(fresh.is_fresh && fresh.slot == 1);
        index.release(fresh);
        assert_eq!(index.reserve(false), Some(Reserved { slot: 0, is_fresh: false, evicted: true }));
        assert_eq!(index.reserve(false), None);
        assert_eq!(index.reserve(true), Some(fresh));
    }

    #[test]
    fn a_block_that_was_replaced_meanwhile_is_not_forgotten() {
        let mut index = Index::new(vec![Some(record(1, 5))], 1);
        assert!(!index.forget(0, 4), "an older record of the slot");
        assert!(index.has(record(1, 5).digest));
        assert!(index.forget(0, 5));
        assert!(!index.forget(0, 5), "once");
        assert!(!index.has(record(1, 5).digest));
        // The slot is used again.
        assert_eq!(index.reserve(true), Some(Reserved { slot: 0, is_fresh: false, evicted: false }));
        index.insert(0, record(2, 6));
        assert_eq!(index.find(record(2, 0).digest).map(|(slot, _)| slot), Some(0));
    }
}
