//! A full file system: stores to holes fail with the reason.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use faultin::{
    FileMap, MapOptions,
    map::{Backend, Reason},
};
use tempfile::TempDir;

use crate::fixture::serial;

/// A tmpfs with room for this many pages.
struct Small {
    folder: TempDir,
}

impl Small {
    fn new(pages: usize) -> Option<Small> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = CString::new(folder.path().as_os_str().as_bytes()).expect("no NUL");
        let options = CString::new(format!("size={}", pages * faultin::page_size())).expect("no NUL");
        // SAFETY: mounts on a folder of this test.
        let done =
            unsafe { libc::mount(c"tmpfs".as_ptr(), target.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast()) };
        if done != 0 {
            faultin_test::skipped("mount", "a tmpfs");
            return None;
        }
        Some(Small { folder })
    }

    /// A file that consists of a hole.
    fn sparse(&self, len: usize) -> PathBuf {
        let path = self.folder.path().join("sparse");
        File::create(&path).and_then(|file| file.set_len(len as u64)).expect("a sparse file");
        path
    }

    /// Uses up the free space; frees it when dropped.
    fn fill_up(&self) -> Hog {
        let path = self.folder.path().join("hog");
        let mut hog = File::create(&path).expect("a file");
        while hog.write_all(&vec![1; faultin::page_size()]).is_ok() {}
        Hog(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let target = CString::new(self.folder.path().as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: this test's mount.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

struct Hog(PathBuf);

impl Drop for Hog {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).expect("remove");
    }
}

fn options(backend: Backend) -> MapOptions {
    MapOptions::new().backend(backend)
}

fn now(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("read")
}

#[test]
fn a_store_that_finds_no_room_stops_exactly_there() {
    let _one = serial();
    let page = faultin::page_size();
    for backend in [Backend::Mapped, Backend::Pread] {
        let Some(small) = Small::new(16) else { return };
        let path = small.sparse(8 * page);
        let map = options(backend).open_mut(&path).expect("map it");
        map.write_at(&vec![5; 2 * page], 0).expect("room for these");
        let hog = small.fill_up();
        type Store = fn(&faultin::FileMapMut, usize) -> Result<(), faultin::MapError>;
        let stores: [Store; 2] = [
            |map, page| map.write_at(&vec![6; 4 * page], page as u64),
            |map, page| map.fill(page as u64..5 * page as u64, 6),
        ];
        for store in stores {
            let error = store(&map, page).expect_err("full");
            assert!(matches!(error.reason(), Reason::NoSpace), "{backend:?}: {error:?}");
            assert_eq!((error.errno(), error.kind()), (Some(libc::ENOSPC), std::io::ErrorKind::StorageFull));
            assert_eq!((error.done(), error.offset()), (page, 2 * page as u64));
            assert!(error.to_string().ends_with(&format!("at byte {}: no space left for it", 2 * page)), "{error}");
        }
        assert!(matches!(map.store(5 * page as u64, 1_u8).expect_err("full").reason(), Reason::NoSpace));
        let error = map.allocate(..8 * page as u64).expect_err("full");
        assert!(matches!(error.reason(), Reason::NoSpace), "{error:?}");
        map.write_at(&[7], 0).expect("what is allocated stays accessible");

        drop(hog);
        map.allocate(..8 * page as u64).expect("room again");
        let _hog = small.fill_up();
        map.fill(2 * page as u64..8 * page as u64, 8).expect("allocated before it was full");
        let mut model = vec![5; 8 * page];
        model[0] = 7;
        model[page..2 * page].fill(6);
        model[2 * page..].fill(8);
        assert_eq!(now(&path), model);
    }
}

#[test]
fn a_hole_in_a_full_file_system_reads_as_zeros() {
    let _one = serial();
    let page = faultin::page_size();
    for backend in [Backend::Mapped, Backend::Pread] {
        let Some(small) = Small::new(8) else { return };
        let path = small.sparse(4 * page);
        let _hog = small.fill_up();
        let map: FileMap = options(backend).open(&path).expect("map it");
        // On tmpfs a load from a hole allocates a page, and read(2) does not.
        let mut all = vec![0xcc; 4 * page];
        assert_eq!(map.read_at(&mut all, 0).expect("zeros"), 4 * page);
        assert!(all.iter().all(|&byte| byte == 0));
        assert_eq!(map.load::<u64>(page as u64 - 4).expect("zeros"), 0);
        let mut len = 0;
        map.chunks(..).for_each(|chunk| len += chunk.iter().filter(|&&byte| byte == 0).count()).expect("zeros");
        assert_eq!(len, 4 * page);
    }
}
