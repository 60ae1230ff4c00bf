//! The one copy there is here, under the names that tests ask for.

const NAME: &str = "vector";

/// The widths this CPU has, widest first.
#[cfg(feature = "internals")]
pub(crate) fn names() -> Vec<&'static str> {
    vec![NAME]
}

/// Selects a width by name, if the CPU has it.
#[cfg(feature = "internals")]
pub(crate) fn select_by_name(name: &str) -> bool {
    name == NAME
}

/// The sizes at which the vector copies change their way: none.
#[cfg(feature = "internals")]
pub(crate) fn thresholds() -> [usize; 3] {
    [usize::MAX; 3]
}

/// Sets them, for tests: there is nothing to set.
#[cfg(feature = "internals")]
pub(crate) fn set_thresholds(_thresholds: [usize; 3]) {}

/// Chooses now: nothing to choose.
pub(crate) fn settle() {}
