//! The disk tier on files that cannot be read or written: `cargo xtask env files` makes the file system and runs this test.
//! Elsewhere it reports what is missing.

#[path = "disk/common.rs"]
mod common;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use common::{SLOT, count, has, put, reopen};

/// Files of a FUSE server that fails on demand, as `cargo xtask env files` makes them.
#[test]
fn a_failing_disk_only_makes_misses() {
    let Some(root) = std::env::var_os("FAULTIN_FAILING_FILES").map(PathBuf::from) else {
        return faultin_test::skipped("failing-files", "`cargo xtask env files` makes them (tier)");
    };
    if let Ok(missing) = fs::read_to_string(root.join("tier.missing")) {
        return faultin_test::skipped("tier", missing.trim());
    }
    let dir = root.join("tier");
    let control = |line: &str| {
        let mut control = fs::File::options().write(true).open(dir.join("control")).expect("the server");
        control.write_all(line.as_bytes()).expect(line);
    };
    let disk = reopen(&dir, 64);
    put(&disk, 0..20);
    assert_eq!(count(&disk, 0..20), 20);
    drop(disk);

    // The kernel has no pages of it after each opening: the server reads.
    let whole = "0 1000000";
    control(&format!("eio data {whole}"));
    let disk = reopen(&dir, 64);
    assert_eq!(count(&disk, 0..20), 0);
    assert_eq!((disk.stats().errors, disk.stats().damaged), (20, 0), "{:?}", disk.stats());
    control("heal");
    put(&disk, 0..20);
    assert_eq!(count(&disk, 0..20), 20, "stored again");
    drop(disk);

    // The blocks are in the next twenty slots: those that could not be read wait for their turn.
    control(&format!("short data {} {}", 25 * SLOT, 5 * SLOT));
    let disk = reopen(&dir, 64);
    let found = count(&disk, 0..20);
    assert!((1..20).contains(&found), "{found}: {:?}", disk.stats());
    control("heal");
    drop(disk);

    control(&format!("eio index {whole}"));
    let disk = reopen(&dir, 64);
    assert_eq!(count(&disk, 0..20), 0, "{:?}", disk.stats());
    control("heal");
    drop(disk);

    let disk = reopen(&dir, 64);
    put(&disk, 0..20);
    assert_eq!(count(&disk, 0..20), 20);
    control(&format!("eio-write data {whole}"));
    put(&disk, 30..40);
    assert_eq!((count(&disk, 0..20), count(&disk, 30..40)), (20, 0), "{:?}", disk.stats());
    control("heal");
    while !has(&disk, 30) {
        put(&disk, 30..31);
    }
}
