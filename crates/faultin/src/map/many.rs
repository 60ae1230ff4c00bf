//! Several ranges of a map at once, and ranges that will be read soon.

use core::ops::Range;
use core::sync::atomic::{Ordering, fence};

use super::answer::Answer;
use super::error::{MapError, OperationError};
use super::file::FileMap;
use super::hints;
use super::options::Watch;
use super::record::Baseline;

/// Maximum number of bytes that [`FileMap::prefetch`] asks for in one call.
const MOST_AHEAD: u64 = 32 << 20;

/// One of several reads: [`FileMap::read_many`].
#[derive(Debug)]
pub struct ReadRequest<'a> {
    /// The position of the first byte.
    pub pos: u64,
    /// The buffer for the bytes.
    pub bytes: &'a mut [u8],
}

impl<'a> ReadRequest<'a> {
    /// Makes a request for `bytes.len()` bytes at `pos`.
    pub fn new(pos: u64, bytes: &'a mut [u8]) -> Self {
        ReadRequest { pos, bytes }
    }
}

impl FileMap {
    /// Reads several ranges, and returns a result for each, as [`read_at`](Self::read_at) does. The kernel is told of all ranges
    /// that it does not have in memory before the first one is copied, so that a disk has them all to read at once. The
    /// file is checked once, after all of them were copied.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), "to be, or not")?;
    /// use faultin::{FileMap, map::ReadRequest};
    ///
    /// let map = FileMap::open(file.path())?;
    /// let (mut first, mut last) = ([0; 2], [0; 10]);
    /// let results = map.read_many(&mut [ReadRequest::new(3, &mut first), ReadRequest::new(10, &mut last)]);
    /// let counts: Vec<usize> = results.into_iter().collect::<Result<_, _>>()?;
    /// assert_eq!((counts, &first, &last[..3]), (vec![2, 3], b"be", &b"not"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Each result is the one that `read_at` of the same range would have.
    pub fn read_many(&self, reads: &mut [ReadRequest<'_>]) -> Vec<Result<usize, MapError>> {
        let known = self.known();
        let lens: Vec<usize> = reads.iter().map(|read| self.clamp(&known, read.pos, read.bytes.len())).collect();
        if reads.len() > 1 {
            for (read, &len) in reads.iter().zip(&lens).filter(|(_, len)| **len > 0) {
                let start = self.window().start + read.pos;
                if hints::is_cached(self.file(), start, len as u64) != Some(true) {
                    hints::read_ahead(self.file(), start, len as u64);
                }
            }
        }
        let mut results = self.copy_many(&known, reads, &lens).into_iter();
        let with_position = |(read, len): (&mut ReadRequest<'_>, usize)| match results.next() {
            Some(Err(stop)) => Err(self.error(read.pos, stop)),
            _ => Ok(len),
        };
        reads.iter_mut().zip(lens).map(with_position).collect()
    }

    fn copy_many(
        &self,
        known: &Baseline,
        reads: &mut [ReadRequest<'_>],
        lens: &[usize],
    ) -> Vec<Result<(), OperationError>> {
        let each = reads.iter_mut().zip(lens).map(|(read, &len)| (read.pos, &mut read.bytes[..len]));
        let Some(mapping) = self.mapping() else {
            return each.map(|(at, dst)| self.copy_from_file(known, at, dst)).collect();
        };
        self.prepare();
        let copied: Vec<_> = each.map(|(at, dst)| (self.fetch(mapping, at, dst), at, dst)).collect();
        // As after a single copy: the bytes first, then the kernel's answer.
        fence(Ordering::Acquire);
        let now = if self.watch() == Watch::Nothing { None } else { self.now().ok() };
        let confirm = |(fetched, at, dst): (Result<(), _>, u64, &mut [u8])| match fetched {
            Err(short) => self.explain(known, at, dst, short),
            Ok(()) if self.watch() == Watch::Nothing => Ok(()),
            Ok(()) => match now {
                Some(now) => match self.compare(known, at, dst.len(), Ok(now))? {
                    Answer::Unmoved => Ok(()),
                    Answer::Moved => self.read_again(known, at, dst),
                },
                // Asked again, for the error.
                None => self.confirm(known, at, dst),
            },
        };
        copied.into_iter().map(confirm).collect()
    }

    /// Has the kernel start to read ranges of the map into memory, and returns the number of bytes that it was asked for: at
    /// most 32 MiB for each call, so that what was asked for first is not evicted for what comes later. What it has already
    /// counts, too. Waits for none of these bytes (`POSIX_FADV_WILLNEED`; a file system may wait to find out where they are).
    ///
    /// A hint: a failure has no effect. On systems other than Linux it does nothing, and returns 0.
    pub fn prefetch(&self, ranges: &[Range<u64>]) -> u64 {
        let known = self.known();
        let mut asked = 0;
        for range in ranges {
            let len = range.end.saturating_sub(range.start).min(MOST_AHEAD - asked);
            let len = self.clamp(&known, range.start, usize::try_from(len).unwrap_or(usize::MAX)) as u64;
            asked += hints::read_ahead(self.file(), self.window().start.saturating_add(range.start), len);
        }
        asked
    }
}
