//! The write loops of rows 8 to 13 as settings of `faultin_cache`'s one loop. The tests of the cache run with each of them (they
//! include this file).
//!
//! | knob | in the kernel |
//! |---|---|
//! | [`FaultIn::AfterNothing`] | `generic_perform_write` since 6.14, fuse since 6.16 |
//! | [`FaultIn::BeforeSome`] | `generic_perform_write` 5.18 to 6.13, iomap since 5.18 |
//! | [`FaultIn::BeforeAll`] | fuse before 6.16, btrfs |
//! | [`Batch::Folio`] | `generic_perform_write`, iomap |
//! | [`Batch::Blocks`] | fuse: a request; btrfs: `nrptrs`; ntfs: a cluster |
//! | [`ShortCopy::Reject`] | `write_end` of `generic_perform_write`, iomap and ntfs |
//! | [`AfterShort::All`] | fuse |
//! | [`AfterShort::Copied`] | `generic_perform_write`, iomap, ntfs |
//! | [`AfterShort::Block`] | btrfs |
//! | [`WriteLoop::uptodate_after_nothing`], [`WriteLoop::reserve`] | btrfs |
//! | [`WriteLoop::preallocate`] | f2fs; [`Preallocate::IfFaultedIn`] as found |
//! | [`WriteLoop::write_through`] | fuse |

#![forbid(unsafe_code)]

use faultin_cache::write::{AfterShort, Batch, FaultIn, Preallocate, ShortCopy, WriteLoop};

/// `generic_perform_write` from 6.14 on.
pub const GENERIC_PERFORM_WRITE: WriteLoop =
    WriteLoop::DEFAULT.batch(Batch::Folio).short_copy(ShortCopy::Reject).after_short(AfterShort::Copied);

/// `generic_perform_write` from 5.18 to 6.13: faults in before each attempt.
pub const GENERIC_PERFORM_WRITE_5_18: WriteLoop = GENERIC_PERFORM_WRITE.fault_in(FaultIn::BeforeSome);

/// `iomap_write_iter` from 5.18 on, which was `iomap_write_actor`.
pub const IOMAP_WRITE_ITER_5_18: WriteLoop = GENERIC_PERFORM_WRITE_5_18;

/// `iomap_write_iter` with its prefault moved out of the way, as was proposed in 2025.
pub const IOMAP_WRITE_ITER: WriteLoop = GENERIC_PERFORM_WRITE;

/// `ntfs_perform_write` of the old driver: a cluster (here of two blocks) at a time.
pub const NTFS_PERFORM_WRITE_5_18: WriteLoop = GENERIC_PERFORM_WRITE_5_18.batch(Batch::Blocks(2));

/// `ntfs_perform_write`, faulting in after zero progress only.
pub const NTFS_PERFORM_WRITE: WriteLoop = NTFS_PERFORM_WRITE_5_18.fault_in(FaultIn::AfterNothing);

/// `fuse_fill_write_pages` from 6.16 on: a request is filled piece by piece, and sent.
pub const FUSE_FILL_WRITE_PAGES: WriteLoop = WriteLoop::DEFAULT.batch(Batch::Blocks(32)).write_through(true);

/// `fuse_fill_write_pages` up to 6.15: each piece must be faulted in as a whole, so it is a batch of its own.
pub const FUSE_FILL_WRITE_PAGES_5_16: WriteLoop =
    FUSE_FILL_WRITE_PAGES.fault_in(FaultIn::BeforeAll).batch(Batch::Blocks(1));

/// `btrfs_buffered_write` as proposed in the mail: some progress is enough.
pub const BTRFS_BUFFERED_WRITE: WriteLoop = WriteLoop::DEFAULT
    .batch(Batch::Blocks(8))
    .after_short(AfterShort::Block)
    .uptodate_after_nothing(true)
    .reserve(true);

/// `btrfs_buffered_write` before 6.16: each chunk must be faulted in as a whole.
pub const BTRFS_BUFFERED_WRITE_5_16: WriteLoop = BTRFS_BUFFERED_WRITE.fault_in(FaultIn::BeforeAll);

/// `f2fs_file_write_iter`: allocates what could be faulted in, and writes as `generic_perform_write`.
pub const F2FS_FILE_WRITE_ITER_5_18: WriteLoop = GENERIC_PERFORM_WRITE_5_18.preallocate(Preallocate::IfFaultedIn);

/// `f2fs_file_write_iter` without the check in advance: allocates, and frees what was not written.
pub const F2FS_FILE_WRITE_ITER: WriteLoop = GENERIC_PERFORM_WRITE.preallocate(Preallocate::Yes);
