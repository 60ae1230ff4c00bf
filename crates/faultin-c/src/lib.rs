//! The C library of [faultin](https://crates.io/crates/faultin): memory that may fault, for C and C++.
//!
//! C programs include `faultin.h` and link with `-lfaultin`; `docs/c.md` says which call is for what. This crate defines the
//! functions, and no interface for Rust.
//!
//! # Conventions
//!
//! * Functions that move bytes return the number of bytes done. Other functions return 0, or an error number of `<errno.h>`.
//!   `errno` itself is not touched by the functions that are async-signal-safe.
//! * The last parameter of a function that may fail is a [`Fault`] that says why; it may be null. It is written if, and only if, the
//!   result is less than what was asked for, or not 0. With a length of 0 nothing is asked for.
//! * Without a handler the kernel makes the accesses. Nothing is installed before [`faultin_install`] is called.
//!
//! # Layers
//!
//! `fault` (the reason of a short result), `handler` (who has the signals); above them the accesses (`copy`, `scalar`,
//! `search`, `touch`, `iov`), the maps (`map`, `shared`, `guard`), `explain`, and `test_file`.

#![cfg(target_os = "linux")]

mod copy;
mod explain;
mod fault;
mod guard;
mod handler;
mod iov;
mod map;
mod scalar;
mod search;
mod shared;
mod test_file;
mod touch;

pub use copy::*;
pub use explain::*;
pub use fault::*;
pub use guard::*;
pub use handler::*;
pub use iov::*;
pub use map::*;
pub use scalar::*;
pub use search::*;
pub use shared::*;
pub use test_file::*;
pub use touch::*;
