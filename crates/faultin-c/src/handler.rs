//! Who has the signals: installing the handler, a host's own handler, and the state of both.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

use faultin::InstallError;
use faultin::events::Outcome;
use faultin::signal::{self, HandlerState, SignalOutcome};
use faultin::signal_free::{self, Method};

/// The mode of this object: a [`Mode`]. One load for each access.
static MODE: AtomicU32 = AtomicU32::new(Mode::Kernel as u32);

/// Who makes the accesses: `mode` in struct faultin_status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Mode {
    /// The kernel copies; nothing is installed. The mode until faultin_install() or faultin_host_owns_handler().
    Kernel = 0,
    /// The handler of this library recovers faults.
    Installed = 1,
    /// The host's handler recovers faults, by faultin_try_handle().
    Host = 2,
}

/// The position of the handler for a signal: `segv` and `bus` in struct faultin_status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Position {
    /// Nothing recovers faults. In mode FAULTIN_MODE_KERNEL nothing needs to.
    Absent = 0,
    /// The kernel calls the handler of this library directly.
    Direct = 1,
    /// Another handler, at `segv_above` or `bus_above`, was installed later: the library's is reached if that one passes on
    /// signals that it does not know.
    Below = 2,
    /// The host owns the handler.
    Host = 3,
}

/// How the kernel copies where there is no handler: `kernel` in struct faultin_status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Kernel {
    /// Every way is forbidden to this thread.
    None = 0,
    /// process_vm_readv and process_vm_writev on this process.
    CrossMemory = 1,
    /// /proc/self/mem.
    ProcMem = 2,
    /// A pipe.
    Pipe = 3,
}

/// What holds now in this process and this thread. The caller sets `size`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Status {
    /// The size of this structure in bytes, as the caller knows it: set by the caller, and not changed.
    pub size: u32,
    /// Who makes the accesses: enum faultin_mode.
    pub mode: u32,
    /// The position of the handler for SIGSEGV: enum faultin_position.
    pub segv: u32,
    /// The position of the handler for SIGBUS: enum faultin_position.
    pub bus: u32,
    /// 1 if this thread blocks SIGSEGV, otherwise 0. In the modes other than FAULTIN_MODE_KERNEL, a fault in a thread that
    /// blocks it ends the process.
    pub segv_blocked: u32,
    /// 1 if this thread blocks SIGBUS, otherwise 0.
    pub bus_blocked: u32,
    /// How the kernel copies for this thread: enum faultin_kernel.
    pub kernel: u32,
    /// 1 if a fault of an access in this thread is certain to be a short result, otherwise 0.
    pub covered: u32,
    /// The address of the handler above ours for SIGSEGV, 0 if there is none.
    pub segv_above: u64,
    /// The address of the handler above ours for SIGBUS, 0 if there is none.
    pub bus_above: u64,
    /// The size of this thread's alternate signal stack in bytes, 0 if it has none.
    pub alternate_stack: u64,
    /// The size in bytes that an alternate stack needs for our handler, in the worst case.
    pub stack_needed: u64,
    /// The number of faults of accesses that were recovered in this process.
    pub recovered: u64,
    /// The number of faults that were resolved by zeros under a guard.
    pub substituted: u64,
    /// The number of signals that were not ours and were passed on.
    pub forwarded: u64,
    /// 0. Later versions may use it.
    pub reserved: [u64; 5],
}

const _: () = assert!(size_of::<Status>() == 128);

/// Returns whether faults of accesses are recovered by a handler.
#[inline(always)]
pub(crate) fn has_handler() -> bool {
    MODE.load(Ordering::Relaxed) != Mode::Kernel as u32
}

fn error_of(error: &InstallError) -> c_int {
    match error {
        InstallError::HostOwnsHandler => libc::EBUSY,
        InstallError::TooManyHandlers => libc::EAGAIN,
        InstallError::NotFound => libc::ENOEXEC,
        InstallError::Pin(_) => libc::ENOTSUP,
        other => other.errno().unwrap_or(libc::ENOSYS),
    }
}

/// Runs one of faultin's installations, and changes the mode if it succeeds.
fn change(to: Mode, install: fn() -> Result<(), InstallError>) -> c_int {
    match install() {
        Ok(()) => {
            crate::copy::rely_on_the_handler();
            MODE.store(to as u32, Ordering::Relaxed);
            0
        }
        Err(error) => error_of(&error),
    }
}

/// Installs the handler for SIGSEGV and SIGBUS, once in a process: from here on, accesses run at the speed of plain ones. The
/// application decides this, and not a library.
///
/// Signals that are not faults of these functions go to the handler that was installed before. An object that has installed
/// the handler stays loaded after dlclose(). Maps that were opened before keep reading from their files. Maps that are opened
/// afterwards move the handler as faultin_raise_to_top() does if another one is above it by then.
///
/// A thread that blocks SIGSEGV or SIGBUS must not call the accessing functions afterwards: a fault would end the process.
/// It uses faultin_kernel_copy_in() and faultin_kernel_copy_out(), or unblocks the two signals.
///
/// A second call checks whether the handler still has the signals, and installs it again where the default action was set in the
/// meantime. Not async-signal-safe; may be called by any thread.
///
/// @return 0, or an error number: EBUSY after faultin_host_owns_handler(), ENOSYS where this architecture has no handler,
///         ENOEXEC if the section or the note `faultin` was stripped from the object, ENOTSUP if the object cannot be kept
///         loaded, or that of sigaction(). Nothing has changed then.
#[unsafe(no_mangle)]
pub extern "C" fn faultin_install() -> c_int {
    change(Mode::Installed, || {
        if signal::status().segv == HandlerState::Host {
            return Err(InstallError::HostOwnsHandler);
        }
        faultin::install()?;
        if has_handler() { signal::reinstall() } else { Ok(()) }
    })
}

/// Moves the handler above one that was installed after it and does not pass on signals that it does not know (Python's
/// faulthandler). That handler still receives the signals that are not ours. As a first call, it installs the handler as
/// faultin_install() does.
///
/// Not async-signal-safe; may be called by any thread.
///
/// @return 0, or an error number, as faultin_install(); EAGAIN if the handler was raised above seven others already.
#[unsafe(no_mangle)]
pub extern "C" fn faultin_raise_to_top() -> c_int {
    change(Mode::Installed, signal::raise_to_top)
}

/// Declares that the host has a handler for SIGSEGV and SIGBUS, which calls faultin_try_handle() first. Nothing is installed,
/// now or later. From here on, accesses run at the speed of plain ones.
///
/// Not async-signal-safe; may be called by any thread.
///
/// @return 0, or an error number, as faultin_install().
#[unsafe(no_mangle)]
pub extern "C" fn faultin_host_owns_handler() -> c_int {
    change(Mode::Host, signal::host_owns_handler)
}

/// Handles a signal as the handler of this library does, for a host that owns the handler (a runtime, a database).
///
/// The host's handler is installed with SA_SIGINFO, and with all signals blocked if it runs on an alternate stack.
///
/// Async-signal-safe.
///
/// @param signo    The signal: SIGSEGV or SIGBUS.
/// @param info     The siginfo_t that the kernel passed to the host's handler.
/// @param context  The ucontext_t that the kernel passed to it.
/// @return 1 if the signal was a fault of an access of this library: the handler returns, and the access ends as a short
///         result. 0 if it is not ours; nothing was changed then.
///
/// # Safety
/// `info` and `context` are what the kernel passed to the host's `SA_SIGINFO` handler for `signo`, on this thread.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_try_handle(signo: c_int, info: *mut c_void, context: *mut c_void) -> c_int {
    // SAFETY: forwarded.
    c_int::from(unsafe { signal::try_handle(signo, info.cast(), context) } == SignalOutcome::Recovered)
}

/// Writes what holds now: who makes the accesses, whether the handler is reached, whether this thread blocks the signals.
///
/// Async-signal-safe; about ten system calls.
///
/// @param status  Its `size` is set by the caller. Fields that are beyond this size are not written.
///
/// # Safety
/// `status` is valid for reads and writes of as many bytes as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_status(status: *mut Status) {
    let (now, counters) = (signal::status(), signal::counters());
    let mode = MODE.load(Ordering::Relaxed);
    let above = |state| match state {
        HandlerState::Below(address) => address as u64,
        _ => 0,
    };
    let kernel = signal_free::method();
    let is_covered = match mode {
        mode if mode == Mode::Kernel as u32 => kernel.is_some(),
        mode if mode == Mode::Host as u32 => !now.segv_blocked && !now.bus_blocked,
        _ => now.is_covered(),
    };
    // SAFETY: the size is the first field.
    let size = unsafe { (*status).size };
    let whole = Status {
        size,
        mode,
        segv: position(now.segv),
        bus: position(now.bus),
        segv_blocked: now.segv_blocked.into(),
        bus_blocked: now.bus_blocked.into(),
        kernel: kernel_number(kernel),
        covered: is_covered.into(),
        segv_above: above(now.segv),
        bus_above: above(now.bus),
        alternate_stack: now.alternate_stack as u64,
        stack_needed: now.stack_needed as u64,
        recovered: counters.all(Outcome::Recovered),
        substituted: counters.substituted,
        forwarded: counters.forwarded,
        reserved: [0; 5],
    };
    let len = size_of::<Status>().min(size as usize);
    // SAFETY: as many bytes as both have.
    unsafe { status.cast::<u8>().copy_from_nonoverlapping((&raw const whole).cast(), len) };
}

fn position(state: HandlerState) -> u32 {
    (match state {
        HandlerState::Direct => Position::Direct,
        HandlerState::Below(_) => Position::Below,
        HandlerState::Host => Position::Host,
        _ => Position::Absent,
    }) as u32
}

fn kernel_number(method: Option<Method>) -> u32 {
    (match method {
        Some(Method::CrossMemory) => Kernel::CrossMemory,
        Some(Method::ProcMem) => Kernel::ProcMem,
        Some(Method::Pipe) => Kernel::Pipe,
        _ => Kernel::None,
    }) as u32
}
