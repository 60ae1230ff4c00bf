//! One of the example programs; the test `examples` has all of them.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))]

#[allow(dead_code, reason = "other tests need the rest")]
mod common;
#[path = "examples/follow.rs"]
mod follow;
#[allow(dead_code, reason = "other tests need the rest")]
#[path = "examples/kit.rs"]
mod kit;
