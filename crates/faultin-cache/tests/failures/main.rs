//! Stores that fail in every way, and requests that make no sense.
//!
//! * `every_call`: a sequence of operations in which each call of the store fails once; and random ones.
//! * `answers`: stores that answer short, nothing, too much, or were interrupted.
//! * `reports`: who hears of an error, and how often.
//! * `closing`: files that are closed before the store has taken everything.
//! * `full`: caches that are full of what the store does not take, and caches with hardly any memory.
//! * `hanging`: stores that do not answer.
//! * `panics`: stores and observers that panic.
//! * `deadlocks`: observers that call the file they look on.
//! * `requests`: positions, lengths, lists and options.
//! * `unsynced`: stores that lose what they have taken, and report it to one sync.

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
