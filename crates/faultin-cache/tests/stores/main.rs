//! Stores, and what the cache believes of them.
//!
//! * `appended`: appending past the cache.
//! * `descriptor`: what a file must be to be a store, and what other code does to it.
//! * `durable`: after a sync, the store's length and bytes are the file's, whatever happened before: a model, at random.
//! * `fork`: a child that drops what its parent has.
//! * `short`: short counts, and stores that end before their length.
//! * `signal`: no method of a store is called in a signal.

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

/// A file for a store, with these bytes in it.
fn file_with(path: &Path, bytes: &[u8]) -> File {
    std::fs::write(path, bytes).unwrap();
    opened(path, 0)
}

fn opened(path: &Path, flags: i32) -> File {
    File::options().read(true).write(true).custom_flags(flags).open(path).unwrap()
}
