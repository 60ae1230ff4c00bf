//! Processes that use one directory, and are killed in the middle of writes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

/// Names the directory for a child.
const DIRECTORY: &str = "FAULTIN_TEST_TIER";
const SLOTS: usize = 256;

/// Runs one of the tests below in a child, which prints a line when it has begun.
fn child(test: &str, dir: &Path) -> Child {
    let exe = std::env::current_exe().expect("a path");
    let mut command: Command = faultin_test::processes::run(exe);
    command.args(["--exact", test, "--nocapture", "--include-ignored"]).env(DIRECTORY, dir);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let begun = lines.map_while(Result::ok).any(|line| line.contains("it has begun"));
    assert!(begun, "the child ends: {:?}", child.wait());
    child
}

#[test]
#[ignore = "a child of other tests, which is killed"]
fn writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let disk = reopen(Path::new(&dir), SLOTS);
    put(&disk, 0..8);
    println!("it has begun");
    // Twice as many blocks as slots, so that slots are written again; reads make some blocks stay.
    for block in (8..2 * SLOTS as u64).cycle() {
        disk.put(key(block), bytes(block).into());
        has(&disk, block / 2);
    }
}

#[test]
fn a_kill_in_the_middle_of_a_write_leaves_no_wrong_block() {
    let place = Place::new();
    let random = Random::new(1);
    let (mut found, mut damaged) = (0, 0);
    for round in 0..40 {
        let mut child = child("kill::writes_until_it_is_killed", &place.dir());
        std::thread::sleep(Duration::from_micros(random.below(20_000_u64)));
        child.kill().expect("it lives");
        child.wait().expect("it is gone");
        let disk = reopen(&place.dir(), SLOTS);
        let here = count(&disk, 0..2 * SLOTS as u64);
        assert!(here >= 7, "{round}: what was written before stays: {here}, {:?}", disk.stats());
        found += here;
        damaged += disk.stats().damaged;
        assert!(used(&place.dir()) <= limit(SLOTS));
        put(&disk, 5_000..5_001);
        assert!(has(&disk, 5_000), "and it goes on");
    }
    println!("{found} blocks found, {damaged} torn");
}

#[test]
fn a_second_process_misses_until_the_first_one_ends() {
    let place = Place::new();
    let mut child = child("kill::writes_until_it_is_killed", &place.dir());
    let disk = place.open(SLOTS);
    assert_eq!(disk.stats().state, DiskState::InUse);
    put(&disk, 0..8);
    assert_eq!(count(&disk, 0..2 * SLOTS as u64), 0);
    child.kill().expect("it lives");
    child.wait().expect("it is gone");
    while disk.stats().state != DiskState::Ready {
        std::thread::sleep(Duration::from_millis(50));
        put(&disk, 6_000..6_001);
    }
    put(&disk, 6_000..6_001);
    assert!(has(&disk, 6_000));
    assert!(count(&disk, 0..2 * SLOTS as u64) >= 7, "and has what that one has stored");
}

#[test]
fn a_second_tier_in_one_process_misses_until_the_first_one_is_dropped() {
    let place = Place::new();
    let first = place.open(SLOTS);
    put(&first, 0..4);
    let second = place.open(SLOTS);
    assert_eq!((second.stats().state, count(&second, 0..4)), (DiskState::InUse, 0));
    drop(first);
    while second.stats().state != DiskState::Ready {
        std::thread::sleep(Duration::from_millis(50));
        put(&second, 4..5);
    }
    assert_eq!(count(&second, 0..4), 4);
}
