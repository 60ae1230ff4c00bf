//! A full tmpfs: holes of shared memory read as zeros, and stores to them fail with the reason.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;

use faultin::{
    map::{Backend, Reason, Rights},
    shared::SharedOptions,
};

use crate::fixture::serial;

/// A mounted tmpfs; unmounted when it is dropped.
struct Small(tempfile::TempDir, CString);

impl Small {
    fn new(pages: usize) -> Option<Small> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = CString::new(folder.path().as_os_str().as_bytes()).expect("no NUL");
        let options = CString::new(format!("size={}", pages * faultin::page_size())).expect("no NUL");
        let kind = c"tmpfs".as_ptr();
        // SAFETY: mounts on a folder of this test.
        match unsafe { libc::mount(kind, target.as_ptr(), kind, 0, options.as_ptr().cast()) } {
            0 => Some(Small(folder, target)),
            _ => None,
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // SAFETY: this test's mount.
        unsafe { libc::umount2(self.1.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn holes_without_space_read_as_zeros_and_take_no_stores() {
    let _one = serial();
    let page = faultin::page_size();
    for backend in [Backend::Mapped, Backend::Pread] {
        let Some(small) = Small::new(8) else { return faultin_test::skipped("mount", "a tmpfs") };
        let open = |name| File::options().read(true).write(true).create_new(true).open(small.0.path().join(name));
        let file = open("shared").expect("a file");
        file.set_len(4 * page as u64).expect("a hole");
        let map = SharedOptions::new().backend(backend).from_file(file, 4 * page, Rights::ReadWrite).expect("map it");
        map.write_at(&vec![5; page], 0).expect("room for one");
        let mut hog = open("hog").expect("a file");
        while hog.write_all(&vec![1; page]).is_ok() {}

        let before = faultin::signal::counters().total();
        let mut seen = vec![0xcc; 4 * page];
        map.read_exact_at(&mut seen, 0).expect("the file itself has zeros there");
        assert!(seen[..page].iter().all(|&byte| byte == 5) && seen[page..].iter().all(|&byte| byte == 0));
        assert_eq!(map.load::<u64>(2 * page as u64).expect("zeros"), 0);
        let faulted = faultin::signal::counters().total() - before;
        assert_eq!(faulted > 0, backend == Backend::Mapped && !cfg!(faultin_syscall), "{faulted} faults");

        for error in [
            map.write_at(&vec![6; page], page as u64 - 10).expect_err("full"),
            map.fill(page as u64 - 10..2 * page as u64 - 10, 6).expect_err("full"),
        ] {
            assert!(matches!(error.reason(), Reason::NoSpace), "{backend:?}: {error:?}");
            assert_eq!((error.done(), error.offset(), error.errno()), (10, page as u64, Some(libc::ENOSPC)));
        }
        assert!(matches!(map.store(page as u64, 1_u8).expect_err("full").reason(), Reason::NoSpace));
        if backend == Backend::Mapped && !cfg!(faultin_syscall) {
            let error = map.fetch_add(page as u64, 1_u64, Ordering::Relaxed).expect_err("full");
            assert!(matches!(error.reason(), Reason::NoSpace), "{error:?}");
        }
        map.read_exact_at(&mut seen, 0).expect("there");
        assert!(seen[page - 10..page].iter().all(|&byte| byte == 6) && seen[page..].iter().all(|&byte| byte == 0));
    }
}
