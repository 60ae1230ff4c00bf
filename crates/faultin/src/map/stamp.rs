//! What tells whether a file is still the one it was: its identity, size and times, asked of the kernel.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::Change;
use crate::sync::{AtomicI64, AtomicU64, Ordering, fence, spin_loop};

/// A point in time, as file systems keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    seconds: i64,
    nanoseconds: i64,
}

/// What a file looked like at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub size: u64,
    /// When its data or attributes were changed last; the kernel's, nobody can set it.
    changed: Time,
    /// When its data were changed last; anybody with the right to write can set it.
    modified: Time,
    device: u64,
    inode: u64,
    links: u64,
}

/// How fresh an answer has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The server of a network file system is asked.
    Server,
    /// What is known here, without waiting for anybody.
    Cached,
}

impl Stamp {
    /// Asks as `fstat(2)` does: the cheapest question there is.
    // The fields have other types on other machines.
    #[allow(clippy::unnecessary_cast)]
    #[inline]
    pub(crate) fn of(file: &File) -> io::Result<Stamp> {
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: writes a `stat`, whose layout the kernel and the C library share on these machines. The C library's
        // own function asks by path and takes a fifth longer.
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        let failed = unsafe { libc::syscall(libc::SYS_fstat, file.as_raw_fd(), stat.as_mut_ptr()) } != 0;
        // SAFETY: writes a `stat`.
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let failed = unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) } != 0;
        if failed {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded and has written all of it.
        let stat = unsafe { stat.assume_init() };
        Ok(Stamp {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            changed: Time { seconds: stat.st_ctime as i64, nanoseconds: stat.st_ctime_nsec as i64 },
            modified: Time { seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as i64 },
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
        })
    }

    /// Asks as `statx(2)` does, which can say how fresh the answer has to be.
    pub(crate) fn with(file: &File, freshness: Freshness) -> io::Result<Stamp> {
        let sync = match freshness {
            Freshness::Server => libc::AT_STATX_FORCE_SYNC,
            Freshness::Cached => libc::AT_STATX_DONT_SYNC,
        };
        let (flags, mask) = (libc::AT_EMPTY_PATH | sync, libc::STATX_BASIC_STATS);
        let mut statx = MaybeUninit::<libc::statx>::uninit();
        // SAFETY: an empty string, and a `statx` to write.
        if unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, mask, statx.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded and has written all of it.
        let statx = unsafe { statx.assume_init() };
        let time = |time: libc::statx_timestamp| Time { seconds: time.tv_sec, nanoseconds: i64::from(time.tv_nsec) };
        Ok(Stamp {
            size: statx.stx_size,
            changed: time(statx.stx_ctime),
            modified: time(statx.stx_mtime),
            device: libc::makedev(statx.stx_dev_major, statx.stx_dev_minor) as u64,
            inode: statx.stx_ino,
            links: u64::from(statx.stx_nlink),
        })
    }

    /// Whether nothing that we can see has changed since `before`. The change time covers all the rest.
    #[inline]
    pub(crate) fn is_as(&self, before: &Stamp) -> bool {
        self.size == before.size
            && self.changed == before.changed
            && self.inode == before.inode
            && self.device == before.device
    }

    /// Whether it is the same file's, whatever has become of it.
    pub(crate) fn is_of_the_same_file(&self, other: &Stamp) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// What has happened since `before`, the most telling part of it; `path` is where the file was opened.
    #[cold]
    pub(crate) fn change_since(&self, before: &Stamp, path: Option<&Path>) -> Option<Change> {
        if self.size < before.size {
            Some(Change::Shrunk { from: before.size, to: self.size })
        } else if self.size > before.size {
            Some(Change::Grown { from: before.size, to: self.size })
        } else if self.modified != before.modified {
            Some(Change::Rewritten)
        } else if let Some(change) = self.renamed(path) {
            Some(change)
        } else if !self.is_as(before) {
            Some(if self.links < before.links { Change::Deleted } else { Change::Touched })
        } else {
            None
        }
    }

    /// Whether the name `path` leads to another file now, or nowhere.
    fn renamed(&self, path: Option<&Path>) -> Option<Change> {
        match std::fs::metadata(path?) {
            Ok(there) if there.ino() != self.inode || there.dev() != self.device => Some(Change::Replaced),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Change::Deleted),
            // Whoever may not look does not know.
            Err(_) => None,
        }
    }
}

/// The [`Stamp`] that a map goes by, shared between threads: read by loads alone, as often as the writer was in
/// between.
#[derive(Debug)]
pub(crate) struct Known {
    /// Odd while somebody writes.
    version: AtomicU64,
    words: [AtomicU64; 4],
    times: [AtomicI64; 4],
    writing: Mutex<()>,
}

impl Known {
    pub(crate) fn new(stamp: Stamp) -> Self {
        Known {
            version: AtomicU64::new(0),
            words: words(&stamp).map(AtomicU64::new),
            times: times(&stamp).map(AtomicI64::new),
            writing: Mutex::new(()),
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> Stamp {
        loop {
            let version = self.version.load(Ordering::Acquire);
            let [size, links, device, inode] = [0, 1, 2, 3].map(|i: usize| self.words[i].load(Ordering::Relaxed));
            let [cs, cn, ms, mn] = [0, 1, 2, 3].map(|i: usize| self.times[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if version & 1 == 0 && self.version.load(Ordering::Relaxed) == version {
                return Stamp {
                    size,
                    changed: Time { seconds: cs, nanoseconds: cn },
                    modified: Time { seconds: ms, nanoseconds: mn },
                    device,
                    inode,
                    links,
                };
            }
            spin_loop();
        }
    }

    /// For whoever is going to [`set`](Self::set) what it then asks: one at a time.
    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, _lock: &MutexGuard<'_, ()>, stamp: &Stamp) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, new) in self.words.iter().zip(words(stamp)) {
            word.store(new, Ordering::Relaxed);
        }
        for (time, new) in self.times.iter().zip(times(stamp)) {
            time.store(new, Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }
}

fn words(stamp: &Stamp) -> [u64; 4] {
    [stamp.size, stamp.links, stamp.device, stamp.inode]
}

fn times(stamp: &Stamp) -> [i64; 4] {
    let Stamp { changed, modified, .. } = stamp;
    [changed.seconds, changed.nanoseconds, modified.seconds, modified.nanoseconds]
}
