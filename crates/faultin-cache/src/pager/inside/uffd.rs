//! A userfaultfd: the page table of a mapping, by system calls.
//!
//! Everything except opening uses system calls of [`sys`] only, and may run in a signal handler.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use faultin::CallError;
use linux_raw_sys::general::{
    uffdio_api, uffdio_continue, uffdio_poison, uffdio_range, uffdio_register, uffdio_writeprotect,
};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{self, Opcode, Updater, opcode};
use rustix::mm::UserfaultfdFlags;

use crate::sys;

// <linux/userfaultfd.h>
const MAGIC: u8 = 0xaa;
const API: u64 = 0xaa;
const FEATURE_SIGBUS: u64 = 1 << 7;
const FEATURE_THREAD_ID: u64 = 1 << 8;
/// Pagefault flags, shared memory: missing, present and write-protected pages (5.19), poison (6.6, which also stands for
/// `UFFDIO_CONTINUE_MODE_WP` of 6.4).
const FEATURES: u64 = 1 | 1 << 5 | 1 << 10 | 1 << 12 | 1 << 14;
const REGISTER_MODES: u64 = 1 | 2 | 4;
const CONTINUE_MODE_DONTWAKE: u64 = 1;
const CONTINUE_MODE_WP: u64 = 2;
const WRITEPROTECT_MODE_WP: u64 = 1;
const WRITEPROTECT_MODE_DONTWAKE: u64 = 2;

const IOCTL_API: Opcode = opcode::read_write::<uffdio_api>(MAGIC, 0x3f);
const IOCTL_REGISTER: Opcode = opcode::read_write::<uffdio_register>(MAGIC, 0x00);
const IOCTL_WAKE: Opcode = opcode::read::<uffdio_range>(MAGIC, 0x02);
const IOCTL_WRITEPROTECT: Opcode = opcode::read_write::<uffdio_writeprotect>(MAGIC, 0x06);
const IOCTL_CONTINUE: Opcode = opcode::read_write::<uffdio_continue>(MAGIC, 0x07);
const IOCTL_POISON: Opcode = opcode::read_write::<uffdio_poison>(MAGIC, 0x08);
// Outside signals.
/// Request of `/dev/userfaultfd`.
const IOCTL_NEW: Opcode = opcode::none(MAGIC, 0x00);

/// What happens at a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pager) enum Faults {
    /// A signal to the thread.
    Signal,
    /// A message to the reader of the descriptor; the thread waits, also in a system call.
    Message,
}

/// A userfaultfd of one mapping of a memfd.
#[derive(Debug)]
pub(in crate::pager) struct Uffd {
    fd: OwnedFd,
}

impl Uffd {
    // Outside signals: it opens a descriptor.
    /// # Errors
    /// The kernel has no userfaultfd, or not all of the features, or not for this process.
    pub(in crate::pager) fn open(faults: Faults) -> io::Result<Uffd> {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        let (fd, wanted) = match faults {
            Faults::Signal => {
                // Faults of user mode alone need no privilege.
                let user_mode_only = UserfaultfdFlags::from_bits_retain(1);
                // SAFETY: a new descriptor, which this module uses for its own mappings only.
                (unsafe { rustix::mm::userfaultfd(flags | user_mode_only) }?, FEATURE_SIGBUS)
            }
            Faults::Message => {
                // SAFETY: as above.
                let fd = unsafe { rustix::mm::userfaultfd(flags) }.map_err(io::Error::from);
                (fd.or_else(|error| Self::by_device(flags).map_err(|_| error))?, FEATURE_THREAD_ID)
            }
        };
        let mut api = uffdio_api { api: API, features: FEATURES | wanted, ioctls: 0 };
        // SAFETY: the structure that the kernel reads and writes.
        unsafe { ioctl::ioctl(&fd, Updater::<IOCTL_API, _>::new(&mut api)) }
            .map_err(|error| CallError::name("ioctl", error.into()))?;
        if faults == Faults::Message
            && let Err(error @ (Errno::PERM | Errno::NOSYS)) = sys::read(fd.as_fd(), &mut [0_u8; 32])
        {
            // A filter of system calls forbids it: each thread that faults would wait forever.
            return Err(CallError::name("read", error.into()));
        }
        Ok(Uffd { fd })
    }

    // Outside signals: it opens a descriptor.
    /// Opens the device, for processes that may.
    fn by_device(flags: UserfaultfdFlags) -> io::Result<OwnedFd> {
        let device = rustix::fs::open("/dev/userfaultfd", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        /// `USERFAULTFD_IOC_NEW`, which returns a descriptor.
        struct New(usize);
        // SAFETY: the argument is a number; the result is a new descriptor.
        unsafe impl ioctl::Ioctl for New {
            type Output = OwnedFd;
            const IS_MUTATING: bool = false;

            fn opcode(&self) -> Opcode {
                IOCTL_NEW
            }

            fn as_ptr(&mut self) -> *mut core::ffi::c_void {
                std::ptr::without_provenance_mut(self.0)
            }

            unsafe fn output_from_ptr(
                output: ioctl::IoctlOutput,
                _: *mut core::ffi::c_void,
            ) -> rustix::io::Result<OwnedFd> {
                // SAFETY: the kernel has just made it.
                Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(output) })
            }
        }
        // SAFETY: as the implementation says.
        Ok(unsafe { ioctl::ioctl(&device, New(flags.bits() as usize)) }?)
    }

    // Outside signals: it is a part of making a mapping.
    /// Registers all faults of a range, which is our mapping of a memfd.
    pub(in crate::pager) fn register(&self, start: usize, len: usize) -> io::Result<()> {
        let range = uffdio_range { start: start as u64, len: len as u64 };
        let mut register = uffdio_register { range, mode: REGISTER_MODES, ioctls: 0 };
        // SAFETY: the structure that the kernel reads and writes.
        unsafe { ioctl::ioctl(&self.fd, Updater::<IOCTL_REGISTER, _>::new(&mut register)) }
            .map_err(|error| CallError::name("ioctl", error.into()))
    }

    /// Maps pages of the memfd, from the first one on: returns the number of bytes, and the error that ended it.
    /// [Wakes](Self::wake) no thread.
    pub(in crate::pager) fn install(&self, start: usize, len: usize, writable: bool) -> (usize, Result<(), Errno>) {
        let mut done = 0;
        while done < len {
            let range = uffdio_range { start: (start + done) as u64, len: (len - done) as u64 };
            let mode = CONTINUE_MODE_DONTWAKE | if writable { 0 } else { CONTINUE_MODE_WP };
            let mut ask = uffdio_continue { range, mode, mapped: 0 };
            // SAFETY: the structure that the kernel reads and writes; it maps the mapping's own file.
            let result = unsafe { sys::ioctl(self.as_fd(), IOCTL_CONTINUE, &mut ask) };
            let mapped = usize::try_from(ask.mapped).unwrap_or(0);
            done += mapped.min(len - done);
            match result {
                Ok(()) => {}
                // A part of it.
                Err(Errno::AGAIN) if mapped > 0 => {}
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    /// Forbids stores, or allows them.
    pub(in crate::pager) fn protect(&self, start: usize, len: usize, protect: bool) -> Result<(), Errno> {
        let range = uffdio_range { start: start as u64, len: len as u64 };
        let mode = if protect { WRITEPROTECT_MODE_WP } else { WRITEPROTECT_MODE_DONTWAKE };
        let mut ask = uffdio_writeprotect { range, mode };
        // SAFETY: the structure that the kernel reads.
        unsafe { sys::ioctl(self.as_fd(), IOCTL_WRITEPROTECT, &mut ask) }
    }

    /// Removes marks of write protection from pages that are not mapped. Wakes no thread.
    pub(in crate::pager) fn unmark(&self, start: usize, len: usize) -> Result<(), Errno> {
        let range = uffdio_range { start: start as u64, len: len as u64 };
        let mut ask = uffdio_writeprotect { range, mode: WRITEPROTECT_MODE_DONTWAKE };
        // SAFETY: the structure that the kernel reads.
        unsafe { sys::ioctl(self.as_fd(), IOCTL_WRITEPROTECT, &mut ask) }
    }

    /// Makes accesses fail to pages that are not mapped and have no mark, and wakes the threads that wait for them.
    pub(in crate::pager) fn poison(&self, start: usize, len: usize) -> Result<(), Errno> {
        let range = uffdio_range { start: start as u64, len: len as u64 };
        let mut ask = uffdio_poison { range, mode: 0, updated: 0 };
        // SAFETY: the structure that the kernel reads and writes.
        unsafe { sys::ioctl(self.as_fd(), IOCTL_POISON, &mut ask) }
    }

    /// Makes threads that wait for these pages try again.
    pub(in crate::pager) fn wake(&self, start: usize, len: usize) {
        let mut range = uffdio_range { start: start as u64, len: len as u64 };
        // SAFETY: the structure that the kernel reads. Without waiting threads, nothing happens.
        let _ = unsafe { sys::ioctl(self.as_fd(), IOCTL_WAKE, &mut range) };
    }

    /// Returns the next fault that a thread waits for.
    pub(in crate::pager) fn next(&self) -> Option<Message> {
        let mut message = [0_u8; 32];
        let read = sys::read(self.as_fd(), &mut message).ok()?;
        // `struct uffd_msg`: the kind of the event, then from the eighth byte on its data.
        let word = |at: usize| u64::from_ne_bytes(message[at..at + 8].try_into().unwrap_or_default());
        const PAGEFAULT: u8 = 0x12;
        const BY_STORE: u64 = 1 | 2;
        (read == message.len() && message[0] == PAGEFAULT).then(|| Message {
            is_store: word(8) & BY_STORE != 0,
            address: word(16) as usize,
            thread: word(24) as u32,
        })
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The message of a thread that waits for a page.
#[derive(Clone, Copy, Debug)]
pub(in crate::pager) struct Message {
    pub(in crate::pager) address: usize,
    pub(in crate::pager) is_store: bool,
    /// The kernel's id of the thread.
    pub(in crate::pager) thread: u32,
}
