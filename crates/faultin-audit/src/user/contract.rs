//! The contract of a caller's user.

#![forbid(unsafe_code)]

use std::io;

use faultin::Fault;
use faultin::memory::{ReadMemory, ReadNoWait, WriteMemory, WriteNoWait};

use super::object::{Object, Scale};
use super::registers::Registers;
use crate::scenario::Scenario;

/// An object in the memory of a user.
pub trait User: Sized {
    /// The type of the object, to read from.
    type Source<'a>: ReadMemory + ReadNoWait
    where
        Self: 'a;
    /// The type of the object, to write to.
    type Dest<'a>: WriteMemory<Read: ReadNoWait> + WriteNoWait
    where
        Self: 'a;
    /// The registers that the machine's instructions save to memory and restore from it as a whole.
    type Registers: Registers;

    /// Puts `object` into memory with the fault `scenario`.
    ///
    /// # Errors
    /// The kernel's error for a mapping; for some scenarios if it does not support them.
    fn new(object: &Object, scenario: Scenario, scale: Scale) -> io::Result<Self>;

    /// Makes one user after the other for `each`, with a concurrent adversary that does what happens in `scenario` while
    /// `each` runs, until the adversary has acted often enough, or `each` returns `false`.
    ///
    /// # Errors
    /// The kernel's error for a mapping; if this memory has no such adversary.
    fn beside_adversary(
        object: &Object,
        scenario: Scenario,
        scale: Scale,
        each: impl FnMut(&Self) -> io::Result<bool>,
    ) -> io::Result<()>;

    /// Returns the object, to read from.
    ///
    /// # Errors
    /// If the memory cannot be accessed in this process: there is no handler.
    fn source(&self) -> io::Result<Self::Source<'_>>;

    /// Returns the object, to write to.
    ///
    /// # Errors
    /// Those of [`source`](Self::source).
    fn dest(&self) -> io::Result<Self::Dest<'_>>;

    /// Returns the address of the object's first byte.
    fn address(&self) -> usize;

    /// The size of objects and pages.
    fn scale(&self) -> Scale;

    /// Returns the size of a page of this memory in bytes.
    fn page_size(&self) -> usize;

    /// Evicts every page of the object, as reclaim does: its contents stay, and are accessible again after the next fault.
    fn evict(&self);

    /// Returns how often an access has waited for a page to be brought in.
    fn waits(&self) -> u64;

    /// Returns the object's bytes, whatever the state of the mapping.
    ///
    /// # Errors
    /// If they cannot be read.
    fn contents(&self) -> io::Result<Vec<u8>>;

    /// Returns whether every byte around the object is unchanged.
    ///
    /// # Errors
    /// If they cannot be read.
    fn surroundings_intact(&self) -> io::Result<bool>;

    /// Makes a second user with the same bytes and no faults.
    ///
    /// # Errors
    /// The kernel's error for a mapping.
    fn witness(&self) -> io::Result<Self>;

    /// Saves `registers` to `to` in one instruction, with page faults disabled.
    ///
    /// # Errors
    /// The [`Fault`] if a byte cannot be stored; a part of the image may have been stored.
    fn save_registers(&self, to: &Self::Dest<'_>, registers: &Self::Registers) -> Result<(), Fault>;

    /// Restores registers from `from` in one instruction, with page faults disabled, and returns the registers that
    /// arrived.
    ///
    /// # Errors
    /// The [`Fault`] if a byte cannot be loaded: no register has changed.
    fn restore_registers(&self, from: &Self::Source<'_>) -> Result<Self::Registers, Fault>;
}
