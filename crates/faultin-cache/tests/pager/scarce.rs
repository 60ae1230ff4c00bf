//! Mappings in a process that has reached its limit of mappings.

use std::process::Command;

use faultin::page_size;
use faultin_cache::CacheOptions;
use faultin_cache::pager::Mode;

use crate::modes::{Home, load, map, pattern, store};
use faultin_test::processes;
use faultin_test::skipped;

/// Maps until the kernel refuses another mapping. Returns whether there is such a limit.
fn use_up_all_mappings() -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // Adjacent mappings with the same rights would be merged.
    [libc::PROT_NONE, libc::PROT_READ].into_iter().cycle().take(1 << 18).any(|protection| {
        // SAFETY: new memory.
        let new = unsafe { libc::mmap(std::ptr::null_mut(), page_size(), protection, flags, -1, 0) };
        new == libc::MAP_FAILED
    })
}

/// The part of the test below that runs in a separate process.
#[test]
fn child() {
    if std::env::var_os("FAULTIN_TEST_CHILD").is_none() {
        return;
    }
    const PAGES: usize = 8;
    let page = page_size();
    let bytes = pattern(PAGES * page);
    let opened = Home::both(&bytes).map(|home| {
        let cache = CacheOptions::new().limit(64 * page).build();
        let file = home.open(&cache);
        let mapping = map(&file, Mode::Mprotect, bytes.len() as u64).unwrap();
        (home, cache, file, mapping)
    });
    if !use_up_all_mappings() {
        skipped("map-limit", "there is no limit on mappings");
        return;
    }
    for (home, cache, file, mapping) in opened {
        let mut model = bytes.clone();
        for round in 0..3 {
            for at in [5 * page + 3, 1, 7 * page] {
                assert_eq!(load(&mapping, at), model[at]);
                model[at + 1] ^= 0x55;
                store(&mapping, at + 1, model[at + 1]);
            }
            // Through this library's copies, and faulted in.
            let mut is = vec![0; 2 * page];
            let view = mapping.read_view().unwrap();
            while view.read(&mut is, 3 * page).is_err() {
                let len = std::num::NonZeroUsize::new(is.len()).unwrap();
                assert!(view.fault_in(3 * page, len).is_ok());
            }
            assert_eq!(is, model[3 * page..5 * page]);
            if round < 2 {
                file.sync_all().unwrap();
                assert!(home.contents() == model, "what was stored is in the store");
                cache.drop_clean();
            }
        }
        let mut is = vec![0; model.len()];
        assert_eq!(file.read_at(&mut is, 0).unwrap(), is.len());
        assert!(is == model);
    }
}

#[test]
fn pages_are_served_where_there_is_no_room_for_mappings() {
    let mut command: Command = processes::run(std::env::current_exe().unwrap());
    let output =
        command.args(["scarce::child", "--exact", "--nocapture"]).env("FAULTIN_TEST_CHILD", "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{out}\n{err}", output.status);
    faultin_test::assert_ran(output.status, &out);
    // The child's own reports of skipped parts.
    eprint!("{err}");
}
