//! Memory shared with an untrusted peer: see [`shared`](crate::shared).

mod access;
mod atomic;
mod options;
mod plain;
pub mod ring;
mod slice;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

pub use options::SharedOptions;
pub use plain::PlainData;

use super::engine::Engine;
use super::error::{MapError, OperationError, Reason};
use super::mapping::{Mapping, Rights};
use super::options::{Backend, Watch};
use crate::blocked;
use crate::errno::CallError;

/// Memory that a peer shares and may revoke: see the [module](crate::shared).
///
/// Positions and lengths are bytes, from the start of the map, which is [`offset`](Self::offset) in the file; the map ends
/// at [`len`](Self::len). Threads share it by reference.
#[derive(Debug)]
pub struct SharedMap {
    engine: Engine,
    mapping: Option<Mapping>,
    len: usize,
    /// Size of the file in bytes when it was mapped or resized: at least `offset + len`.
    size: u64,
    rights: Rights,
    options: SharedOptions,
    sealed: AtomicBool,
}

impl SharedMap {
    /// Makes a memfd of `len` zero bytes, mapped for reading and writing, for [a peer](Self::try_clone_fd). `/proc` shows
    /// `name`. The peer may seal it, and so may [this process](Self::seal_shrink).
    ///
    /// # Errors
    /// Those of [`SharedOptions::create`].
    pub fn create(name: &str, len: usize) -> Result<Self, MapError> {
        SharedOptions::new().create(name, len)
    }

    /// Maps the first `len` bytes of a peer's descriptor.
    ///
    /// # Errors
    /// Those of [`SharedOptions::from_file`].
    pub fn from_fd(fd: OwnedFd, len: usize, rights: Rights) -> Result<Self, MapError> {
        SharedOptions::new().from_file(File::from(fd), len, rights)
    }

    /// Maps the first `len` bytes of a file.
    ///
    /// # Errors
    /// Those of [`SharedOptions::from_file`].
    pub fn from_file(file: File, len: usize, rights: Rights) -> Result<Self, MapError> {
        SharedOptions::new().from_file(file, len, rights)
    }

    /// Changes the length of the map to `len` bytes: for a server whose client has extended the file (as
    /// `wl_shm_pool.resize` tells a compositor). The file itself does not change. A longer map may have other addresses; a
    /// shorter one keeps its addresses and gives access to less.
    ///
    /// Needs exclusive access to the map: no operation is under way, and no [ring] or [segment](super::MapSource) of it
    /// exists.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = faultin::shared::SharedMap::create("pool", 4096)?;
    /// # let descriptor = client.try_clone_fd()?;
    /// use faultin::{map::{Reason, Rights}, shared::SharedMap};
    ///
    /// let mut pool = SharedMap::from_fd(descriptor, 4096, Rights::Read)?;
    ///
    /// // The client says that the pool has 10000 bytes. If that is not true, the map stays as it is.
    /// let error = pool.resize(10_000).unwrap_err();
    /// assert!(matches!(error.reason(), Reason::PastEnd { len: 4096 }));
    /// assert_eq!(pool.len(), 4096);
    ///
    /// # std::fs::File::from(client.try_clone_fd()?).set_len(10_000)?;
    /// pool.resize(10_000)?; // now it is
    /// assert_eq!(pool.read_once::<[u8; 4]>(9_996)?, [0; 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`MapError`]; the map is unchanged. [`PastEnd`](Reason::PastEnd) if the file is shorter;
    /// [`Unsupported`](Reason::Unsupported) if `len` is 0; [`Io`](Reason::Io) if the file cannot be queried or mapped.
    pub fn resize(&mut self, len: usize) -> Result<(), MapError> {
        let (size, sealed, mapping) = self.options.resized(self, len).map_err(|stop| self.options.error(len, stop))?;
        if mapping.is_some() {
            self.mapping = mapping;
        }
        (self.len, self.size) = (len, size);
        *self.sealed.get_mut() = sealed;
        Ok(())
    }

    /// Returns another descriptor of the same open file, to pass to a peer. It has the same access rights as this map's.
    /// Where a call only borrows a descriptor, use [`as_fd`](AsFd::as_fd). A peer also needs [`offset`](Self::offset) and
    /// [`len`](Self::len).
    ///
    /// # Errors
    /// [`Io`](Reason::Io) if the process has no descriptors left.
    pub fn try_clone_fd(&self) -> Result<OwnedFd, MapError> {
        self.file().try_clone().map(OwnedFd::from).map_err(|error| self.error(0, OperationError::io(0, error)))
    }

    /// Seals the file against truncation, for all processes and forever. From here on no operation checks its size.
    ///
    /// # Errors
    /// [`Changed`](Reason::Changed) if it was truncated before the seal was set: the seal is set, and the map is treated as
    /// one that is not sealed. [`Io`](Reason::Io) with `EPERM` if it may not be sealed any more, or is open for reading
    /// only, [`Unsupported`](Reason::Unsupported) if it is not a memfd.
    pub fn seal_shrink(&self) -> Result<(), MapError> {
        let sealed = || -> Result<(), OperationError> {
            if seals(self.file()).is_none_or(|seals| seals & libc::F_SEAL_SHRINK == 0) {
                add_seals(self.file(), libc::F_SEAL_SHRINK)?;
            }
            // It may have been truncated until now, and cannot be any more.
            self.reaches(0, self.len).map_err(|stop| OperationError { done: 0, ..stop })
        };
        sealed().map_err(|stop| self.error(0, stop))?;
        self.sealed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether the file cannot be truncated: `F_SEAL_SHRINK` was set, and the file was long enough, when it was
    /// mapped or [sealed](Self::seal_shrink) by this map.
    #[inline]
    pub fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Relaxed)
    }

    /// Checks that the file still reaches to the end of the map, whatever [`Watch`] says. No system call where it is
    /// sealed.
    ///
    /// # Errors
    /// [`Changed`](Reason::Changed) if it does not.
    pub fn verify(&self) -> Result<(), MapError> {
        match self.is_sealed() {
            true => Ok(()),
            false => self.reaches(0, self.len).map_err(|stop| self.error(0, OperationError { done: 0, ..stop })),
        }
    }

    /// Returns the offset in the file where the map begins, in bytes: [`SharedOptions::offset`].
    #[inline]
    pub fn offset(&self) -> u64 {
        self.engine.window().start
    }

    /// Returns the length of the map in bytes: as requested when it was made or [resized](Self::resize), never 0.
    #[allow(clippy::len_without_is_empty)]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the access rights of the map.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Returns [`Backend::Mapped`] or [`Backend::Pread`].
    pub fn backend(&self) -> Backend {
        if self.mapping.is_some() { Backend::Mapped } else { Backend::Pread }
    }
}

impl AsFd for SharedMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file().as_fd()
    }
}

/// Functions that the parts of this module share.
impl SharedMap {
    /// Returns the address of its first byte, if it is mapped: for callers in another language, which access it as memory
    /// that may fault. Not part of the interface.
    #[doc(hidden)]
    pub fn address(&self) -> Option<*mut u8> {
        self.mapping.as_ref().map(|mapping| mapping.base().wrapping_add(self.lead()))
    }

    pub(super) fn mapping(&self) -> Option<&Mapping> {
        self.mapping.as_ref()
    }

    fn file(&self) -> &File {
        self.engine.file()
    }

    /// Returns the number of bytes of the mapping before the map.
    #[inline]
    pub(super) fn lead(&self) -> usize {
        self.engine.lead()
    }

    /// Makes an error of an operation that began at `at`.
    #[cold]
    fn error(&self, at: u64, stop: OperationError) -> MapError {
        self.engine.error(None, at, stop)
    }

    /// Returns how many of `len` bytes from `at` the map has, and their start.
    #[inline]
    fn clamp(&self, at: u64, len: usize) -> (usize, usize) {
        let start = usize::try_from(at).map_or(self.len, |at| at.min(self.len));
        (start, len.min(self.len - start))
    }

    #[cold]
    fn past_end(&self, done: usize) -> OperationError {
        OperationError::new(done, Reason::PastEnd { len: self.len as u64 })
    }

    /// Returns whether operations check the size of the file: a system call each.
    #[inline]
    fn looks(&self) -> bool {
        !(self.is_sealed() || self.options.watched() == Watch::Nothing)
    }

    /// Prepares for an access that a [`look`](Self::look) follows: since that makes a system call anyway, this makes one to
    /// see whether a fault would be fatal in this thread.
    #[inline]
    fn prepare(&self) {
        if self.looks() {
            blocked::ask();
        }
    }

    /// Checks after an access to `len` bytes from `at` that all of them are still the file's.
    #[inline]
    fn look(&self, at: usize, len: usize) -> Result<(), OperationError> {
        if !self.looks() || len == 0 {
            return Ok(());
        }
        // The bytes first, then the kernel's answer: also on CPUs that reorder loads.
        std::sync::atomic::fence(Ordering::Acquire);
        self.reaches(at, len)
    }

    /// Checks that the file has `len` bytes from `at`.
    #[inline]
    fn reaches(&self, at: usize, len: usize) -> Result<(), OperationError> {
        self.engine.reaches(at as u64, len, self.size)
    }
}

/// Returns the seals of a file; `None` if its kind has none.
fn seals(file: &File) -> Option<libc::c_int> {
    // SAFETY: queries a descriptor we own.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    (seals >= 0).then_some(seals)
}

fn add_seals(file: &File, seals: libc::c_int) -> Result<(), OperationError> {
    // SAFETY: seals the file of a descriptor we own.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::EINVAL) => OperationError::new(0, Reason::Unsupported("sealing")),
        _ => OperationError::io(0, CallError::name("fcntl", error)),
    })
}
