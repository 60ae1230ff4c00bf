//! The possible initial faults, and the possible actions of an adversary.

#![forbid(unsafe_code)]

use std::ops::Range;

use faultin_sim::{Action, Permission};

use crate::caller::Need;
use crate::user::{Object, Scale};

/// A tag that none of the caller's pointers has.
const OTHER_TAG: u8 = 5;

/// Returns the position of the object in its pages.
fn range(object: &Object) -> Range<usize> {
    let start = Scale::Small.geometry().page_size() - object.on_first_page;
    start..start + object.len()
}

fn pages(object: &Object) -> Range<usize> {
    0..range(object).end.div_ceil(Scale::Small.geometry().page_size())
}

fn page(index: usize) -> Range<usize> {
    let size = Scale::Small.geometry().page_size();
    index * size..(index + 1) * size
}

fn granules(object: &Object) -> impl Iterator<Item = usize> {
    let (range, size) = (range(object), Scale::Small.geometry().granule());
    (range.start / size * size..range.end).step_by(size)
}

/// Returns every possible fault at one place: permissions, as fine as possible for this caller; each granule tagged or
/// poisoned; each page poisoned, without backing, or not resident yet.
///
/// A caller that needs *ALL* has to prove bytes, and no machine's permissions are finer than what can be proven: loads by
/// granule, stores by page. The others just stop, wherever that is.
fn faults(object: &Object, need: Need) -> Vec<Action> {
    let bytes = || range(object).map(|at| at..at + 1);
    let (loads, stores): (Vec<Range<usize>>, Vec<Range<usize>>) = match need {
        Need::All => (granules(object).map(|at| at..at + Scale::Small.geometry().granule()).collect(), Vec::new()),
        Need::Any | Need::Either | Need::NofaultRead => (bytes().collect(), bytes().collect()),
    };
    let mut faults = Vec::new();
    for place in loads {
        faults.push(Action::Protect(place.clone(), Permission::Unmapped));
        faults.push(Action::Protect(place, Permission::None));
    }
    faults.extend(stores.into_iter().map(|place| Action::Protect(place, Permission::Read)));
    for at in granules(object) {
        faults.push(Action::Retag(at..at + 1, OTHER_TAG));
        faults.push(Action::Poison { at, extent: 1 });
    }
    faults.extend(pages(object).flat_map(whole_page));
    faults
}

/// Returns every possible fault of a page.
fn whole_page(index: usize) -> [Action; 5] {
    [
        Action::Protect(page(index), Permission::None),
        Action::Protect(page(index), Permission::Read),
        Action::Poison { at: page(index).start, extent: page(index).len() },
        Action::LoseBacking(index),
        Action::Evict(index),
    ]
}

/// Returns the initial states: no fault, and every set of at most `most` faults.
pub(super) fn layouts(object: &Object, need: Need, most: usize) -> Vec<Vec<Action>> {
    let faults = faults(object, need);
    let mut layouts = vec![Vec::new()];
    let mut begin = 0;
    for _ in 0..most {
        let end = layouts.len();
        for shorter in begin..end {
            for fault in &faults {
                let longer = layouts[shorter].iter().chain([fault]).cloned().collect();
                layouts.push(longer);
            }
        }
        begin = end;
    }
    layouts
}

/// Returns the adversary's actions: everything to a page, another tag for a granule, and healing everything.
pub(super) fn actions(object: &Object) -> Vec<Action> {
    let mut actions: Vec<Action> = pages(object).flat_map(whole_page).collect();
    actions.extend(granules(object).map(|at| Action::Retag(at..at + 1, OTHER_TAG)));
    actions.extend(pages(object).map(|index| Action::Heal(page(index))));
    actions
}
