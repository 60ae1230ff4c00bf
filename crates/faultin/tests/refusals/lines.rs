//! Lines use memory in proportion to the caller's limit, not to the file's contents.

use faultin::{FileMap, MapError, map::Reason};

fn too_long(error: &MapError, at: u64, most: usize) {
    assert!(matches!(error.reason(), Reason::LineTooLong { limit } if *limit == most), "{error:?}");
    assert_eq!((error.offset(), error.done()), (at, 0));
    let says = format!("at byte {at}: a line begins that has more than {most} bytes, the limit");
    assert!(error.to_string().ends_with(&says), "{error}");
}

#[test]
fn a_line_beyond_the_limit_is_an_error_with_its_place() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let long = 200_000;
    let text = [&b"one\n"[..], &vec![b'x'; long], b"\nend\n"].concat();
    std::fs::write(file.path(), text).expect("write it");
    let map = FileMap::open(file.path()).expect("map it");
    for limit in [3, 4, 100, 8191, 8192, 8193, long - 1] {
        let mut lines = map.lines(..).limit(limit);
        assert_eq!(lines.next_line().expect("it is short").expect("a line").bytes, b"one");
        // However often it is called, and without continuing in the middle of the line.
        for _ in 0..3 {
            too_long(&lines.next_line().expect_err("it is long"), 4, limit);
        }
        // With a higher limit it continues where it stopped.
        let mut lines = lines.limit(long);
        let line = lines.next_line().expect("it fits").expect("a line");
        assert_eq!((line.at, line.bytes.len()), (4, long));
        assert!(line.bytes.iter().all(|&byte| byte == b'x'));
        assert_eq!(lines.next_line().expect("it is short").expect("a line").bytes, b"end");
        assert!(lines.next_line().expect("the end").is_none());
    }
    too_long(&map.lines(..).limit(2).next_line().expect_err("it has three bytes"), 0, 2);
}

#[test]
fn a_file_that_is_one_line_takes_no_more_than_64_mib() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    // Almost as long as a file can be: zeros without a line end.
    let len = 1 << 40;
    if file.as_file().set_len(len).is_err() {
        return faultin_test::skipped("large-files", "no file of a tebibyte");
    }
    let map = faultin::MapOptions::new().offset(10).open(file.path()).expect("map it");
    let mut lines = map.lines(5..);
    let error = lines.next_line().expect_err("it is too long");
    too_long(&error, 15, 64 << 20);
    assert_eq!(std::io::Error::from(error).to_string().matches("at byte").count(), 1);
}
