//! A process that changes the file continuously: every operation ends, with the file's bytes or with an error.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use faultin::map::{Change, Watch};

use crate::fixture::{content, each, page_size, pattern, signals_taken};

/// Rounds of the reader.
fn rounds() -> usize {
    if cfg!(target_arch = "x86_64") { 400 } else { 60 }
}

/// A shell that truncates and fills the file until it is killed.
struct Peer(Child);

impl Peer {
    fn new(path: &Path, other: &Path) -> Option<Peer> {
        let script = r#"while :; do : > "$0"; cat "$1" > "$0"; done"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).args([path, other]).stdout(Stdio::null()).stderr(Stdio::null());
        match shell.spawn() {
            Ok(child) => Some(Peer(child)),
            Err(error) => {
                faultin_test::skipped("sh", error);
                None
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }
}

#[test]
fn a_peer_that_truncates_for_ever_costs_one_fault_per_operation() {
    let len = 30 * page_size() + 11;
    each(|case| {
        let (path, other) = (case.file("file", len), case.file("other", len));
        let whole = content(len);
        let map = case.options().open(&path).expect("map it");
        let Some(_peer) = Peer::new(&path, &other) else { return };
        let (mut good, mut changed) = (0, 0);
        let before = signals_taken();
        let mut all = vec![0; len];
        for round in 0..rounds() {
            map.refresh().expect("it can be asked");
            let at = (round * 997) % len;
            match map.read_at(&mut all, at as u64) {
                Ok(read) => {
                    good += 1;
                    let have = &whole[at..(at + read).min(len)];
                    assert!(all[..read] == *have, "reported as read, but it never was the file's");
                }
                Err(error) => {
                    assert!(error.change().is_some(), "{error:?}");
                    changed += 1;
                }
            }
        }
        let signals = signals_taken() - before;
        assert!(signals <= rounds() as u64, "{signals} signals in {} operations", rounds());
        println!("{good} good, {changed} changed, {signals} signals");
        assert_eq!(good + changed, rounds());
    });
}

#[cfg(not(faultin_portable))]
#[test]
fn a_peer_that_truncates_for_ever_is_noticed_by_writers() {
    let len = 8 * page_size();
    each(|case| {
        let (path, other) = (case.file("file", len), case.file("other", len));
        let map = case.options().open_mut(&path).expect("map it");
        let Some(_peer) = Peer::new(&path, &other) else { return };
        for round in 0..rounds() {
            map.refresh().expect("it can be asked");
            let at = (round * 997) % len;
            if let Err(error) = map.write_at(&[pattern(at)], at as u64) {
                let shrunk = matches!(error.change(), Some(Change::Shrunk { .. }));
                let behind = matches!(error.reason(), faultin::map::Reason::PastEnd { .. });
                assert!(shrunk || behind, "{error:?}");
                assert_eq!(error.done(), 0);
            }
        }
    });
}

#[test]
fn a_map_that_is_not_refreshed_survives_a_peer_all_the_same() {
    let len = 30 * page_size();
    each(|case| {
        for watch in [Watch::Reader, Watch::Nothing] {
            let (path, other) = (case.file("file", len), case.file("other", len));
            let map = case.options().watch(watch).open(&path).expect("map it");
            let Some(_peer) = Peer::new(&path, &other) else { return };
            for round in 0..rounds() {
                let at = (round * 997) % (len - 8);
                match map.load::<u64>(at as u64) {
                    // Truncated bytes are zero for a moment after the file has grown again.
                    Ok(value) => assert!(
                        (at..).zip(value.to_ne_bytes()).all(|(at, byte)| byte == pattern(at) || byte == 0),
                        "{value:#x} at {at}"
                    ),
                    Err(error) => assert!(matches!(error.change(), Some(Change::Shrunk { .. })), "{error:?}"),
                }
            }
        }
    });
}
