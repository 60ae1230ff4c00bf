//! [`Ranges`]: the registered range that an address belongs to.
//!
//! A tree over the bits of the address, as page tables are: each node has [`FANOUT`] entries, a leaf one for each page. A
//! range is entered at as few places as possible, so an entry of a higher node may stand for all pages below it. A lookup
//! loads one or two words for each level, whatever the number of ranges. Entering or removing a range of one page stores
//! one word; of more pages, at most two nodes' worth for each level.
//!
//! No lock is needed: ranges that are registered at the same time have no page in common, so no two threads store to the same
//! word. Nodes are made where a range first needs them, and are never freed. So a handler may look up at any time, and so
//! may a child of `fork` go on, whatever another thread of its parent was doing.

use core::ops::Range;
use core::ptr;

use crate::sync::{AtomicPtr, Ordering};

/// The number of address bits within a page, on systems with the smallest pages.
const PAGE_BITS: u32 = if cfg!(faultin_loom) { 0 } else { 12 };

/// The number of address bits that a node decodes.
const BITS: u32 = if cfg!(faultin_loom) { 1 } else { 9 };

/// Number of entries of a node.
const FANOUT: usize = 1 << BITS;

/// The height of a root that covers all addresses.
const HIGHEST: u32 = if cfg!(faultin_loom) { 3 } else { (usize::BITS - PAGE_BITS).div_ceil(BITS) };

/// The bits of the root's address that are the root's height.
const HEIGHT: usize = align_of::<Word>() - 1;
const _: () = assert!(HIGHEST as usize <= HEIGHT);

/// One word of a node: a value, or a pointer to the first word of a child.
type Word = AtomicPtr<()>;

/// Maps addresses to values: pointers that are not null, which mean something to the caller only.
///
/// # Invariants
///
/// 1. A root of height *h* > 0, and a child at height *h* > 0, points to the first word of a node of that height that is
///    never freed. A node of height 1, a leaf, has a value for each entry; a higher one a value and then a child.
/// 2. What a caller has written before it enters a value happens before what a thread does after it has found it.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Ranges {
    /// The root, with its height in the lowest bits of the address. Grows by a node above it.
    root: Word,
}

/// A node that is never freed, and its height.
#[derive(Clone, Copy)]
struct Node {
    words: *mut Word,
    height: u32,
}

/// What lies under one entry of a node: the first and the last page, counted from the first of the entry.
struct Part {
    index: usize,
    first: usize,
    last: usize,
    /// Whether these are all pages of the entry.
    is_whole: bool,
}

impl Ranges {
    #[cfg(not(faultin_loom))]
    pub(crate) const fn new() -> Self {
        Ranges { root: AtomicPtr::new(ptr::null_mut()) }
    }

    #[cfg(faultin_loom)]
    pub(crate) fn new() -> Self {
        Ranges { root: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Returns whether no range was ever entered. Async-signal-safe.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.root.load(Ordering::Relaxed).is_null()
    }

    /// Returns the value of the range that contains `address`, null for none. Async-signal-safe.
    #[inline]
    pub(crate) fn get(&self, address: usize) -> *mut () {
        let page = address >> PAGE_BITS;
        let Some(mut node) = self.root().filter(|root| root.covers(page)) else { return ptr::null_mut() };
        loop {
            let index = page >> (BITS * (node.height - 1)) & (FANOUT - 1);
            let value = node.value(index).load(Ordering::Acquire);
            if !value.is_null() || node.height == 1 {
                return value;
            }
            match node.child(index) {
                Some(child) => node = child,
                None => return value,
            }
        }
    }

    /// Returns the value of the first range that has a page in common with `range`, null for none. Async-signal-safe.
    pub(crate) fn first(&self, range: &Range<usize>) -> *mut () {
        match (self.root(), pages(range)) {
            (Some(root), Some((first, last))) if root.covers(first) => root.first(first, last.min(root.last())),
            _ => ptr::null_mut(),
        }
    }

    /// Enters `value` for all pages of `range`, no page of which is another range's.
    pub(crate) fn insert(&self, range: &Range<usize>, value: *mut ()) {
        if let Some((first, last)) = pages(range) {
            self.root_over(last).insert(first, last, value);
        }
    }

    /// Removes `value` from all pages of `range`, for which it was entered.
    pub(crate) fn remove(&self, range: &Range<usize>, value: *mut ()) {
        if let (Some(root), Some((first, last))) = (self.root(), pages(range)) {
            root.remove(first, last, value);
        }
    }

    #[inline]
    fn root(&self) -> Option<Node> {
        Node::at_root(self.root.load(Ordering::Acquire))
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

    /// Number of words of a node.
    const fn len(height: u32) -> usize {
        if height == 1 { FANOUT } else { 2 * FANOUT }
    }

    #[inline]
    fn at_root(root: *mut ()) -> Option<Node> {
        let words = root.map_addr(|address| address & !HEIGHT).cast::<Word>();
        (!words.is_null()).then_some(Node { words, height: (root.addr() & HEIGHT) as u32 })
    }

    fn as_root(self) -> *mut () {
        self.words.map_addr(|address| address | self.height as usize).cast()
    }

    #[inline]
    fn covers(self, page: usize) -> bool {
        covers(self.height, page)
    }

    /// Returns the last page of a root.
    fn last(self) -> usize {
        1_usize.checked_shl(BITS * self.height).map_or(usize::MAX, |pages| pages - 1)
    }

    /// Returns the word of the value of an entry.
    #[inline]
    fn value(self, index: usize) -> &'static Word {
        let at = if self.height == 1 { index } else { 2 * index };
        debug_assert!(index < FANOUT);
        // SAFETY: invariant 1: a word of the node.
        unsafe { &*self.words.add(at) }
    }

    /// Returns the word of the child of an entry of a node that is no leaf.
    #[inline]
    fn child_word(self, index: usize) -> &'static Word {
        debug_assert!(index < FANOUT && self.height > 1);
        // SAFETY: as above.
        unsafe { &*self.words.add(2 * index + 1) }
    }

    #[inline]
    fn child(self, index: usize) -> Option<Node> {
        let words = self.child_word(index).load(Ordering::Acquire).cast::<Word>();
        (!words.is_null()).then_some(Node { words, height: self.height - 1 })
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

    /// Splits pages `first..=last` of this node by entries.
    fn parts(self, first: usize, last: usize) -> impl Iterator<Item = Part> {
        let shift = BITS * (self.height - 1);
        let all = (1 << shift) - 1;
        let (low, high) = (first >> shift, last >> shift);
        (low..=high).map(move |index| {
            let first = if index == low { first & all } else { 0 };
            let last = if index == high { last & all } else { all };
            Part { index, first, last, is_whole: first == 0 && last == all }
        })
    }

    fn insert(self, first: usize, last: usize, value: *mut ()) {
        for part in self.parts(first, last) {
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

    fn remove(self, first: usize, last: usize, value: *mut ()) {
        for part in self.parts(first, last) {
            let word = self.value(part.index);
            if part.is_whole && ptr::eq(word.load(Ordering::Relaxed), value) {
                word.store(ptr::null_mut(), Ordering::Relaxed);
            } else if self.height > 1
                && let Some(child) = self.child(part.index)
            {
                // Also if it is whole: the range may have been entered from a lower root that it covers.
                child.remove(part.first, part.last, value);
            }
        }
    }

    fn first(self, first: usize, last: usize) -> *mut () {
        let in_part = |part: Part| match self.value(part.index).load(Ordering::Acquire) {
            value if !value.is_null() => Some(value),
            _ if self.height == 1 => None,
            _ => Some(self.child(part.index)?.first(part.first, part.last)).filter(|value| !value.is_null()),
        };
        self.parts(first, last).find_map(in_part).unwrap_or(ptr::null_mut())
    }
}

/// Returns whether a root of this height covers a page.
#[inline]
fn covers(height: u32, page: usize) -> bool {
    page.checked_shr(BITS * height).unwrap_or(0) == 0
}

/// Returns the first and the last page of a range, `None` for an empty one.
fn pages(range: &Range<usize>) -> Option<(usize, usize)> {
    (!range.is_empty()).then(|| (range.start >> PAGE_BITS, (range.end - 1) >> PAGE_BITS))
}

#[cfg(all(test, not(faultin_loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::thread;

    use super::*;

    const PAGE: usize = 1 << PAGE_BITS;

    /// Numbers that need not be good: xorshift64*.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) as usize % bound
        }
    }

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
    fn any(random: &mut Random) -> Range<usize> {
        let scale = |random: &mut Random| 1_usize << (random.below(5) as u32 * BITS).min(usize::BITS - PAGE_BITS - 1);
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
            let (ranges, mut model, mut random) = (Ranges::new(), Model::default(), Random(seed));
            let (mut inserted, mut found, mut most) = (0, 0, 0);
            for step in 1..=3_000 {
                let range = any(&mut random);
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
                let wanted = any(&mut random);
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
            let mut random = Random(writer as u64 + 1);
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
