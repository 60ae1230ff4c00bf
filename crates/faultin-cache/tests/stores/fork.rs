//! A child of `fork` that drops its parent's values: it unmaps nothing of its own, and writes, frees or waits for nothing
//! of the parent's.

use std::ops::Range;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use faultin::ReadView;
use faultin::iov::IovSource;
use faultin::map::Rights;
use faultin_cache::copy::MayWait;
use faultin_cache::pager::Mode;
use faultin_cache::store::FileStore;
use faultin_cache::write::Observer;
use faultin_cache::{Cache, CacheOptions, CachedFile};

use crate::file_with;

/// Mappings that a child does not inherit: `dc` (do not copy) in the kernel's list of mappings.
fn not_inherited() -> Vec<Range<usize>> {
    let all = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut range = 0..0;
    let mut found = Vec::new();
    for line in all.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some((from, to)) = first.split_once('-') {
            let number = |digits| usize::from_str_radix(digits, 16).unwrap();
            range = number(from)..number(to);
        } else if first == "VmFlags:" && words.any(|word| word == "dc") {
            found.push(range.clone());
        }
    }
    found
}

/// Maps memory there, if the range is unmapped, and writes to its ends.
fn occupy(range: &Range<usize>) -> bool {
    let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let flags = flags | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
    let wanted = std::ptr::without_provenance_mut(range.start);
    // SAFETY: a new mapping that replaces none.
    let base = unsafe { libc::mmap(wanted, range.len(), rights, flags, -1, 0) };
    if base != wanted {
        return false;
    }
    for at in [0, range.len() - 1] {
        // SAFETY: within that mapping.
        unsafe { base.cast::<u8>().add(at).write_volatile(0x5a) };
    }
    true
}

/// Whether the bytes [written](occupy) are still there. If not, a signal may end the process.
fn is_there(range: &Range<usize>) -> bool {
    let at = |address| std::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: mapped by `occupy`; the test checks that it still is.
    unsafe { at(range.start).read_volatile() == 0x5a && at(range.end - 1).read_volatile() == 0x5a }
}

/// Runs `f` in a child with a limit of ten seconds: its exit status.
fn in_child(f: impl FnOnce() -> i32) -> Result<i32, String> {
    // SAFETY: the child uses its copies, and exits.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: ends a child that hangs.
        unsafe { libc::alarm(10) };
        let status = f();
        // SAFETY: exits the child.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: a child of this process, and a local for its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFEXITED(status) { Ok(libc::WEXITSTATUS(status)) } else { Err(format!("a signal: {status:#x}")) }
}

const LEN: usize = 6 << 20;

fn dirty_file(cache: &Cache, path: &Path) -> CachedFile {
    let file = cache.open(FileStore::new(file_with(path, &vec![1; LEN])).unwrap()).unwrap();
    file.write_at(&vec![2; LEN], 0).unwrap();
    file
}

/// Reports that it has a file's lock, and keeps it until it is released.
struct Holds(mpsc::Sender<()>, mpsc::Receiver<()>);

impl Observer for Holds {
    fn locked(&mut self) {
        self.0.send(()).unwrap();
        let _ = self.1.recv();
    }
}

#[test]
fn a_child_that_drops_a_cache_leaves_everything_as_it_is() {
    if faultin_test::is_emulated() {
        return faultin_test::skipped("native", "an emulator ignores MADV_DONTFORK");
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let [plain, mapped, locked] = ["plain", "mapped", "locked"].map(|name| folder.path().join(name));
    let cache = CacheOptions::new().limit(64 << 20).build();
    let (one, two, three) = (dirty_file(&cache, &plain), dirty_file(&cache, &mapped), dirty_file(&cache, &locked));
    let mapping = two.map(0..LEN as u64, Rights::ReadWrite, Mode::Mprotect).unwrap();
    // SAFETY: within the mapping, whose faults are resolved.
    unsafe { mapping.as_ptr().add(5).write_volatile(3) };
    two.write_at(&[2; 4096], 4096).unwrap();

    // The fork happens while another thread holds a lock.
    let (has, had) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    let holder = three.clone();
    let thread = thread::spawn(move || {
        let bytes = [4; 10];
        let mut from = IovSource::<ReadView<'_>>::one(&bytes[..]);
        holder.write_iter_with::<_, MayWait>(&mut from, 0, &mut Holds(has, wait)).unwrap();
    });
    had.recv().unwrap();
    let ranges = not_inherited();
    assert!(ranges.iter().any(|range| range.len() >= 2 << 20), "the arena's: {ranges:x?}");

    let mut all = Some((one, two, three, mapping, cache));
    let status = in_child(|| {
        let ours: Vec<_> = ranges.iter().filter(|range| occupy(range)).cloned().collect();
        if ours.is_empty() {
            return 2;
        }
        drop(all.take());
        if ours.iter().all(is_there) { 0 } else { 3 }
    });
    go_on.send(()).unwrap();
    drop(go_on);
    thread.join().unwrap();
    assert_eq!(status, Ok(0));

    // Nothing was written, and nothing is missing.
    for path in [&plain, &mapped, &locked] {
        assert!(std::fs::read(path).unwrap() == vec![1; LEN], "{}", path.display());
    }
    let (one, two, three, mapping, cache) = all.unwrap();
    let ought = |first: &[(usize, u8)]| {
        let mut bytes = vec![2; LEN];
        first.iter().for_each(|&(at, byte)| bytes[at] = byte);
        bytes
    };
    let all_four: Vec<_> = (0..10).map(|at| (at, 4)).collect();
    for (file, path, ought) in
        [(&one, &plain, ought(&[])), (&two, &mapped, ought(&[(5, 3)])), (&three, &locked, ought(&all_four))]
    {
        file.sync_all().unwrap();
        assert!(std::fs::read(path).unwrap() == ought, "{}", path.display());
    }
    drop((one, two, three, mapping, cache));
}

/// A cache without files keeps the memory of their folios, and frees it when it is dropped.
#[test]
fn what_a_child_maps_where_its_parents_folios_were_stays() {
    if faultin_test::is_emulated() {
        return faultin_test::skipped("native", "an emulator ignores MADV_DONTFORK");
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let cache = CacheOptions::new().limit(64 << 20).build();
    drop(dirty_file(&cache, &folder.path().join("file")));
    assert_eq!(cache.used(), 0);
    let ranges = not_inherited();
    let mut cache = Some(cache);
    let status = in_child(|| {
        let ours: Vec<_> = ranges.iter().filter(|range| occupy(range)).cloned().collect();
        drop(cache.take());
        if !ours.is_empty() && ours.iter().all(is_there) { 0 } else { 3 }
    });
    assert_eq!(status, Ok(0));
    let path = folder.path().join("again");
    let again = dirty_file(cache.as_ref().unwrap(), &path);
    again.sync_all().unwrap();
    assert!(std::fs::read(&path).unwrap() == vec![2; LEN]);
}
