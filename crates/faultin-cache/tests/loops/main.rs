//! The loops between files and buffers: each ends, moves every byte that can be moved, and reads each byte of a store about
//! once.
//!
//! * `growth`: files that grow from a mapping of their own last page.
//! * `windows`: buffers that are mappings, in caches that are smaller than the buffer.
//! * `random`: buffers, segments and caches of any shape.
//! * `narrow`: accesses that need more pages than the cache has, also while the store refuses writes.
//! * `eviction`: threads that evict pages while a file is read or written.
//! * `sound`: safe code cannot inject a known bug.

#[path = "../common/mod.rs"]
mod common;

mod counted;
mod eviction;
mod growth;
mod narrow;
mod random;
mod sound;
mod windows;
