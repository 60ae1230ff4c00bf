//! The worst moment, exactly: a page is revoked after the first instruction of an operation, after the second, and so on to
//! its last. The count is exact in each case: the bytes before it are done, the bytes after it unchanged.
//!
//! The CPU's trap flag stops after every instruction (of `rep movsb`, after every byte), and its handler revokes the page
//! at the chosen one. The storm test reaches the same moments by chance.
#![cfg(target_arch = "x86_64")]

mod pages;

use std::ffi::{c_int, c_void};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use faultin::{Access, Short, testing};
use pages::{CANARY, pattern, serial};

/// Instructions since the trap flag was set, the one after which to revoke, and the page.
static STEPS: AtomicUsize = AtomicUsize::new(0);
static REVOKE_AFTER: AtomicUsize = AtomicUsize::new(0);
static REVOKE: AtomicUsize = AtomicUsize::new(0);

const TRAP_FLAG: i64 = 1 << 8;

extern "C" fn step(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    if STEPS.fetch_add(1, Ordering::Relaxed) + 1 != REVOKE_AFTER.load(Ordering::Relaxed) {
        return;
    }
    let at = std::ptr::with_exposed_provenance_mut(REVOKE.load(Ordering::Relaxed));
    // SAFETY: a page of the test, mapped as foreign memory; the context is the kernel's, during this call.
    unsafe {
        libc::mprotect(at, faultin::page_size(), libc::PROT_NONE);
        (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_EFL as usize] &= !TRAP_FLAG;
    }
}

/// Runs `operation` one instruction at a time and revokes the page at `page` after `n` of them; returns the number of
/// instructions until then, or of all.
fn revoke_after<T>(n: usize, page: *mut u8, operation: impl FnOnce() -> T) -> (T, usize) {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: a handler of the right type that is a function of this program.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = step as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            assert_eq!(libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()), 0);
        }
    });
    STEPS.store(0, Ordering::Relaxed);
    REVOKE_AFTER.store(n, Ordering::Relaxed);
    REVOKE.store(page.expose_provenance(), Ordering::Relaxed);
    // SAFETY: the flag costs a signal for each instruction until it is cleared, here or in the handler; nothing else.
    unsafe { std::arch::asm!("pushfq", "or qword ptr [rsp], {flag}", "popfq", flag = const TRAP_FLAG) };
    let result = operation();
    // SAFETY: as above.
    unsafe { std::arch::asm!("pushfq", "and qword ptr [rsp], {mask}", "popfq", mask = const !TRAP_FLAG) };
    (result, STEPS.load(Ordering::Relaxed))
}

/// Two pages of a file, mapped twice.
struct Two {
    foreign: *mut u8,
    calm: *mut u8,
    page: usize,
}

impl Two {
    fn new() -> Two {
        let page = faultin::page_size();
        // SAFETY: a new file and new mappings.
        unsafe {
            let memory = libc::memfd_create(c"stepped".as_ptr(), 0);
            assert_eq!(libc::ftruncate(memory, 2 * page as libc::off_t), 0);
            let map = || {
                let rw = libc::PROT_READ | libc::PROT_WRITE;
                let map = libc::mmap(std::ptr::null_mut(), 2 * page, rw, libc::MAP_SHARED, memory, 0);
                assert_ne!(map, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
                map.cast::<u8>()
            };
            let two = Two { foreign: map(), calm: map(), page };
            libc::close(memory);
            two
        }
    }

    /// Makes both pages accessible, except the second if `bad`, and fills them with `content`.
    fn prepare(&mut self, bad: bool, content: impl Fn(usize) -> u8) {
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        for (at, byte) in self.calm().iter_mut().enumerate() {
            *byte = content(at);
        }
        // SAFETY: this value's mapping.
        unsafe {
            assert_eq!(libc::mprotect(self.foreign.cast(), 2 * self.page, rw), 0);
            if bad {
                assert_eq!(libc::mprotect(self.foreign.add(self.page).cast(), self.page, libc::PROT_NONE), 0);
            }
        }
    }

    fn calm(&mut self) -> &mut [u8] {
        // SAFETY: this value's mapping, always accessible; nothing stores to it meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.calm, 2 * self.page) }
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        // SAFETY: this value's mappings.
        unsafe {
            libc::munmap(self.foreign.cast(), 2 * self.page);
            libc::munmap(self.calm.cast(), 2 * self.page);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    CopyIn,
    CopyOut,
    Unpredictable,
    Fill,
}

/// The place of a range and the page that is revoked.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// All of it is in the revoked page.
    One,
    /// Across both; the first is revoked, the second stays.
    First,
    /// Across both; the second is revoked.
    Second,
    /// Across both; the second is bad from the beginning, and the first is revoked as well.
    FirstToo,
}

struct Case<'a> {
    width: &'a str,
    side: Side,
    place: Place,
    len: usize,
    start: usize,
    step: usize,
}

impl std::fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case { width, side, place, len, start, step } = self;
        write!(f, "{side:?} ({width}) of {len} bytes from {start:#x}, {place:?} revoked after {step} instructions")
    }
}

/// Runs one case; returns the number of instructions.
fn check(two: &mut Two, case: &Case<'_>, own: &mut [u8]) -> usize {
    let Case { side, place, len, start, step, .. } = *case;
    let (into, outward) = (side == Side::CopyIn, pattern);
    two.prepare(matches!(place, Place::FirstToo), |at| if into { pattern(at) } else { CANARY });
    let own = &mut own[..len + 64];
    for (at, byte) in own.iter_mut().enumerate() {
        *byte = if into { CANARY } else { outward(at) };
    }
    let page = two.foreign.wrapping_add(if matches!(place, Place::Second) { two.page } else { 0 });
    let foreign = two.foreign.wrapping_add(start);
    // SAFETY: foreign memory, and private memory of at least that length.
    let operation = || unsafe {
        match side {
            Side::CopyIn => faultin::raw::copy_in(own.as_mut_ptr(), foreign, len),
            Side::CopyOut => faultin::raw::copy_out(foreign, own.as_ptr(), len),
            Side::Unpredictable => faultin::raw::copy_unpredictable(foreign, own.as_ptr(), len),
            Side::Fill => faultin::raw::fill(foreign, 0x5a, len),
        }
    };
    let (result, steps) = revoke_after(step, page, operation);
    let access = if into { Access::Read } else { Access::Write };
    let done = match result {
        Ok(()) => len,
        Err(Short { done, fault }) => {
            assert!(done < len, "{case}: an error after all {len} bytes");
            assert_eq!((fault.access(), fault.address()), (access, Some(foreign.addr() + done)), "{case}");
            done
        }
    };
    let stored = |at: usize| if side == Side::Fill { 0x5a } else { outward(at) };
    if into {
        for (at, byte) in own.iter().enumerate() {
            let expected = if at < done { pattern(start + at) } else { CANARY };
            assert_eq!(*byte, expected, "{case}: {done} done, byte {at}");
        }
    } else {
        for (at, byte) in two.calm()[start..].iter().enumerate().take(len + 64) {
            let expected = if at < done { stored(at) } else { CANARY };
            assert_eq!(*byte, expected, "{case}: {done} done, byte {at}");
        }
    }
    steps
}

#[test]
fn counts_are_exact_whenever_a_page_is_revoked() {
    let _one = serial();
    faultin::install().expect("install");
    let usual = testing::thresholds();
    testing::set_thresholds([700, 1100, 1500]);
    let (mut two, mut own, mut cases) = (Two::new(), vec![0; 4096], 0_u64);
    let page = two.page;
    for width in testing::vectors() {
        assert!(testing::select_vector(width));
        for side in [Side::CopyIn, Side::CopyOut, Side::Unpredictable, Side::Fill] {
            if matches!(side, Side::Fill | Side::Unpredictable) && Some(&width) != testing::vectors().first() {
                continue; // the same at each width
            }
            for len in [1, 2, 3, 5, 9, 17, 30, 33, 64, 100, 200, 300, 530, 720, 1200, 1600] {
                for place in [Place::One, Place::First, Place::Second, Place::FirstToo] {
                    if len == 1 && !matches!(place, Place::One) {
                        continue;
                    }
                    let mut step = 1;
                    loop {
                        // A different split each time.
                        let start = match place {
                            Place::One => page - len - step % 64,
                            _ => page - 1 - (step * 7 + len / 2) % (len - 1),
                        };
                        let steps = check(&mut two, &Case { width, side, place, len, start, step }, &mut own);
                        cases += 1;
                        if steps < step {
                            break; // it ended before that
                        }
                        // Dense in the short paths, sparse in the loops.
                        step += 1 + step * step / 256;
                    }
                }
            }
        }
    }
    eprintln!("{cases} cases");
    testing::set_thresholds(usual);
    testing::select_widest();
}
