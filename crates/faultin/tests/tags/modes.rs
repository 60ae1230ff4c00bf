//! Synchronous and asynchronous checking.

use crate::memory::{GRANULE, Mode, Tagged, check_tags};

/// In the asynchronous mode the access is not stopped, and the report comes some time later with no address: there is
/// nothing left to recover, so the signal goes to whoever had it before.
#[test]
fn an_asynchronous_report_is_not_ours() {
    let Some(memory) = Tagged::new() else { return };
    let mut copy = [0; GRANULE];
    let status = memory.with_bad(3, || {
        // SAFETY: the child only makes system calls and a copy.
        unsafe {
            let child = libc::fork();
            assert!(child >= 0);
            if child == 0 {
                // Nobody was there before.
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                let ready = faultin::reinstall().is_ok() && check_tags(Mode::Async);
                let copied = faultin::copy_in(copy.as_mut_ptr(), memory.at(3 * GRANULE), GRANULE).is_ok();
                // The kernel delivers what is due on the way out of a system call.
                libc::getppid();
                libc::_exit(if ready && copied { 0 } else { 1 });
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            status
        }
    });
    assert!(libc::WIFSIGNALED(status), "status {status:#x}");
    assert_eq!(libc::WTERMSIG(status), libc::SIGSEGV);
}
