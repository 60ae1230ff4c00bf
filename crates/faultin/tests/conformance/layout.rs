//! Pages, each good or bad in its own way; memory that is made of them; and what is to be expected of it.

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

    /// Why `access` fails, if it does.
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
    /// What the other side sees: all bytes, whatever the pages' kinds.
    fn contents(&self) -> Vec<u8>;
}

/// Bytes that differ from their neighbours, and are neither a canary nor what tests write.
pub fn pattern(at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 7)) as u8 & 0x3f
}

/// What is written: told from every [`pattern`].
pub fn written(at: usize) -> u8 {
    0x40 | pattern(at)
}

/// What must stay untouched.
pub const CANARY: u8 = 0xc9;

/// How many of `len` bytes at `offset` can be accessed, and why the next cannot.
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
