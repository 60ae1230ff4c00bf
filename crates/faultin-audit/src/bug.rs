//! Bugs of past loops, each behind a switch that only the project's own tests turn on, to test whether the exploration
//! would have found them.

#![deny(unsafe_code)]

use faultin_cache::mutation::{Bug as WriteBug, Mutation};

/// A bug of the past, put back into the fixed variant of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bug {
    /// Rows 5 and 14: a partial fault-in is success, for callers that start from scratch. The mail begins with this.
    PartIsSuccess,
    /// Row 5: the length to prove comes from the frame, so its author chooses what is proven (5.13 to 6.7, fixed by
    /// d877550eaf2d).
    FrameNamesItsSize,
    /// Rows 5, 14 and 15: the helper reports success if it failed after the first page, by an underflow (5.18 to 6.14,
    /// fixed by 8c03ebd7cdc0).
    FailureBehindTheFirstPageIsSuccess,
    /// Rows 14 and 15: one byte of each page proves the page (a48b73eca4ce to 5.18).
    OneBytePerPage,
    /// Rows 7 and 16: the position in the page advances by the total count, not by the last copy's (as in the reader of
    /// /proc/kcore).
    CumulativeCount,
    /// Rows 7 and 16: steps by the length of the current segment, which may be 0 (CVE-2015-8785).
    RestsOnAnEmptySegment,
    /// Rows 7 and 16: a copy that is longer than the mapped part of the page continues past it (CVE-2024-50222).
    OverrunsTheMappedPart,
    /// Row 15: a truncated record is counted, and the search continues after it.
    CutRecordCounts,
    /// Row 15: returns an error with the tree still locked.
    KeepsTheLock,
    /// Row 15: copies to the user with page faults enabled while the tree is locked.
    FaultsUnderTheLock,
    /// Row 1: success is taken for failure (5.14, fixed by 0c8eb2884a42).
    Inverted,
    /// Rows 8 to 13: a bug of the write loops.
    Write(WriteBug),
    /// Rows 8 to 13: copies with page faults enabled under the inode lock (2006, fixed by 08291429cfa6).
    CopiesUnderTheLock,
}

impl Bug {
    /// All of them except the write loops' own.
    pub const ALL: [Bug; 12] = [
        Bug::PartIsSuccess,
        Bug::FrameNamesItsSize,
        Bug::FailureBehindTheFirstPageIsSuccess,
        Bug::OneBytePerPage,
        Bug::CumulativeCount,
        Bug::RestsOnAnEmptySegment,
        Bug::OverrunsTheMappedPart,
        Bug::CutRecordCounts,
        Bug::KeepsTheLock,
        Bug::FaultsUnderTheLock,
        Bug::Inverted,
        Bug::CopiesUnderTheLock,
    ];
}

/// The loops of `faultin_cache` with this bug, or with none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loops(pub(crate) Option<WriteBug>);

// SAFETY: the files of a caller of the audit are used by nothing else.
#[allow(unsafe_code, reason = "the audit is what the bugs are for")]
unsafe impl Mutation for Loops {
    fn bug(self) -> Option<WriteBug> {
        self.0
    }
}
