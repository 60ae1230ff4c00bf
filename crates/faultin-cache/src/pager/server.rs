//! The [`Pager`] of a mapping, which is registered for its range of addresses.

#![deny(unsafe_code)]

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use faultin::pager::{Pager, SignalContext};
use faultin::{Access, Cause, Fault};

use super::inside::map::{Map, count};
use super::inside::signal;
use super::inside::states::State;
use super::post::Post;
use super::serve::{Effort, Rejection};
use crate::error::Error;
use crate::inode::Inode;

/// A mapping, its file and its thread.
pub(super) struct Server {
    pub(super) inode: Arc<Inode>,
    pub(super) map: Arc<Map>,
    pub(super) post: Arc<Post>,
}

// SAFETY: `signal::serve` makes system calls and atomic operations only (see there); it uses shared state under a lock that
// it tries, and it does not panic.
#[allow(unsafe_code, reason = "the promise that `in_signal` may run in a signal")]
unsafe impl Pager for Server {
    fn fault_in(&self, address: usize, len: usize, access: Access) -> Result<(), Fault> {
        let refused = |cause| Fault::rejected(access, cause, address);
        let Some(page) = self.map.page_at(address) else { return Err(refused(Cause::Unmapped)) };
        // A store is foreign code, and this may be called through code that does not unwind.
        let served = catch_unwind(AssertUnwindSafe(|| {
            self.inode.serve(&self.map, page, self.map.pages_in(address, len), Some(access))
        }));
        let served = served.unwrap_or_else(|_| Err(Rejection::Failed(io::Error::other("the store panicked").into())));
        match remember(&self.map, page, served) {
            Ok(()) => {
                count(&self.map.counts.by_call);
                Ok(())
            }
            Err(why) => {
                count(&self.map.counts.rejected);
                Err(refused(match why {
                    Rejection::Protection => Cause::Protection,
                    Rejection::PastEnd => Cause::Backing,
                    Rejection::Failed(Error::Deadlock(_)) => Cause::Deadlock,
                    Rejection::Failed(_) | Rejection::NeedsStore => Cause::Backing,
                }))
            }
        }
    }

    fn would_fault(&self, address: usize, access: Access) -> bool {
        let state = self.map.page_at(address).map(|page| self.map.state(page));
        match state {
            Some(State::Absent | State::Poisoned) => true,
            Some(State::Protected) => access == Access::Write,
            Some(State::Writable) | None => false,
        }
    }

    fn in_signal(&self, address: usize, access: Option<Access>, interrupted: &SignalContext) -> bool {
        let Some(page) = self.map.page_at(address) else { return false };
        signal::serve(&self.inode, &self.map, &self.post.mailbox, page, address, access, interrupted)
    }
}

/// Resolves a fault as [`Inode::serve_with`] does: returns whether it could, without a panic, because a store is foreign code;
/// `None` if it takes the store, which must not be called.
pub(super) fn serve(inode: &Inode, map: &Map, page: usize, access: Option<Access>, effort: Effort<'_>) -> Option<bool> {
    let served = catch_unwind(AssertUnwindSafe(|| match inode.serve_with(map, page, 1, access, effort) {
        Err(Rejection::NeedsStore) => None,
        served => Some(remember(map, page, served).is_ok()),
    }));
    served.unwrap_or(Some(false))
}

/// Records the result for a page: that it is about to be used, or why it failed, for
/// [`Mapping::last_error`](super::Mapping::last_error).
fn remember(map: &Map, page: usize, served: Result<(), Rejection>) -> Result<(), Rejection> {
    match &served {
        Ok(()) => map.keep(page),
        Err(Rejection::Failed(error)) => map.failed(error.clone()),
        Err(Rejection::Protection | Rejection::PastEnd | Rejection::NeedsStore) => {}
    }
    served
}
