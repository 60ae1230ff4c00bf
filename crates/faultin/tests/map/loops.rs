//! Iteration over a map: all occurrences of a needle, chunks with a closure that may fail, lines as values, readers that
//! own their map; and maps of open files.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use faultin::{
    FileMap, MapError,
    map::{Change, MapReader, Reason, Watch},
};

use crate::fixture::{Case, content, each, page_size, set_len};

/// All non-overlapping occurrences of `needle` in `bytes`.
fn places(bytes: &[u8], needle: &[u8]) -> Vec<u64> {
    let mut at = 0;
    let mut places = Vec::new();
    while let Some(place) = bytes[at..].windows(needle.len()).position(|part| part == needle) {
        places.push((at + place) as u64);
        at += place + needle.len();
    }
    places
}

fn written(case: &Case, name: &str, bytes: &[u8]) -> FileMap {
    let path = case.path(name);
    std::fs::write(&path, bytes).expect("write");
    case.options().open(path).expect("map it")
}

#[test]
fn find_iter_has_every_place_once() {
    each(|case| {
        // A small alphabet: many occurrences, many of them across the parts that are searched.
        let bytes: Vec<u8> = content(300_000).iter().map(|byte| b'a' + (byte.count_ones() % 2) as u8).collect();
        let map = written(case, "letters", &bytes);
        for needle in [&b"a"[..], b"ab", b"aa", b"abab", b"bbaab", &bytes[299_000..]] {
            let found: Vec<u64> = map.find_iter(needle, ..).collect::<Result<_, _>>().expect("it can be read");
            assert_eq!(found, places(&bytes, needle), "{:?}", needle.escape_ascii().to_string());
            let found: Vec<u64> = map.find_iter(needle, 777..100_001).map(|place| place.expect("read")).collect();
            let expected: Vec<u64> = places(&bytes[777..100_001], needle).iter().map(|place| place + 777).collect();
            assert_eq!(found, expected);
        }
        let zeros = written(case, "same", &[b'x'; 1001]);
        assert_eq!(zeros.find_iter(b"xx", ..).count(), 500, "they do not overlap");
        let end: Vec<u64> = zeros.find_iter(b"", 998..5000).map(|place| place.expect("read")).collect();
        assert_eq!(end, [998, 999, 1000, 1001], "an empty one is everywhere");
        assert_eq!(zeros.find_iter(b"xx", 1000..).count(), 0);
        assert_eq!(zeros.find_iter(b"xx", 5000..).count(), 0);
    });
}

#[test]
fn find_iter_of_a_truncated_file_ends_with_the_error() {
    each(|case| {
        let page = page_size();
        let mut bytes = vec![b'-'; 8 * page];
        for at in [10, 500, page - 2, page + 100, 3 * page, 7 * page] {
            bytes[at..at + 4].copy_from_slice(b"word");
        }
        let map = written(case, "cut", &bytes);
        set_len(map.path().expect("a path"), page + 300);
        let mut places = map.find_iter(b"word", ..);
        let mut found = Vec::new();
        let error = loop {
            match places.next().expect("the file is shorter than the range") {
                Ok(place) => found.push(place),
                Err(error) => break error,
            }
        };
        assert_eq!(found, [10, 500, page as u64 - 2, page as u64 + 100]);
        let shrunk = Change::Shrunk { from: 8 * page as u64, to: page as u64 + 300 };
        assert_eq!((error.change(), error.offset()), (Some(shrunk), page as u64 + 300));
        assert!(places.next().is_none() && places.next().is_none(), "it has ended");

        // A search that stops before the end of the file needs no more of it.
        assert_eq!(map.find_iter(b"word", ..).next().expect("the first").expect("it is there"), 10);
    });
}

#[test]
fn find_iter_of_contents_is_of_one_state() {
    each(|case| {
        let path = case.path("contents");
        std::fs::write(&path, b"word ".repeat(1000)).expect("write");
        let map = case.options().watch(Watch::Contents).open(&path).expect("map it");
        let mut places = map.find_iter(b"word", ..);
        assert_eq!(places.next().expect("the first").expect("unchanged"), 0);
        std::fs::write(&path, b"sword".repeat(1000)).expect("write");
        let last = places.last().expect("an answer");
        assert!(matches!(last.expect_err("it was rewritten").reason(), Reason::Changed(_)));
    });
}

#[test]
fn a_closure_of_chunks_may_fail() {
    #[derive(Debug)]
    enum Failed {
        Map(MapError),
        Mine(u64),
    }
    impl From<MapError> for Failed {
        fn from(error: MapError) -> Self {
            Failed::Map(error)
        }
    }
    each(|case| {
        let len = 3 << 20;
        let (path, map) = case.mapped(len);
        let mut copy = Vec::new();
        let all = map.chunks(5..).try_for_each(|chunk| {
            copy.extend_from_slice(chunk);
            Ok::<_, Failed>(())
        });
        assert_eq!(all.expect("nothing fails"), len as u64 - 5);
        assert!(copy == content(len)[5..]);

        let mut seen = 0;
        let stopped = map.chunks(..).try_for_each(|chunk| {
            seen += chunk.len() as u64;
            Err(Failed::Mine(seen))
        });
        assert!(matches!(stopped, Err(Failed::Mine(at)) if at == seen && seen < len as u64), "after the first one");

        set_len(&path, 100);
        let cut = map.chunks(..).try_for_each(|_| Ok::<_, Failed>(()));
        assert!(matches!(cut, Err(Failed::Map(error)) if error.offset() == 100 && error.change().is_some()));
        let as_io: io::Result<u64> = map.chunks(..).try_for_each(|_| Ok(()));
        assert!(as_io.expect_err("cut").to_string().contains("the file was truncated"));
    });
}

#[test]
fn lines_are_a_loop() {
    each(|case| {
        let text = b"one\n\ntwo\r\nthree";
        let map = written(case, "text", text);
        let mut lines = Vec::new();
        for line in map.lines(..) {
            lines.push(line.expect("it can be read"));
        }
        assert_eq!(lines, [&b"one"[..], b"", b"two\r", b"three"]);
        let numbered = map.lines(..).enumerate().filter(|(_, line)| line.as_ref().is_ok_and(Vec::is_empty));
        assert_eq!(numbered.map(|(number, _)| number).collect::<Vec<_>>(), [1]);

        // Both interfaces to the same lines.
        let mut lines = map.lines(..);
        assert_eq!(lines.next().expect("a line").expect("read"), b"one");
        assert_eq!(lines.next_line().expect("read").expect("a line").at, 4);
        assert_eq!(lines.next().expect("a line").expect("read"), b"two\r");

        // An error ends the loop, also one that would repeat endlessly.
        let long: Vec<_> = map.lines(..).limit(4).collect();
        assert_eq!(long.len(), 4);
        let error = long[3].as_ref().expect_err("five bytes");
        assert!(matches!(error.reason(), Reason::LineTooLong { limit: 4 }) && error.offset() == 10);
        let cut = written(case, "cut", &b"line\n".repeat(100_000));
        set_len(cut.path().expect("a path"), 12);
        let lines: Vec<_> = cut.lines(..).collect();
        assert_eq!(lines[..2].iter().map(|line| line.as_ref().expect("there")).collect::<Vec<_>>(), [b"line"; 2]);
        assert!(lines.len() == 3 && lines[2].as_ref().is_err_and(|error| error.offset() == 12), "{lines:?}");
    });
}

#[test]
fn readers_own_their_map() {
    each(|case| {
        let len = 700_000; // more than a reader reads ahead
        let (path, map) = case.mapped(len);
        let mut reader = map.into_reader();
        let mut part = [0; 1000];
        reader.read_exact(&mut part).expect("there");
        assert_eq!((reader.position(), reader.get_ref().path()), (1000, Some(&*path)));
        let mut rest = Vec::new();
        let moved = std::thread::spawn(move || reader.read_to_end(&mut rest).map(|_| (rest, reader)));
        let (rest, reader) = moved.join().expect("no panic").expect("it can be read");
        assert!([&part[..], &rest].concat() == content(len));

        let map = Arc::new(reader.into_inner());
        let mut readers = [MapReader::new(Arc::clone(&map)), MapReader::new(map)];
        for reader in &mut readers {
            assert_eq!(reader.fill_buf().expect("there")[..100], content(100));
            reader.consume(100);
        }
        set_len(&path, 50);
        let error = readers[0].read_to_end(&mut Vec::new()).expect_err("cut");
        assert!(error.get_ref().is_some_and(|inner| inner.is::<MapError>()));
    });
}

#[test]
fn a_file_that_is_open_is_mapped() {
    each(|case| {
        let path = case.file("file", 100);
        let open = || File::options().read(true).write(true).open(&path).expect("open");
        let map = FileMap::try_from(open()).expect("map it");
        assert_eq!((map.len(), map.is_empty(), map.path()), (100, false, None));
        let map = case.options().from_file_at(open(), &path).expect("map it");
        assert_eq!((map.len(), map.path()), (100, Some(&*path)));
        assert_eq!(map.as_fd().as_raw_fd(), map.file().as_raw_fd());
        map.verify().expect("its name leads to it");

        std::fs::rename(case.file("other", 7), &path).expect("rename");
        let error = map.verify().expect_err("another file");
        assert_eq!(error.change(), Some(Change::Replaced));
        assert!(error.to_string().starts_with(&*path.to_string_lossy()), "{error}");
        assert_eq!(map.reopen().expect("by its name").len(), 7);

        let empty = FileMap::open(case.file("empty", 0)).expect("map it");
        assert!(empty.is_empty());
        std::fs::write(empty.path().expect("a path"), b"x").expect("write");
        assert!(empty.is_empty(), "until it is refreshed");
        empty.refresh().expect("it can be asked");
        assert!(!empty.is_empty());
    });
}
