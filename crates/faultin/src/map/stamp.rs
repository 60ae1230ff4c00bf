//! What tells whether a file is still the one it was: its identity, size and times, asked of the kernel.
//!
//! Two changes within one tick of the kernel's clock give a file the same change time. So a [`Stamp`] alone does not tell
//! whether the file has changed since: an [`Observation`] also says whether a later change would have another time.

use core::sync::atomic::{AtomicU64, Ordering};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::error::Change;
use crate::backoff::sleep;
use crate::stat::fstat;

/// A point in time as file systems keep it: nanoseconds since the epoch, which wrap after 584 years. A time is compared
/// for being the same, and with one that is near.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time(pub(super) i64);

impl Time {
    fn new(seconds: i64, nanoseconds: i64) -> Self {
        Time(seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds))
    }

    fn of_clock(clock: libc::clockid_t) -> Self {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a `timespec` to write.
        unsafe { libc::clock_gettime(clock, &mut time) };
        #[allow(clippy::unnecessary_cast)]
        Time::new(time.tv_sec as i64, time.tv_nsec as i64)
    }

    /// The clock that the kernel takes the times of files from.
    fn now() -> Self {
        Time::of_clock(libc::CLOCK_REALTIME_COARSE)
    }

    /// How long a change at this time may still be followed by one that gets the same time: a tick of the clock, and
    /// what a file system rounds its times to. (Old ones have whole seconds, FAT two of them and hundredths.)
    fn resolution(self) -> i64 {
        const SECOND: i64 = 1_000_000_000;
        let rounding = match self.0 {
            time if time % SECOND == 0 => 2 * SECOND,
            time if time % (SECOND / 100) == 0 => SECOND / 100,
            _ => 0,
        };
        rounding + i64::try_from(tick().as_nanos()).unwrap_or(SECOND)
    }

    /// Whether a change at `now` could get this time. A time far ahead is one of a clock that was set back, or of another
    /// machine: the next change gets another one.
    pub(super) fn is_fresh_at(self, now: Time) -> bool {
        now.0.wrapping_sub(self.0).unsigned_abs() <= self.resolution().unsigned_abs()
    }
}

/// The tick of the clock that the kernel takes the times of files from: 1 to 10 milliseconds.
pub(crate) fn tick() -> Duration {
    // Not a lock: maps are read by signal handlers, too.
    static TICK: AtomicU64 = AtomicU64::new(0);
    let known = TICK.load(Ordering::Relaxed);
    if known != 0 {
        return Duration::from_nanos(known);
    }
    let mut tick = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a `timespec` to write.
    let asked = unsafe { libc::clock_getres(libc::CLOCK_REALTIME_COARSE, &mut tick) } == 0;
    let nanoseconds = u64::try_from(tick.tv_nsec).unwrap_or(0);
    // Otherwise the longest that kernels are configured with.
    let nanoseconds = if asked && nanoseconds > 0 { nanoseconds } else { 10_000_000 };
    TICK.store(nanoseconds, Ordering::Relaxed);
    Duration::from_nanos(nanoseconds)
}

/// What a file looked like at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub size: u64,
    /// When its data or attributes were changed last (`st_ctime`). The kernel sets it, and nothing else can.
    pub(super) changed: Time,
    /// When its data were changed last (`st_mtime`). Any owner can set it.
    pub(super) modified: Time,
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// How fresh an answer has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The server of a network file system is asked.
    Server,
    /// What is known here, without waiting for a server.
    Cached,
}

impl Stamp {
    /// Asks as `fstat(2)` does: the cheapest question there is.
    // The fields have other types on other machines.
    #[allow(clippy::unnecessary_cast)]
    #[inline]
    pub(crate) fn of(file: &File) -> io::Result<Stamp> {
        let stat = fstat(file)?;
        Ok(Stamp {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            changed: Time::new(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            modified: Time::new(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
        })
    }

    /// Asks as `statx(2)` does, which can say how fresh the answer has to be. Where a filter forbids it, or the kernel is
    /// older, `fstat(2)` answers.
    pub(crate) fn with(file: &File, freshness: Freshness) -> io::Result<Stamp> {
        let sync = match freshness {
            Freshness::Server => libc::AT_STATX_FORCE_SYNC,
            Freshness::Cached => libc::AT_STATX_DONT_SYNC,
        };
        let (flags, mask) = (libc::AT_EMPTY_PATH | sync, libc::STATX_BASIC_STATS);
        let mut statx = MaybeUninit::<libc::statx>::uninit();
        // SAFETY: an empty string, and a `statx` to write.
        if unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, mask, statx.as_mut_ptr()) } != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                // Filters older than the call refuse it (in containers, to programs of any age), and the C library does not
                // know all of its flags where the kernel does not have it. How fresh an answer is cannot be asked otherwise.
                Some(libc::EPERM | libc::ENOSYS | libc::EINVAL) => Stamp::of(file),
                _ => Err(error),
            };
        }
        // SAFETY: the call succeeded and has written all of it.
        let statx = unsafe { statx.assume_init() };
        let time = |time: libc::statx_timestamp| Time::new(time.tv_sec, i64::from(time.tv_nsec));
        Ok(Stamp {
            size: statx.stx_size,
            changed: time(statx.stx_ctime),
            modified: time(statx.stx_mtime),
            device: libc::makedev(statx.stx_dev_major, statx.stx_dev_minor) as u64,
            inode: statx.stx_ino,
        })
    }

    /// The same of a file system that gives another change time at every question: the change time is left out.
    #[inline]
    pub(crate) fn without_change_time(self) -> Stamp {
        Stamp { changed: self.modified, ..self }
    }

    /// Whether nothing that can be seen has changed since `before`.
    #[inline]
    pub(crate) fn is_as(&self, before: &Stamp) -> bool {
        self.has_contents_of(before) && self.changed == before.changed
    }

    /// Whether it is the same file's, with the size and the time of modification of `before`.
    #[inline]
    pub(crate) fn has_contents_of(&self, before: &Stamp) -> bool {
        self.size == before.size
            && self.modified == before.modified
            && self.inode == before.inode
            && self.device == before.device
    }

    /// Whether it is the same file's, whatever has become of it.
    pub(crate) fn is_of_the_same_file(&self, other: &Stamp) -> bool {
        self.is_of(other.device, other.inode)
    }

    /// Whether it is the stamp of the file with this device and inode.
    pub(crate) fn is_of(&self, device: u64, inode: u64) -> bool {
        (self.device, self.inode) == (device, inode)
    }

    /// What has happened since `before`, the most telling part of it.
    #[cold]
    pub(crate) fn change_since(&self, before: &Stamp) -> Option<Change> {
        if self.size < before.size {
            Some(Change::Shrunk { from: before.size, to: self.size })
        } else if self.size > before.size {
            Some(Change::Grown { from: before.size, to: self.size })
        } else if !self.has_contents_of(before) {
            Some(Change::Rewritten)
        } else if self.changed != before.changed {
            Some(Change::Touched)
        } else {
            None
        }
    }
}

/// A [`Stamp`], and what it is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub stamp: Stamp,
    /// Whether any change after the stamp was taken has another change time. Otherwise the stamp is *fresh*: the file was
    /// changed within a tick of the clock before it was taken, and may be changed once more within that tick.
    ///
    /// Under [`Watch::Appending`](super::options::Watch): whether the time of modification belongs to the size.
    pub settled: bool,
    /// When the stamp was taken.
    pub seen: Time,
}

impl Observation {
    /// What `ask` says now.
    pub(crate) fn of(ask: impl FnOnce() -> io::Result<Stamp>) -> io::Result<Observation> {
        // The clock first: every later change gets this time or a later one.
        let now = Time::now();
        let stamp = ask()?;
        // The kernel may also take the finer clock.
        let seen = Time::of_clock(libc::CLOCK_REALTIME);
        Ok(Observation { stamp, settled: !stamp.changed.is_fresh_at(now), seen })
    }

    /// The same when the tick is over, or as soon as `is_worth_it` says no of a stamp. Of a file that is changed all the time it is
    /// not settled then either.
    #[cold]
    pub(crate) fn settle(
        mut self,
        ask: impl Fn() -> io::Result<Stamp>,
        is_worth_it: impl Fn(&Stamp) -> bool,
    ) -> io::Result<Observation> {
        // More than once: the file may be changed again, and the kernel may be late with its clock.
        for _ in 0..ATTEMPTS {
            if self.settled || !is_worth_it(&self.stamp) {
                break;
            }
            self.wait_for_the_tick();
            self = Observation::of(&ask)?;
        }
        Ok(self)
    }

    /// Sleeps until the change time of the stamp is no longer fresh.
    fn wait_for_the_tick(&self) {
        let over = self.stamp.changed.0.wrapping_add(self.stamp.changed.resolution());
        let left = over.wrapping_sub(Time::now().0).max(0).unsigned_abs();
        sleep(Duration::from_nanos(left) + tick());
    }

    /// What operations go by after `now` was seen of a file that others append to; `None` if it was rewritten, or its size is still
    /// to come.
    ///
    /// The kernel moves a file's time before its size or after it, or both, within one system call. So after a growth was seen,
    /// its time may still move, for two ticks of the clock.
    pub(crate) fn appended(&self, now: &Observation) -> Option<Observation> {
        let ticks = i64::try_from(2 * tick().as_nanos()).unwrap_or(i64::MAX);
        let is_over = |time: Time| self.settled || time.0 > self.seen.0.saturating_add(ticks);
        if now.stamp.size > self.stamp.size {
            Some(Observation { settled: false, ..*now })
        } else if now.stamp.modified == self.stamp.modified {
            Some(Observation { settled: is_over(now.seen), seen: self.seen, ..*now })
        } else {
            (!is_over(now.stamp.modified)).then_some(Observation { settled: false, seen: self.seen, ..*now })
        }
    }

    /// Whether the file had not changed between this observation and `now`, as far as can be seen.
    #[inline]
    pub(crate) fn still_holds(&self, now: &Stamp) -> bool {
        self.settled && now.is_as(&self.stamp)
    }
}

/// How often a tick is waited for.
const ATTEMPTS: usize = 4;

/// How often a file has to have another change time, and nothing else, for its file system to be one that makes it up.
const QUESTIONS: usize = 3;

/// Whether the file system gives the file another change time at every question (some FUSE servers do), so that it says
/// nothing. `first` is the first answer.
pub(crate) fn is_restless(file: &File, first: &Stamp) -> bool {
    let mut last = *first;
    (0..QUESTIONS).all(|_| match Stamp::with(file, Freshness::Server) {
        Ok(now) => {
            let moved = now.has_contents_of(&last) && now.changed != last.changed;
            last = now;
            moved
        }
        Err(_) => false,
    })
}
