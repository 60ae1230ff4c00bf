//! What is in memory, and several ranges at once.

#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges, some of which have one")]

use std::fs::File;
#[cfg(not(faultin_portable))]
use std::os::fd::AsRawFd;

use faultin::map::{Change, ReadRequest, Reason, Watch};
use faultin::{FileMap, MapError};

use crate::fixture::{content, each, overwrite, page_size, set_len, settle};

/// Reads these ranges at once. Returns each buffer and result.
fn read(map: &FileMap, ranges: &[(u64, usize)]) -> Vec<(Vec<u8>, Result<usize, MapError>)> {
    let mut buffers: Vec<_> = ranges.iter().map(|&(_, len)| vec![0xe7; len]).collect();
    let mut reads: Vec<_> =
        ranges.iter().zip(&mut buffers).map(|(&(pos, _), bytes)| ReadRequest::new(pos, bytes)).collect();
    let results = map.read_many(&mut reads);
    assert_eq!(results.len(), ranges.len(), "a result for each");
    buffers.into_iter().zip(results).collect()
}

const WATCHES: [Watch; 4] = [Watch::Reader, Watch::Appending, Watch::Contents, Watch::Nothing];

/// Each range has the result that a read of it alone has, before and after changes of the file.
#[test]
fn ranges_that_are_read_at_once_have_the_results_of_reads() {
    let page = page_size();
    let ranges = [
        (5, 10),
        (page as u64 - 3, 6),
        (0, 0),
        (3 * page as u64 + 5, 4 * page),
        (7 * page as u64, 3 * page),
        (9 * page as u64 + 50, 100),
        (40 * page as u64, 10),
        (u64::MAX, 10),
    ];
    for watch in WATCHES {
        each(|case| {
            let path = case.file("file", 9 * page + 100);
            settle(&path);
            let changes: [&dyn Fn(); 4] =
                [&|| {}, &|| overwrite(&path, 3 * page + 10, b"other"), &|| set_len(&path, 7 * page + 11), &|| {
                    set_len(&path, 100)
                }];
            for (number, change) in changes.into_iter().enumerate() {
                let open = || case.options().watch(watch).open(&path).expect("map it");
                let (map, alone) = (open(), open());
                change();
                for (&(pos, len), (bytes, result)) in ranges.iter().zip(read(&map, &ranges)) {
                    let what = format!("{watch:?}, change {number}, {len} at {pos}");
                    let mut ought = vec![0xe7; len];
                    match (alone.read_at(&mut ought, pos), result) {
                        (Ok(ought), Ok(is)) => assert_eq!(is, ought, "{what}"),
                        (Err(ought), Err(is)) => {
                            assert_eq!(
                                (is.done(), is.offset(), is.change()),
                                (ought.done(), ought.offset(), ought.change()),
                                "{what}"
                            );
                            assert_eq!(is.errno(), ought.errno(), "{what}");
                        }
                        (ought, is) => panic!("{what}: {is:?} instead of {ought:?}"),
                    }
                    assert!(watch == Watch::Nothing || bytes == ought, "{what}: other bytes");
                }
            }
        });
    }
}

#[test]
fn a_truncated_file_ends_each_range_where_it_ends() {
    let page = page_size();
    each(|case| {
        let (path, map) = case.mapped(20 * page);
        let whole = content(20 * page);
        set_len(&path, 10 * page + 7);
        let results = read(&map, &[(0, 5 * page), (8 * page as u64, 6 * page), (15 * page as u64, 10)]);
        assert!(matches!(results[0].1, Ok(read) if read == 5 * page) && results[0].0 == whole[..5 * page]);
        for (index, done) in [(1, 2 * page + 7), (2, 0)] {
            let (bytes, result) = &results[index];
            let error = result.as_ref().expect_err("it ends before");
            assert!(matches!(error.change(), Some(Change::Shrunk { .. })), "{error}");
            assert_eq!(error.done(), done);
            assert_eq!(bytes[..done], whole[8 * page * (2 - index)..][..done]);
        }
        assert_eq!(map.read_many(&mut []).len(), 0);
    });
}

#[test]
fn what_is_in_memory_is_told_or_refused_and_prefetching_brings_it_in() {
    let page = page_size();
    each(|case| {
        let (path, map) = case.mapped(64 * page);
        let len = map.len();
        if cfg!(faultin_portable) {
            assert!(matches!(map.resident(..).expect_err("not known").reason(), Reason::Unsupported(_)));
            assert_eq!(map.prefetch(&[0..len]), 0);
            return;
        }
        let found = match map.resident(..) {
            Ok(found) => found,
            Err(error) => {
                assert!(matches!(error.reason(), Reason::Unsupported(_)), "{error}");
                return faultin_test::skipped("cachestat", error);
            }
        };
        assert!(found.is_whole(), "it has just been written: {found:?}");
        assert_eq!(map.resident(5..2 * page as u64).expect("as before").runs(), [5..2 * page as u64]);
        assert_eq!(map.resident(len..).expect("nothing").bytes(), 0);
        assert_eq!(map.resident(len + 10..len + 20).expect("nothing").runs(), []);
        drop(map);
        // Clean pages that are not mapped can be dropped.
        let file = File::open(&path).expect("open");
        file.sync_all().expect("sync");
        #[cfg(not(faultin_portable))]
        // SAFETY: a hint about an open file.
        unsafe {
            libc::posix_fadvise(file.as_raw_fd(), 16 * page as i64, 16 * page as i64, libc::POSIX_FADV_DONTNEED)
        };
        let map = case.options().offset(page as u64 + 9).open(&path).expect("map it");
        let found = map.resident(..).expect("as before");
        if found.is_whole() {
            return faultin_test::skipped(
                "page-cache",
                format_args!("pages of {} are not dropped when asked", path.display()),
            );
        }
        let dropped = 15 * page as u64 - 9..31 * page as u64 - 9;
        assert_eq!(found.missing().collect::<Vec<_>>(), std::slice::from_ref(&dropped));
        assert_eq!(map.prefetch(&[dropped.clone(), len..len + 5, 0..0]), 16 * page as u64);
        // The kernel reads it in the background.
        while !map.resident(dropped.clone()).expect("as before").is_whole() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(map.prefetch(&[0..u64::MAX]), (len - page as u64 - 9).min(32 << 20));
    });
}

/// A file that this process may read and not write is one about which `mincore` does not tell the truth.
#[cfg(not(faultin_portable))]
#[test]
fn a_file_of_another_user_is_never_claimed_to_be_in_memory() {
    use std::os::unix::process::CommandExt;
    const CHILD: &str = "FAULTIN_TEST_OTHER_USER";
    if let Some(path) = std::env::var_os(CHILD) {
        let map = FileMap::open(path).expect("anyone may read it");
        match map.resident(..) {
            Ok(found) => assert!(!found.is_whole(), "it was dropped"),
            Err(error) => assert!(matches!(error.reason(), Reason::Unsupported(_)), "{error}"),
        }
        return;
    }
    // SAFETY: takes no arguments.
    if unsafe { libc::geteuid() } != 0 {
        return faultin_test::skipped("root", "to be another user");
    }
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("readable");
    let path = folder.path().join("data");
    std::fs::write(&path, vec![7; 100 * page_size()]).expect("write it");
    let file = File::open(&path).expect("open it");
    file.sync_all().expect("sync it");
    // SAFETY: a hint about an open file.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    let map = FileMap::open(&path).expect("map it");
    match map.resident(..) {
        Ok(found) if found.bytes() == 0 => {}
        other => return faultin_test::skipped("page-cache", format_args!("not dropped when asked: {other:?}")),
    }
    drop(map);
    // The test program itself may be where another user cannot go.
    let program = folder.path().join("program");
    std::fs::copy(std::env::current_exe().expect("a path"), &program).expect("copy it");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let test = "stalls::a_file_of_another_user_is_never_claimed_to_be_in_memory";
    let output = std::process::Command::new(&program)
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, &path)
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .expect("run it");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
