//! In the place of `map::state`: what a system says of a file, and by which clock, as far as the standard library asks.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::stamp::{Freshness, Stamp, Time};

/// What a directory is opened with to look names up in it, besides. Not every system has a way to open one that may only be passed
/// through: there, names in it are looked up by their path.
pub(super) const PASS_THROUGH: libc::c_int = 0;

/// The longest tick of a clock that kernels take the times of files from. Which one they take, and how often it ticks, cannot be
/// asked; FreeBSD, macOS and NetBSD have finer ones.
pub(crate) fn tick() -> Duration {
    Duration::from_millis(10)
}

impl Time {
    /// The clock that is asked. Where the kernel takes the times of files from a coarser one, that is behind by a [`tick`] at
    /// most, which is how long a stamp counts as fresh.
    pub(super) fn now() -> Self {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Time(since.as_nanos() as i64),
            Err(before) => Time((before.duration().as_nanos() as i64).wrapping_neg()),
        }
    }

    /// The same.
    pub(super) fn now_precisely() -> Self {
        Time::now()
    }
}

impl Stamp {
    /// Asks as `fstat(2)` does.
    #[inline]
    pub(crate) fn of(file: &File) -> io::Result<Stamp> {
        let about = file.metadata()?;
        Ok(Stamp {
            size: about.size(),
            changed: Time::new(about.ctime(), about.ctime_nsec()),
            modified: Time::new(about.mtime(), about.mtime_nsec()),
            device: about.dev(),
            inode: about.ino(),
        })
    }

    /// The same: how fresh the answer of a network file system has to be cannot be said.
    pub(crate) fn with(file: &File, freshness: Freshness) -> io::Result<Stamp> {
        match freshness {
            Freshness::Server | Freshness::Cached => Stamp::of(file),
        }
    }
}

/// Whether the file is known to be made up when it is read, by what it lies on. Nothing is known: it is read.
pub(super) fn is_made_up(_: &File) -> bool {
    false
}

/// Whether a server may make up the times of the file. Nothing is known: a time that is different is a change.
pub(super) fn is_served(_: &File) -> bool {
    false
}
