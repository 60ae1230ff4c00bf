//! The cache's side: a cached file with the interface of system calls.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use faultin::iov::{IovDest, IovSource};
use faultin_cache::copy::MayWait;
use faultin_cache::mutation::{Bug, Mutated};
use faultin_cache::store::{FileStore, MemoryStore, ReadRequest, Store};
use faultin_cache::{Cache, CachedFile, Error, FileOptions, Partial};

use crate::buggy::Buggy;
use crate::kernel::{Answer, on_disk};
use crate::region::memfd;

/// The place of a cached file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    Memory,
    /// A file on tmpfs.
    Memfd,
    /// A file in the build directory.
    Disk,
    /// The same with `O_DIRECT`, which requires alignment to blocks of the disk.
    Direct,
}

/// Files for stores, reused by all cases.
pub struct Backing {
    memfd: File,
    disk: File,
    /// `None` where the file system has no direct I/O.
    direct: Option<File>,
}

impl Backing {
    pub fn new() -> Backing {
        Backing { memfd: memfd(), disk: on_disk(), direct: direct().ok() }
    }

    /// The alignment of direct I/O here.
    pub fn alignment(&self) -> Option<usize> {
        let file = self.direct.as_ref()?.try_clone().ok()?;
        FileStore::direct(file).ok().map(|store| store.alignment())
    }

    /// A store with these bytes in it.
    pub fn store(&self, home: Home, bytes: &[u8]) -> Arc<dyn Store> {
        let file = match home {
            Home::Memory => return Arc::new(MemoryStore::new(bytes)),
            Home::Memfd => &self.memfd,
            Home::Disk => &self.disk,
            Home::Direct => self.direct.as_ref().expect("only where there is direct I/O"),
        };
        file.set_len(0).unwrap();
        let again = file.try_clone().unwrap();
        if home != Home::Direct {
            file.write_all_at(bytes, 0).unwrap();
            return Arc::new(FileStore::new(again).unwrap());
        }
        let store = FileStore::direct(again).unwrap();
        let unit = store.alignment();
        let whole = bytes.len().next_multiple_of(unit);
        let mut aligned = vec![0; whole + unit];
        let offset = aligned.as_ptr().align_offset(unit);
        aligned[offset..offset + bytes.len()].copy_from_slice(bytes);
        file.write_all_at(&aligned[offset..offset + whole], 0).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        Arc::new(store)
    }
}

/// A file opened with `O_DIRECT` through a separate descriptor.
fn direct() -> io::Result<File> {
    let file = on_disk();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path)
}

/// How bytes get into the file or out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Buffered,
    Direct,
    /// At the end of the file, for positions before it.
    Append,
}

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub answer: Answer,
    /// Whether nothing stopped the call: it moved all bytes, or all that the file had.
    pub whole: bool,
}

/// A cached file.
pub struct OurFile {
    pub file: CachedFile,
    /// Injected into its writes.
    pub bug: Option<Bug>,
    pub store: Arc<dyn Store>,
}

impl OurFile {
    pub fn new(cache: &Cache, store: Arc<dyn Store>, options: FileOptions) -> io::Result<OurFile> {
        let file = cache.open_with(Arc::clone(&store), options)?;
        Ok(OurFile { file, store, bug: None })
    }

    /// What `pwritev` would return, and the error that ended it.
    ///
    /// # Safety
    /// As [`IovSource::import_iovec`].
    pub unsafe fn write(&self, segments: &[libc::iovec], pos: u64, way: Way) -> Result<Outcome, String> {
        // SAFETY: the caller upholds it.
        let mut from = match unsafe { IovSource::import_iovec(segments) } {
            Ok(from) => from,
            Err(error) => return refused(error.errno()).ok_or_else(|| error.to_string()),
        };
        let total = from.count();
        let result = match (self.bug, way) {
            (None, Way::Buffered) => self.file.write_iter(&mut from, pos),
            (None, Way::Direct) => self.file.write_direct(&mut from, pos),
            (None, Way::Append) => self.file.append_iter(&mut from),
            (bug, way) => {
                let buggy = Mutated::new(&self.file, Buggy(bug));
                match way {
                    Way::Buffered => buggy.write_iter_with::<_, MayWait>(&mut from, pos, &mut ()),
                    Way::Direct => buggy.write_direct_with::<_, MayWait>(&mut from, pos, &mut ()),
                    Way::Append => buggy.append_iter_with::<_, MayWait>(&mut from, &mut ()),
                }
            }
        };
        let done = result.as_ref().map_or_else(|partial| partial.done, |done| *done);
        if from.moved() != done || from.count() != total - done {
            return Err(format!("the list is at {}, the count is {done} of {total}", from.moved()));
        }
        if matches!(result, Ok(done) if done != total) {
            return Err(format!("wrote {done} of {total}, and does not say why no more"));
        }
        outcome(result)
    }

    /// What `preadv` would return.
    ///
    /// # Safety
    /// As [`IovDest::import_iovec`].
    pub unsafe fn read(&self, segments: &[libc::iovec], pos: u64, way: Way) -> Result<Outcome, String> {
        // SAFETY: the caller upholds it.
        let mut to = match unsafe { IovDest::import_iovec(segments) } {
            Ok(to) => to,
            Err(error) => return refused(error.errno()).ok_or_else(|| error.to_string()),
        };
        let total = to.count();
        let result = match way {
            Way::Buffered | Way::Append => self.file.read_iter(&mut to, pos),
            Way::Direct => self.file.read_direct(&mut to, pos),
        };
        let done = result.as_ref().map_or_else(|partial| partial.done, |done| *done);
        if to.moved() != done || to.count() != total - done {
            return Err(format!("the list is at {}, the count is {done} of {total}", to.moved()));
        }
        outcome(result)
    }

    /// All bytes, read in this way. A direct read does not change the cache.
    pub fn contents(&self, way: Way) -> Result<Vec<u8>, String> {
        let len = self.file.len().map_err(|error| error.to_string())?;
        let mut bytes = vec![0xa5; len as usize];
        let read = match way {
            Way::Buffered | Way::Append => self.file.read_at(&mut bytes, 0),
            Way::Direct => self.file.read_direct(&mut IovDest::<faultin::WriteView<'_>>::one(&mut *bytes), 0),
        };
        match read {
            Ok(read) if read == bytes.len() && way == Way::Buffered => self.read_otherwise(&bytes).map(|()| bytes),
            Ok(read) if read == bytes.len() => Ok(bytes),
            Ok(read) => Err(format!("the file has {} bytes, {read} can be read", bytes.len())),
            Err(partial) => Err(format!("reading the file: {partial}")),
        }
    }

    /// Reads the bytes again, in parts at once, and as far as they are in memory.
    fn read_otherwise(&self, bytes: &[u8]) -> Result<(), String> {
        let mut parts = vec![0xa5; bytes.len() + 7];
        let each = parts.len().div_ceil(3);
        let pieces = parts.chunks_mut(each).enumerate();
        let mut requests: Vec<_> =
            pieces.map(|(index, piece)| ReadRequest::new((index * each) as u64, piece)).collect();
        let read = self.file.read_many(&mut requests).into_iter().sum::<Result<usize, _>>();
        if !matches!(read, Ok(read) if read == bytes.len()) || !parts.starts_with(bytes) {
            return Err(format!("parts at once: {read:?} of {} bytes, or other ones", bytes.len()));
        }
        let mut now = vec![0xa5; bytes.len() + 7];
        let done = match self.file.try_read_at(&mut now, 0) {
            Ok(done) if done != bytes.len() => return Err(format!("{done} of {} bytes at once", bytes.len())),
            Ok(done) => done,
            Err(Partial { done, error: Error::WouldBlock }) => done,
            Err(partial) => return Err(format!("reading at once: {partial}")),
        };
        match now[..done] == bytes[..done] && now[done..].iter().all(|&byte| byte == 0xa5) {
            true => Ok(()),
            false => Err(format!("{done} bytes at once, and other ones")),
        }
    }

    /// The store's bytes.
    pub fn stored(&self) -> Result<Vec<u8>, String> {
        let what = |error: io::Error| format!("the store: {error}");
        let unit = self.store.alignment();
        let len = self.store.len().map_err(what)? as usize;
        let mut bytes = vec![0; len.next_multiple_of(unit) + unit];
        let offset = bytes.as_ptr().align_offset(unit);
        let whole = &mut bytes[offset..offset + len.next_multiple_of(unit)];
        let mut done = 0;
        while done < len {
            match self.store.read_at(&mut whole[done..], done as u64).map_err(what)? {
                0 => return Err(format!("the store has {len} bytes, {done} can be read")),
                read => done += read,
            }
        }
        Ok(whole[..len].to_vec())
    }
}

/// Converts a result to that of a system call. An error that the kernel cannot return is a failure of the test.
fn outcome(result: Result<usize, Partial>) -> Result<Outcome, String> {
    let whole = result.is_ok();
    match result.or_else(Partial::syscall) {
        Ok(done) => Ok(Outcome { answer: Ok(done), whole }),
        Err(error @ (Error::Fault(_) | Error::TooLarge { .. })) => {
            refused(error.errno()).ok_or_else(|| error.to_string())
        }
        Err(error) => Err(format!("unexpected: {error}")),
    }
}

fn refused(errno: Option<i32>) -> Option<Outcome> {
    Some(Outcome { answer: Err(errno?), whole: false })
}
