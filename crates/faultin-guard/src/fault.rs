//! What happened: a fault, its file and its cause, as values.

use std::ffi::OsString;
use std::time::SystemTime;

use crate::access::Access;

/// An access of a guarded program that the kernel answered with SIGBUS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The process.
    pub process: i32,
    /// The thread.
    pub thread: i32,
    /// The name of the process (`/proc/PID/comm`). A program chooses it: escape it before you print it.
    pub program: OsString,
    /// The name of the thread. Escape it before you print it.
    pub thread_name: OsString,
    /// The `si_code` of the signal.
    pub code: i32,
    /// The address that was accessed, as far as the kernel reports it.
    pub address: u64,
    /// What the instruction did there.
    pub access: Access,
    /// The mapped file, if there is one and it was found.
    pub file: Option<MappedFile>,
    /// Why the kernel could not provide the page.
    pub cause: Cause,
    /// Whether the process has a handler for SIGBUS, and may survive the signal.
    pub has_handler: bool,
}

/// A mapped file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MappedFile {
    /// The path as the process sees it. Others choose it: escape it before you print it.
    pub path: OsString,
    /// Whether the file has been removed, or never had a name (a memfd).
    pub is_deleted: bool,
    /// The device (`st_dev`).
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// The byte of the file that was accessed.
    pub offset: u64,
    /// Bytes of the file now.
    pub size: u64,
    /// Whether the mapping is shared.
    pub is_shared: bool,
    /// Whether the mapping may hold code.
    pub is_executable: bool,
    /// Where its file system is mounted, if the file has a name in a mounted one.
    pub mount: Option<Mount>,
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mount {
    /// The folder that it is mounted on. Escape it before you print it.
    pub point: OsString,
    /// Its type: `ext4`, `tmpfs`. Who mounts a file system of FUSE chooses a part of it (`fuse.…`): escape it before you print it.
    pub kind: String,
    /// What is mounted: a device, an address. Escape it before you print it.
    pub source: OsString,
}

/// Space of a file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What a program without special rights may still use.
    pub free: u64,
}

/// Why the kernel could not provide a page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The page is past the end of the file: the file was truncated, or never reached so far. The kernel does not tell which.
    PastEnd {
        /// Bytes of the file now.
        size: u64,
        /// Up to which byte of the file the mapping reaches.
        mapped_to: u64,
        /// When the file changed last (`st_ctime`).
        changed: SystemTime,
    },
    /// The file system has no space for the page.
    NoSpace {
        /// What allocating the page answered: ENOSPC or EDQUOT; no value if the kernel was not asked, or the page could be
        /// allocated but the file system wants more than a page.
        errno: Option<i32>,
        /// The file system's space.
        space: Space,
    },
    /// There is no huge page left in the pool.
    HugePages {
        /// Bytes of a page.
        page: u64,
        /// Pages in the pool.
        total: u64,
        /// Pages that are free and not reserved.
        free: u64,
    },
    /// Reading or allocating the page fails.
    Io {
        /// With which number.
        errno: i32,
    },
    /// The page can be read, and allocated if it was to be, by the time it is looked at: something else was faster, or the
    /// file system wants more than the page.
    Accessible {
        /// The file system's space.
        space: Space,
    },
    /// The access was not aligned as the CPU wants it.
    Misaligned,
    /// The hardware reports that memory is damaged.
    Poison {
        /// Bytes that are lost, as far as the kernel says.
        bytes: u64,
    },
    /// A userfaultfd of the program was asked to raise the signal.
    Userfaultfd,
    /// A system call raised the signal: the program has sent it to itself, with the code of a fault.
    Sent,
    /// The process does not let itself be inspected, or the inspection failed.
    NotInspectable {
        /// Why.
        why: String,
    },
    /// None of these.
    Unknown {
        /// What is known.
        facts: String,
    },
}

impl Cause {
    /// The word of the reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Cause::PastEnd { .. } => "past-end",
            Cause::NoSpace { .. } => "no-space",
            Cause::HugePages { .. } => "huge-pages",
            Cause::Io { .. } => "io",
            Cause::Accessible { .. } => "accessible",
            Cause::Misaligned => "misaligned",
            Cause::Poison { .. } => "poison",
            Cause::Userfaultfd => "userfaultfd",
            Cause::Sent => "sent",
            Cause::NotInspectable { .. } => "not-inspectable",
            Cause::Unknown { .. } => "unknown",
        }
    }
}
