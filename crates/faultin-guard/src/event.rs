//! What a guard reports, as values.

use std::ffi::OsString;
use std::ops::Range;
use std::time::Duration;

use crate::fault::Fault;
use crate::inspect::Writer;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A fault was looked at, and this is what happens next.
    Fault {
        /// The fault.
        fault: Box<Fault>,
        /// What happens next.
        outcome: Outcome,
    },
    /// A fault in a mapping of which enough was told: the signal was passed on without a look.
    Repeated {
        /// The process.
        process: i32,
        /// The thread.
        thread: i32,
        /// The address.
        address: u64,
    },
    /// A thread that was held runs again.
    Released {
        /// What it was held for.
        fault: Box<Fault>,
        /// How long it was held.
        after: Duration,
        /// Why.
        why: Release,
    },
    /// A program tried to store where it was shown zeros in place of a lost page, and gets SIGSEGV.
    StoreToZeros {
        /// The process.
        process: i32,
        /// The thread.
        thread: i32,
        /// The address.
        address: u64,
    },
    /// These processes have a file open for writing that a fault was past the end of.
    Writers {
        /// The fault.
        fault: Box<Fault>,
        /// The processes, those that could be seen.
        writers: Vec<Writer>,
    },
    /// A process runs a program that is not to be guarded.
    Excepted {
        /// The process.
        process: i32,
        /// The program.
        program: OsString,
    },
    /// A program traces others or itself, and cannot do so here: a process has one tracer, and that is the guard. It is told once for each
    /// name.
    CannotTrace {
        /// The process.
        process: i32,
        /// The program.
        program: OsString,
        /// What it traces for.
        tracing: Tracing,
    },
    /// The command is not guarded.
    Unguarded {
        /// Why.
        why: String,
    },
    /// A process has ended.
    Ended {
        /// The process.
        process: i32,
        /// How.
        how: Ending,
    },
}

/// What a program traces for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tracing {
    /// It is a debugger or the like, and has made a process.
    Debugger,
    /// It searches itself for leaks when it ends, and has ended with a status other than 0.
    LeakSanitizer,
}

/// What happens after a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The program gets the signal, as it would without a guard.
    Delivered {
        /// Why a policy did not apply that was asked for; empty if none was.
        instead: String,
    },
    /// The thread is held until there is space.
    Waits {
        /// For how long at most.
        limit: Option<Duration>,
    },
    /// The thread is held, and the access is tried again.
    Retries {
        /// How many more times.
        left: u32,
    },
    /// The access is repeated at once: the page can be accessed by now.
    Repeats,
    /// The program sees zeros in place of these addresses.
    Zeros {
        /// The addresses.
        range: Range<u64>,
    },
}

/// Why a thread that was held runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Release {
    /// The page can be accessed, or so it seems: the access is repeated.
    Ready,
    /// A signal is pending that the thread has to take. The access faults again afterwards.
    Signal,
    /// The limit was reached: the program gets the signal.
    Limit,
    /// The command has ended, and the guard with it: the program gets the signal.
    GuardEnds,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an exit status.
    Exit(i32),
    /// By a signal.
    Signal(i32),
}
