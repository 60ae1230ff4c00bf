//! For this project's own tests and benchmarks: choosing a path the CPU would not choose by itself. Not part of the
//! stable interface.

use crate::arch;

/// The vector widths this CPU can copy with, by name, widest first.
pub fn vectors() -> Vec<&'static str> {
    arch::dispatch::names()
}

/// Copies with this width from now on, in every thread; `false` if the CPU has no such width.
pub fn select_vector(name: &str) -> bool {
    arch::dispatch::select_by_name(name)
}

/// Goes on as the CPU would choose.
pub fn select_widest() {
    if let Some(widest) = vectors().first() {
        select_vector(widest);
    }
}

/// From so many bytes on, copies take the next of their paths: the string instruction, vectors again, non-temporal
/// stores (where the path exists).
pub fn thresholds() -> [usize; 3] {
    arch::dispatch::thresholds()
}

/// Sets the thresholds of [`thresholds`], so that a test reaches each path at a size it can afford.
pub fn set_thresholds(thresholds: [usize; 3]) {
    arch::dispatch::set_thresholds(thresholds);
}
