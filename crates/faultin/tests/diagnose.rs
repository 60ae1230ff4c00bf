//! The reason for a fault of a file mapping, determined from the file afterwards.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use faultin::{Access, Backing, Cause, Fault};

/// A shared mapping of `len` bytes of `file`.
struct Map(*mut libc::c_void, usize);

impl Map {
    fn new(file: &File, len: usize) -> Map {
        faultin::install().expect("install");
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(map, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Map(map, len)
    }

    fn load(&self, offset: usize) -> Result<u8, Fault> {
        assert!(offset < self.1);
        // SAFETY: within the mapping; may fault, as intended.
        unsafe { faultin::raw::load(self.0.cast::<u8>().wrapping_add(offset)) }
    }

    fn store(&self, offset: usize) -> Result<(), Fault> {
        assert!(offset < self.1);
        // SAFETY: as above.
        unsafe { faultin::raw::store(self.0.cast::<u8>().wrapping_add(offset), 1) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: this value's mapping.
        unsafe { libc::munmap(self.0, self.1) };
    }
}

#[test]
fn a_truncated_file_says_past_the_end_and_a_regrown_one_that_it_is_healthy() {
    let page = faultin::page_size();
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(3 * page as u64).expect("grow");
    let map = Map::new(&file, 3 * page);
    file.set_len(page as u64 + 1).expect("truncate");
    for fault in [map.load(2 * page + 7).expect_err("past the end"), map.store(2 * page + 7).expect_err("past the end")]
    {
        assert_eq!(fault.cause(), Cause::Backing);
        let backing = fault.diagnose(&file, 2 * page as u64 + 7).expect("the file answers");
        assert!(matches!(backing, Some(Backing::PastEnd { size }) if size == page as u64 + 1), "{backing:?}");
    }
    assert_eq!(map.load(2 * page - 1), Ok(0), "the rest of the last page is accessible, and zero");
    let fault = map.load(2 * page).expect_err("past the end");
    file.set_len(3 * page as u64).expect("grow");
    (&file).write_all(&vec![1; 3 * page]).expect("write");
    let backing = fault.diagnose(&file, 2 * page as u64).expect("the file answers");
    assert!(matches!(backing, Some(Backing::Healthy)), "{backing:?}");
}

#[test]
fn a_fault_that_is_not_the_files_is_not_diagnosed() {
    let file = tempfile::tempfile().expect("a temporary file");
    let fault = Fault::rejected(Access::Read, Cause::Protection, 0);
    assert!(fault.diagnose(&file, 0).expect("the file answers").is_none());
}

#[test]
fn a_full_file_system_says_no_space() {
    let page = faultin::page_size();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let target = CString::new(folder.path().as_os_str().as_bytes()).expect("no NUL");
    let options = CString::new(format!("size={}", 8 * page)).expect("no NUL");
    // SAFETY: mounts on a folder of this test.
    let mounted =
        unsafe { libc::mount(c"tmpfs".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast()) == 0 };
    if !mounted {
        return faultin_test::skipped("mount", "a tmpfs");
    }
    let outcome = std::panic::catch_unwind(|| {
        let sparse = File::options().read(true).write(true).create_new(true).open(folder.path().join("sparse"));
        let sparse = sparse.expect("a file");
        sparse.set_len(4 * page as u64).expect("grow");
        let map = Map::new(&sparse, 4 * page);
        map.store(0).expect("there is room yet");
        let mut hog = File::create(folder.path().join("hog")).expect("a file");
        while hog.write_all(&vec![1; page]).is_ok() {}
        let fault = map.store(2 * page).expect_err("the file system is full");
        assert_eq!(fault.cause(), Cause::Backing);
        let backing = fault.diagnose(&sparse, 2 * page as u64).expect("the file answers");
        assert!(matches!(backing, Some(Backing::NoSpace)), "{backing:?}");
        map.store(1).expect("what is allocated stays accessible");
    });
    // SAFETY: this test's mount.
    unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
