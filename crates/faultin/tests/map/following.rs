//! Files that grow while they are read.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use faultin::map::{Change, Watch};

use crate::fixture::{content, each, page_size, set_len};

#[test]
fn a_follower_gets_every_byte_once() {
    let lines = if cfg!(target_arch = "x86_64") { 20_000 } else { 2_000 };
    each(|case| {
        let path = case.path("log");
        let mut log = File::create(&path).expect("create");
        let map = case.options().watch(Watch::Appending).open(&path).expect("map it");
        let text: String = (0..lines).map(|line| format!("entry {line}\n")).collect();
        let mut seen = String::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for line in text.split_inclusive('\n') {
                    log.write_all(line.as_bytes()).expect("append");
                }
            });
            let mut reader = map.reader();
            loop {
                let last = writer.is_finished();
                let valid = map.valid_up_to().expect("it only grows");
                assert!(valid >= map.len());
                let change = map.refresh().expect("it only grows");
                // An append consists of several changes, and may be observed between any two.
                assert!(
                    !matches!(change, Some(Change::Shrunk { .. } | Change::Deleted | Change::Replaced)),
                    "{change:?}"
                );
                assert!(map.len() >= valid, "what was valid is readable");
                reader.read_to_string(&mut seen).expect("it only grows");
                if last {
                    break;
                }
            }
        });
        assert!(seen == text, "{} of {} bytes", seen.len(), text.len());
        set_len(&path, 5);
        assert_eq!(
            map.valid_up_to().expect_err("cut").change(),
            Some(Change::Shrunk { from: text.len() as u64, to: 5 })
        );
    });
}

/// Ends the other threads, also if this one fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn growth_takes_nothing_from_those_who_read() {
    let page = page_size();
    let first = 4 * page;
    let start = content(first);
    each(|case| {
        for watch in [Watch::Reader, Watch::Appending, Watch::Nothing] {
            let path = case.file("file", first);
            let map = case.options().watch(watch).open(&path).expect("map it");
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        let mut all = vec![0; first];
                        while !done.load(Ordering::Relaxed) {
                            map.read_exact_at(&mut all, 0).expect("only growth happens");
                            assert!(all == start);
                            let len = map.len();
                            assert!(map.load::<u8>(len - 1).is_ok(), "all of the map is there");
                        }
                    });
                }
                let _end = End(&done);
                // Beyond the reserved address space, several times.
                for mib in [1, 100, 300, 700, 2000] {
                    set_len(&path, mib << 20);
                    map.refresh().expect("it only grows");
                    assert_eq!(map.len(), (mib as u64) << 20);
                    map.read_exact_at(&mut [0; 8], map.len() - 8).expect("a hole");
                }
            });
        }
    });
}

#[test]
fn a_log_that_is_rotated_is_noticed() {
    each(|case| {
        let path = case.file("log", 100);
        let map = case.options().watch(Watch::Appending).open(&path).expect("map it");
        map.verify().expect("nothing happened");
        std::fs::rename(&path, case.path("log.1")).expect("rename");
        assert_eq!(map.verify().expect_err("moved").change(), Some(Change::Deleted));
        case.file("log", 10);
        assert_eq!(map.verify().expect_err("another one").change(), Some(Change::Replaced));
        map.read_exact_at(&mut [0; 100], 0).expect("what was there is still there");
    });
}
