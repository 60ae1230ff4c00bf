//! Stores, and the cache's assumptions about them.
//!
//! * `appended`: appends past the cache.
//! * `descriptor`: requirements on files as stores, and changes by other code.
//! * `durable`: after a sync, the store's length and bytes are the file's: a random model test.
//! * `fork`: a child that drops its parent's values.
//! * `short`: short counts, and stores that end before their length.
//! * `signal`: no method of a store is called in a signal handler.

mod appended;
mod descriptor;
mod durable;
mod fork;
mod short;
mod signal;

#[path = "../common/mod.rs"]
mod common;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A file with these bytes, for a store.
fn file_with(path: &Path, bytes: &[u8]) -> File {
    std::fs::write(path, bytes).unwrap();
    opened(path, 0)
}

fn opened(path: &Path, flags: i32) -> File {
    File::options().read(true).write(true).custom_flags(flags).open(path).unwrap()
}
