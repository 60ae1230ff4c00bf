//! What the tests of faultin share. A dev-dependency only: nothing that users link depends on it.

mod child;
mod skip;

pub use child::assert_ran;
pub use skip::{is_required, skipped};
