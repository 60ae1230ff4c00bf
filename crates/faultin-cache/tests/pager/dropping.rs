//! Mappings that are dropped while one of their faults is being resolved: nothing waits for it.

use std::cell::RefCell;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use faultin::iov::IovSource;
use faultin::{ReadView, Short, page_size};
use faultin_cache::copy::MayWait;
use faultin_cache::pager::{Mapping, Mode};
use faultin_cache::store::{MemoryStore, Store};
use faultin_cache::write::Observer;
use faultin_cache::{Cache, FileOptions};

use crate::common::watchdog;
use crate::modes::{each, map};

/// The whole mapping, for a thread that uses it after it was dropped.
fn view(mapping: &Mapping) -> ReadView<'static> {
    // SAFETY: the addresses may be unmapped. They are not used after the test, nor reused while it runs: the mapping exists
    // until the thread has left its pager.
    unsafe { ReadView::new(mapping.as_ptr(), mapping.len()).unwrap() }
}

/// Drops a mapping while the inode lock is held.
struct Drops<'a> {
    mapping: &'a RefCell<Option<Mapping>>,
    waits: &'a AtomicBool,
}

impl Observer for Drops<'_> {
    fn copied(&mut self, _: usize, _: &Result<usize, Short>) {
        let Some(mapping) = self.mapping.take() else { return };
        self.waits.store(true, Ordering::SeqCst);
        // Until the other thread waits for the lock. If it does not yet, the test only checks less.
        thread::sleep(Duration::from_millis(100));
        drop(mapping);
    }
}

#[test]
fn a_thread_that_has_the_lock_drops_a_mapping_whose_pager_waits_for_it() {
    let bytes = vec![7; 4 * page_size()];
    each(&bytes, |_, file, _, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        let (view, waits) = (view(&mapping), AtomicBool::new(false));
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                while !waits.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                // Either result is possible: the mapping exists, or no longer.
                let _ = view.fault_in(0, NonZeroUsize::MIN);
            });
            let mapping = RefCell::new(Some(mapping));
            let mut observer = Drops { mapping: &mapping, waits: &waits };
            let mut from = IovSource::<ReadView<'_>>::one(&[9; 3][..]);
            assert_eq!(file.write_iter_with::<_, MayWait>(&mut from, 0, &mut observer).unwrap(), 3);
            other.join().unwrap();
        });
        let mut is = [0; 4];
        file.read_at(&mut is, 0).unwrap();
        assert_eq!(is, [9, 9, 9, 7]);
    });
}

/// Blocks reads while its lock is held.
struct Hangs {
    bytes: MemoryStore,
    lock: Mutex<()>,
    reads: AtomicBool,
}

impl Store for Hangs {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.reads.store(true, Ordering::SeqCst);
        drop(self.lock.lock().unwrap());
        self.bytes.read_at(buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.bytes.write_at(buf, pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.bytes.sync(data_only)
    }
}

#[test]
fn a_child_of_fork_drops_a_mapping_that_its_parent_is_serving() {
    watchdog::start();
    let cache = Cache::new();
    let bytes = vec![7; page_size()];
    let store = Arc::new(Hangs { bytes: MemoryStore::new(&bytes[..]), lock: Mutex::new(()), reads: false.into() });
    let file = cache.open_with(Arc::clone(&store), FileOptions::new()).unwrap();
    let mapping = map(&file, Mode::Mprotect, bytes.len() as u64).unwrap();
    let view = view(&mapping);
    let mut mapping = Some(mapping);
    thread::scope(|scope| {
        let hangs = store.lock.lock().unwrap();
        let other = scope.spawn(move || view.fault_in(0, NonZeroUsize::MIN));
        while !store.reads.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        // SAFETY: the child drops the mapping, which must not need its parent's threads, and exits.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: ends a child that hangs.
                unsafe { libc::alarm(60) };
                drop(mapping.take());
                // SAFETY: exits the child without destructors.
                unsafe { libc::_exit(0) };
            }
            child => {
                let mut status = 0;
                // SAFETY: a local value.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0, "the child");
            }
        }
        drop(hangs);
        assert_eq!(other.join().unwrap(), Ok(NonZeroUsize::MIN), "the parent's goes on");
    });
}
