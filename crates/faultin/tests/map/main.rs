//! Mapped files that really are cut, rewritten, replaced, deleted and full, under readers and writers. Every test runs
//! over both backends and on both kinds of file system there are here: one suite, the same answers.

mod changes;
mod fixture;
mod following;
mod kinds;
mod loops;
mod modes;
mod peer;
#[path = "../processes/mod.rs"]
#[allow(dead_code)]
mod processes;
mod reading;
mod searching;
mod segments;
mod space;
mod threads;
mod writing;
