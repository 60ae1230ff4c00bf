//! The configuration of writes.

#![forbid(unsafe_code)]

/// The configuration of a write.
///
/// The default copies first, faults in only when nothing moved, takes every byte that was copied, and holds the lock for as
/// long as copies succeed. A count is exact with every setting.
///
/// ```
/// use faultin_cache::FileOptions;
/// use faultin_cache::write::WriteLoop;
///
/// // An exceeded quota of the store is an error of the write, not of a later writeback.
/// let options = FileOptions::new().write_loop(WriteLoop { reserve: true, ..WriteLoop::DEFAULT });
/// ```
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
    /// overwrite all of them: so a short copy leaves nothing to be cleaned up. Costs a read.
    pub uptodate_after_nothing: bool,
    /// Reserve space in the store for each block that becomes dirty, before it does, so that an exceeded quota is an error
    /// of the write and not of writeback. For stores that are thinly provisioned or shared.
    pub reserve: bool,
    /// Make the store allocate the range before the first copy, and free the unused part past the end. For stores that
    /// many small extensions would fragment.
    pub preallocate: Preallocate,
    /// Write copied bytes to the store before the next batch, as a part of the write. For stores that other code reads
    /// directly, without this cache.
    pub write_through: bool,
    /// Copy past the CPU's caches (non-temporal stores) where it is faster, from 16 KiB on: for data that is not read soon.
    pub streaming: bool,
}

/// When a buffer is faulted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultIn {
    /// After an attempt that moved nothing.
    AfterNothing,
    /// Before each attempt. The write fails if not even one byte could be faulted in.
    BeforeSome,
    /// Before each attempt. The write fails if any byte could not be faulted in, so the accessible part of that batch is not
    /// written.
    BeforeAll,
}

/// How much is copied under one hold of the inode lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Everything, folio after folio.
    Whole,
    /// A part of one folio.
    Folio,
    /// This number of blocks, folio after folio.
    Blocks(usize),
}

/// The treatment of a copy that ended within a block whose rest is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortCopy {
    /// The rest is read from the store, and every byte counts.
    Complete,
    /// The copied bytes do not count, except those before that block in blocks that were valid (readers may have seen
    /// them), and the next attempt requests the rejected bytes again.
    Reject,
}

/// How much the next attempt requests after a short one; except that rejected bytes are requested alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterShort {
    /// All that is left.
    All,
    /// Half of what was requested, down to a block, if nothing was copied; otherwise all that is left.
    Copied,
    /// A block, until the write ends.
    Block,
}

/// Whether the store allocates the range of a write in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preallocate {
    /// It does not.
    No,
    /// If every byte of the buffer could be faulted in. A heuristic: it may be wrong either way.
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
}

impl Default for WriteLoop {
    fn default() -> Self {
        Self::DEFAULT
    }
}
