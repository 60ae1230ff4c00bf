//! What kernels do that ours does not, each under a name. A case may deviate by one of these only; each use is counted, and a
//! rule that nothing used has no reason to be here: then the test fails.

use crate::kernel::{Answer, FileSystem, KernelFile};

/// How often a rule was used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quirks {
    pub extended_by_nothing_on_tmpfs: u64,
    pub extended_by_nothing_on_ext4: u64,
}

impl Quirks {
    /// A buffered write behind the end of a file that moves nothing (`EFAULT`) makes the file as long as its *offset*:
    /// `write_end` with nothing copied sets the size to `pos + 0`. Seen on tmpfs and ext4, 6.18. Ours leaves the length.
    ///
    /// If that has happened the kernel's file is cut again to the length it had.
    pub fn extended_by_nothing(&mut self, kernel: &KernelFile, len_before: u64, pos: u64, answer: Answer) {
        if answer != Err(libc::EFAULT) || pos <= len_before || kernel.len() != pos {
            return;
        }
        match kernel.file_system {
            FileSystem::Tmpfs => self.extended_by_nothing_on_tmpfs += 1,
            FileSystem::Ext4 => self.extended_by_nothing_on_ext4 += 1,
            // No deviation has a name there, so the lengths differ, and that is found.
            FileSystem::Other => return,
        }
        kernel.file.set_len(len_before).unwrap();
    }
}
