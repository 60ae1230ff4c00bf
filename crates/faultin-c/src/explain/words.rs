//! A signal and its memory in words. The wording is that of `faultin guard`.

use core::fmt::{self, Write};

use faultin::Access;

use super::file::Facts;
use super::look::{Look, Signal};
use super::region::Region;
use super::text::{Bytes, Escaped};

const BUS_ADRALN: i32 = 1;
const BUS_ADRERR: i32 = 2;
const BUS_MCEERR: [i32; 2] = [4, 5];
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const SEGV_PKUERR: i32 = 4;
const SEGV_MTE: [i32; 2] = [8, 9];

/// A file system with less than this has no space: some want more blocks for a store than for the page alone.
const NEARLY_FULL: u64 = 64 << 10;

/// Why a page of a file could not be provided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    PastEnd,
    HugePages,
    NoSpace,
    /// An I/O error, a quota or a limit of memory: the kernel does not say which.
    NotProvided,
}

fn cause(region: &Region, facts: &Facts, address: u64, access: Option<Access>) -> Cause {
    let needs_space = facts.is_memory() || region.is_shared && access != Some(Access::Read);
    if offset(region, address) >= facts.size.checked_next_multiple_of(facts.page.max(1)).unwrap_or(u64::MAX) {
        Cause::PastEnd
    } else if facts.has_huge_pages() {
        Cause::HugePages
    } else if needs_space && facts.total > 0 && facts.free < NEARLY_FULL {
        Cause::NoSpace
    } else {
        Cause::NotProvided
    }
}

fn offset(region: &Region, address: u64) -> u64 {
    region.offset + (address - region.start)
}

/// Writes the line.
pub(super) fn line(signal: &Signal, look: &Look, text: &mut impl Write) {
    match signal.was_sent() {
        true => without_file(signal, text),
        // The text takes what fits.
        false => _ = write(signal, look, text),
    }
}

/// Writes a line about the signal alone.
pub(super) fn without_file(signal: &Signal, text: &mut impl Write) {
    let what = simple(signal).unwrap_or("the page could not be provided");
    let _ = match signal.was_sent() {
        true => writeln!(text, "faultin: {}: {what}", name(signal)),
        false => begin(signal, text).and_then(|()| writeln!(text, " at address {:#x}: {what}", signal.address)),
    };
}

fn name(signal: &Signal) -> &'static str {
    match signal.number {
        libc::SIGBUS => "SIGBUS",
        libc::SIGSEGV => "SIGSEGV",
        _ => "signal",
    }
}

fn begin(signal: &Signal, text: &mut impl Write) -> fmt::Result {
    let access = match signal.access {
        Some(Access::Read) => "load",
        Some(Access::Write) => "store",
        None => "access",
    };
    write!(text, "faultin: {}: {access}", name(signal))
}

/// Returns what the signal's code says alone.
fn simple(signal: &Signal) -> Option<&'static str> {
    match (signal.number, signal.code) {
        (_, ..=0) => Some("not a fault: the signal was sent"),
        (libc::SIGBUS, BUS_ADRALN) => Some("misaligned access"),
        (libc::SIGBUS, BUS_ADRERR) => None,
        (libc::SIGBUS, code) if BUS_MCEERR.contains(&code) => Some("the hardware reports damaged memory"),
        (libc::SIGSEGV, SEGV_MAPERR) => Some("nothing is mapped there"),
        (libc::SIGSEGV, SEGV_ACCERR) => Some("the mapping does not permit it"),
        (libc::SIGSEGV, SEGV_PKUERR) => Some("a protection key forbids it"),
        (libc::SIGSEGV, code) if SEGV_MTE.contains(&code) => Some("the memory's tag is another one"),
        _ => Some("the cause is not known"),
    }
}

fn write(signal: &Signal, look: &Look, text: &mut impl Write) -> fmt::Result {
    begin(signal, text)?;
    let region = look.region();
    match region {
        Some(region) if region.inode != 0 => {
            write!(text, " at byte {} of {}", offset(region, signal.address), Escaped(region.name()))?;
            if region.is_deleted {
                text.write_str(" (deleted)")?;
            }
        }
        _ => write!(text, " at address {:#x}", signal.address)?,
    }
    text.write_str(": ")?;
    match (simple(signal), region, &look.file) {
        (Some(what), _, _) => {
            text.write_str(what)?;
            if signal.damaged > 0 && signal.number == libc::SIGBUS && BUS_MCEERR.contains(&signal.code) {
                write!(text, " ({} lost)", Bytes(1 << signal.damaged))?;
            }
        }
        (None, Some(region), Some(facts)) => of_file(signal, region, facts, text)?,
        (None, Some(region), None) if region.inode != 0 => {
            text.write_str("the page could not be provided, and the file cannot be asked why")?;
        }
        (None, Some(_), None) => text.write_str("the page of memory could not be provided")?,
        (None, None, _) => text.write_str("nothing is mapped there any more")?,
    }
    text.write_str("\n")
}

fn of_file(signal: &Signal, region: &Region, facts: &Facts, text: &mut impl Write) -> fmt::Result {
    let space = (Bytes(facts.total), Bytes(facts.free));
    match cause(region, facts, signal.address, signal.access) {
        Cause::PastEnd => {
            let mapped_to = region.offset + (region.end - region.start);
            write!(
                text,
                "past the end of the file: it has {} bytes (mapped up to byte {mapped_to}); hint: the file was truncated, or is \
                 too short for its mapping: programs that replace a file should write a new one and rename it",
                facts.size
            )
        }
        Cause::HugePages => write!(
            text,
            "no huge page of {} left; hint: add huge pages: `sysctl vm.nr_hugepages=...`",
            Bytes(facts.page)
        ),
        Cause::NoSpace if region.name().starts_with(b"/dev/shm/") => write!(
            text,
            "no space left on /dev/shm ({}, {} free); hint: /dev/shm is too small: in a container, `docker run --shm-size=1g`; \
             elsewhere, `mount -o remount,size=1g /dev/shm`",
            space.0, space.1
        ),
        Cause::NoSpace if facts.is_memory() => write!(
            text,
            "no space left on its tmpfs ({}, {} free); hint: free space, or make it larger: `mount -o remount,size=...`",
            space.0, space.1
        ),
        Cause::NoSpace => {
            write!(text, "no space left on its file system ({}, {} free); hint: free space", space.0, space.1)
        }
        Cause::NotProvided => {
            write!(text, "the page could not be provided (the file has {} bytes", facts.size)?;
            if facts.total > 0 {
                write!(text, ", its file system {}, {} free", space.0, space.1)?;
            }
            text.write_str(
                "); hint: an I/O error, a quota or a limit of memory: the kernel's log (`dmesg`) may say more",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { size: 0x12_000, kind: 0xef53, total: 1 << 30, free: 1 << 20, page: 4096 }
    }

    #[test]
    fn a_file_tells_the_cause() {
        let mut region = Region::new();
        (region.start, region.end, region.offset, region.is_shared) = (0x10_000, 0x20_000, 0x2000, true);
        let full = Facts { free: 4096, ..facts() };
        let tmpfs = libc::TMPFS_MAGIC as u64;
        const L: Option<Access> = Some(Access::Read);
        const S: Option<Access> = Some(Access::Write);
        let table = [
            ("ends before the page", Facts { size: 0x3000, ..facts() }, L, Cause::PastEnd),
            ("ends in the page", Facts { size: 0x3001, ..facts() }, L, Cause::NotProvided),
            ("full, a store", full, S, Cause::NoSpace),
            ("full, not known", full, None, Cause::NoSpace),
            ("full, but a load", full, L, Cause::NotProvided),
            ("full tmpfs, a load", Facts { kind: tmpfs, ..full }, L, Cause::NoSpace),
            ("without a size", Facts { total: 0, free: 0, ..facts() }, S, Cause::NotProvided),
            ("space", facts(), S, Cause::NotProvided),
            (
                "huge pages",
                Facts { kind: libc::HUGETLBFS_MAGIC as u64, page: 2 << 20, size: 4 << 20, ..facts() },
                S,
                Cause::HugePages,
            ),
            ("a size that wraps", Facts { size: u64::MAX, ..facts() }, L, Cause::NotProvided),
        ];
        for (what, facts, access, expected) in table {
            assert_eq!(cause(&region, &facts, 0x11_008, access), expected, "{what}");
        }
    }
}
