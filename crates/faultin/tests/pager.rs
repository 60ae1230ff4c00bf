//! Ranges whose faults the process serves itself: who is asked, when, and what becomes of it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use faultin::pager::{Pager, serve};
use faultin::{Access, Cause, Fault, Granularity, ReadView, WriteView, page_size};

/// Pages that are inaccessible until their pager is asked.
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
        // SAFETY: a page of our own.
        let done = unsafe { libc::mprotect(self.base.add(index * page_size()).cast(), page_size(), protection) };
        assert_eq!(done, 0);
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.base.addr()..self.base.addr() + self.pages * page_size()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.base.cast(), self.pages * page_size()) };
    }
}

/// Opens pages as it is asked to; the last one never.
struct Opens {
    pages: Arc<Pages>,
    asked: AtomicUsize,
    /// Asked in a signal.
    interrupted: AtomicUsize,
    /// Says that it has, and has not.
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

impl Pager for Opens {
    fn fault_in(&self, address: usize, _: usize, access: Access) -> Result<(), Fault> {
        self.asked.fetch_add(1, SeqCst);
        if self.open(address, access) { Ok(()) } else { Err(Fault::refused(access, Cause::Backing, address)) }
    }

    fn in_signal(&self, address: usize, access: Option<Access>) -> bool {
        self.interrupted.fetch_add(1, SeqCst);
        self.open(address, access.unwrap_or(Access::Write))
    }
}

fn views(pages: &Pages) -> (ReadView<'_>, WriteView<'_>) {
    let len = pages.pages * page_size();
    // SAFETY: the range is `pages`', which outlives the views.
    unsafe { (ReadView::new(pages.base, len).unwrap(), WriteView::new(pages.base, len).unwrap()) }
}

const PAGES: usize = 4;

#[test]
fn a_copy_comes_back_short_and_fault_in_asks_the_pager() {
    let pages = Arc::new(Pages::new(PAGES));
    let opens = Opens::new(&pages, false);
    let _served = serve(pages.range(), opens.clone()).unwrap();
    let (read, write) = views(&pages);
    let mut buffer = vec![1; 2 * page_size()];
    let short = read.read(0, &mut buffer).unwrap_err();
    assert_eq!((short.done, opens.asked.load(SeqCst)), (0, 0), "never inside a copy");
    // Three pages of four, the last one fails.
    let whole = NonZeroUsize::new(PAGES * page_size()).unwrap();
    assert_eq!(read.fault_in(0, whole).map(NonZeroUsize::get), Ok(3 * page_size()));
    assert_eq!(opens.asked.load(SeqCst), PAGES);
    assert_eq!(read.read(0, &mut buffer), Ok(()));
    assert!(buffer.iter().all(|&byte| byte == 0));
    // What can be read can not be written yet.
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
    let _served = serve(pages.range(), opens.clone()).unwrap();
    let (read, write) = views(&pages);
    let short = read.probe(0, PAGES * page_size(), Granularity::Page).unwrap_err();
    assert_eq!((short.done, short.fault.cause()), (3 * page_size(), Cause::Backing));
    assert_eq!(write.probe(page_size(), page_size(), Granularity::Line), Ok(()));
}

#[test]
fn others_instructions_are_served_in_the_signal() {
    let pages = Arc::new(Pages::new(PAGES));
    let opens = Opens::new(&pages, false);
    let served = serve(pages.range(), opens.clone()).unwrap();
    for index in 0..PAGES - 1 {
        // SAFETY: pages of our own, whose faults are served.
        unsafe {
            let at = pages.base.add(index * page_size() + index);
            assert_eq!(at.read_volatile(), 0);
            at.write_volatile(9);
            assert_eq!(at.read_volatile(), 9);
        }
    }
    let asked = opens.interrupted.load(SeqCst);
    // Where the CPU tells nobody what the access was, it is taken for a store.
    let is_told = cfg!(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)));
    assert_eq!(asked, if is_told { 2 * (PAGES - 1) } else { PAGES - 1 });
    assert_eq!(opens.asked.load(SeqCst), 0);
    drop(served);
    // Nobody serves it any more.
    pages.protect(0, libc::PROT_NONE);
    assert!(views(&pages).0.fault_in(0, NonZeroUsize::MIN).is_err());
    assert_eq!(opens.asked.load(SeqCst), 0);
}

#[test]
fn a_pager_that_lies_is_asked_a_bounded_number_of_times() {
    let pages = Arc::new(Pages::new(PAGES));
    let lies = Opens::new(&pages, true);
    let _served = serve(pages.range(), lies.clone()).unwrap();
    let fault = views(&pages).0.fault_in(0, NonZeroUsize::MIN).unwrap_err();
    assert_eq!(fault.cause(), Cause::Protection);
    assert_eq!(lies.asked.load(SeqCst), 64);
}

/// Says of each access that it would fault, and of the last page that nothing can be done.
struct Expects(Arc<Opens>);

impl Pager for Expects {
    fn fault_in(&self, address: usize, len: usize, access: Access) -> Result<(), Fault> {
        self.0.fault_in(address, len, access)
    }

    fn would_fault(&self, _: usize, _: Access) -> bool {
        true
    }
}

#[test]
fn a_pager_that_expects_a_fault_is_asked_without_one() {
    let pages = Arc::new(Pages::new(PAGES));
    let opens = Opens::new(&pages, false);
    let _served = serve(pages.range(), Arc::new(Expects(opens.clone()))).unwrap();
    let (read, write) = views(&pages);
    (0..PAGES).for_each(|index| pages.protect(index, libc::PROT_READ | libc::PROT_WRITE));
    // All is accessible, so a touch would not have asked. What lies behind the first page is only touched.
    let whole = NonZeroUsize::new(PAGES * page_size()).unwrap();
    assert_eq!(read.fault_in(0, whole), Ok(whole));
    assert_eq!(opens.asked.load(SeqCst), 1);
    assert_eq!(write.fault_in(page_size(), NonZeroUsize::MIN), Ok(NonZeroUsize::MIN));
    assert_eq!(opens.asked.load(SeqCst), 2);
    // What it refuses is refused, with its reason.
    let fault = read.fault_in((PAGES - 1) * page_size() + 3, NonZeroUsize::MIN).unwrap_err();
    let last = pages.base.addr() + (PAGES - 1) * page_size();
    assert_eq!((fault.cause(), fault.address()), (Cause::Backing, Some(last + 3)));
}

#[test]
fn ranges_come_and_go_while_others_are_asked() {
    let pages: Vec<_> = (0..4).map(|_| Arc::new(Pages::new(PAGES))).collect();
    std::thread::scope(|scope| {
        for pages in &pages {
            scope.spawn(move || {
                for _ in 0..500 {
                    let opens = Opens::new(pages, false);
                    let served = serve(pages.range(), opens.clone()).unwrap();
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
