//! Regression tests for bugs that the soak test has found.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use faultin::iov::IovSource;
use faultin::page_size;

use crate::modes::{each, load, map, pattern};

/// Resolving one thread's fault waits for the file's lock. The lock's holder copies from the same mapping, faults, too, and
/// must not wait for the first fault's resolution.
#[test]
fn a_fault_under_the_lock_while_another_one_is_served() {
    const PAGES: usize = 96;
    let page = page_size();
    let bytes = pattern(PAGES * page);
    let rounds = if cfg!(target_arch = "x86_64") { 3000 } else { 60 };
    each(&bytes, |cache, file, home, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        let view = mapping.read_view().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let mapping = &mapping;
            for first in 0..2 {
                let over = &over;
                let bytes = &bytes;
                scope.spawn(move || {
                    for index in (first * 31..).step_by(7).take_while(|_| !over.load(Ordering::Relaxed)) {
                        let at = index % PAGES * page;
                        assert_eq!(load(mapping, at), bytes[at], "{mode:?}");
                    }
                });
            }
            for round in 0..rounds {
                // The same bytes as before, so that nothing changes.
                let at = round * 13 % PAGES * page + 5;
                let source = view.subslice(at..at + 20).unwrap();
                assert_eq!(file.write_iter(&mut IovSource::one(source), at as u64).unwrap(), 20, "{mode:?}");
                if round % 8 == 0 {
                    file.sync_all().unwrap();
                    cache.drop_clean();
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        file.sync_all().unwrap();
        assert!(home.contents() == bytes, "{mode:?}");
    });
}
