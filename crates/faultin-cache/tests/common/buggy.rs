//! Known bugs of other implementations, injected into the loops.

use faultin_cache::mutation::{Bug, Mutation};

/// This bug, or none.
#[derive(Clone, Copy, Debug)]
pub struct Buggy(pub Option<Bug>);

// SAFETY: only files of the tests are operated on with a bug.
unsafe impl Mutation for Buggy {
    fn bug(self) -> Option<Bug> {
        self.0
    }
}
