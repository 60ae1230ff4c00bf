//! The limit on the size of files (`RLIMIT_FSIZE`) as an error: [`without_sigxfsz`].

use core::mem::MaybeUninit;
use core::ptr;
use std::io;

/// Calls `write`, which writes to a file or extends one, so that exceeding the limit on the size of files is an error
/// (`EFBIG`) and not a signal (`SIGXFSZ`, which ends the process unless it is handled).
///
/// The kernel sends the signal to the thread that makes the call. So the thread blocks it meanwhile, and takes the one that
/// its own call has raised. No other thread, no disposition and no signal that was pending before is touched. Reading the
/// limit first instead would race with its change, and would need each file system's way of counting.
///
/// This adds two system calls (`rt_sigprocmask`). Other implementations of a [store](https://docs.rs/faultin-cache) that
/// write files should wrap their calls in this function.
///
/// # Errors
/// The error of `write`.
pub fn without_sigxfsz<T>(write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let blocked = Blocked::new();
    let written = write();
    if written.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EFBIG)) {
        blocked.take();
    }
    written
}

/// Blocks the signal in this thread until it is dropped.
struct Blocked {
    before: Option<libc::sigset_t>,
    /// Whether a signal was pending before.
    pending: bool,
}

/// Returns the set of this signal alone.
fn alone() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: writes a set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGXFSZ);
        set.assume_init()
    }
}

fn has(set: &libc::sigset_t) -> bool {
    // SAFETY: reads a set.
    unsafe { libc::sigismember(set, libc::SIGXFSZ) == 1 }
}

impl Blocked {
    fn new() -> Self {
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: blocks one signal in this thread, and writes a set.
        if unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &alone(), before.as_mut_ptr()) } != 0 {
            // Filters may forbid it. Then the call can raise the signal as in any other code.
            return Blocked { before: None, pending: false };
        }
        // SAFETY: the call succeeded and has written it.
        let before = unsafe { before.assume_init() };
        // A signal that was blocked may have been pending. A second one of the same number is merged with it.
        let pending = has(&before) && {
            let mut pending = alone();
            // SAFETY: writes a set.
            unsafe { libc::sigpending(&mut pending) != 0 || has(&pending) }
        };
        Blocked { before: Some(before), pending }
    }

    /// Takes the signal that a call has just raised.
    #[cold]
    fn take(mut self) {
        if self.pending || self.before.is_none() {
            return;
        }
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            // SAFETY: reads a set and a time. The thread's own signals are taken before the process's.
            if unsafe { libc::sigtimedwait(&alone(), ptr::null_mut(), &at_once) } >= 0 {
                return;
            }
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                // No signal was raised.
                Some(libc::EAGAIN) => return,
                // A filter forbids it: the signal stays pending, and blocked in this thread, because it would end the
                // process.
                _ => {
                    self.before = None;
                    return;
                }
            }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // SAFETY: sets this thread's mask to what it was.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
        }
    }
}
