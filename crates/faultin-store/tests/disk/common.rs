//! What tests of the disk tier share: blocks whose bytes are known.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use faultin_store::disk::{Disk, DiskOptions, DiskState, Key};
use faultin_test::Random;

/// Small slots, so that the files are small.
pub const SLOT: usize = 4096;

/// What the tier keeps of its limit for other things than slots.
pub const OVERHEAD: u64 = 64 << 10;

/// Size of a record of the index.
pub const RECORD: usize = 64;

/// Returns the limit of a tier with `slots` slots.
pub fn limit(slots: usize) -> u64 {
    OVERHEAD + (slots * (SLOT + RECORD)) as u64
}

/// Opens a tier that waits for the disk as long as it takes.
pub fn open(dir: &Path, slots: usize) -> Disk {
    let options = DiskOptions::new(limit(slots)).slot(SLOT).patience(Duration::from_secs(600));
    options.open(dir).expect("a tier")
}

/// Opens a tier, also when a process that was killed is still about to end.
pub fn reopen(dir: &Path, slots: usize) -> Disk {
    loop {
        let disk = open(dir, slots);
        if disk.stats().state != DiskState::InUse {
            return disk;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn key(block: u64) -> Key {
    let start = block * SLOT as u64;
    Key { object: "s3://bucket/object".into(), version: "\"1\"".into(), range: start..start + len(block) }
}

/// Returns the length of a block: some are shorter than a slot.
pub fn len(block: u64) -> u64 {
    if block % 5 == 4 { 1 + block * 97 % SLOT as u64 } else { SLOT as u64 }
}

pub fn bytes(block: u64) -> Vec<u8> {
    Random::new(block).bytes(len(block) as usize)
}

pub fn put(disk: &Disk, blocks: Range<u64>) {
    blocks.for_each(|block| disk.put(key(block), bytes(block).into()));
    assert!(disk.flush(Duration::from_secs(600)), "written");
}

/// Returns whether the tier has the block.
///
/// # Panics
/// If it has other bytes for it.
#[track_caller]
pub fn has(disk: &Disk, block: u64) -> bool {
    let mut buf = [0x5a; SLOT];
    match disk.get(&key(block), &mut buf) {
        None => false,
        Some(count) => {
            assert!(buf[..count] == bytes(block), "wrong bytes of block {block}");
            true
        }
    }
}

#[track_caller]
pub fn count(disk: &Disk, blocks: Range<u64>) -> usize {
    blocks.filter(|&block| has(disk, block)).count()
}
