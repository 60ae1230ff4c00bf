//! What a caller is: the data of its row, and its code.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::axes::{Feature, Memory, Variant};
use crate::expect::{self, Expectation, Expected};
use crate::log::{Log, Stuck};
use crate::scenario::{Buffer, Pages, Scenario};
use crate::user::{HostUser, Object, Registers, Scale, SimUser, User};

/// One row of the audit.
#[derive(Clone, Copy)]
pub struct Caller {
    /// Its number in the mail, or after it.
    pub row: u8,
    /// The kernel's name.
    pub name: &'static str,
    /// Its place: an architecture or a part of the kernel.
    pub place: &'static str,
    /// The caller's need of a fault-in.
    pub need: Need,
    /// The mail's finding, in our words.
    pub finding: &'static str,
    /// "Caller from X, helper from Y", of each variant.
    pub origins: [&'static str; 2],
    /// How the cells of each variant must end, on either memory.
    pub expected: &'static [Expected; 2],
    /// Whether it stores to the object; otherwise no byte of that changes.
    pub stores: bool,
    /// Whether it reads or writes a file, whose folios may be its buffer.
    pub has_file: bool,
    /// The feature that it needs, if it runs on this machine and not on a simulated one.
    pub needs: Option<Feature>,
    /// The caller with a mapping of its own file as its buffer, if it works under a lock that page faults of the file take.
    pub mapped: Option<&'static Mapped>,
    /// Its code, if it is written yet.
    pub job: Option<&'static dyn Job>,
}

impl Caller {
    /// A row whose code is not written yet: a beginning of others.
    pub const NOT_YET: Caller = Caller {
        row: 0,
        name: "",
        place: "",
        need: Need::Any,
        finding: "",
        origins: [""; 2],
        expected: &Expected::NOTHING,
        stores: false,
        has_file: false,
        needs: None,
        mapped: None,
        job: None,
    };

    /// Returns "Caller from X, helper from Y".
    pub fn origin(&self, variant: Variant) -> &'static str {
        self.origins[variant as usize]
    }

    /// Returns how a cell must end. `None` if there is no such cell, or the row does not run yet.
    pub fn expectation(&self, variant: Variant, scenario: Scenario) -> Option<Expectation> {
        // The objects of both memories are divided in the same way.
        let object = self.job?.object(Memory::Sim, Scale::Full);
        let expected = match scenario.column().buffer {
            Buffer::Any => self.expected,
            Buffer::OwnFolio => self.has_file.then_some(self.expected)?,
            Buffer::Mapping(_) => self.mapped?.expected,
        };
        let accessible = expect::accessible(scenario, &object, self.stores);
        Some(expected[variant as usize].cell(variant, scenario, &object, accessible))
    }

    /// Returns how each cell of a variant must end.
    pub fn expectations(&self, variant: Variant) -> impl Iterator<Item = Expectation> {
        Scenario::ALL.into_iter().filter_map(move |scenario| self.expectation(variant, scenario))
    }
}

/// What a caller needs from a fault-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// That some progress is possible.
    Any,
    /// That every byte is accessible.
    All,
    /// Either, or neither.
    Either,
    /// Not a fault-in: a read that fails instead of faulting.
    NofaultRead,
}

impl Need {
    /// Returns the need in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Need::Any => "ANY",
            Need::All => "ALL",
            Need::Either => "either",
            Need::NofaultRead => "no-fault read",
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The end of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The status that it reports.
    pub status: &'static str,
    /// The number of bytes that it moved.
    pub moved: usize,
    /// Whether its product is right; if not, what is wrong.
    pub product: Result<(), String>,
}

/// The reason why a caller did not end.
#[derive(Debug)]
pub enum Halt {
    /// It would not have ended.
    Stuck(Stuck),
    /// The machine failed.
    Machine(io::Error),
}

impl From<Stuck> for Halt {
    fn from(stuck: Stuck) -> Halt {
        Halt::Stuck(stuck)
    }
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Halt {
        Halt::Machine(error)
    }
}

/// The code of a caller, written once for every kind of user.
pub trait Code: Sync {
    /// Returns the object in user memory, and its division, on a machine with these registers.
    fn object<R: Registers>(&self, scale: Scale) -> Object;

    /// Does the job on an object in user memory and checks its product.
    ///
    /// # Errors
    /// [`Halt`] if the caller did not end.
    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt>;

    /// Returns the number of fruitless attempts that one outside event justifies.
    fn attempts_per_event(&self) -> usize {
        1
    }
}

/// [`Code`] as a trait object.
pub trait Job: Sync {
    /// Returns the object as [`Code::object`] does, on the machine of this memory.
    fn object(&self, memory: Memory, scale: Scale) -> Object;

    /// Runs as [`Code::run`] does, in this process.
    ///
    /// # Errors
    /// [`Halt`] if the caller did not end.
    fn on_host(&self, variant: Variant, user: &HostUser, log: &mut Log) -> Result<Ended, Halt>;

    /// Runs as [`Code::run`] does, simulated.
    ///
    /// # Errors
    /// [`Halt`] if the caller did not end.
    fn on_sim(&self, variant: Variant, user: &SimUser, log: &mut Log) -> Result<Ended, Halt>;

    /// Returns [`Code::attempts_per_event`].
    fn attempts_per_event(&self) -> usize;
}

impl<C: Code> Job for C {
    fn object(&self, memory: Memory, scale: Scale) -> Object {
        match memory {
            Memory::Host => Code::object::<<HostUser as User>::Registers>(self, scale),
            Memory::Sim => Code::object::<<SimUser as User>::Registers>(self, scale),
        }
    }

    fn on_host(&self, variant: Variant, user: &HostUser, log: &mut Log) -> Result<Ended, Halt> {
        self.run(variant, user, log)
    }

    fn on_sim(&self, variant: Variant, user: &SimUser, log: &mut Log) -> Result<Ended, Halt> {
        self.run(variant, user, log)
    }

    fn attempts_per_event(&self) -> usize {
        Code::attempts_per_event(self)
    }
}

/// Gets each run of a caller, and returns whether to continue.
pub type Each<'a> = dyn FnMut(Log<'_>, Result<Ended, Halt>) -> bool + 'a;

/// A caller whose buffer is a mapping of a file, and whose faults this process resolves.
pub struct Mapped {
    /// How the cells of each variant must end.
    pub expected: &'static [Expected; 2],
    /// The code for simulated memory that behaves like a mapping of the same pages, and of other pages.
    pub simulated: [&'static dyn Job; 2],
    /// Runs it with mappings of this process, once or often.
    pub on_host: fn(Variant, Scenario, &mut Each<'_>) -> io::Result<()>,
}

impl Mapped {
    /// Returns the code for simulated memory, which behaves like a mapping.
    pub fn simulated(&self, scenario: Scenario) -> &'static dyn Job {
        self.simulated[usize::from(scenario.column().buffer != Buffer::Mapping(Pages::Same))]
    }
}
