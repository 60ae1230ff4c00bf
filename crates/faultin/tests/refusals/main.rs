//! Refusals by the environment, and effects that a library must not have: system calls that a filter forbids, the limit on
//! file sizes, lines without an end, record locks; and what an error keeps of all that.

mod errors;
mod file_size;
#[path = "../filters/mod.rs"]
mod filters;
mod lines;
mod locks;
mod statx;
