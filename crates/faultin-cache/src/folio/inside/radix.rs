//! A sparse array: a tree of arrays of 64, as high as its largest index requires.

#![forbid(unsafe_code)]

const BITS: u32 = 6;
const FANOUT: usize = 1 << BITS;

/// A sparse array of `T`.
#[derive(Debug)]
pub(crate) struct Radix<T> {
    root: Node<T>,
    /// Number of levels below the root.
    height: u32,
}

#[derive(Debug)]
enum Node<T> {
    Empty,
    Inner(Box<[Node<T>; FANOUT]>),
    Leaf(T),
}

impl<T> Node<T> {
    // Outside signals: it allocates.
    fn inner() -> Node<T> {
        Node::Inner(Box::new([const { Node::Empty }; FANOUT]))
    }
}

/// Returns the slot of `index` in a node that has `height` levels below it.
fn slot(index: u64, height: u32) -> usize {
    (index >> (BITS * (height - 1))) as usize % FANOUT
}

impl<T> Radix<T> {
    pub(crate) const fn new() -> Self {
        Radix { root: Node::Empty, height: 0 }
    }

    /// Returns whether the tree is high enough for `index`.
    #[inline]
    fn reaches(&self, index: u64) -> bool {
        let bits = BITS * self.height;
        bits >= u64::BITS || index >> bits == 0
    }

    #[inline]
    pub(crate) fn get(&self, index: u64) -> Option<&T> {
        if !self.reaches(index) {
            return None;
        }
        let (mut node, mut height) = (&self.root, self.height);
        loop {
            match node {
                Node::Empty => return None,
                Node::Leaf(value) => return Some(value),
                Node::Inner(children) => {
                    node = &children[slot(index, height)];
                    height -= 1;
                }
            }
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u64) -> Option<&mut T> {
        if !self.reaches(index) {
            return None;
        }
        let (mut node, mut height) = (&mut self.root, self.height);
        loop {
            match node {
                Node::Empty => return None,
                Node::Leaf(value) => return Some(value),
                Node::Inner(children) => {
                    node = &mut children[slot(index, height)];
                    height -= 1;
                }
            }
        }
    }

    /// Puts `value` at `index`, in place of an existing value.
    pub(crate) fn insert(&mut self, index: u64, value: T) {
        while !self.reaches(index) {
            let below = std::mem::replace(&mut self.root, Node::Empty);
            self.height += 1;
            if !matches!(below, Node::Empty) {
                self.root = Node::inner();
                if let Node::Inner(children) = &mut self.root {
                    children[0] = below;
                }
            }
        }
        let (mut node, mut height) = (&mut self.root, self.height);
        while height > 0 {
            if matches!(node, Node::Empty) {
                *node = Node::inner();
            }
            let Node::Inner(children) = node else { break };
            node = &mut children[slot(index, height)];
            height -= 1;
        }
        *node = Node::Leaf(value);
    }

    /// Removes the value at `index`. Arrays that are empty now stay until [`clear`](Self::clear).
    pub(crate) fn remove(&mut self, index: u64) {
        if let Some(node) = self.leaf(index) {
            *node = Node::Empty;
        }
    }

    fn leaf(&mut self, index: u64) -> Option<&mut Node<T>> {
        if !self.reaches(index) {
            return None;
        }
        let (mut node, mut height) = (&mut self.root, self.height);
        while height > 0 {
            let Node::Inner(children) = node else { return None };
            node = &mut children[slot(index, height)];
            height -= 1;
        }
        Some(node)
    }

    /// Returns the first value at or after `index`, and its index.
    pub(crate) fn next(&self, index: u64) -> Option<(u64, &T)> {
        if !self.reaches(index) {
            return None;
        }
        Self::next_in(&self.root, self.height, 0, index)
    }

    fn next_in(node: &Node<T>, height: u32, base: u64, from: u64) -> Option<(u64, &T)> {
        match node {
            Node::Empty => None,
            Node::Leaf(value) => Some((base, value)),
            Node::Inner(children) => {
                // Everything before `base` was searched already, or `from` is within.
                let first = if from > base { slot(from, height) } else { 0 };
                children.iter().enumerate().skip(first).find_map(|(at, child)| {
                    let base = base | (at as u64) << (BITS * (height - 1));
                    Self::next_in(child, height - 1, base, from)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn index() -> impl Strategy<Value = u64> {
        prop_oneof![0..200_u64, (0..60_u32, 0..3_u64).prop_map(|(bit, more)| (1 << bit) + more), Just(u64::MAX >> 12)]
    }

    proptest! {
        #[test]
        fn as_a_map(ops in prop::collection::vec((index(), any::<bool>()), 1..60)) {
            let mut radix = Radix::new();
            let mut map = BTreeMap::new();
            for (turn, (index, insert)) in ops.into_iter().enumerate() {
                if insert {
                    radix.insert(index, turn);
                    map.insert(index, turn);
                } else {
                    radix.remove(index);
                    map.remove(&index);
                }
                for probe in [index, index.saturating_sub(1), index + 1] {
                    prop_assert_eq!(radix.get(probe), map.get(&probe));
                    prop_assert_eq!(radix.get_mut(probe).copied(), map.get(&probe).copied());
                    prop_assert_eq!(radix.next(probe), map.range(probe..).next().map(|(at, value)| (*at, value)));
                }
            }
        }
    }
}
