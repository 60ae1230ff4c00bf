//! A store that is a file of the kernel's.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FallocateFlags, OFlags, StatxFlags, fallocate, fcntl_getfl, fcntl_setfl, statx};

use super::uring::Ring;
use super::{Store, Write};

/// A file, or a block device, of the kernel's.
#[derive(Debug)]
pub struct FileStore {
    file: File,
    alignment: usize,
    /// For writes past the kernel's page cache: others are done when the kernel has copied them.
    ring: Option<Ring>,
}

impl FileStore {
    /// Through the kernel's own page cache, which then has the bytes a second time.
    ///
    /// Whoever changes the file otherwise is not noticed.
    pub fn new(file: File) -> FileStore {
        FileStore { file, alignment: 1, ring: None }
    }

    /// Past the kernel's page cache (`O_DIRECT`). What is scattered is written back with many writes under way at once
    /// (`io_uring`, where the kernel has it and allows it).
    ///
    /// # Errors
    /// A file system that cannot.
    pub fn direct(file: File) -> io::Result<FileStore> {
        fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::DIRECT)?;
        let alignment = direct_alignment(&file);
        Ok(FileStore { file, alignment, ring: Some(Ring::new()) })
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// What the kernel says about it (since 6.1), or a page, which is enough everywhere.
fn direct_alignment(file: &File) -> usize {
    let known = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok();
    let known = known.filter(|stat| StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::DIOALIGN));
    let alignment = known.map(|stat| stat.stx_dio_mem_align.max(stat.stx_dio_offset_align) as usize);
    alignment.filter(|alignment| alignment.is_power_of_two()).unwrap_or_else(faultin::page_size)
}

impl Store for FileStore {
    fn alignment(&self) -> usize {
        self.alignment
    }

    fn len(&self) -> io::Result<u64> {
        // Not what `stat` says, which is nothing for a block device.
        rustix::fs::seek(&self.file, rustix::fs::SeekFrom::End(0)).map_err(io::Error::from)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        FileExt::read_at(&self.file, buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        FileExt::write_at(&self.file, buf, pos)
    }

    fn write_many(&self, writes: &[Write<'_>]) -> Vec<io::Result<usize>> {
        let at_once = self.ring.as_ref().filter(|_| writes.len() > 1).and_then(|ring| ring.write(&self.file, writes));
        at_once.unwrap_or_else(|| writes.iter().map(|write| self.write_at(write.bytes, write.pos)).collect())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        if data_only { self.file.sync_data() } else { self.file.sync_all() }
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, flags, range.start, range.end - range.start)?)
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        Ok(fallocate(&self.file, FallocateFlags::KEEP_SIZE, range.start, range.end - range.start)?)
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        // Cutting a file to the length it has frees what is allocated behind it, on ext4, xfs and f2fs.
        self.file.set_len(len)
    }
}
