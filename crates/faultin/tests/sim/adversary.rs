//! Actions happen between two steps, and nowhere else.

use faultin::memory::{AtomicMemory, ReadMemory, ReadNoWait, WriteMemory};
use faultin::{Access, Cause};
use faultin_sim::{Action, Event, Permission, Script, Sim};
use std::sync::atomic::Ordering::SeqCst;

use super::{SMALL, bytes, counting};

/// The result of a read of two pages of 4 bytes (granules of 2, so four steps) if `action` happens after this many steps.
fn read_under(action: &Action, after: u64) -> (Option<(usize, Cause)>, [u8; 8]) {
    let sim = counting(SMALL, 2);
    sim.play(Script::new().after(after, action.clone()));
    let mut dst = [0xee; 8];
    let result = sim.read_range(0..8).read(&mut dst, 0);
    (result.err().map(|short| (short.done, short.fault.cause())), dst)
}

#[test]
fn an_action_after_a_step_is_seen_by_the_next_one() {
    for (action, cause) in [
        (Action::Protect(0..8, Permission::Unmapped), Cause::Unmapped),
        (Action::Protect(0..8, Permission::None), Cause::Protection),
        (Action::Retag(0..8, 1), Cause::Tag),
        (Action::Poison { at: 0, extent: 8 }, Cause::Poison { extent: 8 }),
    ] {
        for after in 0..4 {
            let done = 2 * after as usize;
            let (short, dst) = read_under(&action, after);
            assert_eq!(short, Some((done, cause)), "{action} after step {after}");
            assert!((0..8).all(|at| dst[at] == if at < done { at as u8 } else { 0xee }), "{dst:?}");
        }
        assert_eq!(read_under(&action, 4).0, None, "{action} after the last step");
    }
    // Truncation to 4: the bytes past it become zero, and fault.
    assert_eq!(read_under(&Action::Truncate(4), 1).0, Some((4, Cause::Backing)));
    assert_eq!(read_under(&Action::Truncate(4), 3).0, Some((6, Cause::Backing)));
    // To 5: the tail of the last page reads as zeros, without a fault.
    assert_eq!(read_under(&Action::Truncate(5), 2), (None, [0, 1, 2, 3, 4, 0, 0, 0]));
    // Only later steps see the other side's store.
    assert_eq!(read_under(&Action::Store { at: 5, byte: 99 }, 2), (None, [0, 1, 2, 3, 4, 99, 6, 7]));
    assert_eq!(read_under(&Action::Store { at: 5, byte: 99 }, 3), (None, [0, 1, 2, 3, 4, 5, 6, 7]));
}

#[test]
fn a_write_that_is_stopped_leaves_the_rest_untouched() {
    for after in 0..=4 {
        let sim = counting(SMALL, 2);
        sim.play(Script::new().after(after, Action::Protect(0..8, Permission::Read)));
        let result = sim.write_range(0..8).write(&[0xdd; 8], 0);
        let done = 2 * after as usize;
        assert_eq!(result.err().map(|short| short.done), (done < 8).then_some(done));
        let state = sim.state();
        assert!((0..8).all(|at| state.bytes()[at] == if at < done { 0xdd } else { at as u8 }), "{state:?}");
    }
}

#[test]
fn nothing_comes_between_the_bytes_of_an_aligned_scalar() {
    let torn = |offset: usize, len: usize| -> bool {
        let sim = counting(SMALL, 8);
        let stores = (0..32).map(|at| (1, Action::Store { at, byte: 0xff }));
        sim.play(stores.collect());
        let from = sim.read_range(0..32);
        let value = match len {
            2 => from.load::<u16>(offset).unwrap().to_ne_bytes().to_vec(),
            4 => from.load::<u32>(offset).unwrap().to_ne_bytes().to_vec(),
            8 => from.load::<u64>(offset).unwrap().to_ne_bytes().to_vec(),
            _ => from.load::<u128>(offset).unwrap().to_ne_bytes().to_vec(),
        };
        assert_eq!(value[0], offset as u8, "the first step came before the store");
        value.contains(&0xff)
    };
    for len in [2, 4, 8, 16] {
        for offset in 0..=16 {
            assert_eq!(torn(offset, len), len == 16 || offset % len != 0, "{len} bytes at {offset}");
        }
    }
}

#[test]
fn an_access_that_began_is_completed_and_nothing_comes_between_the_halves_of_an_atomic_one() {
    let sim = counting(SMALL, 8);
    // The second page is unmapped after the first half of a store across both: it was tested before.
    sim.play(Script::new().after(1, Action::Protect(4..8, Permission::Unmapped)));
    assert_eq!(sim.write_range(0..32).store(2, 0x0909_0909_u32), Ok(()));
    assert_eq!(sim.steps(), 2);
    assert_eq!(sim.state().bytes()[..8], [0, 1, 9, 9, 9, 9, 6, 7]);
    sim.play(Script::new().after(1, Action::Protect(0..32, Permission::None)));
    let old = sim.write_range(0..32).fetch_add(16, 1_u128, SeqCst).expect("one step");
    assert_eq!((old.to_ne_bytes()[0], sim.steps(), sim.pending()), (16, 1, 0));
}

#[test]
fn a_page_evicted_between_fault_in_and_copy_is_found_cold() {
    let sim = counting(SMALL, 2);
    sim.act(Action::Evict(0));
    sim.record();
    sim.play(Script::new().after(1, Action::Evict(0)));
    let from = sim.read_range(0..8);
    assert_eq!(from.fault_in(0, bytes(4)), Ok(bytes(4)));
    let short = from.read_nowait(&mut [0; 4], 0).expect_err("it was evicted again");
    assert_eq!((short.done, short.fault.cause()), (0, Cause::NotResident));
    assert_eq!(from.fault_in(0, bytes(4)), Ok(bytes(4)));
    assert_eq!(from.read_nowait(&mut [0; 4], 0), Ok(()));
    let trace = sim.take_trace();
    assert_eq!(trace.fault_ins().collect::<Vec<_>>(), [0, 0], "{trace}");
}

#[test]
fn the_trace_tells_everything_in_order_and_only_if_asked() {
    let quiet = counting(SMALL, 2);
    quiet.read_range(0..8).read(&mut [0; 8], 0).unwrap();
    assert_eq!((quiet.take_trace().events, quiet.steps()), (Vec::new(), 4));

    let sim = counting(SMALL, 2);
    sim.act(Action::Evict(0));
    sim.record();
    sim.play(Script::new().after(1, Action::Protect(3..8, Permission::None)));
    sim.write_range(0..8).write(&[0; 4], 1).unwrap_err();
    let base = sim.base();
    let told: Vec<String> = sim.take_trace().events.iter().map(Event::to_string).collect();
    let expected = [
        "1: page 0 faulted in".to_owned(),
        "1: copy to 1, 1 bytes".to_owned(),
        "after 1: protect 3..8 as None".to_owned(),
        format!("2: copy to 2, 1 bytes: store failed: protection at {:#x}", base + 3),
    ];
    assert_eq!(told, expected);
    assert!(sim.take_trace().events.is_empty(), "taken");
    sim.write_range(0..8).fault_in(0, bytes(1)).unwrap();
    let events = sim.take_trace().events;
    assert!(
        matches!(events[..], [Event::Step { step: 3, access: Access::Write, offset: 0, len: 1, .. }]),
        "{events:?}"
    );
}

#[test]
fn a_script_plays_the_same_every_time() {
    let play = || {
        let sim: Sim = counting(SMALL, 4);
        sim.record();
        let script = [(2, Action::Evict(1)), (1, Action::Store { at: 9, byte: 1 }), (5, Action::Truncate(13))];
        sim.play(script.into_iter().collect());
        let mut dst = [0; 16];
        let result = sim.read_range(0..16).read(&mut dst, 0);
        (result, dst, sim.take_trace(), sim.state(), sim.digest())
    };
    assert_eq!(play(), play());
    // Given in any order: actions of the same step happen in the given order.
    let sim = counting(SMALL, 1);
    let store = |byte| Action::Store { at: 0, byte };
    sim.play(Script::new().after(1, store(7)).after(0, store(5)).after(0, store(6)));
    assert_eq!((sim.state().bytes()[0], sim.pending()), (6, 1));
    let mut byte = [0];
    sim.read_range(0..1).read(&mut byte, 0).unwrap();
    assert_eq!((byte[0], sim.state().bytes()[0], sim.pending()), (6, 7, 0));
}
