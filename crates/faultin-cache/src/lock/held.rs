//! The locks that this thread holds, and the threads that hold any.
//!
//! The former is a list of the thread itself, for [deadlock detection](super::Deadlock). The latter is for code that
//! resolves a page fault of another thread and must not wait for that thread's locks: each thread has a *slot* with its id
//! and the number of locks in its list (except writers' and sync locks, which no page fault needs), in a list of slots that
//! a signal handler may read at any time.
//!
//! A slot is never freed; when its thread ends, another one reuses it. After `fork`, the child has its one thread's slot
//! under that thread's new id, and the other slots are free: their threads do not exist there.

use core::ptr;
use core::sync::atomic::{Ordering, compiler_fence};
use std::cell::{Cell, RefCell};
use std::sync::Once;

use super::id::{LockId, LockMode};
use super::inside::held::SLOTS;
use super::inside::slots::Thread as Noted;
use crate::sync::Slot;
use crate::sys;

/// A note that this thread holds a lock, or is about to. It refers to the lock's name, because a guard with a copy of it would
/// be moved in larger pieces than it was stored in, for which the CPU waits.
#[derive(Debug)]
pub(super) struct HeldLock<'a>(&'a LockId, LockMode);

impl<'a> HeldLock<'a> {
    /// Notes a lock before it is taken.
    #[inline]
    pub(super) fn note(id: &'a LockId, mode: LockMode) -> HeldLock<'a> {
        // A thread that is ending has no list any more, and waits for nothing under a lock.
        let _ = THREAD.try_with(|thread| {
            thread.held.borrow_mut().push((*id, mode));
            if id.kind.is_for_faults() {
                SLOT.get().unwrap_or_else(take).count(1);
            }
        });
        // A handler that interrupts this thread while it has the lock must see the note.
        compiler_fence(Ordering::SeqCst);
        HeldLock(id, mode)
    }
}

impl Drop for HeldLock<'_> {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        let _ = THREAD.try_with(|thread| {
            let mut held = thread.held.borrow_mut();
            // Usually the last one.
            if held.pop_if(|last| *last == (*self.0, self.1)).is_none()
                && let Some(at) = held.iter().rposition(|&(id, mode)| (id, mode) == (*self.0, self.1))
            {
                held.remove(at);
            }
            if self.0.kind.is_for_faults()
                && let Some(slot) = SLOT.get()
            {
                slot.count(-1);
            }
        });
    }
}

/// Returns the locks that this thread holds, except the one it is about to take.
pub(super) fn held() -> Vec<(LockId, LockMode)> {
    let before_the_last = |thread: &Thread| thread.held.borrow().split_last().map(|(_, held)| held.to_vec());
    THREAD.try_with(before_the_last).ok().flatten().unwrap_or_default()
}

thread_local! {
    static THREAD: Thread = const { Thread { held: RefCell::new(Vec::new()) } };
    /// Released by `THREAD`'s destructor; it has no destructor, so that a child of `fork` can read it without registering
    /// one.
    static SLOT: Cell<Option<&'static Slot<Noted>>> = const { Cell::new(None) };
}

struct Thread {
    held: RefCell<Vec<(LockId, LockMode)>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(slot) = SLOT.take() {
            SLOTS.give_back(slot);
        }
    }
}

/// Returns what other threads see of this one; `None` before its first lock, and when it is ending.
#[inline]
pub(super) fn mine() -> Option<&'static Noted> {
    SLOT.get().map(|slot| &**slot)
}

/// Returns whether others see that this thread holds a lock.
pub(crate) fn is_seen() -> bool {
    mine().is_some_and(|mine| mine.holds_any())
}

#[cold]
fn take() -> &'static Slot<Noted> {
    static FORKS: Once = Once::new();
    FORKS.call_once(|| {
        // SAFETY: `in_child` does what may be done there: atomic operations and a system call.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        // It fails only for lack of memory; then a child is as one of `clone`.
    });
    let slot = SLOTS.take(this_thread(), faultin::process());
    SLOT.set(Some(slot));
    slot
}

/// Returns the kernel's id of this thread.
fn this_thread() -> u32 {
    sys::gettid()
}

extern "C" fn in_child() {
    let mine = SLOT.get();
    for slot in SLOTS.all() {
        if mine.is_some_and(|mine| ptr::eq(mine, slot)) {
            slot.rename(this_thread());
        } else {
            slot.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::held_by;
    use super::super::tests::locks;
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn who_holds_a_lock_is_known_to_others() {
        let [a, b] = locks();
        let me = this_thread();
        assert!(!held_by(me));
        let one = a.shared().unwrap();
        let two = b.exclusive().unwrap();
        assert!(thread::scope(|scope| scope.spawn(|| held_by(me)).join().unwrap()));
        drop(one);
        assert!(held_by(me));
        assert!(b.exclusive().is_err());
        assert!(b.try_exclusive().is_none());
        assert!(held_by(me), "what was refused is not held, the other still is");
        drop(two);
        assert!(!held_by(me));
        assert!(!held_by(0));
    }

    #[test]
    fn who_waits_for_a_lock_counts_as_having_it() {
        let [lock, _] = locks();
        let held = lock.exclusive().unwrap();
        thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let lock = &lock;
            scope.spawn(move || {
                tell.send(this_thread()).unwrap();
                drop(lock.exclusive().unwrap());
            });
            let waits = told.recv().unwrap();
            while !held_by(waits) {
                thread::yield_now();
            }
            drop(held);
        });
    }

    #[test]
    fn slots_are_used_again() {
        let [lock, _] = locks();
        let once = |number: u32| {
            let both = Barrier::new(2);
            thread::scope(|scope| {
                let other = scope.spawn(|| {
                    let _guard = lock.shared().unwrap();
                    both.wait();
                    both.wait();
                    this_thread()
                });
                both.wait();
                let before = SLOTS.all().count();
                both.wait();
                let other = other.join().unwrap();
                (other != number, before)
            })
        };
        let me = this_thread();
        let counts: Vec<_> = (0..200).map(|_| once(me)).collect();
        assert!(counts.iter().all(|(another, _)| *another));
        // Other tests take slots, too; not one for each of these threads.
        assert!(SLOTS.all().count() < 200, "{}", SLOTS.all().count());
    }

    #[test]
    fn a_child_has_its_own_number() {
        let [lock, _] = locks();
        let _held = lock.shared().unwrap();
        let parent = this_thread();
        // SAFETY: the child makes system calls and leaves without running destructors.
        match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
            0 => {
                let right = held_by(this_thread()) && !held_by(parent);
                // SAFETY: as above.
                unsafe { libc::_exit(i32::from(!right)) }
            }
            child => {
                let mut status = 0;
                // SAFETY: a local value.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0, "the child's thread holds what its parent's did, under its own number");
            }
        }
        assert!(held_by(parent));
    }
}
