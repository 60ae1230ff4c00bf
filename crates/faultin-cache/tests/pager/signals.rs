//! Signals that arrive while a fault is resolved: which wait, which are taken, and how much of the signal stack is used.
//! Each test runs in a separate process, because signal actions belong to the process.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use std::{io, ptr, thread};

use faultin::page_size;
use faultin_cache::pager::{Mapping, Mode};
use faultin_cache::store::{MemoryStore, Store};
use faultin_cache::{Cache, CacheOptions, CachedFile};

use crate::modes::{Home, load, map, pattern};
use faultin_test::processes;

const CHILD: &str = "FAULTIN_SIGNALS_CHILD";

/// In the child: the mode and the test's other argument.
fn child() -> Option<(Mode, String)> {
    let child = std::env::var(CHILD).ok()?;
    let (mode, argument) = child.split_once(' ').unwrap();
    // SAFETY: kills a child that hangs.
    unsafe { libc::alarm(60) };
    Some((Mode::ALL.into_iter().find(|known| format!("{known:?}") == mode).unwrap(), argument.to_owned()))
}

/// Runs a test of this file in a child, in each available mode.
fn children(test: &str, modes: &[Mode], arguments: &[&str], check: impl Fn(ExitStatus, Mode, &str)) {
    for &mode in modes {
        let file = Cache::new().open(MemoryStore::new(pattern(page_size()))).unwrap();
        if map(&file, mode, 1).is_none() {
            continue;
        }
        for argument in arguments {
            let mut child = processes::run(std::env::current_exe().unwrap());
            child
                .args(["--exact", &format!("signals::{test}"), "--nocapture"])
                .env(CHILD, format!("{mode:?} {argument}"));
            let output = child.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            println!("{mode:?} {argument}: {}\n{said}", output.status);
            faultin_test::assert_ran(output.status, &String::from_utf8_lossy(&output.stdout));
            check(output.status, mode, argument);
        }
    }
}

fn ends_well(status: ExitStatus, mode: Mode, argument: &str) {
    assert!(status.success(), "{mode:?} {argument}: {status}");
}

/// Modes in which the fault of an ordinary instruction is resolved in the signal handler.
const IN_SIGNALS: [Mode; 2] = [Mode::Signal, Mode::Mprotect];

fn install(signal: i32, handler: usize, flags: i32) {
    // SAFETY: plain data; the handlers here call only async-signal-safe functions.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &raw const action, ptr::null_mut()), 0);
    }
}

fn tid() -> i32 {
    // SAFETY: returns a number.
    unsafe { libc::gettid() }
}

/// Runs `f` with an alternate stack of `size` bytes on the heap; returns how many were used. Nothing below them may be.
fn on_a_stack(size: usize, f: impl FnOnce()) -> usize {
    const CANARY: usize = 64 << 10;
    let mut memory = vec![0x5c_u8; CANARY + size];
    let stack = libc::stack_t { ss_sp: memory[CANARY..].as_mut_ptr().cast(), ss_flags: 0, ss_size: size };
    // SAFETY: plain data; the memory is valid until the old stack is restored.
    unsafe {
        let mut old: libc::stack_t = std::mem::zeroed();
        assert_eq!(libc::sigaltstack(&raw const stack, &raw mut old), 0);
        f();
        assert_eq!(libc::sigaltstack(&raw const old, ptr::null_mut()), 0);
    }
    let used = memory.iter().position(|&byte| byte != 0x5c).map_or(0, |at| memory.len() - at);
    assert!(used <= size, "{} bytes below the stack were overwritten", used - size);
    used
}

/// The size that Rust's threads have.
fn small() -> usize {
    // SAFETY: returns a number.
    (unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize).max(libc::SIGSTKSZ)
}

/// The size of the kernel's signal frame.
fn frame() -> usize {
    extern "C" fn returns(_: i32) {}
    install(libc::SIGUSR2, returns as *const () as usize, libc::SA_ONSTACK);
    // SAFETY: sends this thread a signal.
    on_a_stack(64 << 10, || _ = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid(), libc::SIGUSR2) })
}

/// The stack that the pager is documented to need below the frames of this library's handler.
const SERVING: usize = 4096;
const HANDING_OVER: usize = 2560;

/// The stack that the handler uses below the kernel's frame before it calls a pager: a recovery by the table, and a little
/// more.
fn ours() -> usize {
    faultin::install().unwrap();
    let recovery = on_a_stack(64 << 10, || {
        // SAFETY: nothing is mapped there.
        unsafe { faultin::raw::load::<u8>(ptr::without_provenance(64)) }.unwrap_err();
    });
    recovery - frame() + 256
}

/// A mapped file of 32 pages, in a cache for 64.
fn mapped(home: &Home, mode: Mode) -> (Cache, CachedFile, Mapping) {
    let cache = CacheOptions::new().limit(64 * page_size()).build();
    let file = home.open(&cache);
    let mapping = file.map(0..32 * page_size() as u64, faultin::map::Rights::ReadWrite, mode).unwrap();
    (cache, file, mapping)
}

// ---- storms

static CALLS: AtomicUsize = AtomicUsize::new(0);
static AT: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// A handler with this many bytes of locals, which copies from the mapping if `COPIES`.
extern "C" fn handler<const LOCALS: usize, const COPIES: bool>(_: i32) {
    std::hint::black_box([1_u8; LOCALS]);
    let calls = CALLS.fetch_add(1, SeqCst);
    if COPIES {
        let at = AT.load(SeqCst).wrapping_add(calls % 32 * page_size());
        // SAFETY: within a mapping that stays; a page that is not there is an error.
        let _ = std::hint::black_box(unsafe { faultin::raw::load::<u64>(at.cast()) });
    }
}

/// Sends this thread SIGUSR1 repeatedly.
struct Timer(libc::timer_t);

impl Timer {
    fn start() -> Timer {
        // SAFETY: plain data whose relevant fields are set, and a number that the call writes.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGUSR1;
            event.sigev_notify_thread_id = tid();
            let mut timer = std::mem::zeroed();
            assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer), 0);
            let every = libc::timespec { tv_sec: 0, tv_nsec: 50_000 };
            let every = libc::itimerspec { it_interval: every, it_value: every };
            assert_eq!(libc::timer_settime(timer, 0, &raw const every, ptr::null_mut()), 0);
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

/// Faults on all pages repeatedly until the handler has been called often enough.
fn fault_with_evictions(cache: &Cache, mapping: &Mapping, bytes: &[u8]) {
    let handlers = [
        handler::<1024, false> as *const (),
        handler::<4096, false> as *const (),
        handler::<16384, false> as *const (),
        handler::<1024, true> as *const (),
        handler::<16384, true> as *const (),
    ];
    AT.store(mapping.as_ptr(), SeqCst);
    for handler in handlers {
        CALLS.store(0, SeqCst);
        install(libc::SIGUSR1, handler as usize, 0);
        let _timer = Timer::start();
        while CALLS.load(SeqCst) < 100 {
            cache.drop_clean();
            for page in 0..32 {
                let at = page * page_size() + page;
                assert_eq!(load(mapping, at), bytes[at]);
            }
        }
    }
}

#[test]
fn handlers_of_any_size_interrupt_faults_that_are_served() {
    let Some((mode, stack)) = child() else {
        return children(
            "handlers_of_any_size_interrupt_faults_that_are_served",
            &Mode::ALL,
            &["rust's", "on the heap", "none"],
            ends_well,
        );
    };
    let bytes = pattern(32 * page_size());
    for home in Home::both(&bytes) {
        let (cache, _file, mapping) = mapped(&home, mode);
        thread::scope(|scope| {
            scope.spawn(|| match &*stack {
                "rust's" => fault_with_evictions(&cache, &mapping, &bytes),
                "none" => without_a_stack(|| fault_with_evictions(&cache, &mapping, &bytes)),
                _ => _ = on_a_stack(small(), || fault_with_evictions(&cache, &mapping, &bytes)),
            });
        });
    }
}

fn without_a_stack(f: impl FnOnce()) {
    // SAFETY: plain data; the old stack stays.
    unsafe {
        let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        let mut old: libc::stack_t = std::mem::zeroed();
        assert_eq!(libc::sigaltstack(&raw const none, &raw mut old), 0);
        f();
        assert_eq!(libc::sigaltstack(&raw const old, ptr::null_mut()), 0);
    }
}

// ---- room

#[test]
fn serving_and_handing_over_stay_within_what_they_ask_for() {
    let Some((mode, _)) = child() else {
        let test = "serving_and_handing_over_stay_within_what_they_ask_for";
        return children(test, &IN_SIGNALS, &[""], ends_well);
    };
    let (bytes, frame, ours) = (pattern(32 * page_size()), frame(), ours());
    for (home, needs) in Home::both(&bytes).iter().zip([HANDING_OVER, SERVING]) {
        let (cache, _file, mapping) = mapped(home, mode);
        // The pager's thread allocates what a newly mapped file needs.
        load(&mapping, 0);
        cache.drop_clean();
        let before = mapping.fault_counts();
        let used = on_a_stack(64 << 10, || {
            for at in (0..32).rev().map(|page| page * page_size()) {
                assert_eq!(load(&mapping, at), bytes[at]);
            }
        });
        let (after, used) = (mapping.fault_counts(), used - frame);
        eprintln!("{mode:?}: {used} bytes, of {}", ours + needs);
        assert_eq!(after.in_signal > before.in_signal, needs == SERVING, "{after:?}");
        assert!((1..=ours + needs).contains(&used), "{used}");
    }
}

#[test]
fn without_room_to_serve_a_fault_it_is_handed_over() {
    let Some((mode, _)) = child() else {
        return children("without_room_to_serve_a_fault_it_is_handed_over", &IN_SIGNALS, &[""], ends_well);
    };
    let (bytes, frame) = (pattern(32 * page_size()), frame());
    let [_, home] = Home::both(&bytes);
    let (cache, _file, mapping) = mapped(&home, mode);
    load(&mapping, 0);
    cache.drop_clean();
    let before = mapping.fault_counts();
    on_a_stack(frame + SERVING - 128, || assert_eq!(load(&mapping, 7), bytes[7]));
    let after = mapping.fault_counts();
    assert_eq!((after.in_signal - before.in_signal, after.by_thread - before.by_thread), (0, 1));
}

#[test]
fn without_room_to_hand_a_fault_over_it_is_refused() {
    if faultin_test::is_emulated() {
        return faultin_test::skipped("native", "an emulator ends by an assertion of its own where a signal kills");
    }
    let Some((mode, _)) = child() else {
        return children("without_room_to_hand_a_fault_over_it_is_refused", &IN_SIGNALS, &[""], |status, mode, _| {
            let signal = if mode == Mode::Mprotect { libc::SIGSEGV } else { libc::SIGBUS };
            assert_eq!(status.signal(), Some(signal), "{mode:?}: {status}");
        });
    };
    let (bytes, frame) = (pattern(32 * page_size()), frame());
    let [_, home] = Home::both(&bytes);
    let (_cache, _file, mapping) = mapped(&home, mode);
    // As if Rust's own handler were not installed.
    let _ = [libc::SIGSEGV, libc::SIGBUS].map(|signal| install(signal, libc::SIG_DFL, 0));
    faultin::signal::reinstall().unwrap();
    on_a_stack(frame + HANDING_OVER - 128, || _ = load(&mapping, 7));
    unreachable!("it was served");
}

// ---- what does not wait

/// A store whose reads block until they are released.
struct Slow {
    bytes: Vec<u8>,
    waits: AtomicBool,
    fails: AtomicBool,
    reads: AtomicUsize,
}

impl Store for Slow {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.reads.fetch_add(1, SeqCst);
        while self.waits.load(SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        if self.fails.load(SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let bytes = &self.bytes[pos as usize..];
        let len = bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// In a thread that waits for a page of a store that hangs: calls `then` with the thread's id and the store once it hangs.
fn while_a_fault_waits(mode: Mode, before: impl Fn() + Sync, then: impl FnOnce(i32, &Slow)) -> Mapping {
    let bytes = pattern(32 * page_size());
    let slow = Slow { bytes: bytes.clone(), waits: true.into(), fails: false.into(), reads: AtomicUsize::new(0) };
    let slow = Arc::new(slow);
    let file = Cache::new().open(Arc::clone(&slow)).unwrap();
    let mapping = map(&file, mode, bytes.len() as u64).unwrap();
    thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let (before, mapping) = (&before, &mapping);
        let waits = scope.spawn(move || {
            before();
            tell.send(tid()).unwrap();
            load(mapping, 3)
        });
        let waiting = told.recv().unwrap();
        while slow.reads.load(SeqCst) == 0 {
            thread::yield_now();
        }
        then(waiting, &slow);
        slow.waits.store(false, SeqCst);
        assert_eq!(waits.join().unwrap(), bytes[3]);
    });
    mapping
}

fn send(thread: i32, signal: i32) {
    // SAFETY: a thread of this process.
    assert_eq!(unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) }, 0);
}

#[test]
fn a_thread_that_waits_for_a_page_can_be_terminated() {
    let Some((mode, signal)) = child() else {
        let test = "a_thread_that_waits_for_a_page_can_be_terminated";
        let signals = [libc::SIGTERM, libc::SIGINT].map(|signal| signal.to_string());
        return children(test, &Mode::ALL, &signals.each_ref().map(|signal| &**signal), |status, mode, signal| {
            assert_eq!(status.signal().map(|signal| signal.to_string()).as_deref(), Some(signal), "{mode:?}: {status}");
        });
    };
    let signal = signal.parse().unwrap();
    // A shell makes its background processes ignore SIGINT.
    install(signal, libc::SIG_DFL, 0);
    while_a_fault_waits(
        mode,
        || (),
        |thread, _| {
            send(thread, signal);
            thread::sleep(Duration::from_secs(20));
            std::process::exit(9);
        },
    );
}

/// The handler runs in the middle of the wait, and the access continues.
#[test]
fn a_thread_that_waits_for_a_page_takes_its_signals() {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn take(_: i32) {
        TAKEN.fetch_add(1, SeqCst);
    }
    let Some((mode, _)) = child() else {
        return children("a_thread_that_waits_for_a_page_takes_its_signals", &Mode::ALL, &[""], ends_well);
    };
    install(libc::SIGINT, take as *const () as usize, 0);
    while_a_fault_waits(
        mode,
        || (),
        |thread, _| {
            for count in 1..=3 {
                send(thread, libc::SIGINT);
                while TAKEN.load(SeqCst) < count {
                    thread::yield_now();
                }
            }
        },
    );
}

/// glibc sends every thread its internal signal (33) and waits until all have received it.
#[test]
fn another_thread_can_change_the_users_id_meanwhile() {
    let Some((mode, _)) = child() else {
        return children("another_thread_can_change_the_users_id_meanwhile", &Mode::ALL, &[""], ends_well);
    };
    while_a_fault_waits(
        mode,
        || (),
        |_, _| {
            // SAFETY: sets the current id.
            assert_eq!(unsafe { libc::setuid(libc::getuid()) }, 0);
        },
    );
}

/// A signal that the interrupted code blocks does not end the wait: the request stays pending.
#[test]
fn a_signal_that_the_thread_blocks_itself_does_not_end_the_wait() {
    let Some((mode, _)) = child() else {
        let test = "a_signal_that_the_thread_blocks_itself_does_not_end_the_wait";
        return children(test, &IN_SIGNALS, &[""], ends_well);
    };
    let block = || {
        // SAFETY: plain data, and this thread's mask.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        }
    };
    let mapping = while_a_fault_waits(mode, block, |thread, _| {
        send(thread, libc::SIGUSR2);
        // Long enough for several polls.
        thread::sleep(Duration::from_millis(150));
    });
    assert_eq!(mapping.fault_counts().by_thread, 1);
}

/// Each request that was withdrawn would be one more call, before the call for the one that waits.
#[test]
fn a_thread_that_has_taken_signals_waits_for_one_more_call_of_a_store_that_fails() {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    static SLOW: AtomicPtr<Slow> = AtomicPtr::new(ptr::null_mut());
    extern "C" fn take(_: i32) {
        TAKEN.fetch_add(1, SeqCst);
    }
    /// The access has failed.
    extern "C" fn fails(_: i32) {
        // SAFETY: the store exists as long as the mapping, on which the interrupted thread has faulted.
        let reads = unsafe { (*SLOW.load(SeqCst)).reads.load(SeqCst) };
        // SAFETY: ends the process.
        unsafe { libc::_exit(10 + reads as i32) }
    }
    let Some((mode, _)) = child() else {
        let test = "a_thread_that_has_taken_signals_waits_for_one_more_call_of_a_store_that_fails";
        return children(test, &IN_SIGNALS, &[""], |status, mode, _| {
            assert_eq!(status.code(), Some(10 + 2), "{mode:?}: {status}");
        });
    };
    install(libc::SIGINT, take as *const () as usize, 0);
    let _ = [libc::SIGSEGV, libc::SIGBUS].map(|signal| install(signal, fails as *const () as usize, 0));
    faultin::signal::reinstall().unwrap();
    while_a_fault_waits(
        mode,
        || (),
        |thread, slow| {
            SLOW.store(ptr::from_ref(slow).cast_mut(), SeqCst);
            for count in 1..=5 {
                send(thread, libc::SIGINT);
                while TAKEN.load(SeqCst) < count {
                    thread::yield_now();
                }
                // Until it has faulted again.
                thread::sleep(Duration::from_millis(30));
            }
            slow.fails.store(true, SeqCst);
        },
    );
}
