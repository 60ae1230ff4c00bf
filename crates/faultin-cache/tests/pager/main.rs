//! Mappings of cached files: what they show, who serves their faults, and what becomes of what is stored through them. The same
//! answers in all modes.

#[path = "../common/mod.rs"]
mod common;

mod coherence;
mod dropping;
mod errors;
mod faults;
mod found;
mod modes;
mod scarce;
mod segments;
mod signals;
mod threads;
