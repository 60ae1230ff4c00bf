//! States are values: equal if and only if they are indistinguishable.

use std::collections::HashSet;

use faultin::memory::{ReadMemory, WriteMemory};
use faultin_sim::{Action, Geometry, Permission, Sim, State};

use super::{SMALL, counting};

/// Every kind of action that changes something in a fresh space.
fn actions() -> Vec<Action> {
    vec![
        Action::Evict(0),
        Action::Protect(3..4, Permission::Unmapped),
        Action::Protect(3..4, Permission::None),
        Action::Protect(3..4, Permission::Read),
        Action::Retag(2..3, 1),
        Action::Retag(2..3, 2),
        Action::Poison { at: 2, extent: 2 },
        Action::Poison { at: 2, extent: 4 },
        Action::Truncate(5),
        Action::LoseBacking(1),
        Action::Store { at: 7, byte: 70 },
    ]
}

#[test]
fn different_states_differ_and_equal_ones_have_one_digest() {
    let mut seen = HashSet::new();
    let mut digests = HashSet::new();
    for action in actions() {
        let [one, other] = [counting(SMALL, 2), counting(SMALL, 2)];
        one.act(action.clone());
        assert_ne!(one.state(), other.state(), "{action}");
        other.act(action.clone());
        assert_eq!((one.state(), one.digest()), (other.state(), other.digest()), "{action}");
        assert!(digests.insert(one.digest()), "{action}");
        assert!(seen.insert(one.state()), "{action}");
    }
    assert!(digests.insert(counting(Geometry::new(8, 2), 1).digest()), "another geometry");
}

#[test]
fn going_back_to_a_state_undoes_everything_and_a_state_shares_nothing() {
    let sim = counting(SMALL, 2);
    let (before, digest) = (sim.state(), sim.digest());
    let to = sim.write_range(0..8);
    for action in actions() {
        sim.act(action);
    }
    assert!(to.write(&[0xdd; 8], 0).is_err());
    let other = Sim::from_state(before.clone());
    assert_eq!(other.digest(), digest);
    sim.restore(&before);
    assert_eq!((sim.state(), sim.digest()), (before, digest));
    to.write(&[0xdd; 8], 0).expect("all is well again, also for ranges that were there before");
    assert_eq!(other.digest(), digest);
    // A clone is a handle.
    assert_eq!(sim.clone().digest(), sim.digest());
}

#[test]
fn extending_a_backing_brings_pages_back_as_zeros() {
    let sim = counting(SMALL, 3);
    sim.act(Action::Truncate(2));
    sim.act(Action::Extend(8));
    let mut dst = [0xee; 12];
    let short = sim.read_range(0..12).read(&mut dst, 0).unwrap_err();
    assert_eq!((short.done, &dst[..8]), (8, &[0, 1, 0, 0, 0, 0, 0, 0][..]));
}

#[test]
fn what_lies_outside_of_the_space_is_ignored() {
    let sim = counting(SMALL, 1);
    let before = sim.state();
    for action in [
        Action::Evict(1),
        Action::MakeResident(usize::MAX),
        Action::Protect(4..usize::MAX, Permission::None),
        Action::Retag(4..9, 1),
        Action::Retag(2..2, 1),
        Action::Poison { at: usize::MAX, extent: 2 },
        Action::Truncate(usize::MAX),
        Action::Extend(usize::MAX),
        Action::LoseBacking(usize::MAX),
        Action::Store { at: 4, byte: 9 },
        Action::Heal(0..usize::MAX),
    ] {
        sim.act(action.clone());
        assert_eq!(sim.state(), before, "{action}");
    }
    assert_eq!(before.permission(4), None);
    assert!(!before.is_resident(1));
    assert_eq!((before.len(), before.is_empty(), State::new(SMALL, 0).is_empty()), (4, false, true));
}

#[test]
#[should_panic(expected = "leaves a space of 4 bytes")]
fn a_range_lies_in_its_space() {
    counting(SMALL, 1).read_range(0..5);
}

#[test]
#[should_panic(expected = "another space's state")]
fn a_state_of_another_space_is_refused() {
    counting(SMALL, 1).restore(&State::new(SMALL, 2));
}
