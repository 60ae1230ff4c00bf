//! Scans of mapped files that are truncated, fail and recover while ordinary code reads them. `tests/handler/scans.rs`
//! tests how processes die of faults that are not handled.

// A list of one range is intended.
#![allow(clippy::single_range_in_vec_init)]

mod damage;
#[path = "../map/fixture.rs"]
#[allow(dead_code)]
mod fixture;
mod fork;
mod missing;
mod nesting;
mod others;
mod raw;
mod scan;
mod threads;
