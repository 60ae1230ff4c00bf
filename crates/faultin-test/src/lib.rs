//! What the tests of faultin share. A dev-dependency only: nothing that users link depends on it.

mod skip;

pub use skip::{is_required, skipped};
