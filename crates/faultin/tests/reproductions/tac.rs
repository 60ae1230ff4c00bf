//! uutils 9748: the input of tac is truncated while it is read, from its end to its start.

use std::fs::File;

use faultin::{MapError, MapOptions, map::Watch};

use crate::file::{Place, ROUNDS, Step, cut, judge_exactly, meanwhile, text, waits};
use crate::naive;

/// Bytes that are read at once.
const BLOCK: u64 = 20_000;

/// The lines from the last to the first, as they are found, and why there are no more. As tac has its standard input,
/// it has the file, and no name.
fn tac(input: File, out: &mut Vec<u8>, step: &mut Step) -> Result<(), MapError> {
    let map = MapOptions::new().watch(Watch::Contents).from_file(input)?;
    let (mut at, mut rest) = (map.len(), Vec::new());
    while at > 0 {
        let start = at.saturating_sub(BLOCK);
        let mut block = vec![0; (at - start) as usize];
        map.read_exact_at(&mut block, start)?;
        block.append(&mut rest);
        // What stands before the first line end is the end of a line of the block before.
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
    // The lines are printed; whether the file was that file to the end is asked once more.
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
