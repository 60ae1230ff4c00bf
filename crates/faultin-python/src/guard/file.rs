//! The file behind a mapping that other code made: how to ask for its state, before and after.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use faultin::map::Change;
use pyo3::Python;

/// A file, as `stat` identifies it: the inode alone does not, because file systems number theirs independently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// A file, as the list of mappings shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub device: u64,
    pub inode: u64,
    /// The path, perhaps with ` (deleted)` after it.
    pub name: &'a [u8],
}

impl Shown<'_> {
    /// Returns whether this is the file that a path or a descriptor leads to. Async-signal-safe, if `room` is.
    ///
    /// btrfs gives each subvolume a device of its own, which mappings do not show, and mappings of overlayfs may show the
    /// file of a layer. There the names have to be equal; `room` is for a name.
    pub(crate) fn is<T: AsMut<[u8]>>(&self, stat: &libc::stat, way: Reference<'_>, room: impl FnOnce() -> T) -> bool {
        stat.st_ino == self.inode
            && (stat.st_dev == self.device || way.shows_another_device() && way.has_name(self.name, room().as_mut()))
    }
}

/// What leads to a file.
#[derive(Clone, Copy)]
pub(crate) enum Reference<'a> {
    /// The path that the mapping shows.
    Path(&'a CStr),
    Descriptor(RawFd),
}

impl Reference<'_> {
    /// Returns the answer of `stat`. Async-signal-safe.
    pub(crate) fn stat(self) -> Option<libc::stat> {
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: a path that ends with a zero, or a number that need not be a descriptor; room for the answer.
        unsafe {
            let result = match self {
                Reference::Path(path) => libc::stat(path.as_ptr(), stat.as_mut_ptr()),
                Reference::Descriptor(fd) => libc::fstat(fd, stat.as_mut_ptr()),
            };
            (result == 0).then(|| stat.assume_init())
        }
    }

    fn shows_another_device(self) -> bool {
        let mut system = MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: as in `stat`.
        let kind = unsafe {
            let result = match self {
                Reference::Path(path) => libc::statfs(path.as_ptr(), system.as_mut_ptr()),
                Reference::Descriptor(fd) => libc::fstatfs(fd, system.as_mut_ptr()),
            };
            if result != 0 {
                return false;
            }
            system.assume_init().f_type as u64
        };
        kind == libc::BTRFS_SUPER_MAGIC as u64 || kind == libc::OVERLAYFS_SUPER_MAGIC as u64
    }

    fn has_name(self, name: &[u8], room: &mut [u8]) -> bool {
        match self {
            Reference::Path(path) => path.to_bytes() == name,
            Reference::Descriptor(fd) => {
                let link = Link::of(fd);
                // SAFETY: a path that ends with a zero; room for the bytes.
                let len = unsafe { libc::readlink(link.0.as_ptr().cast(), room.as_mut_ptr().cast(), room.len()) };
                usize::try_from(len).is_ok_and(|len| room.get(..len) == Some(name))
            }
        }
    }
}

/// `/proc/self/fd/` and a number, with a zero at its end: made without an allocation.
struct Link([u8; 32]);

impl Link {
    fn of(fd: RawFd) -> Self {
        const FOLDER: &[u8] = b"/proc/self/fd/";
        let mut link = [0; 32];
        link[..FOLDER.len()].copy_from_slice(FOLDER);
        let (mut rest, mut end) = (fd.unsigned_abs(), FOLDER.len() + 1);
        while rest >= 10 {
            (rest, end) = (rest / 10, end + 1);
        }
        rest = fd.unsigned_abs();
        for place in link[FOLDER.len()..end].iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        Link(link)
    }
}

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

/// Descriptors of the program by the device and inode that their mapping showed when they were last used; -1 if there was
/// none. Asking a descriptor takes a third of the time that asking a path takes.
static KNOWN: Mutex<[(u64, u64, RawFd); 8]> = Mutex::new([(0, 0, -1); 8]);

/// The lock is taken with the interpreter's lock held, for a moment: so no thread holds it while another one forks.
fn known() -> MutexGuard<'static, [(u64, u64, RawFd); 8]> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Way {
    fn reference(&self) -> Reference<'_> {
        match self {
            Way::Path(path) => Reference::Path(path),
            Way::Descriptor(fd) => Reference::Descriptor(fd.as_raw_fd()),
            Way::Borrowed(fd) => Reference::Descriptor(*fd),
        }
    }

    /// Returns the file's state, if the way still leads to it. Async-signal-safe.
    pub(super) fn state(&self, file: Identity) -> Option<State> {
        let stat = self.reference().stat()?;
        (Identity::of(&stat) == file).then(|| State::of(&stat))
    }

    /// Returns what the way leads to, if that is the file of a mapping.
    fn leads_to(self, shown: Shown<'_>) -> Option<Found> {
        let stat = self.reference().stat()?;
        let is_it = stat.st_mode & libc::S_IFMT == libc::S_IFREG
            && shown.is(&stat, self.reference(), || vec![0; libc::PATH_MAX as usize]);
        is_it.then(|| Found { way: self, file: Identity::of(&stat), state: State::of(&stat) })
    }

    /// Finds a way to the file of a mapping. Releases the interpreter's lock while it asks the file system.
    pub(super) fn find(py: Python<'_>, shown: Shown<'_>) -> Option<Found> {
        let is_noted = |entry: &&mut (u64, u64, RawFd)| (entry.0, entry.1) == (shown.device, shown.inode);
        let noted = known().iter_mut().find(is_noted).map(|entry| entry.2);
        let (found, number) = py.detach(|| {
            let mut number = noted;
            let by_number = match noted {
                Some(fd) if fd < 0 => None,
                noted => noted.and_then(|fd| Way::Borrowed(fd).leads_to(shown)).or_else(|| {
                    // The first use of this file, or another one has the number by now.
                    let fd = number_of(|fd| Way::Borrowed(fd).leads_to(shown).is_some());
                    number = Some(fd.unwrap_or(-1));
                    fd.and_then(|fd| Way::Borrowed(fd).leads_to(shown))
                }),
            };
            let found = by_number
                .or_else(|| Way::Path(CString::new(shown.name).ok()?).leads_to(shown))
                .or_else(|| Way::by_descriptor(|fd| Way::Borrowed(fd).leads_to(shown).is_some())?.leads_to(shown));
            (found, number)
        });
        if number != noted {
            let mut table = known();
            table.iter_mut().filter(is_noted).for_each(|entry| *entry = (0, 0, -1));
            table.rotate_right(1);
            table[0] = (shown.device, shown.inode, number.unwrap_or(-1));
        }
        found
    }

    /// Returns the state of a file that was found before, by its path or by any descriptor of this process.
    pub(super) fn search(name: &OsStr, file: Identity) -> Option<State> {
        let path = || CString::new(name.as_bytes()).ok().and_then(|path| Way::Path(path).state(file));
        path().or_else(|| Way::by_descriptor(|fd| Way::Borrowed(fd).state(file).is_some())?.state(file))
    }

    /// Makes a copy of a descriptor of this process that `is_it` accepts.
    fn by_descriptor(is_it: impl FnMut(RawFd) -> bool) -> Option<Way> {
        // SAFETY: a number that was a descriptor a moment ago; if it is not, the call fails. The copy is this function's.
        unsafe {
            let copy = libc::fcntl(number_of(is_it)?, libc::F_DUPFD_CLOEXEC, 3);
            (copy >= 0).then(|| Way::Descriptor(OwnedFd::from_raw_fd(copy)))
        }
    }

    /// Returns another way, like this one. Does not ask the file system.
    pub(super) fn try_clone(&self) -> io::Result<Way> {
        Ok(match self {
            Way::Path(path) => Way::Path(path.clone()),
            Way::Descriptor(fd) => Way::Descriptor(fd.try_clone()?),
            Way::Borrowed(fd) => Way::Borrowed(*fd),
        })
    }

    /// Opens the file to read a byte of it.
    pub(super) fn open(&self, wanted: Identity) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = match self {
            Way::Path(path) => {
                let path = Path::new(OsStr::from_bytes(path.to_bytes()));
                File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?
            }
            Way::Descriptor(fd) => File::from(fd.try_clone()?),
            // SAFETY: if it is not open, the call fails; if it is of another file, the comparison below does.
            Way::Borrowed(fd) => File::from(unsafe { BorrowedFd::borrow_raw(*fd) }.try_clone_to_owned()?),
        };
        let stat = Reference::Descriptor(file.as_raw_fd()).stat();
        match stat.is_some_and(|stat| Identity::of(&stat) == wanted) {
            true => Ok(file),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// A way to the file of a mapping, and what it leads to.
pub(super) struct Found {
    pub way: Way,
    pub file: Identity,
    pub state: State,
}

/// Finds the number of a descriptor of this process that `is_it` accepts.
fn number_of(mut is_it: impl FnMut(RawFd) -> bool) -> Option<RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    let mut numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok());
    numbers.find(|fd| is_it(*fd))
}

impl Identity {
    fn of(stat: &libc::stat) -> Self {
        Identity { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// What is compared of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
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
