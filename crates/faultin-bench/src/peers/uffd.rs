//! A minimal pager: a memfd with a userfaultfd, filled from a file and mapped page by page, by a signal handler or by a
//! thread. No locks, no limit, no dirty pages; its state is static.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

use libc::{c_int, c_void};

use super::Handler;

// <linux/userfaultfd.h>
const UFFD_API: u64 = 0xaa;
const SIGBUS_FEATURE: u64 = 1 << 7;
const MINOR_SHMEM: u64 = 1 << 10;
const MISSING_SHMEM: u64 = 1 << 5;
const USER_MODE_ONLY: c_int = 1;
const MISSING: u64 = 1;
const MINOR: u64 = 4;
const API: libc::Ioctl = libc::_IOWR::<[u64; 3]>(0xaa, 0x3f);
const REGISTER: libc::Ioctl = libc::_IOWR::<[u64; 4]>(0xaa, 0x00);
const COPY: libc::Ioctl = libc::_IOWR::<[u64; 5]>(0xaa, 0x03);
const CONTINUE: libc::Ioctl = libc::_IOWR::<[u64; 4]>(0xaa, 0x07);

const PAGE: usize = 4096;

/// The handler's data.
static BASE: AtomicUsize = AtomicUsize::new(0);
static ALIAS: AtomicUsize = AtomicUsize::new(0);
static UFFD: AtomicI32 = AtomicI32::new(-1);
static STORE: AtomicI32 = AtomicI32::new(-1);

/// A mapping of a memfd with a userfaultfd, and another one through which it is filled.
pub struct Watched {
    uffd: OwnedFd,
    memfd: File,
    base: *mut u8,
    alias: *mut u8,
    len: usize,
}

impl Watched {
    /// # Errors
    /// If there is no userfaultfd.
    pub fn new(len: usize, signal: bool) -> io::Result<Watched> {
        // SAFETY: new descriptors and mappings.
        unsafe {
            let mode = if signal { USER_MODE_ONLY } else { 0 };
            let uffd = owned(libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK | mode) as c_int)?;
            let features = MINOR_SHMEM | MISSING_SHMEM | if signal { SIGBUS_FEATURE } else { 0 };
            ask(uffd.as_raw_fd(), API, &mut [UFFD_API, features, 0])?;
            let memfd = File::from(owned(libc::memfd_create(c"peer".as_ptr(), libc::MFD_CLOEXEC))?);
            memfd.set_len(len as u64)?;
            let map = || {
                let rights = libc::PROT_READ | libc::PROT_WRITE;
                let at = libc::mmap(ptr::null_mut(), len, rights, libc::MAP_SHARED, memfd.as_raw_fd(), 0);
                if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast::<u8>()) }
            };
            let (base, alias) = (map()?, map()?);
            let watched = Watched { uffd, memfd, base, alias, len };
            let range = [base.addr() as u64, len as u64];
            ask(watched.uffd.as_raw_fd(), REGISTER, &mut [range[0], range[1], MISSING | MINOR, 0])?;
            Ok(watched)
        }
    }

    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Unmaps all pages; drops their bytes as well, if `empty`.
    pub fn forget(&self, empty: bool) {
        // SAFETY: our own mapping and file.
        unsafe {
            libc::madvise(self.base.cast(), self.len, libc::MADV_DONTNEED);
            if empty {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                libc::fallocate(self.memfd.as_raw_fd(), mode, 0, self.len as libc::off_t);
            }
        }
    }

    /// Fills everything without mapping it here. It stays mapped in the other mapping, if `keep`.
    pub fn fill(&self, byte: u8, keep: bool) {
        // SAFETY: this value's mapping.
        unsafe {
            ptr::write_bytes(self.alias, byte, self.len);
            if !keep {
                libc::madvise(self.alias.cast(), self.len, libc::MADV_DONTNEED);
            }
        }
    }

    /// Fills and maps a part from memory (`UFFDIO_COPY`).
    pub fn copy(&self, offset: usize, from: &[u8]) -> bool {
        let at = (self.base.addr() + offset) as u64;
        let mut copy = [at, from.as_ptr().addr() as u64, from.len() as u64, 0, 0];
        ask(self.uffd.as_raw_fd(), COPY, &mut copy).is_ok()
    }

    /// Maps a part that is filled (`UFFDIO_CONTINUE`).
    pub fn map(&self, offset: usize, len: usize) -> bool {
        ask(self.uffd.as_raw_fd(), CONTINUE, &mut [(self.base.addr() + offset) as u64, len as u64, 0, 0]).is_ok()
    }

    /// Resolves faults of this mapping from `store` from here on.
    pub fn serve(&self, store: &File) {
        BASE.store(self.base.addr(), Relaxed);
        ALIAS.store(self.alias.addr(), Relaxed);
        UFFD.store(self.uffd.as_raw_fd(), Relaxed);
        STORE.store(store.as_raw_fd(), Relaxed);
    }

    /// Resolves faults by a thread that reads messages, until the result is dropped.
    pub fn serve_by_thread(&self, store: &File) -> Serving {
        let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let (uffd, store) = (self.uffd.as_raw_fd(), store.as_raw_fd());
        let (base, alias) = (self.base.addr(), self.alias.addr());
        let thread = std::thread::spawn(move || {
            while !stop.load(Relaxed) {
                let mut poll = libc::pollfd { fd: uffd, events: libc::POLLIN, revents: 0 };
                let mut message = [0_u64; 4];
                // SAFETY: our own memory and descriptors.
                unsafe {
                    libc::poll(&raw mut poll, 1, 50);
                    while libc::read(uffd, message.as_mut_ptr().cast(), 32) == 32 {
                        let offset = (message[2] as usize - base) & !(PAGE - 1);
                        fill_and_map(store, uffd, base, alias, offset);
                    }
                }
            }
        });
        Serving { stop, thread: Some(thread) }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: this value's mappings.
        unsafe {
            libc::munmap(self.base.cast(), self.len);
            libc::munmap(self.alias.cast(), self.len);
        }
    }
}

/// A thread that resolves faults.
pub struct Serving {
    stop: &'static AtomicBool,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns the handler that resolves faults as set by [`Watched::serve`].
pub fn handler() -> Handler {
    Handler::new(serve as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER)
}

extern "C" fn serve(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel's, for a fault.
    let address = unsafe { (*info).si_addr() }.addr();
    let offset = (address - BASE.load(Relaxed)) & !(PAGE - 1);
    fill_and_map(STORE.load(Relaxed), UFFD.load(Relaxed), BASE.load(Relaxed), ALIAS.load(Relaxed), offset);
}

fn fill_and_map(store: RawFd, uffd: RawFd, base: usize, alias: usize, offset: usize) {
    // SAFETY: within the second mapping.
    unsafe { libc::pread(store, ptr::with_exposed_provenance_mut(alias + offset), PAGE, offset as libc::off_t) };
    let _ = ask(uffd, CONTINUE, &mut [(base + offset) as u64, PAGE as u64, 0, 0]);
}

fn ask<const N: usize>(fd: RawFd, what: libc::Ioctl, argument: &mut [u64; N]) -> io::Result<()> {
    // SAFETY: an array of the size that `what` reads and writes.
    let result = unsafe { libc::ioctl(fd, what, argument.as_mut_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn owned(fd: c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new, without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
