//! The alternatives: common solutions for the same jobs.
//!
//! `memcpy`, `ptr::copy_nonoverlapping`, `read_volatile` and the atomics of `core` need no file of their own.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod bare;
pub mod guarded;
pub mod kernel;
#[cfg(target_arch = "x86_64")]
pub mod streaming;
pub mod touch;
pub mod uffd;
pub mod userspace;
pub mod vm;

use std::mem::MaybeUninit;

/// A signal handler of a peer, installed in place of ours during its samples.
pub struct Handler {
    action: libc::sigaction,
    ours: [libc::sigaction; 2],
}

const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

impl Handler {
    /// Records the current handlers.
    fn new(handler: usize, flags: libc::c_int) -> Self {
        // SAFETY: all-zero is a valid `sigaction`: an empty mask.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        Handler { action, ours: SIGNALS.map(|signal| exchange(signal, None)) }
    }

    /// Records the current handlers, and the one that `install` installs for both signals; restores the former.
    fn installed_by<T>(install: impl FnOnce() -> T) -> (T, Self) {
        let ours = SIGNALS.map(|signal| exchange(signal, None));
        let result = install();
        let handler = Handler { action: exchange(SIGNALS[0], None), ours };
        handler.restore();
        (result, handler)
    }

    /// Installs the peer's handler for both signals.
    pub fn install(&self) {
        for signal in SIGNALS {
            exchange(signal, Some(&self.action));
        }
    }

    /// Restores our handler for both signals.
    pub fn restore(&self) {
        for (signal, ours) in SIGNALS.into_iter().zip(&self.ours) {
            exchange(signal, Some(ours));
        }
    }
}

fn exchange(signal: libc::c_int, new: Option<&libc::sigaction>) -> libc::sigaction {
    let new = new.map_or(core::ptr::null(), core::ptr::from_ref);
    let mut old = MaybeUninit::zeroed();
    // SAFETY: both point to valid memory or are null; the handlers are functions of this program that suit the flags.
    let result = unsafe { libc::sigaction(signal, new, old.as_mut_ptr()) };
    assert_eq!(result, 0, "sigaction({signal}) with valid arguments");
    // SAFETY: written by the call.
    unsafe { old.assume_init() }
}
