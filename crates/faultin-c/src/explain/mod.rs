//! One line about a fatal SIGBUS or SIGSEGV: [`faultin_explain`], and [`faultin_explain_install`].
//!
//! Everything here runs in a signal: raw system calls only, no allocation, and no memory on the stack that a small alternate
//! stack might lack. `look` finds out, `words` says it.

mod file;
mod install;
mod look;
mod region;
mod sys;
mod text;
mod words;

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicBool, Ordering};

pub use install::faultin_explain_install;

use look::Look;
use text::Text;

/// What an explanation works in: one at a time in a process, because a stack of a handler may have no room for it.
struct Workspace {
    is_used: AtomicBool,
    inner: UnsafeCell<Inner>,
}

struct Inner {
    look: Look,
    text: Text,
}

// SAFETY: used by the one thread that has set `is_used`.
unsafe impl Sync for Workspace {}

static WORKSPACE: Workspace = Workspace {
    is_used: AtomicBool::new(false),
    inner: UnsafeCell::new(Inner { look: Look::new(), text: Text::new() }),
};

/// Writes one line to `fd` that says what a SIGBUS or SIGSEGV is about: what was accessed, which file and byte, the cause, the
/// file's size and the free space, and what to do about it. For example:
///
/// faultin: SIGBUS: store at byte 8192 of /dev/shm/pool: no space left on /dev/shm (64 MiB, 0 bytes free); hint: /dev/shm is too
/// small: in a container, `docker run --shm-size=1g` ...
///
/// It may be called by any SA_SIGINFO handler for these signals, also on an alternate stack of 8 KiB. If two threads call it at the
/// same time, the second one writes a line without the file.
///
/// Async-signal-safe: does not allocate, and leaves errno alone. It opens /proc/self/maps and the mapped file's name, and
/// queries the file: where a file server has died, a query may wait.
///
/// @param info     The siginfo_t that the kernel passed to the handler.
/// @param context  The ucontext_t that the kernel passed to it; NULL if it is not known.
/// @param fd       Where the line is written, for example STDERR_FILENO.
///
/// # Safety
/// `info` and `context` are what the kernel passed to an `SA_SIGINFO` handler of SIGSEGV or SIGBUS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_explain(info: *const c_void, context: *const c_void, fd: c_int) {
    // SAFETY: forwarded.
    let signal = unsafe { look::Signal::of(info.cast(), context) };
    if WORKSPACE.is_used.swap(true, Ordering::Acquire) {
        // Another thread has the workspace, or a handler that interrupted an explanation in this one.
        let mut small = text::Short::new();
        words::without_file(&signal, &mut small);
        sys::write_all(fd, small.bytes());
        return;
    }
    // SAFETY: this thread has set `is_used`.
    let inner = unsafe { &mut *WORKSPACE.inner.get() };
    inner.text.clear();
    inner.look.at(&signal);
    words::line(&signal, &inner.look, &mut inner.text);
    sys::write_all(fd, inner.text.bytes());
    WORKSPACE.is_used.store(false, Ordering::Release);
}
