//! The check of the file by an operation of a [`FileMap`] after its accesses, and the meaning of the answer in each mode.

use core::sync::atomic::{Ordering, fence};
use std::io;
use std::time::Duration;

use super::error::{Change, OperationError, Reason, is_of_the_file};
use super::file::FileMap;
use super::options::Watch;
use super::record::Baseline;
use super::stamp::Stamp;
use crate::fault::Short;
use crate::sleep::sleep;

/// The result of the check for an operation that has accessed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The bytes are those of the file.
    Unmoved,
    /// Under [`Watch::Reader`]: the bytes have to be read again.
    Moved,
}

/// How often the file is checked while an append has moved its time, and not yet its size.
const PATIENCE: u32 = 66;

/// How many of these checks only yield; after each of the others the thread sleeps a millisecond.
const YIELDS: u32 = 16;

impl FileMap {
    /// Returns the baseline of an operation that cannot read again: a fresh stamp waits for the end of its tick.
    pub(super) fn settled(&self) -> Baseline {
        let known = self.known();
        if self.watch() != Watch::Reader || known.last.settled {
            return known;
        }
        // If it has moved, that is a result, and there is nothing to wait for.
        let is_unmoved = |now: &Stamp| now.is_as(&known.last.stamp);
        match self
            .observe()
            .and_then(|now| now.settle(|| self.now(), is_unmoved).map_err(|error| OperationError::io(0, error)))
        {
            Ok(last) if last.settled && is_unmoved(&last.stamp) => {
                self.accept(&known, &last);
                Baseline { last, ..known }
            }
            _ => known,
        }
    }

    /// Checks the file after bytes from `at` were copied, and reads them again if need be.
    #[inline]
    pub(super) fn confirm(&self, known: &Baseline, at: u64, dst: &mut [u8]) -> Result<(), OperationError> {
        match self.ask(known, at, dst.len())? {
            Answer::Unmoved => Ok(()),
            Answer::Moved => self.read_again(known, at, dst),
        }
    }

    /// Reads the bytes from `at` again, because the file has moved while they were copied, and accepts the new stamp. Once:
    /// so a file that changes all the time costs no more.
    #[cold]
    pub(super) fn read_again(&self, known: &Baseline, at: u64, dst: &mut [u8]) -> Result<(), OperationError> {
        // Before it is read: a later change moves the stamp again.
        let now = self.observe()?;
        self.pread(known, at, dst, 0)?;
        if self.watch() == Watch::Reader {
            self.accept(known, &now);
        }
        Ok(())
    }

    /// Prepares for accesses that a check by [`ask`](Self::ask) follows: since that makes a system call anyway, this makes
    /// one to see whether a fault would be fatal in this thread.
    #[inline]
    pub(super) fn prepare(&self) {
        if let Some(space) = self.space().filter(|_| self.watch() != Watch::Nothing) {
            space.prepare();
        }
    }

    /// Checks after an access to `len` bytes from `at` whether the file has moved, and what that means in this map's mode.
    #[inline]
    pub(super) fn ask(&self, known: &Baseline, at: u64, len: usize) -> Result<Answer, OperationError> {
        if self.watch() == Watch::Nothing {
            return Ok(Answer::Unmoved);
        }
        // The bytes first, then the kernel's answer: also on CPUs that reorder loads.
        fence(Ordering::Acquire);
        self.compare(known, at, len, self.now())
    }

    #[inline]
    pub(super) fn compare(
        &self,
        known: &Baseline,
        at: u64,
        len: usize,
        now: io::Result<Stamp>,
    ) -> Result<Answer, OperationError> {
        match now {
            Ok(now) if known.last.still_holds(&now) && self.engine().clamp(now.size, at, len) == len => {
                Ok(Answer::Unmoved)
            }
            now => self.judge(known, at, len, now),
        }
    }

    /// Decides what a moved stamp means.
    #[cold]
    fn judge(&self, known: &Baseline, at: u64, len: usize, now: io::Result<Stamp>) -> Result<Answer, OperationError> {
        let now = now.map_err(|error| OperationError::io(len, error))?;
        match self.watch() {
            Watch::Nothing => Ok(Answer::Unmoved),
            Watch::Reader => Ok(Answer::Moved),
            Watch::Appending => self.is_appended_to(known, at, len),
            // (A stamp that did not settle cannot be distinguished from a moved one.)
            Watch::Contents => Err(self.changed(known, at, len, &now).unwrap_or_else(|| {
                let within = self.engine().clamp(now.size, at, len);
                match within < len {
                    true => {
                        OperationError::new(within, Reason::Changed(Change::Shrunk { from: known.size, to: now.size }))
                    }
                    false => OperationError::new(within, Reason::Changed(Change::Touched)),
                }
            })),
        }
    }

    /// Accepts the stamp if a log has grown, or was touched.
    #[cold]
    fn is_appended_to(&self, known: &Baseline, at: u64, len: usize) -> Result<Answer, OperationError> {
        let last = &known.last;
        for attempt in 0..PATIENCE {
            let now = self.observe().map_err(|stop| OperationError { done: len, ..stop })?;
            let size = now.stamp.size;
            let is_whole = self.engine().clamp(size, at, len) == len;
            if size < last.stamp.size || !is_whole {
                let change = Change::Shrunk { from: last.stamp.size.max(known.size), to: size };
                return Err(OperationError::new(self.engine().clamp(size, at, len), Reason::Changed(change)));
            }
            if let Some(now) = last.appended(&now) {
                self.accept(known, &now);
                return Ok(Answer::Unmoved);
            }
            match attempt < YIELDS {
                true => std::thread::yield_now(),
                false => sleep(Duration::from_millis(1)),
            }
        }
        Err(OperationError::new(len, Reason::Changed(Change::Rewritten)))
    }

    /// Returns the change between the last observation and `now`, after `done` bytes from `at`, of which those within the
    /// file count.
    #[cold]
    pub(super) fn changed(&self, known: &Baseline, at: u64, done: usize, now: &Stamp) -> Option<OperationError> {
        let change = now.change_since(&known.last.stamp)?;
        Some(OperationError::new(self.engine().clamp(now.size, at, done), Reason::Changed(change)))
    }

    /// Reads from the file what is missing of `dst` after `done`.
    pub(super) fn pread(&self, known: &Baseline, at: u64, dst: &mut [u8], done: usize) -> Result<(), OperationError> {
        self.engine().read(at, dst, done, usize::MAX).map_err(|stop| self.ended(known, at, stop))
    }

    /// Handles a short copy from the mapping. Either the file has changed, or the rest is read with `pread`, which has
    /// errors: its error is the reason, and if it succeeds after all (the file recovered; or the mapping needs memory that
    /// reading does not), so does the operation. One attempt, so a file that changes all the time costs no more.
    #[cold]
    pub(super) fn explain(
        &self,
        known: &Baseline,
        at: u64,
        dst: &mut [u8],
        short: Short,
    ) -> Result<(), OperationError> {
        let mut read = || match self.watch() {
            // The count is the file's, not the mapping's: bytes past its end were copied, too, if it ended within a page.
            Watch::Reader | Watch::Nothing => self.read_again(known, at, dst),
            Watch::Appending | Watch::Contents => {
                self.ask(known, at, short.done)?;
                self.pread(known, at, dst, short.done)?;
                self.ask(known, at, dst.len()).map(|_| ())
            }
        };
        let explained = match is_of_the_file(&short.fault) {
            true => read(),
            false => Err(OperationError::new(short.done, Reason::Fault(short.fault))),
        };
        explained.map_err(|stop| OperationError { fault: Some(short.fault), ..stop })
    }

    /// Returns an error unless the file caused the fault, so that reading it may tell more.
    #[cold]
    pub(super) fn attribute(&self, known: &Baseline, at: u64, short: Short) -> Result<(), OperationError> {
        let Short { done, fault } = short;
        let attributed = match (is_of_the_file(&fault), self.watch()) {
            (false, _) => Err(OperationError::new(done, Reason::Fault(fault))),
            (true, Watch::Reader | Watch::Nothing) => Ok(()),
            (true, Watch::Appending | Watch::Contents) => self.ask(known, at, done).map(|_| ()),
        };
        attributed.map_err(|stop| OperationError { fault: Some(fault), ..stop })
    }

    /// Handles a read that ended before the known size: the file was shorter at that moment, whatever it is now.
    #[cold]
    pub(super) fn ended(&self, known: &Baseline, at: u64, stop: OperationError) -> OperationError {
        if !matches!(stop.reason, Reason::PastEnd { .. }) {
            return stop;
        }
        if matches!(self.watch(), Watch::Appending | Watch::Contents)
            && let Err(changed) = self.ask(known, at, stop.done)
        {
            return changed;
        }
        let end = self.engine().offset(at + stop.done as u64);
        let to = self.now().map_or(end, |now| now.size.min(end));
        OperationError::new(stop.done, Reason::Changed(Change::Shrunk { from: known.size, to }))
    }
}
