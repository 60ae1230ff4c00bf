//! [`Process`]: the memory of another process.

use core::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use super::raw::call;
use crate::errno::{self, CallError};
use crate::fault::{Access, Cause, Fault};

/// Another process, to read its memory.
///
/// A process id is reused after its process has ended and was waited for. Every read checks, after the bytes were copied,
/// whether the process is still the one that this value was made for; if it is not, no byte counts.
///
/// Reading needs the right to trace the process (`PTRACE_MODE_ATTACH_REALCREDS`): same user, or `CAP_SYS_PTRACE`, and
/// permission by Yama and other security modules.
#[derive(Debug)]
pub struct Process {
    pid: libc::pid_t,
    /// A descriptor of the process.
    pidfd: OwnedFd,
}

/// An error of reading another process's memory: [`reason`](Self::reason), after [`done`](Self::done) bytes.
#[derive(Debug)]
pub struct ProcessError {
    done: usize,
    reason: ProcessReason,
}

/// The reason why a read of another process's memory stopped.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProcessReason {
    /// A byte cannot be loaded; the address is the other process's. The cause is [`Unmapped`](Cause::Unmapped) or
    /// [`Protection`](Cause::Protection) according to its list of mappings, and [`Backing`](Cause::Backing) if the list
    /// says that the byte can be loaded.
    Fault(Fault),
    /// The process has ended: all of its threads have. (It may still be a zombie.)
    Ended,
    /// This process may not read the other one.
    Denied,
    /// The process cannot be queried.
    Io(io::Error),
}

impl ProcessError {
    fn new(done: usize, reason: ProcessReason) -> Self {
        ProcessError { done, reason }
    }

    fn nothing(error: i32) -> Self {
        let reason = match error {
            libc::ESRCH => ProcessReason::Ended,
            libc::EPERM | libc::EACCES => ProcessReason::Denied,
            error => ProcessReason::Io(io::Error::from_raw_os_error(error)),
        };
        ProcessError::new(0, reason)
    }

    /// Returns the number of bytes copied. Exact.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Returns the kernel's error number.
    pub fn errno(&self) -> i32 {
        match &self.reason {
            ProcessReason::Fault(fault) => fault.errno(),
            ProcessReason::Ended => libc::ESRCH,
            ProcessReason::Denied => libc::EPERM,
            ProcessReason::Io(error) => errno::errno(error).unwrap_or(libc::EIO),
        }
    }

    /// Returns the reason why the first missing byte was not copied.
    pub fn reason(&self) -> &ProcessReason {
        &self.reason
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read {} bytes of another process: ", self.done)?;
        match &self.reason {
            ProcessReason::Fault(fault) => fault.fmt(f),
            ProcessReason::Ended => f.write_str("the process has ended"),
            ProcessReason::Denied => f.write_str("reading its memory is not permitted"),
            ProcessReason::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ProcessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            ProcessReason::Fault(fault) => Some(fault),
            ProcessReason::Io(error) => Some(error),
            ProcessReason::Ended | ProcessReason::Denied => None,
        }
    }
}

impl From<ProcessError> for io::Error {
    fn from(error: ProcessError) -> Self {
        errno::whole(Some(error.errno()), error)
    }
}

/// Number of bytes requested from the kernel at once: it pins their pages.
const CHUNK: usize = 1 << 20;

/// Returns whether `/proc` belongs to our namespace of process ids. In another namespace its numbers denote other
/// processes.
fn proc_has_our_numbers() -> bool {
    let number = std::fs::read_link("/proc/self").ok().and_then(|name| name.to_str()?.parse().ok());
    number == Some(std::process::id())
}

impl Process {
    /// Opens the process that has this id now.
    ///
    /// # Errors
    /// [`Ended`](ProcessReason::Ended) if there is none; [`Io`](ProcessReason::Io) with `ENOSYS` before Linux 5.3, which
    /// has no process descriptors.
    pub fn from_pid(pid: i32) -> Result<Self, ProcessError> {
        let number = usize::try_from(pid).map_err(|_| ProcessError::nothing(libc::EINVAL))?;
        // SAFETY: opens a new descriptor.
        let pidfd = unsafe { call(libc::SYS_pidfd_open, [number, 0, 0, 0, 0, 0]) }.map_err(|error| match error {
            libc::ESRCH => ProcessError::nothing(error),
            // No process is protected from this: a filter forbids it.
            error => {
                let error = CallError::name("pidfd_open", io::Error::from_raw_os_error(error));
                ProcessError::new(0, ProcessReason::Io(error))
            }
        })?;
        // SAFETY: a new descriptor that this value owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as i32) };
        Ok(Process { pid, pidfd })
    }

    /// Opens the process of a descriptor (`pidfd_open(2)`, `CLONE_PIDFD`, `SCM_PIDFD`, …). The descriptor is duplicated.
    ///
    /// # Errors
    /// [`Ended`](ProcessReason::Ended) if it has ended and was waited for; [`Io`](ProcessReason::Io) with `EBADF` if it is
    /// no process descriptor, or this namespace has no id for the process, and with `EOPNOTSUPP` if `/proc` does not belong
    /// to this namespace of process ids, so that it cannot be queried.
    pub fn from_pidfd(pidfd: BorrowedFd<'_>) -> Result<Self, ProcessError> {
        let io = |error: io::Error| ProcessError::new(0, ProcessReason::Io(error));
        let pidfd = pidfd.try_clone_to_owned().map_err(io)?;
        if !proc_has_our_numbers() {
            return Err(ProcessError::nothing(libc::EOPNOTSUPP));
        }
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).map_err(io)?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok());
        match pid {
            Some(pid @ 1..) => Ok(Process { pid, pidfd }),
            Some(-1) => Err(ProcessError::new(0, ProcessReason::Ended)),
            _ => Err(ProcessError::nothing(libc::EBADF)),
        }
    }

    /// Returns the process's id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Copies `dst.len()` bytes from `address` of that process: by `process_vm_readv(2)`, or by `/proc/PID/task/TID/mem` where a
    /// filter forbids that call, and where the first thread of the process has ended and others run.
    ///
    /// The other process runs meanwhile: its concurrent stores mix byte by byte.
    ///
    /// # Errors
    /// [`ProcessError`] if a byte cannot be copied: [`done`](ProcessError::done) bytes were.
    pub fn read(&self, dst: &mut [u8], address: usize) -> Result<(), ProcessError> {
        let copied = self.copy(address, dst);
        // The bytes are from the process that had the id then.
        self.is_there()?;
        // Until it is waited for, an ended process exists without memory; calls and filters report that differently.
        copied.map_err(|error| match self.has_ended() {
            Ok(true) => ProcessError { done: error.done, ..ProcessError::nothing(libc::ESRCH) },
            _ => error,
        })
    }

    /// Returns an error if the process has been waited for: until then, no other one has its id.
    fn is_there(&self) -> Result<(), ProcessError> {
        let pidfd = self.pidfd.as_raw_fd();
        // SAFETY: sends no signal, only checks.
        match unsafe { call(libc::SYS_pidfd_send_signal, [pidfd as usize, 0, 0, 0, 0, 0]) } {
            Ok(_) => return Ok(()),
            Err(libc::ESRCH) => return Err(ProcessError::nothing(libc::ESRCH)),
            // No signal may be sent to it, or a filter forbids the call: neither means that the process has ended.
            Err(_) => {}
        }
        match self.has_ended() {
            Ok(false) => Ok(()),
            Ok(true) => Err(ProcessError::nothing(libc::ESRCH)),
            Err(error) => Err(ProcessError::nothing(error)),
        }
    }

    /// Returns whether all threads of the process have ended.
    fn has_ended(&self) -> Result<bool, i32> {
        let pidfd = self.pidfd.as_raw_fd();
        let mut poll = libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 };
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let pointers = [(&raw mut poll).expose_provenance(), (&raw const at_once).expose_provenance()];
        // SAFETY: the kernel reads both structures and writes the first one.
        let readable = unsafe { call(libc::SYS_ppoll, [pointers[0], 1, pointers[1], 0, 0, 0]) };
        // A process descriptor is readable once the process has ended.
        readable.map(|count| count > 0)
    }

    fn copy(&self, address: usize, dst: &mut [u8]) -> Result<(), ProcessError> {
        let mut done = 0;
        while done < dst.len() {
            let (at, ask) = (address.wrapping_add(done), CHUNK.min(dst.len() - done));
            let local = [dst[done..].as_mut_ptr().expose_provenance(), ask];
            let remote = [at, ask];
            let vectors = [(&raw const local).expose_provenance(), (&raw const remote).expose_provenance()];
            let arguments = [self.pid as usize, vectors[0], 1, vectors[1], 1, 0];
            // SAFETY: the kernel reads the two vectors, and writes to `dst` only.
            match unsafe { call(libc::SYS_process_vm_readv, arguments) } {
                Ok(moved) if moved > 0 => done += moved,
                Ok(_) | Err(libc::EFAULT) => return Err(self.fault(done, at)),
                // The process's first thread has ended, and its memory with it unless there is another thread; or the right
                // is missing; or a filter forbids the call: the other way distinguishes them.
                Err(error) => return self.copy_by_file(address, dst, done, error),
            }
        }
        Ok(())
    }

    /// Copies what is missing after `done` from the file of the process's memory. That file ignores the rights of pages, so
    /// the list of mappings is checked for them.
    #[cold]
    fn copy_by_file(&self, address: usize, dst: &mut [u8], mut done: usize, error: i32) -> Result<(), ProcessError> {
        let refused = |done, other: io::Error| {
            // That the first thread has no memory does not mean that the process has ended.
            let of_first = error == libc::ESRCH && !self.has_ended().unwrap_or(true);
            let error = other.raw_os_error().filter(|_| of_first).unwrap_or(error);
            ProcessError { done, ..ProcessError::nothing(error) }
        };
        let memory = self.memory().map_err(|other| refused(done, other))?;
        while done < dst.len() {
            let at = address.wrapping_add(done);
            let end = match self.rights(at).map_err(|other| refused(done, other))? {
                Some((end, true)) => end,
                _ => return Err(self.fault(done, at)),
            };
            let ask = CHUNK.min(dst.len() - done).min(end - at);
            match memory.read_at(&mut dst[done..done + ask], at as u64) {
                // The program that the memory belonged to has ended.
                Ok(0) => return Err(ProcessError { done, ..ProcessError::nothing(libc::ESRCH) }),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(self.fault(done, at)),
            }
        }
        Ok(())
    }

    /// Opens the file of the process's memory. It stays that process's, whichever thread opened it and whichever process
    /// gets its number.
    fn memory(&self) -> io::Result<File> {
        self.of_a_thread(|thread| {
            let memory = File::open(format!("{thread}/mem"))?;
            match memory.read_at(&mut [0], 0) {
                // The memory file of an ended thread can be opened, too (before Linux 6.16), and is empty.
                Ok(0) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
                _ => Ok(memory),
            }
        })
    }

    /// Returns the result of `ask` for the first thread, or else for one that has not ended: the process continues without
    /// its first thread (`pthread_exit`), whose number the kernel keeps, but not its memory. `ask` gets the thread's
    /// directory.
    fn of_a_thread<T>(&self, ask: impl Fn(&str) -> io::Result<T>) -> io::Result<T> {
        if !proc_has_our_numbers() {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let process = format!("/proc/{}", self.pid);
        let mut answer = ask(&process);
        if answer.is_err() {
            let threads = std::fs::read_dir(format!("{process}/task"))?.flatten();
            let first = self.pid.to_string();
            for thread in threads.filter(|thread| *thread.file_name() != *first) {
                answer = ask(&thread.path().to_string_lossy());
                if answer.is_ok() {
                    break;
                }
            }
        }
        answer
    }

    /// Returns the end of the mapping that contains `address`, and whether it can be read; `None` if nothing is mapped
    /// there.
    fn rights(&self, address: usize) -> io::Result<Option<(usize, bool)>> {
        // Line by line: the other process may have any number of mappings, with any names.
        let maps = self.of_a_thread(|thread| {
            let mut maps = BufReader::new(File::open(format!("{thread}/maps"))?);
            // An ended thread has none.
            if maps.fill_buf()?.is_empty() { Err(io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(maps) }
        })?;
        let mapping = |line: &[u8]| {
            let (range, rest) = str::from_utf8(line.get(..64).unwrap_or(line)).ok()?.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let parsed = |number| usize::from_str_radix(number, 16).ok();
            Some((parsed(start)?, parsed(end)?, rest.starts_with('r')))
        };
        for line in maps.split(b'\n') {
            match mapping(&line?) {
                Some((start, end, readable)) if (start..end).contains(&address) => return Ok(Some((end, readable))),
                _ => {}
            }
        }
        Ok(None)
    }

    #[cold]
    fn fault(&self, done: usize, at: usize) -> ProcessError {
        let cause = match self.rights(at) {
            Ok(None) => Cause::Unmapped,
            Ok(Some((_, false))) => Cause::Protection,
            Ok(Some((_, true))) => Cause::Backing,
            Err(_) => Cause::Other,
        };
        ProcessError::new(done, ProcessReason::Fault(Fault::rejected(Access::Read, cause, at)))
    }
}
