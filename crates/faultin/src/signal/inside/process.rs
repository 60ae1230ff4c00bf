//! The number of a process: a child of `fork` has another one, although it has a copy of everything.
//!
//! What is shared with the parent (descriptors), is not inherited (`MADV_DONTFORK`), or waits for threads that a child does
//! not have, must not be touched when a copy is dropped in the child. A process id does not tell: a child in a new
//! namespace may have its parent's, and ids are used again. The kernel wipes one page in each child, so a number there is
//! this process's own.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::registry::REGISTRY;
use crate::arch::context::syscall6;

/// Numbers a process. Each value numbers for itself: numbers of two of them do not compare.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Process {
    /// The number of this process, in a page that the kernel wipes in each child.
    page: AtomicPtr<AtomicU32>,
    /// The largest number that this process or one of its ancestors has had.
    last: AtomicU32,
}

/// Marks that there is no page that the kernel wipes in each child.
const NO_PAGE: *mut AtomicU32 = ptr::dangling_mut();

impl Process {
    pub(super) const fn new() -> Self {
        Process { page: AtomicPtr::new(ptr::null_mut()), last: AtomicU32::new(0) }
    }

    /// Returns a number that no ancestor of this process has, and that this process keeps: never 0. After the first call,
    /// in this process or an ancestor, this is two loads, or in a child two atomic operations more. Async-signal-safe.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        let mut page = self.page.load(Ordering::Acquire);
        if page.is_null() {
            page = self.wiped_on_fork();
        }
        if ptr::eq(page, NO_PAGE) {
            return process_id();
        }
        // SAFETY: a page that is never unmapped.
        let number = unsafe { &*page };
        match number.load(Ordering::Relaxed) {
            0 => self.first(number),
            number => number,
        }
    }

    #[cold]
    fn first(&self, number: &AtomicU32) -> u32 {
        let new = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        number.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|now| now, |_| new)
    }

    /// Makes the page of [`number`](Self::number), unless another thread is faster. Returns [`NO_PAGE`], from then on,
    /// before Linux 4.14, under an emulator that ignores the advice, and without memory: two ways to number a process must
    /// not mix.
    #[cold]
    fn wiped_on_fork(&self) -> *mut AtomicU32 {
        // The kernel rounds it up to a page.
        let (len, rights) = (crate::arch::MIN_PAGE, (libc::PROT_READ | libc::PROT_WRITE) as usize);
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
        // SAFETY: a new mapping that no other code knows until it is published, and advice about it.
        let (page, is_wiped) = unsafe {
            let page = syscall6(libc::SYS_mmap, [0, len, rights, flags, usize::MAX, 0]);
            let advise =
                |advice: i32| syscall6(libc::SYS_madvise, [page.cast_unsigned(), len, advice as usize, 0, 0, 0]);
            // A user-mode emulator may accept any advice, and do nothing.
            (page, page > 0 && advise(i32::MAX) != 0 && advise(libc::MADV_WIPEONFORK) == 0)
        };
        let new = if is_wiped { ptr::with_exposed_provenance_mut(page.cast_unsigned()) } else { NO_PAGE };
        let published = self.page.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire);
        if page > 0 && !(is_wiped && published.is_ok()) {
            // SAFETY: no other code knows the mapping.
            unsafe { syscall6(libc::SYS_munmap, [page.cast_unsigned(), len, 0, 0, 0, 0]) };
        }
        published.map_or_else(|now| now, |_| new)
    }
}

fn process_id() -> u32 {
    // SAFETY: queries a number.
    unsafe { syscall6(libc::SYS_getpid, [0; 6]) as u32 }
}

/// Returns the number of this process: none of its ancestors has it, and the process keeps it. For code of this project
/// that must tell a child of `fork` from its parent. Not part of the interface.
///
/// This object numbers for itself. The registry may be another object's, and is not known before the first installation:
/// its numbers would not be the same all the time.
///
/// After the first call, in this process or an ancestor, this is a few loads. Async-signal-safe.
#[doc(hidden)]
#[inline]
pub fn process() -> u32 {
    REGISTRY.process.number()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what `f` returns in a child, as an exit status.
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
        let first = process();
        assert_eq!(first, process());
        let differ = in_child(|| {
            let second = process();
            let third = in_child(|| {
                let third = process();
                i32::from(third != first && third != second && third == process())
            });
            i32::from(second != first && second == process() && third == 1)
        });
        assert_eq!((differ, process()), (1, first));
    }

    #[test]
    fn an_installation_changes_no_number() {
        let first = process();
        crate::install().unwrap();
        assert_eq!(process(), first);
    }

    #[test]
    fn threads_that_ask_first_get_one_number() {
        let process = Process::new();
        let ask = || std::thread::scope(|scope| [(); 4].map(|()| scope.spawn(|| process.number())).map(|t| t.join()));
        let numbers = ask().map(Result::unwrap);
        assert!(numbers[0] != 0 && numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
    }
}
