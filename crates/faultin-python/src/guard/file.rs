//! The file behind a mapping that other code made: how to ask for its state, before and after.

use core::mem::MaybeUninit;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use faultin::map::Change;

/// A way to the file.
#[derive(Debug)]
pub(super) enum Way {
    /// By its path, as long as that leads to it.
    Path(CString),
    /// By a descriptor of this package.
    Descriptor(OwnedFd),
    /// By a descriptor of the program, which it may close at any time: `mmap.mmap` keeps one.
    Borrowed(RawFd),
}

/// Descriptors of the program by the inode that they were of when they were last used; -1 if there was none. Asking a
/// descriptor takes a third of the time that asking a path takes.
static KNOWN: Mutex<[(u64, RawFd); 8]> = Mutex::new([(0, -1); 8]);

impl Way {
    /// Returns the file's state, if the way still leads to the inode. Async-signal-safe.
    pub(super) fn state(&self, inode: u64) -> Option<State> {
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: a path that ends with a zero, or an open descriptor; room for the answer.
        let result = unsafe {
            match self {
                Way::Path(path) => libc::stat(path.as_ptr(), stat.as_mut_ptr()),
                Way::Descriptor(fd) => libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()),
                Way::Borrowed(fd) => libc::fstat(*fd, stat.as_mut_ptr()),
            }
        };
        if result != 0 {
            return None;
        }
        // SAFETY: the call has succeeded.
        let stat = unsafe { stat.assume_init() };
        // Not the device: on btrfs and overlayfs, mappings have another one.
        (stat.st_ino == inode && stat.st_mode & libc::S_IFMT == libc::S_IFREG).then(|| State::of(&stat))
    }

    /// Finds a way to the file of a mapping with this name and inode.
    pub(super) fn find(name: &OsStr, inode: u64) -> Option<(Way, State)> {
        let known = |way: Way| way.state(inode).map(|state| (way, state));
        let mut table = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = table.iter().find(|entry| entry.0 == inode).map(|entry| entry.1);
        let by_number = match noted {
            Some(fd) if fd < 0 => None,
            noted => match noted.and_then(|fd| known(Way::Borrowed(fd))) {
                Some(found) => Some(found),
                // The first use of this inode, or another file has the number by now.
                None => {
                    let fd = number_of(inode);
                    table.iter_mut().filter(|entry| entry.0 == inode).for_each(|entry| *entry = (0, -1));
                    table.rotate_right(1);
                    table[0] = (inode, fd.unwrap_or(-1));
                    fd.and_then(|fd| known(Way::Borrowed(fd)))
                }
            },
        };
        drop(table);
        by_number
            .or_else(|| known(Way::Path(CString::new(name.as_bytes()).ok()?)))
            .or_else(|| Way::by_descriptor(inode))
    }

    /// Makes a copy of a descriptor of this process that is of the file.
    fn by_descriptor(inode: u64) -> Option<(Way, State)> {
        // SAFETY: a number that was a descriptor a moment ago; if it is not, the call fails. The copy is this function's.
        let way = unsafe {
            let copy = libc::fcntl(number_of(inode)?, libc::F_DUPFD_CLOEXEC, 3);
            (copy >= 0).then(|| Way::Descriptor(OwnedFd::from_raw_fd(copy)))?
        };
        way.state(inode).map(|state| (way, state))
    }

    /// Opens the file to read a byte of it.
    pub(super) fn open(&self, inode: u64) -> io::Result<File> {
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
        let file = match self {
            Way::Path(path) => {
                let path = Path::new(OsStr::from_bytes(path.to_bytes()));
                File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?
            }
            Way::Descriptor(fd) => File::from(fd.try_clone()?),
            // SAFETY: if it is not open, the call fails; if it is of another file, the comparison below does.
            Way::Borrowed(fd) => File::from(unsafe { BorrowedFd::borrow_raw(*fd) }.try_clone_to_owned()?),
        };
        match file.metadata()?.ino() == inode {
            true => Ok(file),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Finds the number of a descriptor of this process that is of the inode.
fn number_of(inode: u64) -> Option<RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    numbers.into_iter().find(|fd| Way::Borrowed(*fd).state(inode).is_some())
}

/// What is compared of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    device: u64,
    pub size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Names, owner and rights: what moves the change time, and is no data.
    attributes: (u64, u32, u32, u32),
}

/// The clock behind file times ticks at least this often, in nanoseconds: a later change has another time only then.
const TICK: i64 = 10_000_000;

/// The same of file systems that note whole seconds (some two).
const SECONDS: i64 = 2_000_000_000;

impl State {
    #[expect(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    fn of(stat: &libc::stat) -> Self {
        State {
            device: stat.st_dev,
            size: stat.st_size as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            attributes: (stat.st_nlink as u64, stat.st_mode, stat.st_uid, stat.st_gid),
        }
    }

    /// Returns how many nanoseconds have to pass until every later change has other times. `now` was read before the state.
    pub(super) fn unsettled(&self, now: (i64, i64)) -> u64 {
        let rounded = self.changed.1 == 0 && self.modified.1 == 0;
        let tick = if rounded { SECONDS } else { TICK };
        let age = (now.0 - self.changed.0).saturating_mul(1_000_000_000).saturating_add(now.1 - self.changed.1);
        // A server's clock may be ahead: no more than one tick.
        (tick - age).clamp(0, tick) as u64
    }

    /// Returns the change from `self` to a later state.
    pub(super) fn change(&self, later: &State) -> Option<Change> {
        let (from, to) = (self.size, later.size);
        match () {
            () if self.device != later.device => Some(Change::Replaced),
            () if to < from => Some(Change::Shrunk { from, to }),
            () if to > from => Some(Change::Grown { from, to }),
            () if self.modified != later.modified => Some(Change::Rewritten),
            // A rename over the file, the normal way to replace it, takes a name from it, and no data.
            () if self.changed != later.changed && self.attributes == later.attributes => Some(Change::Touched),
            () => None,
        }
    }
}

/// Reads the clock of file times.
pub(super) fn now() -> (i64, i64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut time) };
    (time.tv_sec, time.tv_nsec)
}
