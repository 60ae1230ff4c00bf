//! Enumeration of every short script of a kind.

use rustix::param::page_size;

use super::script::{Action, How, Op, Part, Script, Setup, Turn};
use super::{Explored, run};
use crate::pager::Mode;

/// Returns caches and files, as small as possible.
fn setups() -> Vec<Setup> {
    let page = page_size();
    let mut setups = Vec::new();
    for lens in [[0, 3 * page], [1725, page], [3 * page, 1725], [6 * page + 100, 7 * page]] {
        for (limit, folio) in [(4, 1), (4, 2), (8, 4)] {
            for how in [How::Default, How::Preallocate, How::Generic, How::Fuse] {
                setups.push(Setup { mode: Mode::Mprotect, limit, folio, how, short: 0, lens });
            }
        }
    }
    setups
}

/// Returns buffers of every kind, for an operation of the file `a`.
fn buffers(setup: &Setup) -> Vec<Vec<Part>> {
    let page = page_size();
    let [own, other] = setup.lens;
    let mut buffers = vec![
        vec![Part::Plain(100)],
        vec![Part::Plain(3 * page + 5)],
        vec![Part::Bad { good: 0 }],
        vec![Part::Plain(page + 900), Part::Bad { good: 7 }],
        vec![Part::Map { file: 1, at: 50, len: 2 * page + 10 }],
        vec![Part::Map { file: 1, at: 0, len: other }],
        vec![Part::Pieces { file: 1, count: other.div_ceil(page), len: 8 }],
        vec![Part::Map { file: 1, at: 10, len: page }, Part::Plain(5), Part::Bad { good: 3 }],
    ];
    if own > 0 {
        buffers.push(vec![Part::Map { file: 0, at: 0, len: 64 }]);
        buffers.push(vec![Part::Map { file: 0, at: own.saturating_sub(64), len: 64 }]);
        buffers.push(vec![Part::Map { file: 0, at: 0, len: own }]);
        buffers.push(vec![Part::Map { file: 1, at: 0, len: 20 }, Part::Map { file: 0, at: own - 9, len: 9 }]);
    }
    buffers
}

/// Returns operations with a buffer, on the file `a`.
fn operations(setup: &Setup) -> Vec<Op> {
    let (page, len) = (page_size(), setup.lens[0]);
    let mut positions = vec![0, 100, len.saturating_sub(25), len, len + page + 7];
    positions.sort_unstable();
    positions.dedup();
    let mut operations = vec![Op::WillNeed { file: 0, at: 0, len }, Op::Fill { file: 0, at: 50, len }];
    for (at, part) in [(0, len), (10, 2 * page), (len / 2, page + 3), (len.saturating_sub(page), 2 * page)] {
        operations.push(Op::Many { file: 0, at, len: part, count: 3 });
    }
    for parts in buffers(setup) {
        operations.push(Op::Append { file: 0, from: parts.clone() });
        operations.push(Op::TryRead { file: 0, at: 30.min(len), to: parts.clone() });
        for &at in &positions {
            for direct in [false, true] {
                operations.push(Op::Write { file: 0, at, direct, from: parts.clone() });
                if at < len {
                    operations.push(Op::Read { file: 0, at, direct, to: parts.clone() });
                }
            }
        }
    }
    operations
}

/// Returns scripts of one operation.
pub(super) fn single() -> Vec<Script> {
    let each =
        |setup: Setup| operations(&setup).into_iter().map(move |op| Script { setup, ops: vec![op], turns: Vec::new() });
    setups().into_iter().flat_map(each).collect()
}

/// Returns scripts of one operation after an optional store through a mapping, or before one that needs no buffer.
pub(super) fn sequences() -> Vec<Script> {
    let page = page_size();
    let mut scripts = Vec::new();
    for Script { setup, ops, .. } in single() {
        let len = setup.lens[0];
        let before = [None, (len > 0).then_some(Op::Touch { file: 0, at: len / 2 })];
        let after = [
            None,
            Some(Op::SetLen { file: 0, len: 100 }),
            Some(Op::SetLen { file: 0, len: len + 2 * page }),
            Some(Op::Append { file: 0, from: vec![Part::Plain(64)] }),
            Some(Op::Punch { file: 0, at: 100, len: 2 * page }),
        ];
        for (number, before) in before.into_iter().enumerate() {
            if number > 0 && before.is_none() {
                continue;
            }
            for after in &after {
                let ops = before.clone().into_iter().chain(ops.clone()).chain(after.clone()).collect();
                scripts.push(Script { setup, ops, turns: Vec::new() });
            }
        }
    }
    scripts
}

/// Returns scripts on files with more pages than an operation may attempt fruitlessly, in small caches.
pub(super) fn long() -> Vec<Script> {
    let page = page_size();
    let mut scripts = Vec::new();
    for pages in [16, 80] {
        let len = pages * page;
        for (limit, folio) in [(4, 1), (8, 1), (8, 4), (16, 8)] {
            let (mode, how) = (Mode::Mprotect, How::Default);
            let setup = Setup { mode, limit, folio, how, short: 0, lens: [len, len] };
            for file in [0, 1] {
                let other = vec![Part::Map { file: 1, at: 0, len }];
                let odd = vec![Part::Map { file: 1, at: 100, len: len - 100 }];
                let pieces = vec![Part::Pieces { file: 1, count: pages, len: 8 }];
                let long_pieces = vec![Part::Pieces { file: 1, count: pages, len: page / 2 }];
                for parts in [other, odd, pieces, long_pieces] {
                    for direct in [false, true] {
                        let op = match file {
                            0 => Op::Read { file: 0, at: 0, direct, to: parts.clone() },
                            _ => Op::Write { file: 0, at: 0, direct, from: parts.clone() },
                        };
                        scripts.push(Script { setup, ops: vec![op], turns: Vec::new() });
                    }
                }
            }
        }
    }
    scripts
}

/// Runs a script alone, and with each action of another thread at each of its moments.
pub(super) fn one_action(explored: &Explored, script: &Script) {
    let alone = run(script);
    explored.note(script, &alone);
    if alone.found.is_some() {
        return;
    }
    for (op, &moments) in alone.moments.iter().enumerate() {
        for moment in 0..moments {
            for (action, _) in Action::ALL {
                let script = Script { turns: vec![Turn { op, moment, always: false, action }], ..script.clone() };
                explored.note(&script, &run(&script));
            }
        }
    }
}

/// Runs a script with each action of another thread at all its moments.
pub(super) fn always(explored: &Explored, script: &Script) {
    for (action, _) in Action::ALL {
        let op = script.ops.len() - 1;
        let script = Script { turns: vec![Turn { op, moment: 0, always: true, action }], ..script.clone() };
        explored.note(&script, &run(&script));
    }
}
