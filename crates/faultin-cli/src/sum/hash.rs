//! BLAKE3 of a file, on all cores.
//!
//! A regular file is mapped. Each task copies its piece from the mapping into a cache of its core, and hashes the copy: so
//! a page that cannot be read is an error with its position, and each hashed byte was read once. BLAKE3's tree is divided
//! at its own subtrees. Everything else (a pipe, a terminal, a file whose size is meaningless, as in /proc and /sys) is
//! read sequentially.
//!
//! The bytes of a checksum must be those of one state of the file: a pass during which its stamp did not move proves this.
//! After a pass during which it moved, the file is hashed once more. If the checksum is the same, and the file was not
//! rewritten during the second pass, the bytes are those that both passes read: only attributes or names had changed. A
//! different checksum is an error, also if the second pass was undisturbed: the bytes changed while the command read them.
//!
//! A file that other processes append to is hashed to its end after the first pass. Its stamp moves all the time, and does
//! not tell an append from a rewrite: so another pass over the same bytes must have the same checksum.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use blake3::OutputReader;
use blake3::hazmat::{self, ChainingValue, HasherExt};
use faultin::{
    FileMap, MapError, MapOptions,
    map::{Backend, Change, Watch},
};
use indicatif::ProgressBar;

use super::key::Key;
use super::name;
use super::object::{self, ObjectError};
use super::progress::Progress;

/// Size of a piece in bytes: a power of two chunks, and small enough for a core's L2 cache.
const PIECE: u64 = 256 << 10;

/// Size of a read in bytes where there is no mapping.
const READ: usize = 1 << 20;

/// Hashes files.
pub struct Hasher {
    pool: rayon::ThreadPool,
    progress: Progress,
    options: Options,
}

/// How files are hashed.
pub struct Options {
    /// Number of threads, 0 for one on each core.
    pub threads: usize,
    /// Whether every change of a file is an error.
    pub strict: bool,
    /// How bytes get from a file to the hash.
    pub backend: Backend,
    /// The mode.
    pub key: Key,
    /// The first byte of the output.
    pub seek: u64,
    /// The use of standard input, if it is not data.
    pub input: Option<&'static str>,
    /// An action of another process before the bytes at this position are read.
    #[cfg(test)]
    pub meanwhile: Option<Box<dyn Fn(u64) + Send + Sync>>,
}

/// The reason why a file has no checksum.
#[derive(Debug)]
pub enum HashError {
    /// It is standard input, which has this use.
    Taken(&'static str),
    /// It could not be opened or mapped.
    Open(io::Error),
    /// It has changed, or a part of it cannot be read.
    Map(MapError),
    /// Not every change of it can be seen, and every change would have to be an error.
    Unwatched,
    /// It is an object of an object store.
    Object(ObjectError),
    /// Reading it sequentially failed.
    Read {
        /// Number of bytes read before.
        done: u64,
        /// The error.
        error: io::Error,
    },
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashError::Taken(holds) => write!(f, "it holds {holds}, so it is not a file to hash"),
            HashError::Open(error) => error.fmt(f),
            HashError::Map(error) => write!(f, "{}", WithoutPath(error)),
            HashError::Unwatched => {
                f.write_str("its file system has another change time at each look, so --strict cannot tell its changes")
            }
            HashError::Object(error) => error.fmt(f),
            HashError::Read { done: 0, error } => error.fmt(f),
            HashError::Read { done, error } => write!(f, "{error}, after {done} bytes"),
        }
    }
}

impl HashError {
    /// Returns what a message calls the file.
    pub fn shown(&self, file: &Path) -> String {
        match self {
            HashError::Object(error) => name::plain(&error.name).into_owned(),
            _ => name::shown(file),
        }
    }
}

/// A map's error without its path, which precedes every message here.
struct WithoutPath<'a>(&'a MapError);

impl fmt::Display for WithoutPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let path = self.0.path().map(|path| format!("{}: ", path.display())).unwrap_or_default();
        f.write_str(text.strip_prefix(&path).unwrap_or(&text))
    }
}

impl Hasher {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn new(options: Options, progress: Progress) -> Result<Hasher, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
        Ok(Hasher { pool, progress, options })
    }

    /// Hashes a file, or standard input.
    ///
    /// # Errors
    /// [`HashError`] if there is no checksum.
    pub fn hash(&self, path: &Path) -> Result<OutputReader, HashError> {
        let mut reader = self.whole(path)?;
        reader.set_position(self.options.seek);
        Ok(reader)
    }

    fn whole(&self, path: &Path) -> Result<OutputReader, HashError> {
        if let Some(url) = object::url(path) {
            return object::hash(url, &self.options.key, &self.progress);
        }
        let is_stdin = super::is_stdin(path);
        let options = MapOptions::new().watch(Watch::Contents).backend(self.options.backend);
        let mut file = match (is_stdin, self.options.input) {
            (true, Some(holds)) => return Err(HashError::Taken(holds)),
            // A stream is not watched: only `strict` needs the file, if it is one.
            (true, None) if !self.options.strict => return self.hash_stream(path, io::stdin().lock()),
            (true, None) => File::from(io::stdin().as_fd().try_clone_to_owned().map_err(HashError::Open)?),
            (false, _) => File::open(path).map_err(HashError::Open)?,
        };
        // (Where it cannot be queried, the map reports what it is.)
        if file.metadata().is_ok_and(|about| !about.is_file()) {
            return self.hash_stream(path, file);
        }
        let another = file.try_clone().map_err(HashError::Open)?;
        let map = match is_stdin {
            true => options.offset(file.stream_position().map_err(HashError::Open)?).from_file(another),
            false => options.from_file_at(another, path),
        };
        match map {
            // The kernel generates it when it is read, whatever its size.
            Err(error) if error.is_stream() => self.hash_stream(path, file),
            Err(error) => Err(HashError::Map(error)),
            Ok(map) if self.options.strict && !map.watches().changed => Err(HashError::Unwatched),
            Ok(map) => {
                drop(file);
                self.hash_map(path, &map).map_err(HashError::Map)
            }
        }
    }

    fn hash_map(&self, path: &Path, map: &FileMap) -> Result<OutputReader, MapError> {
        let len = map.len();
        let (first, moved) = self.pass(path, map, len)?;
        let Some(moved) = moved else { return Ok(first) };
        map.refresh()?;
        let (second, moved_again) = self.pass(path, map, map.len())?;
        let Some(moved_again) = moved_again else {
            return if map.len() > len || sum(&first) == sum(&second) { Ok(second) } else { Err(moved) };
        };
        if map.len() <= len {
            let is_same = sum(&first) == sum(&second) && moved_again.change() != Some(Change::Rewritten);
            return if is_same { Ok(second) } else { Err(moved_again) };
        }
        let len = map.len();
        map.refresh()?;
        let (third, moved) = self.pass(path, map, len)?;
        let was_rewritten = moved.is_some_and(|moved| moved.change() == Some(Change::Rewritten));
        if sum(&second) == sum(&third) && !was_rewritten { Ok(third) } else { Err(moved_again) }
    }

    /// Hashes the first `len` bytes of the map; returns also the first change that was detected meanwhile, unless it leaves no
    /// checksum.
    fn pass(&self, path: &Path, map: &FileMap, len: u64) -> Result<(OutputReader, Option<MapError>), MapError> {
        let bar = self.progress.bar(name::shown(path), Some(len));
        let task = Task { map, bar, options: &self.options, moved: Mutex::default() };
        let hashed = self.pool.install(|| task.root(len));
        task.bar.finish_and_clear();
        let reader = hashed?;
        // Every piece was followed by a check; this is the one after the last of them, which queries the server.
        if let Err(error) = map.verify() {
            task.tolerate(error)?;
        }
        Ok((reader, task.moved.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    fn hash_stream(&self, path: &Path, mut stream: impl Read) -> Result<OutputReader, HashError> {
        let bar = self.progress.bar(name::shown(path), None);
        let (mut hasher, mut buffer, mut done) = (self.options.key.hasher(), vec![0; READ], 0_u64);
        let ended = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break Ok(hasher.finalize_xof()),
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    done += read as u64;
                    bar.set_position(done);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(HashError::Read { done, error }),
            }
        };
        bar.finish_and_clear();
        ended
    }
}

/// Returns the first bytes of a hash.
fn sum(reader: &OutputReader) -> [u8; 32] {
    let mut sum = [0; 32];
    reader.clone().fill(&mut sum);
    sum
}

/// A file that is being hashed.
struct Task<'a> {
    map: &'a FileMap,
    bar: ProgressBar,
    options: &'a Options,
    /// The first change that was detected, or the first rewrite.
    moved: Mutex<Option<MapError>>,
}

impl Task<'_> {
    /// Returns the hash of all `len` bytes.
    fn root(&self, len: u64) -> Result<OutputReader, MapError> {
        if len <= PIECE {
            return self.piece(0, len, |hasher| hasher.finalize_xof());
        }
        let (left, right) = self.halves(0, len)?;
        Ok(hazmat::merge_subtrees_root_xof(&left, &right, self.options.key.mode()))
    }

    /// Returns the value of the subtree of `len` bytes from `at`.
    fn subtree(&self, at: u64, len: u64) -> Result<ChainingValue, MapError> {
        if len <= PIECE {
            return self.piece(at, len, |hasher| hasher.finalize_non_root());
        }
        let (left, right) = self.halves(at, len)?;
        Ok(hazmat::merge_subtrees_non_root(&left, &right, self.options.key.mode()))
    }

    fn halves(&self, at: u64, len: u64) -> Result<(ChainingValue, ChainingValue), MapError> {
        let middle = hazmat::left_subtree_len(len);
        let (left, right) = rayon::join(|| self.subtree(at, middle), || self.subtree(at + middle, len - middle));
        // Of two errors the first one reports how far the file could be read.
        Ok((left?, right?))
    }

    /// Copies bytes that are the file's at this moment.
    fn read(&self, copy: &mut [u8], at: u64) -> Result<(), MapError> {
        let Err(error) = self.map.read_exact_at(copy, at) else { return Ok(()) };
        self.tolerate(error)?;
        // Their state at another moment, if they still exist.
        match self.map.file().read_exact_at(copy, at) {
            Ok(()) => Ok(()),
            // The map reports the reason and the position, unless the file has recovered.
            Err(_) => self.map.read_exact_at(copy, at),
        }
    }

    /// Keeps an error after which there may still be a checksum.
    fn tolerate(&self, error: MapError) -> Result<(), MapError> {
        match error.change() {
            // The file that its name leads to does not matter.
            Some(Change::Replaced | Change::Deleted) if !self.options.strict => Ok(()),
            Some(Change::Touched | Change::Rewritten | Change::Grown { .. }) if !self.options.strict => {
                let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
                let is_worse = error.change() == Some(Change::Rewritten);
                if moved.as_ref().is_none_or(|moved| is_worse && moved.change() != Some(Change::Rewritten)) {
                    *moved = Some(error);
                }
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Copies a piece and hashes the copy.
    fn piece<T>(&self, at: u64, len: u64, finish: impl FnOnce(&mut blake3::Hasher) -> T) -> Result<T, MapError> {
        thread_local! {
            static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(PIECE as usize, 0);
            let copy = &mut buffer[..len as usize];
            #[cfg(test)]
            if let Some(meanwhile) = &self.options.meanwhile {
                meanwhile(at);
            }
            self.read(copy, at)?;
            let mut hasher = self.options.key.hasher();
            hasher.set_input_offset(at);
            hasher.update(copy);
            self.bar.inc(len);
            Ok(finish(&mut hasher))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    use super::*;

    /// Number of pieces of the file.
    const PIECES: u64 = 4;

    /// Hashes a file of `A`, one piece after another; another process does this to it before each.
    fn hash(
        len: u64,
        strict: bool,
        meanwhile: impl Fn(&File, usize, u64) + Send + Sync + 'static,
    ) -> Result<[u8; 32], String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().write_all_at(&vec![b'A'; len as usize], 0).expect("written");
        let other = file.reopen().expect("open");
        let calls = AtomicUsize::new(0);
        let options = Options {
            threads: 1,
            strict,
            backend: Backend::Automatic,
            key: Key::None,
            seek: 0,
            input: None,
            meanwhile: Some(Box::new(move |at| meanwhile(&other, calls.fetch_add(1, Relaxed), at))),
        };
        let hasher = Hasher::new(options, Progress::new()).expect("threads");
        hasher.hash(file.path()).map(|reader| sum(&reader)).map_err(|error| error.to_string())
    }

    /// Overwrites a piece, so that the time of the file moves.
    fn write(file: &File, piece: u64, byte: u8) {
        std::thread::sleep(Duration::from_millis(20));
        file.write_all_at(&vec![byte; PIECE as usize], piece * PIECE).expect("written");
    }

    /// During the pass that the calls before belong to: `A` is read of the first piece, and `B` of the last one, although
    /// the last one is written after the first.
    fn mix(file: &File, at: u64) {
        match at / PIECE {
            1 => write(file, 0, b'B'),
            2 => write(file, PIECES - 1, b'B'),
            _ => {}
        }
    }

    #[test]
    fn growth_does_not_hide_that_a_file_was_rewritten() {
        let result = hash(PIECES * PIECE, false, |file, call, at| match call as u64 {
            0 => {
                std::thread::sleep(Duration::from_millis(20));
                file.write_all_at(b"A", PIECES * PIECE).expect("appended");
            }
            4..9 => mix(file, at),
            _ => {}
        });
        result.expect_err("no state of the file");
    }

    #[test]
    fn two_passes_that_read_the_same_mixture_prove_nothing() {
        let result = hash(PIECES * PIECE, false, |file, call, at| {
            if call == PIECES as usize {
                write(file, PIECES - 1, b'A');
                write(file, 0, b'A');
            }
            mix(file, at);
        });
        result.expect_err("no state of the file");
    }

    #[test]
    fn a_file_that_was_empty_is_watched() {
        let appends = |file: &File, call: usize, _: u64| {
            if call == 0 {
                std::thread::sleep(Duration::from_millis(20));
                file.write_all_at(b"more", 0).expect("appended");
            }
        };
        assert_eq!(hash(0, false, appends), Ok(*blake3::hash(b"more").as_bytes()));
        hash(0, true, appends).expect_err("every change is an error");
        assert_eq!(hash(0, true, |_, _, _| {}), Ok(*blake3::hash(b"").as_bytes()));
    }

    #[test]
    fn a_file_that_only_grows_has_the_checksum_of_one_of_its_ends() {
        let len = PIECES * PIECE;
        let grows = move |file: &File, call: usize, _: u64| {
            std::thread::sleep(Duration::from_millis(20));
            file.write_all_at(b"A", len + call as u64).expect("appended");
        };
        let is = hash(len, false, grows).expect("it is hashed to an end");
        let ends = (0..20).map(|more| *blake3::hash(&vec![b'A'; (len + more) as usize]).as_bytes());
        assert!(ends.into_iter().any(|end| end == is));
        hash(len, true, grows).expect_err("every change is an error");
    }
}
