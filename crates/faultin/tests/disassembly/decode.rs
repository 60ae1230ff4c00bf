//! Instructions in an architecture-independent form.

use faultin::table::Kind;
use object::Architecture;

use crate::{aarch64, elf::Function, x86_64};

/// The memory of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// It accesses none, or only prefetches, which never faults.
    None,
    /// On the stack or relative to the program counter: the crate's own.
    Own,
    /// At an address in other registers.
    Foreign(Kind),
}

/// The bytes before a store, according to its addressing, in the routines' registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// This many bytes after the progress registers.
    Head(usize),
    /// This many bytes before the end.
    Tail(usize),
}

#[derive(Clone, Debug)]
pub struct Instruction {
    pub address: u64,
    pub memory: Memory,
    /// The beginning of an out-of-line routine's store, if this decoder can determine it.
    pub position: Option<Position>,
    /// The address to which it refers relative to the program counter, if this decoder can determine it.
    pub refers: Option<u64>,
    pub text: String,
}

/// Every instruction of `function`. `Err`: the address of the first invalid one.
pub fn decode(architecture: Architecture, function: &Function) -> Result<Vec<Instruction>, u64> {
    match architecture {
        Architecture::X86_64 => x86_64::decode(&function.code, function.address),
        Architecture::Aarch64 => aarch64::decode(&function.code, function.address),
        other => panic!("no decoder for {other:?}"),
    }
}
