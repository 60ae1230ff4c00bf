//! What runs in a signal of the locks of a cache: trying a lock, unlocking it, and looking up whether a thread holds one.

#[allow(unsafe_code, reason = "unlocking what is not locked is the caller's fault")]
pub(super) mod api;
pub(super) mod held;
pub(super) mod raw;
pub(super) mod regions;
#[allow(unsafe_code, reason = "a list that signal handlers read has no lock")]
pub(super) mod slots;

use std::ops::{Deref, DerefMut};

use super::id::LockId;
use crate::sync;
use api::{RwLock, WriteGuard};

/// A lock around a value, shared or exclusive, that knows the threads that wait for it.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    pub(super) id: LockId,
    pub(super) inner: RwLock<T>,
}

/// Taken in a signal handler; held until it is dropped.
#[derive(Debug)]
pub(crate) struct InSignal<'a, T>(WriteGuard<'a, T>);

impl<T> Lock<T> {
    /// Takes the lock without waiting, except for a moment in which the holder may release it; and without a note, because
    /// there is no thread-local memory in a signal handler. The holder waits for no other lock, so it is in no circle.
    ///
    /// Async-signal-safe, and so is dropping the result.
    pub(crate) fn try_in_signal(&self) -> Option<InSignal<'_, T>> {
        briefly(|| self.inner.try_write()).map(InSignal)
    }
}

/// Tries to take a lock for a few microseconds: as long as a sharing thread needs to copy a page, and as long as the
/// alternative takes, to wake another thread and wait for it.
pub(super) fn briefly<G>(lock: impl Fn() -> Option<G>) -> Option<G> {
    const TRIES: u32 = 100;
    (0..TRIES).find_map(|tried| {
        if tried > 0 {
            sync::pause();
        }
        lock()
    })
}

impl<T> Deref for InSignal<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for InSignal<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
