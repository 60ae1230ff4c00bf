//! Runs an unmodified program, and explains, waits out, retries or survives its SIGBUS.
//!
//! A program gets SIGBUS if it accesses a mapped page that the kernel cannot provide: the disk is full, the file was truncated, the device
//! fails, no huge page is left. A [`Guard`] runs a program with its threads and children, and reports each such fault as an
//! [`Event`]: which program, file and byte, and the [`Cause`]. What happens then is chosen by [`Policies`], for each cause. The
//! default changes nothing: the program dies as it would without a guard.
//!
//! ```
//! use faultin_guard::{Ending, Guard, Lines};
//!
//! let mut lines = Lines::new(false);
//! let ending = Guard::new().run(["sh", "-c", "exit 3"], |event| {
//!     for line in lines.of(event) {
//!         eprintln!("{line}");
//!     }
//! })?;
//! assert_eq!(ending, Ending::Exit(3));
//! # Ok::<(), faultin_guard::RunError>(())
//! ```
//!
//! # How it works
//! The program is traced by ptrace, from before it begins. Signals, new processes and threads, and programs that are run are
//! reported; system calls are not. A SIGBUS of an access stops its thread. The mapping, the file and the page are looked at by a
//! worker thread, while other threads go on. Then the thread gets its signal, is held, or repeats its access.
//!
//! # Limits
//! * System calls that fail (`write(2)` on a full disk, EFAULT) raise no signal, and are not seen.
//! * A process has one tracer: debuggers and LeakSanitizer do not work inside. [`Guard::except`] leaves programs out.
//! * A setuid program has no privileges under a guard without them.
//! * A SIGBUS that is blocked or ignored loses its mask or disposition before a tracer sees it.
//! * Names in events are chosen by others. [`Lines`] escapes them; escape what is not [plain](is_plain) before you print them yourself.
#![cfg(target_os = "linux")]

mod access;
mod decide;
mod event;
mod fault;
mod inspect;
mod policy;
mod show;
mod trace;

use std::ffi::OsString;
use std::{fmt, io};

pub use access::Access;
pub use event::{Ending, Event, Outcome, Release, Tracing};
pub use fault::{Cause, Fault, MappedFile, Mount, Space};
pub use inspect::Writer;
pub use policy::{LIMIT, Policies, PolicyError, RETRIES, Seconds, WaitSpace};
pub use show::{Lines, is_plain};

/// A guard: what it does about faults, and how it runs a command.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    policies: Policies,
    except: Vec<OsString>,
    forwards: bool,
}

impl Guard {
    /// Makes a guard that explains, and changes nothing.
    #[must_use]
    pub fn new() -> Guard {
        Guard::default()
    }

    /// Sets what is done about each cause.
    #[must_use]
    pub fn policies(mut self, policies: Policies) -> Guard {
        self.policies = policies;
        self
    }

    /// Leaves out programs of this name, and what they run. The name is that of the executable file or of the process (a script has its
    /// own).
    #[must_use]
    pub fn except(mut self, name: impl Into<OsString>) -> Guard {
        self.except.push(name.into());
        self
    }

    /// Sends SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1 and SIGUSR2 on to the command, if a process has sent them to this one. Those of a
    /// terminal are dropped: the command gets its own. Other threads of this process must block these signals.
    #[must_use]
    pub fn forward_signals(mut self, forwards: bool) -> Guard {
        self.forwards = forwards;
        self
    }

    /// Runs a command to its end. The first word is the program, looked up in `PATH`.
    ///
    /// `on_event` is called in another thread, between two steps of the trace: a guarded thread that has stopped waits while it runs.
    /// Programs that outlive the command are let go. Where ptrace is not allowed, the command runs without a guard, and
    /// [`Event::Unguarded`] says so.
    ///
    /// # Errors
    /// [`RunError::Exec`] if the program cannot be run, [`RunError::Spawn`] if there is no process or thread for it, or a word has
    /// a NUL in it.
    pub fn run<W: Into<OsString>>(
        &self,
        command: impl IntoIterator<Item = W>,
        mut on_event: impl FnMut(&Event) + Send,
    ) -> Result<Ending, RunError> {
        let command: Vec<OsString> = command.into_iter().map(Into::into).collect();
        if command.is_empty() {
            return Err(RunError::Spawn(io::ErrorKind::InvalidInput.into()));
        }
        trace::run(self, &command, &mut on_event)
    }
}

/// Why a command was not run.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// There is no process for it.
    Spawn(io::Error),
    /// Its program cannot be run.
    Exec {
        /// The program.
        program: OsString,
        /// Why.
        error: io::Error,
    },
    /// It cannot be waited for.
    Wait(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Spawn(error) => write!(f, "no process for the command: {error}"),
            RunError::Exec { program, error } => write!(f, "{program:?}: {error}"),
            RunError::Wait(error) => write!(f, "the command cannot be waited for: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
