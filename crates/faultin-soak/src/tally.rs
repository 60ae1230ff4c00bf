//! Counters of operations.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use faultin_cache::pager::FaultCounts;

macro_rules! kinds {
    ($($kind:ident $name:literal)*) => {
        /// The kind of an operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    Read "read"
    ReadDirect "read, direct"
    Write "write"
    WriteDirect "write, direct"
    Append "append"
    AppendBad "append from a buffer that faults"
    Grow "grow from its own last page"
    ReadBad "read to a buffer that faults"
    WriteBad "write from a buffer that faults"
    Load "load by instructions"
    Store "store by instructions"
    ViewRead "load by a view"
    ViewWrite "store by a view"
    Syscall "system call on a mapping"
    Wander "read of what others change"
    Behind "access behind the end"
    Map "map"
    Unmap "unmap"
    SetLen "truncate and grow"
    Punch "punch"
    Sync "fsync"
    Stored "length of the store compared"
    WriteBack "write back"
    WillNeed "will need"
    TryRead "read without waiting"
    ReadMany "read of several ranges"
    Prefetch "prefetch"
    Resident "what is resident"
    DontNeed "evict a part"
    DropClean "evict all files"
    Whole "whole file compared"
    Settled "whole store compared"
    WriteAgain "write what a sync has lost"
    Reopen "close and open"
}

/// The number of operations of each kind.
#[derive(Debug)]
struct Kinds([AtomicU64; Kind::ALL.len()]);

impl Default for Kinds {
    fn default() -> Self {
        Kinds([const { AtomicU64::new(0) }; Kind::ALL.len()])
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct Tally {
    kinds: Kinds,
    /// Number of buffers that were mappings.
    pub mapped_buffers: AtomicU64,
    /// Number of operations that a store's failure has ended.
    pub excused: AtomicU64,
    /// Number of operations that gave up because their buffer was evicted repeatedly.
    pub gave_up: AtomicU64,
    /// Number of system calls that returned `EFAULT` and then succeeded.
    pub repeated: AtomicU64,
    /// Number of evictions by threads that do nothing else, and how often these began and ended.
    pub evictions: AtomicU64,
    pub bursts: AtomicU64,
    pub in_signal: AtomicU64,
    pub by_thread: AtomicU64,
    pub by_call: AtomicU64,
    pub rejected: AtomicU64,
}

impl Tally {
    pub fn count(&self, kind: Kind) {
        self.kinds.0[kind as usize].fetch_add(1, Relaxed);
    }

    pub fn of(&self, kind: Kind) -> u64 {
        self.kinds.0[kind as usize].load(Relaxed)
    }

    pub fn operations(&self) -> u64 {
        self.kinds.0.iter().map(|kind| kind.load(Relaxed)).sum()
    }

    /// Adds the faults of a dropped mapping.
    pub fn add(&self, faulted: FaultCounts) {
        self.in_signal.fetch_add(faulted.in_signal, Relaxed);
        self.by_thread.fetch_add(faulted.by_thread, Relaxed);
        self.by_call.fetch_add(faulted.by_call, Relaxed);
        self.rejected.fetch_add(faulted.rejected, Relaxed);
    }
}
