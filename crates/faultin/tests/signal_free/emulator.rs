//! Limitations of user-mode emulators, detected by calls that any program could make.
//!
//! Without `process_vm_readv` (QEMU 7.2 lacks it), a call that reads a signal set tells whether a page is readable. QEMU
//! reads the set itself, after checking the page's rights. Past the end of a file that check succeeds, so QEMU faults in
//! its own code, and exits with `cpu-exec.c:954:cpu_exec: assertion failed: (cpu == current_cpu)`.
//!
//! It ignores the advice that distinguishes causes (`MADV_POPULATE_READ`), and its `mincore` fails with `ENOMEM` for a page
//! without rights, as the kernel's does for unmapped addresses: the cause is `Unmapped` then.

use std::sync::OnceLock;

use crate::pages::{Bad, Pages};
use crate::{Scenario, child};

pub const SCENARIOS: &[Scenario] = &[("asks behind the end", asks_behind_the_end)];

/// The plain call, as any program makes it.
fn asks_behind_the_end() {
    let pages = Pages::new(Bad::PastEnd, faultin::page_size());
    let set = pages.boundary();
    // SAFETY: an invalid operation, so the set is read and not used; it may fault.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, i32::MAX, set, core::ptr::null_mut::<u8>(), 8) };
    assert_eq!((result, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EFAULT)));
}

/// Whether this test cannot run because the emulator dies of a set past the end of a file; reports that.
#[must_use]
pub fn dies_behind_the_end() -> bool {
    static DIES: OnceLock<bool> = OnceLock::new();
    let dies = *DIES.get_or_init(|| {
        let output = child::command("asks behind the end").output().expect("this binary can be run again");
        let says = String::from_utf8_lossy(&output.stderr);
        let asserts = says.contains("cpu == current_cpu");
        assert!(output.status.success() || asserts, "{}: {says}", output.status);
        asserts
    });
    if dies {
        faultin_test::skipped("native", "QEMU reads sets of signals itself, and dies behind the end of a file");
    }
    dies
}

/// Whether this test cannot run because the emulator reports inaccessible pages as unmapped; reports that.
#[must_use]
pub fn hides_pages_without_rights() -> bool {
    let page = faultin::page_size();
    let pages = Pages::new(Bad::NoAccess, page);
    let mut resident = 0;
    // SAFETY: writes one byte for one page.
    let hides = unsafe { libc::mincore(pages.boundary().cast(), page, &raw mut resident) } != 0;
    if hides {
        faultin_test::skipped("native", "QEMU says that nothing is mapped where a page has no rights");
    }
    hides
}
