//! The file changes while one or many threads read: `Ok` results are the file's bytes, and every thread gets an error for
//! the change.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use faultin::{FileMap, MapError, map::Watch};

use crate::fixture::{Case, content, each, overwrite, page_size, set_len};

type Event = (&'static str, fn(&Case, &Path, usize));

const EVENTS: &[Event] = &[
    ("truncated to zero", |_, path, _| set_len(path, 0)),
    ("truncated in the middle of a page", |_, path, len| set_len(path, len / 2 + 100)),
    ("truncated and regrown", |_, path, len| [10, len].map(|to| set_len(path, to)).into_iter().collect()),
    ("replaced", |case, path, len| {
        let other = case.path("other");
        std::fs::write(&other, vec![0; len]).expect("write");
        std::fs::rename(other, path).expect("rename");
    }),
    ("deleted", |_, path, _| std::fs::remove_file(path).expect("remove")),
    ("rewritten in place", |_, path, len| overwrite(path, 0, &vec![0; len])),
];

/// Reads in one of several ways; on success the bytes must be the file's.
fn read(way: u64, map: &FileMap, whole: &[u8]) -> Result<(), MapError> {
    match way % 4 {
        0 => {
            let mut all = vec![0; whole.len()];
            assert_eq!(map.read_at(&mut all, 0)?, whole.len());
            assert!(all == whole, "reported as read, but it is not the file's");
        }
        1 => {
            let mut all = Vec::new();
            map.chunks(..).for_each(|chunk| all.extend_from_slice(chunk))?;
            assert!(all == whole, "reported as read, but it is not the file's");
        }
        2 => {
            let mut all = Vec::new();
            match map.reader().read_to_end(&mut all) {
                Ok(_) => assert!(all == whole, "reported as read, but it is not the file's"),
                Err(error) => {
                    assert!(all == whole[..all.len()], "handed on, but it is not the file's");
                    return Err(*error.into_inner().expect("ours").downcast().expect("ours"));
                }
            }
        }
        _ => {
            let at = (way as usize * 7919) % (whole.len() - 8);
            let value = map.load::<u64>(at as u64)?;
            assert_eq!(value.to_ne_bytes(), whole[at..at + 8]);
        }
    }
    Ok(())
}

fn while_so_many_read(threads: u64) {
    let len = 40 * page_size() + 123;
    let whole = content(len);
    each(|case| {
        for (name, happen) in EVENTS {
            for _ in 0..if cfg!(target_arch = "x86_64") { 6 } else { 2 } {
                let path = case.file("file", len);
                let map = case.options().watch(Watch::Contents).open(&path).expect("map it");
                let good = AtomicU64::new(0);
                std::thread::scope(|scope| {
                    let reader = |thread: u64| {
                        let (map, good, whole) = (&map, &good, &whole);
                        scope.spawn(move || {
                            for way in thread.. {
                                match read(way, map, whole) {
                                    Ok(()) => good.fetch_add(1, Ordering::Relaxed),
                                    Err(error) => {
                                        assert!(error.change().is_some(), "{name}: {error:?}");
                                        break;
                                    }
                                };
                            }
                            // The error persists.
                            (0..4).for_each(|way| assert!(read(way, map, whole).is_err(), "{name}"));
                        })
                    };
                    let readers: Vec<_> = (0..threads).map(reader).collect();
                    // (A thread that has ended by now has failed.)
                    while good.load(Ordering::Relaxed) < 2 * threads && !readers.iter().any(|r| r.is_finished()) {
                        std::thread::yield_now();
                    }
                    happen(case, &path, len);
                });
                let _ = std::fs::remove_file(&path);
            }
        }
    });
}

#[test]
fn a_file_that_changes_while_one_thread_reads() {
    while_so_many_read(1);
}

#[test]
fn a_file_that_changes_while_many_threads_read() {
    while_so_many_read(6);
}

#[test]
fn the_map_goes_while_others_of_the_same_file_are_read() {
    let len = 40 * page_size();
    let whole = content(len);
    each(|case| {
        let path = case.file("file", len);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (path, whole) = (&path, &whole);
                scope.spawn(move || {
                    for way in 0..30 {
                        let map = case.options().open(path).expect("map it");
                        read(thread + way, &map, whole).expect("nothing happens to it");
                    }
                });
            }
        });
    });
}
