//! A store that may be down, and whose every answer is a step.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use super::{Step, step};
use crate::store::{FileStore, MemoryStore, Store};

pub(super) struct SimStore {
    pub(super) bytes: Box<dyn Store>,
    /// If so, its descriptor cannot be read either.
    pub(super) is_down: Arc<AtomicBool>,
    /// Number of failed calls.
    failures: AtomicU32,
}

impl SimStore {
    /// In memory; or in a file, which the signal handler can read.
    pub(super) fn new(bytes: Vec<u8>, as_file: bool) -> SimStore {
        let (is_down, failures) = (Arc::default(), AtomicU32::new(0));
        if !as_file {
            return SimStore { bytes: Box::new(MemoryStore::new(bytes)), is_down, failures };
        }
        let memfd = rustix::fs::memfd_create("store", rustix::fs::MemfdFlags::CLOEXEC).expect("there are memfds");
        let file = File::from(memfd);
        file.write_all_at(&bytes, 0).expect("a memfd can be written");
        let bytes = FileStore::new(file).expect("a memfd can be a store");
        SimStore { bytes: Box::new(bytes), is_down, failures }
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    fn answer<T>(
        &self,
        what: &'static str,
        pos: u64,
        len: usize,
        ask: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let answer = if self.is_down.load(Relaxed) {
            self.failures.fetch_add(1, Relaxed);
            Err(io::Error::other("the store is down"))
        } else {
            ask()
        };
        step(Step::Store { what, pos, len });
        answer
    }
}

impl Store for SimStore {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.bytes.descriptor()
    }

    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.answer("read", pos, buf.len(), || self.bytes.read_at(buf, pos))
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.answer("write", pos, buf.len(), || self.bytes.write_at(buf, pos))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.answer("set_len", len, 0, || self.bytes.set_len(len))
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let len = (range.end - range.start) as usize;
        self.answer("punch", range.start, len, || self.bytes.punch_hole(range))
    }
}
