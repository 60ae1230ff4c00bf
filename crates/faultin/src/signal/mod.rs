//! The handler: installing it, checking whether it is reached, calling it from a host's own handler. What runs in a signal is
//! in a folder of its own, `signal/inside`.
//!
//! Views install the handler when they are made ([`install`](crate::install)); the raw functions require it as a
//! precondition. Hosts that own SIGSEGV and SIGBUS call [`host_owns_handler`] once and [`try_handle`] from their handler.
//! Hosts that may not have a handler at all use [`signal_free`](crate::signal_free).

pub(crate) mod inside;
pub(crate) mod outside;

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering;

use crate::arch;
use crate::events::{self as seen, Outcome};
use crate::fault::{Access, Cause};
use crate::registry::InstallError;

use inside::registry::{MODE_HOST, MODE_OURS, Registry, SIGNALS, of, own};
#[doc(hidden)]
pub use inside::slots;
use inside::{chain, events, handler, stack};
use outside::install::{install_for, registry_of};

/// Installs the handler as [`install`](crate::install) does, and checks whether it still has the signals: this takes about
/// two system calls. Installs it again where the default action or "ignore" was set in the meantime, as Rust's own handler
/// does for a signal that it does not know; that action then applies to signals that are not ours. Leaves another handler
/// above ours unchanged.
///
/// # Errors
/// Those of [`install`](crate::install).
pub fn reinstall() -> Result<(), InstallError> {
    install_for(arch::object())
}

/// Registers the tables for hosts whose own handler calls [`try_handle`]; installs nothing, now or later.
///
/// # Errors
/// Those of [`install`](crate::install).
pub fn host_owns_handler() -> Result<(), InstallError> {
    registry_of(arch::object())?.host_owns_handler();
    Ok(())
}

/// Moves our handler above one that was installed after it, for hosts such as Python's faulthandler that do not pass
/// signals on. That handler still receives signals that are not ours, and may pass them back without a cycle. If it removes
/// itself later, by restoring what it found, ours stays.
///
/// # Errors
/// Those of [`install`](crate::install); [`InstallError::TooManyHandlers`] if ours was raised above seven different
/// handlers already, [`InstallError::HostOwnsHandler`] after [`host_owns_handler`].
pub fn raise_to_top() -> Result<(), InstallError> {
    registry_of(arch::object())?.raise_to_top()
}

/// The result of [`try_handle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum SignalOutcome {
    /// The signal was a fault of one of our accesses: return from the handler, and the access continues as a short result.
    Recovered = 1,
    /// The signal is not ours; nothing was changed.
    NotOurs = 0,
}

/// Handles a signal as our handler does, for hosts that own SIGSEGV and SIGBUS. Async-signal-safe.
///
/// The mask in force is the host's; this function changes it at most for the time of the call. A host whose handler runs on
/// an alternate stack blocks all blockable signals (`sa_mask`: `sigfillset`, except those that instructions cause), as our
/// own handler does: otherwise their handlers run on the same stack, on top of this one. A fault while its signal is
/// blocked kills the process before any handler is called: the host must also unblock SIGSEGV and SIGBUS in each thread
/// that accesses foreign memory.
///
/// # Safety
/// `info` and `context` are what the kernel passed to the host's `SA_SIGINFO` handler for `signo`, on this thread, and
/// the handler returns normally (not by `longjmp`) after [`SignalOutcome::Recovered`].
pub unsafe fn try_handle(signo: c_int, info: *mut libc::siginfo_t, context: *mut c_void) -> SignalOutcome {
    match of(arch::object()) {
        // SAFETY: forwarded from the caller.
        Some(registry) if unsafe { handler::recover(registry, signo, info, context) } => SignalOutcome::Recovered,
        _ => SignalOutcome::NotOurs,
    }
}

/// Returns whether the access that raised SIGSEGV or SIGBUS was a load or a store, `None` if the CPU does not report it.
/// Async-signal-safe. Not part of the interface.
///
/// # Safety
/// `context` is what the kernel passed to an `SA_SIGINFO` handler of SIGSEGV or SIGBUS.
#[doc(hidden)]
pub unsafe fn access(context: *const c_void) -> Option<Access> {
    // SAFETY: the kernel's context.
    arch::context::access(unsafe { &*context.cast::<libc::ucontext_t>() })
}

/// The position of our handler for a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandlerState {
    /// The kernel calls it directly.
    Direct,
    /// The handler at this address is above it: ours is reached if that one passes on signals that it does not know.
    Below(usize),
    /// The default action or "ignore" is in force: a fault kills the process.
    Absent,
    /// The host has declared that it owns the handler: reached if it calls [`try_handle`].
    Host,
}

/// The current state of both signals for this thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// SIGSEGV.
    pub segv: HandlerState,
    /// SIGBUS.
    pub bus: HandlerState,
    /// Whether this thread blocks SIGSEGV: the kernel then kills the process on a fault, with or without a handler.
    pub segv_blocked: bool,
    /// Whether this thread blocks SIGBUS.
    pub bus_blocked: bool,
    /// Size of this thread's alternate signal stack in bytes; 0 if it has none, and handlers run on the interrupted stack.
    pub alternate_stack: usize,
    /// Size in bytes that an alternate stack needs in the worst case: the kernel's largest frame (`AT_MINSIGSTKSZ`, with
    /// all vector and matrix registers in use) plus what our handler needs below it. A thread that does not use matrix
    /// registers needs less. The stack of a predecessor or a pager comes in addition, and so does one more frame for each
    /// handler that runs on the alternate stack and whose own accesses fault.
    pub stack_needed: usize,
}

impl Status {
    /// Returns whether a fault in this thread is certain to be recovered.
    pub fn is_covered(&self) -> bool {
        self.segv == HandlerState::Direct && self.bus == HandlerState::Direct && !self.segv_blocked && !self.bus_blocked
    }
}

/// Returns the state of both signals in this thread; four system calls.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// faultin::install()?;
/// let status = faultin::signal::status();
/// if !status.is_covered() {
///     eprintln!("a fault in this thread may end the process: {status:?}");
/// }
/// # Ok(())
/// # }
/// ```
pub fn status() -> Status {
    let registry = of(arch::object());
    let reached = |signal| reached(registry, signal);
    let blocked = blocked();
    Status {
        segv: reached(libc::SIGSEGV),
        bus: reached(libc::SIGBUS),
        segv_blocked: blocked[0],
        bus_blocked: blocked[1],
        alternate_stack: alternate_stack(),
        stack_needed: stack_needed(),
    }
}

/// Returns the size of this thread's alternate stack in bytes. One system call.
fn alternate_stack() -> usize {
    let mut stack = core::mem::MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: only queries this thread's stack; zero if the call does not write it.
    let stack = unsafe {
        libc::sigaltstack(core::ptr::null(), stack.as_mut_ptr());
        stack.assume_init()
    };
    if stack.ss_flags & libc::SS_DISABLE != 0 { 0 } else { stack.ss_size }
}

/// Returns the size in bytes that an alternate stack needs for our handler, in the worst case.
fn stack_needed() -> usize {
    const AT_MINSIGSTKSZ: core::ffi::c_ulong = 51;
    // SAFETY: queries a number, which is 0 if the kernel does not report it.
    let frame = unsafe { libc::getauxval(AT_MINSIGSTKSZ) } as usize;
    frame.max(libc::MINSIGSTKSZ) + stack::HANDLER
}

/// Reads again whether this thread blocks SIGSEGV or SIGBUS, and returns whether it blocks one of them; one system call.
///
/// Views and maps read the mask once in each thread, and whenever they make a system call anyway. If one of the signals is
/// blocked, the kernel makes their accesses ([`signal_free`](crate::signal_free)), because a fault would kill the process.
/// A thread that blocks them later, or a handler that runs with them blocked, must call this first if it uses views, or
/// maps that make no system call ([`Watch::Nothing`](crate::map::Watch), sealed memory).
///
/// Async-signal-safe, with one exception: in a library that was loaded by `dlopen`, the first use of views, maps or this
/// function in a thread allocates a thread-local variable. Call this once in each thread before its handlers may need them.
/// (The variable makes a load of a view cost a comparison and not a system call. Rust has no stable way to place it where
/// the loader allocates it with the thread, and loaders may reject libraries that ask for it.) The functions and views of
/// [`signal_free`](crate::signal_free) use no such variable.
pub fn refresh_mask() -> bool {
    crate::blocked::ask()
}

/// Returns which of [`SIGNALS`] this thread blocks. One system call. Async-signal-safe.
pub(crate) fn blocked() -> [bool; 2] {
    // Zero if the kernel does not write it; as large as its set is on any architecture.
    let mut mask = [0_u64; 2];
    let size = if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 16 } else { 8 };
    let to = (&raw mut mask).expose_provenance();
    // SAFETY: only queries this thread's mask, which the kernel writes.
    unsafe { arch::context::syscall4(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK as usize, 0, to, size) };
    SIGNALS.map(|signal| mask[0] >> (signal - 1) & 1 == 1)
}

/// Returns whether the kernel calls our handler for both signals, and no other one first.
pub(crate) fn is_reached_directly() -> bool {
    let registry = of(arch::object());
    SIGNALS.iter().all(|&signal| reached(registry, signal) == HandlerState::Direct)
}

fn reached(registry: Option<&Registry>, signal: c_int) -> HandlerState {
    let now = chain::current_handler(signal);
    match (registry, now) {
        (Some(r), _) if r.mode.load(Ordering::Acquire) == MODE_HOST => HandlerState::Host,
        (None, _) | (_, None) => HandlerState::Absent,
        (Some(r), Some(handler)) if r.mode.load(Ordering::Acquire) == MODE_OURS => {
            if r.is_ours(handler) {
                HandlerState::Direct
            } else {
                HandlerState::Below(handler)
            }
        }
        _ => HandlerState::Absent,
    }
}

/// Faults so far in this process, by every object that shares the registry, by outcome, cause and access.
/// [`events`](crate::events()) has the last ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    counts: [[u64; events::COUNTERS]; Outcome::COUNT],
    /// Number of signals that were not ours and were passed on.
    pub forwarded: u64,
    /// Number of faults of other instructions that were resolved with a page of zeros, under
    /// [`FileMap::with_slice`](crate::FileMap::with_slice).
    pub substituted: u64,
}

impl Counters {
    /// Returns the number of faults with this outcome, this kind of cause (an extent is not compared) and this access.
    pub fn of(&self, outcome: Outcome, cause: Cause, access: Access) -> u64 {
        self.counts[outcome.index()][seen::counter(cause, access)]
    }

    /// Returns the number of faults with this outcome.
    pub fn all(&self, outcome: Outcome) -> u64 {
        self.counts[outcome.index()].iter().sum()
    }

    /// Returns the number of faults, whatever became of them: a metric that stays zero as long as all memory is accessible.
    pub fn faults(&self) -> u64 {
        Outcome::ALL.iter().map(|outcome| self.all(*outcome)).sum()
    }

    /// Returns the number of recovered signals with this kind of cause (an extent is not compared).
    pub fn recovered(&self, cause: Cause) -> u64 {
        let of = |access| self.of(Outcome::Recovered, cause, access);
        of(Access::Read) + of(Access::Write)
    }

    /// Returns the number of recovered signals. A failed access is one signal, two where several pages are bad.
    pub fn total(&self) -> u64 {
        self.all(Outcome::Recovered)
    }

    /// Returns what was counted after `earlier`, which [`counters`] returned before in this process.
    #[must_use]
    pub fn since(&self, earlier: &Counters) -> Counters {
        let since = |outcome: usize, i: usize| self.counts[outcome][i].saturating_sub(earlier.counts[outcome][i]);
        Counters {
            counts: core::array::from_fn(|outcome| core::array::from_fn(|i| since(outcome, i))),
            forwarded: self.forwarded.saturating_sub(earlier.forwarded),
            substituted: self.substituted.saturating_sub(earlier.substituted),
        }
    }
}

/// Reads the counters, to export them as metrics. Each is exact; together they are not a snapshot.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use faultin::{Cause, ReadView};
///
/// # let file = tempfile::tempfile()?;
/// # use std::os::fd::AsRawFd;
/// # // SAFETY: a new mapping.
/// # let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
/// # assert_ne!(page, libc::MAP_FAILED);
/// // `page` is a mapping of an empty file.
/// // SAFETY: the addresses belong to the mapping until the program ends.
/// let view = unsafe { ReadView::new(page.cast(), 4096)? };
/// let before = faultin::signal::counters().recovered(Cause::Backing);
/// assert!(view.load::<u32>(0).is_err());
/// assert_eq!(faultin::signal::counters().recovered(Cause::Backing), before + 1);
/// # Ok(())
/// # }
/// ```
pub fn counters() -> Counters {
    // Where nothing is installed, the kernel reports faults.
    let registry = own();
    let counts = registry.counts.load();
    Counters {
        counts,
        forwarded: registry.forwarded.load(Ordering::Relaxed),
        substituted: counts[Outcome::Substituted.index()].iter().sum(),
    }
}

/// Makes a system call that touches neither `errno` nor anything else of the C library, for code of this project that runs
/// in signals. Not part of the interface.
///
/// # Safety
/// Those of the system call.
#[doc(hidden)]
pub unsafe fn syscall6(number: libc::c_long, arguments: [usize; 6]) -> isize {
    // SAFETY: the caller's contract.
    unsafe { arch::context::syscall6(number, arguments) }
}
