//! What goes in and out of the decisions: what has happened, and what is to be done.

use std::ffi::OsString;
use std::ops::Range;
use std::sync::Arc;

use crate::event::{Ending, Event};
use crate::inspect::{Answer, Finding, Target};

/// A thread's number.
pub(crate) type Tid = i32;

/// A signal that an access has raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    pub number: i32,
    pub code: i32,
    pub address: u64,
    /// `si_addr_lsb`
    pub damaged: u32,
}

/// Why a thread has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A signal is about to be delivered.
    Signal(i32),
    /// SIGBUS is about to be delivered, for an access.
    Fault { process: Tid, signal: Signal },
    /// SIGSEGV is about to be delivered, for an access.
    Segv { process: Tid, address: u64 },
    /// The process has stopped: job control.
    Group,
    /// It runs another program. `former` is the thread that called exec, and has this number now.
    Exec { former: Tid, excepted: Option<OsString> },
    /// A new thread or process, an interruption, the end of job control's stop.
    Event,
}

impl Stop {
    /// The signal that is delivered if nothing is done about it.
    pub(super) fn signal(&self) -> i32 {
        match self {
            Stop::Signal(signal) => *signal,
            Stop::Fault { signal, .. } => signal.number,
            Stop::Segv { .. } => libc::SIGSEGV,
            Stop::Group | Stop::Exec { .. } | Stop::Event => 0,
        }
    }
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum Input {
    Stopped(Tid, Stop),
    Ended(Tid, Ending),
    Found(u64, Box<Finding>),
    Answered(u64, Answer),
    /// A held thread has a signal to take.
    Pending(Tid),
    /// The threads of a process that is to be frozen.
    Threads(Tid, Vec<Tid>),
    /// How showing zeros went.
    Shown(Tid, Result<(), NotShown>),
    /// Time has passed.
    Time,
}

/// Why there are no zeros.
#[derive(Debug)]
pub(crate) enum NotShown {
    /// The mapping is another one by now: the access is repeated.
    Replaced,
    /// That cannot be done.
    Refused(String),
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Do {
    Resume(Tid, i32),
    /// Resume a thread that was stopped some time ago, unless it has been replaced meanwhile by one that calls exec, whose stop has
    /// not been reported yet.
    ResumeLater(Tid, i32),
    Listen(Tid),
    Interrupt(Tid),
    /// Resume, and trace the thread no longer.
    Detach(Tid, i32),
    /// The same, as [`Do::ResumeLater`] resumes.
    DetachLater(Tid, i32),
    Look(u64, Tid, Signal),
    Ask(u64, Arc<Target>),
    /// Say whether the held thread has a signal to take.
    Check(Tid),
    /// List the threads of a process.
    List(Tid),
    /// Map zeros, by the thread; the mapping must still be the one of the finding.
    Show(Tid, Range<u64>, Box<Finding>),
    Emit(Event),
}
