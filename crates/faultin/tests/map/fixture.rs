//! Files to map: in the system's temporary folder and in memory.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use faultin::{FileMap, MapOptions, map::Backend};
use tempfile::TempDir;

/// One test at a time: they count the process's signals.
pub fn serial() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a system has.
const BACKENDS: &[Backend] =
    if cfg!(faultin_portable) { &[Backend::Pread] } else { &[Backend::Mapped, Backend::Pread] };

/// Bytes of a page. Where nothing is mapped, any number does.
pub fn page_size() -> usize {
    #[cfg(not(faultin_portable))]
    return faultin::page_size();
    #[cfg(faultin_portable)]
    return 4096;
}

/// Signals that the handler has taken so far. Where there is no handler, none.
pub fn signals_taken() -> u64 {
    #[cfg(not(faultin_portable))]
    return faultin::signal::counters().total();
    #[cfg(faultin_portable)]
    return 0;
}

/// All bytes of a file that is open, whatever its name is now.
pub fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().expect("asked").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

/// A folder for files, and a backend.
pub struct Case {
    pub backend: Backend,
    folder: &'static str,
    files: TempDir,
}

/// Runs `test` in every folder and over every backend.
pub fn each(mut test: impl FnMut(&Case)) {
    let _one = serial();
    for folder in ["", "/dev/shm"] {
        for &backend in BACKENDS {
            let files = match folder {
                "" => tempfile::tempdir(),
                folder => tempfile::tempdir_in(folder),
            };
            let files = match files {
                Ok(files) => files,
                Err(error) => {
                    faultin_test::skipped("tmpfs", format_args!("{folder:?}: {error}"));
                    continue;
                }
            };
            let case = Case { backend, folder, files };
            println!("{backend:?} in {:?}", case.folder);
            test(&case);
        }
    }
}

impl Case {
    /// The options with the case's backend.
    pub fn options(&self) -> MapOptions {
        MapOptions::new().backend(self.backend)
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// A new file of this name with `len` bytes of the [`pattern`].
    pub fn file(&self, name: &str, len: usize) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content(len)).expect("write a file");
        path
    }

    /// A file of `len` bytes, and its map.
    pub fn mapped(&self, len: usize) -> (PathBuf, FileMap) {
        let path = self.file("file", len);
        let map = self.options().open(&path).expect("map it");
        assert_eq!(map.backend(), self.backend);
        (path, map)
    }

    /// Whether the operation may have caused a signal at all.
    pub fn faults(&self) -> bool {
        self.backend == Backend::Mapped && !cfg!(any(faultin_syscall, faultin_portable))
    }
}

/// The byte at `i`: never 0, to distinguish it from truncated bytes.
pub fn pattern(i: usize) -> u8 {
    (i.wrapping_mul(31) >> 3) as u8 | 1
}

pub fn content(len: usize) -> Vec<u8> {
    (0..len).map(pattern).collect()
}

/// The file at `path`, open for changes.
pub fn writer(path: &Path) -> File {
    File::options().write(true).open(path).expect("open to write")
}

/// Truncates or extends the file.
pub fn set_len(path: &Path, len: usize) {
    writer(path).set_len(len as u64).expect("set_len");
}

/// Overwrites a part of the file.
pub fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
    let mut file = writer(path);
    file.seek(SeekFrom::Start(at as u64)).expect("seek");
    file.write_all(bytes).expect("write");
}

/// Waits until a change of the file would get a new change time: two ticks of the slowest clock.
pub fn settle(path: &Path) {
    let changed = std::fs::metadata(path).expect("metadata").modified().expect("a time");
    while changed.elapsed().is_ok_and(|passed| passed < std::time::Duration::from_millis(25)) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
