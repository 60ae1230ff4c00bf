//! The kernel refuses memory of a mapped file in the middle of a write: here because of `RLIMIT_FSIZE`, elsewhere because a
//! cgroup or tmpfs is full. Exactly the counted bytes are in the file.
//!
//! The limit applies to the process, so there is one test here.

use std::sync::Arc;

use faultin::ReadView;
use faultin::iov::IovSource;
use faultin::map::Rights;
use faultin_cache::pager::{Mapping, Mode};
use faultin_cache::store::MemoryStore;
use faultin_cache::write::WriteLoop;
use faultin_cache::{Cache, CacheOptions, CachedFile, Error, FileOptions, Partial};

const MIB: usize = 1 << 20;
/// The maximum file size, within a page.
const LIMIT: usize = MIB + 100;

/// Sets the limit on file sizes until it is dropped.
struct Limited {
    before: libc::rlimit,
}

impl Limited {
    fn new(bytes: usize) -> Limited {
        // SAFETY: ignores the signal that would end the process, and uses local structures.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let mut before = std::mem::zeroed::<libc::rlimit>();
            assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut before), 0);
            let limit = libc::rlimit { rlim_cur: bytes as libc::rlim_t, ..before };
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
            Limited { before }
        }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const self.before) };
    }
}

fn mapped(cache: &Cache, bytes: Vec<u8>) -> (CachedFile, Mapping, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new(bytes));
    let file = cache.open(Arc::clone(&store)).unwrap();
    let mapping = file.map(0..2 * MIB as u64, Rights::ReadWrite, Mode::Mprotect).unwrap();
    (file, mapping, store)
}

type Write = fn(&CachedFile, &[u8], u64) -> Result<usize, Partial>;

/// From plain memory, which is copied directly, and from memory that may fault, which goes through a buffer.
const WRITES: [(&str, Write); 2] = [
    ("plain", |file, bytes, pos| file.write_at(bytes, pos)),
    ("view", |file, bytes, pos| {
        // SAFETY: the slice outlives the view.
        let view = unsafe { ReadView::new(bytes.as_ptr(), bytes.len()) }.unwrap();
        file.write_iter(&mut IovSource::one(view), pos)
    }),
];

fn contents(file: &CachedFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

#[test]
fn what_counts_is_there_and_nothing_else() {
    let cache = CacheOptions::new().limit(16 * MIB).build();
    for (name, write) in WRITES {
        // Existing bytes are overwritten.
        let (file, _mapping, store) = mapped(&cache, vec![1; 2 * MIB]);
        assert!(contents(&file).iter().all(|&byte| byte == 1));
        let limited = Limited::new(LIMIT);
        let partial = write(&file, &vec![2; 2 * MIB], 0).unwrap_err();
        drop(limited);
        assert!(matches!(partial.error, Error::Memory(_)), "{name}: {partial}");
        assert_eq!((partial.done, partial.error.errno()), (LIMIT, Some(libc::EFBIG)), "{name}");
        let expected = [vec![2; LIMIT], vec![1; 2 * MIB - LIMIT]].concat();
        assert!(contents(&file) == expected, "{name}: what the file shows");
        file.sync_all().unwrap();
        assert!(store.contents() == expected, "{name}: what its store has");

        // New bytes: the last block cannot be completed, so none of it counts.
        let (file, _mapping, store) = mapped(&cache, Vec::new());
        let limited = Limited::new(LIMIT);
        let partial = write(&file, &vec![3; 2 * MIB], 0).unwrap_err();
        drop(limited);
        assert!(matches!(partial.error, Error::Memory(_)), "{name}: {partial}");
        assert_eq!((partial.done, file.len().unwrap()), (MIB, MIB as u64), "{name}");
        assert!(contents(&file) == vec![3; MIB], "{name}");
        // With the limit lifted, the write continues there.
        assert_eq!(write(&file, &vec![4; MIB], MIB as u64).unwrap(), MIB, "{name}");
        file.sync_all().unwrap();
        assert!(store.contents() == [vec![3; MIB], vec![4; MIB]].concat(), "{name}");
    }

    // What was reserved for bytes that could not be zeroed is given back.
    let store = Arc::new(MemoryStore::new(vec![1; 2 * MIB]));
    let options = FileOptions::new().write_loop(WriteLoop::DEFAULT.reserve(true));
    let file = cache.open_with(Arc::clone(&store), options).unwrap();
    let _mapping = file.map(0..2 * MIB as u64, Rights::ReadWrite, Mode::Mprotect).unwrap();
    let before = contents(&file);
    let limited = Limited::new(LIMIT);
    let pos = 3 * MIB as u64 / 2 + 1;
    let error = file.punch_hole(pos..pos + 1).unwrap_err();
    drop(limited);
    assert!(matches!(error, Error::Memory(_)), "{error}");
    assert_eq!((store.reserved(), file.dirty()), (0, 0));
    assert!(contents(&file) == before);
}
