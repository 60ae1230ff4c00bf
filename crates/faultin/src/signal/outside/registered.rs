//! Registering the slot of a guard or a pager for its addresses.

use core::ops::Range;

use crate::signal::inside::registered::Registered;
use crate::signal::inside::registry::Registry;

impl Registry {
    /// Registers a slot that is ready, for the addresses of `range`, with which no other registered range has a page in
    /// common.
    pub(crate) fn register(&self, range: &Range<usize>, what: Registered) {
        self.ranges.insert(range, what.value());
    }

    /// Ends [`register`](Self::register), while the addresses are still the caller's.
    pub(crate) fn unregister(&self, range: &Range<usize>, what: Registered) {
        self.ranges.remove(range, what.value());
    }
}
