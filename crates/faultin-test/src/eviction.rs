//! Eviction policies, simulated, and the access traces to compare them on: numbers of blocks, the same in each run.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::Random;

/// Number of different blocks of the traces, except those that scans read.
pub const BLOCKS: u32 = 65_536;

/// Number of blocks that the cache has room for in the comparison.
pub const ROOM: usize = 4_096;

/// An eviction policy over blocks of one size.
pub trait Policy {
    /// Accesses a block, and brings it in if it is missing. Returns whether it was there.
    fn access(&mut self, block: u32) -> bool;
}

/// Returns the share of misses in the second half of a trace; the first half fills the cache.
pub fn miss_ratio(trace: &[u32], mut is_hit: impl FnMut(u32) -> bool) -> f64 {
    let (fill, count) = trace.split_at(trace.len() / 2);
    for &block in fill {
        is_hit(block);
    }
    count.iter().filter(|&&block| !is_hit(block)).count() as f64 / count.len() as f64
}

/// Least recently used.
#[derive(Debug)]
pub struct Lru {
    room: usize,
    now: u64,
    used: HashMap<u32, u64>,
    /// Blocks in the order of their uses; only the last use of each counts.
    order: VecDeque<(u64, u32)>,
}

impl Lru {
    /// Makes a cache with room for `room` blocks.
    pub fn new(room: usize) -> Lru {
        Lru { room, now: 0, used: HashMap::new(), order: VecDeque::new() }
    }
}

impl Policy for Lru {
    fn access(&mut self, block: u32) -> bool {
        self.now += 1;
        let hit = self.used.insert(block, self.now).is_some();
        self.order.push_back((self.now, block));
        while self.used.len() > self.room
            && let Some((when, oldest)) = self.order.pop_front()
        {
            if self.used.get(&oldest) == Some(&when) {
                self.used.remove(&oldest);
            }
        }
        hit
    }
}

/// SIEVE (Zhang and others, NSDI 2024): a queue in the order of arrival, a bit for each block that was used again, and a
/// hand that goes from old to new, evicts the first block without the bit, and clears the bits on its way.
///
/// The blocks that the hand has passed are one queue, and those before it another.
#[derive(Debug)]
pub struct Sieve {
    room: usize,
    visited: HashMap<u32, bool>,
    passed: VecDeque<u32>,
    ahead: VecDeque<u32>,
}

impl Sieve {
    /// Makes a cache with room for `room` blocks.
    pub fn new(room: usize) -> Sieve {
        Sieve { room, visited: HashMap::new(), passed: VecDeque::new(), ahead: VecDeque::new() }
    }

    /// Returns the next block that the policy evicts, and forgets it.
    pub fn evict(&mut self) -> Option<u32> {
        loop {
            let Some(block) = self.ahead.pop_front() else {
                if self.passed.is_empty() {
                    return None;
                }
                std::mem::swap(&mut self.ahead, &mut self.passed);
                continue;
            };
            match self.visited.get_mut(&block) {
                Some(visited) if *visited => {
                    *visited = false;
                    self.passed.push_back(block);
                }
                _ => {
                    self.visited.remove(&block);
                    return Some(block);
                }
            }
        }
    }
}

impl Policy for Sieve {
    fn access(&mut self, block: u32) -> bool {
        if let Some(visited) = self.visited.get_mut(&block) {
            *visited = true;
            return true;
        }
        if self.visited.len() == self.room {
            self.evict();
        }
        self.visited.insert(block, false);
        self.ahead.push_back(block);
        false
    }
}

/// S3-FIFO (Yang and others, SOSP 2023): a small queue for new blocks, a main queue for those that were used again there,
/// and a list of the blocks that have left the small one lately.
#[derive(Debug)]
pub struct S3Fifo {
    room: usize,
    /// How often a block was used again, at most 3.
    uses: HashMap<u32, u8>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    left: VecDeque<u32>,
    has_left: HashSet<u32>,
}

impl S3Fifo {
    /// Makes a cache with room for `room` blocks.
    pub fn new(room: usize) -> S3Fifo {
        S3Fifo {
            room,
            uses: HashMap::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            left: VecDeque::new(),
            has_left: HashSet::new(),
        }
    }

    fn evict(&mut self) {
        while self.uses.len() >= self.room {
            if self.small.len() >= (self.room / 10).max(1) || self.main.is_empty() {
                let Some(block) = self.small.pop_front() else { return };
                if self.uses.get(&block).is_some_and(|&uses| uses > 1) {
                    self.uses.insert(block, 0);
                    self.main.push_back(block);
                    continue;
                }
                self.uses.remove(&block);
                self.left.push_back(block);
                self.has_left.insert(block);
                if self.left.len() > self.room * 9 / 10
                    && let Some(oldest) = self.left.pop_front()
                {
                    self.has_left.remove(&oldest);
                }
            } else if let Some(block) = self.main.pop_front() {
                match self.uses.get_mut(&block) {
                    Some(uses) if *uses > 0 => {
                        *uses -= 1;
                        self.main.push_back(block);
                    }
                    _ => drop(self.uses.remove(&block)),
                }
            }
        }
    }
}

impl Policy for S3Fifo {
    fn access(&mut self, block: u32) -> bool {
        if let Some(uses) = self.uses.get_mut(&block) {
            *uses = (*uses + 1).min(3);
            return true;
        }
        self.evict();
        self.uses.insert(block, 0);
        if self.has_left.remove(&block) {
            self.left.retain(|&other| other != block);
            self.main.push_back(block);
        } else {
            self.small.push_back(block);
        }
        false
    }
}

/// Blocks with a Zipf distribution, the popular ones scattered over the file.
#[derive(Debug)]
pub struct Zipf {
    /// The sum of the probabilities up to each rank.
    sums: Vec<f64>,
    blocks: Vec<u32>,
}

impl Zipf {
    /// Makes the distribution over `blocks` blocks with an exponent.
    pub fn new(blocks: u32, skew: f64, numbers: &Random) -> Zipf {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = (1..=blocks)
            .map(|rank| {
                sum += f64::from(rank).powf(-skew);
                sum
            })
            .collect();
        sums.iter_mut().for_each(|part| *part /= sum);
        let mut places: Vec<u32> = (0..blocks).collect();
        numbers.shuffle(&mut places);
        Zipf { sums, blocks: places }
    }

    /// Returns a block.
    pub fn draw(&self, numbers: &Random) -> u32 {
        let wanted = numbers.unit();
        let rank = self.sums.partition_point(|&sum| sum < wanted);
        self.blocks[rank.min(self.blocks.len() - 1)]
    }
}

/// A trace with its name.
#[derive(Debug)]
pub struct Trace {
    /// What it consists of.
    pub name: &'static str,
    /// The blocks, in the order of the accesses.
    pub accesses: Vec<u32>,
}

/// Returns a block by the number of its access.
type Access<'a> = Box<dyn FnMut(usize, &Random) -> u32 + 'a>;

/// Returns the traces of the comparison, of `len` accesses each.
pub fn traces(len: usize) -> Vec<Trace> {
    let numbers = Random::new(17);
    let zipf = Zipf::new(BLOCKS, 0.99, &numbers);
    let mut scan = BLOCKS;
    let mut next_of_scan = || {
        scan = if scan + 1 == 2 * BLOCKS { BLOCKS } else { scan + 1 };
        scan
    };
    let room = ROOM as u32;
    let trace =
        |name, mut access: Access<'_>| Trace { name, accesses: (0..len).map(|at| access(at, &numbers)).collect() };
    let mut all = vec![
        trace("Zipf 0.99", Box::new(|_, numbers| zipf.draw(numbers))),
        trace("a loop, larger than the cache by a tenth", Box::new(|at, _| at as u32 % (room + room / 10))),
        trace("a loop, twice the cache", Box::new(|at, _| at as u32 % (2 * room))),
        // Other blocks are the popular ones from time to time.
        trace(
            "phases of Zipf 0.99",
            Box::new(|at, numbers| (zipf.draw(numbers) + (at / 50_000) as u32 * 7_919) % BLOCKS),
        ),
    ];
    all.push(trace(
        "Zipf 0.99, a scan in every other 3,000",
        Box::new(|at, numbers| if at / 3_000 % 2 == 0 { zipf.draw(numbers) } else { next_of_scan() }),
    ));
    let mut scan = BLOCKS;
    all.push(trace(
        "a mix: Zipf, a loop and a scan in turns",
        Box::new(|at, numbers| match at / 1_000 % 3 {
            0 => zipf.draw(numbers),
            1 => at as u32 % (room / 2),
            _ => {
                scan = if scan + 1 == 2 * BLOCKS { BLOCKS } else { scan + 1 };
                scan
            }
        }),
    ));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policies' evictions on a trace that can be followed by hand.
    #[test]
    fn policies_evict_what_their_papers_say() {
        let hits = |policy: &mut dyn Policy, trace: &[u32]| -> Vec<bool> {
            trace.iter().map(|&block| policy.access(block)).collect()
        };
        // 1 is used again, so the hand passes it and evicts 2; LRU does the same, because 2 is the oldest.
        let trace = [1, 2, 3, 1, 4, 1, 2];
        assert_eq!(hits(&mut Sieve::new(3), &trace), [false, false, false, true, false, true, false]);
        assert_eq!(hits(&mut Lru::new(3), &trace), [false, false, false, true, false, true, false]);
        // Once more: the hand continues at 3, which was used, and evicts 4, where LRU evicts 1.
        let trace = [1, 2, 3, 1, 4, 3, 5, 3, 4];
        assert_eq!(hits(&mut Lru::new(3), &trace)[5..], [true, false, true, true]);
        assert_eq!(hits(&mut Sieve::new(3), &trace)[5..], [true, false, true, false]);
        // A block that is used once leaves the small queue; used again soon after, it goes to the main one, and stays.
        let mut policy = S3Fifo::new(10);
        hits(&mut policy, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert!(!policy.access(1) && policy.main.contains(&1));
    }

    #[test]
    fn a_policy_never_holds_more_than_its_room() {
        for trace in traces(30_000) {
            let (mut lru, mut sieve, mut s3) = (Lru::new(100), Sieve::new(100), S3Fifo::new(100));
            for &block in &trace.accesses {
                lru.access(block);
                sieve.access(block);
                s3.access(block);
                assert!(lru.used.len() <= 100 && sieve.visited.len() <= 100 && s3.uses.len() <= 100);
                assert_eq!(sieve.visited.len(), sieve.passed.len() + sieve.ahead.len());
                assert_eq!(s3.uses.len(), s3.small.len() + s3.main.len());
            }
        }
    }
}
