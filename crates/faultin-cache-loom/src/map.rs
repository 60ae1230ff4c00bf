//! The stamp of a file, with the part of its crate that it needs.

/// The changes that are distinguished.
pub(crate) mod error {
    /// A file has changed.
    #[derive(Debug)]
    pub(crate) enum Change {
        Shrunk { from: u64, to: u64 },
        Grown { from: u64, to: u64 },
        Rewritten,
        Touched,
    }
}

#[path = "../../faultin/src/map/record.rs"]
pub(crate) mod record;
#[path = "../../faultin/src/map/stamp.rs"]
pub(crate) mod stamp;
#[path = "../../faultin/src/map/state.rs"]
mod state;
