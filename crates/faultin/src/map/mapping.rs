//! Ownership of mapped addresses: a [`Mapping`] owns one range, a [`Space`] all ranges that a map has had.
//!
//! A mapping may extend past the end of its file. The pages there fault until the file grows, and are accessible
//! afterwards: so a map that reserves more than it needs grows without a system call, and operations under way are not
//! affected.

use core::num::NonZeroUsize;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError, TryLockError};

use super::error::Reason;
use super::state::file_system;
use crate::errno::CallError;
use crate::fault::{Access, Cause, Fault, Short};
use crate::registry::InstallError;
use crate::scalar::Scalar;
use crate::scan::Foreign;
use crate::signal::inside::guard::Guard;
use crate::signal::inside::slots::Slot;
use crate::{blocked, copy, fault_in, page_size, scalar, signal_free};

/// Number of bytes copied at once. Short copies load their end early, which keeps the memory a little ahead of them: a
/// tenth faster than one copy of all.
const PIECE: usize = 1 << 10;

/// The size in bytes from which the copy itself chooses best: its destination does not stay in a cache.
const CACHED: usize = 1 << 20;

/// [`copy::copy_in`], or one with its contract.
type CopyIn = unsafe fn(*mut u8, *const u8, usize) -> Result<(), Short>;

/// The reason why there is no mapping.
#[derive(Debug)]
pub(crate) enum MappingError {
    /// Faults would not be recovered.
    Handler(InstallError),
    /// `mmap(2)`.
    Mmap(io::Error),
}

impl From<MappingError> for Reason {
    fn from(refused: MappingError) -> Self {
        match refused {
            MappingError::Handler(error) => Reason::Handler(error),
            MappingError::Mmap(error) => Reason::Io(error),
        }
    }
}

/// The access rights of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Reading only.
    Read,
    /// Reading and storing.
    ReadWrite,
}

impl Rights {
    fn bits(self) -> libc::c_int {
        match self {
            Rights::Read => libc::PROT_READ,
            Rights::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

/// The state of a mapping of which parts [had been replaced](super::FileMap::repair).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// The file is mapped everywhere.
    Whole,
    /// Zeros are mapped in some places, because closures are reading them. The last closure that returns restores the file.
    InUse,
}

/// The scans of one mapping.
#[derive(Debug, Default)]
struct Scans {
    count: usize,
    /// Whether the kernel would let the handler substitute, once that was determined.
    allowed: Option<bool>,
}

/// A shared mapping of a part of a file, and the addresses it occupies.
///
/// # Invariants
///
/// 1. `base..base + len` is mapped by this value alone from [`new`](Self::new) to its drop, or by the caller of
///    [`adopt`](Self::adopt) at least as long. The contents may change (the file's end, [`remap`](Self::remap)); that something
///    is mapped does not.
/// 2. The handler was installed, or the host has declared that it owns it, before the mapping was made.
/// 3. `base` and `len` are multiples of the file's page size; `len` is not 0 and at most `isize::MAX`.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// Size of the file's pages in bytes.
    page: usize,
    /// Offset in the file where it begins; a multiple of the page size.
    offset: u64,
    rights: Rights,
    /// Whether it is the caller's, and stays when this is dropped.
    adopted: bool,
    /// The file it was mapped from, if that is another description than its map's.
    own: Option<File>,
    /// The guard for scans by foreign code.
    guard: &'static Slot<Guard>,
    /// The scans under way.
    scans: Mutex<Scans>,
}

// SAFETY: an address range whose every access is fallible and tolerates concurrent ones; unmapped by its owner only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps at least `len` bytes of `file` from `offset`, a multiple of the page size. The file may be shorter.
    pub(crate) fn new(file: &File, offset: u64, len: usize, rights: Rights) -> Result<Self, MappingError> {
        crate::install().map_err(MappingError::Handler)?;
        let (huge, too_long) =
            (huge_page_size(file), || MappingError::Mmap(io::Error::from_raw_os_error(libc::ENOMEM)));
        let page = huge.unwrap_or_else(page_size);
        let len = len.max(1).checked_next_multiple_of(page).filter(|&len| isize::try_from(len).is_ok());
        let len = len.ok_or_else(too_long)?;
        // Mapping past its end would reserve huge pages, and for writing, make the file longer.
        if huge.is_some() && file.metadata().map_err(MappingError::Mmap)?.len() < offset.saturating_add(len as u64) {
            return Err(too_long());
        }
        let base = map(ptr::null_mut(), len, rights, 0, file, offset).map_err(MappingError::Mmap)?;
        let guard = Guard::take(base.addr().get(), len, page, offset);
        Ok(Mapping { base, len, page, offset, rights, adopted: false, own: None, guard, scans: Mutex::default() })
    }

    /// Uses a mapping of `file` that the caller made, and ends.
    ///
    /// # Errors
    /// [`MappingError`] if the handler cannot be installed.
    ///
    /// # Safety
    /// `base..base + len` is a shared mapping of `file` from `offset`, with these rights; all three are multiples of the
    /// file's page size, and `len` is as invariant 3 says. The caller maps nothing else
    /// there and unmaps nothing of it before the result is dropped, and registers it once.
    pub(crate) unsafe fn adopt(
        file: &File,
        base: NonNull<u8>,
        offset: u64,
        len: usize,
        rights: Rights,
    ) -> Result<Self, MappingError> {
        crate::install().map_err(MappingError::Handler)?;
        let page = huge_page_size(file).unwrap_or_else(page_size);
        let guard = Guard::take(base.addr().get(), len, page, offset);
        Ok(Mapping { base, len, page, offset, rights, adopted: true, own: None, guard, scans: Mutex::default() })
    }

    /// Returns whether it is the caller's.
    pub(crate) fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// Sets which file it is of, for the events of faults in it.
    pub(crate) fn identify(&self, device: u64, inode: u64) {
        self.guard.identify(device, inode);
    }

    /// Sets that it is of the same file as `other`.
    fn identify_as(&self, other: &Mapping) {
        if let Some((device, inode)) = other.guard.file_id() {
            self.identify(device, inode);
        }
    }

    /// Keeps `file`, which it was mapped from, for mapping it again.
    pub(crate) fn keeping(mut self, file: File) -> Self {
        self.own = Some(file);
        self
    }

    /// Returns the first address.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Returns the size of the address range in bytes, a multiple of the page size.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies from byte `at` of the mapping.
    #[inline]
    pub(crate) fn read(&self, at: usize, dst: &mut [u8]) -> Result<(), Short> {
        self.read_by(copy::copy_in, at, dst)
    }

    /// As [`read`](Self::read), for bytes that are read one after the other.
    #[inline(always)]
    pub(crate) fn read_ahead(&self, at: usize, dst: &mut [u8]) -> Result<(), Short> {
        self.read_by(copy::copy_in_ahead, at, dst)
    }

    /// As [`read`](Self::read), past the CPU's caches.
    pub(crate) fn read_streaming(&self, at: usize, dst: &mut [u8]) -> Result<(), Short> {
        self.read_by(copy::copy_in_streaming, at, dst)
    }

    /// Copies as [`read`](Self::read) does, by one of the copies of [`copy`] from foreign memory.
    #[inline(always)]
    fn read_by(&self, copy_in: CopyIn, at: usize, dst: &mut [u8]) -> Result<(), Short> {
        let src = self.at(at, dst.len(), Access::Read).map_err(|fault| Short { done: 0, fault })?;
        let before = self.guard.epoch.now();
        let copied = match blocked::is_fatal() {
            false => self.copy(src, dst, copy_in),
            true => self.copy_by_kernel(src, dst),
        };
        // Also checks the bytes of a short copy: they may be a scan's zeros.
        self.whole_since(before, src).map_err(|fault| Short { done: 0, fault })?;
        copied
    }

    #[cold]
    #[inline(never)]
    fn copy_by_kernel(&self, src: *const u8, dst: &mut [u8]) -> Result<(), Short> {
        // SAFETY: invariant 1; `dst` is a unique reference.
        let copied = unsafe { signal_free::copy_in(dst.as_mut_ptr(), src, dst.len()) };
        copied.map_err(|short| Short { fault: self.by_kernel(short.fault), ..short })
    }

    #[inline(always)]
    fn copy(&self, src: *const u8, dst: &mut [u8], copy_in: CopyIn) -> Result<(), Short> {
        let step = if dst.len() <= CACHED { PIECE } else { dst.len() };
        if dst.len() <= step {
            // SAFETY: invariants 1 and 2; `dst` is a unique reference, so it does not overlap with our range.
            return unsafe { copy_in(dst.as_mut_ptr(), src, dst.len()) };
        }
        let mut done = 0;
        for piece in dst.chunks_mut(step) {
            // SAFETY: as above.
            let copied = unsafe { copy_in(piece.as_mut_ptr(), src.wrapping_add(done), piece.len()) };
            copied.map_err(|short| Short { done: done + short.done, ..short })?;
            done += piece.len();
        }
        Ok(())
    }

    /// Sets the cause of a fault that the kernel reported without one: our range is mapped, with these rights, so the file
    /// did not deliver.
    #[cold]
    fn by_kernel(&self, fault: Fault) -> Fault {
        match (fault.cause(), fault.address()) {
            (Cause::Other, Some(at)) if fault.access() == Access::Write && self.rights == Rights::Read => {
                Fault::rejected(Access::Write, Cause::Protection, at)
            }
            (Cause::Other, Some(at)) => Fault::rejected(fault.access(), Cause::Backing, at),
            _ => fault,
        }
    }

    /// Whether it can be looked through in this thread: a fault there is recovered.
    #[inline]
    pub(crate) fn is_searchable(&self) -> bool {
        !blocked::is_fatal()
    }

    /// Returns `len` bytes from byte `at` of the mapping, to search: the results are the file's if nothing was
    /// [substituted](Self::whole_since) meanwhile.
    #[inline]
    pub(crate) fn range(&self, at: usize, len: usize) -> Result<Foreign, Fault> {
        self.at(at, len, Access::Read).map(|ptr| Foreign(ptr))
    }

    /// Returns the epoch for a later [`whole_since`](Self::whole_since).
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.guard.epoch.now()
    }

    /// Checks that bytes that were read from `src` since [`epoch`](Self::epoch) returned `before` are the file's, and not
    /// the zeros of a scan.
    #[inline(always)]
    pub(crate) fn whole_since(&self, before: u64, src: *const u8) -> Result<(), Fault> {
        if self.guard.epoch.was_whole(before) {
            return Ok(());
        }
        Err(Fault::rejected(Access::Read, Cause::Backing, src.addr()))
    }

    /// Returns whether zeros of a scan are in the mapping.
    pub(crate) fn is_damaged(&self) -> bool {
        self.guard.epoch.is_damaged()
    }

    /// Begins a scan: faults of foreign code are resolved until [`leave`](Self::leave). Fails where the mapping is damaged:
    /// the scans under way report that, and after them it is repaired. Also fails where the handler could not resolve
    /// faults, because the kernel has no room for the mappings, or forbids them.
    pub(crate) fn enter(&self, file: &File) -> bool {
        let mut scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        // Damaged without a scan only if it could not be repaired when the last scan ended.
        if self.guard.epoch.is_damaged() && (scans.count > 0 || self.repair(file).is_err()) {
            return false;
        }
        if scans.count == 0 {
            if scans.allowed == Some(false) || !self.guard.begin(file.as_raw_fd()) {
                return false;
            }
            if scans.allowed.is_none() {
                scans.allowed = Some(!self.is_sealed() && self.guard.may_substitute());
            }
            if scans.allowed == Some(false) {
                self.guard.end();
                return false;
            }
        }
        scans.count += 1;
        true
    }

    /// Returns whether nothing can be mapped in its place (`mseal(2)`). Changes nothing: the rights are set to their
    /// current values.
    fn is_sealed(&self) -> bool {
        // SAFETY: our own range (invariant 1), with the rights that it was mapped with.
        let failed = unsafe { libc::mprotect(self.base().cast(), self.len, self.rights.bits()) } != 0;
        failed && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
    }

    /// Ends a scan. At the end of the last one, the file is restored where it was replaced.
    pub(crate) fn leave(&self, file: &File) {
        let mut scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        scans.count -= 1;
        if scans.count == 0 {
            self.guard.end();
            if self.guard.epoch.is_damaged() {
                // If it fails, everything is read from the file, and the next scan tries again.
                let _ = self.repair(file);
            }
        }
    }

    /// Returns whether there is a scan. Does not wait: in a child of `fork`, the thread that held the lock may be missing.
    pub(crate) fn is_entered(&self) -> bool {
        match self.scans.try_lock() {
            Ok(scans) => scans.count > 0,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().count > 0,
            // A scan that is being begun or ended.
            Err(TryLockError::WouldBlock) => true,
        }
    }

    /// Restores the file if there is no scan.
    pub(crate) fn repair_now(&self, file: &File) -> io::Result<Repair> {
        let scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.guard.epoch.is_damaged() {
            return Ok(Repair::Whole);
        }
        if scans.count > 0 {
            return Ok(Repair::InUse);
        }
        self.repair(file).map(|()| Repair::Whole)
    }

    /// Returns the replaced parts of `len` bytes from byte `at`, in the order of replacement.
    pub(crate) fn damage(&self, at: usize, len: usize) -> Vec<Range<usize>> {
        if !self.guard.epoch.is_damaged() {
            return Vec::new();
        }
        let within = |range: Range<usize>| range.start.max(at)..range.end.min(at + len);
        self.guard.damage().into_iter().map(within).filter(|range| !range.is_empty()).collect()
    }

    /// Returns the file's end when a scan read past it, the lowest of several.
    pub(crate) fn cut_to(&self) -> Option<u64> {
        self.guard.cut_to().map(|end| self.offset.saturating_add(end))
    }

    /// Restores the file wherever it was replaced. There is no scan.
    fn repair(&self, file: &File) -> io::Result<()> {
        for range in self.guard.damage() {
            let start = range.start & !(self.page - 1);
            let put_back = || self.remap(file, start, range.end - start);
            put_back().or_else(|error| if self.guard.give_up_reserve() { put_back() } else { Err(error) })?;
        }
        self.guard.healed();
        Ok(())
    }

    /// Loads the value at byte `at` of the mapping.
    #[inline]
    pub(crate) fn load<T: Scalar>(&self, at: usize) -> Result<T, Fault> {
        let src = self.at(at, size_of::<T>(), Access::Read)?;
        let before = self.guard.epoch.now();
        let value = blocked::value(
            // SAFETY: invariants 1 and 2.
            || unsafe { scalar::load(src.cast::<T>()) },
            // SAFETY: invariant 1.
            || unsafe { signal_free::load(src.cast::<T>()) }.map_err(|fault| self.by_kernel(fault)),
        )?;
        self.whole_since(before, src).map(|()| value)
    }

    /// Copies to byte `at` of the mapping.
    #[inline]
    pub(crate) fn write(&self, at: usize, src: &[u8]) -> Result<(), Short> {
        let dst = self.at(at, src.len(), Access::Write).map_err(|fault| Short { done: 0, fault })?;
        if blocked::is_fatal() {
            // SAFETY: as below, without a handler.
            let stored = unsafe { signal_free::copy_out(dst, src.as_ptr(), src.len()) };
            return stored.map_err(|short| Short { fault: self.by_kernel(short.fault), ..short });
        }
        // SAFETY: invariants 1 and 2; `src` is a reference, and no function returns one to our range.
        unsafe { copy::copy_out(dst, src.as_ptr(), src.len()) }
    }

    /// Stores a value at byte `at` of the mapping.
    #[inline]
    pub(crate) fn store<T: Scalar>(&self, at: usize, value: T) -> Result<(), Fault> {
        let dst = self.at(at, size_of::<T>(), Access::Write)?;
        blocked::value(
            // SAFETY: invariants 1 and 2.
            || unsafe { scalar::store(dst.cast::<T>(), value) },
            // SAFETY: invariant 1.
            || unsafe { signal_free::store(dst.cast::<T>(), value) }.map_err(|fault| self.by_kernel(fault)),
        )
    }

    /// Fills `len` bytes from byte `at` of the mapping.
    #[inline]
    pub(crate) fn fill(&self, at: usize, byte: u8, len: usize) -> Result<(), Short> {
        let dst = self.at(at, len, Access::Write).map_err(|fault| Short { done: 0, fault })?;
        if blocked::is_fatal() {
            // SAFETY: invariant 1.
            let filled = unsafe { signal_free::fill(dst, byte, len) };
            return filled.map_err(|short| Short { fault: self.by_kernel(short.fault), ..short });
        }
        // SAFETY: invariants 1 and 2.
        unsafe { copy::fill(dst, byte, len) }
    }

    /// Calls `madvise(2)` for the whole mapping. A hint: its result is ignored.
    pub(crate) fn advise(&self, advice: libc::c_int) {
        // SAFETY: our own range (invariant 1); the callers pass hints, which change no byte.
        unsafe { libc::madvise(self.base().cast(), self.len, advice) };
    }

    /// Brings in what can be brought in of `len` bytes from byte `at`.
    pub(super) fn populate(&self, at: usize, len: usize) {
        let len = len.min(self.len.saturating_sub(at));
        let mut done = 0;
        while let Some(rest) = NonZeroUsize::new(len - done) {
            let start = self.base().wrapping_add(at + done);
            // SAFETY: within the mapping, whose invariants are `fault_in`'s preconditions.
            let faulted_in = unsafe {
                match blocked::is_fatal() {
                    true => signal_free::fault_in_readable(start, rest),
                    false => fault_in::fault_in_readable(start, rest),
                }
            };
            match faulted_in {
                Ok(brought) => done += brought.get(),
                Err(_) => return,
            }
        }
    }

    /// Writes back the pages of `len` bytes from byte `at`, and waits: `msync(2)` with `MS_SYNC`.
    pub(crate) fn sync(&self, at: usize, len: usize) -> io::Result<()> {
        let lead = at & (page_size() - 1);
        let end = at.saturating_add(len).min(self.len);
        let start = (at - lead).min(end);
        // SAFETY: our own range (invariant 1).
        match unsafe { libc::msync(self.base().wrapping_add(start).cast(), end - start, libc::MS_SYNC) } {
            0 => Ok(()),
            _ => Err(CallError::last("msync")),
        }
    }

    /// Maps the file again at `len` bytes from byte `at` (multiples of the page size), in place of the current mapping.
    fn remap(&self, file: &File, at: usize, len: usize) -> io::Result<()> {
        let inside = at.checked_add(len).is_some_and(|end| end <= self.len);
        if !inside || len == 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let place = self.base().wrapping_add(at).cast();
        let file = self.own.as_ref().unwrap_or(file);
        map(place, len, self.rights, libc::MAP_FIXED, file, self.offset + at as u64).map(|_| ())
    }

    #[inline]
    fn at(&self, at: usize, len: usize, access: Access) -> Result<*mut u8, Fault> {
        if at <= self.len && len <= self.len - at {
            Ok(self.base().wrapping_add(at))
        } else {
            Err(Fault::rejected(access, Cause::OutOfRange, self.base().addr().wrapping_add(at)))
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // First: afterwards the addresses may be another mapping's.
        Guard::give_back(self.guard);
        if !self.adopted {
            // SAFETY: our own range (invariant 1), to which no pointer exists: accesses borrow the mapping.
            unsafe { libc::munmap(self.base().cast(), self.len) };
        }
    }
}

/// Returns the size of the file's pages in bytes if it has huge ones only (hugetlbfs): it is mapped and unmapped in whole
/// pages.
pub(super) fn huge_page_size(file: &File) -> Option<usize> {
    let (kind, block) = file_system(file)?;
    let size = usize::try_from(block).ok().filter(|size| size.is_power_of_two());
    if kind == libc::HUGETLBFS_MAGIC as u32 { size } else { None }
}

/// Calls `mmap(2)`, shared. With `MAP_FIXED` the place is a part of a mapping that the caller owns.
fn map(
    place: *mut libc::c_void,
    len: usize,
    rights: Rights,
    flags: libc::c_int,
    file: &File,
    offset: u64,
) -> io::Result<NonNull<u8>> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: a new range, or one that the caller owns.
    let base = unsafe { libc::mmap(place, len, rights.bits(), libc::MAP_SHARED | flags, file.as_raw_fd(), offset) };
    if base == libc::MAP_FAILED {
        return Err(CallError::last("mmap"));
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

/// All mappings of a map over its lifetime: the newest, which is the largest, and those before it.
///
/// Growth never moves or ends a mapping that a thread may be reading: a second, larger one is made and published, and the
/// old one stays until the space is dropped. Where there is room, each is at least twice as large as the one before: so
/// there are few, and together they take at most twice the addresses of the newest.
///
/// A mapping that no longer shows the file is [replaced](Self::replace) in the same way, at most [`REPLACED`] times. After
/// that, and where no mapping is available, the space [closes](Self::close): the file is read instead.
#[derive(Debug)]
pub(crate) struct Space {
    /// The newest node, null while the space is closed.
    newest: AtomicPtr<Node>,
    /// The head of the list. All nodes were made by `Box::into_raw` and are freed by drop only.
    last: AtomicPtr<Node>,
    /// Held by the thread that changes it.
    replaced: Mutex<Replaced>,
}

#[derive(Debug, Default)]
struct Replaced {
    times: usize,
    /// Descriptions that could not be mapped. Closing any descriptor of a file releases the process's record locks on it
    /// (`fcntl(2)`), so they are kept as long as the space.
    unmapped: Vec<File>,
}

/// Maximum number of replaced mappings of a space: each keeps its addresses and a descriptor as long as the space.
pub(crate) const REPLACED: usize = 8;

#[derive(Debug)]
struct Node {
    mapping: Mapping,
    /// Kept mapped for threads that are still reading it; null in the first.
    older: *mut Node,
}

impl Space {
    pub(crate) fn new(mapping: Mapping) -> Self {
        let first = Box::into_raw(Box::new(Node { mapping, older: ptr::null_mut() }));
        Space { newest: AtomicPtr::new(first), last: AtomicPtr::new(first), replaced: Mutex::default() }
    }

    /// Returns the largest mapping, `None` while the space is closed. This is a load; the result stays valid as long as the
    /// space.
    #[inline]
    pub(crate) fn newest(&self) -> Option<&Mapping> {
        // SAFETY: null or a node of the list, published with release, freed by drop only, which the borrow excludes.
        unsafe { self.newest.load(Ordering::Acquire).as_ref() }.map(|node| &node.mapping)
    }

    /// Asks whether a fault would be fatal in this thread, before accesses that make a system call anyway.
    #[inline]
    pub(super) fn prepare(&self) {
        blocked::ask();
    }

    /// Returns all of them, the newest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Mapping> {
        // SAFETY: nodes of the list, as in `newest`; `older` is written before a node is published.
        let node = |at: *mut Node| unsafe { at.as_ref() };
        core::iter::successors(node(self.last.load(Ordering::Acquire)), move |last| node(last.older))
            .map(|node| &node.mapping)
    }

    /// Makes sure that the newest mapping has `needed` bytes, or `wanted` if there is room for them. A closed space stays
    /// closed.
    pub(crate) fn grow(&self, file: &File, needed: usize, wanted: usize) -> Result<(), MappingError> {
        let _one = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(now) = self.newest().filter(|now| now.len() < needed) else { return Ok(()) };
        let wanted = wanted.max(needed).max(now.len().saturating_mul(2));
        let mapping = Mapping::new(file, now.offset, wanted, now.rights)
            .or_else(|_| Mapping::new(file, now.offset, needed, now.rights))?;
        mapping.identify_as(now);
        self.publish(mapping);
        Ok(())
    }

    /// Returns whether a mapping may be [replaced](Self::replace) once more.
    pub(crate) fn is_replaceable(&self) -> bool {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner).times < REPLACED
    }

    /// Replaces the newest mapping by one of `needed` bytes of `file`, another description of the map's file.
    pub(crate) fn replace(&self, file: File, needed: usize, wanted: usize) -> Result<(), MappingError> {
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.times += 1;
        let Some(last) = self.all().next() else { return Ok(()) };
        let mapping = Mapping::new(&file, last.offset, wanted.max(needed), last.rights)
            .or_else(|_| Mapping::new(&file, last.offset, needed, last.rights));
        match mapping {
            Ok(mapping) => {
                mapping.identify_as(last);
                self.publish(mapping.keeping(file));
                Ok(())
            }
            Err(refused) => {
                replaced.unmapped.push(file);
                Err(refused)
            }
        }
    }

    fn publish(&self, mapping: Mapping) {
        let node = Box::into_raw(Box::new(Node { mapping, older: self.last.load(Ordering::Relaxed) }));
        self.last.store(node, Ordering::Release);
        self.newest.store(node, Ordering::Release);
    }

    /// Makes the map read the file from here on. Accesses to the mapping that are under way continue.
    pub(crate) fn close(&self) {
        let _one = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        self.newest.store(ptr::null_mut(), Ordering::Release);
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let mut next = *self.last.get_mut();
        while !next.is_null() {
            // SAFETY: a node of the list, made by `Box::into_raw`; the space is no longer borrowed.
            let node = unsafe { Box::from_raw(next) };
            next = node.older;
        }
    }
}
