//! Random sequences of operations, against a file that is a vector of bytes.
//!
//! * `operations`: every operation of a file, on caches and stores of every kind.
//! * `buffer`: the buffers they are given, good and bad, and what ought to happen to them.
//! * `loops`: the ways a write can go about it.
//! * `recycled`: memory that was another file's before.

mod buffer;
mod loops;
mod operations;
mod recycled;
mod world;

#[path = "../common/mod.rs"]
mod common;
