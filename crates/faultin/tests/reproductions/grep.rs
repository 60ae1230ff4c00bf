//! ripgrep issue 581: a file that is searched through a mapping is truncated.

use std::io::BufRead;
use std::path::Path;

use faultin::{MapError, MapOptions, map::Watch};

use crate::file::{Place, ROUNDS, Step, cut, judge_exactly, meanwhile, text, waits};
use crate::naive;

const NEEDLE: &[u8] = b"needle";

fn has_needle(line: &[u8]) -> bool {
    line.windows(NEEDLE.len()).any(|part| part == NEEDLE)
}

/// The matching lines as they are found, and the error that ends the search.
fn grep(path: &Path, found: &mut Vec<Vec<u8>>, step: &mut Step) -> Result<(), MapError> {
    let map = MapOptions::new().watch(Watch::Contents).open(path)?;
    let (mut reader, mut line) = (map.reader(), Vec::new());
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                if has_needle(&line) {
                    found.push(line.clone());
                }
                step();
            }
            Err(error) => return Err(*error.into_inner().expect("ours").downcast().expect("ours")),
        }
    }
}

#[test]
fn ripgrep_581() {
    naive::dies("grep::ripgrep_581", |text, path| {
        let mut lines = text.split_inclusive(|&byte| byte == b'\n');
        assert!(lines.by_ref().take(70).filter(|line| has_needle(line)).count() == 10);
        cut(path, 0);
        println!("{} more lines", lines.filter(|line| has_needle(line)).count());
    });
    let (place, text) = (Place::new(), text());
    let all: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').filter(|line| has_needle(line)).collect();
    let mut met = 0;
    for round in 0..ROUNDS {
        let path = place.file(&text);
        let mut found = Vec::new();
        // Early and late in the file; the last lines are already valid in the reader's buffer.
        let ended = meanwhile(round, round * 1300, &path, text.len(), |step| grep(&path, &mut found, step));
        assert_eq!(found, all[..found.len()], "round {round}: a line that was never in the file");
        match ended {
            Ok(()) => {
                assert_eq!(found.len(), all.len(), "round {round}");
                assert!(!waits(round), "round {round}: nothing was noticed");
            }
            Err(error) => {
                met += 1;
                judge_exactly(round, &error, Some(&path), text.len());
            }
        }
    }
    assert!(met >= ROUNDS / 2, "{met}");
}
