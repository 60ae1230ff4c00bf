//! Mapped files that really are cut, rewritten, replaced, deleted and full, under readers and writers. Every test runs
//! over both backends and on both kinds of file system there are here: one suite, the same answers. On systems other than Linux
//! (and with `--cfg faultin_portable`), what does not need a mapping runs over the one backend there is.

mod changes;
mod fixture;
mod following;
mod kinds;
#[cfg(not(faultin_portable))]
mod linux;
mod loops;
mod modes;
mod peer;
#[cfg(faultin_portable)]
mod portable;
mod reading;
mod searching;
#[cfg(not(faultin_portable))]
mod segments;
#[cfg(not(faultin_portable))]
mod space;
mod stalls;
mod threads;
#[cfg(not(faultin_portable))]
mod writing;
