//! Bugs that such loops once had, each behind a switch that only the project's own tests turn on.

#![forbid(unsafe_code)]

/// A bug of the past, put back into a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bug {
    /// What was reserved for a round that moved nothing stays reserved (btrfs 2010, fixed by b1bf862e9dad).
    KeepsReservation,
    /// The next attempt asks for the bytes of the current segment, of which there are none in an empty one (fuse,
    /// CVE-2015-8785). The lengths of the segments.
    StepsBySegment([usize; 3]),
    /// A short copy counts without the rest of its block being brought up to date (ext4 2015, 998ef75ddb57 was reverted).
    ShowsStaleBytes,
    /// After a copy that was refused the next attempt asks for the same again (before bc1bb416bbb9, 5.14).
    AsksForTheSame,
    /// The outer layer goes on if some bytes could be faulted in, the inner one only if all could (gfs2 and iomap before
    /// 46f3e0421ccb and 631f871f0717).
    TwoRules,
    /// After a short write, blocks that were written are freed with those that were not (gfs2, fixed by d031a8866e70).
    FreesWrittenBlocks,
    /// An error after partial success is reported without the success (iomap up to 6.4, fixed by 20c64ec83a9f).
    ForgetsProgress,
    /// Where to write is decided again in each round.
    DecidesPositionAgain,
    /// The position advances by all that was written, not by what was written since (as the reader of /proc/kcore does).
    CumulativeCount,
    /// An attempt that moved nothing is made again whatever the fault-in says.
    IgnoresFaultIn,
    /// The file is made as long as was asked for, before it is known how much is written (btrfs direct writes up to 6.3,
    /// fixed by b73a6fd1b1ef: a hole of zeros).
    LeavesZeros,
    /// The inode lock is kept while the buffer is faulted in (2006, fixed by 08291429cfa6: copies under the page's lock; gfs2 before
    /// 5.16, fixed by 00bfe02f4796 and its series). Reads and direct I/O of the file, too.
    FaultsInUnderTheLock,
    /// A direct write takes what is cached of its range away before each attempt, also if that is its own buffer, and never falls back to
    /// the cache (btrfs and gfs2; fstests generic/729).
    InvalidatesItsSource,
}

impl Bug {
    /// All of them.
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
