//! The kernel's side: its files, and how exact its results are.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::region::memfd;

/// The result of a call: a count, or an errno.
pub type Answer = Result<usize, i32>;

/// The place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// tmpfs.
    Memfd,
    /// The file system of the build directory.
    Disk,
}

/// A file system, as far as its deviations are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    Tmpfs,
    Ext4,
    Other,
}

/// The kernel's own file.
pub struct KernelFile {
    pub file: File,
    pub file_system: FileSystem,
}

impl KernelFile {
    pub fn new(home: Home) -> KernelFile {
        let file = match home {
            Home::Memfd => memfd(),
            Home::Disk => on_disk(),
        };
        let file_system = FileSystem::of(&file);
        KernelFile { file, file_system }
    }

    /// Whether the counts of this kernel's buffered reads and writes are exact to the byte: on x86, whose copies stop at
    /// the exact byte, from the release on whose writes return what was copied.
    pub fn is_exact(&self) -> bool {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        cfg!(target_arch = "x86_64") && version >= (6, 16) && self.file_system != FileSystem::Other
    }

    pub fn len(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }

    /// `pwritev`.
    pub fn write(&self, segments: &[libc::iovec], pos: u64) -> Answer {
        // SAFETY: the kernel checks every address that it loads from.
        answer(unsafe { libc::pwritev(self.file.as_raw_fd(), segments.as_ptr(), count(segments), pos.cast_signed()) })
    }

    /// `preadv`, to memory without references.
    pub fn read(&self, segments: &[libc::iovec], pos: u64) -> Answer {
        // SAFETY: the kernel checks every address that it stores to; they are in the region, which only the kernel and this
        // code store to.
        answer(unsafe { libc::preadv(self.file.as_raw_fd(), segments.as_ptr(), count(segments), pos.cast_signed()) })
    }

    /// Makes a range read as zeros.
    pub fn punch(&self, start: u64, len: u64) {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: a call with numbers only.
        let punched =
            unsafe { libc::fallocate(self.file.as_raw_fd(), mode, start.cast_signed(), len.cast_signed()) } == 0;
        let end = self.len().min(start + len);
        if !punched && start < end {
            self.file.write_all_at(&vec![0; (end - start) as usize], start).unwrap();
        }
    }

    /// All bytes.
    pub fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len() as usize];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// Replaces the contents.
    pub fn replace(&self, bytes: &[u8]) {
        self.file.set_len(0).unwrap();
        self.file.write_all_at(bytes, 0).unwrap();
    }
}

impl FileSystem {
    fn of(file: &File) -> FileSystem {
        // SAFETY: `statfs` is a struct of numbers, and the call initializes it.
        let kind = unsafe {
            let mut stat: libc::statfs = std::mem::zeroed();
            assert_eq!(libc::fstatfs(file.as_raw_fd(), &raw mut stat), 0, "{}", io::Error::last_os_error());
            stat.f_type
        };
        match kind {
            libc::TMPFS_MAGIC => FileSystem::Tmpfs,
            libc::EXT4_SUPER_MAGIC => FileSystem::Ext4,
            _ => FileSystem::Other,
        }
    }
}

/// An unnamed empty file in the build directory.
pub fn on_disk() -> File {
    tempfile::tempfile_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

fn count(segments: &[libc::iovec]) -> libc::c_int {
    libc::c_int::try_from(segments.len()).unwrap()
}

fn answer(result: isize) -> Answer {
    usize::try_from(result).map_err(|_| io::Error::last_os_error().raw_os_error().unwrap_or(0))
}
