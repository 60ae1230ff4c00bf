//! Crash handlers that run with SIGSEGV blocked, installed before the crate's handler and after it. (The `objects` tests
//! check that their accesses allocate nothing in a library loaded by `dlopen`.)

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use faultin::{Cause, page_size, signal_free};
use faultin::{FileMap, map::Change, shared::SharedMap};

use crate::emulator::dies_behind_the_end;
use crate::pages::{Bad, Pages, pattern};
use crate::{Scenario, child};

pub const SCENARIOS: &[Scenario] = &[("handler below", below), ("handler above", above)];

struct Evidence {
    map: FileMap,
    shared: SharedMap,
    bad: usize,
}

static EVIDENCE: OnceLock<Evidence> = OnceLock::new();
static CRASH: AtomicUsize = AtomicUsize::new(0);

/// The handler: reads memory that it cannot trust, and exits with 0 if all results are right.
extern "C" fn handler(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let status = match EVIDENCE.get() {
        // SAFETY: the kernel's data.
        Some(evidence) if unsafe { (*info).si_addr().addr() } == CRASH.load(Ordering::SeqCst) => report(evidence),
        _ => 100,
    };
    // SAFETY: exits the process.
    unsafe { libc::_exit(status) };
}

/// The number of the first check that fails, 0 if none does.
fn report(evidence: &Evidence) -> i32 {
    let page = page_size();
    let bad: *mut u8 = core::ptr::with_exposed_provenance_mut(evidence.bad);
    let mut out = [0_u8; 64];
    // SAFETY: `out` has that many bytes; the other memory may fault.
    let (read, written, length, loaded) = unsafe {
        (
            signal_free::copy_in(out.as_mut_ptr(), bad.wrapping_sub(20), 64),
            signal_free::copy_out(bad.wrapping_sub(3), out.as_ptr(), 10),
            signal_free::strnlen(bad.wrapping_sub(9), 100),
            signal_free::load(bad.cast::<u64>()),
        )
    };
    let mut bytes = [0; 16];
    let cut = |error: faultin::MapError| matches!(error.change(), Some(Change::Shrunk { to: 100, .. }));
    let checks = [
        read.is_err_and(|short| (short.done, short.fault.cause()) == (20, Cause::Protection)),
        written.is_err_and(|short| short.done == 3),
        length.is_err_and(|short| short.done == 9),
        loaded.is_err_and(|fault| fault.address() == Some(bad.addr())),
        evidence.map.read_at(&mut bytes, page as u64).is_err_and(cut),
        evidence.map.load::<u32>(page as u64 + 4).is_err_and(cut),
        // The remaining bytes are read.
        evidence.map.read_at(&mut bytes, 0).is_ok_and(|read| read == 16) && bytes[5] == pattern(5),
        evidence.shared.read_at(&mut bytes, page as u64).is_err_and(cut),
        evidence.shared.write_at(&bytes, page as u64).is_err_and(cut),
    ];
    checks.iter().position(|&passed| !passed).map_or(0, |index| index as i32 + 1)
}

fn install() {
    // SAFETY: the handler exits the process.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigfillset(&mut action.sa_mask);
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
        }
    }
}

fn prepare() {
    let page = page_size();
    let mut pages = Pages::new(Bad::NoAccess, page);
    pages.all().fill(b'x');
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(&(0..2 * page).map(pattern).collect::<Vec<u8>>(), 0).expect("room");
    let map = FileMap::from_file(file.try_clone().expect("a descriptor")).expect("a map");
    let shared = SharedMap::create("shared", 2 * page).expect("a memfd");
    // This thread's mask is queried while it does not block the signals.
    assert_eq!(map.read_at(&mut [0; 8], page as u64).expect("there"), 8);
    assert_eq!(shared.read_at(&mut [0; 8], page as u64).expect("there"), 8);
    file.set_len(100).expect("cut");
    File::from(shared.try_clone_fd().expect("a descriptor")).set_len(100).expect("cut");
    CRASH.store(pages.after().wrapping_sub(8).expose_provenance(), Ordering::SeqCst);
    let evidence = Evidence { map, shared, bad: pages.boundary().expose_provenance() };
    assert!(EVIDENCE.set(evidence).is_ok());
    std::mem::forget(pages);
}

fn crash() {
    let ptr: *const u8 = core::ptr::with_exposed_provenance(CRASH.load(Ordering::SeqCst));
    // SAFETY: none: this is the intended crash.
    unsafe { ptr.read_volatile() };
    unreachable!("a page without rights");
}

#[test]
fn a_crash_handler_below_the_crates_reads_what_it_cannot_trust() {
    if !dies_behind_the_end() {
        child::check("handler below");
    }
}

fn below() {
    install();
    prepare();
    crash();
}

#[test]
fn a_crash_handler_above_the_crates_reads_what_it_cannot_trust() {
    if !dies_behind_the_end() {
        child::check("handler above");
    }
}

fn above() {
    prepare();
    install();
    crash();
}
