//! `faultin.open` and `FileMap`.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use faultin::map::{Backend, Watch};
use faultin::{MapError, MapOptions};
use pyo3::exceptions::{PyIndexError, PyOSError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySlice, PyTuple};

use crate::buffer::Buffer;
use crate::error::{os_error, raised, raised_by_open};
use crate::iter::{Chunks, Lines};
use crate::patience::{PIECE, in_pieces};
use crate::shared::Shared;
use crate::status;

/// Maximum number of bytes of a piece of a search: some milliseconds.
const SEARCHED: usize = 16 << 20;

/// Number of bytes that are hashed at once.
const HASHED: usize = 1 << 20;

/// The words for the modes, and the modes.
const WATCHES: [(&str, Watch); 4] = [
    ("reader", Watch::Reader),
    ("appending", Watch::Appending),
    ("contents", Watch::Contents),
    ("nothing", Watch::Nothing),
];

/// Returns the mode for a word.
pub(crate) fn watch(word: &str) -> PyResult<Watch> {
    let found = WATCHES.iter().find(|(name, _)| *name == word);
    found.map(|(_, watch)| *watch).ok_or_else(|| {
        PyValueError::new_err(format!("watch is 'reader', 'appending', 'contents' or 'nothing', not {word:?}"))
    })
}

/// Returns the backend for a word: without one, a mapping only where the handler was asked for.
pub(crate) fn backend(word: Option<&str>) -> PyResult<Backend> {
    match word {
        None if status::is_requested() => Ok(Backend::Automatic),
        None | Some("pread") => Ok(Backend::Pread),
        Some("mapping") => Ok(Backend::Mapped),
        Some(other) => Err(PyValueError::new_err(format!("backend is None, 'mapping' or 'pread', not {other:?}"))),
    }
}

/// Takes a position in a file.
pub(crate) fn position(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    object.extract::<u64>().map_err(|error| match object.lt(0) {
        Ok(true) => PyValueError::new_err(format!("offset must not be negative: {object}")),
        _ => error,
    })
}

/// Returns whether reads of a map may fault.
pub(crate) fn is_mapped(map: &faultin::FileMap) -> bool {
    map.backend() == Backend::Mapped
}

/// A file to open: by its path, or open already.
pub(crate) enum Target {
    Path(PathBuf),
    File(File, Option<PathBuf>),
}

impl Target {
    /// Takes a path, an object with `fileno()`, or the number of a descriptor. The descriptor stays the caller's.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let number = if object.hasattr("fileno")? {
            object.call_method0("fileno")?.extract::<i32>()?
        } else if let Ok(number) = object.extract::<i32>() {
            number
        } else {
            return Ok(Target::Path(path(object)?));
        };
        if number < 0 {
            return Err(PyValueError::new_err(format!("{number} is no descriptor")));
        }
        // SAFETY: queries the flags of a number that need not be a descriptor.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFL) };
        if flags >= 0 && (flags & libc::O_ACCMODE == libc::O_WRONLY || flags & libc::O_PATH != 0) {
            // Reading by `pread` would fail later, and a mapping with EACCES.
            let text = format!("descriptor {number} is not open for reading");
            return Err(PyOSError::new_err((libc::EBADF, text)));
        }
        // SAFETY: it is used during this call only. If it is not open, the call below fails.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        let file = borrowed.try_clone_to_owned().map_err(|error| os_error(&error, None))?;
        // A file object's name is what it was opened by: a path, or a number.
        let name = object.getattr("name").ok().and_then(|name| path(&name).ok());
        Ok(Target::File(File::from(file), name))
    }
}

/// Takes a path as `os.fsencode` does: `str`, `bytes`, or an object that has one of them.
fn path(object: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    // SAFETY: attached; a new reference, or null with an error.
    let path = unsafe { Bound::from_owned_ptr_or_err(object.py(), ffi::PyOS_FSPath(object.as_ptr()))? };
    let path = match path.cast::<PyBytes>() {
        Ok(bytes) => PathBuf::from(OsStr::from_bytes(bytes.as_bytes())),
        Err(_) => path.extract::<PathBuf>()?,
    };
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(PyValueError::new_err("embedded null byte"));
    }
    Ok(path)
}

/// A file that is read with the errors of `read`, whatever other programs do to it. Made by `open`.
#[pyclass(frozen, module = "faultin")]
pub(crate) struct FileMap {
    /// `None` once it is closed.
    map: Mutex<Option<Shared<faultin::FileMap>>>,
    /// By which it is pickled.
    path: Option<PathBuf>,
    watch: &'static str,
    backend: Option<String>,
}

/// Opens a file for reading.
#[pyfunction]
#[pyo3(signature = (file, /, *, watch = "reader", backend = None))]
pub(crate) fn open(file: &Bound<'_, PyAny>, watch: &str, backend: Option<String>) -> PyResult<FileMap> {
    let mode = self::watch(watch)?;
    let word = WATCHES.iter().find(|(_, watch)| *watch == mode).map_or("reader", |(word, _)| word);
    let options = MapOptions::new().watch(mode).backend(self::backend(backend.as_deref())?);
    let target = Target::of(file)?;
    let py = file.py();
    let (result, path) = match target {
        Target::Path(path) => (py.detach(|| options.open(&path)), Some(path)),
        Target::File(file, Some(path)) => (py.detach(|| options.from_file_at(file, &path)), Some(path)),
        Target::File(file, None) => (py.detach(|| options.from_file(file)), None),
    };
    let map = result.map_err(|error| raised_by_open(py, &error))?;
    if is_mapped(&map) {
        status::be_reached(py)?;
        status::note_installed();
    }
    let path = path.map(|path| std::path::absolute(&path).unwrap_or(path));
    Ok(FileMap { map: Mutex::new(Some(Shared::new(map))), path, watch: word, backend })
}

/// The number of bytes from which on a copy goes past the CPU's caches: few CPUs have room for as many.
const STREAMED: usize = 32 << 20;

/// Copies from `at` to the memory at `address`, until it is full or the map ends. Returns the number of bytes.
///
/// # Safety
/// `len` bytes at `address` are valid memory until this returns, which no other Rust code refers to.
unsafe fn fill(py: Python<'_>, map: &faultin::FileMap, address: usize, len: usize, at: u64) -> PyResult<usize> {
    let mut done = 0;
    let outcome = in_pieces(py, len as u64, PIECE, is_mapped(map), |size| {
        let piece = (len - done).min(size);
        if piece == 0 {
            return Ok(false);
        }
        // SAFETY: within the memory of the contract.
        let dst = unsafe {
            core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut::<u8>(address + done), piece)
        };
        let read = match len {
            ..STREAMED => map.read_at(dst, at + done as u64)?,
            _ => map.read_at_streaming(dst, at + done as u64)?,
        };
        done += read;
        Ok(read == piece && done < len)
    })?;
    match outcome {
        Ok(()) => Ok(done),
        Err(error) => Err(raised(py, &error, done as u64)),
    }
}

/// Copies from `at` into an object's buffer, until it is full or the map ends. Returns the number of bytes.
pub(crate) fn fill_buffer(
    py: Python<'_>,
    map: &faultin::FileMap,
    buffer: &Bound<'_, PyAny>,
    at: u64,
) -> PyResult<usize> {
    let buffer = Buffer::writable(buffer)?;
    if buffer.len() == 0 {
        return Ok(0);
    }
    // SAFETY: the buffer is borrowed to write until this returns.
    unsafe { fill(py, map, buffer.address(), buffer.len(), at) }
}

/// Copies a range that the map has, as `bytes`. Shorter only where the map ends.
pub(crate) fn bytes<'py>(py: Python<'py>, map: &faultin::FileMap, len: u64, at: u64) -> PyResult<Bound<'py, PyBytes>> {
    let len = usize::try_from(len.min(map.len().saturating_sub(at)))?;
    // SAFETY: attached. The object is new and uninitialised; no other code has it before it is returned.
    unsafe {
        let object = ffi::PyBytes_FromStringAndSize(core::ptr::null(), len.try_into()?);
        let object = Bound::from_owned_ptr_or_err(py, object)?;
        let data = ffi::PyBytes_AsString(object.as_ptr());
        let done = fill(py, map, data.expose_provenance(), len, at)?;
        let object = object.cast_into_unchecked::<PyBytes>();
        // (A map never ends before its length without an error, but that is its promise, not this function's.)
        Ok(if done == len { object } else { PyBytes::new(py, &object.as_bytes()[..done]) })
    }
}

impl FileMap {
    /// Returns the map, or fails if it was closed.
    pub(crate) fn open_map(&self) -> PyResult<Shared<faultin::FileMap>> {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        map.clone().ok_or_else(|| PyValueError::new_err("the file is closed"))
    }

    /// Returns start and end of a range as Python's methods take them: `None` for the end, negative from the end.
    fn range(map: &faultin::FileMap, start: i64, end: Option<i64>) -> (u64, u64) {
        let len = map.len();
        let place = |at: i64| match u64::try_from(at) {
            Ok(at) => at.min(len),
            Err(_) => len.saturating_sub(at.unsigned_abs()),
        };
        (place(start), end.map_or(len, place))
    }

    /// Calls `step` with the number of bytes to search, until it returns `false`.
    fn search(
        py: Python<'_>,
        map: &faultin::FileMap,
        total: u64,
        mut step: impl FnMut(u64) -> Result<bool, MapError> + Send,
    ) -> PyResult<()> {
        let outcome = in_pieces(py, total, SEARCHED, is_mapped(map), |size| step(size as u64))?;
        outcome.map_err(|error| raised(py, &error, 0))
    }
}

#[pymethods]
impl FileMap {
    /// Copies bytes from `offset` into `buffer`; returns their number, which is smaller only where the file ends.
    #[pyo3(signature = (buffer, /, offset = 0))]
    fn readinto(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = position)] offset: u64,
    ) -> PyResult<usize> {
        fill_buffer(py, &*self.open_map()?, buffer, offset)
    }

    /// Returns up to `n` bytes from `offset`; all to the end if `n` is negative.
    #[pyo3(signature = (n = -1, /, offset = 0), text_signature = "($self, n=-1, /, offset=0)")]
    fn read<'py>(
        &self,
        py: Python<'py>,
        n: i64,
        #[pyo3(from_py_with = position)] offset: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let map = self.open_map()?;
        bytes(py, &map, u64::try_from(n).unwrap_or(u64::MAX), offset)
    }

    /// Iterates over the file in pieces of `size` bytes.
    #[pyo3(signature = (size = 1 << 20, /, start = 0, end = None), text_signature = "($self, size=1048576, /, start=0, end=None)")]
    fn chunks(&self, size: usize, start: i64, end: Option<i64>) -> PyResult<Chunks> {
        if size == 0 {
            return Err(PyValueError::new_err("a chunk has at least one byte"));
        }
        let map = self.open_map()?;
        let (start, end) = Self::range(&map, start, end);
        Ok(Chunks::new(map, size, start, end))
    }

    /// Iterates over the lines, each with the newline that ends it.
    #[pyo3(signature = (*, start = 0))]
    fn lines(&self, start: i64) -> PyResult<Lines> {
        let map = self.open_map()?;
        let (start, _) = Self::range(&map, start, None);
        Ok(Lines::new(map, start))
    }

    fn __iter__(&self) -> PyResult<Lines> {
        self.lines(0)
    }

    /// Returns the position of the first occurrence of `needle`, or -1.
    #[pyo3(signature = (needle, /, start = 0, end = None))]
    fn find(&self, py: Python<'_>, needle: &Bound<'_, PyAny>, start: i64, end: Option<i64>) -> PyResult<i64> {
        let map = self.open_map()?;
        let needle = owned(needle)?;
        let (mut at, end) = Self::range(&map, start, end);
        let mut found = None;
        Self::search(py, &map, end.saturating_sub(at), |size| {
            // What one piece has of the next one is no more than the rest of it.
            let size = size.max(needle.len() as u64);
            let window = end.min(at.saturating_add(size).saturating_add(needle.len() as u64));
            if at > window {
                return Ok(false);
            }
            found = map.find(&needle, at..window)?;
            // An occurrence that begins in the rest is in the next window.
            at = window.saturating_sub((needle.len() as u64).saturating_sub(1)).max(at);
            Ok(found.is_none() && window < end)
        })?;
        Ok(found.map_or(-1, |at| at as i64))
    }

    /// Returns whether bytes, or one byte as a number, are anywhere in the file.
    fn __contains__(&self, py: Python<'_>, needle: &Bound<'_, PyAny>) -> PyResult<bool> {
        let byte = match needle.extract::<i64>() {
            Ok(number) => {
                let byte = u8::try_from(number).map_err(|_| PyValueError::new_err("byte must be in range(0, 256)"))?;
                PyBytes::new(py, &[byte]).into_any()
            }
            Err(_) => needle.clone(),
        };
        Ok(self.find(py, &byte, 0, None)? >= 0)
    }

    /// Returns the position of the last occurrence of `needle`, or -1.
    #[pyo3(signature = (needle, /, start = 0, end = None))]
    fn rfind(&self, py: Python<'_>, needle: &Bound<'_, PyAny>, start: i64, end: Option<i64>) -> PyResult<i64> {
        let map = self.open_map()?;
        let needle = owned(needle)?;
        let (start, mut end) = Self::range(&map, start, end);
        let mut found = None;
        Self::search(py, &map, end.saturating_sub(start), |size| {
            let size = size.max(needle.len() as u64);
            let window = start.max(end.saturating_sub(size).saturating_sub(needle.len() as u64));
            if end < window {
                return Ok(false);
            }
            found = map.rfind(&needle, window..end)?;
            end = (window + (needle.len() as u64).saturating_sub(1)).min(end);
            Ok(found.is_none() && window > start)
        })?;
        Ok(found.map_or(-1, |at| at as i64))
    }

    /// Counts the occurrences of `needle` that do not overlap.
    #[pyo3(signature = (needle, /, start = 0, end = None))]
    fn count(&self, py: Python<'_>, needle: &Bound<'_, PyAny>, start: i64, end: Option<i64>) -> PyResult<u64> {
        let map = self.open_map()?;
        let needle = owned(needle)?;
        let (mut at, end) = Self::range(&map, start, end);
        if needle.is_empty() {
            // As `bytes.count` does: before, between and after all bytes.
            return Ok(if at <= end { end - at + 1 } else { 0 });
        }
        let mut count = 0;
        Self::search(py, &map, end.saturating_sub(at), |size| {
            let window = end.min(at.saturating_add(size.max(needle.len() as u64)));
            if at >= window {
                return Ok(false);
            }
            if let [byte] = needle[..] {
                count += map.count_byte(byte, at..window)?;
                at = window;
                return Ok(at < end);
            }
            // An occurrence that begins in the window counts here.
            let reach = end.min(window.saturating_add(needle.len() as u64 - 1));
            while at < window {
                match map.find(&needle, at..reach)? {
                    Some(found) => (at, count) = (found + needle.len() as u64, count + 1),
                    None => at = window,
                }
            }
            Ok(at < end)
        })?;
        Ok(count)
    }

    /// Returns the BLAKE3 hash of the file, 32 bytes.
    #[pyo3(signature = (*, start = 0, end = None))]
    fn blake3<'py>(&self, py: Python<'py>, start: i64, end: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        let map = self.open_map()?;
        let (mut at, end) = Self::range(&map, start, end);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; HASHED];
        Self::search(py, &map, end.saturating_sub(at), |size| {
            let piece = end.saturating_sub(at).min(size).min(HASHED as u64) as usize;
            if piece == 0 {
                return Ok(false);
            }
            map.read_exact_at(&mut buffer[..piece], at)?;
            hasher.update(&buffer[..piece]);
            at += piece as u64;
            Ok(at < end)
        })?;
        Ok(PyBytes::new(py, hasher.finalize().as_bytes()))
    }

    /// Raises `FaultError` if the file is not as it was when it was opened or refreshed, or its path leads to another file.
    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        let map = self.open_map()?;
        py.detach(|| map.verify()).map_err(|error| raised(py, &error, 0))
    }

    /// Takes the file as it is now. Returns the word for what has changed, or `None`.
    fn refresh(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        let map = self.open_map()?;
        let change = py.detach(|| map.refresh()).map_err(|error| raised(py, &error, 0))?;
        Ok(change.map(crate::error::change_name))
    }

    /// Returns an `io.RawIOBase` with a position of its own.
    fn raw<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().open_map()?;
        slf.py().import("faultin._io")?.call_method1("MapIO", (slf,))
    }

    /// Returns an `io.BufferedReader` with a position of its own.
    #[pyo3(signature = (buffer_size = 128 << 10), text_signature = "($self, /, buffer_size=131072)")]
    fn reader<'py>(slf: &Bound<'py, Self>, buffer_size: usize) -> PyResult<Bound<'py, PyAny>> {
        let raw = Self::raw(slf)?;
        slf.py().import("io")?.call_method1("BufferedReader", (raw, buffer_size))
    }

    /// Releases the file. Iterators that were made of it keep it.
    fn close(&self) {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(map);
    }

    /// Returns the number of the map's own descriptor.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.open_map()?.as_fd().as_raw_fd())
    }

    #[getter]
    fn closed(&self) -> bool {
        self.map.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// The path that it was opened by, made absolute; `None` for a descriptor without a name.
    #[getter]
    fn name(&self) -> Option<&std::ffi::OsStr> {
        self.path.as_deref().map(Path::as_os_str)
    }

    #[getter]
    fn watch(&self) -> &'static str {
        self.watch
    }

    /// How it reads: `'mapping'` or `'pread'`.
    #[getter]
    fn backend(&self) -> PyResult<&'static str> {
        Ok(if self.open_map()?.backend() == Backend::Mapped { "mapping" } else { "pread" })
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.open_map()?.len().try_into()?)
    }

    /// Truth is whether it can be used, not its length.
    fn __bool__(&self) -> bool {
        !self.closed()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let map = self.open_map()?;
        let len = isize::try_from(map.len())?;
        if let Ok(slice) = index.cast::<PySlice>() {
            let range = slice.indices(len)?;
            if range.slicelength == 0 {
                return Ok(PyBytes::new(py, b"").into_any());
            }
            let last = range.start + (range.slicelength as isize - 1) * range.step;
            let (low, high) = (range.start.min(last), range.start.max(last));
            let all = exactly(py, &map, low as u64, (high - low + 1) as u64)?;
            if range.step == 1 {
                return Ok(all.into_any());
            }
            let picked: Vec<u8> = if range.step > 0 {
                all.as_bytes().iter().step_by(range.step.unsigned_abs()).copied().collect()
            } else {
                all.as_bytes().iter().rev().step_by(range.step.unsigned_abs()).copied().collect()
            };
            return Ok(PyBytes::new(py, &picked).into_any());
        }
        let index: isize = index.extract().map_err(|_| PyTypeError::new_err("an index is an integer or a slice"))?;
        let at = if index < 0 { index + len } else { index };
        if at < 0 || at >= len {
            return Err(PyIndexError::new_err("index out of range"));
        }
        let byte = exactly(py, &map, at as u64, 1)?;
        Ok(byte.as_bytes()[0].into_pyobject(py)?.into_any())
    }

    fn __enter__<'a, 'py>(slf: &'a Bound<'py, Self>) -> PyResult<&'a Bound<'py, Self>> {
        slf.get().open_map()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.close();
    }

    /// Pickles as the path, and the options: the receiver opens the file again.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let (py, map) = (slf.py(), slf.get());
        let Some(path) = &map.path else {
            return Err(PyTypeError::new_err("a map of a descriptor without a path cannot be pickled"));
        };
        let function = py.import("faultin._io")?.getattr("open_again")?;
        let arguments = (path.as_os_str(), map.watch, map.backend.as_deref()).into_pyobject(py)?;
        (function, arguments).into_pyobject(py)
    }

    fn __repr__(&self) -> String {
        let name = self.path.as_deref().map_or_else(|| "a descriptor".into(), Path::to_string_lossy);
        let state = if self.closed() { ", closed" } else { "" };
        format!("<faultin.FileMap of {name:?}, watch={:?}{state}>", self.watch)
    }
}

/// Copies bytes that the map has: an end before them is an error.
fn exactly<'py>(py: Python<'py>, map: &faultin::FileMap, at: u64, len: u64) -> PyResult<Bound<'py, PyBytes>> {
    let all = bytes(py, map, len, at)?;
    if all.as_bytes().len() as u64 != len {
        return Err(PyIndexError::new_err("the file ends before the slice"));
    }
    Ok(all)
}

/// Copies the bytes of an object, for code that runs without the interpreter's lock.
fn owned(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let buffer = Buffer::readable(object)?;
    // SAFETY: the buffer outlives the slice.
    Ok(unsafe { buffer.bytes() }.to_vec())
}
