//! Every operation of a file in random sequences, on caches and stores of every kind.

use std::ops::Range;

use faultin_cache::Advice;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::buffer::any_buffer;
use crate::common::stores::Manner;
use crate::common::watchdog;
use crate::loops::any_loop;
use crate::world::{Op, Setting, Way, World};

/// Operations are within this many blocks.
const BLOCKS: usize = 10;

/// A kind of cache and of buffers.
#[derive(Clone, Copy)]
struct Kind {
    block: usize,
    /// Possible alignments of the store.
    alignments: &'static [usize],
    /// Bytes in a page of a buffer's memory.
    page: usize,
    /// Whether buffers may have defects.
    bad: bool,
}

fn any_setting(kind: Kind) -> impl Strategy<Value = Setting> {
    let Kind { block, alignments, .. } = kind;
    let manner = (prop::sample::select(alignments), any::<[bool; 2]>())
        .prop_map(|(alignment, [short, holes])| Manner { alignment, short, holes });
    let limit = prop_oneof![4 => 0..9_usize, 1 => Just(256)];
    let max_folio = prop::sample::select(&[1, 2, 4, 8, 512][..]);
    let len = prop_oneof![Just(0), 0..BLOCKS * block];
    (limit, max_folio, any_loop(), manner, any::<u64>(), len).prop_map(
        move |(limit, max_folio, how, manner, seed, len)| Setting { block, limit, max_folio, how, manner, seed, len },
    )
}

fn any_op(kind: Kind) -> impl Strategy<Value = Op> {
    let Kind { block, page, bad, .. } = kind;
    let spot = move || {
        prop_oneof![
            1 => (0..BLOCKS).prop_map(move |index| (index * block) as u64),
            2 => (0..BLOCKS * block).prop_map(|at| at as u64),
        ]
    };
    let range = move || {
        let rest = prop_oneof![2 => spot().boxed(), 1 => Just(u64::MAX).boxed()];
        (spot(), rest).prop_map(|(a, b)| Range { start: a.min(b), end: a.max(b) })
    };
    let buffer = move || any_buffer(page, 3 * block, bad);
    let way = || prop_oneof![4 => Just(Way::Cached), 1 => Just(Way::Append), 1 => Just(Way::Direct)];
    let advice = prop::sample::select(&[Advice::Normal, Advice::Sequential, Advice::Random][..]);
    let write = (way(), spot(), buffer(), any::<bool>());
    let read = (way(), spot(), buffer(), any::<bool>());
    prop_oneof![
        12 => write.prop_map(|(way, pos, buffer, wait)| Op::Write { way, pos, buffer, wait }),
        6 => read.prop_map(|(way, pos, buffer, wait)| Op::Read { way, pos, buffer, wait }),
        2 => Just(Op::ReadAll),
        3 => spot().prop_map(Op::SetLen),
        3 => range().prop_map(Op::PunchHole),
        1 => range().prop_map(Op::WriteBack),
        1 => range().prop_map(Op::WillNeed),
        1 => range().prop_map(Op::DontNeed),
        1 => advice.prop_map(Op::Advise),
        2 => Just(Op::DropClean),
        1 => Just(Op::SyncAll),
        1 => Just(Op::SyncData),
        1 => Just(Op::SyncCache),
        1 => Just(Op::Clone),
        1 => Just(Op::Close),
        1 => Just(Op::Reopen),
    ]
}

fn any_run(kind: Kind) -> impl Strategy<Value = (Setting, Vec<Op>)> {
    (any_setting(kind), vec(any_op(kind), 1..24))
}

fn run((setting, ops): (Setting, Vec<Op>)) -> Result<(), TestCaseError> {
    watchdog::start();
    let mut world = World::new(&setting);
    for op in &ops {
        world.apply(op)?;
    }
    world.finish()
}

fn check(kind: Kind, cases: u32) {
    // Only the run time depends on the architecture: others are emulated.
    let cases = if cfg!(target_arch = "x86_64") { cases } else { cases / 10 };
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    if let Err(error) = runner.run(&any_run(kind), run) {
        panic!("{error}");
    }
}

/// Blocks so small that all cases occur within a few bytes.
const SMALL: Kind = Kind { block: 8, alignments: &[1, 8], page: 16, bad: false };

#[test]
fn small_blocks() {
    check(SMALL, 40_000);
}

#[test]
fn small_blocks_and_buffers_that_fault() {
    check(Kind { bad: true, ..SMALL }, 40_000);
}

#[test]
fn blocks_of_the_usual_size() {
    check(Kind { block: 4096, alignments: &[1, 512, 4096], page: 512, bad: true }, 3_000);
}

#[test]
fn blocks_of_a_sector() {
    check(Kind { block: 512, alignments: &[1, 512], page: 128, bad: true }, 8_000);
}
