//! From facts to a cause: no input or output.

use std::time::SystemTime;

use super::region::Region;
use crate::access::Decoded;
use crate::fault::{Cause, Space};

/// The code of a misaligned access (`BUS_ADRALN`).
const ADRALN: i32 = 1;
/// The code of a page that cannot be provided (`BUS_ADRERR`).
pub(crate) const ADRERR: i32 = 2;
/// The codes of damaged memory (`BUS_MCEERR_AR`, `BUS_MCEERR_AO`).
const MCEERR: [i32; 2] = [4, 5];

/// A file system with less than this has no space: XFS wants more blocks for a store than for the page alone.
const NEARLY_FULL: u64 = 64 << 10;

/// What was found out about a fault.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub code: i32,
    /// The exponent of the damaged bytes (`si_addr_lsb`).
    pub damaged: u32,
    pub address: u64,
    pub decoded: Decoded,
    pub memory: Memory,
}

/// The memory at the address.
#[derive(Clone, Debug)]
pub(super) enum Memory {
    /// It was not looked at, because the signal's code says everything.
    NotAsked,
    /// The process does not let itself be inspected.
    Hidden(String),
    /// Nothing is mapped.
    Unmapped,
    /// A mapping without a file.
    Anonymous { pool: Option<Pool>, has_userfaultfd: bool },
    /// A mapping of a device.
    Device,
    /// The mapped file cannot be opened.
    Unopened(String),
    /// A file.
    File(FileFacts),
}

/// Huge pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    pub page: u64,
    pub total: u64,
    pub free: u64,
}

/// What a file answered.
#[derive(Clone, Debug)]
pub(super) struct FileFacts {
    pub region: Region,
    pub size: u64,
    pub changed: SystemTime,
    /// Bytes of a page.
    pub page: u64,
    /// Whether its pages are memory that has to be allocated for loads as well (tmpfs).
    pub is_memory: bool,
    pub is_read_only: bool,
    /// The pool, for files in huge pages.
    pub pool: Option<Pool>,
    pub space: Space,
    /// What reading the page answered, as an error number.
    pub read: Result<(), i32>,
    /// What allocating the page answered; no value if it was not tried.
    pub allocated: Option<Result<(), i32>>,
}

impl FileFacts {
    /// The byte of the file that is at the address.
    pub fn offset(&self, address: u64) -> u64 {
        self.region.offset + address.saturating_sub(self.region.start)
    }
}

pub(super) fn cause(facts: &Facts) -> Cause {
    match facts.code {
        ADRERR if facts.decoded.sent => Cause::Sent,
        ADRERR => of_memory(facts),
        ADRALN => Cause::Misaligned,
        code if MCEERR.contains(&code) => Cause::Poison { bytes: 1_u64.checked_shl(facts.damaged).unwrap_or(0) },
        code => Cause::Unknown { facts: format!("code {code} of SIGBUS at address {:#x}", facts.address) },
    }
}

fn of_memory(facts: &Facts) -> Cause {
    let unknown = |facts: String| Cause::Unknown { facts };
    match &facts.memory {
        Memory::NotAsked => unknown(format!("code {} of SIGBUS", facts.code)),
        Memory::Hidden(why) | Memory::Unopened(why) => Cause::NotInspectable { why: why.clone() },
        Memory::Unmapped => unknown(format!("nothing is mapped at {:#x} any more", facts.address)),
        Memory::Anonymous { pool: Some(pool), .. } => huge_pages(*pool),
        Memory::Anonymous { has_userfaultfd: true, .. } => Cause::Userfaultfd,
        Memory::Anonymous { .. } => unknown(format!("memory without a file at {:#x}", facts.address)),
        Memory::Device => unknown("a mapped device".into()),
        Memory::File(file) => of_file(facts, file),
    }
}

fn of_file(facts: &Facts, file: &FileFacts) -> Cause {
    let offset = file.offset(facts.address);
    if offset >= file.size.next_multiple_of(file.page.max(1)) {
        let mapped_to = file.region.offset + (file.region.end - file.region.start);
        return Cause::PastEnd { size: file.size, mapped_to, changed: file.changed };
    }
    if let Err(errno) = file.read {
        return Cause::Io { errno };
    }
    if let Some(pool) = file.pool {
        return match file.allocated {
            Some(Ok(())) => Cause::Accessible { space: file.space },
            _ => huge_pages(pool),
        };
    }
    let full = |errno| Cause::NoSpace { errno, space: file.space };
    let needs_space = file.is_memory || file.region.is_shared && facts.decoded.access.may_store();
    match file.allocated {
        Some(Err(errno @ (libc::ENOSPC | libc::EDQUOT))) => full(Some(errno)),
        // It cannot allocate in advance, or not by us.
        Some(Err(libc::EOPNOTSUPP | libc::ENOSYS | libc::EBADF | libc::EINVAL | libc::EPERM | libc::ETXTBSY))
        | None
            if needs_space && file.space.free < NEARLY_FULL =>
        {
            full(None)
        }
        Some(Err(errno @ (libc::EIO | libc::EROFS | libc::ENODEV | libc::ESTALE | libc::ENXIO))) => Cause::Io { errno },
        Some(Ok(())) if needs_space && file.space.free < NEARLY_FULL => full(None),
        _ if needs_space && file.is_read_only => Cause::Io { errno: libc::EROFS },
        _ => Cause::Accessible { space: file.space },
    }
}

fn huge_pages(pool: Pool) -> Cause {
    Cause::HugePages { page: pool.page, total: pool.total, free: pool.free }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;

    const PAGE: u64 = 4096;

    fn file() -> FileFacts {
        FileFacts {
            region: Region { start: 0x10_000, end: 0x20_000, offset: 0x2000, is_shared: true, ..Region::default() },
            size: 0x12_000,
            changed: SystemTime::UNIX_EPOCH,
            page: PAGE,
            is_memory: false,
            is_read_only: false,
            pool: None,
            space: Space { total: 1 << 30, free: 1 << 20 },
            read: Ok(()),
            allocated: Some(Ok(())),
        }
    }

    fn of(file: FileFacts, access: Access) -> Cause {
        let decoded = Decoded { access, sent: false };
        cause(&Facts { code: ADRERR, damaged: 0, address: 0x11_008, decoded, memory: Memory::File(file) })
    }

    #[test]
    fn a_file_tells_the_cause() {
        const L: Access = Access::Load;
        const S: Access = Access::Store;
        let no = |errno| Some(Err(errno));
        let none = Space { total: 1 << 20, free: 4096 };
        let table: Vec<(&str, FileFacts, Access, &str)> = vec![
            ("ends before the page", FileFacts { size: 0x3000, ..file() }, L, "past-end"),
            ("ends in the page", FileFacts { size: 0x3001, ..file() }, L, "accessible"),
            ("cannot be read", FileFacts { read: Err(libc::EIO), ..file() }, L, "io"),
            ("no space", FileFacts { allocated: no(libc::ENOSPC), ..file() }, S, "no-space"),
            ("quota", FileFacts { allocated: no(libc::EDQUOT), ..file() }, S, "no-space"),
            ("nearly full", FileFacts { space: none, ..file() }, S, "no-space"),
            ("nearly full, but a load", FileFacts { space: none, ..file() }, L, "accessible"),
            ("nearly full tmpfs, a load", FileFacts { space: none, is_memory: true, ..file() }, L, "no-space"),
            ("no fallocate, full", FileFacts { allocated: no(libc::EOPNOTSUPP), space: none, ..file() }, S, "no-space"),
            ("no fallocate, space", FileFacts { allocated: no(libc::EOPNOTSUPP), ..file() }, S, "accessible"),
            ("not asked, full", FileFacts { allocated: None, space: none, ..file() }, S, "no-space"),
            ("the device fails", FileFacts { allocated: no(libc::EIO), ..file() }, S, "io"),
            ("read-only", FileFacts { is_read_only: true, allocated: no(libc::EBADF), ..file() }, S, "io"),
            (
                "huge pages",
                FileFacts { pool: Some(Pool { page: 2 << 20, total: 4, free: 0 }), allocated: None, ..file() },
                S,
                "huge-pages",
            ),
        ];
        for (what, file, access, expected) in table {
            assert_eq!(of(file, access).name(), expected, "{what}");
        }
    }

    #[test]
    fn a_code_may_say_everything() {
        let of = |code, sent| {
            let decoded = Decoded { access: Access::Unknown, sent };
            cause(&Facts { code, damaged: 12, address: 0, decoded, memory: Memory::Unmapped })
        };
        assert_eq!(of(1, false), Cause::Misaligned);
        assert_eq!(of(4, false), Cause::Poison { bytes: 4096 });
        assert_eq!(of(2, true), Cause::Sent);
        assert_eq!(of(2, false).name(), "unknown");
        assert_eq!(of(3, false).name(), "unknown");
    }

    #[test]
    fn a_short_file_says_how_long_it_is_and_how_far_it_is_mapped() {
        let cause = of(FileFacts { size: 5, ..file() }, Access::Load);
        let expected = Cause::PastEnd { size: 5, mapped_to: 0x12_000, changed: SystemTime::UNIX_EPOCH };
        assert_eq!(cause, expected);
    }
}
