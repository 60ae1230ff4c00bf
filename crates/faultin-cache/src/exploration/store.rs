//! A store that is a file in the kernel's memory, over [`FileStore`]: it preallocates, trims, returns short counts and
//! fails on demand. Each of its calls is a moment, and the bytes read from it are counted.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::moment;
use super::script::Call;
use crate::store::{FileStore, Store};

#[derive(Debug)]
pub(super) struct Watched {
    inner: FileStore,
    /// Maximum number of bytes that a call moves.
    short: usize,
    /// Number of bytes that were read so far.
    read: AtomicU64,
    /// Number of calls of each kind that succeed before the first failure, and how many fail then.
    fail: [[AtomicUsize; 2]; 3],
    /// Number of calls that have failed.
    failed: AtomicUsize,
}

impl Watched {
    pub(super) fn new(bytes: &[u8], short: usize) -> Watched {
        let memfd = rustix::fs::memfd_create("store", rustix::fs::MemfdFlags::CLOEXEC).expect("there are memfds");
        rustix::io::pwrite(&memfd, bytes, 0).expect("a memfd can be written");
        Watched {
            inner: FileStore::new(File::from(memfd)).expect("a memfd can be a store"),
            short: if short == 0 { usize::MAX } else { short },
            read: AtomicU64::new(0),
            fail: Default::default(),
            failed: AtomicUsize::new(0),
        }
    }

    pub(super) fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    pub(super) fn failed(&self) -> usize {
        self.failed.load(Relaxed)
    }

    pub(super) fn fail(&self, what: Call, skip: usize, times: usize) {
        let [to_skip, to_fail] = &self.fail[what as usize];
        to_skip.store(skip, Relaxed);
        to_fail.store(times, Relaxed);
    }

    /// Makes all further calls succeed.
    pub(super) fn heal(&self) {
        self.fail.iter().flatten().for_each(|count| count.store(0, Relaxed));
    }

    /// Returns the bytes that the kernel has.
    pub(super) fn contents(&self) -> Vec<u8> {
        let len = self.inner.file().metadata().expect("a memfd has a length").len();
        let mut bytes = vec![0; len as usize];
        let read = rustix::io::pread(self.inner.file(), &mut bytes, 0).expect("a memfd can be read");
        assert_eq!(read, bytes.len());
        bytes
    }

    /// # Errors
    /// If this call has to fail.
    fn may(&self, what: Call) -> io::Result<()> {
        let down = |count: &AtomicUsize| count.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1)).is_ok();
        let [to_skip, to_fail] = &self.fail[what as usize];
        if to_fail.load(Relaxed) == 0 || down(to_skip) || !down(to_fail) {
            return Ok(());
        }
        self.failed.fetch_add(1, Relaxed);
        Err(io::ErrorKind::StorageFull.into())
    }
}

impl Store for Watched {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        moment();
        self.may(Call::Read)?;
        self.read.fetch_add(buf.len().min(self.short) as u64, Relaxed);
        let most = buf.len().min(self.short);
        let read = self.inner.read_at(&mut buf[..most], pos);
        moment();
        read
    }

    /// Of each three pages, it has two at hand.
    fn try_read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let page = rustix::param::page_size() as u64;
        let most = (2 * page).saturating_sub(pos % (3 * page)).min(buf.len() as u64) as usize;
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        moment();
        self.may(Call::Read)?;
        let most = most.min(self.short);
        self.read.fetch_add(most as u64, Relaxed);
        let read = self.inner.read_at(&mut buf[..most], pos);
        moment();
        read
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        moment();
        if let Err(error) = self.may(Call::Write) {
            let _ = self.inner.write_at(&buf[..buf.len() / 2], pos);
            return Err(error);
        }
        let written = self.inner.write_at(&buf[..buf.len().min(self.short)], pos);
        moment();
        written
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        moment();
        self.may(Call::Other)?;
        self.inner.set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        moment();
        self.may(Call::Other)?;
        self.inner.sync(data_only)
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        moment();
        self.may(Call::Other)?;
        self.inner.punch_hole(range)
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        moment();
        if range.is_empty() {
            return Ok(());
        }
        self.may(Call::Write)?;
        self.inner.allocate(range)
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        moment();
        self.inner.trim(len)
    }
}
