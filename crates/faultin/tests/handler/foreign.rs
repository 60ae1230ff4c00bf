//! Handlers of other code. Each records what it got, and then acts as configured.

use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering::SeqCst};

use crate::child;

/// Three distinguishable foreign handlers.
pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;
pub(crate) const C: usize = 2;

/// What a handler does after it has recorded the signal.
pub(crate) type Then = fn(who: usize, signal: i32, *mut libc::siginfo_t, *mut libc::c_void);

/// What a handler got last, and how often it was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) calls: usize,
    pub(crate) signal: i32,
    /// As [`Seen::addr`] and the rest, 0 for handlers without `SA_SIGINFO`.
    pub(crate) code: i32,
    /// `si_addr`, or the sender of a sent signal.
    pub(crate) addr: usize,
    pub(crate) value: usize,
    pub(crate) pc: usize,
    /// Signals blocked while it ran.
    pub(crate) mask: u64,
    /// Whether it ran on the alternate stack.
    pub(crate) on_alternate_stack: bool,
}

struct Slot {
    calls: AtomicUsize,
    signal: AtomicI32,
    code: AtomicI32,
    addr: AtomicUsize,
    value: AtomicUsize,
    pc: AtomicUsize,
    mask: AtomicU64,
    on_alternate_stack: AtomicUsize,
    then: AtomicPtr<()>,
    /// The actions that it replaced when it was last installed, for SIGSEGV and SIGBUS.
    old: [AtomicPtr<libc::sigaction>; 2],
}

static SLOTS: [Slot; 3] = [const {
    Slot {
        calls: AtomicUsize::new(0),
        signal: AtomicI32::new(0),
        code: AtomicI32::new(0),
        addr: AtomicUsize::new(0),
        value: AtomicUsize::new(0),
        pc: AtomicUsize::new(0),
        mask: AtomicU64::new(0),
        on_alternate_stack: AtomicUsize::new(0),
        then: AtomicPtr::new(core::ptr::null_mut()),
        old: [const { AtomicPtr::new(core::ptr::null_mut()) }; 2],
    }
}; 3];

/// The order of calls, four bits each, the last one lowest.
static ORDER: AtomicU64 = AtomicU64::new(0);

extern "C" fn with_info<const WHO: usize>(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    record(WHO, signal, info, context);
}

extern "C" fn plain<const WHO: usize>(signal: i32) {
    record(WHO, signal, core::ptr::null_mut(), core::ptr::null_mut());
}

fn record(who: usize, signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let slot = &SLOTS[who];
    slot.calls.fetch_add(1, SeqCst);
    slot.signal.store(signal, SeqCst);
    ORDER.fetch_update(SeqCst, SeqCst, |order| Some(order << 4 | (who as u64 + 0xa))).ok();
    if !info.is_null() {
        // SAFETY: a signal's own data, and the fields that its code implies.
        unsafe {
            let code = (*info).si_code;
            let addr = if code > 0 { (*info).si_addr().addr() } else { (*info).si_pid() as usize };
            let value = if code == libc::SI_QUEUE { (*info).si_value().sival_ptr.addr() } else { 0 };
            slot.code.store(code, SeqCst);
            slot.addr.store(addr, SeqCst);
            slot.value.store(value, SeqCst);
            slot.pc.store(pc(context), SeqCst);
        }
    }
    slot.mask.store(child::mask(), SeqCst);
    // SAFETY: queries this thread's alternate stack.
    let on_alternate_stack = unsafe {
        let mut stack: libc::stack_t = core::mem::zeroed();
        libc::sigaltstack(core::ptr::null(), &mut stack);
        stack.ss_flags & libc::SS_ONSTACK != 0
    };
    slot.on_alternate_stack.store(on_alternate_stack.into(), SeqCst);
    // SAFETY: tells the parent, in case the process dies.
    unsafe { libc::write(1, [c"called A\n", c"called B\n", c"called C\n"][who].as_ptr().cast(), 9) };
    let then = slot.then.load(SeqCst);
    if !then.is_null() {
        // SAFETY: only `install` stores it, from a `Then`.
        let then = unsafe { core::mem::transmute::<*mut (), Then>(then) };
        then(who, signal, info, context);
    }
}

/// # Safety
/// `context` is a signal's.
unsafe fn pc(context: *mut libc::c_void) -> usize {
    // SAFETY: forwarded.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    #[cfg(target_arch = "x86_64")]
    return context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    return context.uc_mcontext.pc as usize;
}

/// What `who` got last.
pub(crate) fn seen(who: usize) -> Seen {
    let slot = &SLOTS[who];
    Seen {
        calls: slot.calls.load(SeqCst),
        signal: slot.signal.load(SeqCst),
        code: slot.code.load(SeqCst),
        addr: slot.addr.load(SeqCst),
        value: slot.value.load(SeqCst),
        pc: slot.pc.load(SeqCst),
        mask: slot.mask.load(SeqCst),
        on_alternate_stack: slot.on_alternate_stack.load(SeqCst) != 0,
    }
}

/// Clears the records.
pub(crate) fn forget() {
    for slot in &SLOTS {
        for atomic in [&slot.calls, &slot.addr, &slot.value, &slot.pc, &slot.on_alternate_stack] {
            atomic.store(0, SeqCst);
        }
        slot.signal.store(0, SeqCst);
        slot.code.store(0, SeqCst);
        slot.mask.store(0, SeqCst);
    }
    ORDER.store(0, SeqCst);
}

/// The handlers that were called, in order, as letters.
pub(crate) fn order() -> String {
    let order = ORDER.load(SeqCst);
    if order == 0 { String::new() } else { format!("{order:X}") }
}

/// Installs `who` for `signal`, and forgets the action that it had replaced before.
pub(crate) fn install(who: usize, signal: i32, flags: i32, blocked: &[i32], then: Then) {
    let with_info = [with_info::<0> as *const (), with_info::<1> as *const (), with_info::<2> as *const ()];
    let plain = [plain::<0> as *const (), plain::<1> as *const (), plain::<2> as *const ()];
    let function = if flags & libc::SA_SIGINFO != 0 { with_info[who] } else { plain[who] };
    SLOTS[who].then.store(then as *mut (), SeqCst);
    let old = child::install(signal, function as usize, flags, blocked);
    SLOTS[who].old[usize::from(signal == libc::SIGBUS)].store(Box::into_raw(Box::new(old)), SeqCst);
}

/// The action that `who` replaced.
fn old(who: usize, signal: i32) -> libc::sigaction {
    let old = SLOTS[who].old[usize::from(signal == libc::SIGBUS)].load(SeqCst);
    // SAFETY: `install` stored it, and it is never freed.
    unsafe { *old }
}

/// Restores the action that `who` replaced.
pub(crate) fn remove(who: usize, signal: i32) {
    // SAFETY: what the kernel returned.
    unsafe { libc::sigaction(signal, &old(who, signal), core::ptr::null_mut()) };
}

/// Returns, as is right for a sent signal.
pub(crate) fn nothing(_: usize, _: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Makes the memory accessible, as is right for a fault.
pub(crate) fn repair(_: usize, _: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    child::repair();
}

/// Calls the replaced handler, if there is one, or repairs the memory.
pub(crate) fn pass_on(who: usize, signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let old = old(who, signal);
    if old.sa_sigaction == libc::SIG_DFL || old.sa_sigaction == libc::SIG_IGN {
        child::repair();
    } else {
        assert_ne!(old.sa_flags & libc::SA_SIGINFO, 0, "a plain handler cannot be given what it does not take");
        // SAFETY: a function of the type that the flag indicates, called with the signal's own data.
        unsafe {
            let call: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                core::mem::transmute(old.sa_sigaction);
            call(signal, info, context);
        }
    }
}
