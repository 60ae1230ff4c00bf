//! The order in which the folios of all files are evicted: S3-FIFO (Yang and others, SOSP 2023).
//!
//! New folios enter the *small* queue, which has a tenth of the limit. A folio that was used again before it reaches
//! the front moves to the *main* queue; a folio that was not is evicted, and its position in its file is remembered for
//! a while ([`Ghost`]). If the same position is read again, its folio enters the main queue at once. At the front of
//! the main queue, a folio with uses left loses one and moves to the back; a folio without is evicted. So a scan of
//! many files or of a long file displaces folios of the small queue only.
//!
//! The queue knows folios by file and key, and takes no lock of a file: reclaim *picks* candidates, which go to the
//! back of their queue, and then tries the locks. Its own lock is the last in the lock order, with the arena's: nothing
//! else is locked while it is held.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard};

use super::ghost::Ghost;
use super::inside::inbox::Inbox;
use super::inside::keys::{Arrival, Key, Place, units};

/// The numbers of the queue of new folios and of the queue of folios that were used again. Each queue is a ring through
/// its end node, which has the queue's number.
const SMALL: usize = 0;
const MAIN: usize = 1;
/// The list of nodes that are in no queue.
const FREE: u8 = 2;

/// Maximum number of candidates that are picked at once.
pub(crate) const MAX_CANDIDATES: usize = 32;

/// The places of all folios of a cache.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Folios that signal handlers have inserted, which cannot take the lock.
    inbox: Inbox,
    /// Size in bytes that the small queue may have before its folios are the first to be evicted.
    small: AtomicUsize,
    /// How long the place of an evicted folio is remembered: until this number of bytes was allocated for other folios.
    memory: AtomicU64,
    block: usize,
}

/// A folio that may be evicted, if it still exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) place: Place,
    pub(crate) file: u32,
    pub(crate) key: Key,
    /// Whether it is in the small queue.
    pub(crate) is_new: bool,
}

/// One walk over all folios: the number of folios of each queue that were not visited yet.
#[derive(Debug)]
pub(crate) struct Round {
    left: [usize; 2],
}

#[derive(Debug)]
struct State {
    /// The nodes. The first two are the end nodes of the queues.
    nodes: Vec<Node>,
    /// The first free node, or 0 for none. The `after` of a free node is the next free node.
    free: u32,
    /// Number of folios in each queue.
    counts: [usize; 2],
    /// Number of blocks in the small queue.
    new_blocks: usize,
    ghost: Ghost,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    before: u32,
    after: u32,
    file: u32,
    key: Option<Key>,
    blocks: u16,
    list: u8,
}

impl Queue {
    /// Makes queues for a cache of `limit` bytes, in blocks of `block` bytes.
    pub(crate) fn new(limit: usize, block: usize) -> Queue {
        let end = |list: usize| {
            let at = list as u32;
            Node { before: at, after: at, file: 0, key: None, blocks: 0, list: list as u8 }
        };
        let mut state = State {
            nodes: vec![end(SMALL), end(MAIN)],
            free: 0,
            counts: [0; 2],
            new_blocks: 0,
            ghost: Ghost::default(),
        };
        let inbox = Inbox::new(|| Place::of(state.new_node()));
        let (small, memory) = (AtomicUsize::new(0), AtomicU64::new(0));
        let queue = Queue { state: Mutex::new(state), inbox, small, memory, block };
        queue.set_limit(limit);
        queue
    }

    /// Changes the limit of the cache in bytes.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.small.store(limit / 10, Relaxed);
        // One and a half times the limit: with less, a cyclic scan of twice the limit would have no hit.
        self.memory.store((limit as u64).saturating_add(limit as u64 / 2), Relaxed);
    }

    /// Locks the state, and enters the folios that handlers have inserted.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if !self.inbox.is_empty() {
            self.inbox.drain(|place, arrival| {
                self.enter(&mut state, place, arrival);
                Place::of(state.new_node())
            });
        }
        state
    }

    /// Returns the number of blocks of a folio, at most 512.
    fn blocks(&self, bytes: usize) -> u16 {
        u16::try_from(units(bytes, self.block)).unwrap_or(u16::MAX)
    }

    /// Enters a folio.
    pub(crate) fn push(&self, arrival: &Arrival) -> Place {
        let mut state = self.lock();
        let place = Place::of(state.new_node());
        self.enter(&mut state, place, arrival);
        place
    }

    fn enter(&self, state: &mut State, place: Place, arrival: &Arrival) {
        let now = self.ticks(arrival.at);
        let list =
            if state.ghost.take(arrival.print, now, self.ticks(self.memory.load(Relaxed))) { MAIN } else { SMALL };
        state.enter(place, arrival, self.blocks(arrival.len), list);
    }

    /// Enters a folio as [`push`](Self::push) does, without a lock. Returns `None` if there is no room until another
    /// thread takes the lock. Async-signal-safe.
    pub(crate) fn push_in_signal(&self, arrival: &Arrival) -> Option<Place> {
        self.inbox.push(arrival)
    }

    /// Removes a folio. For an eviction, `evicted` is the hash of its position in its file and the time, which are
    /// remembered.
    pub(crate) fn remove(&self, place: Place, evicted: Option<(u64, u64)>) {
        if place == Place::default() {
            return;
        }
        let mut state = self.lock();
        let was_new = state.leave(place);
        if let Some((print, now)) = evicted
            && was_new
        {
            let folios = state.counts[SMALL] + state.counts[MAIN];
            let now = self.ticks(now);
            state.ghost.put(print, now, folios);
        }
    }

    /// Removes all folios of a file.
    pub(crate) fn remove_all(&self, places: impl Iterator<Item = Place>) {
        let mut state = self.lock();
        for place in places.filter(|&place| place != Place::default()) {
            state.leave(place);
        }
    }

    /// Converts a time from bytes to blocks, of which 32 bits are kept.
    fn ticks(&self, bytes: u64) -> u32 {
        (bytes >> self.block.trailing_zeros()) as u32
    }

    /// Returns a walk over all folios.
    pub(crate) fn round(&self) -> Round {
        Round { left: self.lock().counts }
    }

    /// Picks the next candidates of a walk, at most `most` and at most [`MAX_CANDIDATES`]: from the small queue while
    /// that has more than its share, otherwise from the main queue. They move to the back of their queue.
    pub(crate) fn pick(&self, round: &mut Round, most: usize, picked: &mut Vec<Candidate>) {
        picked.clear();
        let mut state = self.lock();
        let mut new_blocks = state.new_blocks;
        while picked.len() < most.min(MAX_CANDIDATES) {
            let [small, main] = [SMALL, MAIN].map(|list| round.left[list] > 0 && state.counts[list] > 0);
            let list = match (small, main) {
                (true, true) if new_blocks * self.block > self.small.load(Relaxed) => SMALL,
                (true, false) => SMALL,
                (_, true) => MAIN,
                (false, false) => break,
            };
            let at = state.nodes[list].after;
            let node = state.nodes[at as usize];
            let Some(key) = node.key else { break };
            if list == SMALL {
                new_blocks = new_blocks.saturating_sub(usize::from(node.blocks));
            }
            round.left[list] -= 1;
            state.unlink(at);
            state.link(at, list, true);
            picked.push(Candidate { place: Place::of(at), file: node.file, key, is_new: list == SMALL });
        }
    }

    /// Moves the candidates of the last [`pick`](Self::pick) that were not examined back to the front.
    pub(crate) fn put_back(&self, round: &mut Round, candidates: &[Candidate]) {
        let mut state = self.lock();
        for candidate in candidates.iter().rev() {
            let at = candidate.place.number();
            let node = state.nodes[at as usize];
            let list = usize::from(!candidate.is_new);
            // Another thread may have removed it since.
            if usize::from(node.list) == list && node.file == candidate.file && node.key == Some(candidate.key) {
                state.unlink(at);
                state.link(at, list, false);
            }
            round.left[list] += 1;
        }
    }

    /// Moves a folio to the back of the main queue.
    pub(crate) fn promote(&self, place: Place) {
        let mut state = self.lock();
        let node = state.nodes[place.number() as usize];
        if usize::from(node.list) == SMALL {
            state.unlink(place.number());
            state.counts[SMALL] -= 1;
            state.new_blocks -= usize::from(node.blocks);
            state.nodes[place.number() as usize].list = MAIN as u8;
            state.counts[MAIN] += 1;
            state.link(place.number(), MAIN, true);
        }
    }
}

impl State {
    /// Takes a free node.
    fn new_node(&mut self) -> u32 {
        if self.free != 0 {
            let at = self.free;
            self.free = self.nodes[at as usize].after;
            return at;
        }
        // Each folio has a key of 32 bits, so there are fewer nodes than that.
        let at = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(Node { before: 0, after: 0, file: 0, key: None, blocks: 0, list: FREE });
        at
    }

    fn enter(&mut self, place: Place, arrival: &Arrival, blocks: u16, list: usize) {
        let node = &mut self.nodes[place.number() as usize];
        *node = Node { file: arrival.file, key: Some(arrival.key), blocks, list: list as u8, ..*node };
        self.counts[list] += 1;
        if list == SMALL {
            self.new_blocks += usize::from(blocks);
        }
        self.link(place.number(), list, true);
    }

    /// Frees a folio's node. Returns whether it was in the small queue.
    fn leave(&mut self, place: Place) -> bool {
        let node = self.nodes[place.number() as usize];
        self.unlink(place.number());
        let list = usize::from(node.list);
        self.counts[list] -= 1;
        if list == SMALL {
            self.new_blocks -= usize::from(node.blocks);
        }
        self.nodes[place.number() as usize] = Node { after: self.free, key: None, list: FREE, ..node };
        self.free = place.number();
        list == SMALL
    }

    fn unlink(&mut self, at: u32) {
        let Node { before, after, .. } = self.nodes[at as usize];
        self.nodes[before as usize].after = after;
        self.nodes[after as usize].before = before;
    }

    /// Links a node into a queue, at its back or at its front.
    fn link(&mut self, at: u32, list: usize, back: bool) {
        let end = list as u32;
        let (before, after) = if back { (self.nodes[list].before, end) } else { (end, self.nodes[list].after) };
        (self.nodes[at as usize].before, self.nodes[at as usize].after) = (before, after);
        self.nodes[before as usize].after = at;
        self.nodes[after as usize].before = at;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const BLOCK: usize = 8;
    /// The small queue's share is two blocks.
    const LIMIT: usize = 20 * BLOCK;

    fn arrival(key: u32, at: u64) -> Arrival {
        let key = Key::from_number(key).unwrap();
        let print = u64::from(key.number()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Arrival { file: 3, key, print: print ^ print << 32, len: BLOCK, at }
    }

    /// The same as lists.
    #[derive(Default)]
    struct Model {
        lists: [VecDeque<u32>; 2],
    }

    impl Model {
        fn take(&mut self, key: u32) -> Option<usize> {
            for (list, keys) in self.lists.iter_mut().enumerate() {
                if let Some(at) = keys.iter().position(|&other| other == key) {
                    keys.remove(at);
                    return Some(list);
                }
            }
            None
        }
    }

    /// Random operations, also those of handlers, have the same effect on the queues and on lists.
    #[test]
    fn as_lists() {
        let random = faultin_test::Random::new(5);
        let queue = Queue::new(LIMIT, BLOCK);
        let (mut model, mut places) = (Model::default(), vec![Place::default(); 60]);
        let mut now = 0;
        let mut candidates = Vec::new();
        for turn in 0..50_000 {
            let key = 1 + random.below(59) as u32;
            let place = places[key as usize];
            match random.below(6) {
                0 | 1 if place == Place::default() => {
                    now += BLOCK as u64;
                    places[key as usize] = queue.push(&arrival(key, now));
                    model.lists[SMALL].push_back(key);
                }
                2 if place == Place::default() => {
                    now += BLOCK as u64;
                    places[key as usize] = queue.push_in_signal(&arrival(key, now)).unwrap();
                    // It enters with the next operation, which is this one.
                    queue.round();
                    model.lists[SMALL].push_back(key);
                }
                3 if place != Place::default() => {
                    queue.remove(place, None);
                    places[key as usize] = Place::default();
                    model.take(key);
                }
                4 if place != Place::default() => {
                    queue.promote(place);
                    if model.lists[SMALL].contains(&key) {
                        model.take(key);
                        model.lists[MAIN].push_back(key);
                    }
                }
                _ => {
                    let most = random.below(5_usize);
                    let mut round = queue.round();
                    queue.pick(&mut round, most, &mut candidates);
                    let mut left = model.lists.each_ref().map(VecDeque::len);
                    let mut expected = Vec::new();
                    while expected.len() < most && left != [0, 0] {
                        let is_new = left[SMALL] > 2 || left[MAIN] == 0;
                        let list = if is_new { SMALL } else { MAIN };
                        left[list] -= 1;
                        let key = model.lists[list].pop_front().unwrap();
                        model.lists[list].push_back(key);
                        expected.push((key, is_new));
                    }
                    let picked: Vec<_> = candidates.iter().map(|c| (c.key.number(), c.is_new)).collect();
                    assert_eq!(picked, expected, "turn {turn}");
                    // Some of the last ones are put back.
                    let kept = random.below(candidates.len() + 1);
                    queue.put_back(&mut round, &candidates[kept..]);
                    for &(key, is_new) in expected[kept..].iter().rev() {
                        let list = model.take(key).unwrap();
                        assert_eq!(is_new, list == SMALL);
                        model.lists[list].push_front(key);
                    }
                }
            }
            let state = queue.lock();
            for (list, keys) in model.lists.iter().enumerate() {
                let mut found = Vec::new();
                let mut at = state.nodes[list].after;
                while at as usize != list {
                    found.push(state.nodes[at as usize].key.unwrap().number());
                    at = state.nodes[at as usize].after;
                }
                assert_eq!(found, Vec::from(keys.clone()), "turn {turn}");
                assert_eq!(state.counts[list], found.len(), "turn {turn}");
            }
            assert_eq!(state.new_blocks, model.lists[SMALL].len(), "turn {turn}");
        }
        // Nodes are used again.
        assert!(queue.lock().nodes.len() < 60 + 2 + 2 * 128);
    }

    /// A folio that was evicted while it was new enters the main queue if it comes back in time.
    #[test]
    fn places_are_remembered_for_a_while() {
        let queue = Queue::new(LIMIT, BLOCK);
        let block = BLOCK as u64;
        let counts = || queue.lock().counts;
        for (evicted, later, expected) in
            [(true, 29 * block, [0, 1]), (true, 30 * block, [1, 0]), (false, block, [1, 0])]
        {
            let first = arrival(1, 100 * block);
            let place = queue.push(&first);
            queue.remove(place, evicted.then_some((first.print, first.at)));
            let again = queue.push(&Arrival { at: first.at + later, ..first });
            assert_eq!(counts(), expected, "evicted: {evicted}, {later} later");
            // From the main queue it is not remembered, and a place is remembered once.
            queue.remove(again, (expected == [0, 1]).then_some((first.print, first.at + later)));
            let last = queue.push(&Arrival { at: first.at + later, ..first });
            assert_eq!(counts(), [1, 0]);
            queue.remove(last, None);
        }
    }

    /// A full inbox refuses, and loses nothing.
    #[test]
    fn handlers_find_no_room_until_a_thread_has_taken_the_lock() {
        let queue = Queue::new(LIMIT, BLOCK);
        let mut places = Vec::new();
        while let Some(place) = queue.push_in_signal(&arrival(1 + places.len() as u32, 8)) {
            places.push(place);
        }
        assert!(places.len() > 100, "{}", places.len());
        queue.remove(places[0], None);
        assert!(queue.push_in_signal(&arrival(1_000, 8)).is_some());
        assert_eq!(queue.lock().counts, [places.len(), 0]);
    }

    /// Handlers of several threads, beside a thread that enters and removes what they insert.
    #[test]
    fn handlers_of_several_threads() {
        let queue = Queue::new(LIMIT, BLOCK);
        std::thread::scope(|scope| {
            for thread in 0..3_u32 {
                let queue = &queue;
                scope.spawn(move || {
                    for turn in 0..5_000_u32 {
                        let arrival = arrival(1 + thread * 5_000 + turn, 8);
                        let place = loop {
                            match queue.push_in_signal(&arrival) {
                                Some(place) => break place,
                                None => _ = queue.round(),
                            }
                        };
                        if turn % 2 == 0 {
                            queue.remove(place, None);
                        }
                    }
                });
            }
        });
        let state = queue.lock();
        assert_eq!(state.counts, [7_500, 0]);
        let mut keys: Vec<_> = state.nodes.iter().filter_map(|node| node.key).map(Key::number).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 7_500);
    }
}
