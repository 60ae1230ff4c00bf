//! What counts as a change: every cell of the table in the documentation of `map`, on real files.

use std::fs::{FileTimes, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use faultin::{
    FileMap, MapError, MapOptions,
    map::{Change, Watch},
};

use crate::fixture::{Case, bytes_of, content, each, overwrite, page_size, set_len, settle, writer};

/// The documentation with the table.
const PAGE: &str = include_str!("../../src/map/mod.rs");

/// A change of a file of `len` bytes.
struct Event {
    /// Its row in the table.
    name: &'static str,
    happen: fn(&Case, &Path, usize),
    /// The mapped part of the file in pages; `None`: all of it.
    part: Option<(usize, usize)>,
}

const PAGES: usize = 40;

const fn event(name: &'static str, happen: fn(&Case, &Path, usize)) -> Event {
    Event { name, happen, part: None }
}

const EVENTS: &[Event] = &[
    event("nothing", |_, _, _| {}),
    event("appended to", |_, path, _| {
        let mut file = std::fs::File::options().append(true).open(path).expect("open");
        file.write_all(b"more\n").expect("append");
    }),
    Event { part: Some((0, 5)), ..event("truncated after the range", |_, path, len| set_len(path, len / 2)) },
    event("truncated within the range", |_, path, len| set_len(path, len / 2 + 100)),
    Event { part: Some((30, 10)), ..event("truncated before the range", |_, path, len| set_len(path, len / 2 + 100)) },
    event("truncated and grown to the same size", |_, path, len| {
        [100, len].into_iter().for_each(|to| set_len(path, to));
    }),
    event("rewritten, same size", |_, path, _| overwrite(path, 4000, b"other bytes")),
    event("rewritten, its mtime set back", |_, path, _| {
        let before = std::fs::metadata(path).expect("metadata").modified().expect("a time");
        overwrite(path, 4000, b"other bytes");
        writer(path).set_times(FileTimes::new().set_modified(before)).expect("utimensat");
    }),
    event("`touch`", |_, path, _| {
        writer(path).set_times(FileTimes::new().set_modified(SystemTime::now())).expect("utimensat");
    }),
    event("`chmod`, `chown`", |_, path, _| {
        std::fs::set_permissions(path, Permissions::from_mode(0o640)).expect("chmod");
    }),
    event("`ln`", |case, path, _| std::fs::hard_link(path, case.path("link")).expect("link")),
    event("`rm`", |_, path, _| std::fs::remove_file(path).expect("unlink")),
    event("`mv` to another name", |case, path, _| std::fs::rename(path, case.path("elsewhere")).expect("rename")),
    event("`mv` of another file over it", |case, path, len| {
        std::fs::rename(case.file("other", len), path).expect("rename");
    }),
];

/// An operation's result: `Ok` with the bytes that it has read, or an error and its count.
type Said = Result<Vec<u8>, (MapError, usize)>;

type Operation = fn(&FileMap) -> Said;

/// Each operation has read every byte of the map when it returns `Ok`.
const READS: &[(&str, Operation)] = &[
    ("read_at", |map| {
        let mut bytes = vec![0; map.len() as usize + 10];
        match map.read_at(&mut bytes, 0) {
            Ok(read) => Ok(bytes[..read].to_vec()),
            Err(error) => {
                let done = error.done();
                Err((error, done))
            }
        }
    }),
    ("reader", |map| {
        let mut bytes = Vec::new();
        match map.reader().read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err((*error.into_inner().expect("ours").downcast().expect("ours"), bytes.len())),
        }
    }),
    ("find", |map| {
        // The result depends on all other bytes.
        match map.find(b"not there", ..) {
            Ok(found) => {
                assert_eq!(found, None);
                let line = map.find(b"other bytes", ..).map_err(|error| (error, 0))?;
                let mut bytes = vec![0; map.len() as usize];
                map.read_exact_at(&mut bytes, 0).map_err(|error| (error, 0))?;
                assert_eq!(line, bytes.windows(11).position(|part| part == b"other bytes").map(|at| at as u64));
                Ok(bytes)
            }
            Err(error) => {
                let done = error.done();
                Err((error, done))
            }
        }
    }),
    ("lines", |map| {
        let (mut lines, mut bytes) = (map.lines(..), Vec::new());
        loop {
            match lines.next_line() {
                Ok(Some(line)) => {
                    bytes.extend_from_slice(line.bytes);
                    bytes.push(b'\n');
                }
                Ok(None) => break,
                Err(error) => return Err((error, bytes.len())),
            }
        }
        bytes.truncate(map.len() as usize);
        Ok(bytes)
    }),
];

/// The table's word for a change.
pub fn word(change: Option<Change>) -> &'static str {
    match change {
        None => "`Ok`",
        Some(Change::Shrunk { .. }) => "truncated",
        Some(Change::Grown { .. }) => "grown",
        Some(Change::Rewritten) => "rewritten",
        Some(Change::Touched) => "touched",
        Some(Change::Replaced) => "replaced",
        Some(Change::Deleted) => "deleted",
        Some(other) => panic!("{other:?}"),
    }
}

/// The cells of the table: the names of its columns, and the cells of each row by the name of its event.
fn table() -> (Vec<&'static str>, Vec<(&'static str, Vec<&'static str>)>) {
    let rows = PAGE.lines().skip_while(|line| !line.starts_with("//! | Event |")).map_while(|line| {
        let row = line.strip_prefix("//! |")?.strip_suffix('|')?;
        let mut cells = row.split('|').map(str::trim);
        Some((cells.next()?, cells.collect::<Vec<_>>()))
    });
    let mut rows: Vec<_> = rows.collect();
    let (_, columns) = rows.remove(0);
    rows.remove(0);
    (columns, rows)
}

#[test]
fn every_cell_of_the_table_is_what_happens() {
    let (columns, rows) = table();
    assert_eq!(
        columns,
        ["`Reader`", "its `with_slice`", "`Appending`", "`Contents`", "`Nothing`", "`verify`", "`refresh`"]
    );
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), EVENTS.iter().map(|e| e.name).collect::<Vec<_>>());
    let page = page_size();
    let len = PAGES * page + 77;
    each(|case| {
        for (event, (_, cells)) in EVENTS.iter().zip(&rows) {
            let path = case.path("file");
            std::fs::write(&path, lines_of(len)).expect("write");
            settle(&path);
            let (start, end) = event.part.map_or((0, len), |(at, pages)| (at * page, (at + pages) * page));
            let options = case.options().offset(start as u64).length(if event.part.is_some() {
                (end - start) as u64
            } else {
                u64::MAX
            });
            let open = |watch| options.watch(watch).open(&path).expect("map it");
            let watches = [Watch::Reader, Watch::Appending, Watch::Contents, Watch::Nothing];
            let maps = watches.map(|watch| READS.iter().map(|read| (read, open(watch))).collect::<Vec<_>>());
            #[cfg(not(faultin_portable))]
            let slices = watches.map(open);
            let (verified, refreshed) = (watches.map(open), watches.map(open));
            (event.happen)(case, &path, len);
            let file = bytes_of(verified[0].file());
            let there = file.len().saturating_sub(start).min(end - start);
            let now = &file[start.min(file.len())..][..there];

            for ((watch, maps), column) in watches.iter().zip(&maps).zip([0, 2, 3, 4]) {
                for ((name, read), map) in maps {
                    // The second result is the same: neither an error nor `Ok` accepts the change.
                    for time in 0..2 {
                        let what = format!("{}, {watch:?}, {name}, time {time}", event.name);
                        let said = read(map);
                        let change = said.as_ref().err().map(|(error, _)| error.change().expect(&what));
                        assert_eq!(word(change), cells[column], "{what}: {change:?}");
                        assert_eq!(map.len(), (end - start) as u64, "{what}: its length");
                        match said {
                            Ok(bytes) => assert!(bytes == now, "{what}: the file's bytes of now"),
                            Err((error, done)) => {
                                assert_eq!(error.path(), Some(&*path), "{what}");
                                if let Change::Shrunk { from, to } = error.change().expect("one") {
                                    assert_eq!((from, to), (len as u64, file.len() as u64), "{what}");
                                    // `lines` returns whole lines.
                                    let exact = *watch == Watch::Reader && *name != "lines";
                                    assert!(
                                        if exact { done == there } else { done <= there.max(1 << 20) },
                                        "{what}: {done}"
                                    );
                                }
                            }
                        }
                    }
                }
            }
            #[cfg(not(faultin_portable))]
            for ((watch, map), column) in watches.iter().zip(&slices).zip([1, 2, 3, 4]) {
                let what = format!("{}, {watch:?}, with_slice", event.name);
                crate::linux::is_in_a_slice(map, *watch, cells[column], now, &what);
            }
            for (watch, map) in watches.iter().zip(&verified) {
                for time in 0..2 {
                    let change = map.verify().err().map(|error| error.change().expect("a change"));
                    assert_eq!(word(change), cells[5], "{}, {watch:?}, verify, time {time}", event.name);
                }
            }
            for (watch, map) in watches.iter().zip(&refreshed) {
                let what = format!("{}, {watch:?}, refresh", event.name);
                assert_eq!(word(map.refresh().expect(&what)), cells[6], "{what}");
                assert_eq!(map.refresh().expect(&what), None, "{what}: it was accepted");
                let now = if event.part.is_some() { now } else { &file };
                assert_eq!(map.len(), now.len() as u64, "{what}");
                let mut bytes = vec![0; now.len() + 10];
                let read = map.read_at(&mut bytes, 0).expect(&what);
                assert!(bytes[..read] == *now, "{what}");
            }
            for name in ["file", "link", "elsewhere"] {
                std::fs::remove_file(case.path(name)).unwrap_or(());
            }
        }
    });
}

/// Lines, all of them terminated.
fn lines_of(len: usize) -> Vec<u8> {
    let mut bytes = content(len);
    bytes.iter_mut().enumerate().for_each(|(at, byte)| {
        if at % 100 == 99 || *byte == b'\n' {
            *byte = if at % 100 == 99 { b'\n' } else { b'.' };
        }
    });
    bytes
}

#[test]
fn a_search_in_a_live_log_finds_every_line_that_was_there() {
    let lines = 3000;
    each(|case| {
        for watch in [Watch::Reader, Watch::Appending] {
            let path = case.path("log");
            let text: String = (0..lines).map(|line| format!("an error, the {line}th\n")).collect();
            std::fs::write(&path, &text).expect("write");
            let map = case.options().watch(watch).open(&path).expect("map it");
            let mut log = std::fs::File::options().append(true).open(&path).expect("open");
            let (mut at, mut found) = (0, 0);
            while let Some(hit) = map.find(b"error", at..).expect("it only grows") {
                found += 1;
                at = hit + 1;
                if found % 100 == 0 {
                    log.write_all(b"an error more\n").expect("append");
                }
            }
            assert_eq!(found, lines, "{watch:?}");
            let (mut counted, mut all) = (0, map.lines(..));
            while let Some(line) = all.next_line().expect("it only grows") {
                assert!(line.bytes.starts_with(b"an error, the "));
                counted += 1;
                if counted % 100 == 0 {
                    log.write_all(b"an error more\n").expect("append");
                }
            }
            assert_eq!(counted, lines, "{watch:?}");
            assert_eq!(map.count_byte(b'\n', ..).expect("it only grows"), lines as u64);
            // Also without a copy where possible.
            log.write_all(b"an error more\n").expect("append");
            #[cfg(not(faultin_portable))]
            assert_eq!(crate::linux::with_slice(&map).is_ok(), watch == Watch::Appending);
        }
    });
}

#[test]
fn a_log_that_is_being_appended_to_is_never_taken_for_rewritten() {
    let rounds = if cfg!(target_arch = "x86_64") { 5000 } else { 1000 };
    each(|case| {
        let path = case.file("log", 100);
        let map = case.options().watch(Watch::Appending).open(&path).expect("map it");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut log = std::fs::File::options().append(true).open(&path).expect("open");
                (0..rounds).for_each(|_| log.write_all(b"an entry\n").expect("append"));
            });
            let mut bytes = [0; 100];
            while !writer.is_finished() {
                // An append's change time is visible before its size.
                map.read_exact_at(&mut bytes, 0).expect("it only grows");
            }
        });
    });
}

#[test]
fn counts_are_exact_where_a_file_was_truncated_and_other_bytes_are_ok() {
    let page = page_size();
    each(|case| {
        let path = case.file("file", 4 * page);
        let map = case.options().open(&path).expect("map it");
        set_len(&path, page + 10);
        for _ in 0..2 {
            let mut bytes = vec![0xcc; 4 * page];
            // Before the end nothing has changed, however often it is read.
            map.read_exact_at(&mut bytes[..page], 5).expect("there");
            assert!(bytes[..page] == content(4 * page)[5..page + 5]);
            assert_eq!(map.load::<u64>(page as u64).expect("there").to_ne_bytes(), content(4 * page)[page..page + 8]);
            // Within the last page nothing faults.
            let error = map.read_at(&mut bytes[..20], page as u64).expect_err("truncated");
            assert_eq!((error.done(), error.offset()), (10, page as u64 + 10));
            assert_eq!(error.change(), Some(Change::Shrunk { from: 4 * page as u64, to: page as u64 + 10 }));
            assert!(map.load::<u64>(page as u64 + 5).is_err());
            assert_eq!(map.find_any([0], ..page as u64).expect("there"), None);
            assert!(map.find_any([0], ..page as u64 + 11).is_err());
        }
        set_len(&path, 4 * page);
        let mut bytes = vec![0xcc; 4 * page];
        map.read_exact_at(&mut bytes, 0).expect("as long as before");
        assert!(bytes[page + 10..].iter().all(|&byte| byte == 0), "holes are the file's");
    });
}

#[test]
fn contents_wait_until_a_change_would_be_seen() {
    each(|case| {
        let path = case.file("file", 100);
        let map = case.options().watch(Watch::Contents).open(&path).expect("map it");
        let coverage = map.watches();
        assert!(coverage.settled && coverage.size && coverage.modified && coverage.changed, "{coverage:?}");
        assert!(coverage.tick >= std::time::Duration::from_millis(1), "{coverage:?}");
        writer(&path).write_all_at(b"x", 5).expect("write");
        assert_eq!(map.load::<u8>(0).expect_err("rewritten").change(), Some(Change::Rewritten));
        map.refresh().expect("asked");
        assert!(map.watches().settled);
        for (watch, changed) in [(Watch::Reader, true), (Watch::Appending, false), (Watch::Nothing, false)] {
            let coverage = case.options().watch(watch).open(&path).expect("map it").watches();
            assert_eq!((coverage.mode, coverage.changed), (watch, changed));
            assert_eq!((coverage.size, coverage.modified), (watch != Watch::Nothing, watch != Watch::Nothing));
        }
    });
}

/// On a file system of the kernel a change time that is different at each look means that the file changes all the time.
#[test]
fn a_file_whose_attributes_change_all_the_time_is_watched_all_the_same() {
    each(|case| {
        let path = case.file("file", 100);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let file = std::fs::File::open(&path).expect("open");
                let modes = [0o600, 0o640].map(Permissions::from_mode);
                while !is_over.load(Relaxed) {
                    modes.iter().for_each(|mode| file.set_permissions(mode.clone()).expect("chmod"));
                }
            });
            let unwatched =
                (0..3000).filter(|_| !case.options().open(&path).expect("map it").watches().changed).count();
            is_over.store(true, Relaxed);
            assert_eq!(unwatched, 0);
        });
    });
}

#[test]
fn names_are_looked_up_where_the_file_lay_and_reopening_follows_them() {
    each(|case| {
        let folder = case.path("folder");
        std::fs::create_dir(&folder).expect("mkdir");
        let path = folder.join("log");
        std::fs::write(&path, "old").expect("write");
        settle(&path);
        let map = case.options().watch(Watch::Appending).open(&path).expect("map it");
        // The directory was renamed, so the path does not exist; the file is in the same directory.
        std::fs::rename(&folder, case.path("moved")).expect("rename");
        map.verify().expect("nothing happened to it");
        let place = case.path("moved");
        std::fs::rename(place.join("log"), place.join("log.1")).expect("rename");
        assert_eq!(map.verify().expect_err("rotated").change(), Some(Change::Deleted));
        assert!(map.reopen().is_err(), "there is none");
        std::fs::write(place.join("log"), "new one").expect("write");
        assert_eq!(map.verify().expect_err("rotated").change(), Some(Change::Replaced));
        // A refresh never follows the name.
        map.refresh().expect("asked");
        assert_eq!(map.len(), 3);
        let next = map.reopen().expect("map it");
        assert_eq!((next.len(), next.watches().mode, next.backend()), (7, Watch::Appending, case.backend));
        next.verify().expect("it is the one");
        std::fs::remove_dir_all(place).expect("remove");

        let map = case.options().from_file(tempfile::tempfile().expect("a file")).expect("map it");
        assert!(map.reopen().is_err(), "it has no name");
    });
}

/// The documentation's list of undetectable changes: if one of these tests fails, the list is too long.
mod unseen {
    use super::*;

    #[test]
    fn stores_through_the_mapping_of_another_process() {
        each(|case| {
            let path = case.file("file", 100);
            // SAFETY: a new mapping of a file whose length does not change.
            let theirs = unsafe {
                let file = std::fs::File::options().read(true).write(true).open(&path).expect("open");
                let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
                let base = libc::mmap(std::ptr::null_mut(), 100, prot, flags, file.as_raw_fd(), 0);
                assert_ne!(base, libc::MAP_FAILED);
                base.cast::<u8>()
            };
            // SAFETY: within the mapping.
            unsafe { theirs.write_volatile(b'a') };
            let map = case.options().watch(Watch::Contents).open(&path).expect("map it");
            assert_eq!(map.load::<u8>(0).expect("nothing happened"), b'a');
            // SAFETY: as above.
            unsafe { theirs.write_volatile(b'b') };
            assert_eq!(map.load::<u8>(0).expect("no time has moved"), b'b');
            map.verify().expect("no time has moved");
            // SAFETY: the mapping made above.
            unsafe { libc::munmap(theirs.cast(), 100) };
        });
    }

    #[test]
    fn a_log_that_was_truncated_and_grew_beyond_its_size_between_two_operations() {
        each(|case| {
            let path = case.file("file", 100);
            let map = case.options().watch(Watch::Appending).open(&path).expect("map it");
            set_len(&path, 0);
            std::fs::write(&path, [b'n'; 200]).expect("write");
            assert_eq!(map.load::<u8>(0).expect("it looks as if it had grown"), b'n');
        });
    }

    #[test]
    fn what_a_call_of_write_stores_after_its_start() {
        // The kernel sets the times when the call begins.
        const LEN: usize = 32 << 20;
        each(|case| {
            let path = case.path("file");
            std::fs::write(&path, vec![b'o'; LEN]).expect("write");
            settle(&path);
            let new = vec![b'n'; LEN];
            let mut unseen = false;
            for _ in 0..50 {
                let map: FileMap =
                    MapOptions::new().backend(case.backend).watch(Watch::Appending).open(&path).expect("map it");
                std::thread::scope(|scope| {
                    let writing = scope.spawn(|| writer(&path).write_all_at(&new, 0).expect("write"));
                    // Its times have changed, and its last byte has not been written yet.
                    while map.verify().is_ok() && !writing.is_finished() {}
                    map.refresh().expect("asked");
                    let early = map.load::<u8>(LEN as u64 - 1).is_ok_and(|last| last == b'o');
                    writing.join().expect("written");
                    let late = map.load::<u8>(LEN as u64 - 1).is_ok_and(|last| last == b'n');
                    unseen |= early && late && map.verify().is_ok();
                });
                if unseen {
                    break;
                }
                std::fs::write(&path, vec![b'o'; LEN]).expect("write");
                settle(&path);
            }
            assert!(unseen, "the times of a write moved at its end, or its end was never met");
        });
    }
}
