//! The write loops, and what each guarantees about its count.

use faultin::iov::{IovSource, ReadSegment};
use faultin_cache::Error;
use faultin_cache::write::{AfterShort, Batch, FaultIn, Preallocate, ShortCopy, WriteLoop};
use faultin_sim::{Action, Geometry, Permission, Sim};
use proptest::prelude::*;

use crate::buffer::pattern;
use crate::common::compare::assert_same;
use crate::common::kernel_loops;
use crate::common::stores::Manner;
use crate::world::{STALE, Setting, World};

/// The kernel's loops, and the default.
pub const NAMED: [WriteLoop; 13] = [
    WriteLoop::DEFAULT,
    kernel_loops::GENERIC_PERFORM_WRITE,
    kernel_loops::GENERIC_PERFORM_WRITE_5_18,
    kernel_loops::IOMAP_WRITE_ITER,
    kernel_loops::IOMAP_WRITE_ITER_5_18,
    kernel_loops::NTFS_PERFORM_WRITE,
    kernel_loops::NTFS_PERFORM_WRITE_5_18,
    kernel_loops::FUSE_FILL_WRITE_PAGES,
    kernel_loops::FUSE_FILL_WRITE_PAGES_5_16,
    kernel_loops::BTRFS_BUFFERED_WRITE,
    kernel_loops::BTRFS_BUFFERED_WRITE_5_16,
    kernel_loops::F2FS_FILE_WRITE_ITER,
    kernel_loops::F2FS_FILE_WRITE_ITER_5_18,
];

/// Mostly one of the named ones; otherwise any combination of settings.
pub fn any_loop() -> impl Strategy<Value = WriteLoop> {
    prop_oneof![3 => prop::sample::select(&NAMED[..]), 1 => any_setting()]
}

fn any_setting() -> impl Strategy<Value = WriteLoop> {
    use prop::sample::select;
    let fault_in = select(&[FaultIn::AfterNothing, FaultIn::BeforeSome, FaultIn::BeforeAll][..]);
    let batch = prop_oneof![Just(Batch::Whole), Just(Batch::Folio), (0..5_usize).prop_map(Batch::Blocks)];
    let short_copy = select(&[ShortCopy::Complete, ShortCopy::Reject][..]);
    let after_short = select(&[AfterShort::All, AfterShort::Copied, AfterShort::Block][..]);
    let preallocate = select(&[Preallocate::No, Preallocate::IfFaultedIn, Preallocate::Yes][..]);
    (fault_in, batch, short_copy, after_short, preallocate, any::<[bool; 4]>()).prop_map(
        |(fault_in, batch, short_copy, after_short, preallocate, flags)| {
            let mut how = WriteLoop::DEFAULT;
            (how.fault_in, how.batch, how.short_copy) = (fault_in, batch, short_copy);
            (how.after_short, how.preallocate) = (after_short, preallocate);
            [how.uptodate_after_nothing, how.reserve, how.write_through, how.streaming] = flags;
            how
        },
    )
}

/// How many accessible bytes of a buffer a write may leave unwritten if the buffer does not change. `None`: any number.
pub fn may_lose(how: &WriteLoop, block: usize) -> Option<usize> {
    // After a rejection, a request for the same number of bytes would be rejected forever.
    if how.short_copy == ShortCopy::Reject && how.after_short != AfterShort::Copied {
        return None;
    }
    match (how.fault_in, how.batch) {
        (FaultIn::AfterNothing | FaultIn::BeforeSome, _) => Some(0),
        (FaultIn::BeforeAll, Batch::Blocks(blocks)) => Some(blocks.max(1) * block - 1),
        (FaultIn::BeforeAll, Batch::Whole | Batch::Folio) => None,
    }
}

/// Each named loop, and a buffer that ends anywhere: in blocks of which the store has all, some, or none.
#[test]
fn every_loop_counts_what_it_wrote() {
    const POS: usize = 3;
    for how in NAMED {
        for good in 0..40 {
            let what = format!("{how:?}, {good} good bytes");
            let manner = Manner::PLAIN;
            let world =
                World::new(&Setting { block: 8, limit: 4, max_folio: 4, how: how.clone(), manner, seed: 0, len: 21 });
            let sim = Sim::new(Geometry::new(4, 1), 10);
            let mut state = sim.state();
            state.bytes_mut().iter_mut().enumerate().for_each(|(at, byte)| *byte = pattern(9, at));
            sim.restore(&state);
            sim.act(Action::Protect(good..40, Permission::Unmapped));
            let mut from = IovSource::one(ReadSegment::Memory(sim.read_range(0..40)));
            let partial = world.file().write_iter(&mut from, POS as u64).expect_err("it ends");
            let done = partial.done;
            assert!(matches!(partial.error, Error::Fault(_)), "{what}: {partial}");
            let lost = may_lose(&how, 8).expect("a named one says");
            assert!((good.saturating_sub(lost)..=good).contains(&done), "{what}: {done}");
            let mut ought = world.model.clone();
            if done > 0 {
                ought.resize(ought.len().max(POS + done), 0);
                ought[POS..POS + done].copy_from_slice(&state.bytes()[..done]);
            }
            let mut is = vec![STALE; 64];
            let count = world.file().read_at(&mut is, 0).expect("nothing is wrong");
            assert_same(&is[..count], &ought, &what);
        }
    }
}
