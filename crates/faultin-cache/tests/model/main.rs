//! Random sequences of operations, compared with a vector of bytes as the file.
//!
//! * `operations`: every operation of a file, on caches and stores of every kind.
//! * `buffer`: the buffers of operations, with and without defects, and the expected results.
//! * `loops`: the write loops.
//! * `recycled`: memory that another file used before.

mod buffer;
mod loops;
mod operations;
mod recycled;
mod world;

#[path = "../common/mod.rs"]
mod common;
