//! Signals that arrive continuously while faults are recovered, on every kind of stack: their handlers need more of it than
//! the crate's handler has left, but nothing is overwritten, because they wait until it has returned.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use faultin::Cause;
use faultin::{FileMap, MapOptions, map::Watch};

use crate::Ends;
use crate::child::{self, page};

/// How often the signal's handler has completed.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Signals for each row of the table.
const SIGNALS: usize = 150;

/// A handler with this many bytes of locals, which makes a faulting access of this crate if `FAULTS`.
extern "C" fn handler<const LOCALS: usize, const FAULTS: bool>(_: i32) {
    std::hint::black_box([1_u8; LOCALS]);
    if FAULTS {
        fault_of_ours();
    }
    CALLS.fetch_add(1, SeqCst);
}

fn fault_of_ours() {
    // SAFETY: nothing is ever mapped there.
    let fault = unsafe { faultin::raw::load::<u64>(core::ptr::with_exposed_provenance(child::NOWHERE)) }.unwrap_err();
    assert_eq!((fault.cause(), fault.address()), (Cause::Unmapped, Some(child::NOWHERE)));
}

/// A handler and its flags.
type Row = (usize, i32);

fn off_the_stack() -> Vec<Row> {
    [
        handler::<1024, false> as *const (),
        handler::<4096, false> as *const (),
        handler::<16384, false> as *const (),
        handler::<1024, true> as *const (),
        handler::<4096, true> as *const (),
        handler::<16384, true> as *const (),
    ]
    .map(|handler| (handler as usize, 0))
    .into()
}

/// The same on the alternate stack.
fn on_the_stack() -> Vec<Row> {
    off_the_stack().into_iter().map(|(handler, _)| (handler, libc::SA_ONSTACK)).collect()
}

/// Small enough for the alternate stacks of Rust's threads: one frame, without a nested one.
fn on_a_small_stack() -> Vec<Row> {
    vec![(handler::<1024, false> as *const () as usize, libc::SA_ONSTACK)]
}

/// Repeats `fault` until this thread has received its signals, for each row.
fn weather(rows: &[Row], fault: &dyn Fn()) {
    for &(handler, flags) in rows {
        CALLS.store(0, SeqCst);
        child::install(libc::SIGUSR1, handler, flags, &[]);
        let _timer = Timer::start(libc::SIGUSR1, 50_000);
        while CALLS.load(SeqCst) < SIGNALS {
            fault();
        }
    }
}

/// Sends this thread a signal repeatedly, at arbitrary moments, because clock interrupts trigger it.
struct Timer(libc::timer_t);

impl Timer {
    fn start(signal: i32, nanoseconds: i64) -> Timer {
        // SAFETY: plain data whose relevant fields are set, and a number that the call writes.
        unsafe {
            let mut event: libc::sigevent = core::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            event.sigev_notify_thread_id = child::tid();
            let mut timer = core::mem::zeroed();
            assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer), 0);
            let every = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds };
            let every = libc::itimerspec { it_interval: every, it_value: every };
            assert_eq!(libc::timer_settime(timer, 0, &every, core::ptr::null_mut()), 0);
            Timer(timer)
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: made by `start`.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// Runs `f` in a new thread, whose alternate stack is Rust's.
fn in_a_thread(f: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(f).join()).expect("the thread ends well");
}

/// Memory whose lower half must not change.
struct Canary(Vec<u8>);

const CANARY: usize = 64 << 10;

impl Canary {
    fn below(size: usize) -> Canary {
        let mut bytes = vec![0x5c; CANARY];
        bytes.resize(CANARY + size, 0);
        Canary(bytes)
    }

    fn stack(&mut self) -> &mut [u8] {
        &mut self.0[CANARY..]
    }

    #[track_caller]
    fn check(&self) {
        let overwritten = self.0[..CANARY].iter().position(|&byte| byte != 0x5c).map_or(0, |at| CANARY - at);
        assert_eq!(overwritten, 0, "bytes below the stack were overwritten");
    }
}

/// Runs `f` with an alternate stack of `size` bytes on the heap.
fn on_a_heap_stack(size: usize, f: impl FnOnce()) {
    let mut memory = Canary::below(size);
    let stack = memory.stack();
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: plain data; the memory is valid until the old stack is restored.
    unsafe {
        let mut old: libc::stack_t = core::mem::zeroed();
        assert_eq!(libc::sigaltstack(&stack, &mut old), 0);
        f();
        assert_eq!(libc::sigaltstack(&old, core::ptr::null_mut()), 0);
    }
    memory.check();
}

/// The size that Rust's threads have.
fn small() -> usize {
    // SAFETY: returns a number.
    (unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize).max(libc::SIGSTKSZ)
}

/// Runs `f` on a separate stack, as a fiber does.
fn on_a_fiber(f: &mut dyn FnMut()) {
    unsafe extern "C-unwind" fn run(f: *mut &mut dyn FnMut()) {
        // SAFETY: the argument passed below, which outlives the call.
        unsafe { (*f)() }
    }
    let mut memory = Canary::below(256 << 10);
    let top = memory.stack().as_mut_ptr_range().end;
    let mut f = f;
    // SAFETY: the aligned top of a stack that stays valid and has room for `f`.
    unsafe { call_on(&mut f, run, top.map_addr(|top| top & !63)) };
    memory.check();
}

/// Calls a function on another stack.
#[unsafe(naked)]
unsafe extern "C-unwind" fn call_on<T>(_argument: *mut T, _f: unsafe extern "C-unwind" fn(*mut T), _top: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!("push rbp", "mov rbp, rsp", "mov rsp, rdx", "call rsi", "mov rsp, rbp", "pop rbp", "ret");
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!(
        "stp x29, x30, [sp, #-16]!",
        "mov x29, sp",
        "mov sp, x2",
        "blr x1",
        "mov sp, x29",
        "ldp x29, x30, [sp], #16",
        "ret",
    );
}

/// A file that is truncated during a scan, repeatedly.
struct Cut(std::fs::File, FileMap);

impl Cut {
    fn new() -> Cut {
        let file = tempfile::tempfile().expect("a temporary folder");
        file.set_len(4 * page() as u64).expect("set_len");
        // Without waits for clock ticks, of which a storm would have thousands.
        let options = MapOptions::new().watch(Watch::Nothing);
        let map = options.from_file(file.try_clone().expect("dup")).expect("map it");
        Cut(file, map)
    }

    fn fault(&self) {
        self.0.set_len(4 * page() as u64).expect("set_len");
        self.1.refresh().expect("it can be asked");
        // SAFETY: nothing relies on a byte.
        let damaged = unsafe {
            self.1.with_slice(.., |bytes| {
                self.0.set_len(page() as u64).expect("set_len");
                (&raw const bytes[2 * page()]).read_volatile()
            })
        };
        assert_eq!(damaged.expect_err("it was cut").value, Some(0));
    }
}

crate::scenarios! {
    on_the_alternate_stack_of_a_rust_thread => Ends::Well, |_| {
        faultin::install().unwrap();
        in_a_thread(|| weather(&[off_the_stack(), on_a_small_stack()].concat(), &fault_of_ours));
    };
    on_a_small_alternate_stack_on_the_heap => Ends::Well, |_| {
        faultin::install().unwrap();
        in_a_thread(|| on_a_heap_stack(small(), || weather(&off_the_stack(), &fault_of_ours)));
    };
    on_a_large_alternate_stack_that_handlers_share => Ends::Well, |_| {
        faultin::install().unwrap();
        in_a_thread(|| on_a_heap_stack(64 << 10, || weather(&on_the_stack(), &fault_of_ours)));
    };
    without_an_alternate_stack => Ends::Well, |_| {
        faultin::install().unwrap();
        in_a_thread(|| child::without_alternate_stack(|| weather(&off_the_stack(), &fault_of_ours)));
    };
    on_a_fiber_of_a_rust_thread => Ends::Well, |_| {
        faultin::install().unwrap();
        in_a_thread(|| on_a_fiber(&mut || weather(&off_the_stack(), &fault_of_ours)));
    };
    on_a_fiber_without_an_alternate_stack => Ends::Well, |_| {
        faultin::install().unwrap();
        in_a_thread(|| child::without_alternate_stack(|| on_a_fiber(&mut || weather(&off_the_stack(), &fault_of_ours))));
    };
    /// The kernel disarms such a stack while a handler runs on it: the next one would begin at its top again.
    on_an_alternate_stack_that_disarms_itself => Ends::Well, |_| {
        const SS_AUTODISARM: i32 = i32::MIN;
        faultin::install().unwrap();
        in_a_thread(|| {
            let mut memory = Canary::below(small());
            let stack = memory.stack();
            let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: SS_AUTODISARM, ss_size: stack.len() };
            // SAFETY: plain data; the memory is valid until the old stack is restored.
            unsafe {
                let mut old: libc::stack_t = core::mem::zeroed();
                if libc::sigaltstack(&stack, &mut old) != 0 {
                    child::skip("autodisarm", "stacks that disarm themselves");
                }
                weather(&off_the_stack(), &fault_of_ours);
                assert_eq!(libc::sigaltstack(&old, core::ptr::null_mut()), 0);
            }
            memory.check();
        });
    };
    while_a_guard_substitutes_pages => Ends::Well, |_| {
        let cut = Cut::new();
        in_a_thread(|| on_a_heap_stack(small(), || weather(&off_the_stack(), &|| cut.fault())));
        assert_eq!(faultin::signal::counters().forwarded, 0);
    };
    /// As in a profiler.
    timers_of_one_kilohertz => Ends::Well, |_| {
        faultin::install().unwrap();
        child::install(libc::SIGPROF, handler::<4096, true> as *const () as usize, libc::SA_RESTART, &[]);
        in_a_thread(|| {
            on_a_heap_stack(small(), || {
                let _timer = Timer::start(libc::SIGPROF, 1_000_000);
                while CALLS.load(SeqCst) < SIGNALS {
                    fault_of_ours();
                }
            });
        });
    };
}
