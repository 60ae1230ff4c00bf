//! Touching a range page by page, or letting the kernel populate it: whichever is cheaper at the moment.
//!
//! A *touch* is a real access that changes nothing: a one-byte load, or `lock or [p], 0` and its like. *Populating* is
//! `MADV_POPULATE_READ` or `_WRITE`: one system call for many pages, far cheaper than a page fault each, far more expensive
//! than a touch of a resident page, and almost free for huge pages. The better way for a range cannot be queried, only
//! measured during the walk: see [`meter`].
//!
//! Only a touch proves anything. Populating walks page tables; it rejects memory that can be read (`memfd_secret`, device
//! memory) and does not check memory tags. So a rejected range is touched, and the first byte of a range is always touched.

mod cost;
mod meter;
mod populate;

use core::sync::atomic::{AtomicUsize, Ordering};

use self::meter::{Meter, Way};
use self::populate::populate;
pub(crate) use self::populate::{advise_populate, can_populate};
use crate::fault::{Access, Cause, Fault};
use crate::signal::outside::pager;
use crate::{arch, signal_free};

/// How often a page that a pager brought in may be evicted again before it is touched.
const SERVED: usize = 64;

/// The access to each page. A fault aborts the process, unless the kernel touches or the handler is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    Write,
    /// As the other two, by system calls: the handler need not be installed.
    ReadByKernel,
    WriteByKernel,
}

impl Touch {
    /// Accesses the page of a byte, the first of `len` wanted bytes.
    ///
    /// # Safety
    /// The range is foreign memory that we may access this way.
    #[inline(always)]
    pub(crate) unsafe fn page(self, ptr: *mut u8, len: usize) -> Result<(), Fault> {
        // SAFETY: forwarded.
        unsafe { self.once(ptr).or_else(|fault| self.served(ptr, len, fault)) }
    }

    /// Accesses a page as [`page`](Self::page) does. Returns whether the page had to be brought in.
    ///
    /// # Safety
    /// As [`page`](Self::page).
    #[inline(always)]
    unsafe fn brings_in(self, ptr: *mut u8, len: usize) -> Result<bool, Fault> {
        // SAFETY: forwarded.
        unsafe {
            match self.once(ptr) {
                Ok(()) => Ok(false),
                Err(fault) => self.served(ptr, len, fault).map(|()| true),
            }
        }
    }

    /// Accesses the first page of a range, for example after a short copy. If the range has a pager that knows that a touch
    /// would fault, the pager is called without a touch, which would cost a signal.
    ///
    /// # Safety
    /// As [`page`](Self::page).
    unsafe fn first_page(self, ptr: *mut u8, len: usize) -> Result<(), Fault> {
        if pager::expects_fault(ptr.addr(), self.access()) {
            // If the pager rejects the page, it is not accessible; a page that it has brought in is touched all the same.
            pager::bring_in(ptr.addr(), len, self.access()).transpose()?;
        }
        // SAFETY: forwarded.
        unsafe { self.page(ptr, len) }
    }

    fn access(self) -> Access {
        match self {
            Touch::Read | Touch::ReadByKernel => Access::Read,
            Touch::Write | Touch::WriteByKernel => Access::Write,
        }
    }

    /// # Safety
    /// As [`page`](Self::page).
    #[inline(always)]
    unsafe fn once(self, ptr: *mut u8) -> Result<(), Fault> {
        // SAFETY: forwarded.
        unsafe {
            match self {
                Touch::Read => arch::touch_read(ptr),
                Touch::Write => arch::touch_write(ptr),
                Touch::ReadByKernel | Touch::WriteByKernel => signal_free::touch(self.access(), ptr.addr()),
            }
        }
    }

    /// After a fault: tries again, if the range has a pager.
    ///
    /// # Safety
    /// As [`page`](Self::page).
    #[cold]
    #[inline(never)]
    unsafe fn served(self, ptr: *mut u8, len: usize, mut fault: Fault) -> Result<(), Fault> {
        for _ in 0..SERVED {
            match pager::bring_in(ptr.addr(), len, self.access()) {
                None => break,
                Some(served) => served?,
            }
            // SAFETY: forwarded.
            match unsafe { self.once(ptr) } {
                Ok(()) => return Ok(()),
                Err(again) => fault = again,
            }
        }
        Err(fault)
    }
}

/// Returns the size of a page of this system in bytes.
pub fn page_size() -> usize {
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    match PAGE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: asks for a constant.
            let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let size = usize::try_from(size).ok().filter(|s| s.is_power_of_two()).unwrap_or(arch::MIN_PAGE);
            PAGE.store(size, Ordering::Relaxed);
            size
        }
        size => size,
    }
}

/// Touches the first byte of `ptr..ptr + len` and of every further page in it, or has the kernel populate those. `Err`: the
/// number of bytes before the first page that failed, or that was evicted for a later one, and its fault.
///
/// # Safety
/// The range is foreign memory that we may access this way.
pub(crate) unsafe fn pages(touch: Touch, ptr: *mut u8, len: usize) -> Result<(), (usize, Fault)> {
    if len == 0 {
        return Ok(());
    }
    let page = page_size();
    // Offset of the second page; those after it follow at page distance. A range that wraps ends in a fault.
    let to_next = page - (ptr.addr() & (page - 1));
    // SAFETY: forwarded.
    let first = || unsafe { touch.first_page(ptr, len).map_err(|fault| (0, fault)) };
    if len <= to_next {
        return first();
    }
    let first = timed(first)?;
    let count = (len - to_next).div_ceil(page);
    let offset = |index: usize| to_next + index * page;
    let has_pager = pager::serves(ptr.addr(), len);
    // Whether pages were brought in after the first, for which a pager may have evicted earlier ones. If the first one is
    // evicted, continuing is useless.
    let mut brought = false;
    let mut meter = Meter::new(ptr.addr(), count, first);
    let mut index = 0;
    let walked = loop {
        if index == count {
            break Ok(());
        }
        let (way, size) = meter.next(count - index);
        let end = index + size.min(count - index);
        let is_evicted = || has_pager && pager::expects_fault(ptr.addr(), touch.access());
        let ticks = timed(|| {
            if way == Way::Populate {
                brought = true;
                if populate(touch, ptr.wrapping_add(offset(index)), (end - index) * page) {
                    return if is_evicted() { Err(evicted(touch, ptr, offset(index))) } else { Ok(()) };
                }
                // If all of it can be touched, the kernel's answer is of no use for this memory.
                meter.never_populate();
            }
            (index..end).map(offset).try_for_each(|at| {
                // SAFETY: forwarded.
                if unsafe { touch.brings_in(ptr.wrapping_add(at), len - at) }.map_err(|fault| (at, fault))? {
                    brought = true;
                    if is_evicted() {
                        return Err(evicted(touch, ptr, at));
                    }
                }
                Ok(())
            })
        });
        match ticks {
            Ok(ticks) => meter.took(way, end - index, ticks),
            Err(error) => break Err(error),
        }
        index = end;
    };
    // SAFETY: forwarded.
    if brought { unsafe { still(touch, ptr, len, walked) } } else { walked }
}

/// Ends a prefix of `ptr..ptr + len` that was `walked` before the first page that a pager has evicted since. If that is the
/// very first page, it is brought in again, so that a caller that continues from there makes progress.
///
/// # Safety
/// As [`pages`].
pub(crate) unsafe fn still(
    touch: Touch,
    ptr: *mut u8,
    len: usize,
    walked: Result<(), (usize, Fault)>,
) -> Result<(), (usize, Fault)> {
    let page = page_size();
    let done = walked.map_or_else(|(done, _)| done, |()| len);
    match pager::first_gone(ptr.addr(), done, page, touch.access()) {
        None => walked,
        Some(0) => {
            let here = (page - (ptr.addr() & (page - 1))).min(len);
            // SAFETY: forwarded.
            unsafe { touch.first_page(ptr, here) }.map_err(|fault| (0, fault))?;
            if here == len { Ok(()) } else { Err(evicted(touch, ptr, here)) }
        }
        Some(gone) => Err(evicted(touch, ptr, gone)),
    }
}

/// Makes the result of `done` accessible bytes, where the pages after them do not stay resident together with them.
#[cold]
fn evicted(touch: Touch, ptr: *mut u8, done: usize) -> (usize, Fault) {
    (done, Fault::rejected(touch.access(), Cause::NotResident, ptr.wrapping_add(done).addr()))
}

/// Runs `f` and returns the ticks it took.
fn timed<E>(f: impl FnOnce() -> Result<(), E>) -> Result<u64, E> {
    let start = arch::cpu::ticks();
    f()?;
    Ok(arch::cpu::ticks().wrapping_sub(start))
}
