//! The caller's POSIX record locks: closing any descriptor of a file drops the process's locks on it, so no operation on a
//! map closes one.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use faultin::shared::SharedOptions;
use faultin::{Cause, page_size};
use faultin::{
    FileMap, MapOptions,
    map::{Backend, Rights, Watch, has_known_size},
};

/// Locks the first byte of a file.
fn lock(file: &File) {
    // SAFETY: zeros are a lock.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence, lock.l_len) = (libc::F_WRLCK as _, libc::SEEK_SET as _, 1);
    // SAFETY: locks a file that is open for writing.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) }, 0, "lock it");
}

/// Whether another process sees the lock.
fn is_locked(file: &File) -> bool {
    // SAFETY: as above.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence, lock.l_len) = (libc::F_WRLCK as _, libc::SEEK_SET as _, 1);
    // SAFETY: the child makes two system calls and exits.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0, "fork");
        if child == 0 {
            let asked = libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock);
            libc::_exit(if asked != 0 { 2 } else { i32::from(lock.l_type == libc::F_WRLCK as libc::c_short) });
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) < 2, "{status}");
        libc::WEXITSTATUS(status) == 1
    }
}

/// A file of `pages` pages in `folder`, locked by this process.
fn locked(folder: &Path, pages: usize) -> (File, File) {
    let file = tempfile::tempfile_in(folder).expect("a file");
    file.write_all_at(&vec![7; pages * page_size()], 0).expect("write it");
    lock(&file);
    assert!(is_locked(&file), "it sees our lock");
    let given = file.try_clone().expect("a descriptor");
    (file, given)
}

fn folders() -> Vec<std::path::PathBuf> {
    let mut folders = vec![std::env::temp_dir()];
    match Path::new("/dev/shm").is_dir() {
        true => folders.push("/dev/shm".into()),
        false => faultin_test::skipped("tmpfs", "no /dev/shm"),
    }
    folders
}

#[test]
fn reading_and_its_faults_keep_the_locks() {
    let page = page_size() as u64;
    for folder in folders() {
        for (backend, watch) in [Backend::Automatic, Backend::Pread].iter().flat_map(|&backend| {
            [Watch::Reader, Watch::Appending, Watch::Contents, Watch::Nothing].map(|watch| (backend, watch))
        }) {
            let (file, given) = locked(&folder, 8);
            let map = MapOptions::new().backend(backend).watch(watch).from_file(given).expect("map it");
            let held = |what: &str| assert!(is_locked(&file), "{what}, {backend:?}, {watch:?}, {folder:?}");
            held("made");
            for round in ["whole", "cut", "grown"] {
                match round {
                    "cut" => file.set_len(2 * page + 5).expect("cut it"),
                    "grown" => file.set_len(64 * page).expect("grow it"),
                    _ => {}
                }
                let all = |map: &FileMap| {
                    let mut bytes = vec![0; 8 * page as usize];
                    let _ = map.read_at(&mut bytes, 0);
                    held("read");
                    let _ = (map.load::<u64>(5 * page), map.try_read_at(&mut bytes, 0));
                    held("loaded");
                    let _ = (map.find(b"never there", ..), map.rfind(b"never there", ..), map.count_byte(7, ..));
                    held("searched");
                    let _ = map.lines(..).next_line().map(drop);
                    let _ = map.chunks(..).for_each(|_| {});
                    let _ = std::io::Read::read_to_end(&mut map.reader(), &mut Vec::new());
                    held("in pieces");
                    // SAFETY: nothing relies on the bytes.
                    let _ = unsafe { map.with_slice(.., |bytes| bytes.iter().fold(0_u8, |sum, b| sum ^ b)) };
                    let _ = map.repair();
                    held("as a slice");
                    let _ = (map.verify(), map.valid_up_to(), map.file_len(), has_known_size(map.file()));
                    held("asked");
                };
                all(&map);
                let _ = map.refresh();
                held("refreshed");
                all(&map);
            }
        }
    }
}

#[test]
fn writing_and_its_faults_keep_the_locks() {
    let page = page_size() as u64;
    for folder in folders() {
        for backend in [Backend::Automatic, Backend::Pread] {
            let (file, given) = locked(&folder, 8);
            let map = MapOptions::new().backend(backend).from_file_mut(given).expect("map it");
            let held = |what: &str| assert!(is_locked(&file), "{what}, {backend:?}, {folder:?}");
            for len in [8, 2, 64] {
                file.set_len(len * page).expect("set its length");
                let _ = map.write_at(&vec![8; 8 * page as usize], 0);
                held("written");
                let _ = (map.fill(..8 * page, 9), map.store(6 * page, 1_u64));
                held("filled");
                let _ = (map.flush(), map.flush_range(..100), map.allocate(..9 * page));
                held("flushed");
                let _ = map.refresh();
                held("refreshed");
            }
            let (file, given) = locked(&folder, 8);
            let shared = SharedOptions::new().backend(backend).from_file(given, 8 * page as usize, Rights::ReadWrite);
            let shared = shared.expect("map it");
            let held = |what: &str| assert!(is_locked(&file), "{what}, {backend:?}, {folder:?}");
            for len in [8, 2, 64] {
                file.set_len(len * page).expect("set its length");
                let _ = (shared.read_at(&mut vec![0; 8 * page as usize], 0), shared.load::<u64>(7 * page));
                held("read");
                let _ = (shared.write_at(&[1; 100], 6 * page), shared.store(7 * page, 1_u64));
                let _ = (shared.fill(..8 * page, 3), shared.verify(), shared.seal_shrink());
                held("written");
            }
        }
    }
}

#[test]
fn what_a_fault_was_is_asked_of_the_callers_descriptor() {
    let page = page_size();
    for folder in folders() {
        // (The second one stays open.)
        let (file, _given) = locked(&folder, 1);
        let position = 5;
        std::io::Seek::seek(&mut &file, std::io::SeekFrom::Start(position)).expect("seek");
        // Three pages more, the middle one a hole.
        file.set_len(4 * page as u64).expect("grow it");
        file.write_all_at(&[1], page as u64).expect("write it");
        file.write_all_at(&[1], 3 * page as u64).expect("write it");
        faultin::install().expect("the handler");
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), 9 * page, rights, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(map, libc::MAP_FAILED);
        // SAFETY: within the mapping; may fault.
        let fault = unsafe { faultin::raw::load(map.cast::<u8>().wrapping_add(8 * page)) }.expect_err("behind the end");
        assert_eq!(fault.cause(), Cause::Backing);
        let mut holes = Vec::new();
        for at in 0..9 {
            let backing = fault.diagnose(&file, (at * page) as u64).expect("the file answers");
            assert!(is_locked(&file), "page {at}, {folder:?}: {backing:?}");
            if matches!(backing, Some(faultin::Backing::NoSpace)) {
                holes.push(at);
            }
        }
        assert_eq!(std::io::Seek::stream_position(&mut &file).expect("ask"), position);
        match is_told(&file) {
            true => assert_eq!(holes, [2], "{folder:?}"),
            false => faultin_test::skipped("holes", "the file system does not tell its holes"),
        }
        // SAFETY: this value's mapping.
        unsafe { libc::munmap(map, 9 * page) };
    }
}

/// Whether this file has a hole at all, and the kernel reports which pages of tmpfs are in memory (Linux 6.5).
fn is_told(file: &File) -> bool {
    // SAFETY: reads and writes nothing: a range of no file.
    let knows = unsafe { libc::syscall(451, -1, 0, 0, 0) } != 0
        && std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS);
    // SAFETY: moves the position of the test's file.
    let hole = unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_HOLE) };
    knows && hole == 2 * page_size() as i64
}

/// What the documentation of maps says about dropping one.
#[test]
fn dropping_a_map_ends_record_locks_and_not_those_of_the_description() {
    let folder = std::env::temp_dir();
    let (file, given) = locked(&folder, 1);
    drop(FileMap::from_file(given).expect("map it"));
    assert!(!is_locked(&file), "the kernel drops them with any descriptor");

    // SAFETY: zeros are a lock.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence, lock.l_len) = (libc::F_WRLCK as _, libc::SEEK_SET as _, 1);
    // SAFETY: locks a file that is open for writing.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }, 0, "lock it");
    assert!(is_locked(&file));
    drop(FileMap::from_file(file.try_clone().expect("a descriptor")).expect("map it"));
    assert!(is_locked(&file));
}
