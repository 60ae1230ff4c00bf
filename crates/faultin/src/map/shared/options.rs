//! How shared memory is mapped or made: [`SharedOptions`].

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::AtomicBool;

use super::{SharedMap, add_seals, seals};
use crate::errno::CallError;
use crate::file_size::without_sigxfsz;
use crate::map::error::{MapError, Reason, Stop};
use crate::map::layers;
use crate::map::mapping::{Mapping, Rights};
use crate::map::options::{Backend, Watch};
use crate::map::size;
use crate::map::stamp::Stamp;
use crate::stat::irregular;

/// How shared memory is mapped, or made.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct SharedOptions {
    backend: Backend,
    watch: Watch,
    seals: libc::c_int,
}

impl SharedOptions {
    /// The default: mapped where that is to be had, looked at after each access unless it is sealed.
    pub fn new() -> Self {
        Self::default()
    }

    /// How bytes get from the file to the caller.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Whether operations look at the size of a file that is not sealed. Of [`Watch`], only
    /// [`Nothing`](Watch::Nothing) makes a difference: zeros behind the end of the file, in its last page, are then
    /// reported as read, and stores to there as done.
    pub fn watch(mut self, watch: Watch) -> Self {
        self.watch = watch;
        self
    }

    /// Seals what [`create`](Self::create) makes against being cut, before anybody else has it.
    pub fn seal_shrink(self) -> Self {
        self.seal(libc::F_SEAL_SHRINK)
    }

    /// Seals what [`create`](Self::create) makes against growing.
    pub fn seal_grow(self) -> Self {
        self.seal(libc::F_SEAL_GROW)
    }

    /// Seals what [`create`](Self::create) makes against further seals: the peer cannot take the right to store from us.
    pub fn seal_seals(self) -> Self {
        self.seal(libc::F_SEAL_SEAL)
    }

    fn seal(mut self, seal: libc::c_int) -> Self {
        self.seals |= seal;
        self
    }

    /// Maps the first `len` bytes of a file that is open.
    ///
    /// # Errors
    /// [`MapError`], with the reason [`NotAFile`](Reason::NotAFile) if there is nothing that can be mapped behind the
    /// descriptor; [`PastEnd`](Reason::PastEnd) if the file is shorter ([`offset`](MapError::offset) is `len`); [`Unsupported`](Reason::Unsupported) if `len` is
    /// 0, or [the file's size is not known](crate::map::has_known_size), or
    /// [`Backend::Mapped`] was asked for and the file is one [of layers](crate::map#files-of-layers) that is open for reading
    /// only; [`Io`](Reason::Io) with `EACCES` if it is not open for reading, or not for writing and `rights` ask for it,
    /// `EPERM` if it is sealed against writing, or what `mmap(2)` says; [`Handler`](Reason::Handler) if faults would not
    /// be recovered and [`Backend::Mapped`] was asked for.
    pub fn from_file(&self, file: File, len: usize, rights: Rights) -> Result<SharedMap, MapError> {
        self.map(file, len, rights).map_err(|stop| {
            let short = matches!(stop.reason, Reason::PastEnd { .. });
            MapError::new(None, if short { len as u64 } else { 0 }, stop)
        })
    }

    /// Makes a memfd of `len` zero bytes, sealed as was asked, and maps it to read and write.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file); [`Io`](Reason::Io) if the name has a NUL or more than 249 bytes (`EINVAL`), or
    /// there are no descriptors or memory left.
    pub fn create(&self, name: &str, len: usize) -> Result<SharedMap, MapError> {
        let made = || -> Result<SharedMap, Stop> {
            if len == 0 {
                return Err(empty());
            }
            let io = |error| Stop::io(0, error);
            let file = memfd(name).map_err(io)?;
            let set_len = || file.set_len(len as u64).map_err(|error| CallError::name("ftruncate", error));
            without_sigxfsz(set_len).map_err(io)?;
            if self.seals != 0 {
                add_seals(&file, self.seals)?;
            }
            self.map(file, len, Rights::ReadWrite)
        };
        made().map_err(|stop| MapError::new(None, 0, stop))
    }

    fn map(&self, file: File, len: usize, rights: Rights) -> Result<SharedMap, Stop> {
        if len == 0 {
            return Err(empty());
        }
        let io = |error| Stop::io(0, error);
        if let Some(kind) = irregular(&file).map_err(io)? {
            return Err(Stop::new(0, Reason::NotAFile(kind)));
        }
        // The seals first: a file that has one now cannot be cut between the two questions.
        let seals = seals(&file).unwrap_or(0);
        let size = Stamp::of(&file).map_err(io)?.size;
        if !size::has_size(&file, size).map_err(io)? {
            return Err(Stop::new(0, Reason::Unsupported(size::UNKNOWN)));
        }
        if size < len as u64 {
            return Err(Stop::new(0, Reason::PastEnd { len: size }));
        }
        permitted(&file, seals, rights)?;
        let mapped = || Mapping::new(&file, 0, len, rights);
        let backend = match (self.backend, layers::may_move(&file)) {
            // It could not follow its file.
            (Backend::Mapped, true) => {
                return Err(Stop::new(0, Reason::Unsupported("mapping a file of layers for good")));
            }
            (Backend::Automatic, true) => Backend::Pread,
            (backend, _) => backend,
        };
        let mapping = backend.choose(&file, rights, mapped).map_err(|reason| Stop::new(0, reason))?;
        let sealed = AtomicBool::new(seals & libc::F_SEAL_SHRINK != 0);
        Ok(SharedMap { file, mapping, len, size, rights, watch: self.watch, sealed })
    }
}

#[cold]
fn empty() -> Stop {
    Stop::new(0, Reason::Unsupported("a map of no bytes"))
}

/// Whether the file may be read, and written if `rights` say so: asked for first, because it would go unnoticed over pread
/// until the first access.
fn permitted(file: &File, seals: libc::c_int, rights: Rights) -> Result<(), Stop> {
    let refused = |errno| Err(Stop::io(0, io::Error::from_raw_os_error(errno)));
    // SAFETY: asks for the flags of a descriptor we own.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(Stop::io(0, CallError::last("fcntl")));
    }
    if flags & libc::O_PATH != 0 {
        return refused(libc::EBADF);
    }
    match (flags & libc::O_ACCMODE, rights) {
        (libc::O_RDWR, _) | (libc::O_RDONLY, Rights::Read) => {}
        _ => return refused(libc::EACCES),
    }
    match rights {
        Rights::ReadWrite if seals & (libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE) != 0 => refused(libc::EPERM),
        _ => Ok(()),
    }
}

fn memfd(name: &str) -> io::Result<File> {
    let name = CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Not executable where the kernel knows that (6.3), and without its warning.
    for flags in [flags | libc::MFD_NOEXEC_SEAL, flags] {
        // SAFETY: a string that ends with NUL.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: a new descriptor, nobody else's.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(CallError::name("memfd_create", error));
        }
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}
