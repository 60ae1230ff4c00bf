//! What a cell is about, apart from its caller and its scenario: a variant of the caller's code, a memory, and the features
//! that it may need.

#![forbid(unsafe_code)]

use std::fmt;

/// The variant of a caller's code. Data of both variants are arrays of two, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// As it was found.
    AsFound,
    /// As it should be.
    Fixed,
}

impl Variant {
    /// Both kinds.
    pub const ALL: [Variant; 2] = [Variant::AsFound, Variant::Fixed];

    /// Returns the name as an argument.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::AsFound => "as-found",
            Variant::Fixed => "fixed",
        }
    }
}

/// The kind of memory of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Memory {
    /// This process's: [`HostUser`](crate::user::HostUser).
    Host,
    /// Simulated: [`SimUser`](crate::user::SimUser).
    Sim,
}

impl Memory {
    /// Both kinds.
    pub const ALL: [Memory; 2] = [Memory::Host, Memory::Sim];

    /// Returns the name as an argument.
    pub const fn name(self) -> &'static str {
        match self {
            Memory::Host => "host",
            Memory::Sim => "sim",
        }
    }
}

/// A need of a cell beyond memory that can be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Pages whose faults this process resolves itself.
    Paging,
    /// Poisoned pages.
    Poison,
    /// Permissions below page size.
    Tags,
    /// Registers that an instruction saves to memory and restores from it.
    FpState,
}

impl Feature {
    /// Returns its name in a skip.
    pub const fn name(self) -> &'static str {
        match self {
            Feature::Paging => "userfaultfd with SIGBUS and minor faults",
            Feature::Tags => "memory tags",
            Feature::Poison => "userfaultfd with UFFDIO_POISON",
            Feature::FpState if cfg!(target_arch = "x86_64") => "XSAVE",
            Feature::FpState => "FP state to save and restore",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
