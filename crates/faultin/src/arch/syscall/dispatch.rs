//! One way to copy.

pub(crate) fn names() -> Vec<&'static str> {
    vec!["syscall"]
}

pub(crate) fn select_by_name(name: &str) -> bool {
    name == "syscall"
}

pub(crate) fn thresholds() -> [usize; 3] {
    [usize::MAX; 3]
}

pub(crate) fn set_thresholds(_: [usize; 3]) {}

/// Chooses now: nothing to choose.
pub(crate) fn settle() {}
