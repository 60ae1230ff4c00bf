//! Memory tags in the asynchronous mode: no access is stopped, so there is nothing to recover.
//!
//! A separate process, because a handler must be installed before the crate's.

#[cfg(all(target_arch = "aarch64", not(faultin_syscall)))]
#[path = "tags/memory.rs"]
mod memory;

#[cfg(not(all(target_arch = "aarch64", not(faultin_syscall))))]
#[test]
fn an_asynchronous_report_goes_to_whoever_was_there_before() {
    faultin_test::skipped("memory-tags", "aarch64 only");
}

#[cfg(all(target_arch = "aarch64", not(faultin_syscall)))]
#[test]
fn an_asynchronous_report_goes_to_whoever_was_there_before() {
    use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};

    use memory::{GRANULE, Mode, Tagged, check_tags};

    const SEGV_MTEAERR: i32 = 8;
    static REPORTS: AtomicUsize = AtomicUsize::new(0);
    static CODE: AtomicI32 = AtomicI32::new(0);
    extern "C" fn note(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
        // SAFETY: a signal's own siginfo.
        CODE.store(unsafe { (*info).si_code }, SeqCst);
        REPORTS.fetch_add(1, SeqCst);
    }

    // SAFETY: installs `note`, an async-signal-safe handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()), 0);
    }
    let Some(mut memory) = Tagged::new() else { return };
    memory.number(12);
    let mut copy = [0; GRANULE];
    assert!(check_tags(Mode::Async));
    let result = memory.with_bad(3, || {
        // SAFETY: `copy` is as long; mapped; the handler is installed.
        let result = unsafe { faultin::raw::copy_in(copy.as_mut_ptr(), memory.at(3 * GRANULE), GRANULE) };
        // The kernel delivers a pending report on return from a system call.
        // SAFETY: changes nothing.
        unsafe { libc::getppid() };
        result
    });
    assert!(check_tags(Mode::Sync));
    assert_eq!(result, Ok(()), "the copy is not stopped");
    assert_eq!(copy, memory.bytes()[3 * GRANULE..4 * GRANULE]);
    assert!(REPORTS.load(SeqCst) > 0);
    assert_eq!(CODE.load(SeqCst), SEGV_MTEAERR);
    assert_eq!(faultin::signal::counters().total(), 0, "nothing was recovered");
}
