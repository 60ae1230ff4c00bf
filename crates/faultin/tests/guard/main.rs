//! Scans of mapped files that really are cut, fail and heal while anybody's code reads them. How processes die of what is
//! not served is in `tests/handler/scans.rs`.

// A list of one range is what is meant.
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
