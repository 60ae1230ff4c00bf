//! A caller's user: memory that may fault, and the machine whose registers go to it and come from it.
//!
//! | user | memory | registers |
//! |---|---|---|
//! | [`HostUser`] | pages of a memfd of this process, really faulting | the CPU's |
//! | [`SimUser`] | [simulated](faultin_sim), of any page size and granule | simulated |
//!
//! A caller is written once, against [`User`].
//!
//! Both tell two kinds of access apart, as a kernel does. A *nofault* access (`read_nowait`, `write_nowait`, the registers'
//! instructions) ends at a page that is not resident. Every other one waits: the page is brought in behind the fault, and the
//! access goes on.

pub mod host;
mod object;
mod registers;
pub mod sim;

use std::io;

use faultin::Fault;
use faultin::memory::{ReadMemory, ReadNoWait, WriteMemory, WriteNoWait};

use crate::scenario::Scenario;

pub use host::HostUser;
pub use object::{Object, Scale};
pub use registers::{Frame, Registers};
pub use sim::SimUser;

/// The memory a cell runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Memory {
    /// This process': [`HostUser`].
    Host,
    /// Simulated: [`SimUser`].
    Sim,
}

impl Memory {
    /// Both.
    pub const ALL: [Memory; 2] = [Memory::Host, Memory::Sim];

    /// The name as an argument.
    pub const fn name(self) -> &'static str {
        match self {
            Memory::Host => "host",
            Memory::Sim => "sim",
        }
    }
}

/// An object in the memory of a user.
pub trait User: Sized {
    /// The object, to read from.
    type Source<'a>: ReadMemory + ReadNoWait
    where
        Self: 'a;
    /// The object, to write to.
    type Dest<'a>: WriteMemory<Read: ReadNoWait> + WriteNoWait
    where
        Self: 'a;
    /// What the machine's instructions save to memory and restore from it as a whole.
    type Registers: Registers;

    /// Puts `object` into memory of which the matter is `scenario`.
    ///
    /// # Errors
    /// What the kernel says to a mapping; for some scenarios where it has no such thing.
    fn new(object: &Object, scenario: Scenario, scale: Scale) -> io::Result<Self>;

    /// Makes one user after the other for `each`, beside an adversary that takes pages away and gives them back while
    /// `each` runs, until the adversary has acted often enough, or `each` says `false`.
    ///
    /// # Errors
    /// What the kernel says to a mapping.
    fn beside_adversary(object: &Object, scale: Scale, each: impl FnMut(&Self) -> io::Result<bool>) -> io::Result<()>;

    /// The object, to read from.
    ///
    /// # Errors
    /// If the memory cannot be accessed in this process: there is no handler.
    fn source(&self) -> io::Result<Self::Source<'_>>;

    /// The object, to write to.
    ///
    /// # Errors
    /// As [`source`](Self::source).
    fn dest(&self) -> io::Result<Self::Dest<'_>>;

    /// The address of the object's first byte.
    fn address(&self) -> usize;

    /// How large objects and pages are.
    fn scale(&self) -> Scale;

    /// Bytes in a page of this memory.
    fn page_size(&self) -> usize;

    /// Takes every page of the object away, as reclaim does: what was in it stays, and comes back with the next fault.
    fn evict(&self);

    /// How often an access has waited for a page to be brought in.
    fn waits(&self) -> u64;

    /// The object's bytes, whatever has become of the mapping.
    ///
    /// # Errors
    /// If they cannot be had.
    fn contents(&self) -> io::Result<Vec<u8>>;

    /// Whether every byte around the object is as it was.
    ///
    /// # Errors
    /// If they cannot be had.
    fn surroundings_intact(&self) -> io::Result<bool>;

    /// The same bytes in a second place where nothing is the matter with them.
    ///
    /// # Errors
    /// What the kernel says to a mapping.
    fn witness(&self) -> io::Result<Self>;

    /// Saves `registers` to `to` in one instruction, with page faults disabled.
    ///
    /// # Errors
    /// The [`Fault`]; a part of the image may have been stored.
    fn save_registers(&self, to: &Self::Dest<'_>, registers: &Self::Registers) -> Result<(), Fault>;

    /// Restores registers from `from` in one instruction, with page faults disabled, and returns what arrived.
    ///
    /// # Errors
    /// The [`Fault`]: no register has changed.
    fn restore_registers(&self, from: &Self::Source<'_>) -> Result<Self::Registers, Fault>;
}
