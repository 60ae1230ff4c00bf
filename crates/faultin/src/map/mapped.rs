//! The mapping of a map's file on Linux: how it is made, and how it follows changes of the file. (`portable/mapped.rs`
//! replaces this on other systems, where files are only read.)

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::engine::{Engine, Window};
use super::error::{Change, OperationError, Reason};
use super::layers;
use super::mapping::MappingError;
pub(super) use super::mapping::{Mapping, Rights, Space};
use super::options::{Advice, Backend, MapOptions, Watch};
use super::stamp::Stamp;
use crate::signal::{self, HandlerState};

/// The mapping of a file, and facts about it.
pub(super) struct Mapped {
    /// The mappings; `None` if the map reads with `pread(2)`.
    pub space: Option<Space>,
    /// Whether the file's bytes may move so that a mapping no longer shows them.
    pub may_move: bool,
    /// An open file that could not be mapped. It stays open, because closing it would release the process's record
    /// locks on the file.
    pub unmapped: Option<File>,
}

impl Mapped {
    /// Maps the part of a window that the file has, if `options` request a mapping and the kernel provides one. `stamp`
    /// is the file's state before.
    pub(super) fn new(
        options: &MapOptions,
        file: &File,
        path: Option<&Path>,
        window: Window,
        stamp: &Stamp,
        rights: Rights,
    ) -> Result<Self, Reason> {
        let may_move = rights == Rights::Read && layers::may_move(file);
        let mut unmapped = None;
        let mapped = || {
            // After the file was queried: later events are changes.
            let again = || layers::reopen(file, path, stamp);
            let own = may_move.then(again).transpose().map_err(MappingError::Mmap)?;
            let mapping = window.map(own.as_ref().unwrap_or(file), stamp.size, options.watched(), rights);
            if let Ok(mapping) = &mapping {
                mapping.identify(stamp.device, stamp.inode);
            }
            match (mapping, own) {
                (Ok(mapping), Some(own)) => Ok(Space::new(mapping.keeping(own))),
                (mapping, own) => {
                    unmapped = own;
                    mapping.map(Space::new)
                }
            }
        };
        let space = options.asked().choose(file, rights, mapped)?;
        Ok(Mapped { space, may_move, unmapped })
    }
}

impl Space {
    /// Adapts the mappings to a file whose stamp has changed from `before` to `now`.
    pub(super) fn renew(
        &self,
        engine: &Engine,
        options: &MapOptions,
        path: Option<&Path>,
        may_move: bool,
        before: &Stamp,
        now: &Stamp,
    ) -> Result<(), OperationError> {
        if options.asked() == Backend::Automatic && !faults_reach_us() {
            self.close();
            return Ok(());
        }
        let too_large = || OperationError::io(0, io::Error::from_raw_os_error(libc::ENOMEM));
        let needed = engine.window().needed(now.size).ok_or_else(too_large)?;
        let wanted = engine.window().wanted(needed);
        if !may_move || now.is_as(before) {
            return match self.grow(engine.file(), needed, wanted) {
                Err(_) if options.asked() == Backend::Automatic => {
                    self.close();
                    Ok(())
                }
                grown => grown.map_err(|refused| OperationError::new(0, refused.into())),
            };
        }
        // The mapping may show another file by now. `now` was queried first.
        let wanted = if options.watched() == Watch::Appending { wanted } else { needed };
        let again = if self.is_replaceable() { layers::reopen(engine.file(), path, now).ok() } else { None };
        let replaced = again.is_some_and(|again| self.replace(again, needed, wanted).is_ok());
        if !replaced {
            // Reading the descriptor returns the current bytes.
            self.close();
            if options.asked() == Backend::Mapped {
                return Err(OperationError::new(0, Reason::Changed(Change::Replaced)));
            }
        }
        Ok(())
    }
}

/// Passes hints about a file to the kernel.
fn hint_file(engine: &Engine, advice: Option<Advice>, populate: bool) {
    let Window { start, max } = engine.window();
    let start = libc::off_t::try_from(start).unwrap_or(libc::off_t::MAX);
    // A length of 0 means up to the end of the file.
    let len = libc::off_t::try_from(max).unwrap_or(0);
    let advice = advice.map(|advice| match advice {
        Advice::Normal => libc::POSIX_FADV_NORMAL,
        Advice::Sequential => libc::POSIX_FADV_SEQUENTIAL,
        Advice::Random => libc::POSIX_FADV_RANDOM,
        Advice::WillNeed => libc::POSIX_FADV_WILLNEED,
    });
    for advice in advice.into_iter().chain(populate.then_some(libc::POSIX_FADV_WILLNEED)) {
        // SAFETY: a hint about a descriptor we own.
        unsafe { libc::posix_fadvise(engine.file().as_raw_fd(), start, len, advice) };
    }
}

impl MapOptions {
    /// Passes the hints of these options to the kernel.
    pub(super) fn hint(&self, engine: &Engine, mapping: Option<&Mapping>, len: u64) {
        let (advice, populate, huge_pages) = self.hints();
        match mapping {
            Some(mapping) => {
                if huge_pages {
                    mapping.advise(libc::MADV_HUGEPAGE);
                }
                if let Some(advice) = advice {
                    mapping.advise(match advice {
                        Advice::Normal => libc::MADV_NORMAL,
                        Advice::Sequential => libc::MADV_SEQUENTIAL,
                        Advice::Random => libc::MADV_RANDOM,
                        Advice::WillNeed => libc::MADV_WILLNEED,
                    });
                }
                if populate {
                    mapping.populate(engine.lead(), usize::try_from(len).unwrap_or(usize::MAX));
                }
            }
            None => hint_file(engine, advice, populate),
        }
    }
}

impl Backend {
    /// Returns the mapping of `file`, or `None` if the map reads with `pread(2)`.
    pub(super) fn choose<M>(
        self,
        file: &File,
        rights: Rights,
        map: impl FnOnce() -> Result<M, MappingError>,
    ) -> Result<Option<M>, Reason> {
        let mapped = match self {
            Backend::Pread => None,
            // Without recoverable faults the kernel would have to copy, and it copies faster from the file than from
            // the mapping.
            Backend::Automatic if !crate::arch::HAS_TABLE || !faults_are_recovered() => None,
            Backend::Automatic => map().ok(),
            Backend::Mapped => Some(map()?),
        };
        if rights == Rights::ReadWrite && mapped.is_none() && is_appending(file) {
            return Err(Reason::Unsupported(APPENDING));
        }
        Ok(mapped)
    }
}

/// Returns whether a fault in this thread would reach our handler, as far as can be determined. See
/// [`faults_reach_us`].
fn faults_are_recovered() -> bool {
    faults_reach_us() && signal::blocked() == [false; 2]
}

/// Returns whether our handler gets both signals, or the host has declared that it passes them on. If not, our handler
/// is raised above a handler that was installed later, which may not pass on unknown signals, and above the default
/// action and "ignore". All of them still get the signals that are not ours.
pub(super) fn faults_reach_us() -> bool {
    let reached = || {
        let status = signal::status();
        [status.segv, status.bus].iter().all(|reached| matches!(reached, HandlerState::Direct | HandlerState::Host))
    };
    crate::install().is_ok() && (reached() || signal::raise_to_top().is_ok() && reached())
}

/// The operation that a file open for appending makes impossible.
pub(super) const APPENDING: &str = "writing at a position over pread, when it is open for appending,";

/// Returns whether the file is open for appending: then every write goes to its end, at whatever offset `pwrite(2)` is
/// called.
pub(super) fn is_appending(file: &File) -> bool {
    // SAFETY: queries the flags of a descriptor we own.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags >= 0 && flags & libc::O_APPEND != 0
}

/// Minimum number of bytes that a map of a growing file reserves.
const RESERVE: usize = 64 << 20;

impl Window {
    /// Returns the number of bytes between the start of the mapping (the start of a page) and the start of the window.
    #[inline]
    pub(super) fn lead(&self) -> usize {
        (self.start % crate::page_size() as u64) as usize
    }

    /// Returns the size in bytes of the mapping that a file of this size needs; `None` if it exceeds the address space.
    pub(super) fn needed(&self, size: u64) -> Option<usize> {
        usize::try_from(self.len(size)).ok()?.checked_add(self.lead())
    }

    /// Returns the size in bytes of the mapping to request, so that the file can grow.
    pub(super) fn wanted(&self, needed: usize) -> usize {
        let most = usize::try_from(self.max).unwrap_or(usize::MAX).saturating_add(self.lead());
        needed.saturating_mul(2).max(RESERVE).min(most).max(needed)
    }

    fn map(&self, file: &File, size: u64, watch: Watch, rights: Rights) -> Result<Mapping, MappingError> {
        let too_large = || MappingError::Mmap(io::Error::from_raw_os_error(libc::ENOMEM));
        let needed = self.needed(size).ok_or_else(too_large)?;
        let offset = self.start - self.lead() as u64;
        let exact = |len| Mapping::new(file, offset, len, rights);
        match watch == Watch::Appending || rights == Rights::ReadWrite {
            true => exact(self.wanted(needed)).or_else(|_| exact(needed)),
            false => exact(needed),
        }
    }
}
