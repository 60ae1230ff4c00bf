//! Stores that fail in every way, and invalid requests.
//!
//! * `every_call`: a sequence of operations in which each call of the store fails once, and random sequences.
//! * `answers`: stores that return short counts, zero, excessive counts, or `EINTR`.
//! * `reports`: which handle gets an error, and how often.
//! * `closing`: files that are closed before the store has accepted everything.
//! * `full`: caches full of bytes that the store does not accept, and caches with hardly any memory.
//! * `hanging`: stores that hang.
//! * `panics`: stores and observers that panic.
//! * `deadlocks`: observers that call the file that they observe.
//! * `requests`: positions, lengths, lists and options.
//! * `unsynced`: stores that lose bytes that they have accepted, and report it to one sync.

mod answers;
mod closing;
mod deadlocks;
mod every_call;
mod faulty;
mod full;
mod hanging;
mod panics;
mod reports;
mod requests;
mod unsynced;

#[path = "../common/mod.rs"]
mod common;
