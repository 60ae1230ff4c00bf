//! [`Queues`]: which slot is evicted next.
//!
//! S3-FIFO (Yang and others, SOSP 2023). New blocks go to a small queue, a tenth of the slots. A block that was read there moves to
//! the main queue when its turn comes, and any other leaves; the digests of these are remembered for a while, and such a block goes to
//! the main queue when it is stored again. So a scan of blocks that are read once passes through the small queue only. In the main
//! queue, a block that was read since its last turn gets another one.
//!
//! A block counts as used after one read, because the memory above this tier sees the other reads.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::index::ByDigest;

/// The most turns that reads can earn.
const MOST: u8 = 3;

/// The slots that have blocks, in the order in which they may be evicted.
#[derive(Default)]
pub struct Queues {
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    /// The digests that have left the small queue, in order; those that came back are only in this list.
    left: VecDeque<u64>,
    has_left: HashSet<u64, ByDigest>,
    /// How often each slot was read since its last turn.
    uses: Vec<AtomicU8>,
}

impl Queues {
    /// Counts a read of a slot.
    pub fn touch(&self, slot: u32) {
        let Some(uses) = self.uses.get(slot as usize) else { return };
        let count = uses.load(Relaxed);
        if count < MOST {
            // Of two reads at the same time, one may not count.
            uses.store(count + 1, Relaxed);
        }
    }

    /// Adds a slot whose block is new.
    pub fn push(&mut self, slot: u32, digest: u64) {
        self.set_uses(slot, 0);
        if self.has_left.remove(&digest) {
            self.main.push_back(slot);
        } else {
            self.small.push_back(slot);
        }
    }

    /// Adds a slot whose block was stored by an earlier process.
    pub fn push_old(&mut self, slot: u32) {
        self.set_uses(slot, 0);
        self.main.push_back(slot);
    }

    /// Takes out the slot to evict; `None` if there is none. `digest` returns the digest of a slot's block, or `None` if the block is
    /// no longer wanted.
    pub fn pop(&mut self, digest: impl Fn(u32) -> Option<u64>) -> Option<u32> {
        loop {
            let slots = self.small.len() + self.main.len();
            let is_small = self.small.len() > slots / 10 || self.main.is_empty();
            let slot = if is_small { self.small.pop_front() } else { self.main.pop_front() }?;
            let Some(digest) = digest(slot) else { return Some(slot) };
            // Ends: each turn takes one of at most `MOST` uses of a slot, or moves a slot out of the small queue.
            match self.uses(slot) {
                0 if is_small => {
                    self.remember(digest);
                    return Some(slot);
                }
                0 => return Some(slot),
                uses => {
                    self.set_uses(slot, if is_small { 0 } else { uses - 1 });
                    self.main.push_back(slot);
                }
            }
        }
    }

    /// Remembers as many digests as the main queue has slots.
    fn remember(&mut self, digest: u64) {
        if self.has_left.insert(digest) {
            self.left.push_back(digest);
        }
        while self.left.len() > self.main.len().max(self.small.len())
            && let Some(oldest) = self.left.pop_front()
        {
            self.has_left.remove(&oldest);
        }
    }

    fn uses(&self, slot: u32) -> u8 {
        self.uses.get(slot as usize).map_or(0, |uses| uses.load(Relaxed))
    }

    fn set_uses(&mut self, slot: u32, count: u8) {
        let at = slot as usize;
        if self.uses.len() <= at {
            self.uses.resize_with(at + 1, AtomicU8::default);
        }
        *self.uses[at].get_mut() = count;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use faultin_test::eviction::{Lru, Policy, ROOM, Sieve, miss_ratio, traces};

    use super::*;

    /// The queues as a policy over numbered blocks.
    struct Tier {
        queues: Queues,
        slots: HashMap<u32, u32>,
        blocks: Vec<Option<u32>>,
    }

    impl Tier {
        fn new(slots: u32) -> Tier {
            Tier { queues: Queues::default(), slots: HashMap::new(), blocks: vec![None; slots as usize] }
        }
    }

    impl Policy for Tier {
        fn access(&mut self, block: u32) -> bool {
            if let Some(&slot) = self.slots.get(&block) {
                self.queues.touch(slot);
                return true;
            }
            let used = self.slots.len();
            let slot = if used < self.blocks.len() {
                used as u32
            } else {
                let blocks = &self.blocks;
                let slot = self.queues.pop(|slot| blocks[slot as usize].map(u64::from)).expect("a slot");
                self.slots.remove(&self.blocks[slot as usize].expect("a block"));
                slot
            };
            self.blocks[slot as usize] = Some(block);
            self.slots.insert(block, slot);
            self.queues.push(slot, u64::from(block));
            false
        }
    }

    #[test]
    fn a_scan_does_not_evict_what_is_read_again() {
        let mut tier = Tier::new(100);
        for _ in 0..3 {
            (0..50).for_each(|block| _ = tier.access(block));
        }
        (1_000..3_000).for_each(|block| _ = tier.access(block));
        let kept = (0..50).filter(|&block| tier.access(block)).count();
        assert_eq!(kept, 50);
    }

    #[test]
    fn misses_are_hardly_more_than_those_of_simple_policies() {
        for trace in traces(120_000) {
            let mut ours = Tier::new(ROOM as u32);
            let (mut lru, mut sieve) = (Lru::new(ROOM), Sieve::new(ROOM));
            let ours = miss_ratio(&trace.accesses, |block| ours.access(block));
            let lru = miss_ratio(&trace.accesses, |block| lru.access(block));
            let sieve = miss_ratio(&trace.accesses, |block| sieve.access(block));
            println!("{}: {ours:.3}, LRU {lru:.3}, SIEVE {sieve:.3}", trace.name);
            assert!(ours <= 1.05 * lru.min(sieve), "{}: {ours}, LRU {lru}, SIEVE {sieve}", trace.name);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut tier = Tier::new(100);
        for block in 0..100_000 {
            tier.access(block);
        }
        assert!(tier.queues.left.len() <= 100 && tier.queues.has_left.len() <= 100);
    }
}
