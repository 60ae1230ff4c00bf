//! Which processes have a file open for writing that a fault was past the end of.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::fault::{Cause, Fault};

/// A process that has a file open for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Writer {
    /// The process.
    pub process: i32,
    /// Its name. Escape it before you print it.
    pub program: OsString,
}

/// For so long processes are looked at, in time of the processor: on a busy machine the search takes longer.
const LIMIT: Duration = Duration::from_millis(100);
/// So many are named.
const NAMED: usize = 4;

/// Whether the line of a fault is better for it.
pub(super) fn are_of_interest(fault: &Fault) -> bool {
    matches!(fault.cause, Cause::PastEnd { .. }) && fault.file.is_some()
}

/// Finds the processes, as far as they let themselves be seen, without the one that has faulted.
pub(super) fn find(fault: &Fault) -> Vec<Writer> {
    let Some(file) = &fault.file else { return Vec::new() };
    let begun = spent();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut writers = Vec::new();
    for process in processes.flatten() {
        let Some(number) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if number == fault.process || number == own {
            continue;
        }
        if spent().saturating_sub(begun) > LIMIT || writers.len() == NAMED {
            break;
        }
        if has_open(&process.path(), (file.device, file.inode)) {
            let mut name = fs::read(process.path().join("comm")).unwrap_or_default();
            name.pop();
            writers.push(Writer { process: number, program: OsString::from_vec(name) });
        }
    }
    writers
}

/// The time of the processor that this thread has used.
fn spent() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

fn has_open(process: &Path, file: (u64, u64)) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        // Names alone are compared first: asking a file for its state may wait for a server.
        let is_file = fs::read_link(descriptor.path()).is_ok_and(|target| target.is_absolute());
        is_file
            && fs::metadata(descriptor.path()).is_ok_and(|found| (found.dev(), found.ino()) == file)
            && may_write(&process.join("fdinfo").join(descriptor.file_name()))
    })
}

/// Whether the flags of a descriptor allow writing.
fn may_write(info: &Path) -> bool {
    let Ok(text) = fs::read_to_string(info) else { return false };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim);
    let flags = flags.and_then(|flags| i32::from_str_radix(flags, 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}
