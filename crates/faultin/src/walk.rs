//! Touching a range page by page, or letting the kernel populate it: whichever is cheaper here and now.
//!
//! A *touch* is a real access that changes nothing: a one-byte load, or `lock or [p], 0` and its like. *Populating* is
//! `MADV_POPULATE_READ` or `_WRITE`: one system call for many pages, far cheaper than a page fault each, far dearer than
//! a touch of a resident page, and almost free for huge pages. Which of them a range wants cannot be asked, only
//! measured while going: each block of pages is timed (with the CPU's counter) and the next one goes the cheaper way.
//!
//! Only a touch proves anything. Populating walks page tables; it refuses memory that can be read (`memfd_secret`,
//! device memory) and knows nothing of memory tags. So a refusal is settled by touching, and the first byte of a range
//! is always touched.

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::arch;
use crate::fault::Fault;

/// Pages in the first block that is populated, and the factor by which blocks grow.
const FIRST_BLOCK: usize = 16;
const GROWTH: usize = 4;

/// Pages in the largest block: 64 MiB of 4 KiB pages, so that a signal waits no longer than such a call takes.
const LARGEST_BLOCK: usize = 1 << 14;

/// From so many pages on, a look at what populating costs is worth its time even where touches are cheap: huge pages.
const LOOK_FOR_HUGE: usize = 1 << 11;

/// What to do with each page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    Read,
    Write,
}

impl Touch {
    /// # Safety
    /// The handler is reached; the range is foreign memory that we may access this way.
    #[inline(always)]
    unsafe fn page(self, ptr: *mut u8) -> Result<(), Fault> {
        // SAFETY: forwarded.
        unsafe {
            match self {
                Touch::Read => arch::touch_read(ptr),
                Touch::Write => arch::touch_write(ptr),
            }
        }
    }
}

/// The size of a page of this system, in bytes.
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

/// Touches the first byte of `ptr..ptr + len` and of every further page in it, or has the kernel populate those.
/// `Err`: the bytes before the first page that failed, and its fault.
///
/// # Safety
/// The handler is reached; the range is foreign memory that we may access this way.
pub(crate) unsafe fn pages(touch: Touch, ptr: *mut u8, len: usize) -> Result<(), (usize, Fault)> {
    if len == 0 {
        return Ok(());
    }
    let page = page_size();
    // SAFETY: forwarded.
    let at = |offset: usize| unsafe { touch.page(ptr.wrapping_add(offset)).map_err(|fault| (offset, fault)) };
    // Offset of the second page; those after it follow at page distance. A range that wraps ends in a fault.
    let to_next = page - (ptr.addr() & (page - 1));
    if len <= to_next {
        return at(0);
    }
    // One page more: its fault costs no more than asking would.
    let started = arch::cpu::ticks();
    at(0)?;
    let first = arch::cpu::ticks().wrapping_sub(started);
    let count = (len - to_next).div_ceil(page);
    let offset = |index: usize| to_next + index * page;
    let mut meter = Meter::new(touch, count, first);
    let mut index = 0;
    while index < count {
        let left = count - index;
        let (way, size) = meter.next(left);
        let end = index + size.min(left);
        let started = arch::cpu::ticks();
        match way {
            Way::Touch => {
                for i in index..end {
                    at(offset(i))?;
                }
            }
            Way::Populate => {
                let start = ptr.wrapping_add(offset(index));
                if populate(touch, start, (end - index) * page) {
                    // A page that just came in may be gone again, or never have been touchable.
                    if meter.confirm() {
                        for i in index..end {
                            at(offset(i))?;
                        }
                    }
                } else {
                    for i in index..end {
                        at(offset(i))?;
                    }
                    // All of it can be touched: the kernel's answer is of no use for this memory.
                    meter.forget_populate();
                }
            }
        }
        meter.took(way, end - index, arch::cpu::ticks().wrapping_sub(started));
        index = end;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Touch,
    Populate,
}

/// What each way costs in this range, in ticks per page times 16, as far as it has been tried.
struct Meter {
    touch: Option<u64>,
    populate: Option<u64>,
    may_populate: bool,
    /// The page before was not resident when it was touched.
    cold: bool,
    /// Two touches in a row were cold: no fault-around here.
    each_cold: bool,
    /// A look at the cost of populating is due, whatever touches cost.
    look: bool,
    size: usize,
}

impl Meter {
    fn new(touch: Touch, count: usize, first: u64) -> Self {
        let cold = first > arch::cpu::cold_ticks();
        Meter {
            touch: None,
            populate: None,
            may_populate: can_populate(),
            cold,
            each_cold: cold && touch == Touch::Write,
            look: count >= LOOK_FOR_HUGE,
            size: FIRST_BLOCK,
        }
    }

    /// The way and the size of the next block.
    fn next(&mut self, left: usize) -> (Way, usize) {
        if !self.may_populate {
            return (Way::Touch, left);
        }
        match (self.touch, self.populate) {
            (Some(t), Some(p)) if p <= t => (Way::Populate, self.size),
            (Some(_), Some(_)) => (Way::Touch, self.size),
            // Cold: populate, once it is clear that one fault does not bring the neighbours in, too.
            (None, None) if self.cold && self.each_cold => (Way::Populate, self.size),
            (None, None) if self.cold => (Way::Touch, 1),
            (None, None) if self.look => (Way::Populate, self.size * GROWTH),
            (None, Some(_)) if self.cold => (Way::Populate, self.size),
            (None, _) => (Way::Touch, self.size),
            (Some(t), None) if t / 16 > worth_a_look() => (Way::Populate, self.size),
            (Some(_), None) => (Way::Touch, self.size),
        }
    }

    fn took(&mut self, way: Way, pages: usize, ticks: u64) {
        if pages == 1 && way == Way::Touch {
            // The second touch after a cold one.
            if self.cold && ticks > arch::cpu::cold_ticks() {
                self.each_cold = true;
            } else {
                self.cold = false;
            }
            return;
        }
        let rate = Some(ticks * 16 / pages as u64);
        match way {
            Way::Touch => self.touch = rate,
            Way::Populate => {
                self.populate = rate;
                self.look = false;
            }
        }
        if pages >= self.size {
            self.size = (self.size * GROWTH).min(LARGEST_BLOCK);
        }
    }

    /// Whether populated pages are to be touched as well: not where they come in faster than they can be touched.
    fn confirm(&self) -> bool {
        self.cold
    }

    fn forget_populate(&mut self) {
        self.may_populate = false;
    }
}

/// Ticks per page above which populating might be cheaper than touching what is resident: what a page-table walk of the
/// kernel costs per page, about 30 ns.
fn worth_a_look() -> u64 {
    arch::cpu::cold_ticks() / 16
}

/// `MADV_POPULATE_READ` or `_WRITE`: whether the kernel says that all pages were populated.
fn populate(touch: Touch, start: *mut u8, len: usize) -> bool {
    let advice = match touch {
        Touch::Read => libc::MADV_POPULATE_READ,
        Touch::Write => libc::MADV_POPULATE_WRITE,
    };
    // SAFETY: populating changes no byte and no mapping; a range that is not ours to touch is an error.
    unsafe { libc::madvise(start.cast(), len, advice) == 0 }
}

/// Whether populating is to be trusted here: on Linux 6.1 it never returns from a file page that cannot be read, so it
/// is used from 6.12 on, where that is known to be mended. User-mode emulation does nothing and reports success: also for
/// the null page, which no kernel populates.
fn can_populate() -> bool {
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);
    match ANSWER.load(Ordering::Relaxed) {
        UNKNOWN => {
            let mended = kernel_version().is_some_and(|v| v >= (6, 12));
            let honest = || !populate(Touch::Read, core::ptr::null_mut(), page_size());
            let answer = if mended && honest() { YES } else { NO };
            ANSWER.store(answer, Ordering::Relaxed);
            answer == YES
        }
        answer => answer == YES,
    }
}

/// Major and minor version of the running kernel.
fn kernel_version() -> Option<(u32, u32)> {
    let mut name = core::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: fills the structure; all zero is a valid one, too.
    let name = unsafe {
        libc::uname(name.as_mut_ptr());
        name.assume_init()
    };
    let release: Vec<u8> = name.release.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    parse_version(core::str::from_utf8(&release).ok()?)
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_parse() {
        for (release, version) in [
            ("6.18.44-fc-v595", Some((6, 18))),
            ("6.1.0-13-amd64", Some((6, 1))),
            ("5.14", Some((5, 14))),
            ("7.0-rc3", Some((7, 0))),
            ("unknown", None),
        ] {
            assert_eq!(parse_version(release), version, "{release}");
        }
    }
}
