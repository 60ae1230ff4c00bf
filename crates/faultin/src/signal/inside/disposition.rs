//! The action that was in force for a signal, published so that a handler can read it.

use core::ffi::c_int;

use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// The parts of a `struct sigaction` that are needed to act on it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Action {
    pub(crate) handler: usize,
    pub(crate) flags: c_int,
    /// The kernel's signal set.
    pub(crate) mask: u64,
}

impl Action {
    /// Returns whether it is a function, not the default or "ignore".
    pub(crate) fn is_function(&self) -> bool {
        self.handler != libc::SIG_DFL && self.handler != libc::SIG_IGN
    }
}

impl From<libc::sigaction> for Action {
    fn from(action: libc::sigaction) -> Self {
        const { assert!(size_of::<libc::sigset_t>() >= size_of::<u64>()) };
        // SAFETY: the C library's signal set begins with the kernel's.
        let mask = unsafe { (&raw const action.sa_mask).cast::<u64>().read_unaligned() };
        Action { handler: action.sa_sigaction, flags: action.sa_flags, mask }
    }
}

/// A published [`Action`]: two slots and a version. The lowest bit of the version selects the slot of the current action;
/// the next one is written to the other slot.
///
/// A reader that copies a slot while it is overwritten (by the publication after the next) detects that the version has
/// changed, and starts again. So a copy is never a mixture of two actions. Readers retry only as often as an action is
/// published meanwhile, and never wait, wherever a writer was interrupted. Nothing is allocated: a handler may publish.
#[repr(C)]
pub(crate) struct Disposition {
    /// 0: nothing was published yet.
    version: AtomicU32,
    slots: [Slot; 2],
    /// Whether a one-shot (`SA_RESETHAND`) handler was called already.
    pub(crate) spent: AtomicU32,
}

/// An [`Action`] that may be written while it is read.
#[repr(C)]
struct Slot {
    handler: AtomicUsize,
    flags: AtomicU32,
    mask: AtomicU64,
}

macro_rules! constructors {
    ($($const:ident)?) => {
        impl Slot {
            $($const)? fn new() -> Self {
                Slot { handler: AtomicUsize::new(0), flags: AtomicU32::new(0), mask: AtomicU64::new(0) }
            }
        }

        impl Disposition {
            pub(crate) $($const)? fn new() -> Self {
                Disposition { version: AtomicU32::new(0), slots: [Slot::new(), Slot::new()], spent: AtomicU32::new(0) }
            }
        }
    };
}

#[cfg(not(faultin_loom))]
constructors!(const);
#[cfg(faultin_loom)]
constructors!();

impl Disposition {
    /// Returns the current action, if one was published. Async-signal-safe.
    pub(crate) fn get(&self) -> Option<Action> {
        loop {
            let version = self.version.load(Ordering::Acquire);
            if version == 0 {
                return None;
            }
            let slot = &self.slots[version as usize & 1];
            let action = Action {
                handler: slot.handler.load(Ordering::Relaxed),
                flags: slot.flags.load(Ordering::Relaxed).cast_signed(),
                mask: slot.mask.load(Ordering::Relaxed),
            };
            // The slot is read before the version is read again.
            fence(Ordering::Acquire);
            if self.version.load(Ordering::Relaxed) == version {
                return Some(action);
            }
        }
    }

    /// Publishes an action. Only under the registry's lock.
    pub(crate) fn set(&self, action: Action) {
        let before = self.version.load(Ordering::Relaxed);
        // After the last version follows 2, which has the same lowest bit as 2^32.
        let version = before.checked_add(1).unwrap_or(2);
        let slot = &self.slots[version as usize & 1];
        // A reader that sees a part of this write also sees that the version is at least `before`, which does not select
        // this slot.
        fence(Ordering::Release);
        slot.handler.store(action.handler, Ordering::Relaxed);
        slot.flags.store(action.flags.cast_unsigned(), Ordering::Relaxed);
        slot.mask.store(action.mask, Ordering::Relaxed);
        self.spent.store(0, Ordering::Relaxed);
        self.version.store(version, Ordering::Release);
    }
}

#[cfg(all(test, not(faultin_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn an_action_is_never_a_mixture_of_two() {
        const ROUNDS: u32 = 2_000_000;
        let disposition = Disposition::new();
        let action = |n: u32| Action { handler: n as usize, flags: n.cast_signed(), mask: u64::from(n) };
        let done = AtomicBool::new(false);
        assert!(disposition.get().is_none());
        disposition.set(action(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut last = 0;
                    while !done.load(Ordering::Relaxed) {
                        let Action { handler, flags, mask } = disposition.get().unwrap();
                        assert_eq!((handler, handler), (flags as usize, mask as usize));
                        assert!(last <= handler, "the newest there is, or a newer one");
                        last = handler;
                    }
                });
            }
            (1..=ROUNDS).for_each(|n| disposition.set(action(n)));
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(disposition.get().unwrap().mask, u64::from(ROUNDS));
    }

    #[test]
    fn versions_go_on_after_the_last_one() {
        let disposition = Disposition::new();
        let action = |n: usize| Action { handler: n, flags: 0, mask: 0 };
        disposition.version.store(u32::MAX - 1, Ordering::Relaxed);
        for n in 0..4 {
            disposition.set(action(n));
            assert_eq!(disposition.get().unwrap().handler, n);
        }
    }
}
