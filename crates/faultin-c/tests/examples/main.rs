//! The example programs, compiled as a user compiles them, with what pkg-config says about the installed library: each survives
//! what kills its naive twin (`-DNAIVE`), and says what happened.
//!
//! `cargo xtask env c` runs them with the library that `make install` has made, and installs what they need.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))]

#[allow(dead_code, reason = "other tests need the rest")]
#[path = "../common/mod.rs"]
mod common;
mod follow;
mod kit;
mod link;
mod quiet;
mod runtimes;
mod wl_shm;
