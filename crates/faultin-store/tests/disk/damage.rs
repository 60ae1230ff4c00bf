//! Files that are damaged while no process uses them, in every byte.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::*;

/// A tier with eight blocks, one in each slot, and a copy of its files.
struct Whole {
    place: Place,
    index: Vec<u8>,
    data: Vec<u8>,
}

const SLOTS: usize = 8;

impl Whole {
    fn new() -> Whole {
        let place = Place::new();
        let disk = place.open(SLOTS);
        // Without short blocks: each byte of the data is of a block.
        blocks().for_each(|block| put(&disk, block..block + 1));
        drop(disk);
        let [index, data] = ["index", "data"].map(|name| fs::read(place.dir().join(name)).expect("a file"));
        assert_eq!((index.len(), data.len()), ((1 + SLOTS) * RECORD, SLOTS * SLOT));
        Whole { place, index, data }
    }

    /// Writes both files as they were, except what `damage` does to them, and opens the tier.
    fn damaged(&self, damage: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> Disk {
        let (mut index, mut data) = (self.index.clone(), self.data.clone());
        damage(&mut index, &mut data);
        for (name, bytes) in [("index", index), ("data", data)] {
            let file = File::options().write(true).open(self.place.dir().join(name)).expect("a file");
            file.set_len(bytes.len() as u64).and_then(|()| file.write_all_at(&bytes, 0)).expect("written");
        }
        self.place.open(SLOTS)
    }
}

/// The blocks of the tier.
fn blocks() -> impl Iterator<Item = u64> {
    (0..).filter(|block| block % 5 != 4).take(SLOTS)
}

fn found(disk: &Disk) -> usize {
    blocks().filter(|&block| has(disk, block)).count()
}

/// One byte of each slot at a time, which are independent.
#[test]
fn a_block_with_any_byte_changed_is_a_miss() {
    let whole = Whole::new();
    assert_eq!(found(&whole.damaged(|_, _| ())), SLOTS);
    for at in 0..SLOT {
        let disk =
            whole.damaged(|_, data| data.iter_mut().skip(at).step_by(SLOT).for_each(|byte| *byte ^= 1 << (at % 8)));
        assert_eq!(found(&disk), 0, "byte {at} of each slot");
        assert_eq!(disk.stats().damaged, SLOTS as u64);
    }
    let disk = whole.damaged(|_, data| data[3 * SLOT + 5] ^= 0x80);
    assert_eq!((found(&disk), disk.stats().damaged), (SLOTS - 1, 1), "only the slot that is damaged");
    blocks().for_each(|block| put(&disk, block..block + 1));
    assert_eq!(found(&disk), SLOTS, "and it is stored again");
}

#[test]
fn a_record_with_any_byte_changed_is_a_miss() {
    let whole = Whole::new();
    for at in 0..RECORD {
        for bit in 0..8 {
            let disk = whole.damaged(|index, _| {
                index.iter_mut().skip(RECORD + at).step_by(RECORD).for_each(|byte| *byte ^= 1 << bit);
            });
            assert_eq!((found(&disk), disk.stats().blocks), (0, 0), "bit {bit} of byte {at} of each record");
        }
        let disk = whole.damaged(|index, _| index[at] ^= 1);
        assert_eq!(found(&disk), 0, "byte {at} of the header");
        blocks().for_each(|block| put(&disk, block..block + 1));
        assert_eq!(found(&disk), SLOTS, "the tier begins anew");
    }
}

#[test]
fn files_of_any_length_have_no_wrong_block() {
    let whole = Whole::new();
    for len in 0..whole.index.len() {
        let disk = whole.damaged(|index, _| index.truncate(len));
        let records = (len / RECORD).saturating_sub(1);
        assert_eq!(found(&disk), records, "an index of {len} bytes");
    }
    for len in (0..whole.data.len()).step_by(509) {
        let disk = whole.damaged(|_, data| data.truncate(len));
        assert_eq!(found(&disk), len / SLOT, "{len} bytes of data");
    }
    let disk = whole.damaged(|index, data| {
        index.resize(1 << 16, 0xff);
        data.resize(1 << 20, 0xff);
    });
    assert_eq!(found(&disk), SLOTS, "files that are too long");
}

#[test]
fn exchanged_slots_and_records_are_misses() {
    let whole = Whole::new();
    let swap = |bytes: &mut Vec<u8>, unit: usize, first: usize| {
        let (left, right) = bytes.split_at_mut(first + 5 * unit);
        left[first + 2 * unit..first + 3 * unit].swap_with_slice(&mut right[..unit]);
    };
    assert_eq!(found(&whole.damaged(|_, data| swap(data, SLOT, 0))), SLOTS - 2);
    assert_eq!(found(&whole.damaged(|index, _| swap(index, RECORD, RECORD))), SLOTS - 2);
    let both = whole.damaged(|index, data| {
        swap(data, SLOT, 0);
        swap(index, RECORD, RECORD);
    });
    assert_eq!(found(&both), SLOTS - 2, "a record names its slot");
}

#[test]
fn the_files_of_another_tier_have_no_wrong_block() {
    let whole = Whole::new();
    let other = Place::new();
    let disk = other.open(SLOTS);
    put(&disk, 1_000..1_000 + SLOTS as u64);
    drop(disk);
    let of_other = |name| fs::read(other.dir().join(name)).expect("a file");
    assert_eq!(found(&whole.damaged(|_, data| *data = of_other("data"))), 0);
    let disk = whole.damaged(|index, _| *index = of_other("index"));
    assert_eq!((found(&disk), count(&disk, 1_000..1_000 + SLOTS as u64)), (0, 0));
}

/// While the tier is open.
#[test]
fn damage_during_use_is_a_miss() {
    let place = Place::new();
    let disk = place.open(SLOTS);
    put(&disk, 0..SLOTS as u64);
    let data = File::options().write(true).open(place.dir().join("data")).expect("the data");
    data.write_all_at(&[0; 100], SLOT as u64 + 10).expect("written");
    assert_eq!(count(&disk, 0..SLOTS as u64), SLOTS - 1);
    data.set_len(3 * SLOT as u64).expect("truncated");
    assert_eq!(count(&disk, 0..SLOTS as u64), 2);
    put(&disk, 0..SLOTS as u64);
    assert_eq!(count(&disk, 0..SLOTS as u64), SLOTS);
}
