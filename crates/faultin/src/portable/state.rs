//! Replaces `map::state` on systems other than Linux: a file's state as the standard library reports it, and the clock
//! of its times.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::stamp::{Freshness, Stamp, Time};

/// Additional flags to open a directory for looking up names in it. Not every system can open a directory that the
/// process may search but not read: there, names in it are looked up by their path.
pub(super) const PASS_THROUGH: libc::c_int = 0;

/// The longest tick of a clock that kernels use for the times of files. The clock and its tick cannot be queried;
/// FreeBSD, macOS and NetBSD have shorter ticks.
pub(crate) fn tick() -> Duration {
    Duration::from_millis(10)
}

impl Time {
    /// Returns the time of the clock to compare stamps with. Where the kernel uses a coarser clock for the times of
    /// files, that one is late by at most a [`tick`], which is how long a stamp counts as fresh.
    pub(super) fn now() -> Self {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Time(since.as_nanos() as i64),
            Err(before) => Time((before.duration().as_nanos() as i64).wrapping_neg()),
        }
    }

    /// Returns the same clock's time: there is no coarser one.
    pub(super) fn now_precisely() -> Self {
        Time::now()
    }
}

impl Stamp {
    /// Returns the stamp of an open file, as `fstat(2)` reports it.
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

    /// Returns the same stamp: these systems have no call that asks a network file system for a synchronised one.
    pub(crate) fn with(file: &File, freshness: Freshness) -> io::Result<Stamp> {
        match freshness {
            Freshness::Server | Freshness::Cached => Stamp::of(file),
        }
    }
}

/// Returns whether the file system is known to generate the file's contents when they are read. Always false: it is not
/// queried.
pub(super) fn is_made_up(_: &File) -> bool {
    false
}

/// Whether a server may make up the times of the file. Nothing is known: a time that is different is a change.
pub(super) fn is_served(_: &File) -> bool {
    false
}
