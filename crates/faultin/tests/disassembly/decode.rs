//! Instructions as the check sees them, whatever the machine.

use faultin::table::Kind;
use object::Architecture;

use crate::{aarch64, elf::Function, x86_64};

/// Where an instruction's memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// It touches none, or only fetches ahead, which never faults.
    None,
    /// On the stack or at a place known to the program counter: our own.
    Own,
    /// At an address in other registers.
    Foreign(Kind),
}

/// What a store's own addressing says of the bytes before it, in the routines' registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// So many bytes after the progress registers.
    Head(usize),
    /// So many bytes before the end.
    Tail(usize),
}

#[derive(Clone, Debug)]
pub struct Instruction {
    pub address: u64,
    pub memory: Memory,
    /// Where a store of an out-of-line routine begins, if this decoder can tell.
    pub position: Option<Position>,
    /// The place its code or data refers to, relative to the program counter, if this decoder can tell.
    pub refers: Option<u64>,
    pub text: String,
}

/// Every instruction of `function`. `Err`: the address of the first that is not one.
pub fn decode(architecture: Architecture, function: &Function) -> Result<Vec<Instruction>, u64> {
    match architecture {
        Architecture::X86_64 => x86_64::decode(&function.code, function.address),
        Architecture::Aarch64 => aarch64::decode(&function.code, function.address),
        other => panic!("no decoder for {other:?}"),
    }
}
