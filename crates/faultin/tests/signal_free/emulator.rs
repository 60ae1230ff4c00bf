//! What an emulator of user mode cannot do, found out by calls that any program could make.
//!
//! Where `process_vm_readv` is not to be had (QEMU 7.2 has none), the kernel is asked whether a page can be read by a call that reads
//! a set of signals. QEMU reads the set itself, after it has looked at the rights of the page. Behind the end of a file these say
//! nothing: it faults in code of its own, and ends with `cpu-exec.c:954:cpu_exec: assertion failed: (cpu == current_cpu)`.
//!
//! It ignores the advice that tells causes apart (`MADV_POPULATE_READ`), and its `mincore` fails with `ENOMEM` for a page without
//! rights, as the kernel's does where nothing is mapped: the cause is `Unmapped` then.

use std::sync::OnceLock;

use crate::pages::{Bad, Pages};
use crate::{Scenario, child};

pub const SCENARIOS: &[Scenario] = &[("asks behind the end", asks_behind_the_end)];

/// The plain call, as any program makes it.
fn asks_behind_the_end() {
    let pages = Pages::new(Bad::PastEnd, faultin::page_size());
    let set = pages.boundary();
    // SAFETY: a number that says nothing that could be done with the set; it may fault.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, i32::MAX, set, core::ptr::null_mut::<u8>(), 8) };
    assert_eq!((result, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EFAULT)));
}

/// Whether this test cannot run because the emulator dies of a set behind the end of a file; says so then.
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

/// Whether this test cannot run because the emulator has nothing mapped where a page has no rights; says so then.
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
