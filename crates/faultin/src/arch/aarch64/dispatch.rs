//! The only copy of this architecture, under the names that tests use.

#[cfg(feature = "internals")]
const NAME: &str = "vector";

/// Returns the widths of this CPU, widest first.
#[cfg(feature = "internals")]
pub(crate) fn names() -> Vec<&'static str> {
    vec![NAME]
}

/// Selects a width by name, if the CPU has it.
#[cfg(feature = "internals")]
pub(crate) fn select_by_name(name: &str) -> bool {
    name == NAME
}

/// Returns the sizes at which the vector copies change their way: none.
#[cfg(feature = "internals")]
pub(crate) fn thresholds() -> [usize; 3] {
    [usize::MAX; 3]
}

/// Sets these sizes, for tests: there is nothing to set.
#[cfg(feature = "internals")]
pub(crate) fn set_thresholds(_thresholds: [usize; 3]) {}

/// Chooses the copies now: there is nothing to choose.
pub(crate) fn settle() {}
