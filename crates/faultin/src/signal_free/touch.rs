//! Accesses by the kernel that change nothing, and the cause of a failed one.
//!
//! `rt_sigprocmask(2)` reads the set that it is given before it checks what to do with it; with no operation, it fails with
//! `EFAULT` or `EINVAL`, which tells whether the set can be read. `futex(2)` with `FUTEX_WAKE_OP` makes one atomic
//! read-modify-write operation on a word; adding 0 stores what was there, and loses no store of another thread. Both access
//! the memory as this thread would: with its rights, keys and tags.

use crate::events::Outcome;
use crate::fault::{Access, Cause, Fault};
use crate::signal::inside::events::record_without_signal;
use crate::walk::{Touch, advise_populate, can_populate};
use crate::{arch, page_size};

use super::raw::call;

/// Size of the kernel's signal set in bytes.
const SET: usize = if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 16 } else { 8 };

/// Returns whether the byte at `address` can be accessed.
pub(super) fn is_accessible(access: Access, address: usize) -> bool {
    match access {
        Access::Read => is_readable(address),
        Access::Write => is_writable(address),
    }
}

fn is_readable(address: usize) -> bool {
    const NO_OPERATION: usize = i32::MAX as usize;
    // In the same page as the byte, and the same tag granule.
    let set = address & !(SET - 1);
    // SAFETY: reads a set, and changes no mask.
    let read = unsafe { call(libc::SYS_rt_sigprocmask, [NO_OPERATION, set, 0, SET, 0, 0]) };
    match read {
        Ok(_) | Err(libc::EINVAL) => true,
        Err(libc::EFAULT) => false,
        // A filter's answer says nothing about the set: populating needs the same rights.
        Err(_) => advise_populate(Touch::Read, page_of(address), page_size()).is_ok(),
    }
}

fn is_writable(address: usize) -> bool {
    /// Add 0; then compare with the least number, which few values are below.
    const ADD_NOTHING: usize = 1 << 28 | 2 << 24 | 0x800;
    let word = address & !3;
    let nobody = 0_u32;
    // SAFETY: adds 0 to a word that the caller may write. It may wake a waiter of that word spuriously, which every waiter
    // has to expect; no thread waits for the other one.
    let added = unsafe {
        let futex = (libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG) as usize;
        call(libc::SYS_futex, [(&raw const nobody).expose_provenance(), futex, 0, 0, word, ADD_NOTHING])
    };
    match added {
        Ok(_) => true,
        Err(libc::EFAULT) => false,
        // The operation does not exist here: populating needs the same rights.
        Err(_) => advise_populate(Touch::Write, page_of(address), page_size()).is_ok(),
    }
}

fn page_of(address: usize) -> usize {
    address & !(page_size() - 1)
}

/// Returns the fault of an access to the byte at `address` that has just failed. The kernel reports all of them as
/// `EFAULT`; populating the page distinguishes them, where it is reliable.
#[cold]
pub(super) fn fault(access: Access, address: usize) -> Fault {
    let page = page_of(arch::untag(address));
    let cause = if isize::try_from(arch::untag(address)).is_err() {
        // The upper half is the kernel's.
        Cause::Unmapped
    } else if can_populate() {
        let touch = if access == Access::Read { Touch::Read } else { Touch::Write };
        match advise_populate(touch, page, page_size()) {
            Err(libc::ENOMEM) => Cause::Unmapped,
            Err(libc::EINVAL) => Cause::Protection,
            Err(libc::EFAULT) => Cause::Backing,
            Err(libc::EHWPOISON) => Cause::Poison { extent: page_size() },
            _ => Cause::Other,
        }
    } else {
        let mut resident = 0_u8;
        // SAFETY: the kernel writes one byte for one page.
        match unsafe { call(libc::SYS_mincore, [page, 1, (&raw mut resident).expose_provenance(), 0, 0, 0]) } {
            Err(libc::ENOMEM) => Cause::Unmapped,
            _ => Cause::Other,
        }
    };
    let fault = Fault::rejected(access, cause, address);
    record_without_signal(Outcome::Reported, &fault, address);
    fault
}

/// Touches the byte at `address`.
///
/// # Errors
/// The [`Fault`] if the byte cannot be accessed.
pub(crate) fn touch(access: Access, address: usize) -> Result<(), Fault> {
    if is_accessible(access, address) { Ok(()) } else { Err(fault(access, address)) }
}
