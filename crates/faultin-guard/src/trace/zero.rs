//! Zeros in place of lost pages: the thread that has faulted maps them itself, by a system call that it is made to do.

use std::io;
use std::ops::Range;

use super::sys::{self, Status, Vectors};
use crate::access::{Registers, program_counter};
use crate::inspect::{Finding, Region};

/// Why there are no zeros.
pub(super) enum Failure {
    /// The mapping is another one by now. The thread is still stopped, with its signal.
    Replaced,
    /// The thread is still stopped, with its signal.
    Refused(String),
    /// The thread has ended meanwhile, or has its number from one that has executed another program.
    Ended(Status),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Refused(error.to_string())
    }
}

/// A thread that maps zeros: it is made to do a system call, and then put back.
pub(super) struct Injection {
    thread: i32,
    /// Its signal, registers and mask before.
    signal: libc::siginfo_t,
    registers: Registers,
    mask: u64,
    vectors: Vectors,
    call: Registers,
    has_filter: bool,
    /// Signals that came meanwhile, to be taken afterwards.
    again: Vec<i32>,
}

/// Makes the thread begin to map zeros. All other threads of its process are stopped, and `region` is what is mapped since then. The call
/// may take as long as the server of a file that it unmaps.
pub(super) fn begin(
    thread: i32,
    range: &Range<u64>,
    finding: &Finding,
    region: Option<&Region>,
) -> Result<Injection, Failure> {
    let protection = protection(region.ok_or(Failure::Replaced)?, range, finding)?;
    let gadget = finding.gadget.ok_or_else(|| Failure::Refused("no code to make a system call with".into()))?;
    if finding.ignores_traps {
        return Err(Failure::Refused("the program ignores SIGTRAP".into()));
    }
    let signal = sys::signal(thread)?;
    let registers = sys::registers(thread)?;
    let call = call(&registers, gadget, range, protection)?;
    let mask = sys::mask(thread)?;
    let vectors = Vectors::of(thread);
    let has_filter = finding.has_filter;
    if has_filter {
        let refused = |error| Failure::Refused(format!("a filter of system calls cannot be suspended: {error}"));
        sys::suspend_filters(thread, true).map_err(refused)?;
    }
    let injection = Injection { thread, signal, registers, mask, vectors, call, has_filter, again: Vec::new() };
    let begun = sys::set_registers(thread, &injection.call)
        .and_then(|()| sys::set_mask(thread, MASK))
        .and_then(|()| sys::step(thread));
    match begun {
        Ok(()) => Ok(injection),
        Err(error) => Err(injection.end(Err(error.into())).err().unwrap_or(Failure::Replaced)),
    }
}

impl Injection {
    /// Takes in a stop of the thread: how it went, or no value if it goes on.
    pub fn stopped(mut self, status: Status) -> Result<Injection, Result<(), Failure>> {
        let thread = self.thread;
        let result = match status {
            ended @ (Status::Exited(_) | Status::Killed(_) | Status::Exec) => return Err(Err(Failure::Ended(ended))),
            Status::Signal(signal) if signal == libc::SIGTRAP && self.has_stepped() => match sys::registers(thread) {
                Ok(registers) => result(&registers),
                Err(error) => Err(error.into()),
            },
            Status::Signal(libc::SIGSYS) => Err(Failure::Refused("a filter of system calls forbids it".into())),
            // SIGSTOP cannot be blocked, and a SIGTRAP may be another process's.
            Status::Signal(signal) if self.again.len() < 4 => {
                self.again.push(signal);
                return self.step();
            }
            Status::Signal(_) => Err(Failure::Refused("it gets too many signals".into())),
            // Nor can a stop by job control, which it makes up for afterwards.
            Status::Group => {
                if !self.again.contains(&libc::SIGSTOP) {
                    self.again.push(libc::SIGSTOP);
                }
                return self.step();
            }
            // It had been asked to stop, for another thread's zeros, when its fault had stopped it already. No signal can be
            // passed on from this stop.
            Status::Fork | Status::Event => return self.step(),
        };
        Err(self.end(result))
    }

    fn step(self) -> Result<Injection, Result<(), Failure>> {
        match sys::set_registers(self.thread, &self.call).and_then(|()| sys::step(self.thread)) {
            Ok(()) => Ok(self),
            Err(error) => Err(self.end(Err(error.into()))),
        }
    }

    /// Whether the instruction of the call is behind the thread.
    fn has_stepped(&self) -> bool {
        let at = |registers: &Registers| program_counter(registers);
        sys::registers(self.thread).is_ok_and(|now| at(&now) != at(&self.call))
    }

    /// Puts the thread back.
    fn end(self, result: Result<(), Failure>) -> Result<(), Failure> {
        let thread = self.thread;
        for signal in self.again {
            // SAFETY: the call touches no memory. The thread is stopped and traced, so that the number is its own.
            unsafe { libc::syscall(libc::SYS_tkill, thread, signal) };
        }
        if self.has_filter {
            sys::suspend_filters(thread, false)?;
        }
        sys::set_registers(thread, &self.registers)?;
        self.vectors.restore(thread)?;
        sys::set_mask(thread, self.mask)?;
        if result.is_err() {
            // The signal that is about to be delivered now is the one of the step.
            sys::set_signal(thread, &self.signal)?;
        }
        result
    }
}

/// What the zeros may be used for; an error if the mapping is not the one that was looked at.
fn protection(region: &Region, range: &Range<u64>, finding: &Finding) -> Result<i32, Failure> {
    let inode = finding.fault.file.as_ref().map(|file| file.inode);
    if Some(region.inode) != inode || region.end < range.end || region.can_execute {
        return Err(Failure::Replaced);
    }
    // A store to memory that is shared would go nowhere: it is to fault. In private memory it is the program's own.
    let can_write = region.can_write && !region.is_shared;
    Ok(libc::PROT_READ | if can_write { libc::PROT_WRITE } else { 0 })
}

fn refuse_errno(result: u64) -> Result<(), Failure> {
    match (result as i64).checked_neg() {
        Some(errno @ 1..4096) => Err(io::Error::from_raw_os_error(errno as i32).into()),
        _ => Ok(()),
    }
}

/// What is blocked during the call: everything but the signal that reports its end. The kernel takes the handler from a program in which
/// that is blocked.
const MASK: u64 = !(1 << (libc::SIGTRAP - 1));

const MAPPING: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::*;

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

    /// `PSTATE.BTYPE`
    const BRANCH_TYPE: u64 = 3 << 10;

    pub fn call(now: &Registers, gadget: u64, range: &Range<u64>, protection: i32) -> Result<Registers, Failure> {
        let mut call = *now;
        let arguments = [range.start, range.end - range.start, protection as u64, MAPPING as u64, u64::MAX, 0];
        call.regs[..6].copy_from_slice(&arguments);
        call.regs[8] = libc::SYS_mmap as u64;
        call.pc = gadget;
        // The fault may have been at the target of an indirect branch, and the gadget is none.
        call.pstate &= !BRANCH_TYPE;
        Ok(call)
    }

    pub fn result(registers: &Registers) -> Result<(), Failure> {
        refuse_errno(registers.regs[0])
    }
}

use arch::{call, result};

#[cfg(test)]
mod tests {
    use super::*;

    /// Its registers would be set in the new program.
    #[test]
    fn a_thread_that_has_executed_a_program_is_not_made_to_go_on() {
        // SAFETY: integers only, for which all bits may be zero.
        let (signal, registers): (libc::siginfo_t, Registers) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        // No process has this number.
        let thread = i32::MAX;
        let vectors = Vectors::of(thread);
        let call = registers;
        let injection =
            Injection { thread, signal, registers, mask: 0, vectors, call, has_filter: false, again: Vec::new() };
        assert!(matches!(injection.stopped(Status::Exec), Err(Err(Failure::Ended(Status::Exec)))));
    }
}
