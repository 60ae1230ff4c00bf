//! Models of the end of an object that signal handlers may be using: a pager's range, and a guard.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use crate::explore;
use crate::signal::inside::users::Users;

/// An object that is reused after it was freed, like an entry for pagers. loom reports two unordered accesses to its value:
/// so an object that is freed while it is used.
struct Thing {
    taken: AtomicBool,
    users: Users,
    /// 0 while it is free.
    value: UnsafeCell<u32>,
    freed: AtomicUsize,
}

// SAFETY: loom watches the cell.
unsafe impl Sync for Thing {}
// SAFETY: as above.
unsafe impl Send for Thing {}

impl Thing {
    fn new() -> Arc<Thing> {
        Arc::new(Thing {
            taken: AtomicBool::new(false),
            users: Users::new(),
            value: UnsafeCell::new(0),
            freed: AtomicUsize::new(0),
        })
    }

    /// Takes it and lets users in, if no other owner has it.
    fn open(&self, new: u32) -> bool {
        if self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        // SAFETY: loom reports it if it is used; so for the others.
        self.value.with_mut(|value| unsafe {
            assert_eq!(*value, 0);
            *value = new;
        });
        self.users.open();
        true
    }

    fn free_if_unused(&self) {
        if self.users.claim() {
            // SAFETY: as above.
            self.value.with_mut(|value| unsafe {
                assert_ne!(*value, 0, "it is freed once");
                *value = 0;
            });
            self.freed.fetch_add(1, Ordering::Relaxed);
            self.taken.store(false, Ordering::Release);
        }
    }

    fn close(&self) {
        self.users.retire();
        self.free_if_unused();
    }

    /// Uses it, if it is open. Returns whether it has to be freed.
    fn look(&self) -> bool {
        if self.users.enter() {
            // SAFETY: as above.
            self.value.with(|value| assert_ne!(unsafe { *value }, 0));
        }
        self.users.leave()
    }

    fn look_and_free(&self) {
        if self.look() {
            self.free_if_unused();
        }
    }
}

fn spawn(thing: &Arc<Thing>, what: impl FnOnce(&Thing) + 'static) -> thread::JoinHandle<()> {
    let thing = Arc::clone(thing);
    thread::spawn(move || what(&thing))
}

#[test]
fn the_last_one_frees_it() {
    explore(3, || {
        let thing = Thing::new();
        assert!(thing.open(1));
        let users = [0, 1].map(|_| spawn(&thing, Thing::look_and_free));
        thing.close();
        users.into_iter().for_each(|user| user.join().unwrap());
        assert_eq!(thing.freed.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn it_is_used_again_while_users_come_late() {
    explore(3, || {
        let thing = Thing::new();
        assert!(thing.open(1));
        let user = spawn(&thing, |thing| {
            thing.look_and_free();
            thing.look_and_free();
        });
        let other = spawn(&thing, |thing| {
            if thing.open(2) {
                thing.close();
            }
        });
        thing.close();
        let opened = 1 + usize::from(thing.open(3));
        if opened == 2 {
            thing.close();
        }
        user.join().unwrap();
        other.join().unwrap();
        assert!(thing.freed.load(Ordering::Relaxed) >= opened);
        assert!(!thing.taken.load(Ordering::Relaxed), "it is free");
    });
}

#[test]
fn what_a_handler_left_last_is_freed_by_the_next_call() {
    explore(3, || {
        let thing = Thing::new();
        let left = Arc::new(AtomicBool::new(false));
        assert!(thing.open(1));
        let handler = {
            let left = Arc::clone(&left);
            spawn(&thing, move |thing| {
                if thing.look() {
                    left.store(true, Ordering::Release);
                }
            })
        };
        thing.close();
        handler.join().unwrap();
        if left.load(Ordering::Acquire) {
            thing.free_if_unused();
        }
        assert_eq!(thing.freed.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn an_owner_that_waits_is_the_last_one() {
    explore(3, || {
        let thing = Thing::new();
        assert!(thing.open(1));
        let handlers = [0, 1].map(|_| {
            spawn(&thing, |thing| {
                // A guard's handlers leave the rest to its owner.
                let _ = thing.look();
            })
        });
        thing.users.retire();
        while !thing.users.claim() {
            thread::yield_now();
        }
        // SAFETY: loom reports it if a handler is still there.
        thing.value.with_mut(|value| unsafe { *value = 0 });
        handlers.into_iter().for_each(|handler| handler.join().unwrap());
    });
}
