//! The steps of a caller, and whether it still makes progress.
//!
//! A *round* is one attempt: the steps between two calls of [`Log::again`]. Its *state* is what was attempted, what moved,
//! the reason for the stop and its page. A loop that returns to the state it left, with no outside event in between, does
//! not terminate: a livelock. A loop that counts its attempts logs that in its steps: the count is a part of its state.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use faultin::{Cause, Fault, Short};

use crate::bug::Bug;
use crate::user::User;

/// How often a state is repeated before it counts as a livelock. Once would suffice on a deterministic machine.
pub const REPEATS: u32 = 3;

/// Number of rounds after which a loop is stopped that neither ends nor repeats itself.
pub const BOUND: u32 = 10_000;

/// Number of steps of one run that a report shows at its beginning and at its end, if there are more.
pub const SHOWN: usize = 12;

/// Returns the first steps, the number of those that are not shown, and the last steps; `shown` of both if there are more.
pub fn ends_of<T>(steps: &[T], shown: usize) -> (&[T], usize, &[T]) {
    match steps.len().saturating_sub(2 * shown) {
        0 => (steps, 0, &[]),
        hidden => (&steps[..shown], hidden, &steps[shown + hidden..]),
    }
}

/// Writes steps in lines, with their numbers; `shown` at the beginning and at the end if there are more.
pub(crate) fn write_steps(out: &mut impl fmt::Write, steps: &[impl fmt::Display], shown: usize) -> fmt::Result {
    let (first, hidden, last) = ends_of(steps, shown);
    for (number, step) in (1..).zip(first) {
        writeln!(out, "  {number:>4}  {step}")?;
    }
    if hidden > 0 {
        writeln!(out, "        … {hidden} more")?;
    }
    (shown + hidden + 1..).zip(last).try_for_each(|(number, step)| writeln!(out, "  {number:>4}  {step}"))
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// This number of bytes, which was all.
    Through(usize),
    /// Fewer bytes, for this cause, at this offset in the object if it is known.
    Short {
        /// Number of bytes before it stopped.
        done: usize,
        /// The error.
        cause: Cause,
        /// The offset from the object's first byte.
        offset: Option<isize>,
    },
    /// It is a decision: nothing was accessed.
    Decided,
}

/// One step of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The action, in words.
    pub what: Cow<'static, str>,
    /// The result.
    pub came: Came,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.came {
            Came::Decided => write!(f, "{}", self.what),
            Came::Through(bytes) => write!(f, "{}: all {bytes} bytes", self.what),
            Came::Short { done, cause, offset } => {
                write!(f, "{}: ", self.what)?;
                if done > 0 {
                    write!(f, "{done} bytes, then ")?;
                }
                write!(f, "{} fault", cause.name())?;
                offset.map_or(Ok(()), |offset| write!(f, " at {offset:+}"))
            }
        }
    }
}

/// The reason why a caller was stopped that would not have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// A state was repeated with no outside event in between.
    Livelock,
    /// [`BOUND`] rounds.
    Bound,
    /// It waited for a fault that needs a lock it holds, or that a thread holds which waits for it.
    Deadlock,
}

/// The steps of one run of a caller.
pub struct Log<'a> {
    base: usize,
    page_size: usize,
    outside_events: bool,
    after_fault_in: Option<Box<dyn FnOnce() + 'a>>,
    watch: Option<Watch<'a>>,
    bug: Option<Bug>,
    held: Vec<&'static str>,
    waited_under_lock: bool,
    steps: Vec<Step>,
    round: usize,
    previous: Vec<Step>,
    repeats: u32,
    rounds: u32,
}

/// The outside events.
struct Watch<'a> {
    events: Box<dyn Fn() -> u64 + 'a>,
    waits: Box<dyn Fn() -> u64 + 'a>,
    /// Numbers of events and waits at the last query.
    seen: Cell<(u64, u64)>,
}

impl Watch<'_> {
    /// Returns whether an event has happened since the last call.
    fn disturbed(&self) -> bool {
        let (seen, now) = (self.seen.get(), (self.events)());
        self.seen.set((now, seen.1));
        now != seen.0
    }

    /// Returns whether an access has waited since the last call.
    fn waited(&self) -> bool {
        let (seen, now) = (self.seen.get(), (self.waits)());
        self.seen.set((seen.0, now));
        now != seen.1
    }
}

impl<'a> Log<'a> {
    /// Makes an empty log of accesses to the object of `user`.
    pub fn of(user: &impl User) -> Log<'a> {
        Log::new(user.address(), user.page_size())
    }

    /// Makes an empty log of accesses to an object at this address.
    pub(crate) fn new(base: usize, page_size: usize) -> Log<'a> {
        Log {
            base,
            page_size,
            outside_events: false,
            after_fault_in: None,
            watch: None,
            bug: None,
            held: Vec::new(),
            waited_under_lock: false,
            steps: Vec::new(),
            round: 0,
            previous: Vec::new(),
            repeats: 0,
            rounds: 1,
        }
    }

    /// Assumes outside events: a repeated state proves nothing, and only [`BOUND`] ends a loop.
    #[must_use]
    pub fn beside_adversary(self) -> Log<'a> {
        Log { outside_events: true, ..self }
    }

    /// Runs `event` once, after the first successful fault-in.
    #[must_use]
    pub fn after_fault_in(self, event: impl FnOnce() + 'a) -> Log<'a> {
        Log { after_fault_in: Some(Box::new(event)), ..self }
    }

    /// Uses `events` to count outside events so far: a repeated state proves nothing if an event has happened in between.
    /// And `waits`, how often an access has waited for a page.
    #[must_use]
    pub fn watching(self, events: impl Fn() -> u64 + 'a, waits: impl Fn() -> u64 + 'a) -> Log<'a> {
        let seen = Cell::new((events(), waits()));
        Log { watch: Some(Watch { events: Box::new(events), waits: Box::new(waits), seen }), ..self }
    }

    /// Turns a bug of the past on.
    #[doc(hidden)]
    #[must_use]
    pub fn with_bug(self, bug: Bug) -> Log<'a> {
        Log { bug: Some(bug), ..self }
    }

    /// Returns whether this bug of the past is on.
    #[doc(hidden)]
    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Returns the write loops' bug that is on.
    #[doc(hidden)]
    pub fn write_bug(&self) -> Option<faultin_cache::mutation::Bug> {
        match self.bug {
            Some(Bug::Write(bug)) => Some(bug),
            _ => None,
        }
    }

    /// Must be called by a helper that has brought something in.
    pub fn faulted_in(&mut self) {
        if let Some(event) = self.after_fault_in.take() {
            event();
            self.decide("(the pages are taken away again)");
        }
    }

    /// Logs that the caller takes a lock.
    pub fn lock(&mut self, name: &'static str) {
        self.decide(format!("lock {name}"));
        if self.held.is_empty()
            && let Some(watch) = &self.watch
        {
            watch.waited();
        }
        self.held.push(name);
    }

    /// Logs that the caller releases it.
    pub fn unlock(&mut self, name: &'static str) {
        self.decide(format!("unlock {name}"));
        if let Some(at) = self.held.iter().rposition(|held| *held == name) {
            self.held.remove(at);
        }
        if self.held.is_empty() {
            self.waited_under_lock |= self.watch.as_ref().is_some_and(Watch::waited);
        }
    }

    /// Returns whether an access has waited for a page while a lock was held.
    pub fn waited_under_lock(&self) -> bool {
        self.waited_under_lock
    }

    /// Returns the locks that are held now.
    pub fn held(&self) -> &[&'static str] {
        &self.held
    }

    /// Logs a decision.
    pub fn decide(&mut self, what: impl Into<Cow<'static, str>>) {
        self.steps.push(Step { what: what.into(), came: Came::Decided });
    }

    /// Logs a step over `len` bytes that is complete or short.
    pub fn copied(&mut self, what: impl Into<Cow<'static, str>>, len: usize, result: &Result<(), Short>) {
        let came = match result {
            Ok(()) => Came::Through(len),
            Err(short) => self.short(short.done, &short.fault),
        };
        self.steps.push(Step { what: what.into(), came });
    }

    /// Logs a step over `len` bytes that is all or nothing.
    pub fn accessed<T>(&mut self, what: impl Into<Cow<'static, str>>, len: usize, result: &Result<T, Fault>) {
        let came = match result {
            Ok(_) => Came::Through(len),
            Err(fault) => self.short(0, fault),
        };
        self.steps.push(Step { what: what.into(), came });
    }

    /// Must be called by a loop that is about to start over.
    ///
    /// # Errors
    /// [`Stuck`]: the loop must end here, with this error.
    pub fn again(&mut self) -> Result<(), Stuck> {
        let round: Vec<Step> = self.steps[self.round..].iter().map(|step| self.by_page(step)).collect();
        let disturbed = self.watch.as_ref().is_some_and(Watch::disturbed);
        self.repeats = if round == self.previous && !disturbed { self.repeats + 1 } else { 0 };
        self.previous = round;
        self.round = self.steps.len();
        if self.repeats >= REPEATS && !self.outside_events {
            return Err(Stuck::Livelock);
        }
        if self.rounds >= BOUND {
            return Err(Stuck::Bound);
        }
        self.rounds += 1;
        Ok(())
    }

    /// Adds the steps of a caller that ran concurrently with this one, and has ended.
    pub(crate) fn beside(&mut self, steps: Vec<Step>) {
        self.decide("(beside it, in another thread)");
        self.steps.extend(steps);
    }

    /// Returns the number of attempts so far.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Returns every step so far.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    fn short(&self, done: usize, fault: &Fault) -> Came {
        let offset = fault.address().map(|address| address.wrapping_sub(self.base).cast_signed());
        Came::Short { done, cause: fault.cause(), offset }
    }

    /// Returns a step as a part of a state. Instructions that are all or nothing may report any byte of the page they
    /// failed at, and another one next time.
    fn by_page(&self, step: &Step) -> Step {
        let mut step = step.clone();
        if let Came::Short { offset: Some(offset), .. } = &mut step.came {
            let address = self.base.wrapping_add_signed(*offset);
            *offset = (address - address % self.page_size).wrapping_sub(self.base).cast_signed();
        }
        step
    }
}

impl fmt::Debug for Log<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("steps", &self.steps).field("rounds", &self.rounds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faultin::Access;

    fn fault(address: usize) -> Result<(), Fault> {
        Err(Fault::rejected(Access::Read, Cause::Protection, address))
    }

    #[test]
    fn a_repeated_state_is_a_livelock() {
        let mut log = Log::new(0, 4096);
        let ended = (1..).find_map(|round| {
            log.accessed("load", 1, &fault(round % 2));
            log.again().err().map(|stuck| (round, stuck))
        });
        assert_eq!(ended, Some((1 + REPEATS as usize, Stuck::Livelock)));
    }

    #[test]
    fn another_page_is_another_state_wherever_the_object_begins() {
        let page = 4096;
        let mut log = Log::new(page - 8, page);
        for round in 0..4 * REPEATS as usize {
            log.accessed("load", 1, &fault(page - 8 + (round % 2) * 16));
            assert_eq!(log.again(), Ok(()));
        }
    }

    #[test]
    fn progress_is_no_livelock_and_neither_is_waiting_for_an_outside_event() {
        for (outside_events, step) in [(false, 4096), (true, 0)] {
            let mut log = Log { outside_events, ..Log::new(0, 4096) };
            let ended = (1..).find_map(|round| {
                log.accessed("load", 1, &fault(round * step));
                log.again().err().map(|stuck| (round, stuck))
            });
            assert_eq!(ended, Some((BOUND as usize, Stuck::Bound)));
        }
    }
}
