//! The configuration of writes: a few knobs, and the kernel's loops as settings of them.

#![forbid(unsafe_code)]

/// The configuration of a write.
///
/// The default is the best of the kernel's loops: copy first, fault in only when nothing moved, take every byte that was
/// copied, and hold the lock for as long as copies succeed. The other settings are those of the kernel's loops; each knob
/// names its users. A count is exact with every setting. Your own setting is `WriteLoop { reserve: true,
/// ..WriteLoop::DEFAULT }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteLoop {
    /// When the buffer is faulted in.
    pub fault_in: FaultIn,
    /// How much is copied before the inode lock is released.
    pub batch: Batch,
    /// The treatment of a copy that ended within a block whose rest is not valid.
    pub short_copy: ShortCopy,
    /// How much the next attempt requests after a short one.
    pub after_short: AfterShort,
    /// After an attempt that moved nothing, blocks are read from the store before the next copy, even if that would
    /// overwrite all of them: so a short copy leaves nothing to be cleaned up. Costs a read. (btrfs)
    pub uptodate_after_nothing: bool,
    /// Reserve space in the store for each block that becomes dirty, before it does, so that an exceeded quota is an error
    /// of the write and not of writeback. (btrfs; for stores that are thin, or shared)
    pub reserve: bool,
    /// Make the store allocate the range before the first copy, and free the unused part past the end. (f2fs; for stores
    /// that would be fragmented by many small extensions)
    pub preallocate: Preallocate,
    /// Write copied bytes to the store before the next batch, as a part of the write. (fuse; for stores that other code
    /// reads past the cache)
    pub write_through: bool,
    /// Copy past the CPU's caches (non-temporal stores) where it is faster, from 16 KiB on: for data that is not read soon.
    pub streaming: bool,
}

/// When a buffer is faulted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultIn {
    /// After an attempt that moved nothing. (generic_perform_write since 6.14, fuse since 6.16)
    AfterNothing,
    /// Before each attempt; it is an error if not even one byte could be. (generic_perform_write 5.18 to 6.13, iomap since
    /// 5.18)
    BeforeSome,
    /// Before each attempt; it is an error if any byte could not be, so the writable part of a batch is lost. (fuse before
    /// 6.16, btrfs)
    BeforeAll,
}

/// How much is copied under one hold of the inode lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Everything, folio after folio.
    Whole,
    /// A part of one folio. (generic_perform_write, iomap)
    Folio,
    /// This number of blocks, folio after folio. (fuse: a request; btrfs: `nrptrs`; ntfs: a cluster)
    Blocks(usize),
}

/// The treatment of a copy that ended within a block whose rest is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortCopy {
    /// The rest is read from the store, and every byte counts.
    Complete,
    /// `write_end` rejects the folio's part, except for what is before it in blocks that were valid (which show it
    /// already), and the next attempt requests as much as was rejected. (generic_perform_write, iomap, ntfs)
    Reject,
}

/// How much the next attempt requests after a short one; except that rejected bytes are requested alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterShort {
    /// All that is left. (fuse)
    All,
    /// Half of what was requested, down to a block, if nothing was copied; otherwise all that is left.
    /// (generic_perform_write, iomap, ntfs)
    Copied,
    /// A block, until the write ends. (btrfs)
    Block,
}

/// Whether the store allocates the range of a write in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preallocate {
    /// It does not.
    No,
    /// If every byte of the buffer could be faulted in. A heuristic: it may be wrong either way. (f2fs)
    IfFaultedIn,
    /// It does.
    Yes,
}

impl WriteLoop {
    /// The default.
    pub const DEFAULT: WriteLoop = WriteLoop {
        fault_in: FaultIn::AfterNothing,
        batch: Batch::Whole,
        short_copy: ShortCopy::Complete,
        after_short: AfterShort::All,
        uptodate_after_nothing: false,
        reserve: false,
        preallocate: Preallocate::No,
        write_through: false,
        streaming: false,
    };

    /// `generic_perform_write` from 6.14 on.
    pub const GENERIC_PERFORM_WRITE: WriteLoop = WriteLoop {
        batch: Batch::Folio,
        short_copy: ShortCopy::Reject,
        after_short: AfterShort::Copied,
        ..WriteLoop::DEFAULT
    };

    /// `generic_perform_write` from 5.18 to 6.13: faults in before each attempt.
    pub const GENERIC_PERFORM_WRITE_5_18: WriteLoop =
        WriteLoop { fault_in: FaultIn::BeforeSome, ..WriteLoop::GENERIC_PERFORM_WRITE };

    /// `iomap_write_iter` from 5.18 on, which was `iomap_write_actor`.
    pub const IOMAP_WRITE_ITER_5_18: WriteLoop = WriteLoop::GENERIC_PERFORM_WRITE_5_18;

    /// `iomap_write_iter` with its prefault moved out of the way, as was proposed in 2025.
    pub const IOMAP_WRITE_ITER: WriteLoop = WriteLoop::GENERIC_PERFORM_WRITE;

    /// `ntfs_perform_write` of the old driver: a cluster (here of two blocks) at a time.
    pub const NTFS_PERFORM_WRITE_5_18: WriteLoop =
        WriteLoop { batch: Batch::Blocks(2), ..WriteLoop::GENERIC_PERFORM_WRITE_5_18 };

    /// `ntfs_perform_write`, faulting in after zero progress only.
    pub const NTFS_PERFORM_WRITE: WriteLoop =
        WriteLoop { fault_in: FaultIn::AfterNothing, ..WriteLoop::NTFS_PERFORM_WRITE_5_18 };

    /// `fuse_fill_write_pages` from 6.16 on: a request is filled piece by piece, and sent.
    pub const FUSE_FILL_WRITE_PAGES: WriteLoop =
        WriteLoop { batch: Batch::Blocks(32), write_through: true, ..WriteLoop::DEFAULT };

    /// `fuse_fill_write_pages` up to 6.15: each piece must be faulted in as a whole, so it is a batch of its own.
    pub const FUSE_FILL_WRITE_PAGES_5_16: WriteLoop =
        WriteLoop { fault_in: FaultIn::BeforeAll, batch: Batch::Blocks(1), ..WriteLoop::FUSE_FILL_WRITE_PAGES };

    /// `btrfs_buffered_write` as proposed in the mail: some progress is enough.
    pub const BTRFS_BUFFERED_WRITE: WriteLoop = WriteLoop {
        batch: Batch::Blocks(8),
        after_short: AfterShort::Block,
        uptodate_after_nothing: true,
        reserve: true,
        ..WriteLoop::DEFAULT
    };

    /// `btrfs_buffered_write` before 6.16: each chunk must be faulted in as a whole.
    pub const BTRFS_BUFFERED_WRITE_5_16: WriteLoop =
        WriteLoop { fault_in: FaultIn::BeforeAll, ..WriteLoop::BTRFS_BUFFERED_WRITE };

    /// `f2fs_file_write_iter`: allocates what could be faulted in, and writes as `generic_perform_write`.
    pub const F2FS_FILE_WRITE_ITER_5_18: WriteLoop =
        WriteLoop { preallocate: Preallocate::IfFaultedIn, ..WriteLoop::GENERIC_PERFORM_WRITE_5_18 };

    /// `f2fs_file_write_iter` without the check in advance: allocates, and frees what was not written.
    pub const F2FS_FILE_WRITE_ITER: WriteLoop =
        WriteLoop { preallocate: Preallocate::Yes, ..WriteLoop::GENERIC_PERFORM_WRITE };
}

impl Default for WriteLoop {
    fn default() -> Self {
        Self::DEFAULT
    }
}
