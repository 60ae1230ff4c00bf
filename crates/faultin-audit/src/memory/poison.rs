//! Poisoned memory on request: a page marked with `UFFDIO_POISON` (Linux 6.6), which from then on answers every access
//! as a page does whose memory is broken.
//!
//! The mark is put where nothing is mapped yet, and outlives the userfaultfd that put it there.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::OnceLock;

use super::mapping::{Protection, Reservation, memfd};

// <linux/userfaultfd.h>, which libc does not have.
const UFFD_API: u64 = 0xaa;
const UFFD_USER_MODE_ONLY: libc::c_int = 1;
const UFFD_FEATURE_POISON: u64 = 1 << 14;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;
const UFFDIO_API: libc::Ioctl = libc::_IOWR::<Api>(0xaa, 0x3f);
const UFFDIO_REGISTER: libc::Ioctl = libc::_IOWR::<Register>(0xaa, 0x00);
const UFFDIO_UNREGISTER: libc::Ioctl = libc::_IOR::<Range>(0xaa, 0x01);
const UFFDIO_POISON: libc::Ioctl = libc::_IOWR::<Poison>(0xaa, 0x08);

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    len: u64,
}

#[repr(C)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct Poison {
    range: Range,
    mode: u64,
    updated: i64,
}

/// Poisons a page that was mapped and not touched yet.
pub(super) fn poison(memory: &Reservation, index: usize) -> io::Result<()> {
    let range = Range { start: memory.page(index).addr() as u64, len: faultin::page_size() as u64 };
    let uffd = userfaultfd()?;
    ask(&uffd, UFFDIO_API, &mut Api { api: UFFD_API, features: UFFD_FEATURE_POISON, ioctls: 0 })?;
    ask(&uffd, UFFDIO_REGISTER, &mut Register { range, mode: UFFDIO_REGISTER_MODE_MISSING, ioctls: 0 })?;
    ask(&uffd, UFFDIO_POISON, &mut Poison { range, mode: 0, updated: 0 })?;
    ask(&uffd, UFFDIO_UNREGISTER, &mut { range })
}

/// A userfaultfd for faults of this process' own instructions, which needs no privilege.
fn userfaultfd() -> io::Result<File> {
    // SAFETY: gives a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new, and ours.
    Ok(unsafe { File::from_raw_fd(i32::try_from(fd).expect("a descriptor")) })
}

fn ask<T>(uffd: &File, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: every request above takes the structure it was built with, which `argument` is; the ranges are pages of a
    // reservation of ours, and a poisoned page faults, which views survive.
    let result = unsafe { libc::ioctl(uffd.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether pages can be poisoned here, found out by poisoning one. The error is the errno of what failed.
pub(crate) fn probe() -> Result<(), i32> {
    static ANSWER: OnceLock<Result<(), i32>> = OnceLock::new();
    *ANSWER.get_or_init(|| try_one().map_err(|error| error.raw_os_error().unwrap_or(0)))
}

/// Whether there is a userfaultfd at all.
pub(crate) fn probe_userfaultfd() -> Result<(), i32> {
    userfaultfd().map(drop).map_err(|error| error.raw_os_error().unwrap_or(0))
}

fn try_one() -> io::Result<()> {
    let file = memfd("poison")?;
    file.set_len(faultin::page_size() as u64)?;
    let range = Reservation::new(1)?;
    range.map(0, &file, Protection::ReadWrite)?;
    poison(&range, 0)?;
    match range.read()?.load::<u8>(0) {
        Err(_) => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
    }
}
