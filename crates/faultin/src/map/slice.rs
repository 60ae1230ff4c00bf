//! [`FileMap::with_slice`] and [`FileMap::with_raw`]: foreign code over the mapping itself.

use core::mem::MaybeUninit;
use core::ops::{Range, RangeBounds};

use super::answer::Answer;
use super::engine::Engine;
use super::entered::{Entered, Target};
use super::error::{Change, MapError, OperationError, Reason};
use super::file::FileMap;
use super::guarded::{Damaged, Guarded};
use super::mapping::{Mapping, Repair};
use super::options::Watch;
use super::range::within;
use super::record::Baseline;

impl FileMap {
    /// Calls `read` with the bytes of a range as a slice of the mapping itself: any code, at the speed of a raw mapping. A
    /// range that ends past the map ends with it.
    ///
    /// While it runs, missing pages (the file was truncated, its disk fails) are replaced by zeros, which is reported
    /// afterwards, and the file is checked as after every operation. Bytes that the closure has seen cannot be read again.
    /// So under [`Watch::Reader`] and [`Watch::Contents`] any move of the size or the time of modification is [`Damaged`],
    /// also one before the closure ran that no operation has accepted yet. For a log to which other processes only append,
    /// use [`Watch::Appending`]. A [fresh](super::Watch) stamp waits for the end of the tick before the closure runs.
    ///
    /// The replaced pages stay until the last closure that reads them has returned; then the file is mapped again. Until
    /// then the other operations of the map read from the file, and closures that begin get a copy. A truncated file costs
    /// one signal, an unreadable one about as many as its number of pages has binary digits.
    ///
    /// Several threads may do this, and one inside another, over the same map and others. System calls that are given the
    /// slice fail with `EFAULT` where a page is missing, as on every mapping.
    ///
    /// The closure also gets a copy, as large as the range, over pread, in a thread that blocks SIGBUS, on architectures
    /// without assembly of this crate, and where the handler could not replace a page (the process has the maximum number
    /// of mappings, `mmap` is forbidden, or the mapping is sealed). Changes of the file while the closure reads the copy
    /// are no damage.
    ///
    /// # Errors
    /// [`Damaged`], with the closure's result, and the ranges of bytes that were not the file's.
    ///
    /// # Panics
    /// If the closure panics; the map is in the same state as after a return.
    ///
    /// # Aborts
    /// If SIGBUS does not reach our handler: another one that was installed later keeps it for itself, or the closure
    /// blocks it. If the closure forbids `mmap` to the process (seccomp), or seals the mapping.
    ///
    /// # What may be called
    ///
    /// Two questions decide. Does the code stay within memory that it may use, whatever each load returns? Does it make
    /// values whose type promises something (a `str`, an `enum`) from bytes that it has only checked in place? Code with a
    /// `no` here needs a copy of the bytes instead: [`read_at`](Self::read_at), [`chunks`](Self::chunks),
    /// [`reader`](Self::reader).
    ///
    /// | Code | May it be called? | Why |
    /// |---|---|---|
    /// | `memchr`, `memchr::memmem` | yes | Bytes are compared, and bounds come from the length of the slice. A place that was found may hold other bytes by then. |
    /// | `regex::bytes` | yes | Bytes select transitions of tables that have one for each byte. It may panic ("reverse search must match if forward search does"), because it searches twice. |
    /// | `regex` over `str` | no | The slice would have to be a `str`. |
    /// | `aho-corasick` | yes | As `regex::bytes`, with one search. |
    /// | Hashes: `blake3`, `sha2`, `crc32fast`, `xxhash` | yes | Bytes are input of arithmetic; each hash reads each byte once. After [`Damaged`], the hash is of no state of the file. |
    /// | `to_vec`, `copy_from_slice`, `Write::write_all` of the slice | yes | A copy. (A system call that is given the slice may fail with `EFAULT`.) |
    /// | `==`, `cmp`, `iter`, `contains`, `binary_search` | yes | The result is data. |
    /// | `str::from_utf8`, `simdutf8`, `bstr::ByteSlice::to_str` | no | The `&str` is of bytes that may stop being UTF-8. `String::from_utf8(bytes.to_vec())` is right: it checks the copy. |
    /// | `str::from_utf8_unchecked` after any check of the slice | no | The same. Unchecked conversions of a copy that was checked are right. |
    /// | `serde_json::from_slice`, `simd-json` | no | They check that a string is UTF-8 in place, and copy it into a `String` afterwards. |
    /// | Images: `image`, `png`, `zune-jpeg`, `libjpeg`, `libpng` | no | Sizes in headers are checked and then read again, next to `unsafe` or C code that relies on them. |
    /// | Compression: `zstd`, `lz4`, `flate2` with a C library | no | C code that checks a length or a distance, loads it again and copies that much. |
    /// | Decoders without any `unsafe` code, also in what they depend on | yes | They panic, fail, or return wrong data. (They may also allocate as much as a header says.) |
    /// | References to structures: `bytemuck::from_bytes`, `zerocopy::FromBytes::ref_from_bytes` | yes | All bytes are values of such a type. Fields may differ between two loads: copy the structure first, then check it. |
    /// | `rkyv::access`, `flatbuffers::root`, other formats that are checked and then used in place | no | The check does not hold any more when the data are used. |
    /// | Foreign functions that only copy: `memcpy`, uploads to a graphics processor | yes | As a copy. |
    ///
    /// This holds for these crates as of 2026; the remaining risk is code that is compiled to load a byte twice where its
    /// source loads it once, as the first paragraph of *Safety* says.
    ///
    /// # Safety
    ///
    /// The bytes of the `&[u8]` change during its lifetime: other code writes to the file, and pages become zeros and are
    /// restored. **By the letter of Rust's rules that is undefined behaviour, whatever the closure does**:
    /// [`with_raw`](Self::with_raw) is the form that does not break them. This function relies on what compilers do: a load
    /// through the slice is an ordinary load, which may be moved, repeated, merged with another one or left out, and
    /// nothing else is concluded from its value. `memmap2` and every other crate that returns a slice of a shared mapping
    /// relies on the same. Within that, the closure must be right whatever it reads:
    ///
    /// * No byte needs to be the same when it is read twice. A byte that was checked may differ when it is used: it must
    ///   not be passed to `from_utf8_unchecked`, `get_unchecked` and the like after a check of the same bytes, nor to code
    ///   that relies on its own checks (`str::from_utf8` returns a `&str` that may stop being UTF-8). Copy first, and check
    ///   the copy.
    /// * Code that is correct for any bytes, even if they differ between two loads, may be called: sums, hashes,
    ///   byte searches, and comparisons whose result is used as data only. [*What may be called*](#what-may-be-called) has a
    ///   table.
    /// * It must not be written to, through any pointer.
    /// * No pointer derived from it is used after the closure has returned, in any thread.
    /// * The closure returns or unwinds: no `longjmp` out of it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), [2; 1000])?;
    /// # let path = file.path();
    /// let map = faultin::FileMap::open(path)?;
    /// // SAFETY: a sum of bytes, whatever they are.
    /// let sum = unsafe { map.with_slice(.., |bytes| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>()) }?;
    /// assert_eq!(sum, 2000);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It cannot be kept: the closure's result does not borrow from it. `memmap2` requires more of its users (no process
    /// changes the file at all), and a truncation kills them.
    pub unsafe fn with_slice<T>(
        &self,
        range: impl RangeBounds<u64>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Damaged<T>> {
        // SAFETY: readable while the closure runs. The caller answers for the changes of its bytes, by contract.
        self.with_raw(range, |bytes| read(unsafe { &*bytes }))
    }

    /// Calls `read` as [`with_slice`](Self::with_slice) does, with a pointer instead of a reference: for code that keeps to
    /// Rust's rules and has its own loads that may race with other code (volatile loads, assembly).
    ///
    /// While the closure runs, the pointer is valid for reads, and the memory may change at any time. The bytes are
    /// initialised. They must not be written to, and the pointer is invalid after the closure has returned.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let file = tempfile::NamedTempFile::new()?;
    /// # std::fs::write(file.path(), [2; 1000])?;
    /// # let path = file.path();
    /// let map = faultin::FileMap::open(path)?;
    /// let sum = map.with_raw(.., |bytes| {
    ///     let first = bytes.cast::<u8>();
    ///     // SAFETY: within the bytes, while the closure runs.
    ///     (0..bytes.len()).map(|at| u64::from(unsafe { first.add(at).read_volatile() })).sum::<u64>()
    /// })?;
    /// assert_eq!(sum, 2000);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`with_slice`](Self::with_slice).
    ///
    /// # Panics
    /// If the closure panics; the map is in the same state as after a return.
    ///
    /// # Aborts
    /// Those of [`with_slice`](Self::with_slice). A closure that leaves by `longjmp` leaves the guard in force.
    pub fn with_raw<T>(
        &self,
        range: impl RangeBounds<u64>,
        read: impl FnOnce(*const [u8]) -> T,
    ) -> Result<T, Damaged<T>> {
        let (known, range) = self.slice_range(range).map_err(|damaged| damaged.of(None))?;
        self.run(&known, &range, read)
    }

    /// Begins what [`with_raw`](Self::with_raw) does, for callers in another language: the caller reads the bytes until
    /// it [leaves](Entered::leave). `place` has the entry then. Not part of the interface.
    ///
    /// # Errors
    /// [`Damaged`] if the range cannot be read at all; `place` is not written.
    ///
    /// # Safety
    /// The entry is left or dropped before the map is dropped, also where its lifetime was changed.
    #[doc(hidden)]
    pub unsafe fn enter<'a>(
        &'a self,
        range: impl RangeBounds<u64>,
        place: &mut MaybeUninit<Entered<'a>>,
    ) -> Result<(), Damaged<()>> {
        let (known, range) = self.slice_range(range)?;
        let bytes = self.begin(&known, &range)?;
        place.write(Entered::new(Target::File(self, known), range, bytes));
        Ok(())
    }

    /// Returns whether foreign code reads a mapping of this map now (a copy is no mapping). Not part of the interface.
    #[doc(hidden)]
    pub fn is_entered(&self) -> bool {
        self.space().is_some_and(|space| space.all().any(Mapping::is_entered))
    }

    /// Returns what is known of the file, and the requested range within the map, which has a length in memory.
    fn slice_range(&self, range: impl RangeBounds<u64>) -> Result<(Baseline, Range<u64>), Damaged<()>> {
        let known = self.settled();
        let range = within(range, self.window().len(known.size));
        match usize::try_from(range.end - range.start) {
            Ok(_) => Ok((known, range)),
            Err(_) => {
                let stop = OperationError::io(0, std::io::Error::from_raw_os_error(libc::ENOMEM));
                Err(Damaged::new(None, Vec::new(), self.error(range.start, stop)))
            }
        }
    }

    /// Restores the file where a closure of [`with_slice`](Self::with_slice) met damage, if that failed when it had
    /// returned (for lack of memory). Until then those parts are read from the file.
    ///
    /// Returns [`Repair::InUse`] if closures are reading them now: the file is restored when they have returned.
    ///
    /// # Errors
    /// [`Io`](Reason::Io) if the file cannot be mapped.
    pub fn repair(&self) -> Result<Repair, MapError> {
        let Some(space) = self.space() else { return Ok(Repair::Whole) };
        space.all().try_fold(Repair::Whole, |all, mapping| {
            let one = mapping.repair_now(self.file()).map_err(|error| self.error(0, OperationError::io(0, error)))?;
            Ok(if one == Repair::InUse { one } else { all })
        })
    }
}

impl Guarded for FileMap {
    type Known = Baseline;

    fn engine(&self) -> &Engine {
        self.engine()
    }

    fn mapping(&self) -> Option<&Mapping> {
        self.mapping()
    }

    fn error(&self, at: u64, stop: OperationError) -> MapError {
        self.error(at, stop)
    }

    fn size(&self, known: &Baseline) -> u64 {
        known.size
    }

    fn read(&self, known: &Baseline, at: u64, dst: &mut [u8]) -> Result<(), OperationError> {
        self.pread(known, at, dst, 0)
    }

    fn check(&self, known: &Baseline, at: u64, len: usize) -> Result<(), OperationError> {
        if self.ask(known, at, len)? == Answer::Unmoved {
            return Ok(());
        }
        // The closure cannot read again. A change time alone that moved is no error for a reader.
        let now = self.now().map_err(|error| OperationError::io(len, error))?;
        let last = &known.last;
        let within = self.engine().clamp(now.size, at, len);
        match self.changed(known, at, len, &now) {
            Some(stop) if !now.has_contents_of(&last.stamp) => Err(stop),
            _ if within < len => {
                Err(OperationError::new(within, Reason::Changed(Change::Shrunk { from: known.size, to: now.size })))
            }
            None if !last.settled => Err(OperationError::new(within, Reason::Changed(Change::Touched))),
            _ => Ok(()),
        }
    }

    fn may_be_a_log(&self) -> bool {
        self.watch() != Watch::Appending
    }
}
