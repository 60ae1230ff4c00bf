//! Disks that are full, cannot be written, fail, or vanish.

use std::io::Write;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount};

use super::*;

/// A file system that is mounted on a directory of the test.
struct Mounted(TempDir);

impl Mounted {
    /// Mounts a tmpfs of `size` bytes.
    fn new(size: usize) -> Option<Mounted> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let options = std::ffi::CString::new(format!("size={size},mode=0700")).expect("no NUL");
        match mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(options.as_c_str())) {
            Ok(()) => {
                let _ = mount_change(dir.path(), MountPropagationFlags::PRIVATE);
                Some(Mounted(dir))
            }
            Err(error) => {
                faultin_test::skipped("mount", format_args!("a tmpfs: {error}"));
                None
            }
        }
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("tier")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_holds_what_it_has_space_for() {
    let Some(small) = Mounted::new(1 << 20) else { return };
    let disk = open(&small.dir(), 4_096);
    for round in 0..3 {
        put(&disk, round * 1_000..round * 1_000 + 600);
    }
    let stats = disk.stats();
    let found = count(&disk, 0..3_000);
    // 256 pages, some of which are the directory and the index.
    assert!((100..256).contains(&found), "{found} blocks: {stats:?}");
    assert_eq!((found as u64, stats.damaged), (stats.blocks, 0));
    drop(disk);
    assert_eq!(count(&open(&small.dir(), 4_096), 0..3_000), found);

    // Another program takes the rest of the space.
    let mut other = fs::File::create(small.0.path().join("other")).expect("a file");
    while other.write_all(&[1; 4096]).is_ok() {}
    let disk = open(&small.dir(), 4_096);
    put(&disk, 7_000..7_010);
    assert_eq!(count(&disk, 7_000..7_010), 10, "in the place of others");
}

#[test]
fn a_disk_that_was_full_before_is_a_miss() {
    let Some(full) = Mounted::new(64 << 10) else { return };
    let mut other = fs::File::create(full.0.path().join("other")).expect("a file");
    while other.write_all(&[1; 4096]).is_ok() {}
    let disk = open(&full.dir(), 64);
    put(&disk, 0..10);
    assert_eq!(count(&disk, 0..10), 0, "{:?}", disk.stats());
    other.set_len(0).expect("space again");
    while !has(&disk, 0) {
        std::thread::sleep(Duration::from_millis(50));
        put(&disk, 0..1);
    }
}

#[test]
fn a_disk_that_can_no_longer_be_written_is_read() {
    let Some(mounted) = Mounted::new(4 << 20) else { return };
    let disk = open(&mounted.dir(), 64);
    put(&disk, 0..10);
    drop(disk);
    let remount = |flags| mount_remount(mounted.0.path(), flags, c"").expect("a mount of this test");
    remount(MountFlags::RDONLY);
    let disk = open(&mounted.dir(), 64);
    assert_eq!(disk.stats().state, DiskState::Failed(std::io::ErrorKind::ReadOnlyFilesystem));
    put(&disk, 0..10);
    assert_eq!(count(&disk, 0..10), 0);
    let new = mounted.0.path().join("new");
    assert_eq!(Disk::open(new, 1 << 20).map(drop).unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    remount(MountFlags::empty());
    while disk.stats().state != DiskState::Ready {
        std::thread::sleep(Duration::from_millis(50));
        put(&disk, 20..21);
    }
    assert_eq!(count(&disk, 0..10), 10, "what was stored before");
}

#[test]
fn a_directory_that_is_removed_takes_nothing_with_it() {
    let place = Place::new();
    let disk = place.open(64);
    put(&disk, 0..10);
    fs::remove_dir_all(place.dir()).expect("removed");
    put(&disk, 10..20);
    assert_eq!(count(&disk, 0..20), 20, "in the removed files");
    let other = place.open(64);
    assert_eq!((other.stats().state, count(&other, 0..20)), (DiskState::Ready, 0), "a new tier in its place");
    drop(disk);
    put(&other, 0..5);
    assert_eq!(count(&other, 0..20), 5);
    drop(other);
    assert_eq!(count(&place.open(64), 0..20), 5);
}

/// A process with a limit on the size of its files, which would get a signal.
#[test]
fn a_limit_on_the_size_of_files_is_obeyed() {
    const LIMITED: &str = "FAULTIN_TEST_LIMITED";
    if let Some(dir) = std::env::var_os(LIMITED) {
        let dir = Path::new(&dir);
        let disk = open(dir, 4_096);
        put(&disk, 0..200);
        assert!(count(&disk, 0..200) > 100);
        let len = fs::metadata(dir.join("data")).expect("the data").len();
        assert!(len <= 1 << 20, "{len}");
        return;
    }
    let place = Place::new();
    let exe = std::env::current_exe().expect("a path");
    let test = "environments::a_limit_on_the_size_of_files_is_obeyed";
    // Blocks of 512 bytes in some shells, and of 1,024 in others.
    let output = faultin_test::processes::run("sh")
        .args(["-c", "ulimit -f 1024 && exec \"$0\" --exact \"$1\"", &exe.display().to_string(), test])
        .env(LIMITED, place.dir())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return faultin_test::skipped("sh", error),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    faultin_test::assert_ran(output.status, &text);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
