//! Buffers of simulated memory and plain bytes, their defects, and how many of their bytes are accessible.

use std::ops::Range;

use faultin::Access;
use faultin::iov::{ReadSegment, WriteSegment};
use faultin_sim::{Action, Geometry, Permission, Script, Sim, SimRead, SimWrite};
use proptest::collection::vec;
use proptest::prelude::*;

/// Pages of the simulated memory, which are small or large relative to a block.
const PAGES: usize = 8;

/// One segment.
#[derive(Clone, Debug)]
pub enum Part {
    Plain(usize),
    Sim(Range<usize>),
}

/// The defect of a part of the simulated memory.
#[derive(Clone, Debug)]
pub enum Matter {
    Protect(Range<usize>, Permission),
    Retag(usize),
    Poison(usize),
    LoseBacking(usize),
    Evict(usize),
}

/// A change of a page during the operation: after which step, to which page, and what.
pub type Turn = (u64, usize, bool);

/// The description of a buffer.
#[derive(Clone, Debug)]
pub struct Buffer {
    page: usize,
    pub parts: Vec<Part>,
    matters: Vec<Matter>,
    turns: Vec<Turn>,
}

/// A buffer of at most about `longest` bytes, in memory whose pages have `page` bytes. `bad`: it may have defects.
pub fn any_buffer(page: usize, longest: usize, bad: bool) -> impl Strategy<Value = Buffer> {
    let (len, granules) = (PAGES * page, PAGES * page / granule(page));
    let range = (0..len, 0..len).prop_map(|(a, b)| a.min(b)..a.max(b));
    let part = prop_oneof![
        1 => (0..longest).prop_map(Part::Plain),
        1 => (0..9_usize).prop_map(Part::Plain),
        2 => range.clone().prop_map(Part::Sim),
        1 => (0..len - 8, 0..9_usize).prop_map(|(at, len)| Part::Sim(at..at + len)),
    ];
    let permission = prop::sample::select(&[Permission::Unmapped, Permission::None, Permission::Read][..]);
    let matter = prop_oneof![
        2 => (0..len, 1..9_usize, permission)
            .prop_map(move |(at, n, to)| Matter::Protect(at..(at + n).min(len), to)),
        1 => (0..granules).prop_map(Matter::Retag),
        1 => (0..granules).prop_map(Matter::Poison),
        1 => (0..PAGES).prop_map(Matter::LoseBacking),
        4 => (0..PAGES).prop_map(Matter::Evict),
    ];
    let turn = (0..200_u64, 0..PAGES, prop::bool::weighted(0.2));
    let (matters, turns) = if bad { (0..5, 0..8) } else { (0..1, 0..1) };
    let turns = prop_oneof![2 => Just(Vec::new()), 1 => vec(turn, turns)];
    (vec(part, 0..5), vec(matter, matters), turns).prop_map(move |(parts, matters, turns)| Buffer {
        page,
        parts,
        matters,
        turns,
    })
}

fn granule(page: usize) -> usize {
    page / 4
}

/// Bytes that no memory was filled with before: from 1 to 0xdf, different ones for each `seed`.
pub fn pattern(seed: usize, at: usize) -> u8 {
    ((seed * 37 + at * 7 + (at >> 8) * 11) % 0xdf) as u8 + 1
}

/// A buffer made from its description.
pub struct Made {
    pub sim: Sim,
    pub plain: Vec<Vec<u8>>,
    /// The place of each byte of the list: its plain segment or the simulated memory, and the position in it.
    pub places: Vec<(Option<usize>, usize)>,
    buffer: Buffer,
}

impl Buffer {
    /// Makes the buffer, with bytes that identify the operation.
    pub fn make(&self, seed: usize) -> Made {
        let sim = Sim::new(Geometry::new(self.page, granule(self.page)), PAGES);
        let mut state = sim.state();
        state.bytes_mut().iter_mut().enumerate().for_each(|(at, byte)| *byte = pattern(seed, at));
        sim.restore(&state);
        let granule_at = |index| index * granule(self.page);
        for matter in &self.matters {
            sim.act(match matter.clone() {
                Matter::Protect(range, to) => Action::Protect(range, to),
                Matter::Retag(index) => Action::Retag(granule_at(index)..granule_at(index + 1), 1),
                Matter::Poison(index) => Action::Poison { at: granule_at(index), extent: granule(self.page) },
                Matter::LoseBacking(page) => Action::LoseBacking(page),
                Matter::Evict(page) => Action::Evict(page),
            });
        }
        sim.play(
            self.turns
                .iter()
                .map(|&(step, page, lose)| {
                    let unmapped = page * self.page..(page + 1) * self.page;
                    (step, if lose { Action::Protect(unmapped, Permission::Unmapped) } else { Action::Evict(page) })
                })
                .collect::<Script>(),
        );
        let (mut plain, mut places) = (Vec::new(), Vec::new());
        for (index, part) in self.parts.iter().enumerate() {
            let (whose, range) = match part {
                Part::Plain(len) => (Some(plain.len()), 0..*len),
                Part::Sim(range) => (None, range.clone()),
            };
            if let Part::Plain(len) = part {
                plain.push((0..*len).map(|at| pattern(seed + index + 1, at)).collect());
            }
            places.extend(range.map(|at| (whose, at)));
        }
        Made { sim, plain, places, buffer: self.clone() }
    }

    /// Whether nothing changes the buffer during its use.
    pub fn is_quiet(&self) -> bool {
        self.turns.is_empty()
    }
}

impl Made {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The bytes of the list, accessible or not.
    pub fn bytes(&self) -> Vec<u8> {
        let state = self.sim.state();
        let byte = |&(whose, at): &(Option<usize>, usize)| match whose {
            Some(index) => self.plain[index][at],
            None => state.bytes()[at],
        };
        self.places.iter().map(byte).collect()
    }

    /// How many bytes, from the first on, are accessible: derived from the description, not from the simulation.
    pub fn accessible(&self, access: Access) -> usize {
        let is_bad = |&(whose, at): &(Option<usize>, usize)| whose.is_none() && !self.is_good(access, at);
        self.places.iter().position(is_bad).unwrap_or(self.len())
    }

    fn is_good(&self, access: Access, at: usize) -> bool {
        let needed = if access == Access::Read { Permission::Read } else { Permission::Write };
        let mut permission = Permission::Write;
        for matter in &self.buffer.matters {
            match matter {
                Matter::Protect(range, to) if range.contains(&at) => permission = *to,
                Matter::Retag(index) | Matter::Poison(index) if at / granule(self.buffer.page) == *index => {
                    return false;
                }
                Matter::LoseBacking(page) if at / self.buffer.page == *page => return false,
                _ => {}
            }
        }
        permission >= needed
    }

    pub fn read_segments(&self) -> Vec<ReadSegment<'_, SimRead>> {
        let mut plain = self.plain.iter();
        let segment = |part: &Part| match part {
            Part::Plain(_) => ReadSegment::Plain(plain.next().expect("one for each")),
            Part::Sim(range) => ReadSegment::Memory(self.sim.read_range(range.clone())),
        };
        self.buffer.parts.iter().map(segment).collect()
    }

    pub fn write_segments(&mut self) -> Vec<WriteSegment<'_, SimWrite>> {
        let mut plain = self.plain.iter_mut();
        let segment = |part: &Part| match part {
            Part::Plain(_) => WriteSegment::Plain(plain.next().expect("one for each").as_mut_slice()),
            Part::Sim(range) => WriteSegment::Memory(self.sim.write_range(range.clone())),
        };
        self.buffer.parts.iter().map(segment).collect()
    }
}
