//! Touching a range page by page, or letting the kernel populate it: whichever is cheaper here and now.
//!
//! A *touch* is a real access that changes nothing: a one-byte load, or `lock or [p], 0` and its like. *Populating* is
//! `MADV_POPULATE_READ` or `_WRITE`: one system call for many pages, far cheaper than a page fault each, far dearer than
//! a touch of a resident page, and almost free for huge pages. Which of them a range wants cannot be asked, only
//! measured while going: see [`Meter`].
//!
//! Only a touch proves anything. Populating walks page tables; it refuses memory that can be read (`memfd_secret`,
//! device memory) and knows nothing of memory tags. So a refusal is settled by touching, and the first byte of a range
//! is always touched.

use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::arch;
use crate::fault::Fault;
use crate::populate_cost::PopulateCost;

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
    let first = timed(|| at(0))?;
    let count = (len - to_next).div_ceil(page);
    let offset = |index: usize| to_next + index * page;
    let mut meter = Meter::new(ptr.addr(), count, first);
    let mut index = 0;
    while index < count {
        let (way, size) = meter.next(count - index);
        let end = index + size.min(count - index);
        let ticks = timed(|| {
            if way == Way::Populate {
                if populate(touch, ptr.wrapping_add(offset(index)), (end - index) * page) {
                    return Ok(());
                }
                // If all of it can be touched, the kernel's answer is of no use for this memory.
                meter.may_populate = false;
            }
            (index..end).try_for_each(|i| at(offset(i)))
        })?;
        meter.took(way, end - index, ticks);
        index = end;
    }
    Ok(())
}

/// Runs `f` and returns the ticks it took.
fn timed<E>(f: impl FnOnce() -> Result<(), E>) -> Result<u64, E> {
    let start = arch::cpu::ticks();
    f()?;
    Ok(arch::cpu::ticks().wrapping_sub(start))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Touch,
    Populate,
}

/// Pages in the first block, and the factor by which blocks grow.
const FIRST_BLOCK: usize = 16;
const GROWTH: usize = 4;
const HUGE_GROWTH: usize = 64;

/// Pages in the largest block: 64 MiB of 4 KiB pages, so that a signal waits no longer than such a call takes.
const LARGEST_BLOCK: usize = 1 << 14;

/// From so many pages on, a look at whether they are huge is worth its time: at once where the first page was not
/// resident, and only for many more where touching them all takes little longer than the look.
const LOOK_IF_COLD: usize = 1 << 9;
const LOOK_IF_WARM: usize = 3 << 10;

/// Where the last range of huge pages began: one that begins there again is taken for one without a look, until that
/// proves wrong, which costs one block.
static LAST_HUGE: AtomicUsize = AtomicUsize::new(0);

/// Chooses the way through a range block by block, by what the blocks before it cost.
///
/// * The first page was resident: touch, in growing blocks.
/// * It was not: touch one more. If that faults as well, no fault brings its neighbours in (as it does for files, and
///   for huge pages): populate.
/// * Where huge pages are possible and worth it, populate a few pages. If that costs no more than one page would, they
///   are one: populate everything, and trust the kernel, because touching costs many times more.
/// * From then on the cheaper of both, as measured in the last block that went each way. Touching is tried again where
///   populating costs what it does for resident pages; populating is tried where touching costs more than that.
struct Meter {
    stage: Stage,
    start: usize,
    /// Pages after the first.
    count: usize,
    may_populate: bool,
    /// Populating is the better guess as long as nothing is measured.
    cold: bool,
    /// Ticks per page of the last block that went each way, times 16.
    touch: Option<u64>,
    populate: Option<u64>,
    /// Pages in the next block.
    size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The first page was cold: touches one more.
    Second,
    /// Populates a few pages, to see whether they are huge.
    Look,
    /// They are: populates everything.
    Huge,
    /// The cheaper way.
    Cheaper,
}

impl Meter {
    fn new(start: usize, count: usize, first: u64) -> Self {
        let may_populate = can_populate();
        let stage = if count >= LOOK_IF_COLD && LAST_HUGE.load(Ordering::Relaxed) == start {
            Stage::Huge
        } else if first > arch::cpu::cold_ticks() {
            Stage::Second
        } else if count >= LOOK_IF_WARM {
            Stage::Look
        } else {
            Stage::Cheaper
        };
        let size = if stage == Stage::Huge { LARGEST_BLOCK } else { FIRST_BLOCK };
        Meter { stage, start, count, may_populate, cold: false, touch: None, populate: None, size }
    }

    /// The way and the size of the next block.
    fn next(&mut self, left: usize) -> (Way, usize) {
        if !self.may_populate {
            return (Way::Touch, left);
        }
        match self.stage {
            Stage::Second => (Way::Touch, 1),
            Stage::Look => (Way::Populate, FIRST_BLOCK),
            Stage::Huge => (Way::Populate, self.size),
            Stage::Cheaper => (self.cheaper(), self.size),
        }
    }

    fn cheaper(&self) -> Way {
        let populate = match (self.touch, self.populate) {
            (None, None) => self.cold,
            (Some(touch), Some(populate)) => populate < touch,
            // Well above what populating costs where there is nothing to do.
            (Some(touch), None) => touch > 2 * PopulateCost::here().page,
            // As well: it did more than look at resident pages.
            (None, Some(populate)) => populate > 2 * PopulateCost::here().page,
        };
        if populate { Way::Populate } else { Way::Touch }
    }

    fn took(&mut self, way: Way, pages: usize, ticks: u64) {
        match self.stage {
            Stage::Second => {
                self.cold = ticks > arch::cpu::cold_ticks();
                let look = !self.cold && self.count >= LOOK_IF_COLD;
                self.stage = if look { Stage::Look } else { Stage::Cheaper };
            }
            Stage::Look | Stage::Huge => {
                // As one page would, or at most a page more for every huge one.
                let cost = PopulateCost::here();
                let huge = ticks < cost.call + cost.call / 2 + pages as u64 * cost.page / 16 / 8;
                LAST_HUGE.store(if huge { self.start } else { 0 }, Ordering::Relaxed);
                self.stage = if huge { Stage::Huge } else { Stage::Cheaper };
                self.size = if huge { (self.size * HUGE_GROWTH).min(LARGEST_BLOCK) } else { FIRST_BLOCK };
            }
            Stage::Cheaper => {
                let rate = Some(ticks * 16 / pages as u64);
                match way {
                    Way::Touch => self.touch = rate,
                    Way::Populate => self.populate = rate,
                }
                self.size = (self.size * GROWTH).min(LARGEST_BLOCK);
            }
        }
    }
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
    let release: Vec<u8> = name.release.iter().flat_map(|c| c.to_ne_bytes()).take_while(|&c| c != 0).collect();
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
