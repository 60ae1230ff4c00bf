//! Building blocks of scenarios: bad memory, recovered and other faults, sent signals, announced deaths.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use faultin::{Cause, signal::HandlerState};
use faultin_test::is_emulated;

use crate::Scenario;

/// Names the scenario in the child's environment.
pub(crate) const SCENARIO: &str = "FAULTIN_SCENARIO";
/// The scenario's argument.
pub(crate) const ARGUMENT: &str = "FAULTIN_ARGUMENT";
/// The child prints this and the name of its scenario.
pub(crate) const BEGINS: &str = "begins: ";

/// SIGSEGV and SIGBUS.
pub(crate) const SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

pub(crate) const SEGV_MAPERR: i32 = 1;
pub(crate) const SEGV_ACCERR: i32 = 2;
pub(crate) const BUS_ADRERR: i32 = 2;
pub(crate) const BUS_MCEERR_AO: i32 = 5;

/// Runs the scenario the environment names, if it names one.
pub(crate) fn entry(all: &[&[Scenario]]) {
    let Ok(name) = std::env::var(SCENARIO) else { return };
    let argument = std::env::var(ARGUMENT).unwrap_or_default();
    let (_, run) = all.iter().copied().flatten().find(|(n, _)| *n == name).expect("the scenario exists");
    // SAFETY: no core files; a scenario that hangs is killed.
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::alarm(30);
    }
    // After the harness's output. The parent looks for it: a harness that runs no test succeeds, too.
    println!("\n{BEGINS}{name}");
    // Rust's alternate stacks have little room besides the kernel's frame; handlers here need more.
    on_alternate_stack(1 << 20, || run(&argument));
}

/// Ends the scenario without a verdict where user-mode emulation does not support it: the emulator intercepts SIGSEGV and
/// SIGBUS when they are sent, and fails an assertion when they kill.
///
/// A scenario whose handler sends a signal calls this first: a handler may have interrupted anything, and must not exit the
/// process.
pub(crate) fn skip_if_emulated(what: &str, signal: i32) {
    if is_emulated() && SIGNALS.contains(&signal) {
        skip("native", &format!("{what} SIGSEGV and SIGBUS under user-mode emulation"));
    }
}

/// Ends the scenario without a verdict.
pub(crate) fn skip(need: &str, why: &str) -> ! {
    println!("skipped: {need}: {why}");
    std::process::exit(0);
}

// ---- memory

pub(crate) fn page() -> usize {
    faultin::page_size()
}

/// `len` bytes, readable and writable, at `at` if that is not 0.
fn map(at: usize, len: usize, protection: i32, flags: i32, fd: i32) -> usize {
    // SAFETY: new memory, or over memory that only the tests use.
    let p = unsafe { libc::mmap(core::ptr::with_exposed_provenance_mut(at), len, protection, flags, fd, 0) };
    assert_ne!(p, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
    p.expose_provenance()
}

/// Two pages of which the second is not mapped; returns the first byte of the second.
pub(crate) fn edge() -> usize {
    const MADV_GUARD_INSTALL: i32 = 102;
    let p = map(0, 2 * page(), libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
    let second = core::ptr::with_exposed_provenance_mut(p + page());
    // A guard instead of a hole, so that no other thread's mapping is placed there.
    // SAFETY: just mapped, and not used elsewhere.
    let guarded = !is_emulated() && unsafe { libc::madvise(second, page(), MADV_GUARD_INSTALL) } == 0;
    if !guarded {
        // SAFETY: as before. On kernels without guards, a hole.
        unsafe { libc::munmap(second, page()) };
    }
    p + page()
}

/// An address at which nothing is ever mapped.
pub(crate) const NOWHERE: usize = 64;

/// An inaccessible page.
pub(crate) fn forbidden() -> usize {
    map(0, page(), libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
}

/// Two pages of a file of one page; gives the first byte of the second.
pub(crate) fn beyond_end_of_file() -> usize {
    // SAFETY: a new file descriptor, owned only here.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"faultin-test".as_ptr(), 0)) };
    file.set_len(page() as u64).expect("a memfd has a length");
    map(0, 2 * page(), libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd()) + page()
}

/// Memory whose access raises `signal`.
pub(crate) fn bad(signal: i32) -> usize {
    if signal == libc::SIGBUS { beyond_end_of_file() } else { forbidden() }
}

/// The `si_code` of an access to [`bad`] memory.
pub(crate) fn bad_code(signal: i32) -> i32 {
    if signal == libc::SIGBUS { BUS_ADRERR } else { SEGV_ACCERR }
}

/// The page that handlers make accessible.
pub(crate) static REPAIR: AtomicUsize = AtomicUsize::new(0);

/// Makes [`REPAIR`] accessible. Async-signal-safe.
pub(crate) fn repair() {
    let at = REPAIR.load(Ordering::SeqCst);
    // SAFETY: memory that only the tests use.
    unsafe {
        libc::mmap(
            core::ptr::with_exposed_provenance_mut(at),
            page(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        );
    }
}

// ---- accesses without table entries

/// Loads a byte with the first instruction of this function, which is in no table.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn peek(_address: usize) -> u8 {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!("movzx eax, byte ptr [rdi]", "ret");
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!("ldrb w0, [x0]", "ret");
}

/// The address of the instruction in [`peek`].
pub(crate) fn peek_pc() -> usize {
    peek as *const () as usize
}

/// Jumps to an address.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn jump(_address: usize) {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!("jmp rdi");
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!("br x0");
}

/// Loops in one instruction.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn spin() {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!("2: jmp 2b");
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!("2: b 2b");
}

/// The address of the instruction in [`spin`].
pub(crate) fn spin_pc() -> usize {
    spin as *const () as usize
}

/// A fault without a table entry, in memory that raises `signal` and that handlers may [`repair`].
pub(crate) fn foreign_fault(signal: i32) {
    let at = bad(signal);
    REPAIR.store(at, Ordering::SeqCst);
    // SAFETY: a handler repairs the page, or this process dies, which is what is being tested.
    assert_eq!(unsafe { peek(at) }, 0);
}

// ---- accesses of this crate

/// Asserts that a fault of this crate is recovered exactly and counted, for each of SIGSEGV and SIGBUS.
#[track_caller]
pub(crate) fn ours_is_recovered() {
    for (edge, cause) in [(edge(), Cause::Unmapped), (beyond_end_of_file(), Cause::Backing)] {
        let before = faultin::signal::counters().recovered(cause);
        let mut buffer = [7_u8; 64];
        // SAFETY: the buffer is ours; the source is memory of the tests, with a bad page.
        let short =
            unsafe { faultin::raw::copy_in(buffer.as_mut_ptr(), core::ptr::with_exposed_provenance(edge - 10), 64) }
                .unwrap_err();
        assert_eq!((short.done, short.fault.cause(), short.fault.address()), (10, cause, Some(edge)), "{short:?}");
        assert!(buffer[..10] == [0; 10] && buffer[10..] == [7; 54], "{buffer:?}");
        let counted = faultin::signal::counters().recovered(cause) - before;
        assert!((1..=2).contains(&counted), "{counted} signals were counted");
    }
}

/// Asserts what [`faultin::signal::status`] returns for both signals.
#[track_caller]
pub(crate) fn assert_status(reached: fn(HandlerState) -> bool, what: &str) {
    let status = faultin::signal::status();
    assert!(reached(status.segv) && reached(status.bus), "not {what}: {status:?}");
    assert_eq!(status.is_covered(), what == "Direct", "{status:?}");
}

/// [`assert_status`] for a variant of [`HandlerState`].
macro_rules! status_is {
    ($variant:ident) => {
        crate::child::assert_status(
            |r| matches!(r, faultin::signal::HandlerState::$variant { .. }),
            stringify!($variant),
        )
    };
}
pub(crate) use status_is;

// ---- sent signals

/// How a signal is sent to this thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// To the process; all other threads block it.
    Kill,
    /// To the thread.
    Tgkill,
    /// To the thread, with [`VALUE`].
    Queued,
}

impl Sent {
    pub(crate) const ALL: [Sent; 3] = [Sent::Kill, Sent::Tgkill, Sent::Queued];

    /// The `si_code` on arrival.
    pub(crate) fn code(self) -> i32 {
        match self {
            Sent::Kill => libc::SI_USER,
            Sent::Tgkill => libc::SI_TKILL,
            Sent::Queued => libc::SI_QUEUE,
        }
    }

    pub(crate) fn value(self) -> usize {
        if self == Sent::Queued { VALUE } else { 0 }
    }

    /// Sends `signal` to the thread `tid` of this process.
    pub(crate) fn send_to(self, tid: i32, signal: i32) {
        skip_if_emulated("sending", signal);
        // SAFETY: sends a signal to this process.
        let result = unsafe {
            match self {
                Sent::Kill => libc::kill(libc::getpid(), signal).into(),
                Sent::Tgkill => libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, signal),
                Sent::Queued => queue(tid, signal, libc::SI_QUEUE),
            }
        };
        assert_eq!(result, 0, "{self:?}: {}", std::io::Error::last_os_error());
    }

    pub(crate) fn send(self, signal: i32) {
        if self == Sent::Kill {
            only_this_thread(signal);
        }
        self.send_to(tid(), signal);
    }
}

/// The value of queued signals.
pub(crate) const VALUE: usize = 0x1234_5678;

/// `rt_tgsigqueueinfo` with [`VALUE`], or with an address and a positive code, which a thread may only send to itself.
pub(crate) fn queue(tid: i32, signal: i32, code: i32) -> i64 {
    skip_if_emulated("sending", signal);
    /// The fields of `siginfo_t` for a queued signal.
    #[repr(C)]
    struct Info {
        signal: i32,
        errno: i32,
        code: i32,
        padding: i32,
        pid: i32,
        uid: u32,
        value: usize,
        rest: [usize; 12],
    }
    const _: () = assert!(size_of::<Info>() == size_of::<libc::siginfo_t>());
    // SAFETY: asks for three numbers and sends a signal to this process; `info` is as large as a `siginfo_t`.
    unsafe {
        let (pid, uid) = if code > 0 { (VALUE as i32, 0) } else { (libc::getpid(), libc::getuid()) };
        let value = if code > 0 { 0 } else { VALUE };
        let info = Info { signal, errno: 0, code, padding: 0, pid, uid, value, rest: [0; 12] };
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, libc::getpid(), tid, signal, &raw const info)
    }
}

pub(crate) fn tid() -> i32 {
    // SAFETY: returns a number.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

pub(crate) fn pid() -> usize {
    std::process::id() as usize
}

/// Makes the main thread (where the test harness waits) block `signal`, so that one sent to the process is delivered here.
fn only_this_thread(signal: i32) {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn block(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: a queued signal's own data; the mask is restored from the context when the handler returns.
        unsafe {
            let signal = (*info).si_value().sival_ptr.addr() as i32;
            libc::sigaddset(&raw mut (*context.cast::<libc::ucontext_t>()).uc_sigmask, signal);
        }
        DONE.store(1, Ordering::SeqCst);
    }
    /// The fields of `siginfo_t` for a queued signal.
    #[repr(C)]
    struct Info([i32; 6], usize, [usize; 12]);
    DONE.store(0, Ordering::SeqCst);
    install(libc::SIGUSR2, block as *const () as usize, libc::SA_SIGINFO, &[]);
    let info = Info([libc::SIGUSR2, 0, libc::SI_QUEUE, 0, 0, 0], signal as usize, [0; 12]);
    // SAFETY: queues a signal for the main thread, whose id is the process's; `info` is as large as a `siginfo_t`.
    let sent = unsafe {
        let pid = libc::getpid();
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, pid, libc::SIGUSR2, &raw const info)
    };
    assert_eq!(sent, 0);
    while DONE.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    // The handler has run, but the mask is restored from its frame a moment later.
    std::thread::sleep(std::time::Duration::from_millis(20));
}

// ---- dispositions

/// `sigaction`; returns the old action.
pub(crate) fn install(signal: i32, handler: usize, flags: i32, blocked: &[i32]) -> libc::sigaction {
    // SAFETY: plain data, initialised field by field; handlers of the tests are async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        for &signal in blocked {
            libc::sigaddset(&mut action.sa_mask, signal);
        }
        let mut old: libc::sigaction = core::mem::zeroed();
        assert_eq!(libc::sigaction(signal, &action, &mut old), 0);
        old
    }
}

/// Sets the default action for both signals, which removes Rust's own handler.
pub(crate) fn clean_slate() {
    for signal in SIGNALS {
        install(signal, libc::SIG_DFL, 0, &[]);
    }
}

/// This thread's blocked signals.
pub(crate) fn mask() -> u64 {
    // SAFETY: asks for the mask; a `sigset_t` begins with the kernel's.
    unsafe {
        let mut mask: libc::sigset_t = core::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), &mut mask);
        (&raw const mask).cast::<u64>().read()
    }
}

/// Blocks or unblocks `signals` in this thread.
pub(crate) fn change_mask(how: i32, signals: &[i32]) {
    // SAFETY: plain data, and this thread's mask.
    unsafe {
        let mut mask: libc::sigset_t = core::mem::zeroed();
        for &signal in signals {
            libc::sigaddset(&mut mask, signal);
        }
        assert_eq!(libc::pthread_sigmask(how, &mask, core::ptr::null_mut()), 0);
    }
}

// ---- deaths

/// Announces that this thread is about to die of `signal` with these fields, and lets the parent trace it. `pc` may be left
/// open.
pub(crate) fn dies(signal: i32, code: i32, addr: usize, value: usize, pc: Option<usize>) {
    skip_if_emulated("dying of", signal);
    let pc = pc.map_or(String::new(), |pc| format!(" pc={pc:x}"));
    println!("dies: signal={signal:x} code={:x} addr={addr:x} value={value:x}{pc}", code as u32);
    traced();
}

/// Lets the parent trace this thread.
pub(crate) fn traced() {
    // SAFETY: from here on the parent gets every signal of this thread first, and passes it on.
    if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } != 0 {
        println!("not traced");
    }
}

/// Dies of a null dereference, as any program would.
pub(crate) fn dies_of_null() {
    dies(libc::SIGSEGV, SEGV_MAPERR, 0, 0, Some(peek_pc()));
    // SAFETY: kills this process, as the test intends.
    unsafe { peek(0) };
    unreachable!("null could be read");
}

/// Dies of a [foreign fault](foreign_fault) that no handler repairs.
pub(crate) fn dies_of_foreign_fault(signal: i32) {
    let at = bad(signal);
    REPAIR.store(at, Ordering::SeqCst);
    dies(signal, bad_code(signal), at, 0, Some(peek_pc()));
    // SAFETY: kills this process, as the test intends.
    unsafe { peek(at) };
    unreachable!("bad memory could be read");
}

/// Dies of a signal that another thread sends while this one [spins](spin).
pub(crate) fn dies_of(sent: Sent, signal: i32) -> ! {
    if sent == Sent::Kill {
        only_this_thread(signal);
    }
    let me = tid();
    dies(signal, sent.code(), pid(), sent.value(), Some(spin_pc()));
    std::thread::spawn(move || {
        change_mask(libc::SIG_BLOCK, &SIGNALS);
        std::thread::sleep(std::time::Duration::from_millis(30));
        sent.send_to(me, signal);
    });
    // SAFETY: until the signal.
    unsafe { spin() };
    unreachable!("the loop has no end");
}

/// Runs `f` in a forked child, which then exits; returns its wait status.
pub(crate) fn fork(f: impl FnOnce()) -> i32 {
    // SAFETY: the child only runs `f`, in the thread that forked; `f` takes no lock that another thread may hold.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
        if child == 0 {
            libc::alarm(20);
            let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_ok();
            libc::_exit(if held { 0 } else { 1 });
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        status
    }
}

/// Asserts that a foreign fault kills a forked child.
pub(crate) fn dies_in_a_fork() {
    skip_if_emulated("dying of", libc::SIGSEGV);
    let status = fork(|| {
        // SAFETY: kills this process, as the test intends.
        unsafe { peek(0) };
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "{status:#x}");
}

/// Memory of a file with `good` bytes before its end; the bytes after it are bad.
pub(crate) fn readable_before_bad(good: usize) -> usize {
    // SAFETY: a new file descriptor, owned only here.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"faultin-test".as_ptr(), 0)) };
    file.set_len(good as u64).expect("a memfd has a length");
    map(0, good + page(), libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd())
}

/// Runs `f` with an alternate stack of `size` bytes; returns how many of them were used.
pub(crate) fn on_alternate_stack(size: usize, f: impl FnOnce()) -> usize {
    // The stack ends where its memory ends, and begins after a page that faults, which reveals an overflow.
    let pages = size.next_multiple_of(page());
    let all = map(0, pages + page(), libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
    map(all, page(), libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED, -1);
    let bottom = core::ptr::with_exposed_provenance_mut::<u8>(all + page());
    // SAFETY: new memory.
    unsafe { bottom.write_bytes(0xa5, pages) };
    let stack = libc::stack_t { ss_sp: bottom.cast(), ss_flags: 0, ss_size: size };
    // SAFETY: plain data; the memory is never freed.
    let old = unsafe {
        let mut old: libc::stack_t = core::mem::zeroed();
        assert_eq!(libc::sigaltstack(&stack, &mut old), 0, "{}", std::io::Error::last_os_error());
        old
    };
    f();
    // SAFETY: restores the old stack, and reads the memory mapped above.
    unsafe {
        libc::sigaltstack(&old, core::ptr::null_mut());
        (0..size).find(|i| bottom.add(*i).read() != 0xa5).map_or(0, |i| size - i)
    }
}

/// Runs `f` without an alternate stack in this thread.
pub(crate) fn without_alternate_stack(f: impl FnOnce()) {
    // SAFETY: plain data; the old stack is restored.
    unsafe {
        let none = libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        let mut old: libc::stack_t = core::mem::zeroed();
        assert_eq!(libc::sigaltstack(&none, &mut old), 0);
        f();
        libc::sigaltstack(&old, core::ptr::null_mut());
    }
}

/// Eight handlers at eight addresses.
pub(crate) fn distinct_handlers() -> [usize; 8] {
    extern "C" fn handler<const N: usize>(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
        std::hint::black_box(N);
    }
    [
        handler::<0> as *const () as usize,
        handler::<1> as *const () as usize,
        handler::<2> as *const () as usize,
        handler::<3> as *const () as usize,
        handler::<4> as *const () as usize,
        handler::<5> as *const () as usize,
        handler::<6> as *const () as usize,
        handler::<7> as *const () as usize,
    ]
}
