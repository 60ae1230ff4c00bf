//! Helpers that the tests of faultin share. A dev-dependency only: nothing that users link depends on it.

mod child;
mod emulated;
pub mod eviction;
mod place;
pub mod processes;
mod skip;

pub use child::assert_ran;
pub use emulated::is_emulated;
pub use place::far_below;
pub use skip::{is_required, skipped};
