//! With `Contents`, every operation reports a change of the file as an error that names it until `refresh`; a reader
//! continues.

use std::fs::{FileTimes, Permissions};
use std::io::{Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use faultin::{
    FileMap, MapError,
    map::{Change, Reason, Watch},
};

use crate::fixture::{Case, bytes_of, content, each, overwrite, page_size, set_len, settle, signals_taken, writer};

/// A change of a file of `len` bytes.
struct Event {
    name: &'static str,
    happen: fn(&Case, &Path, usize),
    /// The reported change, for a file of this length; operations, which do not check its name, report a new name as
    /// `Touched`.
    seen: fn(usize) -> Change,
}

impl Event {
    fn seen_by_operations(&self, len: usize) -> Change {
        match (self.seen)(len) {
            Change::Replaced | Change::Deleted => Change::Touched,
            seen => seen,
        }
    }
}

const fn event(name: &'static str, happen: fn(&Case, &Path, usize), seen: fn(usize) -> Change) -> Event {
    Event { name, happen, seen }
}

const EVENTS: &[Event] = &[
    event("truncated to zero", |_, path, _| set_len(path, 0), |len| Change::Shrunk { from: len as u64, to: 0 }),
    event(
        "truncated in the middle of a page",
        |_, path, len| set_len(path, len / 2 + 100),
        |len| Change::Shrunk { from: len as u64, to: len as u64 / 2 + 100 },
    ),
    event(
        "truncated by one byte",
        |_, path, len| set_len(path, len - 1),
        |len| Change::Shrunk { from: len as u64, to: len as u64 - 1 },
    ),
    event(
        "truncated and regrown",
        |_, path, len| [100, len].map(|to| set_len(path, to)).into_iter().collect(),
        |_| Change::Rewritten,
    ),
    event("grown", |_, path, len| set_len(path, len + 1), |len| Change::Grown { from: len as u64, to: len as u64 + 1 }),
    event("rewritten in place", |_, path, _| overwrite(path, 10, b"other"), |_| Change::Rewritten),
    event("rewritten with the same bytes", |_, path, _| overwrite(path, 0, &content(100)), |_| Change::Rewritten),
    event("rewritten, and its time set back", rewritten_secretly, |_| Change::Touched),
    event(
        "replaced",
        |case, path, len| {
            let other = case.file("other", len);
            std::fs::rename(other, path).expect("rename");
        },
        |_| Change::Replaced,
    ),
    event("deleted", |_, path, _| std::fs::remove_file(path).expect("remove"), |_| Change::Deleted),
    event(
        "renamed",
        |case, path, _| std::fs::rename(path, case.path("elsewhere")).expect("rename"),
        |_| Change::Deleted,
    ),
    event(
        "given other permissions",
        |_, path, _| std::fs::set_permissions(path, Permissions::from_mode(0o640)).expect("chmod"),
        |_| Change::Touched,
    ),
];

fn rewritten_secretly(_: &Case, path: &Path, _: usize) {
    let before = std::fs::metadata(path).expect("metadata").modified().expect("a time");
    overwrite(path, 10, b"other");
    writer(path).set_times(FileTimes::new().set_modified(before)).expect("utimensat");
}

type Operation = (&'static str, fn(&FileMap) -> Result<(), MapError>);

/// All reading operations.
const OPERATIONS: &[Operation] = &[
    ("read_at, all of it", |map| {
        let mut all = vec![0; map.len() as usize];
        map.read_at(&mut all, 0).map(|_| ())
    }),
    ("read_at_streaming", |map| {
        let mut all = vec![0; map.len() as usize];
        map.read_at_streaming(&mut all, 0).map(|_| ())
    }),
    ("read_at, the first bytes", |map| map.read_at(&mut [0; 20], 0).map(|_| ())),
    ("read_at, the last byte", |map| map.read_at(&mut [0], map.len() - 1).map(|_| ())),
    ("read_at, nothing", |map| map.read_at(&mut [], 0).map(|_| ())),
    ("read_at, the end", |map| map.read_at(&mut [0; 20], map.len()).map(|_| ())),
    ("read_exact_at", |map| map.read_exact_at(&mut [0; 30], 5)),
    ("load, first", |map| map.load::<u64>(0).map(|_| ())),
    ("load, last", |map| map.load::<u32>(map.len() - 4).map(|_| ())),
    ("chunks", |map| map.chunks(..).for_each(|_| {}).map(|_| ())),
    ("find", |map| map.find(b"not there", ..).map(|_| ())),
    ("find, found at once", |map| map.find(&content(8), ..).map(|at| assert_eq!(at, Some(0)))),
    ("find, nothing in nothing", |map| map.find(b"xy", 7..7).map(|_| ())),
    ("rfind", |map| map.rfind(b"not there", ..).map(|_| ())),
    ("find_any", |map| map.find_any([0], ..).map(|_| ())),
    ("count_byte", |map| map.count_byte(1, ..).map(|_| ())),
    ("is_zeroed", |map| map.is_zeroed(..).map(|_| ())),
    ("crc32c", |map| map.crc32c(..).map(|_| ())),
    ("has_at", |map| map.has_at(&content(20)[10..], 10).map(|_| ())),
    ("content_eq", |map| map.content_eq(map).map(|_| ())),
    ("lines", |map| {
        let mut lines = map.lines(..);
        while lines.next_line()?.is_some() {}
        Ok(())
    }),
    ("chunks of a part", |map| map.chunks(10..20).for_each(|_| {}).map(|_| ())),
    ("reader", |map| {
        let error = map.reader().read_to_end(&mut Vec::new()).err();
        let error = error.map(|error| error.into_inner().expect("one of ours"));
        error.map_or(Ok(()), |error| Err(*error.downcast::<MapError>().expect("one of ours")))
    }),
    ("verify", FileMap::verify),
];

#[test]
fn every_operation_reports_every_change() {
    let len = 5 * page_size() + 10;
    each(|case| {
        for event in EVENTS {
            let path = case.file("file", len);
            let open = || case.options().watch(Watch::Contents).open(&path).expect("map it");
            let maps: Vec<_> = OPERATIONS.iter().map(|operation| (operation, open())).collect();
            for ((name, operation), map) in &maps {
                operation(map).unwrap_or_else(|error| panic!("{name} of a file at peace: {error}"));
            }
            (event.happen)(case, &path, len);
            for ((name, operation), map) in &maps {
                let seen = if *name == "verify" { (event.seen)(len) } else { event.seen_by_operations(len) };
                let size = map.file().metadata().expect("the open file").len();

                let error = operation(map).expect_err(event.name);
                let what = format!("{}, {name}: {error:?}", event.name);
                assert!(matches!(error.reason(), Reason::Changed(change) if *change == seen), "{what}");
                assert_eq!(error.change(), Some(seen), "{what}");
                assert_eq!(error.path(), Some(&*path), "{what}");
                assert!(error.done() as u64 <= size, "{what}: nothing after the end was read");
                assert!(error.offset() <= len as u64, "{what}");
                assert_eq!(error.errno(), Some(libc::ESTALE), "{what}");
                let text = error.to_string();
                assert!(text.starts_with(&path.display().to_string()) && text.contains(&seen.to_string()), "{text}");
                let error = std::io::Error::from(error);
                assert_eq!(faultin::errno(&error), Some(libc::ESTALE));
                assert_eq!(error.to_string(), text);

                let accepted = map.refresh().expect(name);
                assert_eq!(accepted, Some(event.seen_by_operations(len)), "{}, {name}", event.name);
                assert_eq!(map.len(), size);
                let now = bytes_of(map.file());
                let mut all = vec![0; len + 9];
                let read =
                    map.read_at(&mut all, 0).unwrap_or_else(|error| panic!("{}, after refresh: {error}", event.name));
                assert_eq!(all[..read], now[..], "{}", event.name);
                assert_eq!(map.refresh().expect(name), None);
            }
            std::fs::remove_file(&path).or_else(|_| std::fs::remove_file(case.path("elsewhere"))).unwrap_or(());
        }
    });
}

#[test]
fn counts_after_a_cut_end_with_the_file() {
    let page = page_size();
    each(|case| {
        for (from, to, at, len, done) in [
            (3 * page, 100, 0, 3 * page, 100),
            (3 * page, 100, 90, 20, 10),
            (3 * page, 100, 100, 10, 0),
            (3 * page, 100, 200, 3 * page - 200, 0),
            (3 * page, page + 1, 10, 3 * page - 10, page - 9),
            (3 * page, page, 1, 3 * page - 1, page - 1),
            (3 * page, 0, 0, 1, 0),
        ] {
            for read in [FileMap::read_at, FileMap::read_at_streaming] {
                let (path, map) = case.mapped(from);
                set_len(&path, to);
                let mut dst = vec![0xcc; len];
                let before = signals_taken();
                let error = read(&map, &mut dst, at as u64).expect_err("cut");
                let signals = signals_taken() - before;
                assert_eq!((error.done(), error.offset()), (done, (at + done) as u64), "{from} to {to}, {len} at {at}");
                assert_eq!(dst[..done], content(from)[at..at + done]);
                assert_eq!(error.change(), Some(Change::Shrunk { from: from as u64, to: to as u64 }));
                let faults = case.faults() && at + len > to.next_multiple_of(page);
                assert_eq!(signals, u64::from(faults), "one signal, if a page is gone");
                assert!(cfg!(faultin_syscall) || error.fault().is_some() == faults, "{error:?}");
            }
        }
    });
}

#[test]
fn a_scan_of_a_cut_file_takes_one_signal() {
    let page = page_size();
    each(|case| {
        // More than is read at once.
        let (path, map) = case.mapped(600 * page);
        let mut chunks = map.chunks(..);
        let first = chunks.next_chunk().expect("whole").expect("not empty").len();
        set_len(&path, 0);
        let before = signals_taken();
        let error = loop {
            match chunks.next_chunk() {
                Ok(chunk) => assert!(chunk.is_some(), "the end of a file that is gone"),
                Err(error) => break error,
            }
        };
        assert_eq!(signals_taken() - before, u64::from(case.faults()));
        assert_eq!(error.change(), Some(Change::Shrunk { from: 600 * page as u64, to: 0 }));
        assert_eq!((error.done(), error.offset()), (0, first as u64), "what was handed out before was there then");
    });
}

#[test]
fn what_is_no_error_of_a_read_is_none_of_a_readers() {
    let len = 5 * page_size() + 10;
    each(|case| {
        for watch in [Watch::Reader, Watch::Nothing] {
            for event in EVENTS.iter().filter(|event| !matches!((event.seen)(len), Change::Shrunk { .. })) {
                let path = case.file("file", len);
                settle(&path);
                let map = case.options().watch(watch).open(&path).expect("map it");
                (event.happen)(case, &path, len);
                for (name, operation) in OPERATIONS.iter().filter(|(name, _)| *name != "verify") {
                    operation(&map).unwrap_or_else(|error| panic!("{watch:?}, {}, {name}: {error}", event.name));
                }
                let error = map.verify().expect_err("verify tells at any time");
                assert_eq!(error.change(), Some((event.seen)(len)), "{watch:?}, {}", event.name);
                std::fs::remove_file(&path).or_else(|_| std::fs::remove_file(case.path("elsewhere"))).unwrap_or(());
            }
        }
    });
}

#[test]
fn a_stable_file_that_is_cut_all_the_same_does_not_kill() {
    let page = page_size();
    each(|case| {
        let path = case.file("file", 4 * page);
        let map = case.options().watch(Watch::Nothing).open(&path).expect("map it");
        set_len(&path, page);
        let error = map.read_at(&mut vec![0; 4 * page], 0).expect_err("gone");
        assert_eq!(error.change(), Some(Change::Shrunk { from: 4 * page as u64, to: page as u64 }));
        assert_eq!(error.done(), page);
        assert_eq!(map.load::<u32>(2 * page as u64).expect_err("gone").done(), 0);
        let (mut handed, mut chunks) = (0, map.chunks(..));
        while let Ok(Some(chunk)) = chunks.next_chunk() {
            handed += chunk.len();
        }
        assert!(handed <= page, "{handed}");
    });
}

#[test]
fn a_file_without_a_path_has_no_name_to_lose() {
    each(|case| {
        let path = case.file("file", 100);
        let map = case.options().from_file(std::fs::File::open(&path).expect("open")).expect("map it");
        let other = case.file("other", 100);
        std::fs::rename(other, &path).expect("rename");
        let error = map.verify().expect_err("its link is gone");
        assert_eq!((error.change(), error.path()), (Some(Change::Touched), None));
        assert!(error.to_string().starts_with("mapped file: "), "{error}");

        let unnamed = tempfile::tempfile().expect("a file without a name");
        unnamed.set_len(10).expect("grow");
        let map = case.options().from_file(unnamed).expect("map it");
        map.verify().expect("it never had one");
    });
}

#[test]
fn a_reader_that_has_read_ahead_still_reports_what_follows() {
    let len = 300_000;
    each(|case| {
        let (path, map) = case.mapped(len);
        let mut reader = map.reader();
        let mut first = [0; 10];
        reader.read_exact(&mut first).expect("whole");
        set_len(&path, 5);
        let mut rest = Vec::new();
        let error = reader.read_to_end(&mut rest).expect_err("cut");
        assert_eq!(error.kind(), std::io::ErrorKind::StaleNetworkFileHandle);
        assert_eq!(rest[..], content(len)[10..10 + rest.len()], "what was copied before is what it was");
        assert!(error.to_string().contains("was truncated from 300000 to 5 bytes"), "{error}");
        assert_eq!(reader.stream_position().expect("known"), 10 + rest.len() as u64);
        map.refresh().expect("take it as it is");
        assert_eq!(reader.read(&mut [0]).expect("the end"), 0, "it goes on with the map");
        rest.clear();
        assert_eq!(map.reader().read_to_end(&mut rest).expect("five bytes"), 5);
    });
}
