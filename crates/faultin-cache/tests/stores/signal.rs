//! No method of a store is called in a signal handler: each may lock, allocate and print.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, ThreadId};

use faultin::map::Rights;
use faultin_cache::pager::{AttachError, Mode};
use faultin_cache::store::{FileStore, Store};
use faultin_cache::{Cache, CacheOptions};
use faultin_test::skipped;

use crate::file_with;

/// Counts the calls made by the creating thread: of `descriptor`, and of the others.
struct Counted {
    store: FileStore,
    thread: ThreadId,
    descriptors: AtomicU32,
    others: AtomicU32,
}

impl Counted {
    fn count(&self, calls: &AtomicU32) {
        if thread::current().id() == self.thread {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn other(&self) -> &FileStore {
        self.count(&self.others);
        &self.store
    }
}

impl Store for Counted {
    fn alignment(&self) -> usize {
        self.other().alignment()
    }

    fn is_fixed(&self) -> bool {
        self.other().is_fixed()
    }

    fn len(&self) -> io::Result<u64> {
        self.other().len()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.count(&self.descriptors);
        self.store.descriptor()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.other().read_at(buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.other().write_at(buf, pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.other().set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.other().sync(data_only)
    }
}

#[test]
fn a_fault_is_served_without_the_store() {
    const PAGES: usize = 64;
    let page = faultin::page_size();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bytes: Vec<u8> = (0..PAGES * page).map(|at| (at / page) as u8).collect();
    for mode in [Mode::Signal, Mode::Mprotect] {
        let store = FileStore::new(file_with(&folder.path().join("file"), &bytes)).unwrap();
        let thread = thread::current().id();
        let store = Arc::new(Counted { store, thread, descriptors: AtomicU32::new(0), others: AtomicU32::new(0) });
        let cache: Cache = CacheOptions::new().build();
        let file = cache.open(Arc::clone(&store)).unwrap();
        let map = || file.map(0..(PAGES * page) as u64, Rights::ReadWrite, mode);
        let (mapping, second) = match (map(), map()) {
            (Ok(first), Ok(second)) => (first, second),
            (Err(AttachError::Mode { error, .. }), _) => {
                skipped("uffd", error);
                continue;
            }
            (first, second) => panic!("{first:?}, {second:?}"),
        };
        assert_eq!(store.descriptors.load(Ordering::Relaxed), 1, "asked once for all mappings");
        let others = store.others.load(Ordering::Relaxed);
        // Backwards, to avoid readahead: the first fault is handed over to the pager's thread. Every other page is stored
        // to.
        for index in (0..PAGES).rev() {
            // SAFETY: within the mapping, whose faults are resolved.
            let byte = unsafe { mapping.as_ptr().add(index * page) };
            // SAFETY: as above.
            assert_eq!(unsafe { byte.read_volatile() }, index as u8);
            if index % 2 == 0 {
                // SAFETY: as above.
                unsafe { byte.write_volatile(0xee) };
            }
        }
        drop(second);
        let faulted = mapping.fault_counts();
        assert!(faulted.in_signal >= PAGES as u64 && faulted.by_thread <= 1, "{mode:?}: {faulted:?}");
        let calls = (store.descriptors.load(Ordering::Relaxed), store.others.load(Ordering::Relaxed));
        assert_eq!(calls, (1, others), "{mode:?}");
    }
}

/// A file that ends before its length: the handler hands over to code that may call the store, which knows the reason.
#[test]
fn a_truncated_store_is_not_zeros_in_a_mapping() {
    let page = faultin::page_size();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("file");
    for mode in Mode::ALL {
        let store = FileStore::new(file_with(&path, &vec![7; 8 * page])).unwrap();
        let file = CacheOptions::new().build().open(store).unwrap();
        let mapping = match file.map(0..8 * page as u64, Rights::Read, mode) {
            Ok(mapping) => mapping,
            Err(AttachError::Mode { error, .. }) => {
                skipped("uffd", error);
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        crate::opened(&path, 0).set_len(3 * page as u64 + 100).unwrap();
        let view = mapping.read_view().unwrap();
        let mut first = vec![0; 3 * page];
        let source = faultin::iov::ReadSegment::Memory(view);
        let mut from = faultin::iov::IovSource::one(source);
        let copied = CacheOptions::new().build().open(faultin_cache::store::MemoryStore::new([])).unwrap();
        let partial = copied.write_iter(&mut from, 0).unwrap_err();
        assert_eq!(partial.done, 3 * page, "{mode:?}: {partial}");
        assert_eq!(copied.read_at(&mut first, 0).unwrap(), 3 * page);
        assert!(first.iter().all(|&byte| byte == 7));
        let says = mapping.last_error().expect("the store's").to_string();
        assert!(says.contains("truncated"), "{says}");
    }
}
