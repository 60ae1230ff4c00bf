//! The events that may happen to memory while it is accessed, and when.

use core::fmt;
use core::ops::Range;
use std::collections::VecDeque;

use super::state::{Permission, State};

/// An event that another thread, the kernel or the hardware causes. Offsets are bytes from the start of the space; parts
/// outside of it are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// A page, by its number, becomes non-resident. Its bytes are kept.
    Evict(usize),
    /// A page, by its number, becomes resident.
    MakeResident(usize),
    /// These bytes get this permission. Unmapping is one kind of it; bytes that are mapped again are unchanged.
    Protect(Range<usize>, Permission),
    /// The granules that these bytes touch get this tag.
    Retag(Range<usize>, u8),
    /// The hardware loses an aligned extent around the byte `at`: a power of two, at least a granule and 2 bytes.
    Poison {
        /// A byte of it.
        at: usize,
        /// Number of bytes lost, rounded up to a possible size.
        extent: usize,
    },
    /// The backing ends here: the bytes after it become zero, and the pages after it are no longer backed.
    Truncate(usize),
    /// The backing extends at least to here: its pages are backed again.
    Extend(usize),
    /// One page, by its number, is no longer backed, but its neighbours are: an I/O error. Its bytes are kept.
    LoseBacking(usize),
    /// The other side stores a byte, through its own mapping.
    Store {
        /// The offset of the byte.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// These bytes can be read and written again: mapped, their pages backed, their granules not poisoned and of tag 0.
    /// Residency does not change.
    Heal(Range<usize>),
}

impl Action {
    pub(super) fn apply(&self, state: &mut State) {
        match self {
            Action::Evict(page) => state.set_resident(*page, false),
            Action::MakeResident(page) => state.set_resident(*page, true),
            Action::Protect(range, permission) => state.set_permission(range.clone(), *permission),
            Action::Retag(range, tag) => state.set_tag(range.clone(), *tag),
            Action::Poison { at, extent } => {
                let extent = (*extent).max(state.geometry().granule()).max(2).next_power_of_two();
                let start = at & !(extent - 1);
                state.set_poison(start..start.saturating_add(extent), extent);
            }
            Action::Truncate(end) => {
                let end = (*end).min(state.len());
                state.bytes[end..].fill(0);
                let first_behind = end.div_ceil(state.geometry().page_size());
                state.set_backed(first_behind..usize::MAX, false);
            }
            Action::Extend(end) => {
                let pages = state.pages_of(0..*end);
                state.set_backed(pages, true);
            }
            Action::LoseBacking(page) => state.set_backed(*page..page.saturating_add(1), false),
            Action::Store { at, byte } => {
                if let Some(cell) = state.bytes.get_mut(*at) {
                    *cell = *byte;
                }
            }
            Action::Heal(range) => {
                state.set_permission(range.clone(), Permission::Write);
                state.set_tag(range.clone(), 0);
                state.set_poison(range.clone(), 0);
                let pages = state.pages_of(range.clone());
                state.set_backed(pages, true);
            }
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Evict(page) => write!(f, "evict page {page}"),
            Action::MakeResident(page) => write!(f, "make page {page} resident"),
            Action::Protect(range, Permission::Unmapped) => write!(f, "unmap {range:?}"),
            Action::Protect(range, permission) => write!(f, "protect {range:?} as {permission:?}"),
            Action::Retag(range, tag) => write!(f, "tag {range:?} {tag}"),
            Action::Poison { at, extent } => write!(f, "poison {extent} bytes at {at}"),
            Action::Truncate(end) => write!(f, "truncate to {end}"),
            Action::Extend(end) => write!(f, "extend to {end}"),
            Action::LoseBacking(page) => write!(f, "lose the backing of page {page}"),
            Action::Store { at, byte } => write!(f, "store {byte:#04x} at {at}"),
            Action::Heal(range) => write!(f, "heal {range:?}"),
        }
    }
}

/// An adversary: the actions after each [step](super). Deterministic, and finite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Script {
    /// By step; in the given order, where several follow the same one.
    actions: VecDeque<(u64, Action)>,
}

impl Script {
    /// Makes a script without actions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an action after the `step`-th step; 0 is before the first.
    #[must_use]
    pub fn after(mut self, step: u64, action: Action) -> Self {
        let at = self.actions.partition_point(|(other, _)| *other <= step);
        self.actions.insert(at, (step, action));
        self
    }

    /// Returns the number of actions.
    pub fn len(&self) -> usize {
        self.actions.len()
    }

    /// Returns whether the space is empty.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Returns the next action that is due after this number of steps.
    pub(super) fn due(&mut self, steps: u64) -> Option<Action> {
        let is_due = self.actions.front().is_some_and(|(after, _)| *after <= steps);
        if is_due { self.actions.pop_front().map(|(_, action)| action) } else { None }
    }
}

impl FromIterator<(u64, Action)> for Script {
    fn from_iter<I: IntoIterator<Item = (u64, Action)>>(actions: I) -> Self {
        actions.into_iter().fold(Self::new(), |script, (step, action)| script.after(step, action))
    }
}
