//! `MADV_POPULATE_READ` and `_WRITE`, where they are reliable.

use core::sync::atomic::{AtomicU8, Ordering};

use super::{Touch, page_size};
use crate::arch;
use crate::fault::Access;

/// Calls `MADV_POPULATE_READ` or `_WRITE`, and returns whether the kernel reports all pages as populated.
pub(super) fn populate(touch: Touch, start: *mut u8, len: usize) -> bool {
    advise_populate(touch, start.addr(), len).is_ok()
}

/// Does the same, and returns the error: `ENOMEM` where nothing is mapped, `EINVAL` where the rights are missing, `EFAULT`
/// where the file or memory behind the mapping does not deliver, `EHWPOISON`. Async-signal-safe.
pub(crate) fn advise_populate(touch: Touch, start: usize, len: usize) -> Result<(), libc::c_int> {
    let advice = match touch.access() {
        Access::Read => libc::MADV_POPULATE_READ,
        Access::Write => libc::MADV_POPULATE_WRITE,
    };
    // SAFETY: populating changes no byte and no mapping; a range that this process must not touch is an error.
    match unsafe { arch::context::syscall4(libc::SYS_madvise, start, len, advice as usize, 0) } {
        0 => Ok(()),
        error => Err(error.unsigned_abs() as libc::c_int),
    }
}

/// Returns whether populating is reliable here. On Linux 6.1 it never returns from a file page that cannot be read, so it
/// is used from 6.12 on, which is known to have the fix. User-mode emulation does nothing and reports success, even for the
/// null page, which no kernel populates. Async-signal-safe.
pub(crate) fn can_populate() -> bool {
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);
    match ANSWER.load(Ordering::Relaxed) {
        UNKNOWN => {
            let mended = kernel_version().is_some_and(|v| v >= (6, 12));
            let honest = || !populate(Touch::Read, core::ptr::null_mut(), page_size());
            let answer = if mended && honest() { YES } else { NO };
            ANSWER.store(answer, Ordering::Relaxed);
            answer == YES
        }
        answer => answer == YES,
    }
}

/// Returns major and minor version of the running kernel.
fn kernel_version() -> Option<(u32, u32)> {
    let mut name = core::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: fills the structure; all zero is a valid one, too.
    let name = unsafe {
        libc::uname(name.as_mut_ptr());
        name.assume_init()
    };
    // `c_char` has a sign on x86-64, and none on aarch64.
    let release = name.release.map(|c| c.to_ne_bytes()[0]);
    let len = release.iter().position(|&c| c == 0)?;
    parse_version(core::str::from_utf8(release.get(..len)?).ok()?)
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_parse() {
        for (release, version) in [
            ("6.18.44-fc-v595", Some((6, 18))),
            ("6.1.0-13-amd64", Some((6, 1))),
            ("5.14", Some((5, 14))),
            ("7.0-rc3", Some((7, 0))),
            ("unknown", None),
        ] {
            assert_eq!(parse_version(release), version, "{release}");
        }
    }
}
