//! A store that fails according to the [schedule](super::schedule), and checks that it is called as promised.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use faultin_cache::store::{FileStore, MemoryStore, ReadRequest, Store};
use faultin_test::Random;
use parking_lot::Mutex;

use super::schedule::{FailureSchedule, OTHERS, READS, SHORT, SLOW, WRITES};

/// The place of the bytes.
#[derive(Debug)]
enum Home {
    /// Faults are handed over.
    Memory(MemoryStore),
    /// Faults are resolved in the signal.
    File(Box<FileStore>),
}

/// The kind of a call.
#[derive(Clone, Copy)]
enum Call {
    Read,
    Write,
    Other,
}

/// A store that fails at times.
#[derive(Debug)]
pub struct FaultyStore {
    home: Home,
    alignment: usize,
    file: usize,
    schedule: Arc<FailureSchedule>,
    random: Random,
    /// Number of errors it has returned, injected ones and those of the place of the bytes: of reads, writes, and other calls.
    failed: [AtomicU64; 3],
    /// Number of these errors in syncs.
    pub syncs_failed: AtomicU64,
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    /// Number of writes, also of those that have failed.
    pub asked_to_write: AtomicU64,
    /// Returns a call that violates the contract of stores.
    wrong: Mutex<Option<String>>,
}

impl FaultyStore {
    /// Makes the store of the file with this number: every other one is a file, of the others every other one is aligned.
    /// All can allocate in advance.
    ///
    /// # Errors
    /// No temporary file can be made.
    pub fn new(bytes: &[u8], file: usize, schedule: Arc<FailureSchedule>, random: Random) -> io::Result<FaultyStore> {
        let home = if file.is_multiple_of(2) {
            let temporary = tempfile::tempfile()?;
            temporary.write_all_at(bytes, 0)?;
            Home::File(Box::new(FileStore::new(temporary)?))
        } else {
            Home::Memory(MemoryStore::new(bytes))
        };
        Ok(FaultyStore {
            home,
            alignment: if file % 4 == 3 { 512 } else { 1 },
            file,
            schedule,
            random,
            failed: [const { AtomicU64::new(0) }; 3],
            syncs_failed: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            asked_to_write: AtomicU64::new(0),
            wrong: Mutex::new(None),
        })
    }

    /// Returns the contents.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn contents(&self) -> io::Result<Vec<u8>> {
        match &self.home {
            Home::Memory(store) => Ok(store.contents()),
            Home::File(store) => {
                let file = store.file();
                let mut bytes = vec![0; file.metadata()?.len() as usize];
                file.read_exact_at(&mut bytes, 0)?;
                Ok(bytes)
            }
        }
    }

    /// Returns the length.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn stored(&self) -> io::Result<u64> {
        match &self.home {
            Home::Memory(store) => store.len(),
            Home::File(store) => Ok(store.file().metadata()?.len()),
        }
    }

    /// Returns whether its length is the file's after each sync of the file, also while other threads write: a unit is
    /// written as a whole.
    pub fn is_exact(&self) -> bool {
        self.alignment == 1
    }

    /// Returns a call that violates the contract of stores.
    pub fn wrong(&self) -> Option<String> {
        self.wrong.lock().take()
    }

    fn inner(&self) -> &dyn Store {
        match &self.home {
            Home::Memory(store) => store,
            Home::File(store) => &**store,
        }
    }

    /// Fails every other time while failures of this kind are scheduled.
    fn mood(&self, kind: u64, errno: i32) -> io::Result<u64> {
        let matter = self.schedule.of(self.file);
        if matter & SLOW != 0 && self.random.once_in(4) {
            thread::sleep(Duration::from_micros(self.random.next() % 3000));
        }
        if matter & kind != 0 && self.random.once_in(2) {
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(matter)
    }

    /// Counts an error that a call returns. A call that is not supported has not failed.
    fn returns<T>(&self, call: Call, result: io::Result<T>) -> io::Result<T> {
        let expected = [io::ErrorKind::Unsupported, io::ErrorKind::Interrupted];
        if result.as_ref().is_err_and(|error| !expected.contains(&error.kind())) {
            self.failed[call as usize].fetch_add(1, Relaxed);
        }
        result
    }

    /// Returns the number of errors it has returned: of reads, writes, and other calls.
    pub fn failed(&self) -> [u64; 3] {
        [0, 1, 2].map(|call| self.failed[call].load(Relaxed))
    }

    /// Returns how many of the requested bytes it moves.
    fn some(&self, len: usize, matter: u64) -> usize {
        if matter & SHORT == 0 || len <= self.alignment || !self.random.once_in(4) {
            return len;
        }
        (1 + self.random.below(len)).next_multiple_of(self.alignment).min(len)
    }

    fn look(&self, address: usize, len: usize, pos: u64) {
        let unit = self.alignment;
        if !address.is_multiple_of(unit) || !len.is_multiple_of(unit) || !pos.is_multiple_of(unit as u64) {
            let what = format!("{len} bytes at {pos} in memory at {address:#x}, where all are to be aligned to {unit}");
            self.wrong.lock().get_or_insert(what);
        }
    }
}

impl Store for FaultyStore {
    fn alignment(&self) -> usize {
        self.alignment
    }

    fn len(&self) -> io::Result<u64> {
        self.inner().len()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner().descriptor()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.look(buf.as_ptr().addr(), buf.len(), pos);
        let read = self.mood(READS, libc::EIO).and_then(|matter| {
            self.reads.fetch_add(1, Relaxed);
            let some = self.some(buf.len(), matter);
            self.inner().read_at(&mut buf[..some], pos)
        });
        self.returns(Call::Read, read)
    }

    /// Each of them may fail.
    fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<io::Result<usize>> {
        if self.schedule.of(self.file) == 0 {
            reads.iter().for_each(|read| self.look(read.bytes.as_ptr().addr(), read.bytes.len(), read.pos));
            self.reads.fetch_add(reads.len() as u64, Relaxed);
            let answers = self.inner().read_many(reads);
            return answers.into_iter().map(|answer| self.returns(Call::Read, answer)).collect();
        }
        reads.iter_mut().map(|read| self.read_at(read.bytes, read.pos)).collect()
    }

    /// What the place of the bytes has at hand, which does not fail. (A store that would have to wait is not asked often.)
    fn try_read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.look(buf.as_ptr().addr(), buf.len(), pos);
        match self.random.once_in(2) {
            true => self.inner().try_read_at(buf, pos),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.look(buf.as_ptr().addr(), buf.len(), pos);
        self.asked_to_write.fetch_add(1, Relaxed);
        let written = self.mood(WRITES, libc::ENOSPC).and_then(|matter| {
            self.writes.fetch_add(1, Relaxed);
            let some = self.some(buf.len(), matter);
            self.inner().write_at(&buf[..some], pos)
        });
        self.returns(Call::Write, written)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let set = self.mood(OTHERS, libc::EIO).and_then(|_| self.inner().set_len(len));
        self.returns(Call::Other, set)
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        // Durability is not checked: that is left to the kernel, which would take long.
        let answer = self.returns(Call::Other, self.mood(OTHERS, libc::EIO).map(drop));
        self.syncs_failed.fetch_add(answer.is_err().into(), Relaxed);
        answer
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let punched = self.mood(OTHERS, libc::EIO);
        let punched = match punched {
            Ok(_) => self.inner().punch_hole(range),
            Err(error) => {
                let half = range.start + (range.end - range.start) / 2;
                let some = half > range.start && self.random.once_in(2);
                let half = if some { self.inner().punch_hole(range.start..half) } else { Ok(()) };
                half.and(Err(error))
            }
        };
        self.returns(Call::Other, punched)
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let allocated = self.mood(WRITES, libc::ENOSPC).and_then(|_| self.inner().allocate(range));
        self.returns(Call::Other, allocated)
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        let trimmed = self.mood(OTHERS, libc::EIO).and_then(|_| self.inner().trim(len));
        self.returns(Call::Other, trimmed)
    }
}
