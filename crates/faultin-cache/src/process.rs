//! The identity of a process: a child of `fork` is another one, although it has a copy of everything.
//!
//! Resources that are shared with the parent (descriptors), missing (`MADV_DONTFORK`), or wait for missing threads (locks)
//! must not be touched when a copy is dropped in a child. A process id does not tell: a child in a new namespace may have
//! its parent's, and ids are reused. The kernel wipes one page in each child, so a number there is this process's own.

use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys;
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The largest number that this process or one of its ancestors has had: it is copied to children.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Returns the number of this process, different from those of all its ancestors.
///
/// After the first call, in this process or an ancestor, it is a load, or in a child two atomic operations.
pub(crate) fn current() -> u64 {
    static PAGE: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
    let Some(page) = PAGE.get_or_init(wiped_on_fork) else {
        // Before Linux 4.14.
        return u64::from(sys::getpid());
    };
    match page.load(Ordering::Relaxed) {
        0 => {
            let new = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            page.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|now| now, |_| new)
        }
        number => number,
    }
}

/// Returns a number that is 0 in each new process. It stays forever.
fn wiped_on_fork() -> Option<&'static AtomicU64> {
    let page = rustix::param::page_size();
    let rights = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let base = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), page, rights, MapFlags::PRIVATE) }.ok()?;
    // SAFETY: that mapping, which has no bytes yet.
    let wiped = unsafe {
        // A user-mode emulator may accept any advice, and do nothing.
        let is_heard = libc::madvise(base, page, i32::MAX) != 0;
        is_heard && rustix::mm::madvise(base, page, Advice::LinuxWipeOnFork).is_ok()
    };
    if !wiped {
        // SAFETY: no other code has it.
        let _ = unsafe { rustix::mm::munmap(base, page) };
        return None;
    }
    // SAFETY: a page is aligned and large enough, its bytes are initialised, and it is never unmapped.
    NonNull::new(base.cast::<AtomicU64>()).map(|number| unsafe { number.as_ref() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `f` in a child, and returns its result, the exit status.
    fn in_child(f: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child computes and exits.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let status = f();
            // SAFETY: exits the child.
            unsafe { libc::_exit(status) };
        }
        let mut status = 0;
        // SAFETY: a child of this process, and a local for its status.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status), "{status:#x}");
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn a_child_and_its_child_are_others() {
        let first = current();
        assert_eq!(first, current());
        let differ = in_child(|| {
            let second = current();
            let third = in_child(|| {
                let third = current();
                i32::from(third != first && third != second && third == current())
            });
            i32::from(second != first && second == current() && third == 1)
        });
        assert_eq!((differ, current()), (1, first));
    }
}
