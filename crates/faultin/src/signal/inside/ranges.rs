//! [`Ranges`]: the registered range that an address belongs to.
//!
//! A tree over the bits of the address, as page tables are: each node has [`FANOUT`] entries, a leaf one for each page. A
//! range is entered at as few places as possible, so an entry of a higher node may stand for all pages below it. A lookup
//! loads one or two words for each level, whatever the number of ranges. Entering or removing a range of one page stores
//! one word; of more pages, at most two nodes' worth for each level.
//!
//! No lock is needed: ranges that are registered at the same time have no page in common, so no two threads store to the same
//! word. Nodes are made where a range first needs them, and are never freed. So a handler may look up at any time, and so
//! may a child of `fork` go on, whatever another thread of its parent was doing. Entering a range, which allocates nodes, is
//! [outside](crate::signal::outside::ranges).

use core::ops::Range;
use core::ptr;

use crate::sync::{AtomicPtr, Ordering};

/// The number of address bits within a page, on systems with the smallest pages.
pub(in crate::signal) const PAGE_BITS: u32 = if cfg!(faultin_loom) { 0 } else { 12 };

/// The number of address bits that a node decodes.
pub(in crate::signal) const BITS: u32 = if cfg!(faultin_loom) { 1 } else { 9 };

/// Number of entries of a node.
pub(in crate::signal) const FANOUT: usize = 1 << BITS;

/// The height of a root that covers all addresses.
pub(in crate::signal) const HIGHEST: u32 =
    if cfg!(faultin_loom) { 3 } else { (usize::BITS - PAGE_BITS).div_ceil(BITS) };

/// The bits of the root's address that are the root's height.
const HEIGHT: usize = align_of::<Word>() - 1;
const _: () = assert!(HIGHEST as usize <= HEIGHT);

/// One word of a node: a value, or a pointer to the first word of a child.
pub(in crate::signal) type Word = AtomicPtr<()>;

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
    pub(in crate::signal) root: Word,
}

/// A node that is never freed, and its height.
#[derive(Clone, Copy)]
pub(in crate::signal) struct Node {
    pub(in crate::signal) words: *mut Word,
    pub(in crate::signal) height: u32,
}

/// What lies under one entry of a node: the first and the last page, counted from the first of the entry.
pub(in crate::signal) struct Part {
    pub(in crate::signal) index: usize,
    pub(in crate::signal) first: usize,
    pub(in crate::signal) last: usize,
    /// Whether these are all pages of the entry.
    pub(in crate::signal) is_whole: bool,
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

    /// Removes `value` from all pages of `range`, for which it was entered.
    pub(crate) fn remove(&self, range: &Range<usize>, value: *mut ()) {
        if let (Some(root), Some((first, last))) = (self.root(), pages(range)) {
            root.remove(first, last, value);
        }
    }

    #[inline]
    pub(in crate::signal) fn root(&self) -> Option<Node> {
        Node::at_root(self.root.load(Ordering::Acquire))
    }
}

impl Node {
    /// Number of words of a node.
    pub(in crate::signal) const fn len(height: u32) -> usize {
        if height == 1 { FANOUT } else { 2 * FANOUT }
    }

    #[inline]
    pub(in crate::signal) fn at_root(root: *mut ()) -> Option<Node> {
        let words = root.map_addr(|address| address & !HEIGHT).cast::<Word>();
        (!words.is_null()).then_some(Node { words, height: (root.addr() & HEIGHT) as u32 })
    }

    pub(in crate::signal) fn as_root(self) -> *mut () {
        self.words.map_addr(|address| address | self.height as usize).cast()
    }

    #[inline]
    pub(in crate::signal) fn covers(self, page: usize) -> bool {
        covers(self.height, page)
    }

    /// Returns the last page of a root.
    fn last(self) -> usize {
        1_usize.checked_shl(BITS * self.height).map_or(usize::MAX, |pages| pages - 1)
    }

    /// Returns the word of the value of an entry.
    #[inline]
    pub(in crate::signal) fn value(self, index: usize) -> &'static Word {
        let at = if self.height == 1 { index } else { 2 * index };
        debug_assert!(index < FANOUT);
        // SAFETY: invariant 1: a word of the node.
        unsafe { &*self.words.add(at) }
    }

    /// Returns the word of the child of an entry of a node that is no leaf.
    #[inline]
    pub(in crate::signal) fn child_word(self, index: usize) -> &'static Word {
        debug_assert!(index < FANOUT && self.height > 1);
        // SAFETY: as above.
        unsafe { &*self.words.add(2 * index + 1) }
    }

    #[inline]
    pub(in crate::signal) fn child(self, index: usize) -> Option<Node> {
        let words = self.child_word(index).load(Ordering::Acquire).cast::<Word>();
        (!words.is_null()).then_some(Node { words, height: self.height - 1 })
    }

    /// Splits pages `first..=last` of this node by entries.
    fn parts(self, first: usize, last: usize) -> impl Iterator<Item = Part> {
        let (low, high) = self.entries(first, last);
        (low..=high).map(move |index| self.part(index, first, last))
    }

    /// Returns the parts of [`parts`](Self::parts) that need not be whole: the first one and the last one.
    pub(in crate::signal) fn edges(self, first: usize, last: usize) -> impl Iterator<Item = Part> {
        let (low, high) = self.entries(first, last);
        let others = if low == high { None } else { Some(high) };
        core::iter::once(low).chain(others).map(move |index| self.part(index, first, last))
    }

    /// Returns the entries between the edges, which are whole. A loop over them has nothing else to compute: of 1 GiB that begins
    /// anywhere there are about a thousand.
    pub(in crate::signal) fn between(self, first: usize, last: usize) -> Range<usize> {
        let (low, high) = self.entries(first, last);
        low + 1..high
    }

    /// Returns the first and the last entry of pages `first..=last`.
    fn entries(self, first: usize, last: usize) -> (usize, usize) {
        (first >> self.shift(), last >> self.shift())
    }

    /// Returns what lies under an entry of pages `first..=last`.
    fn part(self, index: usize, first: usize, last: usize) -> Part {
        let (all, (low, high)) = (self.all(), self.entries(first, last));
        let first = if index == low { first & all } else { 0 };
        let last = if index == high { last & all } else { all };
        Part { index, first, last, is_whole: first == 0 && last == all }
    }

    /// Returns the number of bits of a page's number that an entry decides no more.
    fn shift(self) -> u32 {
        BITS * (self.height - 1)
    }

    /// Returns the last page of an entry, counted from its first.
    fn all(self) -> usize {
        (1 << self.shift()) - 1
    }

    fn remove(self, first: usize, last: usize, value: *mut ()) {
        for index in self.between(first, last) {
            self.remove_part(&Part { index, first: 0, last: self.all(), is_whole: true }, value);
        }
        for part in self.edges(first, last) {
            self.remove_part(&part, value);
        }
    }

    #[inline(always)]
    fn remove_part(self, part: &Part, value: *mut ()) {
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
pub(in crate::signal) fn covers(height: u32, page: usize) -> bool {
    page.checked_shr(BITS * height).unwrap_or(0) == 0
}

/// Returns the first and the last page of a range, `None` for an empty one.
pub(in crate::signal) fn pages(range: &Range<usize>) -> Option<(usize, usize)> {
    (!range.is_empty()).then(|| (range.start >> PAGE_BITS, (range.end - 1) >> PAGE_BITS))
}
