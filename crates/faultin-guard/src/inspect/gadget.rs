//! A system call instruction in a program: the kernel's own code in each process, the vDSO, has one.

use std::os::fd::OwnedFd;

use super::look::{peek, read};

/// `syscall`
#[cfg(target_arch = "x86_64")]
const INSTRUCTION: &[u8] = &[0x0f, 0x05];
/// `svc #0`
#[cfg(target_arch = "aarch64")]
const INSTRUCTION: &[u8] = &[0x01, 0x00, 0x00, 0xd4];

/// Its address. The program may have mapped something else there, memory that waits for a server even: the thread that traces must not
/// read it.
pub(super) fn find(process: &OwnedFd, thread: i32) -> Option<u64> {
    let start = vdso(&read(process, "auxv").ok()?)?;
    let mut code = vec![0; 8192];
    let len = peek(thread, start, &mut code);
    position(&code[..len]).map(|at| start + at as u64)
}

fn position(code: &[u8]) -> Option<usize> {
    let len = INSTRUCTION.len();
    let at = code.chunks_exact(len).position(|word| word == INSTRUCTION).map(|word| word * len);
    // Instructions of x86 are not aligned.
    at.or_else(|| code.windows(len).position(|word| word == INSTRUCTION))
}

/// Where the vDSO is.
fn vdso(vector: &[u8]) -> Option<u64> {
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or(0);
    let pair = vector.chunks_exact(16).find(|pair| number(&pair[..8]) == libc::AT_SYSINFO_EHDR);
    pair.map(|pair| number(&pair[8..]))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn this_process_has_one() {
        let process = rustix::fs::open("/proc/self", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("/proc");
        let id = i32::try_from(std::process::id()).expect("a number");
        let address = find(&process, id).expect("every process has one");
        let mut bytes = vec![0; INSTRUCTION.len()];
        assert_eq!((peek(id, address, &mut bytes), &bytes[..]), (INSTRUCTION.len(), INSTRUCTION));
    }
}
