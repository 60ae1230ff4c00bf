//! The ways by which the kernel copies between plain memory and memory that may fault: [`transfer`].
//!
//! | [`Method`] | calls | what it needs |
//! |---|---|---|
//! | [`CrossMemory`](Method::CrossMemory) | `process_vm_readv(2)`, `process_vm_writev(2)` on this process | that no filter forbids them |
//! | [`ProcMem`](Method::ProcMem) | `pread(2)`, `pwrite(2)` on `/proc/self/mem` | a `/proc`, and a free descriptor |
//! | [`Pipe`](Method::Pipe) | `write(2)` into a pipe, `read(2)` out of it | two free descriptors |
//!
//! A sandbox may forbid any of them, to the process or to one thread. Each thread first tries the way that worked last, so
//! the choice is made once; where it is forbidden, the next way is tried.
//!
//! `/proc/self/mem` ignores the rights of pages. So each page is first accessed by a call that respects them (see
//! [`touch`](super::touch)), and stores prefer the pipe, where rights cannot be withdrawn between check and store.
//!
//! Descriptors are opened for each call and closed again: a descriptor that is kept would, in a forked child, belong to the
//! parent's memory, and could be closed by a host that closes all descriptors.
//!
//! Everything here is async-signal-safe: raw system calls only.

use core::sync::atomic::{AtomicU64, Ordering};

use super::raw::{Descriptor, call};
use super::touch;
use crate::fault::{Access, Cause, Fault, Short};
use crate::signal::inside::process::process;
use crate::{arch, page_size};

/// How the kernel copies for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// `process_vm_readv(2)` and `process_vm_writev(2)` on this process.
    CrossMemory,
    /// `/proc/self/mem`.
    ProcMem,
    /// A pipe: from the memory into it, and from it to the destination.
    Pipe,
}

const READS: [Method; 3] = [Method::CrossMemory, Method::ProcMem, Method::Pipe];
const WRITES: [Method; 3] = [Method::CrossMemory, Method::Pipe, Method::ProcMem];

/// The indices in [`READS`] and [`WRITES`] of the ways that worked last in a thread, because filters are per thread: a slot
/// for each thread id, modulo [`SLOTS`].
///
/// Not a thread-local variable: in a library that was loaded by `dlopen`, the first use of one in a thread allocates, and
/// handlers run this code. Threads that share a slot forget each other's choice, and try a forbidden way once more.
static CHOSEN: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];

const SLOTS: usize = 256;

/// The choice of a thread.
#[derive(Clone, Copy)]
struct Chosen {
    thread: usize,
    /// Indices, for reads and for writes.
    places: [usize; 2],
}

impl Chosen {
    /// Returns this thread's choice, or the first ways.
    fn now() -> Chosen {
        // SAFETY: has no arguments. (The thread's id and not the process's: the first thread may have ended, and its memory
        // with it.)
        let thread = unsafe { call(libc::SYS_gettid, [0; 6]) }.unwrap_or(0);
        let known = CHOSEN[thread % SLOTS].load(Ordering::Relaxed);
        let is_own = known >> 8 == thread as u64;
        let place = |shift: u32| if is_own { (known >> shift) as usize & 0xf } else { 0 };
        Chosen { thread, places: [place(0), place(4)] }
    }

    /// Records a way that worked.
    fn keep(mut self, which: usize, place: usize) {
        self.places[which] = place;
        let [read, write] = self.places.map(|place| place as u64);
        CHOSEN[self.thread % SLOTS].store((self.thread as u64) << 8 | write << 4 | read, Ordering::Relaxed);
    }
}

/// Number of bytes requested from the kernel at once: it pins their pages.
const CHUNK: usize = 1 << 20;

/// The result of one call of the kernel.
enum Step {
    /// It copied at least one byte.
    Moved(usize),
    /// The first byte cannot be accessed, or the request leaves the address space.
    Nothing,
    /// This way is not available here.
    Forbidden,
}

/// Returns the address of the side of a copy that may fault.
fn foreign(access: Access, dst: *mut u8, src: *const u8) -> usize {
    match access {
        Access::Read => src.addr(),
        Access::Write => dst.addr(),
    }
}

/// Returns the way that loads of this thread take now; `None` if all are forbidden. Requests one byte from the kernel.
pub(super) fn now() -> Option<Method> {
    let (byte, mut copy) = (1_u8, 0);
    // SAFETY: two bytes of this function's.
    unsafe { transfer(Access::Read, &raw mut copy, &raw const byte, 1) }.ok()?;
    READS.get(Chosen::now().places[0]).copied()
}

/// Copies `len` bytes. `access` names the side that may fault: the source for [`Access::Read`], the destination for
/// [`Access::Write`]. Ascending; exact to the byte.
///
/// # Errors
/// [`Short`] if a byte of that side cannot be accessed. [`Cause::Unsupported`] if every way is forbidden.
///
/// # Safety
/// The plain side is valid for the access, and the other one is foreign memory that may be accessed this way.
pub(super) unsafe fn transfer(access: Access, dst: *mut u8, src: *const u8, len: usize) -> Result<(), Short> {
    let (ways, which) = match access {
        Access::Read => (READS, 0),
        Access::Write => (WRITES, 1),
    };
    let mut done = 0;
    if len <= CHUNK {
        // SAFETY: forwarded.
        done = unsafe { at_once(access, dst, src, len) };
        if done == len {
            return Ok(());
        }
    }
    let foreign = foreign(access, dst, src);
    let chosen = Chosen::now();
    let first = chosen.places[which];
    for place in (0..ways.len()).map(|n| (first + n) % ways.len()) {
        let mut way = Open::new(ways[place], chosen.thread);
        // SAFETY: forwarded.
        match unsafe { by_one_way(&mut way, access, dst, src, len, &mut done) } {
            Some(result) => {
                if place != first {
                    chosen.keep(which, place);
                }
                return result;
            }
            None => continue,
        }
    }
    Err(Short { done, fault: Fault::rejected(access, Cause::Unsupported, foreign.wrapping_add(done)) })
}

/// The process that [`at_once`] names to the kernel: its number ([`process`]) in the upper half, its id in the lower one. 0:
/// not known. All ones: the kernel has refused it in this process or an ancestor, and is not asked again.
static OWN: AtomicU64 = AtomicU64::new(0);

/// Copies `len` bytes by one call of the kernel, where that is possible; returns the number of bytes that it copied. The
/// process's id is remembered, because asking for it would take as long as half of the copy.
///
/// # Safety
/// As [`transfer`].
#[inline]
unsafe fn at_once(access: Access, dst: *mut u8, src: *const u8, len: usize) -> usize {
    let number = u64::from(process());
    let known = OWN.load(Ordering::Relaxed);
    let id = match known {
        u64::MAX => return 0,
        known if known >> 32 == number => known & u64::from(u32::MAX),
        _ => {
            // SAFETY: queries a number.
            let id = unsafe { call(libc::SYS_getpid, [0; 6]) }.unwrap_or(0) as u64;
            OWN.store(number << 32 | id, Ordering::Relaxed);
            id
        }
    };
    // SAFETY: forwarded.
    match unsafe { cross_memory(id as usize, access, dst, src, len) } {
        Step::Moved(moved) => moved,
        Step::Nothing => 0,
        // A filter, or the first thread has ended, and its memory with it.
        Step::Forbidden => {
            OWN.store(u64::MAX, Ordering::Relaxed);
            0
        }
    }
}

/// Copies what is missing after `done`; `None` if this way is forbidden.
///
/// # Safety
/// As [`transfer`].
unsafe fn by_one_way(
    way: &mut Open,
    access: Access,
    dst: *mut u8,
    src: *const u8,
    len: usize,
    done: &mut usize,
) -> Option<Result<(), Short>> {
    let foreign = foreign(access, dst, src);
    let mut limit = CHUNK;
    while *done < len {
        let ask = (len - *done).min(limit);
        let (to, from) = (dst.wrapping_add(*done), src.wrapping_add(*done));
        // SAFETY: a part of both ranges.
        match unsafe { way.step(access, to, from, ask) } {
            Step::Moved(moved) => {
                *done += moved;
                limit = limit.saturating_mul(2).min(CHUNK);
            }
            Step::Forbidden => return None,
            // A request fails as a whole if it leaves the address space, and a pipe counts whole pages only.
            Step::Nothing if ask > 1 => limit = smaller(to.addr(), from.addr(), ask),
            Step::Nothing => {
                let address = foreign.wrapping_add(*done);
                // Some memory is accessible to the CPU but not to the kernel by its address (`memfd_secret`, devices): a
                // pipe takes it.
                if way.refuses_more_than_the_cpu() && touch::is_accessible(access, address) {
                    let mut pipe = Open::new(Method::Pipe, way.thread);
                    // SAFETY: forwarded.
                    if let Some(result) = unsafe { by_one_way(&mut pipe, access, dst, src, len, done) } {
                        return Some(result);
                    }
                }
                return Some(Err(Short { done: *done, fault: touch::fault(access, address) }));
            }
        }
    }
    Some(Ok(()))
}

/// Returns the number of bytes to request after a request of `ask` bytes that moved none: those up to the first page
/// boundary of either side, or half of them if there is none.
fn smaller(to: usize, from: usize, ask: usize) -> usize {
    let to_end = |address: usize| page_size() - (address & (page_size() - 1));
    let within = to_end(to).min(to_end(from));
    if within < ask { within } else { ask / 2 }
}

/// A way, with its open descriptors.
struct Open {
    way: Method,
    /// The id of this thread.
    thread: usize,
    memory: Option<Descriptor>,
    pipe: Option<[Descriptor; 2]>,
}

impl Open {
    fn new(way: Method, thread: usize) -> Self {
        Open { way, thread, memory: None, pipe: None }
    }

    fn refuses_more_than_the_cpu(&self) -> bool {
        self.way != Method::Pipe
    }

    /// # Safety
    /// As [`transfer`].
    unsafe fn step(&mut self, access: Access, to: *mut u8, from: *const u8, len: usize) -> Step {
        let within = smaller(to.addr(), from.addr(), usize::MAX).min(len);
        // SAFETY: forwarded.
        unsafe {
            match self.way {
                Method::CrossMemory => cross_memory(self.thread, access, to, from, len),
                // A page at a time: each has its own rights, and a pipe loses the part of a page that it copied.
                Method::ProcMem => self.proc_mem(access, to, from, within),
                Method::Pipe => self.pipe(to, from, within),
            }
        }
    }

    /// # Safety
    /// As [`transfer`].
    unsafe fn proc_mem(&mut self, access: Access, to: *mut u8, from: *const u8, len: usize) -> Step {
        let (local, at, number) = match access {
            Access::Read => (to.expose_provenance(), from.expose_provenance(), libc::SYS_pread64),
            Access::Write => (from.expose_provenance(), to.expose_provenance(), libc::SYS_pwrite64),
        };
        let at = arch::untag(at);
        let memory = match &self.memory {
            Some(memory) => memory,
            None => match open_proc_mem(access) {
                Some(memory) => self.memory.insert(memory),
                None => return Step::Forbidden,
            },
        };
        // A number that is no offset is no address of a process.
        if isize::try_from(at).is_err() || !touch::is_accessible(access, at) {
            return Step::Nothing;
        }
        // SAFETY: the kernel copies within the two ranges, as the caller allows.
        match unsafe { call(number, [memory.number(), local, len, at, 0, 0]) } {
            Ok(0) | Err(libc::EIO | libc::EFAULT | libc::ENXIO) => Step::Nothing,
            Ok(moved) => Step::Moved(moved),
            Err(_) => Step::Forbidden,
        }
    }

    /// # Safety
    /// As [`transfer`].
    unsafe fn pipe(&mut self, to: *mut u8, from: *const u8, len: usize) -> Step {
        // A pipe in which a copy failed may still hold bytes: it is not used again.
        let pipe = match self.pipe.take() {
            Some(pipe) => pipe,
            None => match Descriptor::pipe() {
                Some(pipe) => pipe,
                None => return Step::Forbidden,
            },
        };
        let [end, start] = [pipe[0].number(), pipe[1].number()];
        // SAFETY: the kernel reads the source, as the caller allows.
        let written = match unsafe { call(libc::SYS_write, [start, from.expose_provenance(), len, 0, 0, 0]) } {
            Ok(written) if written > 0 => written,
            Ok(_) | Err(libc::EFAULT) => return Step::Nothing,
            Err(_) => return Step::Forbidden,
        };
        // SAFETY: the kernel writes the destination, as the caller allows.
        match unsafe { call(libc::SYS_read, [end, to.expose_provenance(), written, 0, 0, 0]) } {
            Ok(read) if read > 0 => {
                if read == written {
                    self.pipe = Some(pipe);
                }
                Step::Moved(read)
            }
            Ok(_) | Err(libc::EFAULT) => Step::Nothing,
            Err(_) => Step::Forbidden,
        }
    }
}

/// # Safety
/// As [`transfer`].
unsafe fn cross_memory(thread: usize, access: Access, to: *mut u8, from: *const u8, len: usize) -> Step {
    let vector = |address: usize| [address, len];
    let (number, local, remote) = match access {
        Access::Read => (libc::SYS_process_vm_readv, vector(to.expose_provenance()), vector(from.expose_provenance())),
        Access::Write => {
            (libc::SYS_process_vm_writev, vector(from.expose_provenance()), vector(to.expose_provenance()))
        }
    };
    // SAFETY: the kernel reads the two vectors, and copies between their ranges as the caller allows.
    let moved = unsafe {
        call(number, [thread, (&raw const local).expose_provenance(), 1, (&raw const remote).expose_provenance(), 1, 0])
    };
    match moved {
        Ok(moved) if moved > 0 => Step::Moved(moved),
        // If it has no memory for its list of pages, it may manage with a shorter one.
        Ok(_) | Err(libc::EFAULT) => Step::Nothing,
        Err(libc::ENOMEM) if len > page_size() => Step::Nothing,
        Err(_) => Step::Forbidden,
    }
}

/// Opens `/proc/self/mem`, if it is this process's memory: it may be something else (a plain file in a sandbox's root, the
/// memory of an emulator).
fn open_proc_mem(access: Access) -> Option<Descriptor> {
    let flags = libc::O_CLOEXEC | if access == Access::Read { libc::O_RDONLY } else { libc::O_RDWR };
    let memory = Descriptor::open(c"/proc/self/mem", flags)?;
    let mut copy = 0_usize;
    let secret = (&raw const copy).addr() ^ 0x5bd1_e995;
    let at = &raw const secret;
    let arguments =
        [memory.number(), (&raw mut copy).expose_provenance(), size_of::<usize>(), at.expose_provenance(), 0, 0];
    // SAFETY: the kernel writes `copy`.
    let read = unsafe { call(libc::SYS_pread64, arguments) };
    (read == Ok(size_of::<usize>()) && copy == secret).then_some(memory)
}
