//! uutils issue 9748: tac's input is truncated while it is read from its end to its start.

use std::fs::File;

use faultin::{MapError, MapOptions, map::Watch};

use crate::file::{Place, ROUNDS, Step, cut, judge_exactly, meanwhile, text, waits};
use crate::naive;

/// Bytes that are read at once.
const BLOCK: u64 = 20_000;

/// The lines from the last to the first as they are found, and the error that ends them. Like tac with standard input, it
/// has an open file without a name.
fn tac(input: File, out: &mut Vec<u8>, step: &mut Step) -> Result<(), MapError> {
    let map = MapOptions::new().watch(Watch::Contents).from_file(input)?;
    let (mut at, mut rest) = (map.len(), Vec::new());
    while at > 0 {
        let start = at.saturating_sub(BLOCK);
        let mut block = vec![0; (at - start) as usize];
        map.read_exact_at(&mut block, start)?;
        block.append(&mut rest);
        // The bytes before the first line end belong to a line of the preceding block.
        let whole = match block.iter().position(|&byte| byte == b'\n') {
            Some(end) if start > 0 => end + 1,
            _ => 0,
        };
        let lines: Vec<&[u8]> = block[whole..].split_inclusive(|&byte| byte == b'\n').collect();
        lines.iter().rev().for_each(|line| out.extend_from_slice(line));
        block.truncate(whole);
        (at, rest) = (start, block);
        step();
    }
    // The lines are printed; the file is checked once more.
    map.verify()
}

#[test]
fn uutils_9748() {
    naive::dies("tac::uutils_9748", |text, path| {
        let mut lines = text.rsplit(|&byte| byte == b'\n');
        assert_eq!(lines.by_ref().take(50).count(), 50);
        cut(path, text.len() / 2);
        println!("{} more bytes", lines.map(<[u8]>::len).sum::<usize>());
    });
    let (place, text) = (Place::new(), text());
    let mut lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
    lines.reverse();
    let all = lines.concat();
    let blocks = text.len().div_ceil(BLOCK as usize);
    for round in 0..ROUNDS {
        let path = place.file(&text);
        let (mut out, input) = (Vec::new(), File::open(&path).expect("open"));
        let after = round * blocks / ROUNDS;
        let ended = meanwhile(round, after, &path, text.len(), |step| tac(input, &mut out, step));
        assert!(all.starts_with(&out), "round {round}: a line that was never in the file");
        match ended {
            Ok(()) => assert!(!waits(round) && out.len() == all.len(), "round {round}: nothing was noticed"),
            Err(error) => judge_exactly(round, &error, None, text.len()),
        }
    }
}
