//! [`SharedMap::with_slice`] and [`SharedMap::with_raw`]: foreign code over the shared memory itself.

use core::mem::MaybeUninit;
use core::ops::RangeBounds;

use super::SharedMap;
use crate::map::engine::Engine;
use crate::map::entered::{Entered, Target};
use crate::map::error::{MapError, OperationError};
use crate::map::guarded::{Damaged, Guarded};
use crate::map::mapping::{Mapping, Repair};
use crate::map::range::within;

impl SharedMap {
    /// Calls `read` with the bytes of a range as a slice of the shared memory itself: for code that takes a slice, such as
    /// an upload to a graphics processor, without a copy. A range that ends after the map ends with it.
    ///
    /// While it runs, missing pages (the peer truncated the file) are replaced by zeros, which is reported afterwards.
    /// Until the last closure has returned, the map's other operations then read and write the file; its atomic operations
    /// fail. Bytes that the peer stores meanwhile are no damage: the peer chooses the contents.
    ///
    /// A map that is not [sealed](Self::is_sealed) is checked afterwards, as after each operation. The closure gets a copy
    /// in the same cases as that of [`FileMap::with_slice`](crate::map::FileMap::with_slice). A system call that is given
    /// the slice fails with `EFAULT` where a page is missing.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (shared, page) = (faultin::shared::SharedMap::create("pixels", 3 * faultin::page_size())?, faultin::page_size());
    /// # let client = std::fs::File::from(shared.try_clone_fd()?);
    /// # fn upload(pixels: &[u8]) -> usize { std::hint::black_box(pixels.iter().map(|&byte| byte as usize).sum()) }
    /// // SAFETY: the upload copies the bytes and draws no conclusion from them.
    /// unsafe { shared.with_slice(.., |pixels| upload(pixels)) }?;
    ///
    /// client.set_len(page as u64)?; // the client takes two pages away
    /// // SAFETY: as above.
    /// let damaged = unsafe { shared.with_slice(.., |pixels| upload(pixels)) }.unwrap_err();
    /// assert_eq!(damaged.ranges, [page as u64..3 * page as u64]); // the texture has zeros there
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Damaged`], with the closure's result, and the ranges of bytes that were not the file's.
    ///
    /// # Panics
    /// If the closure panics; the map is in the same state as after a return.
    ///
    /// # Aborts
    /// Those of [`FileMap::with_slice`](crate::map::FileMap::with_slice).
    ///
    /// # Safety
    /// The conditions of [`FileMap::with_slice`](crate::map::FileMap::with_slice), with [its table of what may be
    /// called](crate::map::FileMap::with_slice). The peer is not trusted and may change the bytes at the worst moment: do
    /// not run code here that checks bytes and then uses them.
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
        self.run(&(), &within(range, self.len as u64), read)
    }

    /// Begins what [`with_raw`](Self::with_raw) does, for callers in another language: the caller reads the bytes until
    /// it [leaves](Entered::leave). `place` has the entry then. Not part of the interface.
    ///
    /// # Errors
    /// [`Damaged`] if there is no memory for a copy; `place` is not written.
    ///
    /// # Safety
    /// The entry is left or dropped before the map is dropped or resized, also where its lifetime was changed.
    #[doc(hidden)]
    pub unsafe fn enter<'a>(
        &'a self,
        range: impl RangeBounds<u64>,
        place: &mut MaybeUninit<Entered<'a>>,
    ) -> Result<(), Damaged<()>> {
        let range = within(range, self.len as u64);
        let bytes = self.begin(&(), &range)?;
        place.write(Entered::new(Target::Shared(self), range, bytes));
        Ok(())
    }

    /// Returns whether foreign code reads the mapping now (a copy is no mapping). Not part of the interface.
    #[doc(hidden)]
    pub fn is_entered(&self) -> bool {
        self.mapping().is_some_and(Mapping::is_entered)
    }

    /// Restores the file where a closure of [`with_slice`](Self::with_slice) met damage, if that failed when it had
    /// returned (for lack of memory). Until then those parts are read from the file and written to it.
    ///
    /// Returns [`Repair::InUse`] if closures are reading them now: the file is restored when they have returned.
    ///
    /// # Errors
    /// [`Io`](crate::map::Reason::Io) if the file cannot be mapped.
    pub fn repair(&self) -> Result<Repair, MapError> {
        match &self.mapping {
            Some(mapping) => {
                mapping.repair_now(self.file()).map_err(|error| self.error(0, OperationError::io(0, error)))
            }
            None => Ok(Repair::Whole),
        }
    }
}

impl Guarded for SharedMap {
    type Known = ();

    fn engine(&self) -> &Engine {
        &self.engine
    }

    fn mapping(&self) -> Option<&Mapping> {
        self.mapping()
    }

    fn error(&self, at: u64, stop: OperationError) -> MapError {
        self.error(at, stop)
    }

    fn size(&self, (): &()) -> u64 {
        self.size
    }

    fn read(&self, (): &(), at: u64, dst: &mut [u8]) -> Result<(), OperationError> {
        self.pread(at as usize, dst, 0)
    }

    fn check(&self, (): &(), at: u64, len: usize) -> Result<(), OperationError> {
        self.look(at as usize, len)
    }

    fn may_be_a_log(&self) -> bool {
        false
    }
}
