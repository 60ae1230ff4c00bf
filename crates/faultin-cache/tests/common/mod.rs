//! Helpers that several tests share.
#![allow(dead_code, reason = "each test takes what it needs")]

pub mod buggy;
pub mod compare;
#[path = "../../../faultin-audit/src/callers/kernel_loops.rs"]
pub mod kernel_loops;
pub mod stores;
pub mod watchdog;
