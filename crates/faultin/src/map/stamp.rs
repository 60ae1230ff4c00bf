//! Identity, size and times of a file, as the kernel reports them: they tell whether the file has changed.
//!
//! Two changes within one tick of the kernel's clock give a file the same change time. So a [`Stamp`] alone does not tell
//! whether the file has changed since: an [`Observation`] also records whether a later change would have another time.

use std::fs::File;
use std::io;
use std::time::Duration;

use super::error::Change;
use super::state::{is_served, tick};
use crate::sleep::sleep;

/// A point in time as file systems store it: nanoseconds since the epoch, which wrap after 584 years. Times are compared
/// for equality, and with times that are near.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time(pub(super) i64);

impl Time {
    pub(super) fn new(seconds: i64, nanoseconds: i64) -> Self {
        Time(seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds))
    }

    /// Returns how long after a change at this time another change may get the same time: a tick of the clock, and the unit
    /// to which a file system rounds. (Old ones have whole seconds, FAT two seconds and hundredths.)
    fn resolution(self) -> i64 {
        const SECOND: i64 = 1_000_000_000;
        let rounding = match self.0 {
            time if time % SECOND == 0 => 2 * SECOND,
            time if time % (SECOND / 100) == 0 => SECOND / 100,
            _ => 0,
        };
        rounding + i64::try_from(tick().as_nanos()).unwrap_or(SECOND)
    }

    /// Returns whether a change at `now` could get this time. A time far in the future is from a clock that was set back,
    /// or from another machine: the next change gets a different one.
    pub(super) fn is_fresh_at(self, now: Time) -> bool {
        now.0.wrapping_sub(self.0).unsigned_abs() <= self.resolution().unsigned_abs()
    }
}

/// The state of a file at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub size: u64,
    /// The last change of its data or attributes (`st_ctime`). Only the kernel can set it.
    pub(super) changed: Time,
    /// The last change of its data (`st_mtime`). The owner can set it.
    pub(super) modified: Time,
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// How fresh an answer must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The server of a network file system is queried.
    Server,
    /// The local state, without waiting for a server.
    Cached,
}

impl Stamp {
    /// Returns the same without the change time, for a file system that returns a different one at every query.
    #[inline]
    pub(crate) fn without_change_time(self) -> Stamp {
        Stamp { changed: self.modified, ..self }
    }

    /// Returns whether no change since `before` can be detected.
    #[inline]
    pub(crate) fn is_as(&self, before: &Stamp) -> bool {
        self.has_contents_of(before) && self.changed == before.changed
    }

    /// Returns whether it is of the same file, with the size and the time of modification of `before`.
    #[inline]
    pub(crate) fn has_contents_of(&self, before: &Stamp) -> bool {
        self.size == before.size
            && self.modified == before.modified
            && self.inode == before.inode
            && self.device == before.device
    }

    /// Returns whether it is of the same file, in any state.
    pub(crate) fn is_of_the_same_file(&self, other: &Stamp) -> bool {
        self.is_of(other.device, other.inode)
    }

    /// Returns whether it is the stamp of the file with this device and inode.
    pub(crate) fn is_of(&self, device: u64, inode: u64) -> bool {
        (self.device, self.inode) == (device, inode)
    }

    /// Returns the most specific change since `before`.
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

/// A [`Stamp`], and whether later changes would alter it.
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
    /// Queries an observation by `ask`.
    pub(crate) fn of(ask: impl FnOnce() -> io::Result<Stamp>) -> io::Result<Observation> {
        // The clock first: every later change gets this time or a later one.
        let now = Time::now();
        let stamp = ask()?;
        // The kernel may also use the finer clock.
        let seen = Time::now_precisely();
        Ok(Observation { stamp, settled: !stamp.changed.is_fresh_at(now), seen })
    }

    /// Queries again when the tick is over; ends early as soon as `is_worth_it` rejects a stamp. If a file is changed all
    /// the time, the result is not settled.
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

    /// Returns what operations compare with after `now` was seen of a file that other processes append to; `None` if it was
    /// rewritten, or its size is still to follow.
    ///
    /// The kernel moves a file's time before its size or after it, or both, within one system call. So after a growth was
    /// seen, its time may still move, for two ticks of the clock.
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

    /// Returns whether the file had not changed between this observation and `now`, as far as can be detected.
    #[inline]
    pub(crate) fn still_holds(&self, now: &Stamp) -> bool {
        self.settled && now.is_as(&self.stamp)
    }
}

/// Maximum number of ticks to wait for.
const ATTEMPTS: usize = 4;

/// How often a file must have a different change time, and no other difference, for its file system to count as one that
/// makes it up.
const QUESTIONS: usize = 16;

/// Returns whether the file system returns a different change time at every query (some FUSE servers do), so that it is
/// meaningless. `first` is the first answer. Only a server can do that: elsewhere another process changes the file all the
/// time.
pub(crate) fn is_restless(file: &File, first: &Stamp) -> bool {
    let mut last = *first;
    let moves = (0..QUESTIONS).all(|_| match Stamp::with(file, Freshness::Server) {
        Ok(now) => {
            let moved = now.has_contents_of(&last) && now.changed != last.changed;
            last = now;
            moved
        }
        Err(_) => false,
    });
    moves && is_served(file)
}
