//! Bugs that such a pager could have, each behind a switch that is there in the crate's own tests only (`explore/`).

#![forbid(unsafe_code)]

#[cfg(test)]
pub(crate) use super::explore::has;

/// A bug of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bug {
    /// A clean page is installed without write protection (`UFFDIO_CONTINUE` with mode 0).
    InstallsUnprotected,
    /// What is written back is read first and protected then.
    ProtectsTooLate,
    /// What is written back is clean afterwards, although stores to it were never noticed.
    NeverProtects,
    /// The other mappings may go on storing to what is written back.
    ProtectsOneMapping,
    /// The memory goes, and then the pages.
    UnmapsAfterPunching,
    /// The memory goes, and the pages stay.
    NeverUnmaps,
    /// The pages of the other mappings stay.
    UnmapsOneMapping,
    /// A page that the memfd has is mapped, whatever the folio says.
    TrustsThePageCache,
    /// A page is writable, and is made dirty when the lock was free in between.
    DirtyTooLate,
    /// What was stored behind the end becomes a part of the file.
    ForgetsTheTail,
    /// A page that its state says to be accessible is not installed again.
    TrustsTheState,
    /// A page whose service has failed once fails for ever.
    KeepsPoison,
    /// A mark of write protection is in poison's way.
    PoisonsOverMarks,
    /// A page is served while somebody else is poisoning it, and loses its write protection.
    PoisonsInBetween,
    /// What is cut off from a folio in part stays up to date.
    KeepsWhatWasCut,
    /// In the signal, what the store fails to read is zeros.
    FailureIsZeros,
    /// In the signal, a folio that is there, but not all of it up to date, gets another one beside it.
    FillsWhatIsThere,
    /// Where the CPU does not say what an access was, what has faulted on a page that is readable by now was a store.
    TakesLoadsForStores,
    /// A page that the kernel did not take away is noted as taken.
    IgnoresRefusals,
}

/// Whether it is switched on.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn has(_: Bug) -> bool {
    false
}
