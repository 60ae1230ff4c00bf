//! [`SharedOptions`]: how shared memory is mapped or made.

use core::ptr::NonNull;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::AtomicBool;

use super::{SharedMap, add_seals, seals};
use crate::errno::CallError;
use crate::file_size::without_sigxfsz;
use crate::map::engine::{Engine, Window};
use crate::map::error::{MapError, OperationError, Reason, SIZE_UNKNOWN};
use crate::map::layers;
use crate::map::mapping::{Mapping, MappingError, Rights, huge_page_size};
use crate::map::options::{Backend, Watch};
use crate::map::size;
use crate::map::stamp::Stamp;
use crate::page_size;
use crate::stat::irregular;

/// How shared memory is mapped, or made.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct SharedOptions {
    backend: Backend,
    watch: Watch,
    seals: libc::c_int,
    offset: u64,
}

impl SharedOptions {
    /// Returns the default options: mapped where possible, checked after each access unless it is sealed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how bytes get from the file to the caller.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Sets whether operations check the size of a file that is not sealed. Of [`Watch`], only [`Nothing`](Watch::Nothing)
    /// makes a difference: zeros past the end of the file, in its last page, are then reported as read, and stores to them
    /// as done.
    pub fn watch(mut self, watch: Watch) -> Self {
        self.watch = watch;
        self
    }

    /// Sets the offset in the file where the map begins, in bytes; any number. Atomic operations need positions that are
    /// aligned in the file.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use faultin::{map::Rights, shared::{SharedMap, SharedOptions}};
    ///
    /// let client = SharedMap::create("pool", 10_000)?;
    /// client.write_at(b"cursor", 5_000)?;
    /// // One buffer of the pool: 6 bytes at 5000.
    /// let buffer = SharedOptions::new().offset(5_000).from_fd(client.try_clone_fd()?, 6, Rights::Read)?;
    /// assert_eq!((buffer.offset(), buffer.len()), (5_000, 6));
    /// assert_eq!(buffer.read_once::<[u8; 6]>(0)?, *b"cursor");
    /// # Ok(())
    /// # }
    /// ```
    pub fn offset(mut self, bytes: u64) -> Self {
        self.offset = bytes;
        self
    }

    /// Makes [`create`](Self::create) seal the memfd against truncation, before any other process has it.
    pub fn seal_shrink(self) -> Self {
        self.seal(libc::F_SEAL_SHRINK)
    }

    /// Makes [`create`](Self::create) seal the memfd against growth.
    pub fn seal_grow(self) -> Self {
        self.seal(libc::F_SEAL_GROW)
    }

    /// Makes [`create`](Self::create) seal the memfd against further seals: the peer cannot remove our right to store.
    pub fn seal_seals(self) -> Self {
        self.seal(libc::F_SEAL_SEAL)
    }

    fn seal(mut self, seal: libc::c_int) -> Self {
        self.seals |= seal;
        self
    }

    /// Maps `len` bytes of a peer's descriptor, from the [offset](Self::offset).
    ///
    /// # Errors
    /// Those of [`from_file`](Self::from_file).
    pub fn from_fd(&self, fd: OwnedFd, len: usize, rights: Rights) -> Result<SharedMap, MapError> {
        self.from_file(File::from(fd), len, rights)
    }

    /// Maps `len` bytes of a file that is open, from the [offset](Self::offset).
    ///
    /// # Errors
    /// [`MapError`], with the reason [`NotAFile`](Reason::NotAFile) if the descriptor is of something that cannot be
    /// mapped; [`PastEnd`](Reason::PastEnd) if the file ends before the end of the map, which is the error's
    /// [`offset`](MapError::offset); [`Unsupported`](Reason::Unsupported) if `len` is 0, or [the file's size is not
    /// known](crate::map::has_known_size), or [`Backend::Mapped`] was requested and the file is on a [layered file
    /// system](crate::map#layered-file-systems) and open for reading only; [`Io`](Reason::Io) with `EACCES` if it is not
    /// open for reading, or not for writing and `rights` require it, `EPERM` if it is sealed against writing, or the error
    /// of `mmap(2)`; [`Handler`](Reason::Handler) if faults would not be recovered and [`Backend::Mapped`] was requested.
    pub fn from_file(&self, file: File, len: usize, rights: Rights) -> Result<SharedMap, MapError> {
        self.map(file, len, rights).map_err(|stop| self.error(len, stop))
    }

    /// Makes an error of a map of `len` bytes that was not made.
    pub(super) fn error(&self, len: usize, stop: OperationError) -> MapError {
        let at = if matches!(stop.reason, Reason::PastEnd { .. }) { len as u64 } else { 0 };
        MapError::new(None, self.offset.saturating_add(at), stop)
    }

    /// Makes a memfd of zero bytes with the chosen seals, and maps `len` bytes of it for reading and writing, from the
    /// [offset](Self::offset), up to the end.
    ///
    /// # Errors
    /// Those of [`from_file`](Self::from_file); [`Io`](Reason::Io) if the name has a NUL or more than 249 bytes (`EINVAL`),
    /// or there are no descriptors or memory left.
    pub fn create(&self, name: &str, len: usize) -> Result<SharedMap, MapError> {
        let made = || -> Result<SharedMap, OperationError> {
            if len == 0 {
                return Err(empty());
            }
            let io = |error| OperationError::io(0, error);
            let file = memfd(name).map_err(io)?;
            let set_len = || {
                file.set_len(self.offset.saturating_add(len as u64))
                    .map_err(|error| CallError::name("ftruncate", error))
            };
            without_sigxfsz(set_len).map_err(io)?;
            if self.seals != 0 {
                add_seals(&file, self.seals)?;
            }
            self.map(file, len, Rights::ReadWrite)
        };
        made().map_err(|stop| MapError::new(None, 0, stop))
    }

    /// Returns what counts as a change.
    pub(super) fn watched(&self) -> Watch {
        self.watch
    }

    /// Makes a map over a mapping that the caller made. It is not unmapped when the map is dropped, and cannot be resized.
    /// Not part of the interface.
    ///
    /// # Errors
    /// Those of [`from_file`](Self::from_file).
    ///
    /// # Safety
    /// `base` is the start of a shared mapping of `file`, from the [offset](Self::offset), a multiple of the page size, with
    /// these rights and at least `len` bytes. Until the map is dropped, the caller maps nothing else there, unmaps
    /// nothing of it, and makes no other map over it.
    #[doc(hidden)]
    pub unsafe fn over(&self, base: *mut u8, file: File, len: usize, rights: Rights) -> Result<SharedMap, MapError> {
        let page = huge_page_size(&file).unwrap_or_else(page_size);
        let is_aligned = self.offset.is_multiple_of(page as u64) && base.addr().is_multiple_of(page);
        let Some((base, whole)) = NonNull::new(base).zip(len.checked_next_multiple_of(page)).filter(|_| is_aligned)
        else {
            let stop = OperationError::io(0, io::Error::from_raw_os_error(libc::EINVAL));
            return Err(self.error(len, stop));
        };
        // SAFETY: forwarded; mappings end with a page.
        let adopted = |file: &File, _| unsafe { Mapping::adopt(file, base, self.offset, whole, rights) };
        self.map_with(file, len, rights, adopted).map_err(|stop| self.error(len, stop))
    }

    fn map(&self, file: File, len: usize, rights: Rights) -> Result<SharedMap, OperationError> {
        self.map_with(file, len, rights, |file, lead| self.mapped(file, lead, len, rights))
    }

    fn map_with(
        &self,
        file: File,
        len: usize,
        rights: Rights,
        mapped: impl FnOnce(&File, usize) -> Result<Mapping, MappingError>,
    ) -> Result<SharedMap, OperationError> {
        let (size, sealed) = self.ask(&file, len, rights)?;
        let page = huge_page_size(&file).unwrap_or_else(page_size);
        let lead = (self.offset % page as u64) as usize;
        let mapped = || mapped(&file, lead).inspect(|mapping| identify(mapping, &file));
        let backend = match (self.backend, layers::may_move(&file)) {
            // The mapping could not follow its file.
            (Backend::Mapped, true) => {
                return Err(OperationError::new(0, Reason::Unsupported("mapping a file of layers for good")));
            }
            (Backend::Automatic, true) => Backend::Pread,
            (backend, _) => backend,
        };
        let mapping = backend.choose(&file, rights, mapped).map_err(|reason| OperationError::new(0, reason))?;
        let engine = Engine::new(file, Window { start: self.offset, max: u64::MAX }, lead);
        Ok(SharedMap { engine, mapping, len, size, rights, options: self.clone(), sealed: AtomicBool::new(sealed) })
    }

    /// Returns the new state of a map that gets another length: the size of its file, whether that is sealed, and another
    /// mapping if it needs one.
    pub(super) fn resized(&self, map: &SharedMap, len: usize) -> Result<(u64, bool, Option<Mapping>), OperationError> {
        let (size, sealed) = self.ask(map.file(), len, map.rights)?;
        let another = match &map.mapping {
            Some(mapping) if mapping.is_adopted() && len != map.len => {
                return Err(OperationError::new(0, Reason::Unsupported("resizing a mapping of the caller")));
            }
            Some(mapping) if mapping.len() - map.lead() < len => {
                let mapped = self.mapped(map.file(), map.lead(), len, map.rights);
                let mapped = mapped.inspect(|mapping| identify(mapping, map.file()));
                Some(mapped.map_err(|refused| OperationError::new(0, refused.into()))?)
            }
            _ => None,
        };
        Ok((size, sealed, another))
    }

    fn mapped(&self, file: &File, lead: usize, len: usize, rights: Rights) -> Result<Mapping, MappingError> {
        let too_long = || MappingError::Mmap(io::Error::from_raw_os_error(libc::ENOMEM));
        let len = lead.checked_add(len).ok_or_else(too_long)?;
        Mapping::new(file, self.offset - lead as u64, len, rights)
    }

    /// Checks that `len` bytes of a file can be mapped: returns its size, and whether that is sealed.
    fn ask(&self, file: &File, len: usize, rights: Rights) -> Result<(u64, bool), OperationError> {
        if len == 0 {
            return Err(empty());
        }
        let io = |error| OperationError::io(0, error);
        if let Some(kind) = irregular(file).map_err(io)? {
            return Err(OperationError::new(0, Reason::NotAFile(kind)));
        }
        // The seals first: a file that is sealed now cannot be truncated between the two queries.
        let seals = seals(file).unwrap_or(0);
        let size = Stamp::of(file).map_err(io)?.size;
        if !size::has_size(file, size).map_err(io)? {
            return Err(OperationError::new(0, Reason::Unsupported(SIZE_UNKNOWN)));
        }
        if self.offset.checked_add(len as u64).is_none_or(|end| size < end) {
            return Err(OperationError::new(0, Reason::PastEnd { len: size.saturating_sub(self.offset) }));
        }
        permitted(file, seals, rights)?;
        Ok((size, seals & libc::F_SEAL_SHRINK != 0))
    }
}

/// Sets which file a mapping is of, for the events of faults in it.
fn identify(mapping: &Mapping, file: &File) {
    if let Ok(stamp) = Stamp::of(file) {
        mapping.identify(stamp.device, stamp.inode);
    }
}

#[cold]
fn empty() -> OperationError {
    OperationError::new(0, Reason::Unsupported("a map of no bytes"))
}

/// Checks that the file may be read, and written if `rights` require it. Checked first, because over pread it would go
/// unnoticed until the first access.
fn permitted(file: &File, seals: libc::c_int, rights: Rights) -> Result<(), OperationError> {
    let refused = |errno| Err(OperationError::io(0, io::Error::from_raw_os_error(errno)));
    // SAFETY: queries the flags of a descriptor we own.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(OperationError::io(0, CallError::last("fcntl")));
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
    // Not executable where the kernel supports that (6.3), and without its warning.
    for flags in [flags | libc::MFD_NOEXEC_SEAL, flags] {
        // SAFETY: a string that ends with NUL.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: a new descriptor, owned by nothing else.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINVAL) {
            return Err(CallError::name("memfd_create", error));
        }
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}
