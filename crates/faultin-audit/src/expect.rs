//! Expectations: how each cell must end, written by hand, each with its source.
//!
//! *The mail* is that of 27 August 2021 which this audit repeats; *the thread* is the discussion around it. Lines about a
//! kernel version state what that version's source does, in our words.
//!
//! What a caller does with a fault depends on little else than the bytes before it. So a variant of a caller has a rule,
//! [`Expected`]: its end where all bytes of the object can be accessed, where only some can, and where not even the first
//! one can. Cells that have a source of their own, take more than one attempt or make an exception are named beside the
//! rule.

#![forbid(unsafe_code)]

use crate::axes::Variant;
use crate::scenario::{Bad, During, Scenario};
use crate::user::Object;

/// How one cell must end.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// The variant.
    pub variant: Variant,
    /// The scenario.
    pub scenario: Scenario,
    /// How it ends.
    pub ends: Ends,
    /// Number of attempts. Where the kernel alone resolves the faults, no page is ever missing, and it may take fewer.
    pub attempts: u32,
    /// The source of the expectation.
    pub source: &'static str,
}

/// An end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// With this status, after moving this much.
    With(&'static str, Moved),
    /// Never: a livelock.
    Never,
    /// Never: it waits for a lock that it holds itself.
    Deadlock,
    /// With one of these, every time, and with a right product.
    OneOf(&'static [&'static str]),
}

/// The part of the object that moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// The bytes before the first one that cannot be accessed.
    Accessible,
    /// This number of bytes.
    Bytes(usize),
}

impl Moved {
    /// Returns the number of bytes, of an object of which this number can be accessed.
    pub fn bytes(self, object: &Object, accessible: usize) -> usize {
        match self {
            Moved::All => object.len(),
            Moved::Nothing => 0,
            Moved::Accessible => accessible,
            Moved::Bytes(bytes) => bytes.min(object.len()),
        }
    }
}

/// The status of a caller that waits for itself, where other threads run concurrently.
pub const DEADLOCK: &str = "deadlock";

/// The status of a caller that is still starting over when it is stopped, although other threads have changed the memory
/// meanwhile.
pub const STILL_RETRYING: &str = "still retrying";

/// Returns the number of bytes of an object before the first one that cannot be loaded, or stored, in a scenario. Pages
/// that are only missing can be accessed.
pub fn accessible(scenario: Scenario, object: &Object, stores: bool) -> usize {
    let first_page = object.on_first_page.min(object.len());
    let column = scenario.column();
    let bytes = match (column.bad, column.during) {
        (Bad::Page(0), _) => 0,
        (Bad::Page(_), _) | (_, During::Unmapped | During::StoreError) => first_page,
        (Bad::LastPagePoisoned, _) => {
            if first_page < object.len() {
                first_page
            } else {
                0
            }
        }
        (Bad::ForStores, _) => {
            if stores {
                0
            } else {
                object.len()
            }
        }
        (Bad::Tail, _) => object.before_tail,
        (Bad::RestartGranule, _) => object.restart,
        (Bad::Nothing, _) => object.len(),
    };
    bytes.min(object.len())
}

/// How the cells of one variant of a caller must end: reads as a line of a table.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    whole: Told,
    part: Told,
    nothing: Told,
    races: Told,
    cells: [Option<Told>; Scenario::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
struct Told {
    /// `None`: as the rule says.
    ends: Option<Ends>,
    attempts: u32,
    source: &'static str,
}

impl Told {
    const fn once((ends, source): (Ends, &'static str)) -> Told {
        Told { ends: Some(ends), attempts: 1, source }
    }
}

impl Expected {
    /// Of a caller that does not run yet.
    pub const NOTHING: [Expected; 2] = [Expected::new([(Ends::Never, ""); 3]); 2];

    /// Makes a rule, each part of it with its source: how it ends where all bytes of the object can be accessed, where only
    /// some can, and where not even the first one can. In one attempt.
    pub const fn new([whole, part, nothing]: [(Ends, &'static str); 3]) -> Expected {
        let whole = Told::once(whole);
        Expected {
            whole,
            part: Told::once(part),
            nothing: Told::once(nothing),
            races: whole,
            cells: [None; Scenario::ALL.len()],
        }
    }

    /// Makes the rule of a caller that ends in the same way whether some bytes can be accessed or not even the first one.
    pub const fn whole_or(whole: (Ends, &'static str), less: (Ends, &'static str)) -> Expected {
        Expected::new([whole, less, less])
    }

    /// Sets the possible ends where something happens to the memory at any moment.
    #[must_use]
    pub const fn races(self, statuses: &'static [&'static str], source: &'static str) -> Expected {
        Expected { races: Told::once((Ends::OneOf(statuses), source)), ..self }
    }

    /// Sets the numbers of attempts where all bytes can be accessed, and where only some can.
    #[must_use]
    pub const fn in_attempts(mut self, whole: u32, part: u32) -> Expected {
        (self.whole.attempts, self.part.attempts) = (whole, part);
        self
    }

    /// Sets the source in a scenario, in which it ends as the rule says in one attempt.
    #[must_use]
    pub const fn at(self, scenario: Scenario, source: &'static str) -> Expected {
        self.at_in(scenario, 1, source)
    }

    /// Sets the source in a scenario, in which it ends as the rule says, and the number of attempts.
    #[must_use]
    pub const fn at_in(mut self, scenario: Scenario, attempts: u32, source: &'static str) -> Expected {
        self.cells[scenario as usize] = Some(Told { ends: None, attempts, source });
        self
    }

    /// Makes an exception: its end in a scenario, in one attempt.
    #[must_use]
    pub const fn but(self, scenario: Scenario, ends: Ends, source: &'static str) -> Expected {
        self.but_in(scenario, 1, ends, source)
    }

    /// Makes an exception: its end in a scenario, and the number of attempts.
    #[must_use]
    pub const fn but_in(mut self, scenario: Scenario, attempts: u32, ends: Ends, source: &'static str) -> Expected {
        self.cells[scenario as usize] = Some(Told { ends: Some(ends), attempts, source });
        self
    }

    /// Returns the expectation in a scenario in which this number of the object's bytes can be accessed.
    pub fn cell(&self, variant: Variant, scenario: Scenario, object: &Object, accessible: usize) -> Expectation {
        let rule = match accessible {
            _ if scenario.column().during.is_race() => &self.races,
            0 => &self.nothing,
            some if some < object.len() => &self.part,
            _ => &self.whole,
        };
        let told = self.cells[scenario as usize].as_ref().unwrap_or(rule);
        let ends = match told.ends.or(rule.ends).unwrap_or(Ends::Never) {
            Ends::With(status, Moved::Accessible) if accessible == 0 => Ends::With(status, Moved::Nothing),
            ends => ends,
        };
        Expectation { variant, scenario, ends, attempts: told.attempts, source: told.source }
    }
}
