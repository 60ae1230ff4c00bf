//! Guarded mappings: while foreign code reads one, a page that cannot be provided is replaced by a page of zeros, and this
//! is recorded.
//!
//! The handler calls this module when an instruction is in no table. It substitutes only between [`begin`](Guard::begin)
//! and [`end`](Guard::end), which are [outside](crate::signal::outside::guard) with all else that its owner does: any other
//! access to the mapping dies as it would without us. A substitution is recorded
//! *before* it takes effect, so a reader of such a zero finds out.
//!
//! A [`Guard`] is in a [slot](super::slots) that is never freed and is used for another mapping later, because a handler may be
//! reading it in any thread at any time. Handlers count themselves in and out.

use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::epoch::Epoch;
use super::handler::BUS_MCEERR_AR;
use super::registry::Registry;
use super::reserve::{Reserve, put_zeros};
use super::slots::Blank;
use super::users::Users;
use crate::arch::context::syscall6;
use crate::fault::Access;

/// Number of records of damage; further damage widens the last record. More than the possible number of doublings.
const RECORDS: usize = 48;

const BUS_ADRERR: c_int = 2;

/// The data of one mapping that a handler needs.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Guard {
    /// Handlers that are using it; they substitute only while a scan reads the mapping.
    pub(in crate::signal) handlers: Users,
    /// The process that reads it: a child does not wait for handlers of its parent's threads.
    pub(in crate::signal) process: AtomicU32,
    pub(crate) epoch: Epoch,
    pub(in crate::signal) start: AtomicUsize,
    pub(in crate::signal) len: AtomicUsize,
    pub(in crate::signal) page: AtomicUsize,
    pub(in crate::signal) file: AtomicI32,
    /// Offset in the file at which the mapping begins.
    pub(in crate::signal) offset: AtomicU64,
    /// Device and inode of the file; the inode is 0 until they are known.
    pub(in crate::signal) device: AtomicU64,
    pub(in crate::signal) inode: AtomicU64,
    /// The number of events when it was registered: later ones at its addresses are its own.
    pub(in crate::signal) since: AtomicU64,
    /// Odd while it is registered, and never the same for two registrations.
    pub(in crate::signal) version: AtomicU64,
    /// Number of substitutions so far, also those without a record of their own.
    pub(in crate::signal) count: AtomicUsize,
    /// Number of them that were not for the end of the file.
    pub(in crate::signal) blocks: AtomicUsize,
    /// How often there was no room for a substitution since this scan began.
    pub(in crate::signal) wants: AtomicUsize,
    /// The lowest end of the file that was seen, in bytes of the mapping.
    pub(in crate::signal) cut_to: AtomicU64,
    pub(in crate::signal) records: [Record; RECORDS],
}

/// Bytes of the mapping, `from..to`; none if `from >= to`.
#[derive(Debug)]
#[repr(C)]
pub(in crate::signal) struct Record {
    pub(in crate::signal) from: AtomicUsize,
    pub(in crate::signal) to: AtomicUsize,
}

impl Record {
    fn widen(&self, range: &Range<usize>) {
        self.from.fetch_min(range.start, Ordering::SeqCst);
        self.to.fetch_max(range.end, Ordering::SeqCst);
    }
}

// SAFETY: atomic variables, for which all zeros is a value.
unsafe impl Blank for Guard {}

impl Guard {
    /// Returns the addresses of the mapping.
    pub(in crate::signal) fn range(&self) -> Range<usize> {
        let start = self.start.load(Ordering::Relaxed);
        start..start + self.len.load(Ordering::Relaxed)
    }

    /// Returns the end of the file in bytes of the mapping; `None` if the kernel does not report it.
    fn file_end(&self) -> Option<u64> {
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        let arguments = [self.file.load(Ordering::Relaxed) as usize, stat.as_mut_ptr().expose_provenance(), 0, 0, 0, 0];
        // SAFETY: the kernel writes one `stat`, which on these architectures is the C library's.
        if unsafe { syscall6(libc::SYS_fstat, arguments) } != 0 {
            return None;
        }
        // SAFETY: written by the kernel.
        let size = unsafe { stat.assume_init() }.st_size;
        Some((size as u64).saturating_sub(self.offset.load(Ordering::Relaxed)))
    }

    /// Maps zeros where the file has no page at `at` bytes of the mapping, or the page cannot be read.
    ///
    /// Past the end of the file everything is replaced, so a truncated file costs one signal. Elsewhere the extent of the
    /// damage is unknown: the first fault replaces its page, each further one the aligned block of twice as many pages that
    /// contains its page. So a mapping of *n* pages costs at most about log2(*n*) signals, whatever fails in it and in
    /// which order it is read. If it is read upwards, no page before the first bad one is replaced.
    ///
    /// No arithmetic here may overflow: `len` is a multiple of the page, and everything is clamped to it first.
    fn substitute(&self, reserve: &Reserve, at: usize) -> bool {
        let (page, len) = (self.page.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed));
        let (at, end) = (at & !(page - 1), self.file_end().unwrap_or(u64::MAX));
        // Exactly from where it ends, and the pages after it.
        let range = if end <= at as u64 {
            self.cut_to.fetch_min(end, Ordering::SeqCst);
            end as usize..len
        } else {
            let doublings = self.blocks.fetch_add(1, Ordering::Relaxed).min(RECORDS) as u32;
            let block = page.checked_shl(doublings).filter(|block| *block != 0 && block >> doublings == page);
            let block = block.map_or(len, |block| block.min(len));
            let end = usize::try_from(end).map_or(len, |end| end.min(len)).next_multiple_of(page);
            let start = if block.is_power_of_two() { at & !(block - 1) } else { 0 };
            start..(start + block.min(len - start)).min(end).max(at + page)
        };
        let pages = range.start.next_multiple_of(page)..range.end;
        self.record(range);
        match self.replace(&pages) {
            Ok(()) => true,
            Err(error) => self.substitute_all(reserve, &pages, error),
        }
    }

    /// Handles the case that a part cannot be replaced (there are too many mappings, or its pages are huge ones): unmaps
    /// what was set aside. The second time in a scan, and if the part still cannot be replaced, replaces the whole: that
    /// adds no mapping, and there will be no third time.
    #[cold]
    fn substitute_all(&self, reserve: &Reserve, pages: &Range<usize>, error: c_int) -> bool {
        if error == libc::ENOMEM
            && self.wants.fetch_add(1, Ordering::Relaxed) == 0
            && reserve.give_up_one()
            && self.replace(pages).is_ok()
        {
            return true;
        }
        // Number of tries with nothing left to unmap: another thread may have mapped what this one has freed, and may unmap
        // something.
        const TRIES: u32 = 64;
        // A yield would not let a thread of a lower priority run.
        const PAUSE: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 50_000 };
        let (whole, mut tries) = (0..self.len.load(Ordering::Relaxed), 0);
        self.record(whole.clone());
        loop {
            match self.replace(&whole) {
                Ok(()) => return true,
                Err(libc::ENOMEM) if reserve.give_up_one() => {}
                Err(libc::ENOMEM) if tries < TRIES => {
                    tries += 1;
                    sleep(&PAUSE);
                }
                Err(_) => return false,
            }
        }
    }

    fn record(&self, range: Range<usize>) {
        self.epoch.damage();
        let record = self.count.fetch_add(1, Ordering::SeqCst).min(RECORDS - 1);
        self.records[record].widen(&range);
    }

    fn replace(&self, range: &Range<usize>) -> Result<(), c_int> {
        // SAFETY: a part of the mapping, which its owner keeps during a scan.
        unsafe { put_zeros(self.start.load(Ordering::Relaxed) + range.start, range.len()) }
    }
}

/// Sleeps; a signal may end the sleep early. Async-signal-safe.
fn sleep(time: &libc::timespec) {
    // SAFETY: the kernel reads the time.
    unsafe { syscall6(libc::SYS_nanosleep, [ptr::from_ref(time).expose_provenance(), 0, 0, 0, 0, 0]) };
}

/// Returns whether the fault at `address`, in the guarded mapping, is one of a scan's, and the access may be repeated now. A
/// store may not: it would meet zeros that cannot be written to.
///
/// Async-signal-safe: system calls and atomic variables only.
#[cold]
#[inline(never)]
pub(super) fn serve(
    registry: &Registry,
    guard: &Guard,
    signal: c_int,
    code: c_int,
    access: Option<Access>,
    address: usize,
) -> bool {
    if signal != libc::SIGBUS || !matches!(code, BUS_ADRERR | BUS_MCEERR_AR) || access == Some(Access::Write) {
        return false;
    }
    let at = || address.wrapping_sub(guard.start.load(Ordering::Relaxed));
    let contains = || at() < guard.len.load(Ordering::Relaxed);
    // The range of a mapping does not change during a scan.
    let served = guard.handlers.enter() && contains() && guard.substitute(&registry.reserve, at());
    // The owner waits until it can claim the guard.
    let _ = guard.handlers.leave();
    served
}
