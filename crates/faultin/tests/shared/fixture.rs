//! Shared memory for tests: each available kind, with each backend.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use faultin::Cause;
use faultin::{
    map::{Backend, Rights},
    shared::{SharedMap, SharedOptions},
};

/// One test at a time: some count the process's signals, some fork it.
pub fn serial() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The object behind the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Memfd,
    Tmpfs,
    Disk,
}

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub kind: Kind,
    pub backend: Backend,
}

/// Runs `test` with every kind and every backend.
pub fn each(mut test: impl FnMut(Case)) {
    let _one = serial();
    for kind in [Kind::Memfd, Kind::Tmpfs, Kind::Disk] {
        if kind == Kind::Tmpfs && tempfile::tempfile_in("/dev/shm").is_err() {
            faultin_test::skipped("tmpfs", "no file can be made in /dev/shm");
            continue;
        }
        for backend in [Backend::Mapped, Backend::Pread] {
            let case = Case { kind, backend };
            println!("{case:?}");
            test(case);
        }
    }
}

impl Case {
    pub fn options(self) -> SharedOptions {
        SharedOptions::new().backend(self.backend)
    }

    /// The peer's file of `len` bytes of the [`pattern`].
    pub fn file(self, len: usize) -> File {
        use std::os::unix::fs::FileExt;
        let file = match self.kind {
            Kind::Memfd => memfd(0),
            Kind::Tmpfs => tempfile::tempfile_in("/dev/shm").expect("a file in memory"),
            Kind::Disk => tempfile::tempfile().expect("a file"),
        };
        file.write_all_at(&content(len), 0).expect("room");
        file
    }

    /// A file as above, and a map of it.
    pub fn shared(self, len: usize) -> (File, SharedMap) {
        let file = self.file(len);
        let ours = file.try_clone().expect("a descriptor");
        let map = self.options().from_file(ours, len, Rights::ReadWrite).expect("map it");
        assert_eq!((map.backend(), map.len(), map.rights()), (self.backend, len, Rights::ReadWrite));
        (file, map)
    }

    pub fn is_mapped(self) -> bool {
        self.backend == Backend::Mapped
    }
}

/// The cause of a fault; a system call that makes the access does not report it.
pub fn failed(cause: Cause) -> Cause {
    if cfg!(faultin_syscall) { Cause::Other } else { cause }
}

/// A memfd that may be sealed.
pub fn memfd(flags: libc::c_uint) -> File {
    try_memfd(flags).expect("a memfd")
}

pub fn try_memfd(flags: libc::c_uint) -> std::io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | flags;
    // SAFETY: a string that ends with NUL.
    match unsafe { libc::memfd_create(c"test".as_ptr(), flags) } {
        // SAFETY: a new descriptor.
        fd if fd >= 0 => Ok(unsafe { File::from_raw_fd(fd) }),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Seals a memfd; returns the kernel's result.
pub fn seal(file: &File, seals: libc::c_int) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: a descriptor owned here.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The byte at `i`: never 0, to distinguish it from truncated bytes.
pub fn pattern(i: usize) -> u8 {
    (i.wrapping_mul(31) >> 3) as u8 | 1
}

pub fn content(len: usize) -> Vec<u8> {
    (0..len).map(pattern).collect()
}
