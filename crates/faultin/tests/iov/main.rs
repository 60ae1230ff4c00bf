//! Lists of segments: what moves, where the position is afterwards, and what the kernel says to the same list.
//!
//! * `model`: random sequences of every operation on simulated memory, against a list of addresses.
//! * `kernel`: random layouts of real memory, against readv, writev, process_vm_readv and process_vm_writev.
//! * `limits`: what is refused and what is cut off, against the same system calls.
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
