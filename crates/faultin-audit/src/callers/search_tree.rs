//! A searchable tree: items in the order of their keys, a few in each leaf.

#![forbid(unsafe_code)]

/// The position of an item in the order of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) object: u64,
    pub(super) kind: u8,
    pub(super) offset: u64,
}

impl Key {
    pub(super) const FIRST: Key = Key { object: 0, kind: 0, offset: 0 };

    /// Returns the next possible key.
    pub(super) fn next(self) -> Option<Key> {
        let Key { object, kind, offset } = self;
        if let Some(offset) = offset.checked_add(1) {
            Some(Key { offset, ..self })
        } else if let Some(kind) = kind.checked_add(1) {
            Some(Key { object, kind, offset: 0 })
        } else {
            object.checked_add(1).map(|object| Key { object, ..Key::FIRST })
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) key: Key,
    pub(super) data: Vec<u8>,
}

/// The leaves of a tree. Each has the number of the transaction that wrote it last.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    leaves: Vec<(u64, Vec<Item>)>,
}

impl Tree {
    /// Makes a tree whose items have these sizes in bytes, two in a leaf.
    pub(super) fn new(sizes: &[usize]) -> Tree {
        let items: Vec<Item> = sizes
            .iter()
            .enumerate()
            .map(|(index, &size)| Item {
                // Three per object; the kinds rotate, and every other key is the last of its kind.
                key: Key {
                    object: 1 + index as u64 / 3,
                    kind: (index % 3) as u8 * 9,
                    offset: if index % 2 == 1 { u64::MAX } else { index as u64 },
                },
                data: (0..size).map(|at| (index * 37 + at) as u8 | 1).collect(),
            })
            .collect();
        Tree { leaves: items.chunks(2).zip(7..).map(|(leaf, transaction)| (transaction, leaf.to_vec())).collect() }
    }

    /// Returns the leaf, and the index in it, of the first item at or after `key`.
    pub(super) fn search_forward(&self, key: Key) -> Option<(&(u64, Vec<Item>), usize)> {
        self.leaves.iter().find_map(|leaf| Some((leaf, leaf.1.iter().position(|item| item.key >= key)?)))
    }

    pub(super) fn items(&self) -> impl Iterator<Item = (u64, &Item)> {
        self.leaves.iter().flat_map(|(transaction, items)| items.iter().map(move |item| (*transaction, item)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_and_the_next_one_is_the_next() {
        let tree = Tree::new(&[20, 48, 0, 33, 100, 7]);
        let keys: Vec<Key> = tree.items().map(|(_, item)| item.key).collect();
        assert!(keys.is_sorted());
        for key in keys {
            let next = key.next().unwrap();
            assert!(next > key && tree.items().all(|(_, item)| item.key <= key || item.key >= next));
        }
        assert_eq!(Key { object: 1, kind: 255, offset: u64::MAX }.next(), Some(Key { object: 2, ..Key::FIRST }));
        assert_eq!(Key { object: u64::MAX, kind: 255, offset: u64::MAX }.next(), None);
    }
}
