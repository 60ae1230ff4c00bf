//! Random sequences of every operation, compared with a model that is a list of addresses: the bytes moved, the position
//! afterwards, and the bytes changed.

use std::num::NonZeroUsize;
use std::ops::Range;

use faultin::iov::{IovDest, IovRangeError, IovSource, ReadSegment, WriteSegment};
use faultin::{Access, Cause, Granularity, Short};
use faultin_sim::{Permission, Sim};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::sim::{GRANULE, LEN, Matter, PAGE, PAGES, is_good, is_missing, is_permitted, space};

/// One segment of the list.
#[derive(Clone, Debug)]
enum Part {
    Plain(Vec<u8>),
    Sim(Range<usize>),
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Advance(usize),
    Revert(usize),
    Truncate(usize),
    Reexpand(usize),
    Save,
    Restore,
    Copy(usize),
    CopyFull(usize),
    NoWait(usize),
    Zero(usize),
    FaultIn(usize),
    Probe(usize),
}

/// The place of a byte of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A plain segment and a position in it.
    Plain(usize, usize),
    Sim(usize),
}

struct Model<'a> {
    sim: &'a Sim,
    matters: &'a [Matter],
    access: Access,
    parts: Vec<Part>,
    places: Vec<Place>,
    moved: usize,
    count: usize,
}

impl<'a> Model<'a> {
    fn new(sim: &'a Sim, matters: &'a [Matter], access: Access, parts: &[Part]) -> Self {
        let mut places = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Plain(bytes) => places.extend((0..bytes.len()).map(|at| Place::Plain(index, at))),
                Part::Sim(range) => places.extend(range.clone().map(Place::Sim)),
            }
        }
        Model { sim, matters, access, parts: parts.to_vec(), moved: 0, count: places.len(), places }
    }

    /// How many of the next `len` bytes are accessible.
    fn accessible(&self, len: usize, may_wait: bool) -> usize {
        let len = len.min(self.count);
        let bad = |place: &Place| match *place {
            Place::Plain(..) => false,
            Place::Sim(at) => !is_good(self.matters, self.access, at) || (!may_wait && is_missing(self.sim, at)),
        };
        self.next(len).iter().position(bad).unwrap_or(len)
    }

    fn next(&self, len: usize) -> &[Place] {
        &self.places[self.moved..self.moved + len]
    }

    /// The expected result of `fault_in`: it touches the first byte of each segment and of each page in it.
    fn fault_in(&self, len: usize) -> usize {
        let len = len.min(self.count);
        let touched = |index: usize| match self.places[self.moved + index] {
            Place::Plain(..) => false,
            Place::Sim(at) => index == 0 || at % PAGE == 0 || self.begins_a_segment(self.moved + index),
        };
        let bad = |index: &usize| match self.places[self.moved + index] {
            Place::Plain(..) => false,
            Place::Sim(at) => touched(*index) && !is_good(self.matters, self.access, at),
        };
        (0..len).find(bad).unwrap_or(len)
    }

    fn begins_a_segment(&self, index: usize) -> bool {
        let mut start = 0;
        self.parts.iter().any(|part| {
            let here = start;
            start += match part {
                Part::Plain(bytes) => bytes.len(),
                Part::Sim(range) => range.len(),
            };
            here == index
        })
    }

    fn advance(&mut self, n: usize) {
        let n = n.min(self.count);
        self.moved += n;
        self.count -= n;
    }

    fn revert(&mut self, n: usize) -> Result<(), IovRangeError> {
        self.moved = self.moved.checked_sub(n).ok_or(IovRangeError)?;
        self.count += n;
        Ok(())
    }

    fn reexpand(&mut self, count: usize) -> Result<(), IovRangeError> {
        if count > self.places.len() - self.moved {
            return Err(IovRangeError);
        }
        self.count = count;
        Ok(())
    }

    /// The remaining pieces: address (0 for plain memory, which can be anywhere), and length.
    fn pieces(&self) -> Vec<(Option<usize>, usize)> {
        let mut pieces: Vec<(Option<usize>, usize)> = Vec::new();
        for index in self.moved..self.moved + self.count {
            let place = self.places[index];
            if index > self.moved && !self.begins_a_segment(index) {
                pieces.last_mut().expect("begun").1 += 1;
            } else {
                let address = match place {
                    Place::Sim(at) => Some(self.sim.base() + at),
                    Place::Plain(..) => None,
                };
                pieces.push((address, 1));
            }
        }
        pieces
    }
}

/// An operation's result: the count, or the count before an error.
type Said = Result<usize, usize>;

fn said(result: Result<usize, Short>) -> Said {
    result.map_err(|short| short.done)
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let sim = (0..LEN, 0..24_usize).prop_map(|(start, len)| Part::Sim(start..(start + len).min(LEN)));
    let plain = (0..9_usize).prop_map(|len| Part::Plain(vec![0xf0; len]));
    vec(prop_oneof![4 => sim, 1 => plain], 0..6)
}

fn matters() -> impl Strategy<Value = Vec<Matter>> {
    let permission = prop_oneof![Just(Permission::Unmapped), Just(Permission::None), Just(Permission::Read)];
    let protect = (0..LEN, 1..20_usize, permission).prop_map(|(at, len, to)| Matter::Protect(at..at + len, to));
    vec(
        prop_oneof![
            3 => protect,
            1 => (0..LEN / GRANULE).prop_map(Matter::Retag),
            1 => (0..LEN / GRANULE).prop_map(Matter::Poison),
            1 => (0..PAGES).prop_map(Matter::LoseBacking),
            3 => (0..PAGES).prop_map(Matter::Evict),
        ],
        0..4,
    )
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let n = || prop_oneof![4 => 0..24_usize, 1 => 0..140_usize];
    vec(
        prop_oneof![
            n().prop_map(Op::Advance),
            n().prop_map(Op::Revert),
            n().prop_map(Op::Truncate),
            n().prop_map(Op::Reexpand),
            Just(Op::Save),
            Just(Op::Restore),
            n().prop_map(Op::Copy),
            n().prop_map(Op::CopyFull),
            n().prop_map(Op::NoWait),
            n().prop_map(Op::Zero),
            n().prop_map(Op::FaultIn),
            n().prop_map(Op::Probe),
        ],
        1..12,
    )
}

/// Compares with the model what both directions have in common.
macro_rules! positions_agree {
    ($iov:ident, $model:ident, $op:ident) => {
        prop_assert_eq!(($iov.moved(), $iov.count()), ($model.moved, $model.count), "{:?}", $op);
        prop_assert_eq!($iov.is_empty(), $model.count == 0);
        let pieces = $model.pieces();
        prop_assert_eq!($iov.single_seg_count(), pieces.first().map_or(0, |piece| piece.1));
        match $op {
            Op::Advance(n) => {
                $iov.advance(n);
                $model.advance(n);
            }
            Op::Revert(n) => prop_assert_eq!($iov.revert(n), $model.revert(n)),
            Op::Truncate(n) => {
                $iov.truncate(n);
                $model.count = $model.count.min(n);
            }
            Op::Reexpand(n) => prop_assert_eq!($iov.reexpand(n), $model.reexpand(n)),
            Op::FaultIn(n) => {
                let Some(len) = NonZeroUsize::new(n) else { continue };
                let expected = $model.fault_in(n);
                match $iov.fault_in(len) {
                    Ok(prefix) => prop_assert_eq!(prefix.get(), expected),
                    Err(fault) => {
                        prop_assert_eq!(expected, 0);
                        prop_assert_eq!(fault.cause() == Cause::OutOfRange, $model.count == 0);
                    }
                }
            }
            Op::Probe(n) => {
                let result = $iov.probe(n, Granularity::Tag).map_err(|short| (short.done, short.fault.cause()));
                if n > $model.count {
                    prop_assert_eq!(result, Err((0, Cause::OutOfRange)));
                } else {
                    let good = $model.accessible(n, true);
                    // A unit is tested by one of its bytes, and permissions here may end within one.
                    match result {
                        Ok(()) => prop_assert!(good == n || $model.mixed()),
                        Err((done, _)) => prop_assert!(done == good || $model.mixed(), "{} {}", done, good),
                    }
                }
            }
            _ => {}
        }
    };
}

impl Model<'_> {
    /// Whether some unit that a probe tests with one access is only partly permitted: a granule, or a page for stores.
    fn mixed(&self) -> bool {
        let unit = if self.access == Access::Read { GRANULE } else { PAGE };
        let permitted = |at| is_permitted(self.matters, self.access, at);
        (0..LEN).any(|at| permitted(at) != permitted(at / unit * unit))
    }

    fn expected_copy(&self, n: usize, may_wait: bool) -> Said {
        let (goal, done) = (n.min(self.count), self.accessible(n, may_wait));
        if done == goal { Ok(goal) } else { Err(done) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16384, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_source_moves_what_the_model_moves(parts in parts(), matters in matters(), ops in ops()) {
        let sim = space(&matters);
        let plain: Vec<Vec<u8>> = parts.iter().map(|part| match part {
            Part::Plain(bytes) => (0..bytes.len()).map(|at| 0x80 + at as u8).collect(),
            Part::Sim(_) => Vec::new(),
        }).collect();
        let segments: Vec<_> = parts.iter().zip(&plain).map(|(part, bytes)| match part {
            Part::Plain(_) => ReadSegment::Plain(bytes),
            Part::Sim(range) => ReadSegment::Memory(sim.read_range(range.clone())),
        }).collect();
        let before = sim.state().bytes().to_vec();
        let mut iov = IovSource::new(&segments);
        let mut model = Model::new(&sim, &matters, Access::Read, &parts);
        let mut saved = (iov.save(), 0, model.count);
        for op in ops {
            positions_agree!(iov, model, op);
            let byte = |place: &Place| match *place {
                Place::Plain(part, at) => plain[part][at],
                Place::Sim(at) => before[at],
            };
            match op {
                Op::Save => saved = (iov.save(), model.moved, model.count),
                Op::Restore => {
                    iov.restore(saved.0).unwrap();
                    (model.moved, model.count) = (saved.1, saved.2);
                }
                Op::Copy(n) | Op::NoWait(n) => {
                    let may_wait = matches!(op, Op::Copy(_));
                    let expected = model.expected_copy(n, may_wait);
                    let mut dst = vec![0; n];
                    let result = if may_wait { iov.copy_from_iter(&mut dst) } else { iov.copy_from_iter_nowait(&mut dst) };
                    prop_assert_eq!(said(result), expected);
                    let done = expected.unwrap_or_else(|done| done);
                    prop_assert_eq!(&dst[..done], model.next(done).iter().map(byte).collect::<Vec<_>>());
                    prop_assert!(dst[done..].iter().all(|&byte| byte == 0), "touched beyond the count");
                    model.advance(done);
                }
                Op::CopyFull(n) => {
                    let good = model.accessible(n, true);
                    let mut dst = vec![0; n];
                    match iov.copy_from_iter_full(&mut dst) {
                        Ok(()) => {
                            prop_assert_eq!(good, n);
                            prop_assert_eq!(&dst, &model.next(n).iter().map(byte).collect::<Vec<_>>());
                            model.advance(n);
                        }
                        Err(short) if n > model.count => {
                            prop_assert_eq!((short.done, short.fault.cause()), (0, Cause::OutOfRange));
                        }
                        Err(short) => {
                            prop_assert_eq!(short.done, good);
                            prop_assert!(good < n);
                        }
                    }
                }
                _ => {}
            }
            prop_assert!(sim.state().bytes() == before, "a source changed memory: {:?}", op);
        }
    }

    #[test]
    fn a_dest_moves_what_the_model_moves(parts in parts(), matters in matters(), ops in ops()) {
        let sim = space(&matters);
        let mut plain: Vec<Vec<u8>> = parts.iter().map(|part| match part {
            Part::Plain(bytes) => bytes.clone(),
            Part::Sim(_) => Vec::new(),
        }).collect();
        let mut model = Model::new(&sim, &matters, Access::Write, &parts);
        let (mut memory, mut slices) = (sim.state().bytes().to_vec(), plain.clone());
        {
            let mut segments: Vec<_> = parts.iter().zip(&mut plain).map(|(part, bytes)| match part {
                Part::Plain(_) => WriteSegment::Plain(bytes),
                Part::Sim(range) => WriteSegment::Memory(sim.write_range(range.clone())),
            }).collect();
            let mut iov = IovDest::new(&mut segments);
            let mut saved = (iov.save(), 0, model.count);
            let mut serial = 0_u8;
            for op in ops {
                positions_agree!(iov, model, op);
                let mut stored = |model: &Model, bytes: &[u8]| for (place, &byte) in model.next(bytes.len()).iter().zip(bytes) {
                    match *place {
                        Place::Plain(part, at) => slices[part][at] = byte,
                        Place::Sim(at) => memory[at] = byte,
                    }
                };
                serial = serial.wrapping_add(31);
                match op {
                    Op::Save => saved = (iov.save(), model.moved, model.count),
                    Op::Restore => {
                        iov.restore(saved.0).unwrap();
                        (model.moved, model.count) = (saved.1, saved.2);
                    }
                    Op::Copy(n) | Op::NoWait(n) | Op::Zero(n) => {
                        let may_wait = matches!(op, Op::Copy(_) | Op::Zero(_));
                        let zero = matches!(op, Op::Zero(_));
                        let expected = model.expected_copy(n, may_wait);
                        let src: Vec<u8> = (0..n).map(|at| if zero { 0 } else { serial.wrapping_add(at as u8) }).collect();
                        let result = match op {
                            Op::Copy(_) => iov.copy_to_iter(&src),
                            Op::NoWait(_) => iov.copy_to_iter_nowait(&src),
                            _ => iov.zero(n),
                        };
                        prop_assert_eq!(said(result), expected, "{:?}", op);
                        let done = expected.unwrap_or_else(|done| done);
                        stored(&model, &src[..done]);
                        model.advance(done);
                    }
                    Op::CopyFull(n) => {
                        let good = model.accessible(n, true);
                        let src: Vec<u8> = (0..n).map(|at| serial.wrapping_add(at as u8)).collect();
                        match iov.copy_to_iter_full(&src) {
                            Ok(()) => {
                                prop_assert_eq!(good, n);
                                stored(&model, &src);
                                model.advance(n);
                            }
                            Err(short) if n > model.count => {
                                prop_assert_eq!((short.done, short.fault.cause()), (0, Cause::OutOfRange));
                            }
                            Err(short) => {
                                prop_assert_eq!(short.done, good);
                                stored(&model, &src[..good]);
                            }
                        }
                    }
                    _ => {}
                }
                prop_assert!(sim.state().bytes() == memory, "{:?}", op);
            }
        }
        prop_assert_eq!(plain, slices);
    }
}
