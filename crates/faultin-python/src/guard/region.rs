//! A guarded part of a mapping: what happens in the signal handler.
//!
//! A page that cannot be provided is replaced by zeros. What is replaced is kept, and put back by [`Region::restore`]:
//!
//! * of a shared mapping, a second mapping of the same pages (`mremap` of nothing to a new place), made at the first fault;
//! * of a private mapping, which may hold the program's own changes, each replaced part itself, moved elsewhere
//!   (`MREMAP_DONTUNMAP`, Linux 5.13).
//!
//! The number of faults is bounded: what is past the end of the file is replaced at once, and of unreadable pages the first
//! fault replaces one page, each further one the aligned block of twice the size. In any order of reading this takes about
//! twice as many faults as the number of pages has bits.
//!
//! Code that runs in the signal: [`Region::serve`] and what it calls. Atomics and system calls only.

use core::mem::ManuallyDrop;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::ffi::OsString;

use faultin::pager::{Pager, SignalContext};
use faultin::{Access, Cause, Fault};

use super::file::{Identity, State, Way};
use super::maps::Mapping;

/// Maximum number of replaced parts: twice the bits of the number of pages of the largest mapping.
const PARTS: usize = 96;

/// Bytes of stack that [`Region::serve`] needs, with the checks of a debug build.
const STACK: usize = 2048;

/// Faults are handled.
const OPEN: u32 = 0;
/// Faults are not handled any more.
const CLOSED: u32 = u32::MAX;

/// The number of pages that were replaced, in this process.
pub(super) static SUBSTITUTED: AtomicUsize = AtomicUsize::new(0);

/// A guarded part of one mapping: whole pages.
#[derive(Debug)]
pub(super) struct Region {
    /// Its addresses.
    pub start: usize,
    pub end: usize,
    /// Bytes of a page.
    pub page: usize,
    pub is_writable: bool,
    pub is_shared: bool,
    /// Position in the file of `start`.
    pub offset: u64,
    pub file: Identity,
    /// The path of the mapping, as the kernel shows it.
    pub name: OsString,
    pub way: Way,
    /// [`OPEN`], [`CLOSED`], or the process whose handler is at work. A child of `fork` may inherit its parent's number: that
    /// handler does not exist in it.
    state: AtomicU32,
    /// The second mapping of a shared one; 0 if there is none.
    alias: AtomicUsize,
    /// The replaced parts; those before `count` do not change, and those after it mean nothing. Written by the handler that is at
    /// work.
    parts: ManuallyDrop<Box<Parts>>,
    count: AtomicUsize,
}

type Parts = [Part; PARTS];

/// The parts of a region that has ended, for the next one; null if there are none. They are two kilobytes, and a guard lasts
/// microseconds.
static SPARE: AtomicPtr<Parts> = AtomicPtr::new(ptr::null_mut());

fn parts() -> Box<Parts> {
    let spare = SPARE.swap(ptr::null_mut(), Ordering::Acquire);
    if spare.is_null() {
        return Box::new(core::array::from_fn(|_| Part::default()));
    }
    // SAFETY: from such a box, and nothing else has it.
    unsafe { Box::from_raw(spare) }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: nothing uses the field afterwards.
        let parts = unsafe { ManuallyDrop::take(&mut self.parts) };
        let other = SPARE.swap(Box::into_raw(parts), Ordering::AcqRel);
        if !other.is_null() {
            // SAFETY: as in `parts`.
            drop(unsafe { Box::from_raw(other) });
        }
    }
}

/// A replaced part.
#[derive(Debug, Default)]
struct Part {
    start: AtomicUsize,
    end: AtomicUsize,
    /// Where the pages are kept; 0 if the alias has them.
    aside: AtomicUsize,
}

// SAFETY: `in_signal` makes system calls that are async-signal-safe (`mmap`, `mremap`, `stat`, `getpid`, `sched_yield`), by
// functions of the C library that do nothing else, and restores `errno`. It allocates nothing, and touches no memory but this
// value, which is not in the region. It waits for another handler, which blocks all signals and touches no memory that
// faults.
unsafe impl Pager for Region {
    fn fault_in(&self, address: usize, _: usize, access: Access) -> Result<(), Fault> {
        // Accesses of faultin get the error itself.
        Err(Fault::rejected(access, Cause::Backing, address))
    }

    fn in_signal(&self, address: usize, access: Option<Access>, interrupted: &SignalContext) -> bool {
        // A store to memory that cannot be stored to fails for another reason.
        if interrupted.room < STACK || (access == Some(Access::Write) && !self.is_writable) {
            return false;
        }
        // SAFETY: the thread's own variable.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        let before = unsafe { *errno };
        let served = self.serve(address);
        // SAFETY: as above.
        unsafe { *errno = before };
        served
    }
}

impl Region {
    /// Makes a region of a part of a mapping.
    pub(super) fn new(mapping: &Mapping, addresses: Range<usize>, way: Way, file: Identity) -> Self {
        Region {
            start: addresses.start,
            end: addresses.end,
            page: mapping.page,
            is_writable: mapping.is_writable,
            is_shared: mapping.is_shared,
            offset: mapping.offset + (addresses.start - mapping.start) as u64,
            file,
            name: mapping.name.clone(),
            way,
            state: AtomicU32::new(OPEN),
            alias: AtomicUsize::new(0),
            parts: ManuallyDrop::new(parts()),
            count: AtomicUsize::new(0),
        }
    }

    /// Replaces the page at `address`, and perhaps more. Returns whether the access may be repeated.
    fn serve(&self, address: usize) -> bool {
        // SAFETY: no condition.
        let own = unsafe { libc::getpid() } as u32;
        loop {
            match self.state.compare_exchange(OPEN, own, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                Err(CLOSED) => return false,
                // Another thread of this process.
                // SAFETY: no condition.
                Err(other) if other == own => unsafe {
                    libc::sched_yield();
                },
                // A process that this one was forked from.
                Err(other) => match self.state.compare_exchange(other, own, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(_) => continue,
                },
            }
        }
        let served = self.replace(address);
        self.state.store(OPEN, Ordering::Release);
        served
    }

    fn replace(&self, address: usize) -> bool {
        let count = self.count.load(Ordering::Relaxed);
        if !(self.start..self.end).contains(&address) {
            return false;
        }
        // The pages around the address that are not replaced.
        let (mut low, mut high) = (self.start, self.end);
        for part in &self.parts[..count] {
            let (start, end) = (part.start.load(Ordering::Relaxed), part.end.load(Ordering::Relaxed));
            if (start..end).contains(&address) {
                // Another thread was faster.
                return true;
            }
            if end <= address {
                low = low.max(end);
            } else {
                high = high.min(start);
            }
        }
        let Some(part) = self.parts.get(count) else { return false };
        let size = self.way.state(self.file).map(|state| state.size);
        let first_lost = size.map_or(self.end, |size| self.first_page_past(size));
        let (start, end) = if address >= first_lost {
            (first_lost.max(low), high)
        } else {
            let block =
                self.page.checked_shl(count as u32).filter(|block| *block >= self.page).unwrap_or(usize::MAX / 2 + 1);
            let start = address & !(block - 1);
            (start.max(low), start.saturating_add(block).min(high))
        };
        let len = end - start;
        let aside = if self.is_shared {
            if self.alias.load(Ordering::Relaxed) == 0 {
                // SAFETY: makes a mapping, and changes none.
                let alias = unsafe {
                    let region = ptr::without_provenance_mut(self.start);
                    libc::mremap(region, 0, self.end - self.start, libc::MREMAP_MAYMOVE)
                };
                if alias == libc::MAP_FAILED {
                    return false;
                }
                self.alias.store(alias.addr(), Ordering::Relaxed);
            }
            0
        } else {
            // SAFETY: the pages are guarded, so their owner holds them; they are mapped as before, and empty.
            let aside = unsafe {
                let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
                libc::mremap(ptr::without_provenance_mut(start), len, len, flags, ptr::null_mut::<u8>())
            };
            if aside == libc::MAP_FAILED {
                return false;
            }
            aside.addr()
        };
        let rights = if self.is_writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: replaces guarded pages, in one step. Their owner expects the file's bytes or, under a guard, zeros.
        let zeros = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
            libc::mmap(ptr::without_provenance_mut(start), len, rights, flags, -1, 0)
        };
        if zeros == libc::MAP_FAILED {
            if aside != 0 {
                // SAFETY: puts back what was moved.
                unsafe { move_to(aside, start, len) };
            }
            return false;
        }
        part.start.store(start, Ordering::Relaxed);
        part.end.store(end, Ordering::Relaxed);
        part.aside.store(aside, Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Release);
        SUBSTITUTED.fetch_add(len / self.page, Ordering::Relaxed);
        true
    }

    /// Returns the address of the first page that has no byte of a file of `size` bytes; `end` if there is none.
    fn first_page_past(&self, size: u64) -> usize {
        let inside = size.saturating_sub(self.offset).next_multiple_of(self.page as u64);
        usize::try_from(inside).map_or(self.end, |inside| self.start.saturating_add(inside).min(self.end))
    }

    /// Returns the addresses that were replaced.
    pub(super) fn replaced(&self) -> impl Iterator<Item = Range<usize>> {
        let count = self.count.load(Ordering::Acquire);
        self.parts[..count].iter().map(|part| part.start.load(Ordering::Relaxed)..part.end.load(Ordering::Relaxed))
    }

    /// Returns the state of the file now, if a way leads to it.
    pub(super) fn file_state(&self) -> Option<State> {
        self.way.state(self.file).or_else(|| Way::search(&self.name, self.file))
    }

    /// Returns whether a fault is being handled, which may take as long as the file's server takes to answer.
    pub(super) fn is_busy(&self) -> bool {
        // SAFETY: no condition.
        self.state.load(Ordering::Relaxed) == unsafe { libc::getpid() } as u32
    }

    /// Ends the handling of faults, after those that are being handled.
    pub(super) fn close(&self) {
        loop {
            match self.state.compare_exchange(OPEN, CLOSED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) | Err(CLOSED) => return,
                // SAFETY: no condition.
                Err(other) if other == unsafe { libc::getpid() } as u32 => std::thread::yield_now(),
                Err(other) => {
                    if self.state.compare_exchange(other, CLOSED, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                        return;
                    }
                }
            }
        }
    }

    /// Puts back what was replaced. Returns whether everything was.
    ///
    /// # Safety
    /// The region is closed, and its addresses are still its owner's.
    pub(super) unsafe fn restore(&self) -> bool {
        let mut whole = true;
        let alias = self.alias.load(Ordering::Relaxed);
        if alias != 0 {
            // SAFETY: the same pages of the same file, in one step.
            return unsafe { move_to(alias, self.start, self.end - self.start) };
        }
        for part in &self.parts[..self.count.load(Ordering::Relaxed)] {
            let (start, end) = (part.start.load(Ordering::Relaxed), part.end.load(Ordering::Relaxed));
            // SAFETY: the pages that were here.
            whole &= unsafe { move_to(part.aside.load(Ordering::Relaxed), start, end - start) };
        }
        whole
    }
}

/// Moves a mapping to a place where another one is, which goes. Returns whether the kernel could.
///
/// # Safety
/// `len` bytes at `to` belong to the caller.
unsafe fn move_to(from: usize, to: usize, len: usize) -> bool {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: by contract.
    let moved = unsafe {
        libc::mremap(ptr::without_provenance_mut(from), len, len, flags, ptr::without_provenance_mut::<u8>(to))
    };
    moved != libc::MAP_FAILED
}
