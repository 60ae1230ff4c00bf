//! fault_in over a list: the accessible prefix, and the segment that ends it.

use std::num::NonZeroUsize;

use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin::{Cause, Granularity};
use faultin_sim::{Permission, SimRead};

use crate::sim::{Matter, PAGE, space};

const LEN: usize = 40;

fn nonzero(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len).unwrap()
}

#[test]
fn the_first_segment_that_is_not_whole_ends_it() {
    // The second page cannot be accessed; the segments are 10 bytes at the end of the first page, nothing at a bad place,
    // 10 bytes across both, and 10 bytes of the third page, which is fine.
    let sim = space(&[Matter::Protect(PAGE..2 * PAGE, Permission::None)]);
    let ranges = [PAGE - 10..PAGE, PAGE..PAGE, PAGE - 4..PAGE + 6, 2 * PAGE..2 * PAGE + 10];
    let segments = ranges.clone().map(|range| ReadSegment::<SimRead>::Memory(sim.read_range(range)));
    let iov = IovSource::new(&segments);
    for (len, prefix) in [(1, 1), (10, 10), (11, 11), (14, 14), (15, 14), (30, 14), (1000, 14)] {
        assert_eq!(iov.fault_in(nonzero(len)).map(usize::from), Ok(prefix), "{len}");
    }
    assert_eq!((iov.moved(), iov.count()), (0, 30), "the position does not move");
    let mut iov = iov;
    iov.advance(14);
    assert_eq!(iov.fault_in(nonzero(5)).unwrap_err().cause(), Cause::Protection);
    iov.advance(6);
    assert_eq!(iov.fault_in(nonzero(99)).map(usize::from), Ok(10));
}

#[test]
fn a_segment_that_fails_at_its_first_byte_ends_it_before_itself() {
    let sim = space(&[Matter::Protect(PAGE..2 * PAGE, Permission::Read)]);
    let mut segments = [0..5, PAGE..PAGE + 5, 5..10].map(|range| WriteSegment::Memory(sim.write_range(range)));
    let iov = IovDest::new(&mut segments);
    assert_eq!(iov.fault_in(nonzero(15)).map(usize::from), Ok(5));
    assert_eq!(iov.probe(15, Granularity::Tag).map_err(|short| short.done), Err(5));
    assert_eq!(iov.probe(5, Granularity::Tag), Ok(()));
    assert_eq!(iov.probe(16, Granularity::Tag).unwrap_err().fault.cause(), Cause::OutOfRange);
}

#[test]
fn nothing_is_changed_and_what_was_cold_is_resident() {
    let sim = space(&[Matter::Evict(0), Matter::Evict(1), Matter::Evict(2)]);
    let before = sim.state().bytes().to_vec();
    let mut iov = IovDest::one(WriteSegment::Memory(sim.write_range(4..4 + LEN)));
    assert_eq!(iov.copy_to_iter_nowait(&[1; LEN]).unwrap_err().fault.cause(), Cause::NotResident);
    assert_eq!(iov.fault_in(nonzero(LEN)).map(usize::from), Ok(LEN));
    assert_eq!(sim.state().bytes(), before);
    assert_eq!(iov.copy_to_iter_nowait(&[1; LEN]), Ok(LEN));
}

#[test]
fn a_bad_granule_behind_the_touched_bytes_goes_unnoticed_and_is_met_at_the_restart() {
    let sim = space(&[Matter::Retag(2)]);
    let mut iov = IovSource::one(ReadSegment::Memory(sim.read_range(0..LEN)));
    assert_eq!(iov.fault_in(nonzero(LEN)).map(usize::from), Ok(LEN), "ANY");
    assert_eq!(iov.probe(LEN, Granularity::Tag).map_err(|short| short.done), Err(8), "ALL");
    // The restart rule: copy, then fault in where the copy stopped; nothing more is accessible there.
    let mut dst = [0; LEN];
    assert_eq!(iov.copy_from_iter(&mut dst).map_err(|short| short.done), Err(8));
    assert_eq!(iov.fault_in(nonzero(LEN)).unwrap_err().cause(), Cause::Tag);
}

#[test]
fn an_empty_list_is_out_of_range() {
    let iov = IovSource::<SimRead>::new(&[]);
    assert_eq!(iov.fault_in(nonzero(1)).unwrap_err().cause(), Cause::OutOfRange);
    assert_eq!(iov.probe(0, Granularity::Page), Ok(()));
}
