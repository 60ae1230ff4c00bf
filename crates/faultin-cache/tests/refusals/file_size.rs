//! The limit on file sizes, under a cache: an error with its number, and no signal.
//!
//! The limit applies to the process, so each case runs in a separate child.

use std::fs::File;
use std::os::unix::process::CommandExt;

use faultin_cache::store::{FileStore, Store, WriteRequest};
use faultin_cache::{CacheOptions, errno};
use faultin_test::processes;

const LIMIT: u64 = 1 << 20;
const BLOCK: usize = 4096;

/// Runs `case`, the test of this name, in a child whose files are limited to [`LIMIT`] bytes.
fn limited(name: &str, case: fn()) {
    const CHILD: &str = "FAULTIN_TEST_LIMITED";
    if std::env::var_os(CHILD).is_some() {
        return case();
    }
    let mut child = processes::run(std::env::current_exe().expect("the test's program"));
    child.args(["--exact", &format!("file_size::{name}"), "--nocapture"]).env(CHILD, "1");
    let set = || {
        let limit = libc::rlimit { rlim_cur: LIMIT, rlim_max: LIMIT };
        // SAFETY: sets a limit from a local structure.
        match unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: one system call.
    unsafe { child.pre_exec(set) };
    let output = child.output().expect("a child");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{}: {said}{complaint}", output.status);
}

fn file() -> File {
    // Direct I/O is most likely supported there.
    tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).expect("a file")
}

fn check(store: &dyn Store) {
    let page = vec![7; BLOCK];
    for _ in 0..2 {
        for result in [store.set_len(LIMIT + 1), store.write_at(&page, LIMIT).map(drop)] {
            let error = result.expect_err("behind the limit");
            assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{error}");
        }
        // (A file system may exempt allocations past the end of a file from the limit.)
        if let Err(error) = store.allocate(LIMIT..2 * LIMIT) {
            assert!(matches!(error.raw_os_error(), Some(libc::EFBIG | libc::EOPNOTSUPP)), "{error}");
        }
        let at = |pos| WriteRequest { pos, bytes: &page };
        let writes = [at(0), at(LIMIT + 8192), at(16384), at(LIMIT)];
        let answers = store.write_many(&writes).into_iter().map(|answer| answer.map_err(|error| errno(&error)));
        let too_large = Err(Some(libc::EFBIG));
        assert_eq!(answers.collect::<Vec<_>>(), [Ok(BLOCK), too_large, Ok(BLOCK), too_large]);
    }
    assert_eq!(store.len().expect("its length"), 16384 + BLOCK as u64);
}

#[test]
fn stores_say_efbig() {
    limited("stores_say_efbig", || {
        check(&FileStore::new(file()).expect("a store"));
        match FileStore::direct(file()) {
            Ok(store) => check(&Aligned(store)),
            Err(why) => faultin_test::skipped("o-direct", why.to_string()),
        }
    });
}

/// A store that accepts buffers of any alignment.
#[derive(Debug)]
struct Aligned(FileStore);

impl Store for Aligned {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], pos: u64) -> std::io::Result<usize> {
        self.0.read_at(buf, pos)
    }
    fn write_at(&self, buf: &[u8], pos: u64) -> std::io::Result<usize> {
        let (bytes, at) = aligned(buf);
        self.0.write_at(&bytes[at..at + buf.len()], pos)
    }
    fn write_many(&self, writes: &[WriteRequest<'_>]) -> Vec<std::io::Result<usize>> {
        let copies: Vec<_> = writes.iter().map(|write| aligned(write.bytes)).collect();
        let writes: Vec<_> = writes
            .iter()
            .zip(&copies)
            .map(|(write, (bytes, at))| WriteRequest { pos: write.pos, bytes: &bytes[*at..*at + write.bytes.len()] })
            .collect();
        self.0.write_many(&writes)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }
    fn allocate(&self, range: std::ops::Range<u64>) -> std::io::Result<()> {
        self.0.allocate(range)
    }
    fn sync(&self, data_only: bool) -> std::io::Result<()> {
        self.0.sync(data_only)
    }
}

/// The same bytes at the start of a page.
fn aligned(bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut copy = vec![0; bytes.len() + BLOCK];
    let at = copy.as_ptr().align_offset(BLOCK);
    copy[at..at + bytes.len()].copy_from_slice(bytes);
    (copy, at)
}

#[test]
fn a_cached_file_says_efbig_and_keeps_what_it_has() {
    limited("a_cached_file_says_efbig_and_keeps_what_it_has", || {
        let cached = CacheOptions::new().block(BLOCK).build().open(FileStore::new(file()).expect("a store"));
        let cached = cached.expect("open it");
        cached.write_at(&[1; BLOCK], 0).expect("within the limit");
        // (The error may be reported at writeback.)
        let error = cached.set_len(LIMIT + 1).and_then(|()| cached.sync_all()).expect_err("behind the limit");
        assert_eq!(error.errno(), Some(libc::EFBIG), "{error}");
        cached.set_len(BLOCK as u64).expect("within the limit");
        let written = cached.write_at(&[2; BLOCK], LIMIT).map_err(|partial| partial.error);
        let synced = written.and_then(|_| cached.sync_all());
        assert_eq!(synced.expect_err("behind the limit").errno(), Some(libc::EFBIG));
        let mut bytes = [0; BLOCK];
        cached.read_at(&mut bytes, 0).expect("what was there");
        assert_eq!(bytes, [1; BLOCK]);
        // Mapped folios are in a file that has a length, too.
        use faultin::map::Rights;
        use faultin_cache::pager::Mode;
        let mapping = cached.map(0..BLOCK as u64, Rights::ReadWrite, Mode::Mprotect).expect("map it");
        let mut byte = [0];
        let view = mapping.read_view().expect("a view");
        view.fault_in(5, std::num::NonZeroUsize::MIN).expect("it is there");
        view.read(&mut byte, 5).expect("read it");
        assert_eq!(byte, [1]);
    });
}
