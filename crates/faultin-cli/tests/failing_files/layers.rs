//! Layered file systems: overlayfs copies a file of the lower layer when it is opened for writing, and an existing mapping
//! keeps the lower file. All reads then give the current bytes, or an error.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use faultin::{
    FileMap, FileMapMut, FileReader, MapOptions,
    map::{Backend, Change, Damaged, Reason, Repair, Rights, Watch},
    shared::SharedMap,
};

use super::{content, environment, serial};

/// As `xtask` writes them.
const FILES: usize = 256;
const LEN: usize = 3 * super::BLOCK + 100;

/// Runs `test` on every overlay that exists.
fn each(test: impl Fn(&Path)) -> MutexGuard<'static, ()> {
    let one = serial();
    for name in ["layers", "layers-apart", "layers-metacopy"] {
        let Some(folder) = environment(name) else { continue };
        println!("{name}");
        test(&folder);
    }
    one
}

/// A file that was not copied up yet.
fn next(folder: &Path) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let path = folder.join((NEXT.fetch_add(1, Ordering::Relaxed) % FILES).to_string());
    assert!(fs::read(&path).expect("a file of the lower layer") == content()[..LEN], "it was used before");
    path
}

/// Another process overwrites bytes of the file without changing its length.
fn overwrite(path: &Path, at: usize, bytes: &str) {
    let mut to = std::ffi::OsString::from("of=");
    to.push(path);
    let mut dd = Command::new("dd");
    dd.arg(to).args(["conv=notrunc", "status=none", "bs=1"]).arg(format!("seek={at}")).stdin(Stdio::piped());
    let mut dd = dd.spawn().expect("dd");
    std::io::Write::write_all(&mut dd.stdin.take().expect("a pipe"), bytes.as_bytes()).expect("dd reads");
    assert!(dd.wait().expect("dd").success());
}

/// Every accessor gives the file's current bytes.
#[track_caller]
fn is_as_the_file(map: &FileMap, path: &Path) {
    let now = fs::read(path).expect("read");
    let len = now.len();
    assert_eq!((map.len(), map.file_len().expect("asked"), map.valid_up_to().expect("asked")), {
        (len as u64, len as u64, len as u64)
    });
    map.verify().expect("it is as it was");
    let mut all = vec![0; len];
    assert_eq!(map.read_at(&mut all, 0).expect("read_at"), len);
    assert!(all == now, "read_at: {:?}", String::from_utf8_lossy(&all[..40]));
    all.fill(0);
    map.read_exact_at(&mut all[..100], 50).expect("read_exact_at");
    assert!(all[..100] == now[50..150], "read_exact_at");
    match map.try_read_at(&mut all[..100], 0) {
        Ok(read) => assert!(read == 100 && all[..100] == now[..100], "try_read_at"),
        Err(error) => assert!(matches!(error.reason(), Reason::Unsupported(_) | Reason::NotResident), "{error}"),
    }
    for at in [0, 100, len - 8] {
        let value = u64::from_ne_bytes(now[at..at + 8].try_into().expect("8"));
        assert_eq!(map.load::<u64>(at as u64).expect("load"), value, "load at {at}");
    }
    // The writers' bytes, and the original ones.
    let position = |needle: &[u8]| now.windows(needle.len()).position(|window| window == needle).map(|at| at as u64);
    let last = |needle: &[u8]| now.windows(needle.len()).rposition(|window| window == needle).map(|at| at as u64);
    for needle in [&b"NEW"[..], b"faultin block 00000000", b"block"] {
        assert_eq!(map.find(needle, ..).expect("find"), position(needle), "find");
        assert_eq!(map.rfind(needle, ..).expect("rfind"), last(needle), "rfind");
    }
    assert_eq!(map.find_any([b'N'], ..).expect("find_any"), position(b"N"), "find_any");
    assert_eq!(map.count_byte(b'N', ..).expect("count"), now.iter().filter(|&&b| b == b'N').count() as u64);
    assert!(!map.is_zeroed(..).expect("is_zeroed"));
    assert!(map.has_at(&now[..100], 0).expect("has_at"));
    let copy = tempfile::NamedTempFile::new().expect("a file");
    fs::write(copy.path(), &now).expect("write");
    let copied = FileMap::open(copy.path()).expect("map it");
    assert_eq!(map.crc32c(..).expect("crc32c"), copied.crc32c(..).expect("crc32c"));
    assert!(map.content_eq(&copied).expect("content_eq") && copied.content_eq(map).expect("content_eq"));
    let mut seen = Vec::new();
    map.chunks(..).for_each(|chunk| seen.extend_from_slice(chunk)).expect("chunks");
    assert!(seen == now, "chunks");
    let (mut lines, mut count) = (map.lines(..), 0);
    while let Some(line) = lines.next_line().expect("lines") {
        assert!(now[line.at as usize..].starts_with(line.bytes), "lines");
        count += 1;
    }
    assert_eq!(count, now.split(|&b| b == b'\n').filter(|line| !line.is_empty()).count());
    let (mut reader, mut read) = (map.reader(), Vec::new());
    reader.read_to_end(&mut read).expect("reader");
    assert!(read == now, "reader");
    reader.seek(SeekFrom::Start(10)).expect("seek");
    assert!(reader.fill_buf().expect("reader").starts_with(&now[10..100]), "reader");
    // SAFETY: a copy does not rely on the bytes.
    let slice = unsafe { map.with_slice(.., <[u8]>::to_vec) }.expect("with_slice");
    assert!(slice == now, "with_slice");
    assert_eq!(map.repair().expect("repair"), Repair::Whole);
}

#[test]
fn after_a_refresh_every_accessor_has_the_new_bytes() {
    let _one = each(|folder| {
        for backend in [Backend::Automatic, Backend::Mapped, Backend::Pread] {
            for watch in [Watch::Reader, Watch::Appending, Watch::Contents, Watch::Nothing] {
                println!("{backend:?} {watch:?}");
                let path = next(folder);
                let map = MapOptions::new().backend(backend).watch(watch).open(&path).expect("map it");
                let kept = if backend == Backend::Pread { Backend::Pread } else { Backend::Mapped };
                assert_eq!(map.backend(), kept);
                is_as_the_file(&map, &path);
                let mut before = map.reader();
                let mut start = [0; 5];
                before.read_exact(&mut start).expect("read");

                overwrite(&path, 0, "NEW");
                let mut bytes = [0; 100];
                if watch == Watch::Contents {
                    let error = map.read_at(&mut bytes, 0).expect_err("it changed");
                    assert_eq!(error.change(), Some(Change::Rewritten), "{error}");
                    for error in [map.load::<u8>(0).map(drop), map.find(b"x", ..).map(drop)] {
                        assert!(error.expect_err("it changed").change().is_some());
                    }
                    // SAFETY: nothing is read.
                    let damaged: Damaged<()> = unsafe { map.with_slice(.., |_| ()) }.expect_err("it changed");
                    assert!(damaged.error.change().is_some(), "{damaged}");
                }
                assert_eq!(map.refresh().expect("refresh"), Some(Change::Rewritten));
                assert_eq!(map.backend(), kept);
                is_as_the_file(&map, &path);
                // The old reader still uses the old size.
                before.seek(SeekFrom::Start(0)).expect("seek");
                match watch {
                    Watch::Contents => assert!(before.read_exact(&mut start).is_err()),
                    _ => {
                        before.read_exact(&mut start).expect("read");
                        assert_eq!(&start, b"NEWlt");
                    }
                }

                // In the upper layer, and longer.
                overwrite(&path, LEN, "NEW and\nsome lines\nmore");
                overwrite(&path, 200, "NEW");
                let (from, to) = (LEN as u64, LEN as u64 + 23);
                assert_eq!(map.refresh().expect("refresh"), Some(Change::Grown { from, to }));
                assert_eq!(map.backend(), kept);
                is_as_the_file(&map, &path);
                assert_eq!(map.refresh().expect("refresh"), None);
            }
        }
    });
}

#[test]
fn a_file_that_changes_again_and_again_is_read_in_the_end() {
    let _one = each(|folder| {
        let path = next(folder);
        let map = FileMap::open(&path).expect("map it");
        for round in 0..12 {
            overwrite(&path, round, "NEW");
            map.refresh().expect("refresh").expect("it changed");
            is_as_the_file(&map, &path);
        }
        assert_eq!(map.backend(), Backend::Pread, "descriptors and addresses are not used up");
    });
}

#[test]
fn locks_of_the_process_are_kept() {
    let _one = each(|folder| {
        let path = next(folder);
        let file = File::open(&path).expect("open");
        let kept = || {
            let pid = std::process::id().to_string();
            let locks = fs::read_to_string("/proc/locks").expect("read");
            locks.lines().any(|line| line.contains("POSIX") && line.split_whitespace().any(|word| word == pid))
        };
        // SAFETY: plain data, and a lock on a file that is open.
        let locked = unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_RDLCK as _;
            libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_SETLK, &lock)
        };
        assert!(locked == 0 && kept());
        let map = FileMap::open(&path).expect("map it");
        for round in 0..12 {
            overwrite(&path, round, "NEW");
            map.refresh().expect("refresh").expect("it changed");
            assert_eq!(map.load::<u8>(round as u64).expect("as it is"), b'N');
            assert!(kept(), "round {round}");
        }
        assert_eq!(map.backend(), Backend::Pread);
    });
}

#[test]
fn a_descriptor_from_before_the_copy_is_mapped_where_it_leads_now() {
    let _one = each(|folder| {
        for backend in [Backend::Automatic, Backend::Mapped] {
            let path = next(folder);
            let file = File::open(&path).expect("open");
            overwrite(&path, 0, "NEW");
            let map = MapOptions::new().backend(backend).from_file(file).expect("map it");
            assert_eq!(map.backend(), Backend::Mapped);
            is_as_the_file(&map, &path);
        }
    });
}

#[test]
fn a_map_that_is_opened_during_the_copy_is_not_left_behind() {
    let _one = each(|folder| {
        for _ in 0..8 {
            let path = next(folder);
            let (ready, done) = (AtomicBool::new(false), AtomicBool::new(false));
            let maps = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !ready.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                    fs::write(&path, [b"NEW", &content()[3..LEN]].concat()).expect("write");
                    done.store(true, Ordering::Release);
                });
                let mut maps = Vec::new();
                // One is opened after it, in any case.
                let mut last = false;
                while !last {
                    last = done.load(Ordering::Acquire);
                    maps.extend(FileMap::open(&path));
                    ready.store(true, Ordering::Relaxed);
                    maps.drain(..maps.len().saturating_sub(64));
                }
                maps
            });
            for map in maps {
                let mut bytes = [0; 8];
                if let Err(error) = map.read_exact_at(&mut bytes, 0) {
                    // It was empty when it was opened.
                    assert!(matches!(error.reason(), Reason::PastEnd { .. }), "{error}");
                    map.refresh().expect("refresh");
                    map.read_exact_at(&mut bytes, 0).expect("whole");
                }
                assert_eq!(&bytes, b"NEWltin ");
            }
        }
    });
}

/// No file can be opened until this is dropped.
struct NoDescriptors(libc::rlimit);

impl NoDescriptors {
    fn new() -> Self {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: gets and sets a limit.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut before), 0);
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &libc::rlimit { rlim_cur: 0, ..before }), 0);
        }
        NoDescriptors(before)
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        // SAFETY: restores the limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &self.0) };
    }
}

#[test]
fn a_file_that_cannot_be_opened_again_is_read_or_replaced() {
    let _one = each(|folder| {
        for watch in [Watch::Reader, Watch::Appending, Watch::Contents, Watch::Nothing] {
            let path = next(folder);
            let open = |backend| MapOptions::new().watch(watch).backend(backend).open(&path).expect("map it");
            let [automatic, mapped] = [Backend::Automatic, Backend::Mapped].map(open);
            overwrite(&path, 0, "NEW");
            let (refreshed, refused) = {
                let _none = NoDescriptors::new();
                (automatic.refresh(), mapped.refresh())
            };
            assert_eq!(refreshed.expect("over pread"), Some(Change::Rewritten));
            assert_eq!(automatic.backend(), Backend::Pread);
            is_as_the_file(&automatic, &path);
            assert_eq!(refused.expect_err("no mapping").change(), Some(Change::Replaced));
            // Never the old bytes.
            let mut bytes = [0; 5];
            match (mapped.read_at(&mut bytes, 0), watch) {
                (Err(error), Watch::Contents | Watch::Appending) => assert!(error.change().is_some(), "{error}"),
                (read, _) => assert_eq!((read.expect("read"), &bytes), (5, b"NEWlt")),
            }
            // Once descriptors are available again, it can be mapped again.
            mapped.refresh().expect("mapped");
            assert_eq!(mapped.backend(), Backend::Mapped);
            is_as_the_file(&mapped, &path);

            let path = next(folder);
            let file = File::open(&path).expect("open");
            let again = file.try_clone().expect("dup");
            let (read, refused) = {
                let _none = NoDescriptors::new();
                let options = MapOptions::new().watch(watch);
                (options.from_file(file), options.backend(Backend::Mapped).from_file(again))
            };
            let read = read.expect("over pread");
            assert_eq!(read.backend(), Backend::Pread);
            is_as_the_file(&read, &path);
            assert_eq!(refused.map(drop).expect_err("no mapping").errno(), Some(libc::EMFILE));
        }
    });
}

#[test]
fn only_its_attributes_were_copied_and_then_its_bytes() {
    let _one = each(|folder| {
        let path = next(folder);
        let map = MapOptions::new().watch(Watch::Contents).open(&path).expect("map it");
        assert!(Command::new("chmod").arg("600").arg(&path).status().expect("chmod").success());
        assert_eq!(map.load::<u8>(0).expect_err("it changed").change(), Some(Change::Touched));
        map.refresh().expect("refresh").expect("it changed");
        is_as_the_file(&map, &path);
        overwrite(&path, 3, "NEW");
        assert!(map.load::<u8>(0).expect_err("it changed").change().is_some());
        map.refresh().expect("refresh").expect("it changed");
        assert_eq!(map.backend(), Backend::Mapped);
        is_as_the_file(&map, &path);
    });
}

#[test]
fn writable_maps_are_of_the_copy() {
    let _one = each(|folder| {
        for backend in [Backend::Mapped, Backend::Pread] {
            let path = next(folder);
            let before = MapOptions::new().backend(backend).open(&path).expect("map it");
            let map: FileMapMut = MapOptions::new().backend(backend).open_mut(&path).expect("map it");
            assert_eq!(map.backend(), backend);
            overwrite(&path, 10, "NEW from another process");
            map.write_at(b"NEW from us", 100).expect("stored");
            map.store(200, u32::from_ne_bytes(*b"NEW!")).expect("stored");
            map.fill(300..303, b'N').expect("filled");
            map.flush().expect("flushed");
            let now = fs::read(&path).expect("read");
            assert!(now[10..].starts_with(b"NEW from another process") && now[100..].starts_with(b"NEW from us"));
            assert!(now[200..].starts_with(b"NEW!") && now[300..].starts_with(b"NNN"));
            map.refresh().expect("refresh");
            is_as_the_file(&map, &path);
            before.refresh().expect("refresh").expect("it changed");
            is_as_the_file(&before, &path);
        }
    });
}

#[test]
fn shared_maps_see_what_the_peer_writes() {
    let _one = each(|folder| {
        let path = next(folder);
        let file = || File::open(&path).expect("open");
        let reading = SharedMap::from_file(file(), LEN, Rights::Read).expect("map it");
        let options = faultin::shared::SharedOptions::new().backend(Backend::Mapped);
        let error = options.from_file(file(), LEN, Rights::Read).map(drop).expect_err("it could not follow");
        assert!(matches!(error.reason(), Reason::Unsupported(_)), "{error}");
        overwrite(&path, 0, "NEW");
        assert_eq!((reading.backend(), &reading.read_once::<[u8; 5]>(0).expect("read")), (Backend::Pread, b"NEWlt"));
        let both = File::options().read(true).write(true).open(&path).expect("open");
        for rights in [Rights::Read, Rights::ReadWrite] {
            let map = SharedMap::from_file(both.try_clone().expect("dup"), LEN, rights).expect("map it");
            assert_eq!(map.backend(), Backend::Mapped);
            overwrite(&path, 3, "er");
            assert_eq!(&map.read_once::<[u8; 5]>(0).expect("read"), b"NEWer");
            overwrite(&path, 3, "lt");
        }
    });
}

#[test]
fn a_reader_of_its_own_map_goes_on_in_the_copy() {
    let _one = each(|folder| {
        let path = next(folder);
        let mut reader = FileReader::open(&path).expect("open");
        reader.read_exact(&mut [0; 5]).expect("read");
        overwrite(&path, 0, "NEW");
        // The buffered bytes were the file's.
        reader.read_to_end(&mut Vec::new()).expect("it is as long as it was");
        let mut all = Vec::new();
        FileReader::open(&path).expect("open").read_to_end(&mut all).expect("read");
        assert!(all == fs::read(&path).expect("read") && all.starts_with(b"NEW"));
    });
}

/// Builds an example.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let profile = test.ancestors().nth(2).expect("target/debug/deps/…");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut build = Command::new(cargo);
    build.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "build",
        "--offline",
        "--quiet",
        "--package",
        "faultin-examples",
    ]);
    build.args(["--example", name, "--target-dir"]).arg(profile.parent().expect("target"));
    assert!(build.status().expect("cargo").success());
    profile.join("examples").join(name)
}

#[test]
fn the_follower_prints_what_is_appended() {
    let follow = example("follow");
    let _one = each(|folder| {
        let path = next(folder);
        let mut child = Command::new(&follow).arg(&path).stdout(Stdio::piped()).spawn().expect("it runs");
        let printed = BufReader::new(child.stdout.take().expect("a pipe"));
        let (lines, arrived) = std::sync::mpsc::channel();
        let reading = std::thread::spawn(move || {
            printed.split(b'\n').map_while(Result::ok).try_for_each(|line| lines.send(line)).ok();
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        let next_line = || arrived.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        let append = |line: &str| {
            let appended = Command::new("sh").args(["-c", "echo \"$1\" >> \"$0\""]).arg(&path).arg(line).status();
            assert!(appended.expect("sh").success());
        };
        append(" end of the old bytes");
        let first = next_line().expect("the old bytes");
        let old = [&content()[..LEN], b" end of the old bytes"].concat();
        let one_of_them = (1..=5).map(|i| format!("line {i}")).inspect(|line| append(line)).collect::<Vec<_>>();
        let new: Vec<Vec<u8>> = one_of_them.iter().map(|_| next_line().expect("a line")).collect();
        child.kill().expect("it follows");
        child.wait().expect("it follows");
        reading.join().expect("no panic");
        assert!(first == old, "the old bytes");
        assert_eq!(new, one_of_them.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>());
    });
}
