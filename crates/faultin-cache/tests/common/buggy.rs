//! Bugs of the past, put into the loops.

use faultin_cache::mutation::{Bug, Mutation};

/// This bug, or none.
#[derive(Clone, Copy, Debug)]
pub struct Buggy(pub Option<Bug>);

// SAFETY: the files that operations with a bug get are the tests' own.
unsafe impl Mutation for Buggy {
    fn bug(self) -> Option<Bug> {
        self.0
    }
}
