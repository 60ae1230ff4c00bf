//! Helpers that several tests share.
#![allow(dead_code, reason = "each test takes what it needs")]

pub mod buggy;
pub mod compare;
pub mod kernel_loops;
pub mod random;
pub mod stores;
pub mod watchdog;
