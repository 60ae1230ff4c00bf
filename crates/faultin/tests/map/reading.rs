//! A file that does not change: every way to read it gives its bytes, in every window.

use std::io::{BufRead, Read, Seek, SeekFrom};

use faultin::{
    FileMap,
    map::{Advice, Reason, Watch},
};

use crate::fixture::{content, each, page_size};

/// All bytes of a map, read in chunks.
fn chunked(map: &FileMap) -> Vec<u8> {
    let mut all = Vec::new();
    let len = map.chunks(..).for_each(|chunk| all.extend_from_slice(chunk)).expect("whole");
    assert_eq!(len, all.len() as u64);
    all
}

#[test]
fn every_way_to_read_gives_the_bytes_of_the_window() {
    let page = page_size();
    let len = 9 * page + 77;
    let whole = content(len);
    each(|case| {
        let path = case.file("file", len);
        for offset in [0, 1, page - 1, page, page + 1, 3 * page + 500, len - 1, len] {
            for length in [None, Some(0), Some(1), Some(page), Some(2 * page + 3), Some(usize::MAX)] {
                let mut options = case.options().offset(offset as u64);
                if let Some(length) = length {
                    options = options.length(length as u64);
                }
                let map = options.open(&path).expect("map it");
                let end = offset.saturating_add(length.unwrap_or(len)).min(len);
                let want = &whole[offset..end];
                assert_eq!(map.len(), want.len() as u64);
                assert_eq!(map.file_len().expect("known"), len as u64);
                assert_eq!(map.valid_up_to().expect("whole"), want.len() as u64);

                let mut all = vec![0xcc; want.len() + 3];
                assert_eq!(map.read_at(&mut all, 0).expect("whole"), want.len());
                assert_eq!(all[..want.len()], *want);
                assert_eq!(all[want.len()..], [0xcc; 3], "nothing behind the count");
                let mut past_caches = vec![0xcc; want.len() + 3];
                assert_eq!(map.read_at_streaming(&mut past_caches, 0).expect("whole"), want.len());
                assert_eq!(past_caches, all);
                let exact = map.read_exact_at(&mut all, 0).expect_err("three bytes too many");
                assert!(matches!(exact.reason(), Reason::PastEnd { len } if *len == want.len() as u64), "{exact:?}");
                assert_eq!((exact.done(), exact.errno()), (want.len(), None));
                assert_eq!(exact.kind(), std::io::ErrorKind::UnexpectedEof);
                assert_eq!(exact.offset(), end as u64);

                assert_eq!(chunked(&map), want);
                let mut read = Vec::new();
                map.reader().read_to_end(&mut read).expect("whole");
                assert_eq!(read, want);
            }
        }
    });
}

#[test]
fn reads_at_any_position_end_with_the_map() {
    let (page, len) = (page_size(), 2 * page_size() + 30);
    let whole = content(len);
    each(|case| {
        let (_, map) = case.mapped(len);
        for at in [0, 1, 7, page - 3, page, len - 9, len - 1, len, len + 1, 100 * len] {
            for size in [0, 1, 8, 64, page, 3 * page] {
                let mut dst = vec![0xcc; size];
                let read = map.read_at(&mut dst, at as u64).expect("whole");
                let want = &whole[at.min(len)..(at + size).min(len).max(at.min(len))];
                assert_eq!((read, &dst[..read]), (want.len(), want), "{size} at {at}");
                let mut past_caches = vec![0xcc; size];
                assert_eq!(map.read_at_streaming(&mut past_caches, at as u64).expect("whole"), read);
                assert_eq!(past_caches, dst, "{size} at {at}");
                let exact = map.read_exact_at(&mut dst, at as u64);
                assert_eq!(exact.is_ok(), read == size, "{size} at {at}");
            }
        }
        assert_eq!(map.read_at(&mut [0; 4], u64::MAX).expect("whole"), 0);
        map.read_exact_at(&mut [0; 4], u64::MAX).expect_err("nothing is there");
    });
}

#[test]
fn values_are_loaded_whole_or_not_at_all() {
    let len = 2 * page_size() + 3;
    let whole = content(len);
    each(|case| {
        let path = case.file("file", len);
        let map = case.options().offset(1).open(&path).expect("map it");
        for at in [0, 1, 5, page_size() - 4, len - 9] {
            let want = &whole[1 + at..];
            assert_eq!(map.load::<u8>(at as u64).expect("whole"), want[0]);
            assert_eq!(map.load::<u64>(at as u64).expect("whole").to_ne_bytes(), want[..8]);
            assert_eq!(map.load::<i16>(at as u64).expect("whole").to_ne_bytes(), want[..2]);
        }
        let at = (len - 17) as u64;
        assert_eq!(map.load::<u128>(at).expect("whole").to_ne_bytes(), whole[len - 16..]);
        for at in [at + 1, at + 16, at + 17, u64::MAX] {
            let error = map.load::<u128>(at).expect_err("not all of it");
            assert!(matches!(error.reason(), Reason::PastEnd { .. }), "{error:?}");
            assert_eq!(error.done(), 0);
        }
    });
}

#[test]
fn chunks_of_a_range_are_that_range() {
    let len = 100_003;
    let whole = content(len);
    each(|case| {
        let path = case.file("file", len + 5);
        let map = case.options().offset(5).open(&path).expect("map it");
        let whole = [&whole[5..], &content(len + 5)[len..]].concat();
        let of = |range: std::ops::Range<usize>| {
            let mut all = Vec::new();
            let range = range.start as u64..range.end as u64;
            map.chunks(range).for_each(|chunk| all.extend_from_slice(chunk)).expect("whole");
            all
        };
        for (start, end) in [(0, 0), (0, 1), (0, len), (1, len - 1), (4091, 4092), (65_535, 65_537), (len - 1, len)] {
            assert_eq!(of(start..end), whole[start..end], "{start}..{end}");
        }
        assert_eq!(of(len - 10..len + 10), whole[len - 10..], "ends with the map");
        assert_eq!(of(len + 10..len + 20), []);
        assert_eq!(of(len..len), []);
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = of(20..10);
        assert_eq!(reversed, []);
        let mut inclusive = Vec::new();
        map.chunks(10..=10).for_each(|chunk| inclusive.extend_from_slice(chunk)).expect("whole");
        assert_eq!(inclusive, whole[10..11]);
        let mut chunks = map.chunks(..);
        while chunks.next_chunk().expect("whole").is_some() {}
        assert_eq!(chunks.position(), len as u64);
        assert!(chunks.next_chunk().expect("still").is_none());
    });
}

#[test]
fn a_reader_seeks_and_splits_lines() {
    each(|case| {
        let path = case.path("lines");
        let text: String = (0..30_000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&path, &text).expect("write");
        let map = case.options().open(&path).expect("map it");
        let lines: Vec<String> = map.reader().lines().map(|line| line.expect("whole")).collect();
        assert_eq!(lines.len(), 30_000);
        assert_eq!(lines[29_999], "line 29999");

        let mut reader = map.reader();
        let mut word = [0; 4];
        for (to, at) in [
            (SeekFrom::Start(7), 7),
            (SeekFrom::Current(100_000), 100_011),
            (SeekFrom::Current(-50), 99_965),
            (SeekFrom::End(-4), text.len() as u64 - 4),
        ] {
            assert_eq!(reader.seek(to).expect("inside"), at);
            reader.read_exact(&mut word).expect("whole");
            assert_eq!(word, text.as_bytes()[at as usize..at as usize + 4]);
            assert_eq!((reader.stream_position().expect("known"), reader.position()), (at + 4, at + 4));
        }
        assert_eq!(reader.read(&mut word).expect("the end"), 0);
        assert_eq!(reader.seek(SeekFrom::End(10)).expect("behind the end is a position"), text.len() as u64 + 10);
        assert_eq!(reader.read(&mut word).expect("nothing there"), 0);
        assert!(reader.fill_buf().expect("nothing there").is_empty());
        assert_eq!(
            reader.seek(SeekFrom::Current(-i64::MAX)).expect_err("none").kind(),
            std::io::ErrorKind::InvalidInput
        );
        assert_eq!(reader.position(), text.len() as u64 + 10, "a refused seek moves nothing");
    });
}

#[test]
fn hints_change_no_byte() {
    let len = 70 * page_size() + 1;
    let whole = content(len);
    each(|case| {
        let path = case.file("file", len);
        for advice in [Advice::Normal, Advice::Sequential, Advice::Random, Advice::WillNeed] {
            for hint in [false, true] {
                let options =
                    case.options().advise(advice).populate(hint).huge_pages(!hint).watch(Watch::Nothing).offset(3);
                assert_eq!(chunked(&options.open(&path).expect("map it")), whole[3..]);
            }
        }
        let path = case.file("empty", 0);
        let map = case.options().populate(true).open(&path).expect("map it");
        assert_eq!(map.len(), 0);
    });
}
