//! How faults are resolved, and the results of system calls, children and invalid requests.

use std::io::Write;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;

use faultin::map::Rights;
use faultin::{Cause, page_size};
use faultin_cache::pager::{AttachError, Mapping, Mode};
use faultin_cache::store::MemoryStore;
use faultin_cache::{Cache, CacheOptions};

use crate::modes::{Home, each, each_within, load, map, pattern, store};

#[test]
fn faults_are_served_by_who_can() {
    let page = page_size();
    let bytes = pattern(32 * page);
    each(&bytes, |_, file, home, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        let order = [9, 3, 20, 1, 30, 12, 5, 25];
        for index in order {
            assert_eq!(load(&mapping, index * page), bytes[index * page]);
        }
        let faulted = mapping.fault_counts();
        let all = order.len() as u64;
        match (home, mode) {
            (_, Mode::Thread) | (Home::Memory(_), _) => {
                assert_eq!((faulted.in_signal, faulted.by_thread), (0, all), "{mode:?}");
            }
            // The first fault needs space in the file's tables, which the pager's thread allocates.
            (Home::File(_), _) => assert_eq!((faulted.in_signal, faulted.by_thread), (all - 1, 1), "{mode:?}"),
        }
        let view = mapping.read_view().unwrap();
        assert!(view.fault_in(15 * page, NonZeroUsize::new(2 * page).unwrap()).is_ok());
        let after = mapping.fault_counts();
        assert_eq!(after.rejected, 0);
        if mode != Mode::Thread {
            assert!(after.by_call > 0, "{after:?}");
            assert_eq!((after.in_signal, after.by_thread), (faulted.in_signal, faulted.by_thread));
        }
    });
}

#[test]
fn who_reads_on_gets_more_at_once() {
    let page = page_size();
    let bytes = pattern(60 * page);
    each(&bytes, |_, file, _, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        assert!((0..60).all(|index| load(&mapping, index * page) == bytes[index * page]));
        let faulted = mapping.fault_counts();
        let faults = faulted.in_signal + faulted.by_thread;
        assert!((2..20).contains(&faults), "{mode:?}: {faulted:?}");
    });
}

/// Writes the first bytes of a page of the mapping to a file, as ordinary programs do.
fn write_from(mapping: &Mapping, at: usize) -> Result<usize, i32> {
    let file = tempfile::tempfile().unwrap();
    // SAFETY: the kernel copies within the mapping, or fails.
    let written = unsafe { libc::write(file.as_raw_fd(), mapping.as_ptr().add(at).cast(), 10) };
    usize::try_from(written).map_err(|_| std::io::Error::last_os_error().raw_os_error().unwrap())
}

#[test]
fn system_calls_get_what_the_mode_promises() {
    let page = page_size();
    let bytes = pattern(16 * page);
    each(&bytes, |_, file, _, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        let expected = if mode == Mode::Thread { Ok(10) } else { Err(libc::EFAULT) };
        assert_eq!(write_from(&mapping, 7 * page), expected, "{mode:?}");
        let view = mapping.read_view().unwrap();
        view.fault_in(7 * page, NonZeroUsize::MIN).unwrap();
        assert_eq!(write_from(&mapping, 7 * page), Ok(10), "{mode:?}");
        // And a system call that stores to a page that is still write-protected.
        let input = tempfile::tempfile().unwrap();
        (&input).write_all(&[5; 10]).unwrap();
        // SAFETY: as above.
        let read = unsafe { libc::pread(input.as_raw_fd(), mapping.as_ptr().add(7 * page).cast(), 10, 0) };
        assert_eq!(read == 10, mode == Mode::Thread, "{mode:?}");
        let mut now = [0; 10];
        file.read_at(&mut now, 7 * page as u64).unwrap();
        assert_eq!(now == [5; 10], mode == Mode::Thread, "{mode:?}");
    });
}

#[test]
fn a_child_has_no_mapping() {
    if faultin_test::is_emulated() {
        return faultin_test::skipped("native", "emulators of user mode ignore MADV_DONTFORK");
    }
    let page = page_size();
    let bytes = pattern(4 * page);
    each(&bytes, |_, file, _, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        store(&mapping, 1, 2);
        let at = mapping.as_ptr();
        // SAFETY: the child makes one system call, and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mut resident = 0;
            // SAFETY: as above.
            unsafe {
                let mapped = libc::mincore(at.cast(), page, &raw mut resident) == 0;
                libc::_exit(i32::from(mapped));
            }
        }
        let mut status = -1;
        // SAFETY: a child of this process.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "{mode:?}");
        assert_eq!(load(&mapping, 1), 2);
    });
}

#[test]
fn a_mapping_for_reading_is_not_stored_to() {
    let page = page_size();
    let bytes = pattern(4 * page);
    each(&bytes, |_, file, _, mode| {
        let mapping = file.map(0..bytes.len() as u64, Rights::Read, mode).unwrap();
        let view = mapping.write_view().unwrap();
        let fault = view.fault_in(page, NonZeroUsize::MIN).unwrap_err();
        assert_eq!(fault.cause(), Cause::Protection, "{mode:?}");
        assert!(view.store(page, 1_u8).is_err());
        assert_eq!((load(&mapping, page), file.dirty()), (bytes[page], 0));
        assert!(view.store(page, 1_u8).is_err(), "also where it can be read");
        assert_eq!(file.dirty(), 0);
    });
}

#[test]
fn requests_that_make_no_sense_say_so() {
    let page = page_size() as u64;
    let file = Cache::new().open(MemoryStore::new([])).unwrap();
    let refused = |range: std::ops::Range<u64>| file.map(range, Rights::Read, Mode::Mprotect).unwrap_err();
    assert!(matches!(refused(page / 2..page), AttachError::Start { .. }));
    assert!(refused(1..page).to_string().contains("is no multiple of"));
    assert!(matches!(refused(page..page), AttachError::Range { .. }));
    assert!(refused(page..page).to_string().contains("has no bytes to map"));
    assert!(matches!(refused(0..u64::MAX), AttachError::Range { .. }));
    assert!(matches!(refused(2 * page..page), AttachError::Range { .. }));
    assert!(matches!(refused(0..1 << 62), AttachError::Memory(_)));
    let small = CacheOptions::new().block(512).build().open(MemoryStore::new([])).unwrap();
    let error = small.map(0..page, Rights::Read, Mode::Mprotect).unwrap_err();
    assert!(error.to_string().contains("use CacheOptions::block("), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidInput);
    // The file is still usable.
    file.append(b"abc").unwrap();
    let mapping = file.map(0..3, Rights::Read, Mode::Mprotect).unwrap();
    assert_eq!((load(&mapping, 2), mapping.len() as u64), (b'c', page));
}

#[test]
fn a_mapping_of_what_is_not_there_yet() {
    let page = page_size();
    each(&[], |_, file, _, mode| {
        let mapping = file.map(5 * page as u64..9 * page as u64, Rights::ReadWrite, mode).unwrap();
        let view = mapping.write_view().unwrap();
        assert_eq!(view.fault_in(0, NonZeroUsize::MIN).unwrap_err().cause(), Cause::Backing);
        file.write_at(b"here", 6 * page as u64).unwrap();
        assert_eq!((load(&mapping, 0), load(&mapping, page)), (0, b'h'));
        assert_eq!(view.fault_in(2 * page, NonZeroUsize::MIN).unwrap_err().cause(), Cause::Backing, "{mode:?}");
        store(&mapping, page + 3, b'o');
        let mut read = [0; 4];
        file.read_at(&mut read, 6 * page as u64).unwrap();
        assert_eq!(&read, b"hero");
    });
}

#[test]
fn more_mappings_than_memory_show_each_store_and_give_their_descriptors_back() {
    let page = page_size();
    let bytes = pattern(128 * page);
    each(&bytes, |cache, file, _, mode| {
        let mappings: Vec<_> = (0..100).map(|_| map(file, mode, bytes.len() as u64).unwrap()).collect();
        for (index, mapping) in mappings.iter().enumerate() {
            let at = index * page + index;
            store(mapping, at, 0xaa);
            assert_eq!(load(&mappings[99 - index], at), 0xaa, "{mode:?}");
            assert!(cache.used() <= cache.limit() + 2 * page);
        }
    });
    let descriptors = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let before = descriptors();
    let file = Cache::new().open(MemoryStore::new(&bytes[..])).unwrap();
    for _ in 0..50 {
        drop(map(&file, Mode::Mprotect, page as u64));
        drop(file.map(0..page as u64, Rights::Read, Mode::Signal));
    }
    let mut nothing_left = 0;
    // Other tests have some, too.
    while descriptors() > before + 40 && nothing_left < 100 {
        nothing_left += 1;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(nothing_left < 100, "{} descriptors, {before} before", descriptors());
}

/// The kernel may drop page table entries for lack of memory, any number of times.
#[test]
fn what_the_kernel_forgets_is_told_again() {
    let page = page_size();
    let bytes = pattern(4 * page);
    each(&bytes, |_, file, _, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        store(&mapping, page, 9);
        let times = if mode == Mode::Thread { 50 } else { 3000 };
        for round in 0..times {
            // SAFETY: a part of a mapping of a file, which keeps its bytes.
            let told = unsafe { libc::madvise(mapping.as_ptr().cast(), 2 * page, libc::MADV_DONTNEED) };
            assert_eq!(told, 0);
            assert_eq!((load(&mapping, 0), load(&mapping, page)), (bytes[0], 9), "{mode:?}, round {round}");
        }
        store(&mapping, page, 10);
        file.sync_all().unwrap();
        let mut now = [0];
        file.read_at(&mut now, page as u64).unwrap();
        assert_eq!(now, [10]);
    });
}

/// One instruction that needs two pages, with memory for one: the second one's fault must not evict the first one
/// repeatedly.
#[test]
fn an_instruction_across_two_pages_where_memory_is_scarce() {
    let page = page_size();
    let bytes = pattern(8 * page);
    each_within(16, &bytes, |cache, file, _, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        // All but one folio is dirty: dirty folios are written back before they are evicted, clean ones are evicted
        // directly.
        let other = cache.open(MemoryStore::new([])).unwrap();
        for index in 0..15 {
            other.write_at(&[1; 8], index * page as u64).unwrap();
        }
        for (round, at) in [3 * page - 4, 6 * page - 1, 3 * page - 4].into_iter().enumerate() {
            // SAFETY: within the mapping, whose faults are resolved.
            let loaded = unsafe { mapping.as_ptr().add(at).cast::<u64>().read_unaligned() };
            assert_eq!(loaded.to_ne_bytes(), bytes[at..at + 8], "{mode:?}, {round}");
        }
    });
}
