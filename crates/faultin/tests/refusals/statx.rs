//! `statx(2)` refused, as by the filters of older containers: `fstat(2)` is used instead.

use faultin::{FileMap, FileMapMut, map::Change};

use crate::filters::{deny, works};

#[test]
fn maps_do_without_statx() {
    if !works() {
        return faultin_test::skipped("seccomp", "no thread can have a filter");
    }
    for errno in [libc::EPERM, libc::ENOSYS] {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), [7; 1000]).expect("write it");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(deny(&[libc::SYS_statx], errno), "a filter");
                let map = FileMap::open(file.path()).expect("map it");
                map.verify().expect("it is what it was");
                let mut bytes = [0; 10];
                assert_eq!(map.read_at(&mut bytes, 990).expect("read it"), 10);
                assert_eq!(bytes, [7; 10]);
                match map.try_read_at(&mut bytes, 0) {
                    Ok(len) => assert_eq!((len, bytes), (10, [7; 10])),
                    // Not on this file system, or not in memory.
                    Err(error) => assert!(!error.to_string().contains("not permitted"), "{error}"),
                }
                FileMapMut::open(file.path()).expect("map it").write_at(&[8], 3).expect("write it");
                file.as_file().set_len(10).expect("cut it");
                let error = map.verify().expect_err("it was cut");
                assert_eq!(error.change(), Some(Change::Shrunk { from: 1000, to: 10 }));
            });
        });
    }
}
