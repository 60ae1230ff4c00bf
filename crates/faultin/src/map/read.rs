//! Reading bytes of a [`FileMap`].

use core::ops::RangeBounds;

use super::answer::Answer;
use super::error::{MapError, OperationError, Reason};
use super::file::FileMap;
use super::hints;
use super::mapped::Mapping;
use super::nowait;
use super::options::Watch;
use super::range::within;
use super::record::Baseline;
use super::stamp::Freshness;
use crate::fault::Short;
use crate::residency::Residency;
use crate::scalar::Scalar;

impl FileMap {
    /// Copies bytes from position `at` to `dst`. Returns their number, which is less than `dst.len()` only where the map ends.
    ///
    /// # Errors
    /// [`MapError`] if a byte cannot be read, or the file has changed in a way that the map's [mode](Watch) watches for.
    /// [`done`](MapError::done) bytes of `dst` were copied. Those past them may have been overwritten by bytes that are no longer
    /// the file's.
    #[inline]
    pub fn read_at(&self, dst: &mut [u8], at: u64) -> Result<usize, MapError> {
        let known = self.known();
        let len = self.clamp(&known, at, dst.len());
        self.copy(&known, at, &mut dst[..len]).map_err(|stop| self.error(at, stop))?;
        Ok(len)
    }

    /// As [`read_at`](Self::read_at), past the CPU's caches where that is possible: for many MiB, of which the first bytes would be out of
    /// the caches again before anything reads them. Then it takes about half the time, and as long as `memcpy` takes for as much at once,
    /// also if it is called for one part of more than 1 MiB after the other. Only a map whose [backend](Self::backend) is a mapping can do that.
    ///
    /// # Errors
    /// As `read_at`.
    pub fn read_at_streaming(&self, dst: &mut [u8], at: u64) -> Result<usize, MapError> {
        let known = self.known();
        let len = self.clamp(&known, at, dst.len());
        let dst = &mut dst[..len];
        let fetch = |mapping: &Mapping, dst: &mut [u8]| match dst {
            [] => Ok(()),
            dst => mapping.read_streaming(self.lead() + at as usize, dst),
        };
        self.copy_by(fetch, &known, at, dst).map_err(|stop| self.error(at, stop))?;
        Ok(len)
    }

    /// Copies exactly `dst.len()` bytes from position `at`.
    ///
    /// # Errors
    /// [`MapError`] if a byte cannot be read, or the file has changed, as [`read_at`](Self::read_at);
    /// [`PastEnd`](Reason::PastEnd) if the map ends before the range does.
    #[inline]
    pub fn read_exact_at(&self, dst: &mut [u8], at: u64) -> Result<(), MapError> {
        match self.read_at(dst, at)? {
            len if len == dst.len() => Ok(()),
            len => Err(self.error(at, OperationError::new(len, Reason::PastEnd { len: self.len() }))),
        }
    }

    /// As [`read_at`](Self::read_at), of bytes that are in memory already: waits for no disk and no server.
    ///
    /// It asks the kernel to copy (`preadv2(2)` with `RWF_NOWAIT`), because whether a page is in memory cannot be asked
    /// first and relied on afterwards. The kernel promises not to wait for data, and for locks only where it must;
    /// whether it has started to read what it did not have is up to the file system.
    ///
    /// # Errors
    /// [`NotResident`](Reason::NotResident) at the first byte that is not in memory;
    /// [`Unsupported`](Reason::Unsupported) on a file system that cannot promise it (tmpfs, FUSE, and the network ones,
    /// as of 6.18), and on systems other than Linux; otherwise as `read_at`.
    pub fn try_read_at(&self, dst: &mut [u8], at: u64) -> Result<usize, MapError> {
        let known = self.known();
        let len = self.clamp(&known, at, dst.len());
        nowait::read(self.file(), &mut dst[..len], self.engine().offset(at))
            .map_err(|stop| self.ended(&known, at, stop))
            .and_then(|()| match self.watch() {
                // The kernel has copied them.
                Watch::Nothing | Watch::Reader => Ok(()),
                // It would have to wait for a server.
                Watch::Appending | Watch::Contents => {
                    self.compare(&known, at, len, self.now_as(Freshness::Cached)).map(|_| ())
                }
            })
            .map_err(|stop| self.error(at, stop))?;
        Ok(len)
    }

    /// Returns which bytes of a range of the map are in memory, in the kernel's page cache: a snapshot, which does not bring
    /// anything in. It says nothing about what [`read_at`](Self::read_at) waits for otherwise: a page that is in memory may
    /// still have to be mapped, which takes a fault but no disk.
    ///
    /// On Linux it asks `mincore(2)`, which only tells the owner of a file, and those that may write it; to others it answers
    /// that everything is in memory (since 5.2). They are told by `cachestat(2)`, from 6.5 on; from 6.16 on the kernel
    /// refuses that, too. Then, and on other systems, this is an error, and not a wrong answer. Pages that were replaced by
    /// zeros for a [slice](Self::with_slice) count as in memory.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), [7; 5000])?;
    /// let map = faultin::FileMap::open(file.path())?;
    /// if let Ok(found) = map.resident(1000..) {
    ///     assert_eq!(found.range(), 1000..5000);
    ///     println!("{} of 4000 bytes are in memory", found.bytes());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Unsupported`](Reason::Unsupported) if the kernel does not tell.
    pub fn resident(&self, range: impl RangeBounds<u64>) -> Result<Residency, MapError> {
        let range = within(range, self.len());
        let start = self.window().start;
        let unknown = || self.error(range.start, OperationError::new(0, Reason::Unsupported(hints::UNKNOWN)));
        if range.is_empty() {
            return Ok(Residency::new(range));
        }
        let mapped = self.mapping().map(|mapping| mapping.base().wrapping_add(self.lead() + range.start as usize));
        let found = hints::resident(self.file(), start + range.start..start + range.end, mapped);
        let found = found.ok_or_else(unknown)?;
        let mut within_map = Residency::new(range);
        found.runs().iter().for_each(|run| within_map.add(run.start - start..run.end - start));
        Ok(within_map)
    }

    /// Loads the value at position `at`, in this machine's byte order: over a mapping, one load of its bytes.
    ///
    /// # Errors
    /// As [`read_exact_at`](Self::read_exact_at).
    #[inline]
    pub fn load<T: Scalar>(&self, at: u64) -> Result<T, MapError> {
        let known = self.known();
        let len = self.clamp(&known, at, size_of::<T>());
        if len < size_of::<T>() {
            // A part of the value is past the end, and half a value is none.
            return Err(self.error(at, OperationError::new(0, Reason::PastEnd { len: self.window().len(known.size) })));
        }
        let loaded = self.mapping().map(|mapping| {
            self.prepare();
            mapping.load::<T>(self.lead() + at as usize)
        });
        match loaded {
            Some(Ok(value)) => match self.ask(&known, at, len) {
                Ok(Answer::Unmoved) => Ok(value),
                asked => self.load_slowly(at, |bytes| match asked {
                    Ok(_) => self.read_again(&known, at, bytes),
                    Err(stop) => Err(stop),
                }),
            },
            // Bytes are copied instead, which also determines the reason.
            Some(Err(fault)) => self.load_slowly(at, |bytes| self.explain(&known, at, bytes, Short { done: 0, fault })),
            None => self.load_slowly(at, |bytes| self.copy_from_file(&known, at, bytes)),
        }
    }

    #[cold]
    fn load_slowly<T: Scalar>(
        &self,
        at: u64,
        copy: impl FnOnce(&mut [u8]) -> Result<(), OperationError>,
    ) -> Result<T, MapError> {
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..size_of::<T>()];
        copy(bytes).map_err(|stop| self.error(at, OperationError { done: 0, ..stop }))?;
        Ok(T::from_bytes(bytes))
    }

    /// Copies bytes of the map and checks the file.
    #[inline]
    pub(super) fn copy(&self, known: &Baseline, at: u64, dst: &mut [u8]) -> Result<(), OperationError> {
        self.copy_by(|mapping, dst| self.fetch(mapping, at, dst), known, at, dst)
    }

    /// As [`copy`](Self::copy), by a function that copies bytes of the mapping.
    #[inline(always)]
    fn copy_by(
        &self,
        fetch: impl FnOnce(&Mapping, &mut [u8]) -> Result<(), Short>,
        known: &Baseline,
        at: u64,
        dst: &mut [u8],
    ) -> Result<(), OperationError> {
        let Some(mapping) = self.mapping() else { return self.copy_from_file(known, at, dst) };
        self.prepare();
        match fetch(mapping, dst) {
            Ok(()) => self.confirm(known, at, dst),
            Err(short) => self.explain(known, at, dst, short),
        }
    }

    /// Copies bytes of the mapping.
    #[inline(always)]
    pub(super) fn fetch(&self, mapping: &Mapping, at: u64, dst: &mut [u8]) -> Result<(), Short> {
        // (An empty range may begin anywhere.)
        if dst.is_empty() { Ok(()) } else { mapping.read(self.lead() + at as usize, dst) }
    }

    /// As [`fetch`](Self::fetch), for bytes that are read one after the other.
    #[inline(always)]
    pub(super) fn fetch_ahead(&self, mapping: &Mapping, at: u64, dst: &mut [u8]) -> Result<(), Short> {
        if dst.is_empty() { Ok(()) } else { mapping.read_ahead(self.lead() + at as usize, dst) }
    }

    /// Reads bytes from the file, which has its own errors.
    pub(super) fn copy_from_file(&self, known: &Baseline, at: u64, dst: &mut [u8]) -> Result<(), OperationError> {
        self.pread(known, at, dst, 0)?;
        match self.watch() {
            Watch::Reader | Watch::Nothing => Ok(()),
            Watch::Appending | Watch::Contents => self.ask(known, at, dst.len()).map(|_| ()),
        }
    }
}
