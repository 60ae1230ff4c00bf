//! The configuration of writes.

#![forbid(unsafe_code)]

/// Number of bytes from which on a copy goes past the CPU's caches, if it may: before the next lock the CPU waits for the
/// stores to be done, which takes longer than it saves for few bytes.
const STREAMING_FROM: usize = 16 << 10;

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
/// let options = FileOptions::new().write_loop(WriteLoop::DEFAULT.reserve(true));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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

    /// Sets when the buffer is faulted in: [`fault_in`](field@Self::fault_in).
    #[must_use]
    pub const fn fault_in(mut self, fault_in: FaultIn) -> Self {
        self.fault_in = fault_in;
        self
    }

    /// Sets how much is copied before the inode lock is released: [`batch`](field@Self::batch).
    #[must_use]
    pub const fn batch(mut self, batch: Batch) -> Self {
        self.batch = batch;
        self
    }

    /// Sets the treatment of a copy that ended within a block whose rest is not valid: [`short_copy`](field@Self::short_copy).
    #[must_use]
    pub const fn short_copy(mut self, short_copy: ShortCopy) -> Self {
        self.short_copy = short_copy;
        self
    }

    /// Sets how much the next attempt requests after a short one: [`after_short`](field@Self::after_short).
    #[must_use]
    pub const fn after_short(mut self, after_short: AfterShort) -> Self {
        self.after_short = after_short;
        self
    }

    /// Sets whether blocks are read from the store after an attempt that moved nothing: [`uptodate_after_nothing`](field@Self::uptodate_after_nothing).
    #[must_use]
    pub const fn uptodate_after_nothing(mut self, uptodate_after_nothing: bool) -> Self {
        self.uptodate_after_nothing = uptodate_after_nothing;
        self
    }

    /// Sets whether space in the store is reserved for each block that becomes dirty: [`reserve`](field@Self::reserve).
    #[must_use]
    pub const fn reserve(mut self, reserve: bool) -> Self {
        self.reserve = reserve;
        self
    }

    /// Sets whether the store allocates the range before the first copy: [`preallocate`](field@Self::preallocate).
    #[must_use]
    pub const fn preallocate(mut self, preallocate: Preallocate) -> Self {
        self.preallocate = preallocate;
        self
    }

    /// Sets whether copied bytes are written to the store before the next batch: [`write_through`](field@Self::write_through).
    #[must_use]
    pub const fn write_through(mut self, write_through: bool) -> Self {
        self.write_through = write_through;
        self
    }

    /// Sets whether copies go past the CPU's caches: [`streaming`](field@Self::streaming).
    #[must_use]
    pub const fn streaming(mut self, streaming: bool) -> Self {
        self.streaming = streaming;
        self
    }
}

impl WriteLoop {
    /// Returns whether a copy of `len` bytes goes past the CPU's caches.
    #[inline]
    pub(crate) fn streams(&self, len: usize) -> bool {
        self.streaming && len >= STREAMING_FROM
    }

    /// Returns whether a write of cached bytes from memory that does not fault is one copy under one lock, and nothing else.
    pub(crate) fn is_one_copy(&self) -> bool {
        let WriteLoop { fault_in, batch, reserve, preallocate, write_through, .. } = self;
        *fault_in == FaultIn::AfterNothing
            && *batch == Batch::Whole
            && *preallocate == Preallocate::No
            && !(*reserve || *write_through)
    }
}

impl Default for WriteLoop {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All settings are listed, and none of them is a bug. Fails to compile if there is another one.
    #[test]
    fn no_setting_is_a_bug() {
        let WriteLoop {
            fault_in: _,
            batch: _,
            short_copy: _,
            after_short: _,
            uptodate_after_nothing: _,
            reserve: _,
            preallocate: _,
            write_through: _,
            streaming: _,
        } = WriteLoop::DEFAULT;
    }
}
