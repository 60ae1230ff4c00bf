//! The page that a held thread waits for, and how it is asked whether it can be had.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::classify::Pool;

/// A page of a file, or of the pool of huge pages.
#[derive(Debug)]
pub(crate) struct Target {
    /// No value for memory without a file.
    pub(super) file: Option<OwnedFd>,
    pub(super) offset: u64,
    pub(super) len: u64,
    /// The user and group whose rights and reserves count, if they are known.
    pub(super) owner: Option<(u32, u32)>,
    /// Whether the page has to be allocated, and the file is open for writing.
    pub(super) allocates: bool,
    /// Bytes of a huge page that is taken from the pool, not from a file.
    pub(super) pool: Option<u64>,
}

/// What a page answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The access may be repeated.
    Ready,
    /// Not yet.
    NotYet,
    /// That cannot be asked: only the access itself tells.
    Untold,
}

impl Target {
    /// Asks whether the page can be had now.
    pub fn ask(&self) -> Answer {
        if let Some(page) = self.pool {
            return match pool(page) {
                Some(pool) if pool.free == 0 => Answer::NotYet,
                Some(_) => Answer::Ready,
                None => Answer::Untold,
            };
        }
        if self.read().is_some_and(|read| read.is_err()) {
            return Answer::NotYet;
        }
        match self.allocate() {
            Some(Ok(())) => Answer::Ready,
            Some(Err(libc::ENOSPC | libc::EDQUOT | libc::EIO)) => Answer::NotYet,
            // Where it is only read, reading it has told.
            None if !self.allocates && self.file.is_some() => Answer::Ready,
            Some(Err(_)) | None => Answer::Untold,
        }
    }

    /// Reads the page: its error number, if there is a file.
    pub(super) fn read(&self) -> Option<Result<(), i32>> {
        let file = self.file.as_ref()?;
        // A page that is not in the cache is read as a whole, whatever is asked for: a byte is enough.
        let mut byte = [0];
        Some(match rustix::io::pread(file, &mut byte, self.offset) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.raw_os_error()),
        })
    }

    /// Allocates the page with the program's rights, if that is to be done.
    pub(super) fn allocate(&self) -> Option<Result<(), i32>> {
        let file = self.file.as_ref().filter(|_| self.allocates)?;
        // With our own rights the answer would be another one.
        let _rights = Rights::of(self.owner?)?;
        Some(match fallocate(file, FallocateFlags::KEEP_SIZE, self.offset, self.len) {
            Ok(()) => Ok(()),
            Err(error) => Err(error.raw_os_error()),
        })
    }
}

/// Gives up this thread's right to space that is reserved for privileged programs. A question of ours would use it up.
///
/// # Errors
/// Those of the system calls.
pub(super) fn leave_reserves_alone() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective.remove(CapabilitySet::SYS_RESOURCE);
    Ok(set_capabilities(None, sets)?)
}

/// Another user's identity for files, in this thread, until it is dropped.
struct Rights {
    before: (u32, u32),
}

impl Rights {
    /// No value if this thread may not take them.
    fn of((user, group): (u32, u32)) -> Option<Rights> {
        // SAFETY: the calls touch no memory, and concern this thread alone. The group first: it takes the right of the user.
        let before = unsafe {
            let group = libc::setfsgid(group) as u32;
            (libc::setfsuid(user) as u32, group)
        };
        let rights = Rights { before };
        (rights.now() == (user, group)).then_some(rights)
    }

    /// The user and the group whose rights this thread has for files.
    fn now(&self) -> (u32, u32) {
        // No such user: the calls change nothing.
        const NOBODY: u32 = u32::MAX;
        // SAFETY: as in `of`.
        unsafe { (libc::setfsuid(NOBODY) as u32, libc::setfsgid(NOBODY) as u32) }
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        let (user, group) = self.before;
        // SAFETY: as in `of`; the user first, whose rights the group needs.
        unsafe {
            libc::setfsuid(user);
            libc::setfsgid(group);
        }
    }
}

/// The pool of huge pages of this size.
pub(super) fn pool(page: u64) -> Option<Pool> {
    let folder = PathBuf::from(format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page >> 10));
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let (free, reserved, surplus) =
        (read("free_hugepages")?, read("resv_hugepages")?, read("nr_overcommit_hugepages")?);
    let more = surplus.saturating_sub(read("surplus_hugepages")?);
    Some(Pool { page, total: read("nr_hugepages")?, free: free.saturating_sub(reserved) + more })
}

#[cfg(test)]
impl Target {
    /// One that is not asked.
    pub(crate) fn for_tests() -> Target {
        Target { file: None, offset: 0, len: 0, owner: None, allocates: false, pool: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_as(owner: Option<(u32, u32)>) -> Option<Result<(), i32>> {
        let file = tempfile::tempfile().expect("a file").into();
        let target = Target { file: Some(file), offset: 0, len: 4096, owner, allocates: true, pool: None };
        target.allocate()
    }

    #[test]
    fn a_page_is_allocated_with_the_rights_of_the_program_or_not_at_all() {
        // SAFETY: the calls touch no memory.
        let own = unsafe { (libc::geteuid(), libc::getegid()) };
        assert!(asked_as(Some(own)).is_some(), "asked");
        // No such user or group.
        for other in [(u32::MAX, own.1), (own.0, u32::MAX)] {
            assert_eq!(asked_as(Some(other)), None, "{other:?}");
        }
        assert_eq!(asked_as(None), None, "not known");
        assert!(asked_as(Some(own)).is_some(), "the rights are back");
    }
}
