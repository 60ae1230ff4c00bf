//! A handler of SIGBUS that explains, and lets the program die as before.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

use faultin::signal::syscall6;

use super::faultin_explain;
use crate::handler::faultin_try_handle;

/// The handler that was there before.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written by the thread that has `IS_INSTALLED` locked, before the handler is installed, and read by the handler.
unsafe impl Sync for Before {}

static BEFORE: Before = Before(UnsafeCell::new(MaybeUninit::uninit()));
/// Locked by the thread that installs: others wait for its result.
static IS_INSTALLED: Mutex<bool> = Mutex::new(false);

/// Installs a handler of SIGBUS that writes the line of faultin_explain() to standard error, and then lets the handler that was there
/// before have the signal: without one, the program dies by the same signal at the same instruction, with the same core
/// file. For an application that wants only that; libraries leave it alone.
///
/// Faults that faultin_install() recovers are not explained. An object that has installed the handler stays loaded after dlclose().
///
/// Not async-signal-safe; may be called by any thread, and more than once. A call that finds another thread installing waits for it.
///
/// @return 0 if the handler is installed, otherwise the error number of sigaction(), or ENOTSUP if the object cannot be kept loaded.
#[unsafe(no_mangle)]
pub extern "C" fn faultin_explain_install() -> c_int {
    // (Nothing panics while it is locked.)
    let mut is_installed = IS_INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *is_installed {
        return 0;
    }
    let result = install();
    *is_installed = result == 0;
    result
}

fn install() -> c_int {
    if !stay_loaded() {
        return libc::ENOTSUP;
    }
    let error = || std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    // SAFETY: queries the handler; no other thread writes the place.
    if unsafe { libc::sigaction(libc::SIGBUS, core::ptr::null(), (*BEFORE.0.get()).as_mut_ptr()) } != 0 {
        return error();
    }
    // SAFETY: all zeros is a value; the handler is one for SA_SIGINFO, and what it reads was written before.
    unsafe {
        let mut ours: libc::sigaction = core::mem::zeroed();
        ours.sa_sigaction = handler as *const () as usize;
        // On the alternate stack of a thread that has one: the fault may be of its stack.
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut ours.sa_mask);
        if libc::sigaction(libc::SIGBUS, &raw const ours, core::ptr::null_mut()) != 0 { error() } else { 0 }
    }
}

/// Keeps the object with the handler loaded, also if it is closed.
fn stay_loaded() -> bool {
    // SAFETY: an address in this object, and a name that the loader returned; the handle is not used.
    unsafe {
        let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
        if libc::dladdr(handler as *const c_void, info.as_mut_ptr()) == 0 {
            // A static executable has no objects.
            return true;
        }
        let name = info.assume_init().dli_fname;
        let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
        // The executable is not found by its name, and is not unloaded.
        name.is_null() || !libc::dlopen(name, flags).is_null() || is_executable(info.assume_init().dli_fbase)
    }
}

/// Returns whether the object at this address is the executable.
fn is_executable(base: *mut c_void) -> bool {
    // SAFETY: queries a number.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    // Its program headers are in its first page.
    headers.wrapping_sub(base.addr()) < faultin::page_size()
}

/// # Safety
/// Called by the kernel for SIGBUS.
unsafe extern "C" fn handler(signo: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: what the kernel passed; the place was written before this handler was installed.
    unsafe {
        if faultin_try_handle(signo, info.cast(), context) != 0 {
            return;
        }
        faultin_explain(info.cast(), context, libc::STDERR_FILENO);
        pass_on(&*(*BEFORE.0.get()).as_ptr(), signo, info, context);
    }
}

/// Does what the kernel would do if `before` were installed.
///
/// # Safety
/// In a handler of SIGBUS, with what the kernel passed to it.
unsafe fn pass_on(before: &libc::sigaction, signo: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the arguments of this handler, for a handler of its kind; calls about this process's own signals.
    unsafe {
        match before.sa_sigaction {
            libc::SIG_DFL => {
                // The instruction raises the signal again when this returns, and the default action ends the process. A
                // signal that was sent is sent again, with its own information.
                libc::sigaction(signo, before, core::ptr::null_mut());
                if (*info).si_code <= 0 {
                    let [process, thread] = [libc::SYS_getpid, libc::SYS_gettid].map(|number| syscall6(number, [0; 6]));
                    let arguments = [process as usize, thread as usize, signo as usize, info.expose_provenance(), 0, 0];
                    syscall6(libc::SYS_rt_tgsigqueueinfo, arguments);
                }
            }
            // A fault that is ignored ends the process all the same: the kernel does not ignore it.
            libc::SIG_IGN if (*info).si_code > 0 => {
                let mut default = *before;
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signo, &raw const default, core::ptr::null_mut());
            }
            libc::SIG_IGN => {}
            address if before.sa_flags & libc::SA_SIGINFO != 0 => {
                let action: unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                    core::mem::transmute(address);
                action(signo, info, context);
            }
            address => {
                let action: unsafe extern "C" fn(c_int) = core::mem::transmute(address);
                action(signo);
            }
        }
    }
}
