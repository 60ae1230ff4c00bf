//! Mappings of cached files: what they show, who serves their faults, and what becomes of what is stored through them. The same
//! answers in all modes.

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod common;

mod coherence;
mod errors;
mod faults;
mod modes;
mod threads;
