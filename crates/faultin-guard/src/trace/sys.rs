//! The calls of ptrace and wait, each by a function that is safe: what they change is another process.

use std::io;
use std::mem::MaybeUninit;

use libc::{c_int, c_uint, c_ulong, pid_t};

use crate::access::Registers;

/// `PTRACE_EVENT_STOP`
const EVENT_STOP: c_int = 128;

/// What a wait has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Exited(c_int),
    Killed(c_int),
    /// A signal is about to be delivered.
    Signal(c_int),
    /// Stopped by job control.
    Group,
    /// A program is run.
    Exec,
    /// A process has made another one.
    Fork,
    /// Another event.
    Event,
}

impl Status {
    fn parse(status: c_int) -> Option<Status> {
        if libc::WIFEXITED(status) {
            return Some(Status::Exited(libc::WEXITSTATUS(status)));
        }
        if libc::WIFSIGNALED(status) {
            return Some(Status::Killed(libc::WTERMSIG(status)));
        }
        if !libc::WIFSTOPPED(status) {
            return None;
        }
        let signal = libc::WSTOPSIG(status);
        Some(match status >> 16 {
            0 => Status::Signal(signal),
            libc::PTRACE_EVENT_EXEC => Status::Exec,
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => Status::Fork,
            // Signals without a name among them: real-time signals never stop a process.
            EVENT_STOP if [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&signal) => {
                Status::Group
            }
            _ => Status::Event,
        })
    }
}

/// Waits for any thread that this one traces, or that is its child; without `block`, no value says that none has anything to
/// report.
///
/// # Errors
/// ECHILD if there is none.
pub(super) fn wait(block: bool) -> io::Result<Option<(pid_t, Status)>> {
    wait_for(-1, if block { 0 } else { libc::WNOHANG })
}

/// Waits for one thread, until it stops or ends.
///
/// # Errors
/// ECHILD if it is not traced, and no child.
pub(super) fn wait_for_one(thread: pid_t) -> io::Result<Option<Status>> {
    Ok(wait_for(thread, 0)?.map(|(_, status)| status))
}

/// The same, without waiting: no value if it has not.
///
/// # Errors
/// ECHILD if it is not traced, and no child.
pub(super) fn look_at_one(thread: pid_t) -> io::Result<Option<Status>> {
    Ok(wait_for(thread, libc::WNOHANG)?.map(|(_, status)| status))
}

fn wait_for(thread: pid_t, flags: c_int) -> io::Result<Option<(pid_t, Status)>> {
    loop {
        let mut status = 0;
        // Children of other threads of this process are not ours.
        let flags = flags | libc::__WALL | libc::__WNOTHREAD;
        // SAFETY: the kernel writes to `status`, which outlives the call.
        let found = unsafe { libc::waitpid(thread, &raw mut status, flags) };
        match found {
            0 => return Ok(None),
            1.. => match Status::parse(status) {
                Some(status) => return Ok(Some((found, status))),
                None => continue,
            },
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// A request whose result is a number, and whose arguments are numbers or lead to memory that outlives the call and is as large
/// as the request wants.
///
/// # Safety
/// That.
unsafe fn request(request: c_uint, thread: pid_t, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: as the caller promises.
    let result = unsafe { libc::ptrace(request, thread, address, data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The events that are reported.
const OPTIONS: c_int =
    libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACEEXEC;

/// `PTRACE_O_SUSPEND_SECCOMP`
const SUSPEND_SECCOMP: c_int = 1 << 21;

pub(super) fn seize(thread: pid_t) -> io::Result<()> {
    // SAFETY: numbers only.
    unsafe { request(libc::PTRACE_SEIZE, thread, 0, OPTIONS as usize) }
}

pub(super) fn resume(thread: pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: numbers only.
    unsafe { request(libc::PTRACE_CONT, thread, 0, signal as usize) }
}

pub(super) fn listen(thread: pid_t) -> io::Result<()> {
    // SAFETY: numbers only.
    unsafe { request(libc::PTRACE_LISTEN, thread, 0, 0) }
}

pub(super) fn interrupt(thread: pid_t) -> io::Result<()> {
    // SAFETY: numbers only.
    unsafe { request(libc::PTRACE_INTERRUPT, thread, 0, 0) }
}

pub(super) fn detach(thread: pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: numbers only.
    unsafe { request(libc::PTRACE_DETACH, thread, 0, signal as usize) }
}

pub(super) fn step(thread: pid_t) -> io::Result<()> {
    // SAFETY: numbers only.
    unsafe { request(libc::PTRACE_SINGLESTEP, thread, 0, 0) }
}

/// Lets system calls of the thread pass its filters, or not any more.
pub(super) fn suspend_filters(thread: pid_t, suspend: bool) -> io::Result<()> {
    let options = OPTIONS | if suspend { SUSPEND_SECCOMP } else { 0 };
    // SAFETY: numbers only.
    unsafe { request(libc::PTRACE_SETOPTIONS, thread, 0, options as usize) }
}

/// The signal that is about to be delivered.
pub(super) fn signal(thread: pid_t) -> io::Result<libc::siginfo_t> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the kernel writes a `siginfo_t` to `info`, which outlives the call; all bit patterns are one.
    unsafe {
        request(libc::PTRACE_GETSIGINFO, thread, 0, info.as_mut_ptr() as usize)?;
        Ok(info.assume_init())
    }
}

/// Whether the thread is stopped because it runs another program.
pub(super) fn is_at_exec(thread: pid_t) -> bool {
    signal(thread).is_ok_and(|info| info.si_code == libc::SIGTRAP | libc::PTRACE_EVENT_EXEC << 8)
}

/// Replaces the signal that is about to be delivered.
pub(super) fn set_signal(thread: pid_t, info: &libc::siginfo_t) -> io::Result<()> {
    // SAFETY: the kernel reads a `siginfo_t` from `info`, which outlives the call.
    unsafe { request(libc::PTRACE_SETSIGINFO, thread, 0, (&raw const *info) as usize) }
}

/// The number that belongs to the event.
pub(super) fn event_message(thread: pid_t) -> io::Result<c_ulong> {
    let mut message: c_ulong = 0;
    // SAFETY: the kernel writes an `unsigned long` to `message`, which outlives the call.
    unsafe { request(libc::PTRACE_GETEVENTMSG, thread, 0, (&raw mut message) as usize)? };
    Ok(message)
}

/// The general registers. On x86-64 those of 32-bit code are the same.
#[cfg(target_arch = "x86_64")]
pub(super) fn registers(thread: pid_t) -> io::Result<Registers> {
    let mut registers = MaybeUninit::<Registers>::zeroed();
    // SAFETY: the kernel writes a `user_regs_struct` to `registers`, which outlives the call; all bit patterns are numbers.
    unsafe {
        request(libc::PTRACE_GETREGS, thread, 0, registers.as_mut_ptr() as usize)?;
        Ok(registers.assume_init())
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) fn set_registers(thread: pid_t, registers: &Registers) -> io::Result<()> {
    // SAFETY: the kernel reads a `user_regs_struct` from `registers`, which outlives the call.
    unsafe { request(libc::PTRACE_SETREGS, thread, 0, (&raw const *registers) as usize) }
}

/// `NT_PRSTATUS`: the general registers.
#[cfg(target_arch = "aarch64")]
const GENERAL: usize = 1;

/// # Errors
/// For a 32-bit program, which has others.
#[cfg(target_arch = "aarch64")]
pub(super) fn registers(thread: pid_t) -> io::Result<Registers> {
    let mut registers = MaybeUninit::<Registers>::zeroed();
    let mut vector = libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size_of::<Registers>() };
    // SAFETY: the kernel writes at most `iov_len` bytes to `registers`, which outlives the call; all bit patterns are numbers.
    unsafe {
        request(libc::PTRACE_GETREGSET, thread, GENERAL, (&raw mut vector) as usize)?;
        if vector.iov_len == size_of::<Registers>() {
            Ok(registers.assume_init())
        } else {
            Err(io::Error::new(io::ErrorKind::Unsupported, "32-bit programs are not supported"))
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) fn set_registers(thread: pid_t, registers: &Registers) -> io::Result<()> {
    // SAFETY: the structure has numbers of 64 bits only, and nothing between them.
    let bytes = unsafe { std::slice::from_raw_parts((&raw const *registers).cast::<u8>(), size_of::<Registers>()) };
    set(thread, GENERAL, bytes)
}

/// Gives the thread a set of registers.
#[cfg(target_arch = "aarch64")]
fn set(thread: pid_t, number: usize, bytes: &[u8]) -> io::Result<()> {
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel reads at most `iov_len` bytes from `bytes`, and writes a length to `vector`; both outlive the call.
    unsafe { request(libc::PTRACE_SETREGSET, thread, number, (&raw mut vector) as usize) }
}

/// Registers that a system call need not keep: on aarch64 what SVE has beyond the 128 bits of each vector register, with the predicates.
/// The kernel clears them at each call.
pub(super) struct Vectors(#[cfg(target_arch = "aarch64")] Vec<(usize, Vec<u8>)>);

#[cfg(not(target_arch = "aarch64"))]
impl Vectors {
    pub fn of(_: pid_t) -> Vectors {
        Vectors()
    }

    pub fn restore(&self, _: pid_t) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(target_arch = "aarch64")]
impl Vectors {
    /// `NT_ARM_SVE`, and `NT_ARM_SSVE`: the same of the streaming mode, which a call leaves.
    const SETS: [usize; 2] = [0x405, 0x40b];
    /// 34 of the longest registers, 16 predicates and FFR, and the head.
    const LARGEST: usize = 16 << 10;

    /// Those that the thread has in use.
    pub fn of(thread: pid_t) -> Vectors {
        Vectors(Self::SETS.into_iter().filter_map(|set| Some((set, Self::read(thread, set)?))).collect())
    }

    /// No value if the processor does not have them, or the thread does not use them.
    fn read(thread: pid_t, set: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0_u8; Self::LARGEST];
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: the kernel writes at most `iov_len` bytes to `bytes`, which outlives the call.
        unsafe { request(libc::PTRACE_GETREGSET, thread, set, (&raw mut vector) as usize).ok()? };
        bytes.truncate(vector.iov_len);
        // `struct user_sve_header`: two sizes, two lengths of vectors, and flags: 1 if registers of SVE follow.
        let flags = u16::from_ne_bytes(bytes.get(12..14)?.try_into().ok()?);
        (flags & 1 != 0).then_some(bytes)
    }

    pub fn restore(&self, thread: pid_t) -> io::Result<()> {
        self.0.iter().try_for_each(|(number, bytes)| set(thread, *number, bytes))
    }
}

/// `PTRACE_GETSIGMASK` and `PTRACE_SETSIGMASK`
const GET_MASK: c_uint = 0x420a;
const SET_MASK: c_uint = 0x420b;

pub(super) fn mask(thread: pid_t) -> io::Result<u64> {
    let mut mask = 0_u64;
    // SAFETY: the kernel writes 8 bytes to `mask`, which outlives the call.
    unsafe { request(GET_MASK, thread, size_of::<u64>(), (&raw mut mask) as usize)? };
    Ok(mask)
}

pub(super) fn set_mask(thread: pid_t, mask: u64) -> io::Result<()> {
    // SAFETY: the kernel reads 8 bytes from `mask`, which outlives the call.
    unsafe { request(SET_MASK, thread, size_of::<u64>(), (&raw const mask) as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_wait_reports_is_told_apart() {
        let stop = |signal: c_int, event: c_int| Status::parse(event << 16 | signal << 8 | 0x7f);
        assert_eq!(Status::parse(3 << 8), Some(Status::Exited(3)));
        assert_eq!(Status::parse(9), Some(Status::Killed(9)));
        assert_eq!(Status::parse(0x80 | 7), Some(Status::Killed(7)), "with a core");
        assert_eq!(stop(libc::SIGBUS, 0), Some(Status::Signal(libc::SIGBUS)));
        assert_eq!(stop(40, 0), Some(Status::Signal(40)), "a real-time signal");
        assert_eq!(stop(libc::SIGSTOP, 0), Some(Status::Signal(libc::SIGSTOP)), "before it stops");
        assert_eq!(stop(libc::SIGSTOP, EVENT_STOP), Some(Status::Group), "when it has");
        assert_eq!(stop(libc::SIGTRAP, EVENT_STOP), Some(Status::Event));
        assert_eq!(stop(libc::SIGTRAP, libc::PTRACE_EVENT_EXEC), Some(Status::Exec));
        assert_eq!(stop(libc::SIGTRAP, libc::PTRACE_EVENT_CLONE), Some(Status::Event));
        assert_eq!(stop(libc::SIGTRAP, libc::PTRACE_EVENT_VFORK), Some(Status::Fork));
        assert_eq!(Status::parse(0xffff), None, "continued");
    }
}
