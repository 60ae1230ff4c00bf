//! [`LockId`]: a lock in reports, and in the lists of what threads hold.

use std::fmt;

/// Identifies a lock in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockId {
    pub(super) file: u64,
    pub(super) kind: LockKind,
}

/// The kind of a file's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockKind {
    /// Orders writes; held while a buffer is faulted in.
    Writers,
    /// Protects folios; taken to resolve a page fault.
    Inode,
    /// Orders writeback.
    Writeback,
    /// Orders syncs; held while the store makes its bytes durable.
    Sync,
}

impl LockKind {
    /// Returns whether resolving a page fault may need such a lock.
    #[inline]
    pub(super) const fn is_for_faults(self) -> bool {
        matches!(self, LockKind::Inode | LockKind::Writeback)
    }

    /// Returns the kind in words.
    pub const fn name(self) -> &'static str {
        match self {
            LockKind::Writers => "the writers' lock",
            LockKind::Inode => "the inode lock",
            LockKind::Writeback => "the writeback lock",
            LockKind::Sync => "the sync lock",
        }
    }
}

impl LockId {
    /// Returns the file's number, that of [`CachedFile::number`](crate::CachedFile::number).
    pub fn file(&self) -> u64 {
        self.file
    }

    /// Returns the kind of lock.
    pub fn kind(&self) -> LockKind {
        self.kind
    }
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of file {}", self.kind.name(), self.file)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockMode {
    Shared,
    Exclusive,
}
