//! Freezing a process: while zeros are mapped, no other thread of it may map or unmap anything.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use super::verdict::REPLACED;
use super::{Do, Input, Machine, NotShown, State, Stop, Tid};
use crate::event::{Event, Outcome};
use crate::inspect::Finding;

/// So long a process may take to stop. A thread that waits for a device does not.
const DEADLINE: Duration = Duration::from_millis(500);

/// A process that is being frozen.
#[derive(Debug)]
pub(super) struct Freeze {
    /// The thread that will map the zeros.
    thread: Tid,
    /// Whether it does so now. A file server may keep it waiting, for as long as it likes.
    shows: bool,
    end: Duration,
    /// Threads that have been asked to stop.
    waiting: HashSet<Tid>,
    /// Answers to other threads, for afterwards.
    kept: Vec<Input>,
}

impl Freeze {
    /// When it has taken too long.
    pub fn end(&self) -> Option<Duration> {
        (!self.shows).then_some(self.end)
    }

    pub fn is_of(&self, thread: Tid) -> bool {
        self.thread == thread
    }

    pub fn shows(&self) -> bool {
        self.shows
    }

    pub fn keep(&mut self, input: Input) {
        self.kept.push(input);
    }
}

impl Machine {
    pub(super) fn freeze(
        &mut self,
        now: Duration,
        thread: Tid,
        process: Tid,
        finding: Box<Finding>,
        range: Range<u64>,
    ) {
        self.set(thread, State::Shows(finding, range));
        let freeze = Freeze { thread, shows: false, end: now + DEADLINE, waiting: HashSet::new(), kept: Vec::new() };
        self.freezes.insert(process, freeze);
        self.todo.push(Do::List(process));
    }

    /// The threads of a process that is being frozen: those that run are interrupted. When none runs, it is frozen.
    pub(super) fn threads(&mut self, now: Duration, process: Tid, threads: &[Tid]) {
        let Some(freeze) = self.freezes.get_mut(&process).filter(|freeze| !freeze.shows) else { return };
        let mut runs = false;
        for &thread in threads {
            let is_stopped = match self.tracees.get(&thread).map(|tracee| &tracee.state) {
                // One that has not been seen yet is new, and stops by itself; it may be detached, or its own tracer's.
                None | Some(State::Running) => false,
                Some(_) => true,
            };
            if !is_stopped {
                runs = true;
                if freeze.waiting.insert(thread) {
                    self.todo.push(Do::Interrupt(thread));
                }
            }
        }
        if runs {
            return;
        }
        let thread = freeze.thread;
        match self.tracees.get(&thread).map(|tracee| &tracee.state) {
            Some(State::Shows(finding, range)) => {
                freeze.shows = true;
                self.todo.push(Do::Show(thread, range.clone(), finding.clone()));
            }
            _ => self.thaw(now, process),
        }
    }

    /// Keeps the stop of a thread for later if its process is being frozen; returns it otherwise.
    pub(super) fn park(&mut self, thread: Tid, stop: Stop) -> Option<Stop> {
        let process = self.freezes.iter_mut().find_map(|(process, freeze)| {
            freeze.waiting.remove(&thread).then_some((*process, freeze.waiting.is_empty()))
        });
        let Some((process, is_last)) = process else { return Some(stop) };
        self.set(thread, State::Parked { process, stop });
        if is_last {
            // Once more: it may have made threads until it stopped.
            self.todo.push(Do::List(process));
        }
        None
    }

    /// A thread has ended that may have been waited for.
    pub(super) fn gone(&mut self, now: Duration, thread: Tid) {
        let mut done = Vec::new();
        for (&process, freeze) in &mut self.freezes {
            if freeze.thread == thread {
                done.push(process);
            } else if freeze.waiting.remove(&thread) && freeze.waiting.is_empty() {
                self.todo.push(Do::List(process));
            }
        }
        for process in done {
            self.thaw(now, process);
        }
    }

    pub(super) fn end_freezes(&mut self, now: Duration) {
        let late: Vec<(Tid, Tid)> = self
            .freezes
            .iter()
            .filter(|(_, freeze)| freeze.end().is_some_and(|end| now >= end))
            .map(|(&process, freeze)| (process, freeze.thread))
            .collect();
        for (process, thread) in late {
            self.deliver(now, thread, "no zeros: its other threads do not stop");
            self.thaw(now, process);
        }
    }

    /// How mapping the zeros went.
    pub(super) fn shown(&mut self, now: Duration, thread: Tid, result: Result<(), NotShown>) {
        let process = self.freezes.iter().find(|(_, freeze)| freeze.thread == thread).map(|(&process, _)| process);
        let Some(process) = process else { return };
        match result {
            Ok(()) => {
                if let Some(State::Shows(finding, range)) = self.tracees.get(&thread).map(|tracee| &tracee.state) {
                    let (fault, range) = (Box::new(finding.fault.clone()), range.clone());
                    self.processes.entry(process).or_default().add_zeros(&range);
                    self.emit(Event::Fault { fault, outcome: Outcome::Zeros { range } });
                    if let Some(tracee) = self.tracees.get_mut(&thread) {
                        tracee.episode = None;
                    }
                    self.resume(now, thread, 0);
                }
            }
            Err(NotShown::Replaced) if self.tries(thread) < REPLACED => self.resume(now, thread, 0),
            Err(NotShown::Replaced) => self.deliver(now, thread, "no zeros: the mapping is replaced all the time"),
            Err(NotShown::Refused(why)) => self.deliver(now, thread, &format!("no zeros: {why}")),
        }
        self.thaw(now, process);
    }

    fn tries(&self, thread: Tid) -> u32 {
        self.tracees.get(&thread).and_then(|tracee| tracee.episode).map_or(0, |episode| episode.tries)
    }

    /// Passes the signal of a thread on that was to map zeros.
    fn deliver(&mut self, now: Duration, thread: Tid, instead: &str) {
        let Some(State::Shows(finding, _)) = self.tracees.get(&thread).map(|tracee| &tracee.state) else { return };
        let outcome = Outcome::Delivered { instead: instead.to_owned() };
        let fault = Box::new(finding.fault.clone());
        self.emit(Event::Fault { fault, outcome });
        self.resume(now, thread, libc::SIGBUS);
    }

    /// Deals with everything that was kept for later.
    fn thaw(&mut self, now: Duration, process: Tid) {
        let Some(freeze) = self.freezes.remove(&process) else { return };
        let is_parked =
            |tracee: &super::Tracee| matches!(&tracee.state, State::Parked { process: of, .. } if *of == process);
        let mut parked: Vec<Tid> =
            self.tracees.iter().filter(|(_, tracee)| is_parked(tracee)).map(|(&thread, _)| thread).collect();
        parked.sort_unstable();
        for thread in parked {
            let Some(State::Parked { stop, .. }) = self.tracees.get(&thread).map(|tracee| &tracee.state) else {
                continue;
            };
            let stop = stop.clone();
            self.handle(now, thread, stop);
        }
        for input in freeze.kept {
            match input {
                Input::Found(ticket, finding) => self.found(now, ticket, finding),
                Input::Answered(ticket, answer) => self.answered(now, ticket, answer),
                _ => {}
            }
        }
    }
}
