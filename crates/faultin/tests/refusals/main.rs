//! What the surroundings of a program refuse, and what must not be taken from it: calls that a filter forbids, files that
//! may not become longer, lines without an end, record locks; and what an error keeps of all that.

mod errors;
mod file_size;
#[path = "../filters/mod.rs"]
mod filters;
mod lines;
mod locks;
mod statx;
