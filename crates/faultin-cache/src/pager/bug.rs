//! Bugs that such a pager could have, each behind a switch that exists in the crate's own tests only (`explore/`).

#![forbid(unsafe_code)]

#[cfg(test)]
pub(crate) use super::explore::has;

/// A bug of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bug {
    /// A clean page is installed without write protection (`UFFDIO_CONTINUE` with mode 0).
    InstallsUnprotected,
    /// Written-back bytes are read before the page is protected.
    ProtectsTooLate,
    /// Written-back pages are clean afterwards, although stores to them were never noticed.
    NeverProtects,
    /// The other mappings may continue to store to written-back pages.
    ProtectsOneMapping,
    /// The memory is punched before the pages are unmapped.
    UnmapsAfterPunching,
    /// The memory is punched, and the pages stay mapped.
    NeverUnmaps,
    /// The pages of the other mappings stay.
    UnmapsOneMapping,
    /// A page that the memfd has is mapped, whatever the folio's state.
    TrustsThePageCache,
    /// A page is writable, and is marked dirty only after the lock was free in between.
    DirtyTooLate,
    /// Bytes that were stored past the end become part of the file.
    ForgetsTheTail,
    /// A page whose state is accessible is not installed again.
    TrustsTheState,
    /// A page whose fault could not be resolved once fails forever.
    KeepsPoison,
    /// A mark of write protection prevents poison.
    PoisonsOverMarks,
    /// A page is resolved while another thread is poisoning it, and loses its write protection.
    PoisonsInBetween,
    /// The truncated part of a folio stays valid.
    KeepsWhatWasCut,
    /// In the signal, bytes that the store fails to read are zeros.
    FailureIsZeros,
    /// In the signal, an existing folio that is only partly valid gets a second one for the same page.
    FillsWhatIsThere,
    /// Where the CPU does not report the kind of access, a fault on a page that is readable by now is taken for a store.
    TakesLoadsForStores,
    /// A page that the kernel did not unmap is noted as unmapped.
    IgnoresRefusals,
}

/// Returns whether the bug is switched on.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn has(_: Bug) -> bool {
    false
}
