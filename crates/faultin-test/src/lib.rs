//! Helpers that the tests of faultin share. A dev-dependency only: nothing that users link depends on it.

mod child;
mod emulated;
pub mod eviction;
pub mod modules;
pub mod parallel;
mod place;
pub mod processes;
mod random;
mod skip;
#[cfg(feature = "cache")]
mod zeros;

pub use child::assert_ran;
pub use emulated::is_emulated;
pub use place::far_below;
pub use random::Random;
pub use skip::{is_required, skipped};
#[cfg(feature = "cache")]
pub use zeros::Zeros;
