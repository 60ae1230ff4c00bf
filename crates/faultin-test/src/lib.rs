//! What the tests of faultin share. A dev-dependency only: nothing that users link depends on it.

mod child;
mod emulated;
pub mod processes;
mod skip;

pub use child::assert_ran;
pub use emulated::is_emulated;
pub use skip::{is_required, skipped};
