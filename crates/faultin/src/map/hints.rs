//! What the kernel has of a file in its page cache, and requests to read ahead.

use core::ops::Range;
use std::fs::File;
use std::os::fd::AsRawFd;

use crate::page_size;
use crate::residency::Residency;
use crate::stat::fstat;

/// Number of bytes of one request to read ahead: the kernel ignores what is after the largest request of the device.
const REQUEST: u64 = 128 << 10;

/// The number of `cachestat(2)` on every architecture that this crate has code for.
const SYS_CACHESTAT: libc::c_long = 451;

/// Returns the number of pages of a range that the page cache has, and of those that it had and has evicted. `None` before
/// Linux 6.5, where the call is forbidden, and for files that are not the caller's to write (from 6.16 on).
pub(crate) fn cached_pages(file: &File, start: u64, len: u64) -> Option<(u64, u64)> {
    let range = [start, len];
    // Number of pages in the cache, dirty, under writeback, evicted, recently evicted.
    let mut counts = [0_u64; 5];
    // SAFETY: reads two numbers and writes five.
    let failed = unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), range.as_ptr(), counts.as_mut_ptr(), 0) } != 0;
    let [cached, _, _, evicted, _] = counts;
    (!failed).then_some((cached, evicted))
}

/// Returns whether the page cache has all of a range, which is not empty; `None` if that is not known.
pub(super) fn is_cached(file: &File, start: u64, len: u64) -> Option<bool> {
    let page = page_size() as u64;
    let pages = (start + len).div_ceil(page) - start / page;
    cached_pages(file, start, len).map(|(cached, _)| cached >= pages)
}

/// Starts to read a range into the page cache. Returns the number of bytes that were asked for.
pub(super) fn read_ahead(file: &File, start: u64, len: u64) -> u64 {
    let mut done = 0;
    while done < len {
        let now = REQUEST.min(len - done);
        let (Ok(at), Ok(count)) = (libc::off_t::try_from(start + done), libc::off_t::try_from(now)) else { break };
        // SAFETY: a hint about a descriptor that is borrowed for it.
        if unsafe { libc::posix_fadvise(file.as_raw_fd(), at, count, libc::POSIX_FADV_WILLNEED) } != 0 {
            break;
        }
        done += now;
    }
    done
}

/// Returns what the page cache has of a range of the file, `mapped` at that address. `None` if the kernel does not tell.
///
/// `mincore(2)` answers that everything is in memory, since Linux 5.2, if the file is not the caller's to write: it would
/// show what other users read. So it is only asked where it tells the truth. Otherwise `cachestat(2)` is, which counts: parts
/// of which it has some pages are halved.
pub(super) fn resident(file: &File, range: Range<u64>, mapped: Option<*mut u8>) -> Option<Residency> {
    let mut found = Residency::new(range.clone());
    match mapped.filter(|_| is_ours_to_write(file)) {
        Some(base) => by_mincore(&mut found, range, base)?,
        None => by_counts(file, &mut found, range)?,
    }
    Some(found)
}

/// Number of pages that one call is asked about.
const PAGES: usize = 4096;

/// `base` is the address of the first byte of the range, which is mapped.
fn by_mincore(found: &mut Residency, range: Range<u64>, base: *mut u8) -> Option<()> {
    let page = page_size() as u64;
    let lead = (base.addr() as u64) % page;
    let mut pages = [0_u8; PAGES];
    let mut at = range.start;
    while at < range.end {
        // Whole pages from here on: only the first may begin before the range.
        let before = if at == range.start { lead } else { 0 };
        let len = (range.end - at + before).min(PAGES as u64 * page);
        let start = base.wrapping_add((at - range.start) as usize).wrapping_sub(before as usize);
        // SAFETY: the range is mapped, and asking changes nothing; writes a byte for each page.
        if unsafe { libc::mincore(start.cast(), len as usize, pages.as_mut_ptr().cast()) } != 0 {
            return None;
        }
        let first = at - before;
        for (index, state) in pages[..len.div_ceil(page) as usize].iter().enumerate() {
            if state & 1 != 0 {
                let start = first + index as u64 * page;
                found.add(start..start + page);
            }
        }
        at = first + len;
    }
    Some(())
}

fn by_counts(file: &File, found: &mut Residency, range: Range<u64>) -> Option<()> {
    let page = page_size() as u64;
    // Parts of whole pages, the next one last.
    let whole = range.start / page..range.end.div_ceil(page);
    let mut parts = Vec::from([whole]);
    while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
        let pages = part.end - part.start;
        let (cached, _) = cached_pages(file, part.start * page, pages * page)?;
        if cached >= pages {
            found.add(part.start * page..part.end * page);
        } else if cached > 0 && pages > 1 {
            let middle = part.start + pages / 2;
            parts.extend([middle..part.end, part.start..middle]);
        }
    }
    Some(())
}

/// Returns whether the kernel shows this process which pages of the file are in memory: to the owner, and to those that may
/// write it.
fn is_ours_to_write(file: &File) -> bool {
    // SAFETY: takes no arguments, and does not fail.
    let user = unsafe { libc::geteuid() };
    if fstat(file).is_ok_and(|about| about.st_uid == user) {
        return true;
    }
    let flags = libc::AT_EMPTY_PATH | libc::AT_EACCESS;
    // SAFETY: reads an empty string.
    unsafe { libc::syscall(libc::SYS_faccessat2, file.as_raw_fd(), c"".as_ptr(), libc::W_OK, flags) == 0 }
}

/// What a kernel may not tell.
pub(super) const UNKNOWN: &str = "finding out what is in memory";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// Both ways give the same answer about the same file.
    #[test]
    fn both_ways_agree() {
        let page = page_size();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; 100 * page], 0).unwrap();
        file.sync_all().unwrap();
        if cached_pages(&file, 0, 1).is_none() {
            return faultin_test::skipped("cachestat", std::io::Error::last_os_error());
        }
        for (start, len) in [(0, 10), (30, 1), (50, 49)] {
            // SAFETY: a hint about a file of ours.
            unsafe {
                let advice = libc::POSIX_FADV_DONTNEED;
                libc::posix_fadvise(file.as_raw_fd(), (start * page) as i64, (len * page) as i64, advice);
            }
        }
        let (protection, flags) = (libc::PROT_READ, libc::MAP_SHARED);
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), 100 * page, protection, flags, file.as_raw_fd(), 0) };
        assert_ne!(base, libc::MAP_FAILED);
        assert!(is_ours_to_write(&file));
        for range in [0..100 * page as u64, 5 * page as u64 + 7..51 * page as u64 + 1, 3..4, 9..9] {
            let base: *mut u8 = base.cast::<u8>().wrapping_add(range.start as usize);
            let mapped = resident(&file, range.clone(), Some(base)).unwrap();
            let counted = resident(&file, range.clone(), None).unwrap();
            assert_eq!(mapped, counted, "{range:?}");
        }
        // SAFETY: the mapping above.
        unsafe { libc::munmap(base, 100 * page) };
    }
}
