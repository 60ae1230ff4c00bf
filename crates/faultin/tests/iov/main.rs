//! Lists of segments: the bytes moved, the position afterwards, and the kernel's results for the same list.
//!
//! * `model`: random sequences of every operation on simulated memory, compared with a list of addresses.
//! * `kernel`: random layouts of real memory, compared with readv, writev, process_vm_readv and process_vm_writev.
//! * `limits`: what is refused and what is truncated, compared with the same system calls.
//! * `fault_in`, `pages`, `positions`: tables.

mod fault_in;
mod kernel;
mod limits;
mod model;
mod pages;
mod positions;
mod sim;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time on real memory: a hole may be filled by another test's mapping.
fn serial() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
