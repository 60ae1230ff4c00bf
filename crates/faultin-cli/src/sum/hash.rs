//! BLAKE3 of a file, on all cores.
//!
//! A regular file is mapped. Each task copies its piece from the mapping into a cache of its core, and hashes the copy: so
//! a page that cannot be read is an error with its position, and each hashed byte was read once. BLAKE3's tree is divided
//! at its own subtrees. Everything else (a pipe, a terminal, a file whose size is meaningless, as in /proc and /sys) is
//! read sequentially.
//!
//! The bytes of a checksum must be those of one state of the file: a pass during which its stamp did not move proves this.
//! After a pass during which it moved, the file is hashed once more. If the checksum is the same, the bytes are those that
//! both passes read: only attributes or names had changed. A different checksum is an error, also if the second pass was
//! undisturbed: the bytes changed while the command read them. A file that other processes append to is hashed to its end
//! at the time of the second pass.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
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
            HashError::Read { done: 0, error } => error.fmt(f),
            HashError::Read { done, error } => write!(f, "{error}, after {done} bytes"),
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
        if super::is_stdin(path) {
            return match self.options.input {
                Some(holds) => Err(HashError::Taken(holds)),
                None => self.hash_stream(path, io::stdin().lock()),
            };
        }
        let file = File::open(path).map_err(HashError::Open)?;
        let about = file.metadata();
        // (Where it cannot be queried, the map reports what it is.)
        if about.is_ok_and(|about| !about.is_file() || about.len() == 0) {
            return self.hash_stream(path, file);
        }
        let options = MapOptions::new().watch(Watch::Contents).backend(self.options.backend);
        match options.from_file_at(file.try_clone().map_err(HashError::Open)?, path) {
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
        let (first, moved) = self.pass(path, map)?;
        let Some(moved) = moved else { return Ok(first) };
        map.refresh()?;
        let (second, _) = self.pass(path, map)?;
        // Longer: other processes append to it.
        match map.len() > len || sum(&first) == sum(&second) {
            true => Ok(second),
            false => Err(moved),
        }
    }

    /// Hashes the bytes of the map; returns also the first change that was detected meanwhile, unless it leaves no
    /// checksum.
    fn pass(&self, path: &Path, map: &FileMap) -> Result<(OutputReader, Option<MapError>), MapError> {
        let len = map.len();
        let bar = self.progress.bar(path, len);
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
        let bar = self.progress.bar(path, 0);
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
    /// The first change that was detected.
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
                self.moved.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
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
            self.read(copy, at)?;
            let mut hasher = self.options.key.hasher();
            hasher.set_input_offset(at);
            hasher.update(copy);
            self.bar.inc(len);
            Ok(finish(&mut hasher))
        })
    }
}
