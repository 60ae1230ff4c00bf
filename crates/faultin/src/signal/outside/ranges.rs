//! Entering a range into the tree of [`Ranges`]: nodes are made where it first needs them.

use core::ops::Range;
use core::ptr;

use crate::signal::inside::ranges::{HIGHEST, Node, Ranges, Word, covers, pages};
use crate::sync::{AtomicPtr, Ordering};

impl Ranges {
    /// Enters `value` for all pages of `range`, no page of which is another range's.
    pub(crate) fn insert(&self, range: &Range<usize>, value: *mut ()) {
        if let Some((first, last)) = pages(range) {
            self.root_over(last).insert(first, last, value);
        }
    }

    /// Returns a root that covers page `last`, which is the tree's from now on.
    fn root_over(&self, last: usize) -> Node {
        let mut seen = self.root.load(Ordering::Acquire);
        loop {
            let old = Node::at_root(seen);
            let new = match old {
                Some(root) if root.covers(last) => return root,
                Some(root) => {
                    let new = Node::new(root.height + 1);
                    new.child_word(0).store(root.words.cast(), Ordering::Relaxed);
                    new
                }
                None => Node::new((1..HIGHEST).find(|&height| covers(height, last)).unwrap_or(HIGHEST)),
            };
            match self.root.compare_exchange(seen, new.as_root(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => seen = new.as_root(),
                Err(now) => {
                    // SAFETY: no other thread has seen it.
                    unsafe { new.free() };
                    seen = now;
                }
            }
        }
    }
}

impl Node {
    fn new(height: u32) -> Node {
        let words: Box<[Word]> = (0..Node::len(height)).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        Node { words: Box::into_raw(words).cast(), height }
    }

    /// Frees a node that `new` has made.
    ///
    /// # Safety
    /// No other thread knows the node, and nothing uses it afterwards.
    unsafe fn free(self) {
        let words = ptr::slice_from_raw_parts_mut(self.words, Node::len(self.height));
        // SAFETY: `new` made it from such a box; the rest is the caller's contract.
        drop(unsafe { Box::from_raw(words) });
    }

    /// Returns the child of an entry, which is made if there is none.
    fn child_or_new(self, index: usize) -> Node {
        if let Some(child) = self.child(index) {
            return child;
        }
        let new = Node::new(self.height - 1);
        let none = ptr::null_mut();
        match self.child_word(index).compare_exchange(none, new.words.cast(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: no other thread has seen it.
                unsafe { new.free() };
                Node { words: other.cast(), ..new }
            }
        }
    }

    fn insert(self, first: usize, last: usize, value: *mut ()) {
        for index in self.between(first, last) {
            self.value(index).store(value, Ordering::Release);
        }
        for part in self.edges(first, last) {
            let word = self.value(part.index);
            if part.is_whole {
                word.store(value, Ordering::Release);
                continue;
            }
            // A value for more pages than this range's: in a child of `fork`, of a range whose memory it did not inherit.
            if !word.load(Ordering::Relaxed).is_null() {
                word.store(ptr::null_mut(), Ordering::Relaxed);
            }
            self.child_or_new(part.index).insert(part.first, part.last, value);
        }
    }
}

#[cfg(all(test, not(faultin_loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::thread;

    use faultin_test::Random;

    use super::*;
    use crate::signal::inside::ranges::{BITS, FANOUT, PAGE_BITS};

    const PAGE: usize = 1 << PAGE_BITS;

    fn value(number: usize) -> *mut () {
        ptr::without_provenance_mut(number)
    }

    /// What the tree must be like: a list of ranges with their values.
    #[derive(Default)]
    struct Model(Vec<(Range<usize>, usize)>);

    impl Model {
        fn get(&self, address: usize) -> usize {
            self.0.iter().find(|(range, _)| range.contains(&address)).map_or(0, |(_, value)| *value)
        }

        fn first(&self, wanted: &Range<usize>) -> usize {
            let meets = |range: &Range<usize>| range.start.max(wanted.start) < range.end.min(wanted.end);
            let found = self.0.iter().filter(|(range, _)| meets(range)).min_by_key(|(range, _)| range.start);
            found.map_or(0, |(_, value)| *value)
        }
    }

    /// A range of whole pages somewhere; the sizes and places are such that ranges meet in nodes of all heights.
    fn any(random: &Random) -> Range<usize> {
        let scale = |random: &Random| 1_usize << (random.below(5) as u32 * BITS).min(usize::BITS - PAGE_BITS - 1);
        let base = [0, 0x7fff_0000_0000, 1 << 48, usize::MAX & !(PAGE - 1)][random.below(4)] >> PAGE_BITS;
        let (unit, size) = (scale(random), scale(random));
        let start = base.wrapping_add((4 * FANOUT + random.below(3 * FANOUT)).wrapping_mul(unit));
        let start = start.wrapping_sub(random.below(3)) & (usize::MAX >> PAGE_BITS);
        let len = random.below(3 * FANOUT) * size + random.below(3) + 1;
        let end = start.saturating_add(len).min(usize::MAX >> PAGE_BITS);
        start << PAGE_BITS..end << PAGE_BITS
    }

    #[test]
    fn the_tree_answers_as_a_list_does() {
        for seed in 1..=8 {
            let (ranges, mut model, random) = (Ranges::new(), Model::default(), Random::new(seed));
            let (mut inserted, mut found, mut most) = (0, 0, 0);
            for step in 1..=3_000 {
                let range = any(&random);
                if model.0.len() > 40 || random.below(3) == 0 && !model.0.is_empty() {
                    let (range, number) = model.0.swap_remove(random.below(model.0.len()));
                    ranges.remove(&range, value(number));
                } else if !range.is_empty() && model.first(&range) == 0 {
                    ranges.insert(&range, value(step));
                    model.0.push((range.clone(), step));
                    inserted += 1;
                }
                most = most.max(model.0.len());
                let near: Vec<usize> = model.0.iter().flat_map(|(range, _)| [range.start, range.end]).collect();
                let near = near.into_iter().chain([range.start, range.end, 0, usize::MAX]);
                for address in near.flat_map(|at| [at, at.wrapping_sub(1), at.wrapping_add(PAGE), at.wrapping_add(1)]) {
                    let expected = model.get(address);
                    assert_eq!(ranges.get(address).addr(), expected, "seed {seed}, step {step}, at {address:#x}");
                    found += usize::from(expected != 0);
                }
                let wanted = any(&random);
                assert_eq!(
                    ranges.first(&wanted).addr(),
                    model.first(&wanted),
                    "seed {seed}, step {step}: {wanted:#x?}"
                );
            }
            // Otherwise this tests little.
            assert!(inserted > 300 && most > 15 && found > 10_000, "{inserted} ranges, at most {most}, {found} found");
        }
    }

    #[test]
    fn parts_of_pages_and_empty_ranges() {
        let ranges = Ranges::new();
        assert!(ranges.is_empty() && ranges.get(0).is_null() && ranges.first(&(0..usize::MAX)).is_null());
        ranges.insert(&(8 * PAGE..8 * PAGE), value(1));
        assert!(ranges.is_empty(), "an empty range needs no node");
        ranges.insert(&(8 * PAGE + 10..9 * PAGE + 1), value(2));
        let found = [8, 9, 10].map(|page| ranges.get(page * PAGE).addr());
        assert_eq!(found, [2, 2, 0], "all of its pages");
        ranges.remove(&(8 * PAGE + 10..9 * PAGE + 1), value(2));
        assert!(ranges.first(&(0..usize::MAX)).is_null());
    }

    #[test]
    fn a_range_that_covers_the_root_is_removed_from_a_higher_one() {
        let (ranges, all) = (Ranges::new(), 0..FANOUT * PAGE);
        ranges.insert(&all, value(1));
        ranges.insert(&(all.end..all.end + PAGE), value(2));
        assert_eq!([ranges.get(0), ranges.get(all.end - 1), ranges.get(all.end)].map(<*mut ()>::addr), [1, 1, 2]);
        ranges.remove(&all, value(1));
        assert_eq!(ranges.first(&(0..usize::MAX)).addr(), 2);
    }

    #[test]
    fn a_range_replaces_one_whose_memory_a_child_did_not_inherit() {
        let ranges = Ranges::new();
        let old = 0..4 * FANOUT * PAGE;
        ranges.insert(&old, value(1));
        let new = FANOUT * PAGE + PAGE..FANOUT * PAGE + 2 * PAGE;
        ranges.insert(&new, value(2));
        assert_eq!(ranges.get(new.start).addr(), 2);
        ranges.remove(&old, value(1));
        assert_eq!(ranges.get(new.start).addr(), 2, "it is not the old one's");
        ranges.remove(&new, value(2));
        assert!(ranges.first(&(0..usize::MAX)).is_null());
    }

    /// A range that a writer has entered for now.
    #[derive(Default)]
    struct Announced {
        /// Its value, 0 for none.
        number: AtomicUsize,
        start: AtomicUsize,
        /// How often a reader has found it.
        found: AtomicUsize,
    }

    /// Threads enter and remove ranges between each other's, which share all nodes, while readers look up.
    #[test]
    fn threads_enter_remove_and_look_up_at_the_same_time() {
        const WRITERS: usize = 3;
        const ROUNDS: usize = 4_000;
        let ranges = Ranges::new();
        let announced: [Announced; WRITERS] = Default::default();
        let done = AtomicBool::new(false);
        let write = |writer: usize, announced: &Announced| {
            let random = Random::new(writer as u64 + 1);
            let base = 0x7fff_0000_0000 + writer * 40 * PAGE;
            for round in 1..=ROUNDS {
                // Sometimes in nodes that no range has needed yet, and always beside the other writers'.
                let far = random.below(8) * FANOUT * FANOUT * PAGE;
                let start = base + far + random.below(20) * PAGE;
                let (range, number) = (start..start + (1 + random.below(20)) * PAGE, writer + WRITERS * round);
                ranges.insert(&range, value(number));
                for page in range.clone().step_by(PAGE) {
                    assert_eq!(ranges.get(page).addr(), number, "its own, at {page:#x}");
                }
                announced.start.store(start, Ordering::SeqCst);
                announced.number.store(number, Ordering::SeqCst);
                let before = announced.found.load(Ordering::SeqCst);
                while round % 100 == 0 && announced.found.load(Ordering::SeqCst) == before {
                    assert!(!done.load(Ordering::SeqCst), "a reader has failed");
                    thread::yield_now();
                }
                announced.number.store(0, Ordering::SeqCst);
                ranges.remove(&range, value(number));
                assert!(ranges.first(&range).is_null(), "no other writer has these pages");
            }
        };
        let read = || {
            for (writer, announced) in announced.iter().enumerate() {
                let number = announced.number.load(Ordering::SeqCst);
                let start = announced.start.load(Ordering::SeqCst);
                let found = ranges.get(start).addr();
                if number != 0 && announced.number.load(Ordering::SeqCst) == number {
                    assert_eq!(found, number, "at {start:#x}");
                    announced.found.fetch_add(1, Ordering::SeqCst);
                }
                assert!(found == 0 || found % WRITERS == writer, "{found} at {start:#x}");
            }
        };
        /// Ends the readers, also when a thread fails.
        struct Ends<'a>(&'a AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        thread::scope(|scope| {
            let (write, read, done) = (&write, &read, &done);
            for _ in 0..2 {
                scope.spawn(move || {
                    let _ends = Ends(done);
                    while !done.load(Ordering::SeqCst) {
                        read();
                    }
                });
            }
            let _ends = Ends(done);
            let writers = announced.iter().enumerate().map(|(writer, known)| scope.spawn(move || write(writer, known)));
            let writers: Vec<_> = writers.collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        });
        assert!(ranges.first(&(0..usize::MAX)).is_null());
    }
}
