//! The command's process: it waits until it is traced, then runs its program.

use std::ffi::{CString, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::ptr;

use rustix::pipe::{PipeFlags, pipe_with};

/// A child that waits.
pub(super) struct Child {
    pub id: i32,
    go: OwnedFd,
    failed: OwnedFd,
}

/// The state of this process that a program inherits, and that a guard changes.
#[derive(Clone, Copy)]
pub(super) struct Inherited {
    /// The mask of signals of the thread that was to be guarded.
    pub mask: libc::sigset_t,
    /// Whether the ends of children were ignored.
    pub ignores_children: bool,
}

impl Child {
    /// Makes the process.
    ///
    /// # Errors
    /// If it cannot be made, or an argument has a NUL in it.
    pub fn new(command: &[OsString], inherited: &Inherited) -> io::Result<Child> {
        let words: Vec<CString> =
            command.iter().map(|word| CString::new(word.clone().into_vec())).collect::<Result<_, _>>()?;
        let mut arguments: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
        arguments.push(ptr::null());
        let (wait, go) = pipe_with(PipeFlags::CLOEXEC)?;
        let (failed, error) = pipe_with(PipeFlags::CLOEXEC)?;
        // SAFETY: the child calls functions that are safe in a signal handler only, as a child of a process with threads must.
        let id = unsafe { libc::fork() };
        match id {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // SAFETY: this is the child; `arguments` are strings, up to a null pointer, and outlive the call.
                unsafe { start(&arguments, wait.as_raw_fd(), go.as_raw_fd(), error.as_raw_fd(), inherited) }
            }
            id => Ok(Child { id, go, failed }),
        }
    }

    /// Lets the program run. Returns where an error would be said.
    ///
    /// # Errors
    /// If the child is gone.
    pub fn go(self) -> io::Result<Failed> {
        std::fs::File::from(self.go).write_all(&[1])?;
        Ok(Failed(self.failed))
    }
}

/// Where a child says that its program cannot be run.
pub(super) struct Failed(OwnedFd);

impl Failed {
    /// The error, once the child has ended.
    pub fn error(self) -> Option<io::Error> {
        let mut errno = [0; 4];
        std::fs::File::from(self.0).read_exact(&mut errno).ok()?;
        Some(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
    }
}

/// Exit statuses of a program that cannot be run, as shells have them.
pub(super) const NOT_FOUND: i32 = 127;
/// Found, but not executable.
pub(super) const NOT_RUN: i32 = 126;

/// # Safety
/// In a child of `fork` only; `arguments` must be strings, and end with a null pointer.
unsafe fn start(arguments: &[*const libc::c_char], wait: RawFd, go: RawFd, error: RawFd, inherited: &Inherited) -> ! {
    // SAFETY: the calls are safe in a signal handler. Their pointers lead to values of this frame or the caller's.
    unsafe {
        // Otherwise it would wait for itself if the guard died.
        libc::close(go);
        let mut byte = 0_u8;
        loop {
            match libc::read(wait, (&raw mut byte).cast(), 1) {
                1 => break,
                -1 if *libc::__errno_location() == libc::EINTR => {}
                _ => libc::_exit(NOT_RUN),
            }
        }
        // Rust programs ignore it, and other programs do not expect that.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        if inherited.ignores_children {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const inherited.mask, ptr::null_mut());
        libc::execvp(arguments[0], arguments.as_ptr());
        let errno = *libc::__errno_location();
        libc::write(error, (&raw const errno).cast(), size_of::<i32>());
        libc::_exit(if errno == libc::ENOENT { NOT_FOUND } else { NOT_RUN })
    }
}
