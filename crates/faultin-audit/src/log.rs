//! What a caller did, step by step, and whether it still gets anywhere.
//!
//! A *round* is one attempt: the steps between two calls of [`Log::again`]. Its *state* is what was attempted, what moved,
//! why it stopped and in which page. A loop that comes back to the state it left, with no outside event between, will do
//! so for ever: a livelock. A loop that counts its attempts says so in its steps: the count is a part of its state.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use faultin::{Cause, Fault, Short};

use crate::bug::Bug;
use crate::user::User;

/// How many times a state is repeated before it is called a livelock. Once would do on a machine that is deterministic.
pub const REPEATS: u32 = 3;

/// Rounds after which a loop is stopped that neither ends nor repeats itself.
pub const BOUND: u32 = 10_000;

/// How a step came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// So many bytes, and all there were.
    Through(usize),
    /// Only so many bytes, for this reason, at this offset in the object if it is known.
    Short {
        /// Bytes before it stopped.
        done: usize,
        /// Why.
        cause: Cause,
        /// Where: from the object's first byte.
        offset: Option<isize>,
    },
    /// It is a decision: nothing was accessed.
    Decided,
}

/// One step of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was done, in words.
    pub what: Cow<'static, str>,
    /// How it came out.
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

/// Why a caller was stopped that would not have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// A state was repeated with no outside event between.
    Livelock,
    /// [`BOUND`] rounds.
    Bound,
    /// It waited for a fault that wants a lock it holds, or that one holds who waits for it.
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

/// What goes on outside.
struct Watch<'a> {
    events: Box<dyn Fn() -> u64 + 'a>,
    waits: Box<dyn Fn() -> u64 + 'a>,
    /// Events and waits when they were last asked for.
    seen: Cell<(u64, u64)>,
}

impl Watch<'_> {
    /// Whether something has happened since the last time.
    fn disturbed(&self) -> bool {
        let (seen, now) = (self.seen.get(), (self.events)());
        self.seen.set((now, seen.1));
        now != seen.0
    }

    /// Whether somebody has waited since the last time.
    fn waited(&self) -> bool {
        let (seen, now) = (self.seen.get(), (self.waits)());
        self.seen.set((seen.0, now));
        now != seen.1
    }
}

impl<'a> Log<'a> {
    /// An empty log of what is done to the object of `user`.
    pub fn of(user: &impl User) -> Log<'a> {
        Log::new(user.address(), user.page_size())
    }

    /// An empty log of what is done to an object at this address.
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

    /// There are outside events: a state that is repeated proves nothing, and only [`BOUND`] ends a loop.
    #[must_use]
    pub fn beside_adversary(self) -> Log<'a> {
        Log { outside_events: true, ..self }
    }

    /// Does this, once, after the first fault-in that succeeded.
    #[must_use]
    pub fn after_fault_in(self, event: impl FnOnce() + 'a) -> Log<'a> {
        Log { after_fault_in: Some(Box::new(event)), ..self }
    }

    /// Has `events` count what happened outside so far: a state that is repeated proves nothing if something has happened in
    /// between. And `waits`, how often an access has waited for a page.
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

    /// Whether this bug of the past is on.
    #[doc(hidden)]
    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// The write loops' bug that is on.
    #[doc(hidden)]
    pub fn write_bug(&self) -> Option<faultin_cache::mutation::Bug> {
        match self.bug {
            Some(Bug::Write(bug)) => Some(bug),
            _ => None,
        }
    }

    /// To be called by a helper that has brought something in.
    pub fn faulted_in(&mut self) {
        if let Some(event) = self.after_fault_in.take() {
            event();
            self.decide("(the pages are taken away again)");
        }
    }

    /// The caller takes a lock.
    pub fn lock(&mut self, name: &'static str) {
        self.decide(format!("lock {name}"));
        if self.held.is_empty()
            && let Some(watch) = &self.watch
        {
            watch.waited();
        }
        self.held.push(name);
    }

    /// The caller lets it go.
    pub fn unlock(&mut self, name: &'static str) {
        self.decide(format!("unlock {name}"));
        if let Some(at) = self.held.iter().rposition(|held| *held == name) {
            self.held.remove(at);
        }
        if self.held.is_empty() {
            self.waited_under_lock |= self.watch.as_ref().is_some_and(Watch::waited);
        }
    }

    /// Whether an access has waited for a page while a lock was held.
    pub fn waited_under_lock(&self) -> bool {
        self.waited_under_lock
    }

    /// Locks that are held now.
    pub fn held(&self) -> &[&'static str] {
        &self.held
    }

    /// A decision.
    pub fn decide(&mut self, what: impl Into<Cow<'static, str>>) {
        self.steps.push(Step { what: what.into(), came: Came::Decided });
    }

    /// A step over `len` bytes that is complete or short.
    pub fn copied(&mut self, what: impl Into<Cow<'static, str>>, len: usize, result: &Result<(), Short>) {
        let came = match result {
            Ok(()) => Came::Through(len),
            Err(short) => self.short(short.done, &short.fault),
        };
        self.steps.push(Step { what: what.into(), came });
    }

    /// A step over `len` bytes that is all or nothing.
    pub fn accessed<T>(&mut self, what: impl Into<Cow<'static, str>>, len: usize, result: &Result<T, Fault>) {
        let came = match result {
            Ok(_) => Came::Through(len),
            Err(fault) => self.short(0, fault),
        };
        self.steps.push(Step { what: what.into(), came });
    }

    /// To be called by a loop where it is about to start over.
    ///
    /// # Errors
    /// [`Stuck`]: the loop is to end here, with this.
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

    /// The steps of one that has run beside this one, and has ended.
    pub(crate) fn beside(&mut self, steps: Vec<Step>) {
        self.decide("(beside it, in another thread)");
        self.steps.extend(steps);
    }

    /// Attempts so far.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Every step so far.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    fn short(&self, done: usize, fault: &Fault) -> Came {
        let offset = fault.address().map(|address| address.wrapping_sub(self.base).cast_signed());
        Came::Short { done, cause: fault.cause(), offset }
    }

    /// A step as a part of a state. Instructions that are all or nothing may report any byte of the page they failed at,
    /// and another one next time.
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
        Err(Fault::refused(Access::Read, Cause::Protection, address))
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
