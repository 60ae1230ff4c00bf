//! The disk tier on real files: restarts, kills, damage, limits, other processes.

#[path = "disk/common.rs"]
mod common;
#[path = "disk/damage.rs"]
mod damage;
#[path = "disk/environments.rs"]
mod environments;
#[path = "disk/kill.rs"]
mod kill;
#[path = "disk/privacy.rs"]
mod privacy;
#[path = "disk/threads.rs"]
mod threads;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::*;
use faultin_store::disk::{Disk, DiskOptions, DiskState, Key};
use faultin_test::Random;
use tempfile::TempDir;

/// A directory for a tier.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().expect("a temporary folder"))
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("tier")
    }

    /// Opens the tier with `slots` slots.
    fn open(&self, slots: usize) -> Disk {
        open(&self.dir(), slots)
    }
}

/// Returns the bytes that a directory and its files take on the disk.
fn used(dir: &Path) -> u64 {
    let size = |path: &Path| fs::symlink_metadata(path).map_or(0, |file| file.blocks() * 512);
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    size(dir) + files.map(|file| size(&file.path())).sum::<u64>()
}

#[test]
fn blocks_survive_a_restart() {
    let place = Place::new();
    let disk = place.open(64);
    put(&disk, 0..50);
    assert_eq!(count(&disk, 0..50), 50);
    assert_eq!(count(&disk, 50..60), 0);
    drop(disk);
    for _ in 0..3 {
        let disk = place.open(64);
        assert_eq!(disk.stats().blocks, 50);
        assert_eq!(count(&disk, 0..50), 50);
    }
}

#[test]
fn another_object_version_or_range_is_a_miss() {
    let place = Place::new();
    let disk = place.open(64);
    put(&disk, 0..1);
    let known = key(0);
    let others = [
        Key { object: "s3://bucket/object2".into(), ..known.clone() },
        Key { version: "\"2\"".into(), ..known.clone() },
        Key { range: 0..SLOT as u64 - 1, ..known.clone() },
        Key { range: 1..SLOT as u64, ..known.clone() },
        Key { range: 0..2 * SLOT as u64, ..known.clone() },
        Key { range: SLOT as u64..2 * SLOT as u64, ..known.clone() },
        #[expect(clippy::reversed_empty_ranges, reason = "a caller's mistake")]
        Key { range: 10..5, ..known.clone() },
        Key { range: 0..u64::MAX, ..known.clone() },
    ];
    for other in others {
        assert_eq!(disk.get(&other, &mut [0; 3 * SLOT]), None, "{other:?}");
        disk.put(other, bytes(0).split_off(7).into());
    }
    assert_eq!(disk.get(&known, &mut [0; SLOT - 1]), None, "the buffer is too short");
    assert!(disk.flush(Duration::from_secs(60)));
    assert_eq!(disk.stats().dropped, 8, "lengths that are not those of the ranges");
    assert!(has(&disk, 0));
}

#[test]
fn a_range_of_several_slots_is_read_as_a_whole() {
    let place = Place::new();
    let disk = place.open(64);
    let long = Key { range: 100..100 + 5 * SLOT as u64, ..key(0) };
    let bytes = Random::new(1).bytes(5 * SLOT);
    disk.put(long.clone(), bytes.clone().into());
    assert!(disk.flush(Duration::from_secs(60)));
    let mut buf = vec![0; 5 * SLOT + 1];
    assert_eq!(disk.get(&long, &mut buf), Some(5 * SLOT));
    assert!(buf[..5 * SLOT] == bytes);
    assert_eq!(disk.stats().blocks, 6);
    let part = Key { range: SLOT as u64..2 * SLOT as u64, ..long };
    assert_eq!(disk.get(&part, &mut buf), Some(SLOT), "a part of it that is a slot");
    assert!(buf[..SLOT] == bytes[SLOT - 100..2 * SLOT - 100]);
}

#[test]
fn the_limit_is_never_exceeded_and_scans_do_not_evict_what_is_read() {
    let place = Place::new();
    let slots = 256;
    let disk = place.open(slots);
    put(&disk, 0..64);
    for round in 0..20 {
        assert_eq!(count(&disk, 0..64), 64, "{round}");
        let scan = 1_000 + round * 200;
        for block in scan..scan + 200 {
            put(&disk, block..block + 1);
            assert!(used(&place.dir()) <= limit(slots), "block {block}: {} bytes", used(&place.dir()));
        }
    }
    let stats = disk.stats();
    assert!(stats.evicted > 3_000 && stats.blocks == slots as u64 && stats.dropped == 0, "{stats:?}");
    assert!(stats.bytes <= stats.limit);
    drop(disk);
    assert!(used(&place.dir()) <= limit(slots));
    let disk = place.open(slots / 8);
    assert!(used(&place.dir()) <= limit(slots / 8), "a smaller limit");
    assert!(disk.stats().blocks <= slots as u64 / 8);
}

#[test]
fn options_that_cannot_work_are_errors() {
    let place = Place::new();
    let kind = |options: DiskOptions| options.open(place.dir()).map(drop).map_err(|error| error.kind());
    let invalid = Err(std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(DiskOptions::new(0)), invalid);
    assert_eq!(kind(DiskOptions::new(limit(8) - 1).slot(SLOT)), invalid);
    assert_eq!(kind(DiskOptions::new(limit(8)).slot(SLOT)), Ok(()));
    for slot in [0, 1, 4095, 6000, (1 << 30) + 4096] {
        assert_eq!(kind(DiskOptions::new(u64::MAX).slot(slot)), invalid, "{slot}");
    }
}

#[test]
fn a_limit_in_the_terabytes_costs_nothing_until_it_is_used() {
    let place = Place::new();
    let disk = match DiskOptions::new(1 << 40).open(place.dir()) {
        Ok(disk) if disk.stats().state == DiskState::Ready => disk,
        other => return faultin_test::skipped("large-files", format_args!("{other:?}")),
    };
    put(&disk, 0..10);
    assert_eq!(count(&disk, 0..10), 10);
    assert!(used(&place.dir()) < 1 << 20);
}
