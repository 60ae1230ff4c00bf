//! Zeros in place of lost pages: the thread that has faulted maps them itself, by a system call that it is made to do.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};

use super::sys::{self, Status};
use crate::access::Registers;
use crate::inspect::{Finding, find_region};

/// Why there are no zeros.
pub(super) enum Failure {
    /// The mapping is another one by now. The thread is still stopped, with its signal.
    Replaced,
    /// The thread is still stopped, with its signal.
    Refused(String),
    /// The thread has ended meanwhile.
    Ended(Status),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Refused(error.to_string())
    }
}

/// Makes the thread map zeros. All other threads of its process are stopped.
pub(super) fn show(thread: i32, range: &Range<u64>, finding: &Finding) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let process = open(format!("/proc/{thread}"), flags, Mode::empty()).map_err(io::Error::from)?;
    let protection = protection(&process, range, finding)?;
    let gadget = gadget(thread)?;
    let signal = sys::signal(thread)?;
    let registers = sys::registers(thread)?;
    let call = call(&registers, gadget, range, protection)?;
    let mask = sys::mask(thread)?;
    if finding.has_filter {
        let refused = |error| Failure::Refused(format!("a filter of system calls cannot be suspended: {error}"));
        sys::suspend_filters(thread, true).map_err(refused)?;
    }
    let result = run(thread, &call);
    if let Err(failure @ Failure::Ended(_)) = result {
        return Err(failure);
    }
    if finding.has_filter {
        sys::suspend_filters(thread, false)?;
    }
    sys::set_registers(thread, &registers)?;
    sys::set_mask(thread, mask)?;
    if result.is_err() {
        // The signal that is about to be delivered now is the one of the step.
        sys::set_signal(thread, &signal)?;
    }
    result
}

/// What the zeros may be used for; an error if the mapping is not the one that was looked at.
fn protection(process: &OwnedFd, range: &Range<u64>, finding: &Finding) -> Result<i32, Failure> {
    let region = find_region(process, range.start)?.ok_or(Failure::Replaced)?;
    let inode = finding.fault.file.as_ref().map(|file| file.inode);
    if Some(region.inode) != inode || region.end < range.end || region.can_execute {
        return Err(Failure::Replaced);
    }
    // A store to memory that is shared would go nowhere: it is to fault. In private memory it is the program's own.
    let can_write = region.can_write && !region.is_shared;
    Ok(libc::PROT_READ | if can_write { libc::PROT_WRITE } else { 0 })
}

/// Runs one instruction, a system call, with all signals blocked.
fn run(thread: i32, call: &Registers) -> Result<(), Failure> {
    sys::set_registers(thread, call)?;
    sys::set_mask(thread, u64::MAX)?;
    let mut again = Vec::new();
    let result = loop {
        sys::step(thread)?;
        match sys::wait_for_one(thread)? {
            Some(ended @ (Status::Exited(_) | Status::Killed(_))) => return Err(Failure::Ended(ended)),
            Some(Status::Signal(libc::SIGTRAP)) => break result(&sys::registers(thread)?),
            Some(Status::Signal(libc::SIGSYS)) => {
                break Err(Failure::Refused("a filter of system calls forbids it".into()));
            }
            // SIGSTOP cannot be blocked. It is sent again, to be taken afterwards.
            Some(Status::Signal(signal)) if again.len() < 4 => again.push(signal),
            _ => break Err(Failure::Refused("the thread does not run".into())),
        }
        sys::set_registers(thread, call)?;
    };
    for signal in again {
        // SAFETY: the call touches no memory. The thread is stopped and traced, so that the number is its own.
        unsafe { libc::syscall(libc::SYS_tkill, thread, signal) };
    }
    result
}

fn refuse_errno(result: u64) -> Result<(), Failure> {
    match (result as i64).checked_neg() {
        Some(errno @ 1..4096) => Err(io::Error::from_raw_os_error(errno as i32).into()),
        _ => Ok(()),
    }
}

const MAPPING: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::*;

    /// `syscall`
    pub const INSTRUCTION: &[u8] = &[0x0f, 0x05];

    pub fn call(now: &Registers, gadget: u64, range: &Range<u64>, protection: i32) -> Result<Registers, Failure> {
        const USER32_CS: u64 = 0x23;
        if now.cs == USER32_CS {
            return Err(Failure::Refused("32-bit programs are not supported".into()));
        }
        Ok(Registers {
            rax: libc::SYS_mmap as u64,
            orig_rax: u64::MAX,
            rdi: range.start,
            rsi: range.end - range.start,
            rdx: protection as u64,
            r10: MAPPING as u64,
            r8: u64::MAX,
            r9: 0,
            rip: gadget,
            ..*now
        })
    }

    pub fn result(registers: &Registers) -> Result<(), Failure> {
        refuse_errno(registers.rax)
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::*;

    /// `svc #0`
    pub const INSTRUCTION: &[u8] = &[0x01, 0x00, 0x00, 0xd4];

    pub fn call(now: &Registers, gadget: u64, range: &Range<u64>, protection: i32) -> Result<Registers, Failure> {
        let mut call = *now;
        let arguments = [range.start, range.end - range.start, protection as u64, MAPPING as u64, u64::MAX, 0];
        call.regs[..6].copy_from_slice(&arguments);
        call.regs[8] = libc::SYS_mmap as u64;
        call.pc = gadget;
        Ok(call)
    }

    pub fn result(registers: &Registers) -> Result<(), Failure> {
        refuse_errno(registers.regs[0])
    }
}

use arch::{call, result};

/// The address of a system call instruction in the program: the kernel's own code has one, in every process.
fn gadget(thread: i32) -> Result<u64, Failure> {
    let start = vdso(thread)?;
    let mut code = vec![0; 8192];
    let remote = libc::iovec { iov_base: start as usize as *mut _, iov_len: code.len() };
    let local = libc::iovec { iov_base: code.as_mut_ptr().cast(), iov_len: code.len() };
    // SAFETY: `local` leads to `code`, which outlives the call. What is read is another process' memory, or an error.
    let len = unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
    code.truncate(usize::try_from(len).unwrap_or(0));
    let len = arch::INSTRUCTION.len();
    let at = code.chunks_exact(len).position(|word| word == arch::INSTRUCTION).map(|word| word * len);
    // Instructions of x86 are not aligned.
    let at = at.or_else(|| code.windows(len).position(|word| word == arch::INSTRUCTION));
    at.map(|at| start + at as u64).ok_or_else(|| Failure::Refused("no code to make a system call with".into()))
}

/// Where the kernel's code is in the program.
fn vdso(thread: i32) -> Result<u64, Failure> {
    let vector = std::fs::read(format!("/proc/{thread}/auxv"))?;
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or(0);
    let pair = vector.chunks_exact(16).find(|pair| number(&pair[..8]) == libc::AT_SYSINFO_EHDR);
    pair.map(|pair| number(&pair[8..])).ok_or_else(|| Failure::Refused("no code of the kernel".into()))
}
