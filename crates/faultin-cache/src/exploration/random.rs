//! Longer random scripts.

use std::ops::Deref;

use faultin_test::Random;
use rustix::param::page_size;

use super::script::{Action, Call, How, Op, Part, Script, Setup, Turn};
use crate::pager::Mode;

/// Maximum number of pages of a file at the beginning.
const PAGES: usize = 7;

/// Draws the parts of a script.
struct Draw(Random);

impl Deref for Draw {
    type Target = Random;

    fn deref(&self) -> &Random {
        &self.0
    }
}

impl Draw {
    /// Returns a position, often at the start of a page, or next to it.
    fn spot(&self) -> usize {
        let page = page_size();
        let start = self.below(PAGES + 2) * page;
        match self.below(4) {
            0 => start,
            1 => start + self.below(30),
            2 => start.saturating_sub(self.below(30)),
            _ => start + self.below(page),
        }
    }

    fn one_part(&self) -> Part {
        let page = page_size();
        match self.below(8) {
            0 | 1 => Part::Plain(self.below(3 * page)),
            2 => Part::Plain(self.below(40)),
            3 => Part::Bad { good: self.below(60) },
            4 => Part::Pieces { file: self.below(2), count: self.below(PAGES), len: self.below(40) },
            _ => Part::Map { file: self.below(2), at: self.spot(), len: self.spot() },
        }
    }

    fn parts(&self) -> Vec<Part> {
        (0..1 + self.below(3)).map(|_| self.one_part()).collect()
    }

    fn op(&self) -> Op {
        let file = self.below(2);
        match self.below(27) {
            0..5 => Op::Write { file, at: self.spot(), direct: self.once_in(4), from: self.parts() },
            5..8 => Op::Append { file, from: self.parts() },
            8..13 => Op::Read { file, at: self.spot(), direct: self.once_in(4), to: self.parts() },
            13 | 14 => Op::SetLen { file, len: self.spot() },
            15 => Op::Punch { file, at: self.spot(), len: self.spot() },
            16 => Op::Sync { file },
            17 => Op::Touch { file, at: self.spot() },
            18 => Op::WillNeed { file, at: self.spot(), len: self.spot() },
            19 | 20 => {
                let what = self.of(&[Call::Read, Call::Write, Call::Write, Call::Other]);
                Op::Fail { file, what, skip: self.below(3), times: 1 + self.below(2) }
            }
            21 | 22 => Op::TryRead { file, at: self.spot(), to: self.parts() },
            23 | 24 => Op::Many { file, at: self.spot(), len: self.spot(), count: self.below(5) },
            25 => Op::Fill { file, at: self.spot(), len: self.spot() },
            _ => Op::Reopen { file },
        }
    }
}

pub(super) fn script(seed: u64) -> Script {
    let random = Draw(Random::new(seed));
    let setup = Setup {
        mode: Mode::Mprotect,
        limit: 1 + random.below(8),
        folio: random.of(&[1, 1, 2, 4]),
        how: random.of(&How::ALL).0,
        short: random.of(&[0, 0, 1000]),
        lens: [0, 1].map(|_| random.below(PAGES * page_size())),
    };
    let ops: Vec<_> = (0..2 + random.below(8)).map(|_| random.op()).collect();
    let turns = (0..random.below(4)).map(|_| Turn {
        op: random.below(ops.len()),
        moment: random.below(40),
        always: random.once_in(4),
        action: random.of(&Action::ALL).0,
    });
    let turns = turns.collect();
    Script { setup, ops, turns }
}
