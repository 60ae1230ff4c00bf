//! Decisions: what a stop, an answer or the time means, and what is to be done. No input, no output: what traces carries
//! it out, and a test plays the kernel.
//!
//! Each thread is in one [`State`]. Each stop that is reported ends in exactly one of [`Do::Resume`], [`Do::ResumeLater`],
//! [`Do::Listen`] and [`Do::Detach`], at once or when an answer or the time has come; a signal is passed on only from a stop that delivers it.

mod freeze;
#[cfg(test)]
mod kernel;
mod message;
mod verdict;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::time::Duration;

use crate::event::{Ending, Event, Outcome, Release};
use crate::inspect::{Answer, Finding};
use crate::policy::Policies;
use freeze::Freeze;
pub(crate) use message::{Do, Input, NotShown, Signal, Stop, Tid};
use verdict::{Verdict, verdict};

/// How long a look may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often a page is asked for.
const PERIOD: Duration = Duration::from_millis(100);
/// The pause before the first retry; each is twice the one before, up to the last.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between retries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A fault in the same page after so much time is another one: the access has succeeded meanwhile.
const PROGRESS: Duration = Duration::from_secs(1);
/// So many faults in a mapping are looked at if the program lives on.
const LOOKS: u32 = 8;
/// So many ranges of zeros are remembered for a process.
const ZEROS: usize = 4096;
/// So many mappings are remembered for that.
const REMEMBERED: usize = 64;

/// The pause before a retry.
fn pause(tries: u32) -> Duration {
    PAUSE.saturating_mul(1_u32.checked_shl(tries).unwrap_or(u32::MAX)).min(LONGEST_PAUSE)
}

/// What is known of a thread.
#[derive(Debug)]
struct Tracee {
    state: State,
    /// The page that the thread was last made to access again.
    episode: Option<Episode>,
}

#[derive(Debug)]
enum State {
    Running,
    /// Stopped by job control.
    Listening,
    /// Stopped by a fault that is being looked at.
    Looked {
        ticket: u64,
        since: Duration,
        process: Tid,
        signal: Signal,
    },
    /// Stopped by a fault, until there is space or the pause is over.
    Held(Box<Held>),
    /// Stopped by a fault: it will map the zeros.
    Shows(Box<Finding>, Range<u64>),
    /// Stopped while its process is frozen; the stop is dealt with afterwards.
    Parked {
        process: Tid,
        stop: Stop,
    },
}

#[derive(Debug)]
struct Held {
    finding: Box<Finding>,
    process: Tid,
    signal: Signal,
    since: Duration,
    next: Duration,
    /// When the program gets its signal.
    end: Option<Duration>,
    /// How many more times it is tried; no value if it waits for space.
    left: Option<u32>,
    asked: Option<u64>,
}

impl State {
    /// The question that an answer is expected to.
    fn ticket(&self) -> Option<u64> {
        match self {
            State::Looked { ticket, .. } => Some(*ticket),
            State::Held(held) => held.asked,
            State::Running | State::Listening | State::Shows(..) | State::Parked { .. } => None,
        }
    }

    /// Whether time matters to it.
    fn is_busy(&self) -> bool {
        matches!(self, State::Looked { .. } | State::Held(_))
    }
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    page: u64,
    since: Duration,
    /// When it was last made to.
    last: Duration,
    tries: u32,
}

/// What is known of a process that has had a fault.
#[derive(Debug, Default)]
struct Process {
    /// Addresses that show zeros.
    zeros: Vec<Range<u64>>,
    /// Mappings in which faults were looked at that the program has survived, and how many.
    told: Vec<(Range<u64>, u32)>,
}

impl Process {
    /// Remembers zeros: one range where they touch. A program that has very many loses the oldest, and with it what would explain a
    /// store there.
    fn add_zeros(&mut self, range: &Range<u64>) {
        let mut all = range.clone();
        self.zeros.retain(|other| {
            let touches = other.start <= all.end && all.start <= other.end;
            if touches {
                all = all.start.min(other.start)..all.end.max(other.end);
            }
            !touches
        });
        if self.zeros.len() >= ZEROS {
            self.zeros.remove(0);
        }
        self.zeros.push(all);
    }
}

/// The state of everything that is guarded.
#[derive(Debug)]
pub(crate) struct Machine {
    policies: Policies,
    command: Tid,
    tracees: HashMap<Tid, Tracee>,
    processes: HashMap<Tid, Process>,
    /// The threads that answers are for.
    tickets: HashMap<u64, Tid>,
    next: u64,
    /// The threads that time matters to.
    busy: BTreeSet<Tid>,
    freezes: HashMap<Tid, Freeze>,
    ended: Option<Ending>,
    todo: Vec<Do>,
}

impl Machine {
    /// For a command whose first thread runs and is traced.
    pub fn new(policies: Policies, command: Tid) -> Machine {
        let tracees = HashMap::from([(command, Tracee { state: State::Running, episode: None })]);
        Machine {
            policies,
            command,
            tracees,
            processes: HashMap::new(),
            tickets: HashMap::new(),
            next: 0,
            busy: BTreeSet::new(),
            freezes: HashMap::new(),
            ended: None,
            todo: Vec::new(),
        }
    }

    /// Takes in what has happened; returns what is to be done, in this order.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Do> {
        match input {
            Input::Stopped(thread, stop) => self.stopped(now, thread, stop),
            Input::Ended(thread, how) => self.thread_ended(now, thread, how),
            Input::Found(ticket, finding) => self.found(now, ticket, finding),
            Input::Answered(ticket, answer) => self.answered(now, ticket, answer),
            Input::Pending(thread) => self.release(thread, now, Release::Signal),
            Input::Threads(process, threads) => self.threads(now, process, &threads),
            Input::Shown(thread, result) => self.shown(now, thread, result),
            Input::Time => self.time(now),
        }
        std::mem::take(&mut self.todo)
    }

    /// How the command ended, once it has, and nothing is traced any more.
    pub fn ended(&self) -> Option<Ending> {
        self.ended.filter(|_| self.tracees.is_empty())
    }

    /// How the command ended, once it has.
    pub fn command_ended(&self) -> Option<Ending> {
        self.ended
    }

    /// When [`Input::Time`] is wanted next; no value if nothing is waited for but stops.
    pub fn due(&self) -> Option<Duration> {
        let due = |thread: &Tid| match &self.tracees.get(thread)?.state {
            State::Looked { since, .. } => Some(*since + DEADLINE),
            State::Held(held) if self.freezes.contains_key(&held.process) => None,
            State::Held(held) => Some(held.end.map_or(held.next, |end| end.min(held.next))),
            State::Running | State::Listening | State::Shows(..) | State::Parked { .. } => None,
        };
        self.busy.iter().filter_map(due).chain(self.freezes.values().filter_map(Freeze::end)).min()
    }

    fn emit(&mut self, event: Event) {
        self.todo.push(Do::Emit(event));
    }

    fn set(&mut self, thread: Tid, state: State) {
        let tracee = self.tracees.entry(thread).or_insert(Tracee { state: State::Running, episode: None });
        // An answer to an older question is none to this state.
        if let Some(ticket) = tracee.state.ticket() {
            self.tickets.remove(&ticket);
        }
        if state.is_busy() {
            self.busy.insert(thread);
        } else {
            self.busy.remove(&thread);
        }
        tracee.state = state;
    }

    fn resume(&mut self, now: Duration, thread: Tid, signal: i32) {
        if self.ended.is_some() {
            return self.detach(thread, signal);
        }
        let is_late = self.was_stopped(thread);
        self.set(thread, State::Running);
        if let Some(episode) = self.tracees.get_mut(&thread).and_then(|tracee| tracee.episode.as_mut()) {
            episode.last = now;
        }
        self.todo.push(if is_late { Do::ResumeLater(thread, signal) } else { Do::Resume(thread, signal) });
    }

    fn detach(&mut self, thread: Tid, signal: i32) {
        let is_late = self.was_stopped(thread);
        self.forget(thread);
        self.todo.push(if is_late { Do::DetachLater(thread, signal) } else { Do::Detach(thread, signal) });
    }

    /// Whether a thread was stopped before what is being dealt with was reported.
    fn was_stopped(&self, thread: Tid) -> bool {
        let state = self.tracees.get(&thread).map(|tracee| &tracee.state);
        !matches!(state, None | Some(State::Running | State::Listening))
    }

    fn forget(&mut self, thread: Tid) {
        self.set(thread, State::Running);
        self.tracees.remove(&thread);
    }

    fn stopped(&mut self, now: Duration, thread: Tid, stop: Stop) {
        if self.ended.is_some() {
            return self.detach(thread, stop.signal());
        }
        if let Some(stop) = self.park(thread, stop) {
            self.handle(now, thread, stop);
        }
    }

    /// Deals with a stop.
    fn handle(&mut self, now: Duration, thread: Tid, stop: Stop) {
        match stop {
            Stop::Event => self.resume(now, thread, 0),
            Stop::Signal(signal) => self.resume(now, thread, signal),
            Stop::Group => {
                self.set(thread, State::Listening);
                self.todo.push(Do::Listen(thread));
            }
            Stop::Exec { former, excepted } => {
                if former != thread {
                    self.forget(former);
                    self.gone(now, former);
                }
                self.gone(now, thread);
                // What the thread of this number was doing before has ended with it.
                self.set(thread, State::Running);
                if let Some(process) = self.processes.get_mut(&thread) {
                    *process = Process::default();
                }
                match excepted {
                    None => self.resume(now, thread, 0),
                    Some(program) => {
                        self.emit(Event::Excepted { process: thread, program });
                        self.detach(thread, 0);
                    }
                }
            }
            Stop::Segv { process, address } => {
                if self.shows_zeros(process, address) {
                    self.emit(Event::StoreToZeros { process, thread, address });
                }
                self.resume(now, thread, libc::SIGSEGV);
            }
            Stop::Fault { process, signal } => self.fault(now, thread, process, signal),
        }
    }

    fn fault(&mut self, now: Duration, thread: Tid, process: Tid, signal: Signal) {
        let known = self.processes.entry(process).or_default();
        let is_told = known.told.iter().any(|(range, looks)| range.contains(&signal.address) && *looks >= LOOKS);
        if is_told && self.policies == Policies::default() {
            self.emit(Event::Repeated { process, thread, address: signal.address });
            return self.resume(now, thread, signal.number);
        }
        let ticket = self.ticket(thread);
        self.set(thread, State::Looked { ticket, since: now, process, signal });
        self.todo.push(Do::Look(ticket, thread, signal));
    }

    fn ticket(&mut self, thread: Tid) -> u64 {
        self.next += 1;
        self.tickets.insert(self.next, thread);
        self.next
    }

    fn found(&mut self, now: Duration, ticket: u64, finding: Box<Finding>) {
        let Some(&thread) = self.tickets.get(&ticket) else { return };
        let Some(&State::Looked { ticket: asked, process, signal, since: asked_at }) =
            self.tracees.get(&thread).map(|tracee| &tracee.state)
        else {
            return;
        };
        if asked != ticket {
            return;
        }
        if let Some(freeze) = self.freezes.get_mut(&process) {
            return freeze.keep(Input::Found(ticket, finding));
        }
        let page = finding.fault.address / finding.page.max(1);
        let episode = self
            .tracees
            .get(&thread)
            .and_then(|tracee| tracee.episode)
            .filter(|last| last.page == page && asked_at.saturating_sub(last.last) < PROGRESS);
        let tries = episode.map_or(0, |episode| episode.tries);
        let shows_zeros = self.shows_zeros(process, signal.address);
        let verdict = verdict(&self.policies, &finding, tries, shows_zeros);
        let mut episode = episode.unwrap_or(Episode { page, since: now, last: now, tries: 0 });
        episode.tries += 1;
        if let Some(tracee) = self.tracees.get_mut(&thread) {
            tracee.episode = (!matches!(verdict, Verdict::Deliver(_))).then_some(episode);
        }
        let outcome = match &verdict {
            Verdict::Deliver(instead) => Outcome::Delivered { instead: instead.clone() },
            Verdict::Repeat => Outcome::Repeats,
            Verdict::WaitForSpace(limit) => Outcome::Waits { limit: *limit },
            Verdict::Retry(left) => Outcome::Retries { left: *left },
            Verdict::Zero(range) => return self.freeze(now, thread, process, finding, range.clone()),
        };
        self.emit(Event::Fault { fault: Box::new(finding.fault.clone()), outcome });
        let held = |next, end, left| {
            let since = episode.since;
            State::Held(Box::new(Held {
                finding: finding.clone(),
                process,
                signal,
                since,
                next,
                end,
                left,
                asked: None,
            }))
        };
        match verdict {
            Verdict::Deliver(_) => {
                self.tell(process, &finding);
                self.resume(now, thread, signal.number);
            }
            Verdict::WaitForSpace(limit) => {
                let state = held(now + PERIOD, limit.map(|limit| episode.since + limit), None);
                self.set(thread, state);
            }
            Verdict::Retry(left) => {
                let state = held(now + pause(tries), None, Some(left));
                self.set(thread, state);
            }
            Verdict::Repeat | Verdict::Zero(_) => self.resume(now, thread, 0),
        }
    }

    /// Remembers a fault that the program may survive.
    fn tell(&mut self, process: Tid, finding: &Finding) {
        if !finding.fault.has_handler || finding.range.is_empty() {
            return;
        }
        let told = &mut self.processes.entry(process).or_default().told;
        if let Some((_, looks)) = told.iter_mut().find(|(range, _)| *range == finding.range) {
            *looks += 1;
        } else if told.len() < REMEMBERED {
            told.push((finding.range.clone(), 1));
        }
    }

    fn shows_zeros(&self, process: Tid, address: u64) -> bool {
        let process = self.processes.get(&process);
        process.is_some_and(|process| process.zeros.iter().any(|range| range.contains(&address)))
    }

    fn answered(&mut self, now: Duration, ticket: u64, answer: Answer) {
        let Some(&thread) = self.tickets.get(&ticket) else { return };
        let Some(tracee) = self.tracees.get_mut(&thread) else { return };
        let State::Held(held) = &mut tracee.state else { return };
        if held.asked != Some(ticket) {
            return;
        }
        if let Some(freeze) = self.freezes.get_mut(&held.process) {
            return freeze.keep(Input::Answered(ticket, answer));
        }
        held.asked = None;
        self.tickets.remove(&ticket);
        match (answer, &mut held.left) {
            (Answer::Ready | Answer::Untold, _) => self.release(thread, now, Release::Ready),
            (Answer::NotYet, None) => held.next = now + PERIOD,
            (Answer::NotYet, Some(left)) => {
                *left = left.saturating_sub(1);
                let is_last = *left == 0;
                if let Some(episode) = &mut tracee.episode {
                    episode.tries += 1;
                    held.next = now + pause(episode.tries);
                }
                if is_last {
                    self.release(thread, now, Release::Limit);
                }
            }
        }
    }

    /// Lets a held thread run again.
    fn release(&mut self, thread: Tid, now: Duration, why: Release) {
        let Some(State::Held(held)) = self.tracees.get(&thread).map(|tracee| &tracee.state) else { return };
        if self.freezes.contains_key(&held.process) {
            return;
        }
        let fault = Box::new(held.finding.fault.clone());
        let (number, after) = (held.signal.number, now.saturating_sub(held.since));
        let held_retries = held.left.is_some();
        self.emit(Event::Released { fault, after, why });
        match why {
            Release::Ready | Release::Signal => self.resume(now, thread, 0),
            // The access itself is the last try.
            Release::Limit if held_retries => self.resume(now, thread, 0),
            Release::Limit => {
                if let Some(tracee) = self.tracees.get_mut(&thread) {
                    tracee.episode = None;
                }
                self.resume(now, thread, number);
            }
            Release::GuardEnds => self.detach(thread, number),
        }
    }

    fn time(&mut self, now: Duration) {
        self.end_freezes(now);
        let threads: Vec<Tid> = self.busy.iter().copied().collect();
        for thread in threads {
            let Some(tracee) = self.tracees.get_mut(&thread) else { continue };
            match &mut tracee.state {
                State::Looked { ticket, since, process, signal } if now >= *since + DEADLINE => {
                    let why = format!("the look at it took longer than {} s", DEADLINE.as_secs());
                    let mut finding = Finding::without(thread, *signal, why);
                    finding.fault.process = *process;
                    finding.is_overdue = true;
                    let ticket = *ticket;
                    self.found(now, ticket, Box::new(finding));
                }
                State::Held(held) if held.end.is_some_and(|end| now >= end) => {
                    self.release(thread, now, Release::Limit);
                }
                State::Held(held) if now >= held.next => {
                    held.next = now + PERIOD;
                    self.todo.push(Do::Check(thread));
                    if held.asked.is_some() {
                        continue;
                    }
                    match held.finding.target.clone() {
                        None => self.release(thread, now, Release::Ready),
                        Some(target) => {
                            let ticket = self.ticket(thread);
                            if let Some(State::Held(held)) =
                                self.tracees.get_mut(&thread).map(|tracee| &mut tracee.state)
                            {
                                held.asked = Some(ticket);
                            }
                            self.todo.push(Do::Ask(ticket, target));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn thread_ended(&mut self, now: Duration, thread: Tid, how: Ending) {
        self.forget(thread);
        if self.processes.remove(&thread).is_some() || thread == self.command {
            self.emit(Event::Ended { process: thread, how });
        }
        self.gone(now, thread);
        if thread == self.command && self.ended.is_none() {
            self.ended = Some(how);
            self.let_go(now);
        }
    }

    /// The command has ended: what is left runs on without a guard.
    fn let_go(&mut self, now: Duration) {
        self.freezes.retain(|_, freeze| freeze.shows());
        let mut threads: Vec<Tid> = self.tracees.keys().copied().collect();
        threads.sort_unstable();
        for thread in threads {
            let Some(tracee) = self.tracees.get(&thread) else { continue };
            match &tracee.state {
                State::Running | State::Listening => self.todo.push(Do::Interrupt(thread)),
                State::Held(_) => self.release(thread, now, Release::GuardEnds),
                State::Looked { signal, .. } => {
                    let number = signal.number;
                    self.detach(thread, number);
                }
                // What it does has to be undone first.
                State::Shows(..) if self.freezes.values().any(|freeze| freeze.is_of(thread)) => {}
                State::Shows(..) => self.detach(thread, libc::SIGBUS),
                State::Parked { stop, .. } => {
                    let number = stop.signal();
                    self.detach(thread, number);
                }
            }
        }
    }
}
