//! Tags, poison and permissions that differ within a page.

use faultin::memory::{AtomicMemory, ReadMemory, WriteMemory};
use faultin::{Access, Cause, Fault, Granularity, Short};
use faultin_sim::{Action, Geometry, Permission, Sim, SimRead, SimWrite};

use super::{SMALL, bytes, counting};

/// Bytes done, and the cause.
fn short(result: Result<(), Short>) -> Option<(usize, Cause)> {
    result.err().map(|short| (short.done, short.fault.cause()))
}

fn ranges(sim: &Sim) -> (SimRead, SimWrite) {
    (sim.read_range(0..sim.len()), sim.write_range(0..sim.len()))
}

#[test]
fn a_copy_stops_at_the_first_bad_byte_whatever_is_wrong_with_it() {
    // One page of 64 bytes with granules of 16; the 21st byte is hit.
    let geometry = Geometry::new(64, 16);
    for (action, read, write) in [
        (Action::Protect(20..21, Permission::Unmapped), Some((20, Cause::Unmapped)), Some((20, Cause::Unmapped))),
        (Action::Protect(20..21, Permission::None), Some((20, Cause::Protection)), Some((20, Cause::Protection))),
        (Action::Protect(20..21, Permission::Read), None, Some((20, Cause::Protection))),
        (Action::Retag(20..21, 3), Some((16, Cause::Tag)), Some((16, Cause::Tag))),
        (
            Action::Poison { at: 20, extent: 16 },
            Some((16, Cause::Poison { extent: 16 })),
            Some((16, Cause::Poison { extent: 16 })),
        ),
        (
            Action::Poison { at: 20, extent: 1 },
            Some((16, Cause::Poison { extent: 16 })),
            Some((16, Cause::Poison { extent: 16 })),
        ),
        (
            Action::Poison { at: 20, extent: 32 },
            Some((0, Cause::Poison { extent: 32 })),
            Some((0, Cause::Poison { extent: 32 })),
        ),
        (Action::LoseBacking(0), Some((0, Cause::Backing)), Some((0, Cause::Backing))),
    ] {
        let sim = counting(geometry, 1);
        sim.act(action.clone());
        let (from, to) = ranges(&sim);
        let mut dst = [0xee; 64];
        assert_eq!(short(from.read(&mut dst, 0)), read, "{action}");
        let done = read.map_or(64, |(done, _)| done);
        assert!(
            dst.iter().enumerate().all(|(at, b)| *b == if at < done { at as u8 } else { 0xee }),
            "{action}: {dst:?}"
        );
        let before = sim.state().bytes().to_vec();
        assert_eq!(short(to.write(&[0xdd; 64], 0)), write, "{action}");
        let done = write.map_or(64, |(done, _)| done);
        let after = sim.state();
        assert!(after.bytes()[..done].iter().all(|b| *b == 0xdd), "{action}");
        assert_eq!(after.bytes()[done..], before[done..], "{action}");
        sim.act(Action::Heal(20..21));
        if !matches!(action, Action::Poison { extent: 32, .. }) {
            assert_eq!((from.read(&mut dst, 0), to.write(&dst, 0)), (Ok(()), Ok(())), "{action}, healed");
        }
    }
}

#[test]
fn what_the_translation_refuses_comes_before_what_the_memory_does() {
    let sim = counting(SMALL, 1);
    let (from, _) = ranges(&sim);
    let mut byte = [0];
    for (action, cause) in [
        (Action::Retag(0..1, 1), Cause::Tag),
        (Action::Poison { at: 0, extent: 2 }, Cause::Poison { extent: 2 }),
        (Action::LoseBacking(0), Cause::Backing),
        (Action::Protect(0..4, Permission::None), Cause::Protection),
        (Action::Protect(0..4, Permission::Unmapped), Cause::Unmapped),
    ] {
        sim.act(action);
        assert_eq!(short(from.read(&mut byte, 0)), Some((0, cause)));
    }
}

#[test]
fn fault_in_sees_the_first_byte_of_the_range_and_of_each_further_page_and_nothing_else() {
    // Three pages of 4 bytes, granules of 2: the bad granule × the start → bytes reported accessible.
    for (bad, expected) in [
        (0, [Err(0), Err(1), Ok(10), Ok(9), Ok(8), Ok(7), Ok(6), Ok(5), Ok(4), Ok(3), Ok(2), Ok(1)]),
        (2, [Ok(12), Ok(11), Err(2), Err(3), Ok(8), Ok(7), Ok(6), Ok(5), Ok(4), Ok(3), Ok(2), Ok(1)]),
        (4, [Ok(4), Ok(3), Ok(2), Ok(1), Err(4), Err(5), Ok(6), Ok(5), Ok(4), Ok(3), Ok(2), Ok(1)]),
        (6, [Ok(12), Ok(11), Ok(10), Ok(9), Ok(8), Ok(7), Err(6), Err(7), Ok(4), Ok(3), Ok(2), Ok(1)]),
        (8, [Ok(8), Ok(7), Ok(6), Ok(5), Ok(4), Ok(3), Ok(2), Ok(1), Err(8), Err(9), Ok(2), Ok(1)]),
    ] {
        let sim = counting(SMALL, 3);
        sim.act(Action::Retag(bad..bad + 1, 1));
        let (from, to) = ranges(&sim);
        let at = |fault: Fault| fault.address().map(|address| address - sim.base());
        for (offset, expected) in expected.into_iter().enumerate() {
            let expected = expected.map(bytes).map_err(Some);
            assert_eq!(from.fault_in(offset, bytes(12 - offset)).map_err(at), expected, "{bad} bad, from {offset}");
            assert_eq!(to.fault_in(offset, bytes(12 - offset)).map_err(at), expected, "{bad} bad, from {offset}");
        }
    }
}

#[test]
fn probe_sees_what_is_bad_at_its_granularity() {
    // Two pages of 256 bytes; granules of 16, so lines of 64. The bad part → what each granularity reports.
    let geometry = Geometry::new(256, 16);
    assert_eq!((geometry.unit(Granularity::Line), geometry.unit(Granularity::Tag)), (64, 16));
    for (bad, page, line, tag) in [
        (0, Some(0), Some(0), Some(0)),
        (16, None, None, Some(16)),
        (64, None, Some(64), Some(64)),
        (80, None, None, Some(80)),
        (256, Some(256), Some(256), Some(256)),
        (496, None, None, Some(496)),
    ] {
        let sim = counting(geometry, 2);
        sim.act(Action::Retag(bad..bad + 1, 1));
        let (from, to) = ranges(&sim);
        for (granularity, done) in [(Granularity::Page, page), (Granularity::Line, line), (Granularity::Tag, tag)] {
            let expected = done.map(|done| (done, Cause::Tag));
            assert_eq!(short(from.probe(0..512, granularity)), expected, "{bad} bad, read, {granularity:?}");
            assert_eq!(short(to.probe(0..512, granularity)), expected, "{bad} bad, write, {granularity:?}");
        }
        assert!(sim.state().bytes().iter().enumerate().all(|(at, b)| *b == at as u8), "a probe changed a byte");
    }
    for (page, granule, line) in [(4, 2, 4), (64, 16, 64), (4096, 16, 64), (4096, 128, 128)] {
        assert_eq!(Geometry::new(page, granule).unit(Granularity::Line), line);
    }
}

#[test]
fn a_store_probe_stores_once_per_page_and_reads_in_between() {
    let sim = counting(SMALL, 2);
    sim.act(Action::Retag(6..8, 1));
    let failed = ranges(&sim).1.probe(0..8, Granularity::Tag).expect_err("a bad granule");
    assert_eq!((failed.done, failed.fault.access(), failed.fault.address()), (6, Access::Read, Some(sim.base() + 6)));
}

#[test]
fn a_scalar_with_one_bad_byte_does_nothing() {
    for bad in 0..8 {
        let sim = counting(SMALL, 5);
        sim.act(Action::Protect(4 + bad..5 + bad, Permission::None));
        let (from, to) = ranges(&sim);
        let before = sim.state();
        let at = Some(sim.base() + 4 + bad);
        assert_eq!(from.load::<u64>(4).unwrap_err().address(), at);
        assert_eq!(to.store(4, 0_u64).unwrap_err().address(), at);
        assert_eq!(to.store(4, 0_u128).unwrap_err().address(), at);
        for offset in [0, 8] {
            let inside = (offset..offset + 8).contains(&(4 + bad));
            let same = u64::from_ne_bytes(before.bytes()[offset..][..8].try_into().unwrap());
            assert_eq!(to.swap(offset, same).is_err(), inside, "{bad} bad, swap at {offset}");
        }
        assert_eq!(sim.state(), before);
    }
}

#[test]
fn a_range_has_access_where_its_tag_is_the_memorys() {
    let sim = counting(SMALL, 2);
    sim.act(Action::Retag(2..6, 7));
    let (from, to) = ranges(&sim);
    let mut dst = [0; 8];
    assert_eq!(short(from.read(&mut dst, 0)), Some((2, Cause::Tag)));
    let tagged = from.with_tag(7);
    assert_eq!(short(tagged.read(&mut dst, 0)), Some((0, Cause::Tag)));
    assert_eq!(short(tagged.read(&mut dst, 2)), Some((0, Cause::OutOfRange)));
    assert_eq!(short(tagged.read(&mut dst[..6], 2)), Some((4, Cause::Tag)));
    let part = to.with_tag(7).subslice(2..6).expect("a part");
    assert_eq!((part.write(&[9; 4], 0), part.as_read().load::<u16>(2)), (Ok(()), Ok(0x0909)));
}
