//! Searches in a mapped file: correct results with both backends, and errors past the end of a truncated file.

use std::os::unix::fs::FileExt;

use faultin::map::{Change, Reason, Watch};

use crate::fixture::{content, each, overwrite, page_size, set_len, signals_taken, writer};

/// Larger than what is searched between two checks of the file.
const LARGE: u64 = 70 << 20;

#[test]
fn answers_are_those_of_slices() {
    each(|case| {
        let page = page_size();
        let len = 3 * page + 123;
        let (_, map) = case.mapped(len);
        let bytes = content(len);
        for (start, end) in [(0, len), (1, len - 1), (page - 3, page + 90), (77, 78), (500, 500), (2 * page, len)] {
            let (part, range) = (&bytes[start..end], start as u64..end as u64);
            let position = |at: Option<usize>| at.map(|at| (start + at) as u64);
            for byte in [0, 1, 5, 77, 255] {
                assert_eq!(
                    map.find_any([byte], range.clone()).unwrap(),
                    position(part.iter().position(|&b| b == byte))
                );
                let count = part.iter().filter(|&&b| b == byte).count() as u64;
                assert_eq!(map.count_byte(byte, range.clone()).unwrap(), count);
            }
            for needle in [&bytes[600..603], &bytes[page - 2..page + 30], &bytes[len - 60..], b"not there", b"\x01"] {
                let found = |mut found: Box<dyn Iterator<Item = usize>>| position(found.next());
                let windows = || part.windows(needle.len()).enumerate().filter(|(_, w)| w == &needle).map(|(i, _)| i);
                assert_eq!(map.find(needle, range.clone()).unwrap(), found(Box::new(windows())));
                let last = windows().next_back();
                assert_eq!(map.rfind(needle, range.clone()).unwrap(), position(last));
            }
            assert_eq!(map.is_zeroed(range.clone()).unwrap(), part.is_empty());
            assert_eq!(map.crc32c(range.clone()).unwrap(), crc32c(part));
            assert!(map.has_at(part, start as u64).unwrap());
            if let Some((last, before)) = part.split_last() {
                assert!(!map.has_at(&[before, &[!last]].concat(), start as u64).unwrap());
            }
        }
        assert!(!map.has_at(&bytes[..3], len as u64 - 2).unwrap(), "more than there is");
        assert_eq!(map.find(b"", 5..9).unwrap(), Some(5));
        assert_eq!(map.rfind(b"", 5..9).unwrap(), Some(9));
        assert_eq!(map.find(&bytes, ..).unwrap(), Some(0));
        assert_eq!(map.find(&content(len + 1), ..).unwrap(), None);
        assert_eq!(map.count_byte(1, len as u64 + 5..).unwrap(), 0);
    });
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0_u32, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1))))
}

#[test]
fn what_lies_across_windows_is_found() {
    each(|case| {
        let path = case.path("large");
        std::fs::write(&path, b"").unwrap();
        set_len(&path, LARGE as usize);
        let map = case.options().open(&path).unwrap();
        assert!(map.is_zeroed(..).unwrap());
        assert_eq!(map.find(b"needle", ..).unwrap(), None);
        // Around every multiple of possible window and read sizes.
        for mebi in [1, 32, 33, 38, 64] {
            for before in [0, 3, 5, 6] {
                let at = (mebi << 20) - before;
                overwrite(&path, at, b"needle");
                map.refresh().unwrap();
                assert_eq!(map.find(b"needle", ..).unwrap(), Some(at as u64), "{before} before {mebi} MiB");
                assert_eq!(map.rfind(b"needle", ..).unwrap(), Some(at as u64), "{before} before {mebi} MiB");
                assert_eq!(map.count_byte(b'e', ..).unwrap(), 3);
                assert!(!map.is_zeroed(..).unwrap());
                overwrite(&path, at, b"\0\0\0\0\0\0");
                map.refresh().unwrap();
            }
        }
    });
}

#[test]
fn a_file_that_is_cut_is_an_error_where_it_ends_now() {
    each(|case| {
        let page = page_size();
        let (path, map) = case.mapped(8 * page);
        set_len(&path, 3 * page + 100);
        let before = signals_taken();
        let shrunk = Change::Shrunk { from: 8 * page as u64, to: 3 * page as u64 + 100 };
        for error in [
            map.find(b"not there", ..).unwrap_err(),
            map.find_any([0], ..).map(|_| ()).unwrap_err(),
            map.count_byte(1, ..).unwrap_err(),
            map.crc32c(..).unwrap_err(),
            map.rfind(b"not there", ..).unwrap_err(),
        ] {
            assert_eq!(error.change(), Some(shrunk), "{error}");
            assert_eq!(error.path(), Some(&*path));
        }
        let error = map.count_byte(1, 50..).unwrap_err();
        assert_eq!((error.done(), error.offset()), (3 * page + 50, 3 * page as u64 + 100), "{error}");
        if case.faults() {
            // One each, two backwards.
            assert!((1..=8).contains(&(signals_taken() - before)));
        }
        // No more signals once the end is accepted.
        map.refresh().unwrap();
        assert_eq!(map.count_byte(0, ..).unwrap(), 0);
        assert_eq!(map.len(), 3 * page as u64 + 100);
    });
}

#[test]
fn a_large_file_that_changes_is_not_looked_through_to_its_end() {
    each(|case| {
        let path = case.path("large");
        std::fs::write(&path, b"").unwrap();
        set_len(&path, LARGE as usize);
        let map = case.options().watch(Watch::Contents).open(&path).unwrap();
        writer(&path).write_all_at(b"x", 7).unwrap();
        let error = map.count_byte(1, ..).unwrap_err();
        assert_eq!(error.change(), Some(Change::Rewritten));
        assert!(error.done() < LARGE as usize / 2, "{} bytes", error.done());
        let error = map.rfind(b"x", ..).unwrap_err();
        assert!(error.offset() > LARGE / 2, "{error}");
    });
}

#[test]
fn two_files_are_compared_and_each_error_names_its_own() {
    each(|case| {
        let len = 5 * page_size() + 17;
        let [one, two, three] = ["one", "two", "three"].map(|name| case.file(name, len));
        overwrite(&three, len - 1, b"\0");
        let [a, b, c] = [&one, &two, &three].map(|path| case.options().open(path).unwrap());
        assert!(a.content_eq(&b).unwrap() && a.content_eq(&a).unwrap());
        assert!(!a.content_eq(&c).unwrap());
        let shorter = case.options().open(case.file("shorter", len - 1)).unwrap();
        assert!(!a.content_eq(&shorter).unwrap());
        let [empty, nothing] = ["empty", "nothing"].map(|name| case.options().open(case.file(name, 0)).unwrap());
        assert!(empty.content_eq(&nothing).unwrap());
        set_len(&two, 1000);
        for result in [a.content_eq(&b), b.content_eq(&a)] {
            let error = result.unwrap_err();
            assert!(matches!(error.reason(), Reason::Changed(_)), "{error}");
            assert_eq!(error.path(), Some(&*two));
        }
    });
}

#[test]
fn lines_are_whole_wherever_they_lie() {
    let page = page_size();
    let long: &[usize] = &[0, 1, 80, 0, page, 3 * page + 5, 7, 200_000, 1, 0];
    // More lines in a register, in a group of registers, and in a chunk than are found at once.
    let (mut empty, mut short, mut mixed) = (vec![0; 70_000], Vec::new(), Vec::new());
    empty.extend([1, 0, 0, 500]);
    for at in 0..5_000_usize {
        short.push(at * 7 % 11);
        mixed.push(at * at % [3, 17, 90, 400][at / 100 % 4]);
    }
    for lens in [long, &empty, &short, &mixed] {
        lines_of(lens);
    }
}

fn lines_of(lens: &[usize]) {
    each(|case| {
        let lines: Vec<Vec<u8>> = lens.iter().enumerate().map(|(i, &len)| vec![b'a' + (i % 26) as u8; len]).collect();
        for end in [&b"\n"[..], b"", b"\n\n", b"\nunfinished"] {
            let path = case.path("lines");
            let text = [&lines.join(&b'\n')[..], end].concat();
            std::fs::write(&path, &text).unwrap();
            let map = case.options().open(&path).unwrap();
            for start in [0, 1, 3, 100] {
                let text = &text[start..];
                let mut want: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
                if want.last().is_some_and(|last| last.is_empty()) {
                    want.pop();
                }
                let mut got = Vec::new();
                let mut lines = map.lines(start as u64..);
                let mut at = start as u64;
                while let Some(line) = lines.next_line().unwrap() {
                    assert_eq!(line.at, at);
                    at += line.bytes.len() as u64 + 1;
                    got.push(line.bytes.to_vec());
                }
                assert_eq!(got, want);
                assert!(lines.next_line().unwrap().is_none(), "and stays there");
            }
        }
    });
}
