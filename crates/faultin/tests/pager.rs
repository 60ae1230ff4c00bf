//! Ranges whose faults the process resolves itself: which pager is called, when, and with which result.

use std::io::Read;
use std::num::NonZeroUsize;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use faultin::pager::{Pager, Registration, SignalContext, register};
use faultin::{Access, Cause, Fault, Granularity, ReadView, WriteView, page_size};

/// Pages that are inaccessible until their pager is called.
struct Pages {
    base: *mut u8,
    pages: usize,
}

// SAFETY: addresses.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    fn new(pages: usize) -> Pages {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), pages * page_size(), libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        Pages { base: base.cast(), pages }
    }

    fn protect(&self, index: usize, protection: i32) {
        // SAFETY: one of these pages.
        let done = unsafe { libc::mprotect(self.base.add(index * page_size()).cast(), page_size(), protection) };
        assert_eq!(done, 0);
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.base.addr()..self.base.addr() + self.pages * page_size()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this value's mapping, which is not used any more.
        unsafe { libc::munmap(self.base.cast(), self.pages * page_size()) };
    }
}

/// Makes pages accessible on request, except the last one.
struct Opens {
    pages: Arc<Pages>,
    asked: AtomicUsize,
    /// Calls in a signal handler.
    interrupted: AtomicUsize,
    /// Reports success without doing anything.
    lies: bool,
}

impl Opens {
    fn new(pages: &Arc<Pages>, lies: bool) -> Arc<Opens> {
        Arc::new(Opens { pages: Arc::clone(pages), asked: 0.into(), interrupted: 0.into(), lies })
    }

    fn open(&self, address: usize, access: Access) -> bool {
        let index = (address - self.pages.base.addr()) / page_size();
        if index + 1 == self.pages.pages {
            return false;
        }
        if !self.lies {
            let write = if access == Access::Write { libc::PROT_WRITE } else { 0 };
            self.pages.protect(index, libc::PROT_READ | write);
        }
        true
    }
}

// SAFETY: in a signal handler it only counts, and makes one system call.
unsafe impl Pager for Opens {
    fn fault_in(&self, address: usize, _: usize, access: Access) -> Result<(), Fault> {
        self.asked.fetch_add(1, SeqCst);
        if self.open(address, access) { Ok(()) } else { Err(Fault::rejected(access, Cause::Backing, address)) }
    }

    fn in_signal(&self, address: usize, access: Option<Access>, _: &SignalContext) -> bool {
        self.interrupted.fetch_add(1, SeqCst);
        self.open(address, access.unwrap_or(Access::Write))
    }
}

fn views(pages: &Pages) -> (ReadView<'_>, WriteView<'_>) {
    let len = pages.pages * page_size();
    // SAFETY: the range is `pages`', which outlives the views.
    unsafe { (ReadView::new(pages.base, len).unwrap(), WriteView::new(pages.base, len).unwrap()) }
}

/// Registers a pager for all pages.
fn served(pages: &Pages, pager: Arc<dyn Pager>) -> Registration {
    // SAFETY: the range is `pages`', whose owner drops the returned value first.
    unsafe { register(pages.range(), pager) }.unwrap()
}

const PAGES: usize = 4;

#[test]
fn a_copy_comes_back_short_and_fault_in_asks_the_pager() {
    let pages = Arc::new(Pages::new(PAGES));
    let opens = Opens::new(&pages, false);
    let _served = served(&pages, opens.clone());
    let (read, write) = views(&pages);
    let mut buffer = vec![1; 2 * page_size()];
    let short = read.read(&mut buffer, 0).unwrap_err();
    assert_eq!((short.done, opens.asked.load(SeqCst)), (0, 0), "never inside a copy");
    // Three pages of four; the last one fails.
    let whole = NonZeroUsize::new(PAGES * page_size()).unwrap();
    assert_eq!(read.fault_in(0, whole).map(NonZeroUsize::get), Ok(3 * page_size()));
    assert_eq!(opens.asked.load(SeqCst), PAGES);
    assert_eq!(read.read(&mut buffer, 0), Ok(()));
    assert!(buffer.iter().all(|&byte| byte == 0));
    // A readable page is not writable yet.
    assert!(write.store::<u8>(0, 7).is_err());
    let one = NonZeroUsize::new(1).unwrap();
    assert_eq!(write.fault_in(0, one), Ok(one));
    assert_eq!(write.store::<u8>(0, 7), Ok(()));
    let fault = read.fault_in(3 * page_size() + 5, one).unwrap_err();
    assert_eq!((fault.cause(), fault.address()), (Cause::Backing, Some(pages.base.addr() + 3 * page_size() + 5)));
    assert_eq!(opens.interrupted.load(SeqCst), 0);
}

#[test]
fn a_probe_asks_too() {
    let pages = Arc::new(Pages::new(PAGES));
    let opens = Opens::new(&pages, false);
    let _served = served(&pages, opens.clone());
    let (read, write) = views(&pages);
    let short = read.probe(0..PAGES * page_size(), Granularity::Page).unwrap_err();
    assert_eq!((short.done, short.fault.cause()), (3 * page_size(), Cause::Backing));
    assert_eq!(write.probe(page_size()..page_size() + page_size(), Granularity::Line), Ok(()));
}

#[test]
fn others_instructions_are_served_in_the_signal() {
    let pages = Arc::new(Pages::new(PAGES));
    let opens = Opens::new(&pages, false);
    let served = served(&pages, opens.clone());
    for index in 0..PAGES - 1 {
        // SAFETY: pages of the test, whose faults are resolved.
        unsafe {
            let at = pages.base.add(index * page_size() + index);
            assert_eq!(at.read_volatile(), 0);
            at.write_volatile(9);
            assert_eq!(at.read_volatile(), 9);
        }
    }
    let asked = opens.interrupted.load(SeqCst);
    // Where neither the CPU nor an emulator of user mode reports what the access was, it is taken for a store.
    let is_told = cfg!(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))
        && !faultin_test::is_emulated();
    assert_eq!(asked, if is_told { 2 * (PAGES - 1) } else { PAGES - 1 });
    assert_eq!(opens.asked.load(SeqCst), 0);
    drop(served);
    // Its faults are not resolved any more.
    pages.protect(0, libc::PROT_NONE);
    assert!(views(&pages).0.fault_in(0, NonZeroUsize::MIN).is_err());
    assert_eq!(opens.asked.load(SeqCst), 0);
}

#[test]
fn a_pager_that_lies_is_asked_a_bounded_number_of_times() {
    let pages = Arc::new(Pages::new(PAGES));
    let lies = Opens::new(&pages, true);
    let _served = served(&pages, lies.clone());
    let fault = views(&pages).0.fault_in(0, NonZeroUsize::MIN).unwrap_err();
    assert_eq!(fault.cause(), Cause::Protection);
    assert_eq!(lies.asked.load(SeqCst), 64);
}

/// Reports for one page, until it is requested, that an access would fault.
struct Expects {
    opens: Arc<Opens>,
    page: AtomicUsize,
}

// SAFETY: it does nothing in a signal handler.
unsafe impl Pager for Expects {
    fn fault_in(&self, address: usize, len: usize, access: Access) -> Result<(), Fault> {
        self.page.store(usize::MAX, SeqCst);
        self.opens.fault_in(address, len, access)
    }

    fn would_fault(&self, address: usize, _: Access) -> bool {
        (address - self.opens.pages.base.addr()) / page_size() == self.page.load(SeqCst)
    }
}

#[test]
fn a_pager_that_expects_a_fault_is_asked_without_one() {
    let pages = Arc::new(Pages::new(PAGES));
    let opens = Opens::new(&pages, false);
    let expects = Arc::new(Expects { opens: opens.clone(), page: AtomicUsize::new(0) });
    let _served = served(&pages, expects.clone());
    let (read, write) = views(&pages);
    (0..PAGES).for_each(|index| pages.protect(index, libc::PROT_READ | libc::PROT_WRITE));
    // All pages are accessible, so touching them would not have called the pager. Pages after the first one are only
    // touched.
    let whole = NonZeroUsize::new(PAGES * page_size()).unwrap();
    assert_eq!(read.fault_in(0, whole), Ok(whole));
    assert_eq!(opens.asked.load(SeqCst), 1);
    expects.page.store(1, SeqCst);
    assert_eq!(write.fault_in(page_size(), NonZeroUsize::MIN), Ok(NonZeroUsize::MIN));
    assert_eq!(opens.asked.load(SeqCst), 2);
    // A refusal is reported with its reason.
    expects.page.store(PAGES - 1, SeqCst);
    let fault = read.fault_in((PAGES - 1) * page_size() + 3, NonZeroUsize::MIN).unwrap_err();
    let last = pages.base.addr() + (PAGES - 1) * page_size();
    assert_eq!((fault.cause(), fault.address()), (Cause::Backing, Some(last + 3)));
}

/// Keeps at most `most` pages open; to open another, it closes the one at `closes` in the order of opening.
struct Keeps {
    pages: Arc<Pages>,
    open: Mutex<Vec<usize>>,
    most: usize,
    closes: usize,
}

impl Keeps {
    fn page(&self, address: usize) -> usize {
        (address - self.pages.base.addr()) / page_size()
    }
}

// SAFETY: it does nothing in a signal handler.
unsafe impl Pager for Keeps {
    fn fault_in(&self, address: usize, _: usize, _: Access) -> Result<(), Fault> {
        let (mut open, page) = (self.open.lock().unwrap(), self.page(address));
        if open.contains(&page) {
            return Ok(());
        }
        if open.len() == self.most {
            self.pages.protect(open.remove(self.closes), libc::PROT_NONE);
        }
        self.pages.protect(page, libc::PROT_READ | libc::PROT_WRITE);
        open.push(page);
        Ok(())
    }

    fn would_fault(&self, address: usize, _: Access) -> bool {
        !self.open.lock().unwrap().contains(&self.page(address))
    }
}

/// The last pages may replace the first ones: the result covers what is accessible at the end.
#[test]
fn what_a_pager_does_not_keep_is_not_promised() {
    // All stay; the first one is evicted, and faulted in again; a later one is evicted.
    for (most, closes, stay) in [(PAGES, 0, PAGES), (3, 0, 1), (2, 0, 1), (1, 0, 1), (3, 2, 2), (3, 1, 1)] {
        for start in [0, 1, page_size() - 1] {
            for stores in [false, true] {
                for ask in 0..4 {
                    let pages = Arc::new(Pages::new(PAGES));
                    let open = Mutex::default();
                    let _served = served(&pages, Arc::new(Keeps { pages: Arc::clone(&pages), open, most, closes }));
                    let (read, write) = views(&pages);
                    let (len, case) = (PAGES * page_size() - start, (most, closes, start, stores, ask));
                    let granularity = [Granularity::Page, Granularity::Line, Granularity::Tag].get(ask);
                    let done = match (granularity, stores) {
                        (None, false) => read.fault_in(start, NonZeroUsize::new(len).unwrap()).unwrap().get(),
                        (None, true) => write.fault_in(start, NonZeroUsize::new(len).unwrap()).unwrap().get(),
                        (Some(&granularity), _) => {
                            let proven = match stores {
                                false => read.probe(start..start + len, granularity),
                                true => write.probe(start..start + len, granularity),
                            };
                            if let Err(short) = proven {
                                assert_eq!(short.fault.cause(), Cause::NotResident, "{case:?}");
                                assert_eq!(short.fault.address(), Some(read.as_ptr().addr() + start + short.done));
                            }
                            proven.map_or_else(|short| short.done, |()| len)
                        }
                    };
                    assert_eq!(done, stay * page_size() - start, "{case:?}");
                    assert_eq!(read.read(&mut vec![0; done], start), Ok(()), "{case:?}");
                }
            }
        }
    }
}

#[test]
fn ranges_come_and_go_while_others_are_asked() {
    let pages: Vec<_> = (0..4).map(|_| Arc::new(Pages::new(PAGES))).collect();
    std::thread::scope(|scope| {
        for pages in &pages {
            scope.spawn(move || {
                for _ in 0..500 {
                    let opens = Opens::new(pages, false);
                    let served = served(pages, opens.clone());
                    assert!(views(pages).0.fault_in(0, NonZeroUsize::MIN).is_ok());
                    assert_eq!(opens.asked.load(SeqCst), 1);
                    drop(served);
                    assert_eq!(Arc::strong_count(&opens), 1, "nobody has it any more");
                    pages.protect(0, libc::PROT_NONE);
                }
            });
        }
    });
}

/// Runs `body` in a separate process, as the test of this name. Returns its exit status; a hang is killed, and fails.
fn in_child(test: &str, body: impl FnOnce()) -> Option<ExitStatus> {
    const CHILD: &str = "FAULTIN_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        body();
        return None;
    }
    let mut command = faultin_test::processes::run(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(CHILD, "1").stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            faultin_test::assert_ran(status, &said);
            return Some(status);
        }
        if start.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{test} hangs");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn succeeds(test: &str, body: impl FnOnce()) {
    let status = in_child(test, body);
    assert!(status.is_none_or(|status| status.success()), "{status:?}");
}

/// Takes a lock in `fault_in`, and drops a value given to it.
#[derive(Default)]
struct Locks {
    lock: Mutex<()>,
    inside: AtomicBool,
    own: Mutex<Option<Registration>>,
}

// SAFETY: it does nothing in a signal handler.
unsafe impl Pager for Locks {
    fn fault_in(&self, address: usize, _: usize, access: Access) -> Result<(), Fault> {
        self.inside.store(true, SeqCst);
        drop(self.lock.lock().unwrap());
        drop(self.own.lock().unwrap().take());
        Err(Fault::rejected(access, Cause::Backing, address))
    }
}

impl Locks {
    fn wait_until_inside(&self) {
        while !self.inside.load(SeqCst) {
            thread::yield_now();
        }
    }
}

#[test]
fn dropping_a_range_does_not_wait_for_a_thread_that_waits_for_this_one() {
    succeeds("dropping_a_range_does_not_wait_for_a_thread_that_waits_for_this_one", || {
        let pages = Arc::new(Pages::new(PAGES));
        let locks = Arc::new(Locks::default());
        let served = served(&pages, locks.clone());
        thread::scope(|scope| {
            let held = locks.lock.lock().unwrap();
            let other = scope.spawn(|| views(&pages).0.fault_in(0, NonZeroUsize::MIN).unwrap_err().cause());
            locks.wait_until_inside();
            drop(served);
            assert_eq!(Arc::strong_count(&locks), 2, "the other thread is within it");
            // The range is unregistered nevertheless.
            assert_eq!(views(&pages).0.fault_in(0, NonZeroUsize::MIN).unwrap_err().cause(), Cause::Protection);
            drop(held);
            assert_eq!(other.join().unwrap(), Cause::Backing);
        });
        assert_eq!(Arc::strong_count(&locks), 1, "the last one has freed it");
    });
}

#[test]
fn a_pager_may_drop_its_own_range() {
    succeeds("a_pager_may_drop_its_own_range", || {
        let pages = Arc::new(Pages::new(PAGES));
        let locks = Arc::new(Locks::default());
        *locks.own.lock().unwrap() = Some(served(&pages, locks.clone()));
        assert_eq!(views(&pages).0.fault_in(0, NonZeroUsize::MIN).unwrap_err().cause(), Cause::Backing);
        assert_eq!(Arc::strong_count(&locks), 1);
        assert_eq!(views(&pages).0.fault_in(0, NonZeroUsize::MIN).unwrap_err().cause(), Cause::Protection);
    });
}

#[test]
fn a_child_of_fork_drops_a_range_that_a_thread_of_its_parent_is_within() {
    succeeds("a_child_of_fork_drops_a_range_that_a_thread_of_its_parent_is_within", || {
        let pages = Arc::new(Pages::new(PAGES));
        let locks = Arc::new(Locks::default());
        let mut parents = Some(served(&pages, locks.clone()));
        thread::scope(|scope| {
            let held = locks.lock.lock().unwrap();
            scope.spawn(|| views(&pages).0.fault_in(0, NonZeroUsize::MIN));
            locks.wait_until_inside();
            // SAFETY: the child uses atomic variables and allocates, which the C library allows, and exits.
            match unsafe { libc::fork() } {
                0 => {
                    // SAFETY: ends a child that hangs.
                    unsafe { libc::alarm(60) };
                    drop(parents.take());
                    // Entries in use by the parent's threads are not reused: the child's own pager is dropped in time.
                    let opens = Opens::new(&pages, false);
                    drop(served(&pages, opens.clone()));
                    let code = i32::from(Arc::strong_count(&opens) != 1);
                    // SAFETY: as above.
                    unsafe { libc::_exit(code) };
                }
                child => {
                    let mut status = 0;
                    // SAFETY: a local value.
                    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                    assert_eq!(status, 0, "the child");
                }
            }
            drop(held);
        });
        drop(parents);
        assert_eq!(Arc::strong_count(&locks), 1);
    });
}

/// Blocks in the signal handler until it is released.
struct Waits {
    opens: Arc<Opens>,
    inside: AtomicBool,
    go: AtomicBool,
}

// SAFETY: in a signal handler it loads atomic variables, and makes one system call.
unsafe impl Pager for Waits {
    fn fault_in(&self, address: usize, len: usize, access: Access) -> Result<(), Fault> {
        self.opens.fault_in(address, len, access)
    }

    fn in_signal(&self, address: usize, access: Option<Access>, interrupted: &SignalContext) -> bool {
        self.inside.store(true, SeqCst);
        while !self.go.load(SeqCst) {
            std::hint::spin_loop();
        }
        self.opens.in_signal(address, access, interrupted)
    }
}

#[test]
fn what_a_signal_was_the_last_to_leave_is_freed_when_the_next_range_goes() {
    succeeds("what_a_signal_was_the_last_to_leave_is_freed_when_the_next_range_goes", || {
        let pages = Arc::new(Pages::new(PAGES));
        let waits = Arc::new(Waits { opens: Opens::new(&pages, false), inside: false.into(), go: false.into() });
        let served = served(&pages, waits.clone());
        thread::scope(|scope| {
            // SAFETY: a page of the test, whose fault is resolved.
            let other = scope.spawn(|| unsafe { pages.base.read_volatile() });
            while !waits.inside.load(SeqCst) {
                thread::yield_now();
            }
            drop(served);
            waits.go.store(true, SeqCst);
            assert_eq!(other.join().unwrap(), 0);
        });
        assert_eq!(Arc::strong_count(&waits), 2, "nothing is freed in a signal");
        assert!(views(&pages).0.fault_in(page_size(), NonZeroUsize::MIN).is_err());
        let others = Arc::new(Pages::new(PAGES));
        let next = self::served(&others, Opens::new(&others, false));
        assert!(views(&others).0.fault_in(0, NonZeroUsize::MIN).is_ok());
        assert_eq!(Arc::strong_count(&waits), 2, "nor in an access, whose thread may hold locks");
        drop(next);
        assert_eq!(Arc::strong_count(&waits), 1);
    });
}

/// Panics in each of its methods.
#[derive(Default)]
struct Panics {
    expects: bool,
}

// SAFETY: only the test of how the process then ends calls it in a signal handler.
unsafe impl Pager for Panics {
    fn fault_in(&self, _: usize, _: usize, _: Access) -> Result<(), Fault> {
        panic!("fault_in")
    }

    fn would_fault(&self, _: usize, _: Access) -> bool {
        assert!(!self.expects, "would_fault");
        false
    }

    fn in_signal(&self, _: usize, _: Option<Access>, _: &SignalContext) -> bool {
        panic!("in_signal")
    }
}

#[test]
fn a_panic_of_a_pager_goes_on_to_who_has_asked_and_leaves_nothing_behind() {
    succeeds("a_panic_of_a_pager_goes_on_to_who_has_asked_and_leaves_nothing_behind", || {
        for (expects, message) in [(false, "fault_in"), (true, "would_fault")] {
            let pages = Arc::new(Pages::new(PAGES));
            let panics = Arc::new(Panics { expects });
            let served = served(&pages, panics.clone());
            let result = catch_unwind(AssertUnwindSafe(|| views(&pages).0.fault_in(0, NonZeroUsize::MIN)));
            let panic = result.unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&message));
            drop(served);
            assert_eq!(Arc::strong_count(&panics), 1, "nobody is within it");
        }
    });
}

#[test]
fn a_panic_in_a_signal_ends_the_process_at_once() {
    let test = "a_panic_in_a_signal_ends_the_process_at_once";
    let status = in_child(test, || {
        let pages = Arc::new(Pages::new(PAGES));
        let _served = served(&pages, Arc::new(Panics::default()));
        // The standard library's hook formats and allocates; and unwinding needs more than the 8 KiB of Rust's alternate
        // stacks if registers are wide and a function of the loader saves them.
        std::panic::set_hook(Box::new(|_| ()));
        let mut room = vec![0_u8; 256 << 10];
        let stack = libc::stack_t { ss_sp: room.as_mut_ptr().cast(), ss_flags: 0, ss_size: room.len() };
        // SAFETY: the memory is valid until the process exits.
        assert_eq!(unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) }, 0);
        // SAFETY: a page of the test, whose fault is resolved.
        let byte = catch_unwind(|| unsafe { pages.base.read_volatile() });
        // SAFETY: exits the process, so that the parent sees the result.
        unsafe { libc::_exit(if byte.is_ok() { 1 } else { 2 }) };
    });
    assert_eq!(status.and_then(|status| status.signal()), Some(libc::SIGABRT), "{status:?}");
}
