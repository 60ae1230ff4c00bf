//! A fault in words.

use std::ffi::OsStr;
use std::io;
use std::time::{Duration, SystemTime};

use super::escape::escaped;
use crate::access::Access;
use crate::event::Tracing;
use crate::fault::{Cause, Fault, MappedFile, Mount, Space};
use crate::policy::Policies;

/// Who did what where: `rust-lld[12]: store at byte 4096 of /a`.
pub(super) fn access(fault: &Fault) -> String {
    let access = fault.access.name();
    match &fault.file {
        Some(file) => format!("{}: {access} at byte {} of {}", who(fault), file.offset, name(file)),
        None => format!("{}: {access} at address {:#x}", who(fault), fault.address),
    }
}

/// The process, and its thread if it is not the first one.
pub(super) fn who(fault: &Fault) -> String {
    let program = program(fault);
    if fault.thread == fault.process {
        program
    } else if fault.thread_name == fault.program {
        format!("{program} thread {}", fault.thread)
    } else {
        format!("{program} thread {}[{}]", escaped(&fault.thread_name), fault.thread)
    }
}

/// The process.
pub(super) fn program(fault: &Fault) -> String {
    format!("{}[{}]", escaped(&fault.program), fault.process)
}

/// The file's name.
pub(super) fn name(file: &MappedFile) -> String {
    let name = escaped(&file.path);
    match file.mount {
        _ if !file.is_deleted => name,
        Some(_) => format!("{name} (deleted)"),
        None => format!("{name} (no name in a file system)"),
    }
}

/// Why the page cannot be provided.
pub(super) fn cause(fault: &Fault) -> String {
    let file = fault.file.as_ref();
    match &fault.cause {
        Cause::PastEnd { size, mapped_to, changed } => {
            let mapped = format!("mapped up to byte {mapped_to}, changed {}", ago(*changed));
            format!("past the end of the file: it has {size} bytes ({mapped})")
        }
        Cause::NoSpace { errno: Some(libc::EDQUOT), space } => format!("the quota is used up {}", place(file, *space)),
        Cause::NoSpace { errno: Some(_), space } => format!("no space left {}", place(file, *space)),
        Cause::NoSpace { errno: None, space } => format!("no space left for another page {}", place(file, *space)),
        Cause::HugePages { page, total, free } => {
            format!("no huge page of {} left ({total} in the pool, {free} free)", bytes(*page))
        }
        Cause::Io { errno } => format!("{}{}", io::Error::from_raw_os_error(*errno), device(file)),
        Cause::Accessible { space } => {
            format!("the page could not be provided, but can be by now {}", place(file, *space))
        }
        Cause::Misaligned => "misaligned access".into(),
        Cause::Poison { bytes: 0 } => "the hardware reports damaged memory".into(),
        Cause::Poison { bytes: size } => format!("the hardware reports {} of damaged memory", bytes(*size)),
        Cause::Userfaultfd => "a userfaultfd of the program raised the signal".into(),
        Cause::Sent => "not a fault: the program has sent itself the signal".into(),
        Cause::NotInspectable { why } => {
            format!("the cause is not known, because the process cannot be inspected: {why}")
        }
        Cause::Unknown { facts } => format!("the cause is not known: {facts}"),
    }
}

/// What a person can do about the cause.
pub(super) fn advice(fault: &Fault) -> Option<String> {
    let mount = fault.file.as_ref().and_then(|file| file.mount.as_ref());
    let point = mount.map_or_else(|| "it".into(), |mount| escaped(&mount.point));
    Some(match &fault.cause {
        Cause::NoSpace { .. } if mount.is_some_and(|mount| mount.point == "/dev/shm") => {
            "/dev/shm is too small: in a container, `docker run --shm-size=1g` (or `shm_size` in a compose file); elsewhere, \
             `mount -o remount,size=1g /dev/shm`"
                .into()
        }
        Cause::NoSpace { .. } if mount.is_some_and(|mount| mount.kind == "tmpfs") => {
            format!("free space on {point}, or make it larger: `mount -o remount,size=… {point}`")
        }
        Cause::NoSpace { .. } => format!("free space on {point}"),
        Cause::HugePages { .. } => "add huge pages: `sysctl vm.nr_hugepages=…`".into(),
        Cause::PastEnd { .. } => "if the program maps a file that is too short, it should make it longer first (`ftruncate`). If \
             another program truncated the file to replace it, that one should write a new file and rename it"
            .into(),
        Cause::Io { .. } => "the kernel's log (`dmesg`) may say more".into(),
        Cause::NotInspectable { .. } => "run the guard as root to see more".into(),
        _ => return None,
    })
}

/// The option that does something about the fault, if it is not in use: its name, and what it does.
pub(super) fn option(fault: &Fault, policies: &Policies) -> Option<(&'static str, &'static str)> {
    // Zeros are for loads only, and never in place of code.
    let is_code = fault.file.as_ref().is_some_and(|file| file.is_executable);
    let can_be_zeros = fault.access == Access::Load && !is_code && !policies.zero;
    match &fault.cause {
        Cause::NoSpace { .. } | Cause::HugePages { .. } if policies.wait_space.is_none() => {
            Some(("--wait-space", "`faultin guard --wait-space` holds the program until there is space"))
        }
        Cause::PastEnd { .. } if can_be_zeros => {
            Some(("--zero", "`faultin guard --zero` lets the program read zeros, and ends with status 74"))
        }
        Cause::Io { .. } if policies.retry.is_none() => Some(("--retry", "`faultin guard --retry` tries again")),
        _ => None,
    }
}

/// Why a program cannot trace. The name is escaped.
pub(super) fn cannot_trace(name: &str, process: i32, tracing: Tracing) -> String {
    match tracing {
        Tracing::Debugger => format!(
            "{name}[{process}] cannot trace programs in a guard, because a process has one tracer (EPERM, \"Operation not \
             permitted\"). `faultin guard --except {name}` leaves it out"
        ),
        Tracing::LeakSanitizer => format!(
            "{name}[{process}] ended with an error, and has LeakSanitizer in it, which fails in a guard, because a process has one tracer. \
             `faultin guard --except {name}` leaves it out, and `detect_leaks=0` in ASAN_OPTIONS or LSAN_OPTIONS turns the search off"
        ),
    }
}

fn place(file: Option<&MappedFile>, space: Space) -> String {
    let sizes = format!("{}, {} free", bytes(space.total), bytes(space.free));
    match file.and_then(|file| file.mount.as_ref()) {
        Some(Mount { point, kind, .. }) => {
            format!("on {} ({} of {sizes})", escaped(point), escaped(OsStr::new(kind)))
        }
        None => format!("in shared memory ({sizes})"),
    }
}

fn device(file: Option<&MappedFile>) -> String {
    match file.and_then(|file| file.mount.as_ref()) {
        Some(Mount { point, kind, source }) => {
            format!(" from {} ({} on {})", escaped(source), escaped(OsStr::new(kind)), escaped(point))
        }
        None => String::new(),
    }
}

/// A number of bytes, short.
pub(super) fn bytes(number: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(size, _)| number >= *size) {
        None => format!("{number} bytes"),
        Some((size, unit)) if number.is_multiple_of(*size) => format!("{} {unit}", number / size),
        Some((size, unit)) => format!("{:.1} {unit}", number as f64 / *size as f64),
    }
}

/// A duration, short.
pub(super) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 7200.. => format!("{} h", seconds / 3600),
        seconds @ 120.. => format!("{} min", seconds / 60),
        10.. => format!("{} s", duration.as_secs()),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

fn ago(time: SystemTime) -> String {
    match time.elapsed() {
        Ok(elapsed) => format!("{} ago", seconds(elapsed)),
        Err(_) => "just now".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        let sizes = [(0, "0 bytes"), (1023, "1023 bytes"), (4096, "4 KiB"), (1 << 20, "1 MiB"), (3 << 29, "1.5 GiB")];
        for (number, expected) in sizes {
            assert_eq!(bytes(number), expected);
        }
        let times = [(300, "0.3 s"), (12_000, "12 s"), (600_000, "10 min"), (7_200_000, "2 h")];
        for (milliseconds, expected) in times {
            assert_eq!(seconds(Duration::from_millis(milliseconds)), expected);
        }
    }
}
