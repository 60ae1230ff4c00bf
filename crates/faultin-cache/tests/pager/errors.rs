//! Stores that fail, hang and panic behind a mapping, and signals for code that does not use this library's copies.

use std::io;
use std::num::NonZeroUsize;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use faultin::map::Rights;
use faultin::{Cause, page_size};
use faultin_cache::pager::Mode;
use faultin_cache::store::{MemoryStore, Store};
use faultin_cache::{Cache, CachedFile, Error};

use crate::common::watchdog;
use crate::modes::{load, map, pattern, store};
use faultin_test::processes;

/// A store that fails while a flag is set.
struct FailingStore {
    memory: MemoryStore,
    fails: AtomicBool,
    panics: AtomicBool,
}

impl FailingStore {
    fn mood(&self) -> io::Result<()> {
        assert!(!self.panics.load(SeqCst), "the store panics");
        if self.fails.load(SeqCst) { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

impl Store for FailingStore {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.mood()?;
        self.memory.read_at(buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.mood()?;
        self.memory.write_at(buf, pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

fn failing_store() -> (Arc<FailingStore>, Cache, CachedFile) {
    watchdog::start();
    let memory = MemoryStore::new(pattern(16 * page_size()));
    let failing = Arc::new(FailingStore { memory, fails: false.into(), panics: false.into() });
    let cache = Cache::new();
    let file = cache.open(Arc::clone(&failing)).unwrap();
    (failing, cache, file)
}

#[test]
fn an_error_of_the_store_is_a_reason_and_heals_when_the_store_does() {
    let page = page_size();
    for mode in Mode::ALL {
        let (failing, cache, file) = failing_store();
        let Some(mapping) = map(&file, mode, 16 * page as u64) else { continue };
        let view = mapping.read_view().unwrap();
        assert_eq!(load(&mapping, 0), 1);
        failing.fails.store(true, SeqCst);
        for _ in 0..3 {
            let fault = view.fault_in(5 * page, NonZeroUsize::MIN).unwrap_err();
            assert_eq!((fault.cause(), fault.errno()), (Cause::Backing, libc::EFAULT), "{mode:?}");
            assert!(view.read(&mut [0], 5 * page).is_err());
        }
        assert!(matches!(mapping.last_error(), Some(Error::Store(error)) if error.raw_os_error() == Some(libc::EIO)));
        assert_eq!(load(&mapping, 0), 1, "what is there stays");
        failing.fails.store(false, SeqCst);
        assert_eq!(load(&mapping, 5 * page), pattern(16 * page)[5 * page], "{mode:?}: served to any code again");
        // It cannot be written: it stays dirty, and its bytes stay in the mapping.
        store(&mapping, 3, 9);
        failing.fails.store(true, SeqCst);
        assert!(file.sync_all().is_err());
        cache.drop_clean();
        assert_eq!((load(&mapping, 3), file.dirty()), (9, page as u64));
        store(&mapping, 4, 8);
        failing.fails.store(false, SeqCst);
        file.sync_all().unwrap();
        assert_eq!(failing.memory.contents()[3..5], [9, 8]);
    }
}

#[test]
fn a_store_that_panics_is_one_that_fails() {
    let page = page_size();
    for mode in Mode::ALL {
        let (failing, _cache, file) = failing_store();
        let Some(mapping) = map(&file, mode, 16 * page as u64) else { continue };
        failing.panics.store(true, SeqCst);
        let view = mapping.read_view().unwrap();
        let fault = view.fault_in(page, NonZeroUsize::MIN).unwrap_err();
        assert_eq!(fault.cause(), Cause::Backing, "{mode:?}");
        failing.panics.store(false, SeqCst);
        assert_eq!(load(&mapping, page), pattern(2 * page)[page], "{mode:?}");
    }
}

/// A store whose reads block until they are released.
struct Hangs {
    memory: MemoryStore,
    waits: std::sync::Mutex<Sender<()>>,
    goes_on: std::sync::Mutex<Receiver<()>>,
}

impl Store for Hangs {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let _ = self.waits.lock().unwrap().send(());
        let _ = self.goes_on.lock().unwrap().recv();
        self.memory.read_at(buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.memory.write_at(buf, pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_store_that_hangs_keeps_no_other_file_waiting() {
    let page = page_size();
    for mode in Mode::ALL {
        let (_store, cache, file) = failing_store();
        let (waits, waiting) = channel();
        let (go_on, goes_on) = channel();
        let hangs = Hangs { memory: MemoryStore::new([7; 100]), waits: waits.into(), goes_on: goes_on.into() };
        let other = cache.open(hangs).unwrap();
        let (Some(mapping), Some(hanging)) = (map(&file, mode, 16 * page as u64), map(&other, mode, 100)) else {
            continue;
        };
        thread::scope(|scope| {
            let reader = scope.spawn(|| load(&hanging, 1));
            waiting.recv().unwrap();
            for index in 0..16 {
                assert_eq!(load(&mapping, index * page), pattern(16 * page)[index * page]);
                store(&mapping, index * page, 1);
            }
            file.sync_all().unwrap();
            assert!(!reader.is_finished());
            drop(go_on);
            assert_eq!(reader.join().unwrap(), 7, "{mode:?}");
        });
    }
}

/// Two stores to the same page: resolving the first fault wakes both threads. If the second one's message were handled
/// afterwards, it would dirty a page that is no longer stored to, and that may have been written back in between.
#[test]
fn who_was_woken_is_not_served_again() {
    let page = page_size();
    watchdog::start();
    let (waits, waiting) = channel();
    let (go_on, goes_on) = channel();
    let memory = MemoryStore::new(pattern(32 * page));
    let file = Cache::new().open(Hangs { memory, waits: waits.into(), goes_on: goes_on.into() }).unwrap();
    let Some(mapping) = map(&file, Mode::Thread, 32 * page as u64) else { return };
    thread::scope(|scope| {
        let first = scope.spawn(|| load(&mapping, 4 * page));
        // The pager's thread is busy.
        waiting.recv().unwrap();
        let (tell, told) = channel();
        for byte in [1, 2] {
            let (mapping, tell) = (&mapping, tell.clone());
            scope.spawn(move || {
                tell.send(rustix::thread::gettid()).unwrap();
                store(mapping, 8 * page, byte);
            });
        }
        for thread in [told.recv().unwrap(), told.recv().unwrap()] {
            let stat = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
            let sleeps = || std::fs::read_to_string(&stat).unwrap().rsplit(')').next().unwrap().starts_with(" S");
            while !sleeps() {
                thread::yield_now();
            }
        }
        // Both wait; the porter thread reads their messages soon, if it has not yet.
        thread::sleep(std::time::Duration::from_millis(50));
        drop(go_on);
        assert_eq!(first.join().unwrap(), pattern(5 * page)[4 * page]);
    });
    // Resolved after all earlier messages.
    load(&mapping, 20 * page);
    assert_eq!(mapping.fault_counts().by_thread, 3);
    file.sync_all().unwrap();
    assert_eq!(file.dirty(), 0);
}

const CHILD: &str = "FAULTIN_PAGER_CHILD";

/// In a separate process: an ordinary instruction on a page that is not available.
#[test]
fn who_does_not_use_our_copies_gets_a_signal() {
    if let Ok(child) = std::env::var(CHILD) {
        let (mode, why) = child.split_once(' ').unwrap();
        let mode = Mode::ALL.into_iter().find(|known| format!("{known:?}") == mode).unwrap();
        let (failing, _cache, file) = failing_store();
        let range = if why == "end" { 0..64 * page_size() as u64 } else { 0..16 * page_size() as u64 };
        let protection = if why == "protection" { Rights::Read } else { Rights::ReadWrite };
        let mapping = file.map(range, protection, mode).unwrap();
        failing.fails.store(why == "store", SeqCst);
        load(&mapping, if why == "end" { 20 * page_size() } else { page_size() });
        // The page is readable by now. On CPUs that do not report the kind of access, a store counts as a load for some
        // time.
        store(&mapping, page_size(), 1);
        unreachable!("nothing was there");
    }
    for mode in Mode::ALL {
        let (_store, _cache, file) = failing_store();
        if map(&file, mode, 1).is_none() {
            continue;
        }
        for why in ["store", "end", "protection"] {
            let mut child = processes::run(std::env::current_exe().unwrap());
            child.args(["--exact", "errors::who_does_not_use_our_copies_gets_a_signal"]);
            let output = child.env(CHILD, format!("{mode:?} {why}")).output().unwrap();
            let status = output.status;
            faultin_test::assert_ran(status, &String::from_utf8_lossy(&output.stdout));
            // The kernel itself refuses stores without write permission.
            let is_segv = mode == Mode::Mprotect || why == "protection";
            let signal = if is_segv { libc::SIGSEGV } else { libc::SIGBUS };
            assert_eq!(status.signal(), Some(signal), "{mode:?}, {why}: {status}");
        }
    }
}
