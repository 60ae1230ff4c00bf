//! [`FindIter`]: all occurrences of a needle in a mapped file.

use core::iter::FusedIterator;
use core::ops::{Range, RangeBounds};
use std::collections::VecDeque;

use super::error::MapError;
use super::file::FileMap;
use super::range::within;
use super::record::Baseline;
use super::search::{Pass, forwards};
use crate::fault::Fault;
use crate::scan::{Bytes, over};

/// Maximum number of occurrences in one search. Each search ends with a check of the file.
const MOST: usize = 256;

/// An iterator over the positions of a needle, made by [`FileMap::find_iter`]. After an error it ends.
#[derive(Debug)]
pub struct FindIter<'m, 'n> {
    map: &'m FileMap,
    known: Baseline,
    needle: &'n [u8],
    /// The range in which further occurrences may begin, up to their last possible end.
    range: Range<u64>,
    found: VecDeque<u64>,
    /// Number of occurrences in the next search: one first, because that may be enough.
    batch: usize,
    /// The error after the occurrences that were found.
    error: Option<MapError>,
    finished: bool,
}

/// Collects occurrences that do not overlap, until there are enough.
#[derive(Clone)]
struct FindMany<'n> {
    needle: &'n [u8],
    /// The end of the last occurrence.
    from: u64,
    found: Vec<u64>,
    enough: usize,
}

impl Pass for FindMany<'_> {
    unsafe fn part<B: Bytes>(&mut self, bytes: B, at: u64, len: usize) -> Result<bool, (usize, Fault)> {
        loop {
            let from = usize::try_from(self.from.saturating_sub(at)).unwrap_or(len).min(len);
            // SAFETY: forwarded: a part of the range.
            let found = unsafe { over::find(bytes.behind(from), len - from, self.needle) };
            match found.map_err(forwards).map_err(|(done, fault)| (from + done, fault))? {
                Some(place) => {
                    let place = at + (from + place) as u64;
                    self.from = place + self.needle.len() as u64;
                    self.found.push(place);
                }
                None => return Ok(false),
            }
            if self.found.len() == self.enough {
                return Ok(true);
            }
        }
    }
}

impl FileMap {
    /// Returns an iterator over all places of `needle` in a range, in ascending order. Places do not overlap: as with `memchr`'s
    /// `find_iter`, the search continues after the end of the last place. An empty needle is found at every position, also
    /// at the end of the range.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), "aaaaa, ERROR, error, ERROR")?;
    /// # let path = file.path();
    /// let map = faultin::FileMap::open(path)?;
    /// let places: Vec<u64> = map.find_iter(b"ERROR", ..).collect::<Result<_, _>>()?;
    /// assert_eq!(places, [7, 21]);
    /// for place in map.find_iter(b"aa", ..) {
    ///     println!("at byte {}", place?); // 0 and 2
    /// }
    /// # assert_eq!(map.find_iter(b"aa", ..).map(Result::unwrap).collect::<Vec<_>>(), [0, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The range ends with the current end of the map. Up to 256 occurrences are found by one search; the next search
    /// detects changes of the file since then. The iterator allocates memory for that many positions.
    ///
    /// # Errors
    /// Items are as the results of [`find`](Self::find). Positions before the byte that could not be loaded come first;
    /// after the error, the iterator ends.
    #[doc(alias = "memmem")]
    pub fn find_iter<'m, 'n>(&'m self, needle: &'n [u8], range: impl RangeBounds<u64>) -> FindIter<'m, 'n> {
        let known = self.known();
        let range = within(range, self.window().len(known.size));
        FindIter { map: self, known, needle, range, found: VecDeque::new(), batch: 1, error: None, finished: false }
    }
}

impl FindIter<'_, '_> {
    /// Searches for the next occurrences.
    fn look(&mut self) {
        if self.needle.is_empty() {
            self.found.push_back(self.range.start);
            self.finished = self.range.is_empty();
            self.range.start += u64::from(!self.finished);
            return;
        }
        let (from, needle) = (self.range.start, self.needle);
        let mut pass = FindMany { needle, from, found: Vec::new(), enough: self.batch };
        let passed = self.map.pass_since(&self.known, self.range.clone(), needle.len() - 1, &mut pass, true);
        self.finished = passed.is_err() || pass.found.len() < self.batch;
        self.range.start = pass.from.min(self.range.end);
        self.batch = (self.batch * 2).min(MOST);
        self.error = passed.err();
        self.found.extend(pass.found);
    }
}

impl Iterator for FindIter<'_, '_> {
    type Item = Result<u64, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.found.is_empty() && !self.finished {
            self.look();
        }
        match self.found.pop_front() {
            Some(place) => Some(Ok(place)),
            None => self.error.take().map(Err),
        }
    }
}

impl FusedIterator for FindIter<'_, '_> {}
