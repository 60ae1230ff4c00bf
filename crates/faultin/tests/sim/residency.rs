//! Operations that wait for a page, and operations that must not.

use faultin::memory::{AtomicMemory, ReadMemory, ReadNoWait, WriteMemory, WriteNoWait};
use faultin::{Access, Cause, Granularity};
use faultin_sim::{Action, Geometry, Permission, Sim};

use super::{SMALL, bytes, counting};

fn cold(pages: usize) -> Sim {
    let sim = counting(SMALL, pages);
    (0..pages).for_each(|page| sim.act(Action::Evict(page)));
    sim.record();
    sim
}

#[test]
fn an_access_that_may_wait_brings_in_the_pages_it_touches_and_no_others() {
    type Access<'a> = (&'a str, &'a dyn Fn(&Sim), &'a [usize]);
    let accesses: [Access<'_>; 10] = [
        ("read", &|sim| sim.read_range(0..12).read(&mut [0; 4], 2).unwrap(), &[0, 1]),
        ("write", &|sim| sim.write_range(0..12).write(&[0; 2], 5).unwrap(), &[1]),
        ("fill", &|sim| sim.write_range(0..12).fill(3..3 + 6, 9).unwrap(), &[0, 1, 2]),
        ("aligned load", &|sim| assert!(sim.read_range(0..12).load::<u32>(4).is_ok()), &[1]),
        ("misaligned load", &|sim| assert!(sim.read_range(0..12).load::<u32>(6).is_ok()), &[1, 2]),
        ("store", &|sim| sim.write_range(0..12).store(0, 0_u64).unwrap(), &[0, 1]),
        ("fetch_add", &|sim| assert!(sim.write_range(0..12).swap(8, 0_u16).is_ok()), &[2]),
        ("fault_in", &|sim| assert!(sim.read_range(0..12).fault_in(3, bytes(2)).is_ok()), &[0, 1]),
        ("fault_in for writing", &|sim| assert!(sim.write_range(0..12).fault_in(4, bytes(8)).is_ok()), &[1, 2]),
        ("probe", &|sim| sim.write_range(0..12).probe(0..5, Granularity::Tag).unwrap(), &[0, 1]),
    ];
    for (name, access, pages) in accesses {
        let sim = cold(3);
        access(&sim);
        let trace = sim.take_trace();
        assert_eq!(trace.fault_ins().collect::<Vec<_>>(), pages, "{name}:\n{trace}");
        let resident: Vec<usize> = (0..3).filter(|page| sim.state().is_resident(*page)).collect();
        assert_eq!(resident, pages, "{name}");
        assert_eq!(trace.faults().count(), 0, "{name}");
    }
}

#[test]
fn a_copy_that_must_not_wait_stops_at_what_is_not_resident() {
    for (offset, len, resident, done) in [
        (0, 12, &[0_usize][..], Some(4)),
        (0, 12, &[1, 2], Some(0)),
        (3, 6, &[0, 1], Some(5)),
        (4, 4, &[1], None),
        (0, 12, &[0, 1, 2], None),
        (0, 0, &[], None),
    ] {
        let sim = cold(3);
        resident.iter().for_each(|page| sim.act(Action::MakeResident(*page)));
        sim.take_trace();
        let before = sim.state();
        let mut dst = vec![0xee; len];
        let read = sim.read_range(0..12).read_nowait(&mut dst, offset);
        let write = sim.write_range(0..12).write_nowait(&dst, offset);
        let moved = done.unwrap_or(len);
        assert!(dst[..moved].iter().zip(offset..).all(|(byte, at)| *byte == at as u8));
        assert!(dst[moved..].iter().all(|byte| *byte == 0xee));
        for (access, result) in [(Access::Read, read), (Access::Write, write)] {
            let short = result.err().map(|short| (short.done, short.fault));
            let told = short.map(|(done, fault)| (done, fault.access(), fault.cause(), fault.address()));
            let expected = done.map(|done| (done, access, Cause::NotResident, Some(sim.base() + offset + done)));
            assert_eq!(told, expected, "{offset} + {len}, {resident:?} resident");
        }
        assert_eq!(sim.take_trace().fault_ins().count(), 0, "somebody waited");
        assert_eq!(sim.state(), before, "the same bytes were written, and nothing brought in");
    }
}

#[test]
fn waiting_does_not_help_where_the_mapping_or_the_backing_refuses() {
    for (action, cause) in [
        (Action::Protect(0..4, Permission::Unmapped), Cause::Unmapped),
        (Action::Protect(0..4, Permission::None), Cause::Protection),
        (Action::LoseBacking(0), Cause::Backing),
        (Action::Truncate(0), Cause::Backing),
    ] {
        let sim = cold(1);
        sim.act(action.clone());
        let from = sim.read_range(0..4);
        let causes = [from.read(&mut [0], 0).unwrap_err(), from.read_nowait(&mut [0], 0).unwrap_err()];
        assert!(causes.iter().all(|short| short.fault.cause() == cause), "{action}: {causes:?}");
        assert!(!sim.state().is_resident(0), "{action}");
    }
}

#[test]
fn what_fault_in_brought_in_lets_the_next_attempt_progress() {
    for (page, granule) in [(4, 2), (16, 4), (4096, 16)] {
        let sim = counting(Geometry::new(page, granule), 4);
        (0..4).for_each(|page| sim.act(Action::Evict(page)));
        let from = sim.read_range(0..4 * page);
        let (mut dst, mut done, mut faulted_in) = (vec![0; 4 * page], 0, 0);
        // The consumer reads a page and a half at a time.
        while done < dst.len() {
            let want = (page + page / 2).min(dst.len() - done);
            match from.read_nowait(&mut dst[done..done + want], done) {
                Ok(()) => done += want,
                Err(short) if short.done > 0 => done += short.done,
                Err(_) => {
                    from.fault_in(done, bytes(want)).expect("it is only cold");
                    faulted_in += 1;
                }
            }
        }
        assert!(dst.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        assert!((2..=4).contains(&faulted_in), "{faulted_in}");
    }
}
