//! Pages, each good or bad in its own way; memory with such pages; and the expected results of accesses.

use std::fmt::Debug;

use faultin::memory::{AtomicMemory, ReadMemory};
use faultin::{Access, Cause};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Good,
    ReadOnly,
    NoAccess,
    Unmapped,
    PastEnd,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Good, Kind::ReadOnly, Kind::NoAccess, Kind::Unmapped, Kind::PastEnd];

    /// Returns the cause for which `access` fails, if it does.
    pub fn cause(self, access: Access) -> Option<Cause> {
        match (self, access) {
            (Kind::Good, _) | (Kind::ReadOnly, Access::Read) => None,
            (Kind::ReadOnly, Access::Write) | (Kind::NoAccess, _) => Some(Cause::Protection),
            (Kind::Unmapped, _) => Some(Cause::Unmapped),
            (Kind::PastEnd, _) => Some(Cause::Backing),
        }
    }
}

/// A way to make memory.
pub trait Backend: Debug {
    type Memory: Memory;
    fn page_size(&self) -> usize;
    /// Pages of these kinds, filled with [`pattern`].
    fn memory(&self, kinds: &[Kind]) -> Self::Memory;
}

/// Pages of some kinds.
pub trait Memory {
    type Read: ReadMemory;
    type Write: AtomicMemory<Read = Self::Read>;
    /// All of it.
    fn read(&self) -> Self::Read;
    /// All of it.
    fn write(&self) -> Self::Write;
    /// The address of its first byte.
    fn base(&self) -> usize;
    /// All bytes as the other side sees them, whatever the pages' kinds.
    fn contents(&self) -> Vec<u8>;
}

/// Bytes that differ from their neighbours, from the canary and from the bytes that tests write.
pub fn pattern(at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 7)) as u8 & 0x3f
}

/// The byte that tests write, which differs from every [`pattern`].
pub fn written(at: usize) -> u8 {
    0x40 | pattern(at)
}

/// The byte that must stay unchanged.
pub const CANARY: u8 = 0xc9;

/// How many of `len` bytes at `offset` are accessible, and why the next one is not.
pub fn expected(kinds: &[Kind], page: usize, access: Access, offset: usize, len: usize) -> (usize, Option<Cause>) {
    let mut done = 0;
    while done < len {
        let at = offset + done;
        if let Some(cause) = kinds[at / page].cause(access) {
            return (done, Some(cause));
        }
        done += (page - at % page).min(len - done);
    }
    (len, None)
}
