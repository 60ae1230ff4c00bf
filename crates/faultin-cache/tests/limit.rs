//! The limit of a cache: it may change, and follow the control group of the process.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use faultin::map::Rights;
use faultin_cache::limit::{Follow, memory_of_process};
use faultin_cache::pager::{AttachError, Mode};
use faultin_cache::store::{FileStore, MemoryStore, Store};
use faultin_cache::{Advice, Cache, CacheOptions, CachedFile, Error};

const MIB: usize = 1 << 20;

/// A store of zeros in no memory, which takes dirty blocks or not.
#[derive(Debug, Default)]
struct Nowhere {
    refuses: AtomicBool,
}

impl Store for Nowhere {
    fn len(&self) -> std::io::Result<u64> {
        Ok(1 << 40)
    }
    fn read_at(&self, buf: &mut [u8], _: u64) -> std::io::Result<usize> {
        buf.fill(7);
        Ok(buf.len())
    }
    fn write_at(&self, buf: &[u8], _: u64) -> std::io::Result<usize> {
        if self.refuses.load(SeqCst) { Err(std::io::Error::from_raw_os_error(libc::EIO)) } else { Ok(buf.len()) }
    }
    fn set_len(&self, _: u64) -> std::io::Result<()> {
        Ok(())
    }
    fn sync(&self, _: bool) -> std::io::Result<()> {
        Ok(())
    }
}

fn open(cache: &Cache, store: &Arc<Nowhere>) -> CachedFile {
    let file = cache.open(Arc::clone(store)).expect("open it");
    file.advise(Advice::Random);
    file
}

/// Returns the anonymous memory of this process in bytes.
fn anonymous() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("since Linux 4.5");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

/// Reads until the cache is full.
fn fill(cache: &Cache, file: &CachedFile, bytes: usize) {
    let mut buffer = vec![0; MIB];
    for at in (0..bytes).step_by(MIB) {
        assert_eq!(file.read_at(&mut buffer, at as u64).expect("it can be read"), MIB);
    }
    assert!(cache.used() <= cache.limit());
}

#[test]
fn a_limit_that_falls_takes_the_cache_with_it_and_one_that_rises_lets_it_grow() {
    common::watchdog::start();
    let store = Arc::<Nowhere>::default();
    let cache = CacheOptions::new().limit(64 * MIB).build();
    let file = open(&cache, &store);
    fill(&cache, &file, 100 * MIB);
    assert!(cache.used() > 48 * MIB);
    cache.set_limit(16 * MIB);
    assert_eq!(cache.limit(), 16 * MIB);
    assert!(cache.used() <= 16 * MIB, "{}", cache.used());
    fill(&cache, &file, 50 * MIB);
    cache.set_limit(64 * MIB);
    fill(&cache, &file, 100 * MIB);
    assert!(cache.used() > 48 * MIB);
}

#[test]
fn dirty_blocks_are_written_or_stay_until_they_can_be() {
    let store = Arc::<Nowhere>::default();
    let cache = CacheOptions::new().limit(64 * MIB).build();
    let file = open(&cache, &store);
    for at in 0..20 {
        assert_eq!(file.write_at(&vec![1; MIB], (at * MIB) as u64).expect("there is room"), MIB);
    }
    store.refuses.store(true, SeqCst);
    cache.set_limit(8 * MIB);
    assert_eq!(file.dirty(), 20 * MIB as u64);
    assert!(cache.used() >= 20 * MIB);
    // Not even a block that is clean can be brought in without another one: those of the file itself are all dirty.
    let other = open(&cache, &Arc::default());
    other.read_at(&mut [0; 100], 0).expect("two blocks of each file are always possible");
    store.refuses.store(false, SeqCst);
    cache.set_limit(8 * MIB);
    assert!(cache.used() <= 8 * MIB, "{}", cache.used());
    assert!(file.dirty() <= 8 * MIB as u64);
    assert!(matches!(file.sync_all(), Err(Error::Store(_))), "the failed attempt is reported");
    file.sync_all().expect("nothing is lost");
}

#[test]
fn folios_of_a_mapping_are_evicted_and_come_back() {
    let page = faultin::page_size();
    let bytes: Vec<u8> = (0..1024 * page).map(|at| (at / page) as u8).collect();
    let cache = CacheOptions::new().block(page).limit(2048 * page).build();
    let file = cache.open(MemoryStore::new(bytes.as_slice())).expect("open it");
    let mapping =
        file.map(0..bytes.len() as u64, Rights::Read, Mode::Mprotect).expect("the mode that works everywhere");
    let view = mapping.read_view().expect("a view");
    let read = |at: usize| loop {
        match view.load::<u8>(at) {
            Ok(byte) => break byte,
            Err(_) => drop(view.fault_in(at, std::num::NonZeroUsize::MIN).expect("it can be read")),
        }
    };
    (0..1024).for_each(|number| assert_eq!(read(number * page), number as u8));
    assert!(cache.used() >= 1024 * page);
    cache.set_limit(64 * page);
    assert!(cache.used() <= 66 * page, "{}", cache.used() / page);
    (0..1024).for_each(|number| assert_eq!(read(number * page), number as u8));
    assert!(cache.used() <= 66 * page);
}

#[test]
fn threads_use_a_cache_whose_limit_changes() {
    let store = Arc::<Nowhere>::default();
    let cache = CacheOptions::new().limit(32 * MIB).build();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..3_u64 {
            let (cache, store, is_over) = (&cache, &store, &is_over);
            scope.spawn(move || {
                let random = faultin_test::Random::new(thread);
                let file = open(cache, store);
                let mut bytes = vec![0; 300_000];
                while !is_over.load(SeqCst) {
                    let len = random.below(300_000) as usize;
                    let pos = random.below(40 << 20);
                    if random.below(3) == 0 {
                        bytes[..len].fill(7);
                        assert_eq!(file.write_at(&bytes[..len], pos).expect("there is room"), len);
                    } else {
                        assert_eq!(file.read_at(&mut bytes[..len], pos).expect("there is room"), len);
                        assert!(bytes[..len].iter().all(|&byte| byte == 7));
                    }
                }
            });
        }
        for turn in 0..60 {
            cache.set_limit([32, 4, 16, 1, 8][turn % 5] * MIB);
            thread::sleep(Duration::from_millis(5));
        }
        is_over.store(true, SeqCst);
    });
    cache.set_limit(MIB);
    assert!(cache.used() <= MIB + 8 * 4096 * 2);
}

/// In a process of its own, whose memory nothing else changes: it is that of the cache.
#[test]
fn memory_is_returned_to_the_kernel() {
    const CHILD: &str = "FAULTIN_TEST_RESIDENT";
    if std::env::var_os(CHILD).is_none() {
        return child("memory_is_returned_to_the_kernel", CHILD, "1");
    }
    let store = Arc::<Nowhere>::default();
    // A part of 512 blocks is as long as the smallest limit here, on every machine.
    let cache = CacheOptions::new().block(16 << 10).limit(256 * MIB).build();
    let file = open(&cache, &store);
    let before = anonymous();
    let grown = || anonymous().saturating_sub(before);
    // The rest is what is known of the folios, and the buffer here.
    let most = |limit: usize| limit + limit / 20 + 8 * MIB;
    // Small folios and large ones, so that what is free is in pieces.
    for turn in 0..3 {
        for at in 0..20_000_u64 {
            let random = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            let len = if at % 50 == turn { 2 * MIB } else { 3000 };
            file.read_at(&mut vec![0; len], random % (1 << 31)).expect("there is room");
        }
        assert!(grown() <= most(256 * MIB), "{} MiB at a limit of 256", grown() / MIB);
    }
    assert!(grown() >= 200 * MIB, "{} MiB", grown() / MIB);
    for limit in [64 * MIB, 8 * MIB] {
        cache.set_limit(limit);
        assert!(cache.used() <= limit);
        assert!(grown() <= most(limit), "{} MiB at a limit of {}", grown() / MIB, limit / MIB);
    }
    fill(&cache, &file, 20 * MIB);
    assert!(grown() <= most(8 * MIB) + MIB, "{} MiB at a limit of 8", grown() / MIB);
}

/// Returns the memory of this process's caches in bytes: anonymous, and of mapped files.
fn memory() -> usize {
    let fds = fs::read_dir("/proc/self/fd").expect("/proc is there").flatten();
    let is_memory = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:faultin-cache"))
    };
    let memfds = fds.map(|entry| entry.path()).filter(is_memory);
    let blocks: u64 = memfds.filter_map(|path| fs::metadata(path).ok()).map(|found| found.blocks()).sum();
    anonymous() + blocks as usize * 512
}

/// In a process of its own, as above.
#[test]
fn mapped_files_and_free_memory_stay_within_the_limit_together() {
    const CHILD: &str = "FAULTIN_TEST_TOGETHER";
    if std::env::var_os(CHILD).is_none() {
        return child("mapped_files_and_free_memory_stay_within_the_limit_together", CHILD, "1");
    }
    common::watchdog::start();
    let page = faultin::page_size();
    let limit = 64 * MIB;
    for mode in Mode::ALL {
        // With a descriptor, so that signals resolve faults.
        let zeros = tempfile::tempfile().expect("a file");
        zeros.set_len(96 * MIB as u64).expect("it can be longer");
        let cache = CacheOptions::new().limit(limit).build();
        let plain = open(&cache, &Arc::default());
        let file = cache.open(FileStore::new(zeros).expect("a store")).expect("open it");
        let mapping = match file.map(0..96 * MIB as u64, Rights::Read, mode) {
            Ok(mapping) => mapping,
            Err(error @ AttachError::Mode { .. }) => {
                faultin_test::skipped("user-mode", error);
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let before = memory();
        // The rest is what is known of the folios, page tables, and buffers.
        let check = |what: &str| {
            let grown = memory().saturating_sub(before);
            let most = limit + limit / 20 + 12 * MIB;
            assert!(grown <= most, "{what} in {mode:?}: {} MiB at a limit of {}", grown / MIB, limit / MIB);
        };
        let touch = |number: usize| {
            // SAFETY: within the mapping; its file does not fail.
            assert_eq!(unsafe { mapping.as_ptr().add(number * page).read_volatile() }, 0);
        };
        let pages = mapping.len() / page;
        for turn in 0..2 {
            fill(&cache, &plain, 80 * MIB);
            assert!(cache.used() > limit / 2);
            check("another file");
            for number in 0..pages {
                touch(number);
                if number % (8 * MIB / page) == 0 {
                    check("a mapped file after another one");
                }
            }
            assert!(cache.used() > limit / 2);
            check("a mapped file");
            let random = faultin_test::Random::new(turn);
            let below = |end: usize| random.below(end as u64) as usize;
            for _ in 0..5_000 {
                touch(below(pages));
                let mut bytes = vec![0; 1 << below(16)];
                plain.read_at(&mut bytes, below(256 * MIB) as u64).expect("there is room");
            }
            check("both");
        }
        let counts = mapping.fault_counts();
        assert_eq!(counts.in_signal > 0, mode != Mode::Thread, "{counts:?}");
    }
}

/// Runs a test of this program in a process of its own.
fn child(test: &str, variable: &str, value: &str) {
    let output = faultin_test::processes::run(std::env::current_exe().expect("a path"))
        .args(["--exact", test, "--nocapture"])
        .env(variable, value)
        .output()
        .expect("run it");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// A control group that limits memory, until it is dropped.
struct Group {
    folder: PathBuf,
    file: &'static str,
}

impl Group {
    /// Makes one below that of this process, of either version.
    fn new(name: &str) -> Result<Group, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
        let mut why = "no hierarchy that limits memory is mounted".to_owned();
        for line in mounts.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let place = before.split(' ').nth(4).unwrap_or_default();
            let file = match after.split(' ').next() {
                Some("cgroup2") => "memory.max",
                Some("cgroup") if after.contains("memory") => "memory.limit_in_bytes",
                _ => continue,
            };
            let folder = Path::new(place).join(name);
            if let Err(error) = fs::create_dir(&folder) {
                why = format!("{}: {error}", folder.display());
                continue;
            }
            let group = Group { folder, file };
            match group.set(1 << 30) {
                Ok(()) => return Ok(group),
                // Its memory controller is elsewhere.
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn set(&self, bytes: usize) -> Result<(), String> {
        let path = self.folder.join(self.file);
        fs::write(&path, bytes.to_string()).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes have ended, but may not have been removed yet.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_cache_follows_its_control_group() {
    const CHILD: &str = "FAULTIN_TEST_GROUP";
    if let Some(group) = std::env::var_os(CHILD) {
        let folder = Path::new(&group);
        let file = if folder.join("memory.max").exists() { "memory.max" } else { "memory.limit_in_bytes" };
        let group = std::mem::ManuallyDrop::new(Group { folder: folder.to_owned(), file });
        return follows(&group);
    }
    let group = match Group::new(&format!("faultin-test-{}", std::process::id())) {
        Ok(group) => group,
        Err(why) => return faultin_test::skipped("cgroup", why),
    };
    child("a_cache_follows_its_control_group", CHILD, group.folder.to_str().expect("it was made of text"));
}

fn follows(group: &Group) {
    let joined = fs::write(group.folder.join("cgroup.procs"), std::process::id().to_string());
    joined.expect("the parent has made the group");
    group.set(400 * MIB).expect("as before");
    assert_eq!(memory_of_process(), Some(400 * MIB as u64));
    assert_eq!(CacheOptions::new().build().limit(), 100 * MIB, "the default is a quarter");
    let follow = Follow::new().percent(50).interval(Duration::from_millis(10));
    let cache = CacheOptions::new().follow(follow).build();
    assert_eq!(cache.limit(), 200 * MIB);
    assert_eq!(CacheOptions::new().limit(5 * MIB).follow(follow).build().limit(), 5 * MIB);
    let store = Arc::<Nowhere>::default();
    let file = open(&cache, &store);
    let before = anonymous();
    fill(&cache, &file, 300 * MIB);
    assert!(cache.used() > 150 * MIB);
    let until = |limit: usize| {
        while cache.limit() != limit || cache.used() > limit || anonymous() > before + limit + limit / 20 + 4 * MIB {
            thread::sleep(Duration::from_millis(5));
        }
    };
    group.set(300 * MIB).expect("it has less");
    until(150 * MIB);
    group.set(200 * MIB).expect("it has less");
    until(100 * MIB);
    fill(&cache, &file, 300 * MIB);
    assert!(anonymous() <= before + 105 * MIB + 4 * MIB);
    group.set(600 * MIB).expect("it may rise");
    until(300 * MIB);
    // The thread ends with the cache.
    drop((file, cache));
    let names = || {
        let tasks = fs::read_dir("/proc/self/task").expect("/proc is there").flatten();
        tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect::<Vec<_>>()
    };
    while names().iter().any(|name| name.trim() == "memory limit") {
        thread::sleep(Duration::from_millis(5));
    }
}
