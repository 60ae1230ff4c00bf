//! Scripts: caches, operations, and the actions of other threads between their steps. A script is one line of text, which a
//! finding prints and [`FromStr`] reads.
//!
//! ```text
//! mode mprotect limit 4 folio 1 loop default short 0 a 1725 b 0 | append a from map a 0 64 | set_len a 100 | drop at 0.12
//! ```

use std::fmt;
use std::ops::Range;
use std::str::{FromStr, SplitWhitespace};

use crate::pager::Mode;
use crate::write::{AfterShort, Batch, Preallocate, ShortCopy, WriteLoop};

/// The kernel's `generic_perform_write`.
const GENERIC: WriteLoop =
    WriteLoop::DEFAULT.batch(Batch::Folio).short_copy(ShortCopy::Reject).after_short(AfterShort::Copied);

/// The loop of the script's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum How {
    Default,
    Preallocate,
    Generic,
    F2fs,
    Fuse,
}

impl How {
    pub(super) const ALL: [(How, &'static str); 5] = [
        (How::Default, "default"),
        (How::Preallocate, "preallocate"),
        (How::Generic, "generic"),
        (How::F2fs, "f2fs"),
        (How::Fuse, "fuse"),
    ];

    pub(super) fn write_loop(self) -> WriteLoop {
        match self {
            How::Default => WriteLoop::DEFAULT,
            How::Preallocate => WriteLoop::DEFAULT.preallocate(Preallocate::Yes),
            How::Generic => GENERIC,
            How::F2fs => GENERIC.preallocate(Preallocate::Yes),
            How::Fuse => WriteLoop::DEFAULT.batch(Batch::Blocks(32)).write_through(true),
        }
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(how, _)| *how == self).map_or("", |(_, name)| name)
    }
}

/// The cache and its two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Setup {
    /// How the faults of the mappings are resolved, which is never within a copy.
    pub(super) mode: Mode,
    /// Number of blocks of the cache; a block is a page.
    pub(super) limit: usize,
    /// Maximum number of blocks of a folio.
    pub(super) folio: usize,
    pub(super) how: How,
    /// Maximum number of bytes that the stores move in one call; 0 for any number.
    pub(super) short: usize,
    /// Length of each file in bytes.
    pub(super) lens: [usize; 2],
}

/// A part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// Bytes of the process.
    Plain(usize),
    /// Memory of which the first `good` bytes are accessible and the next page is not.
    Bad { good: usize },
    /// Bytes of a mapping.
    Map { file: usize, at: usize, len: usize },
    /// `count` segments of `len` bytes, one on each page of a mapping.
    Pieces { file: usize, count: usize, len: usize },
}

/// Calls of a store that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Read,
    /// Writes and allocations.
    Write,
    /// Lengths, holes and syncs.
    Other,
}

impl Call {
    const ALL: [(Call, &'static str); 3] = [(Call::Read, "reads"), (Call::Write, "writes"), (Call::Other, "others")];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(call, _)| *call == self).map_or("", |(_, name)| name)
    }
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Write {
        file: usize,
        at: usize,
        direct: bool,
        from: Vec<Part>,
    },
    Append {
        file: usize,
        from: Vec<Part>,
    },
    Read {
        file: usize,
        at: usize,
        direct: bool,
        to: Vec<Part>,
    },
    SetLen {
        file: usize,
        len: usize,
    },
    Punch {
        file: usize,
        at: usize,
        len: usize,
    },
    Sync {
        file: usize,
    },
    /// A part is read ahead.
    WillNeed {
        file: usize,
        at: usize,
        len: usize,
    },
    /// What is in memory is read.
    TryRead {
        file: usize,
        at: usize,
        to: Vec<Part>,
    },
    /// `count` ranges of `len` bytes are read at once, each half of its length after the one before.
    Many {
        file: usize,
        at: usize,
        len: usize,
        count: usize,
    },
    /// A part is brought in as by a thread that prefetches.
    Fill {
        file: usize,
        at: usize,
        len: usize,
    },
    /// A byte is stored through the file's mapping.
    Touch {
        file: usize,
        at: usize,
    },
    /// The store fails the next `times` calls of a kind after the next `skip`. A write that fails has written half.
    Fail {
        file: usize,
        what: Call,
        skip: usize,
        times: usize,
    },
    /// The handle and the mapping are closed, and the file is opened again.
    Reopen {
        file: usize,
    },
}

impl Op {
    pub(super) fn file(&self) -> usize {
        match self {
            Op::Write { file, .. }
            | Op::Append { file, .. }
            | Op::Read { file, .. }
            | Op::SetLen { file, .. }
            | Op::Punch { file, .. }
            | Op::Sync { file }
            | Op::WillNeed { file, .. }
            | Op::TryRead { file, .. }
            | Op::Many { file, .. }
            | Op::Fill { file, .. }
            | Op::Touch { file, .. }
            | Op::Fail { file, .. }
            | Op::Reopen { file } => *file,
        }
    }

    /// Returns the buffer, if the operation has one.
    pub(super) fn parts(&self) -> &[Part] {
        match self {
            Op::Write { from: parts, .. }
            | Op::Append { from: parts, .. }
            | Op::Read { to: parts, .. }
            | Op::TryRead { to: parts, .. } => parts,
            _ => &[],
        }
    }

    /// Returns the kind of operation and of its buffer: findings of one kind are shown once.
    pub(super) fn kind(&self) -> String {
        let name = match self {
            Op::Write { direct: false, .. } => "write",
            Op::Write { .. } => "write_direct",
            Op::Append { .. } => "append",
            Op::Read { direct: false, .. } => "read",
            Op::Read { .. } => "read_direct",
            Op::SetLen { .. } => "set_len",
            Op::Punch { .. } => "punch",
            Op::Sync { .. } => "sync",
            Op::WillNeed { .. } => "will_need",
            Op::TryRead { .. } => "try_read",
            Op::Many { .. } => "many",
            Op::Fill { .. } => "fill",
            Op::Touch { .. } => "touch",
            Op::Fail { .. } => "fail",
            Op::Reopen { .. } => "reopen",
        };
        let mut text = name.to_owned();
        let mut has = |what: &str, is_so: bool| {
            if is_so {
                text += ", ";
                text += what;
            }
        };
        let mapped = |part: &Part| match part {
            Part::Map { file, .. } | Part::Pieces { file, .. } => Some(*file),
            _ => None,
        };
        has("a mapping of the file", self.parts().iter().any(|part| mapped(part) == Some(self.file())));
        has("a mapping of another file", self.parts().iter().any(|part| mapped(part) == Some(1 - self.file())));
        has("bad memory", self.parts().iter().any(|part| matches!(part, Part::Bad { .. })));
        text
    }
}

/// An action of another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// Drops the clean pages of all files.
    Drop,
    /// Reads a third file, for which reclaim has to make room.
    Press,
    /// Writes the files back, which revokes stores through mappings.
    Clean,
}

impl Action {
    pub(super) const ALL: [(Action, &'static str); 3] =
        [(Action::Drop, "drop"), (Action::Press, "press"), (Action::Clean, "clean")];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(action, _)| *action == self).map_or("", |(_, name)| name)
    }
}

/// The time of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Turn {
    /// The operation.
    pub(super) op: usize,
    /// The moment in it.
    pub(super) moment: usize,
    /// Whether the action also happens at all later moments of this operation.
    pub(super) always: bool,
    pub(super) action: Action,
}

impl Turn {
    pub(super) fn is_due(&self, op: usize, moment: usize) -> bool {
        self.op == op && (self.moment == moment || self.always && moment > self.moment)
    }
}

/// A complete script.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Script {
    pub(super) setup: Setup,
    pub(super) ops: Vec<Op>,
    pub(super) turns: Vec<Turn>,
}

const MODES: [(Mode, &str); 3] = [(Mode::Mprotect, "mprotect"), (Mode::Signal, "signal"), (Mode::Thread, "thread")];

const FILES: [&str; 2] = ["a", "b"];

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Part::Plain(len) => write!(f, "plain {len}"),
            Part::Bad { good } => write!(f, "bad {good}"),
            Part::Map { file, at, len } => write!(f, "map {} {at} {len}", FILES[file]),
            Part::Pieces { file, count, len } => write!(f, "pieces {} {count} {len}", FILES[file]),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = FILES[self.file()];
        let way = |direct| if direct { "_direct" } else { "" };
        match self {
            Op::Write { at, direct, .. } => write!(f, "write{} {file} {at} from", way(*direct))?,
            Op::Append { .. } => write!(f, "append {file} from")?,
            Op::Read { at, direct, .. } => write!(f, "read{} {file} {at} to", way(*direct))?,
            Op::SetLen { len, .. } => write!(f, "set_len {file} {len}")?,
            Op::Punch { at, len, .. } => write!(f, "punch {file} {at} {len}")?,
            Op::Sync { .. } => write!(f, "sync {file}")?,
            Op::WillNeed { at, len, .. } => write!(f, "will_need {file} {at} {len}")?,
            Op::TryRead { at, .. } => write!(f, "try_read {file} {at} to")?,
            Op::Many { at, len, count, .. } => write!(f, "many {file} {at} {len} {count}")?,
            Op::Fill { at, len, .. } => write!(f, "fill {file} {at} {len}")?,
            Op::Touch { at, .. } => write!(f, "touch {file} {at}")?,
            Op::Fail { what, skip, times, .. } => write!(f, "fail {file} {} {skip} {times}", what.name())?,
            Op::Reopen { .. } => write!(f, "reopen {file}")?,
        }
        self.parts().iter().try_for_each(|part| write!(f, " {part}"))
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setup { mode, limit, folio, how, short, lens: [a, b] } = self.setup;
        let mode = MODES.iter().find(|(named, _)| *named == mode).map_or("", |(_, name)| name);
        write!(f, "mode {mode} limit {limit} folio {folio} loop {} short {short} a {a} b {b}", how.name())?;
        self.ops.iter().try_for_each(|op| write!(f, " | {op}"))?;
        self.turns.iter().try_for_each(|turn| {
            let when = if turn.always { "from" } else { "at" };
            write!(f, " | {} {when} {}.{}", turn.action.name(), turn.op, turn.moment)
        })
    }
}

/// The words of a line.
struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| "a word is missing".to_owned())
    }

    fn number(&mut self) -> Result<usize, String> {
        number(self.word()?)
    }

    fn keyed(&mut self, key: &str) -> Result<usize, String> {
        self.expect(key)?;
        self.number()
    }

    fn expect(&mut self, key: &str) -> Result<(), String> {
        let word = self.word()?;
        if word == key { Ok(()) } else { Err(format!("{word}, where {key} is expected")) }
    }

    fn one_of<T: Copy>(&mut self, names: &[(T, &str)]) -> Result<T, String> {
        let word = self.word()?;
        names.iter().find(|(_, name)| *name == word).map(|(value, _)| *value).ok_or_else(|| format!("what is {word}?"))
    }

    fn file(&mut self) -> Result<usize, String> {
        self.one_of(&[(0, FILES[0]), (1, FILES[1])])
    }

    fn parts(&mut self, key: &str) -> Result<Vec<Part>, String> {
        self.expect(key)?;
        let mut parts = Vec::new();
        while let Some(kind) = self.0.next() {
            parts.push(match kind {
                "plain" => Part::Plain(self.number()?),
                "bad" => Part::Bad { good: self.number()? },
                "map" => Part::Map { file: self.file()?, at: self.number()?, len: self.number()? },
                "pieces" => Part::Pieces { file: self.file()?, count: self.number()?, len: self.number()? },
                _ => return Err(format!("a buffer of {kind}")),
            });
        }
        Ok(parts)
    }
}

fn number(word: &str) -> Result<usize, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

impl FromStr for Script {
    type Err = String;

    fn from_str(line: &str) -> Result<Script, String> {
        let mut sentences = line.split('|').map(|sentence| Words(sentence.split_whitespace()));
        let mut first = sentences.next().ok_or("nothing")?;
        let setup = Setup {
            mode: first.expect("mode").and_then(|()| first.one_of(&MODES))?,
            limit: first.keyed("limit")?,
            folio: first.keyed("folio")?,
            how: first.expect("loop").and_then(|()| first.one_of(&How::ALL))?,
            short: first.keyed("short")?,
            lens: [first.keyed("a")?, first.keyed("b")?],
        };
        let (mut ops, mut turns) = (Vec::new(), Vec::new());
        for mut words in sentences {
            let word = words.word()?;
            if let Some((action, _)) = Action::ALL.iter().find(|(_, name)| *name == word) {
                let always = words.one_of(&[(false, "at"), (true, "from")])?;
                let when = words.word()?;
                let (op, moment) = when.split_once('.').ok_or_else(|| format!("{when} is no operation.moment"))?;
                turns.push(Turn { op: number(op)?, moment: number(moment)?, always, action: *action });
                continue;
            }
            let file = words.file()?;
            ops.push(match word {
                "write" | "write_direct" => {
                    Op::Write { file, at: words.number()?, direct: word != "write", from: words.parts("from")? }
                }
                "append" => Op::Append { file, from: words.parts("from")? },
                "read" | "read_direct" => {
                    Op::Read { file, at: words.number()?, direct: word != "read", to: words.parts("to")? }
                }
                "set_len" => Op::SetLen { file, len: words.number()? },
                "punch" => Op::Punch { file, at: words.number()?, len: words.number()? },
                "sync" => Op::Sync { file },
                "will_need" => Op::WillNeed { file, at: words.number()?, len: words.number()? },
                "try_read" => Op::TryRead { file, at: words.number()?, to: words.parts("to")? },
                "many" => Op::Many { file, at: words.number()?, len: words.number()?, count: words.number()? },
                "fill" => Op::Fill { file, at: words.number()?, len: words.number()? },
                "touch" => Op::Touch { file, at: words.number()? },
                "fail" => {
                    let what = words.one_of(&Call::ALL)?;
                    Op::Fail { file, what, skip: words.number()?, times: words.number()? }
                }
                "reopen" => Op::Reopen { file },
                _ => return Err(format!("what is {word}?")),
            });
        }
        Ok(Script { setup, ops, turns })
    }
}

/// Returns the numbers of an operation that may be reduced.
fn numbers(op: &mut Op) -> Vec<&mut usize> {
    let (mut numbers, parts) = match op {
        Op::Write { at, from: parts, .. } | Op::Read { at, to: parts, .. } | Op::TryRead { at, to: parts, .. } => {
            (vec![at], Some(parts))
        }
        Op::Append { from, .. } => (Vec::new(), Some(from)),
        Op::SetLen { len, .. } => (vec![len], None),
        Op::Punch { at, len, .. } | Op::WillNeed { at, len, .. } | Op::Fill { at, len, .. } => (vec![at, len], None),
        Op::Many { at, len, count, .. } => (vec![at, len, count], None),
        Op::Touch { at, .. } => (vec![at], None),
        Op::Fail { skip, times, .. } => (vec![skip, times], None),
        Op::Sync { .. } | Op::Reopen { .. } => (Vec::new(), None),
    };
    for part in parts.into_iter().flatten() {
        match part {
            Part::Plain(len) | Part::Bad { good: len } => numbers.push(len),
            Part::Map { at, len, .. } | Part::Pieces { count: at, len, .. } => numbers.extend([at, len]),
        }
    }
    numbers
}

impl Script {
    /// Returns scripts that are a little simpler.
    pub(super) fn simpler(&self) -> Vec<Script> {
        let mut simpler = Vec::new();
        let without = |range: Range<usize>| {
            let mut script = self.clone();
            script.ops.drain(range.clone());
            script.turns.retain(|turn| !range.contains(&turn.op));
            script.turns.iter_mut().filter(|turn| turn.op >= range.end).for_each(|turn| turn.op -= range.len());
            script
        };
        simpler.extend((0..self.ops.len()).map(|op| without(op..op + 1)));
        for turn in 0..self.turns.len() {
            let mut script = self.clone();
            script.turns.remove(turn);
            simpler.push(script);
        }
        for op in 0..self.ops.len() {
            for part in 0..self.ops[op].parts().len() {
                let mut script = self.clone();
                if let Op::Write { from: parts, .. }
                | Op::Append { from: parts, .. }
                | Op::Read { to: parts, .. }
                | Op::TryRead { to: parts, .. } = &mut script.ops[op]
                {
                    parts.remove(part);
                }
                simpler.push(script);
            }
            let count = numbers(&mut self.ops[op].clone()).len();
            for index in 0..count {
                for smaller in [|_: usize| 0, |n: usize| n / 2, |n: usize| n - n / 8, |n: usize| n - 1] {
                    let mut script = self.clone();
                    if let Some(number) = numbers(&mut script.ops[op]).into_iter().nth(index)
                        && *number > 0
                    {
                        *number = smaller(*number);
                        simpler.push(script);
                    }
                }
            }
        }
        let mut with = |setup: Setup| {
            if setup != self.setup {
                simpler.push(Script { setup, ..self.clone() });
            }
        };
        let setup = self.setup;
        with(Setup { how: How::Default, ..setup });
        with(Setup { folio: 1, ..setup });
        with(Setup { short: 0, ..setup });
        for file in 0..2 {
            let len = setup.lens[file];
            for len in [0, len / 2, len - len / 8, len.saturating_sub(1)] {
                let mut lens = setup.lens;
                lens[file] = len;
                with(Setup { lens, ..setup });
            }
        }
        simpler
    }
}
