//! Bugs of past loops, put back to test whether the project's own tests and its audit find them.
//!
//! The loops are generic over a [`Mutation`]. Every operation of a [`CachedFile`](crate::CachedFile) runs the instance of [`Sound`], in which
//! the compiler has removed each test for a bug. Other instances exist only in programs that implement the trait, which
//! safe code cannot do, and only for operations of a [`Mutated`] file. (Nor can safe code lie about what was copied into
//! the cache: [`CopyFrom`](crate::copy::CopyFrom) is sealed, and [`ReadMemory`](faultin::memory::ReadMemory) is an unsafe trait.)
//!
//! ```compile_fail,E0200
//! use faultin_cache::mutation::{Bug, Mutation};
//!
//! #[derive(Clone, Copy)]
//! struct Stale;
//! impl Mutation for Stale {
//!     fn bug(self) -> Option<Bug> {
//!         Some(Bug::ShowsStaleBytes)
//!     }
//! }
//! ```

#![deny(unsafe_code)]

mod mutated;

pub use mutated::Mutated;

/// Decides which bug the loops of an operation have.
///
/// # Safety
///
/// With a bug the cache breaks its promises: bytes of another file become visible, counts are wrong, and written bytes are
/// lost. An implementation is for tests whose files and buffers nothing else relies on.
#[allow(unsafe_code, reason = "safe code must have no way to a bug")]
pub unsafe trait Mutation: Copy {
    /// Returns the bug.
    fn bug(self) -> Option<Bug>;

    /// Reports whether it is this one.
    #[inline(always)]
    fn has(self, bug: Bug) -> bool {
        self.bug() == Some(bug)
    }
}

/// No bug.
#[derive(Clone, Copy, Debug)]
pub struct Sound;

// SAFETY: no bug.
#[allow(unsafe_code, reason = "as above")]
unsafe impl Mutation for Sound {
    #[inline(always)]
    fn bug(self) -> Option<Bug> {
        None
    }
}

// SAFETY: the files of the crate's own tests are used by nothing else.
#[cfg(test)]
#[allow(unsafe_code, reason = "as above")]
unsafe impl Mutation for Option<Bug> {
    fn bug(self) -> Option<Bug> {
        self
    }
}

/// A bug of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bug {
    /// The reservation of a round that moved nothing is kept (btrfs 2010, fixed by b1bf862e9dad).
    KeepsReservation,
    /// The next attempt asks for the bytes of the current segment, of which there are none in an empty one (fuse,
    /// CVE-2015-8785). The lengths of the segments.
    StepsBySegment([usize; 3]),
    /// A short copy counts without the rest of its block being valid (ext4 2015, 998ef75ddb57 was reverted).
    ShowsStaleBytes,
    /// After a copy that was rejected the next attempt asks for the same again (before bc1bb416bbb9, 5.14).
    AsksForTheSame,
    /// The outer layer continues if some bytes could be faulted in, the inner one only if all could (gfs2 and iomap before
    /// 46f3e0421ccb and 631f871f0717).
    TwoRules,
    /// After a short write, blocks that were written are freed with those that were not (gfs2, fixed by d031a8866e70).
    FreesWrittenBlocks,
    /// An error after partial success is reported without the success (iomap up to 6.4, fixed by 20c64ec83a9f).
    ForgetsProgress,
    /// Where to write is decided again in each round.
    DecidesPositionAgain,
    /// The position advances by all that was written, not by the last round's part (as in the reader of /proc/kcore).
    CumulativeCount,
    /// An attempt that moved nothing is repeated whatever the result of the fault-in.
    IgnoresFaultIn,
    /// The file gets the requested length before it is known how much is written (btrfs direct writes up to 6.3, fixed by
    /// b73a6fd1b1ef: a hole of zeros).
    LeavesZeros,
    /// The inode lock is held while the buffer is faulted in (2006, fixed by 08291429cfa6: copies under the page's lock;
    /// gfs2 before 5.16, fixed by 00bfe02f4796 and its series). Reads and direct I/O of the file, too.
    FaultsInUnderTheLock,
    /// A direct write evicts the cached part of its range before each attempt, also if that is its own buffer, and never
    /// falls back to the cache (btrfs and gfs2; fstests generic/729).
    InvalidatesItsSource,
}

impl Bug {
    /// All bugs.
    pub const ALL: [Bug; 13] = [
        Bug::KeepsReservation,
        Bug::StepsBySegment([0; 3]),
        Bug::ShowsStaleBytes,
        Bug::AsksForTheSame,
        Bug::TwoRules,
        Bug::FreesWrittenBlocks,
        Bug::ForgetsProgress,
        Bug::DecidesPositionAgain,
        Bug::CumulativeCount,
        Bug::IgnoresFaultIn,
        Bug::LeavesZeros,
        Bug::FaultsInUnderTheLock,
        Bug::InvalidatesItsSource,
    ];
}
