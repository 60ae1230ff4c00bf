//! Lists of memory that may fault: [`IovSource`] to read from, [`IovDest`] to write to, split by direction.
//!
//! A list is a sequence of [segments](ReadSegment), a position in it, and the number of bytes left. A segment is a range of
//! [memory](crate::memory), or a plain slice, which never faults. Copies go from segment to segment, allocate nothing, and
//! **advance by exactly what moved**; the fault that stopped a copy is kept, as everywhere in this crate.
//!
//! # Counts
//!
//! `Ok(n)`: the requested length or everything that was left, whichever is less. `Err(`[`Short`]`)`: a fault ended the
//! operation after `done` bytes. Operations that are *all or nothing* (the `_full` ones, probe, whole pages) reject a
//! length that exceeds the bytes left with [`Cause::OutOfRange`], before they access anything.
//!
//! # Zero-length segments
//!
//! They are skipped everywhere, whatever their address: the position never rests on one. (In the kernel,
//! `iov_iter_single_seg_count` returns 0 on one, and a loop that relies on it does not terminate: CVE-2015-8785.)
//!
//! # Example
//!
//! ```
//! use faultin::iov::{IovSource, ReadSegment};
//! use faultin::ReadView;
//!
//! let segments: [ReadSegment<'_, ReadView<'_>>; 3] =
//!     [b"to be"[..].into(), b""[..].into(), b", or not"[..].into()];
//! let mut iov = IovSource::new(&segments);
//! let mut buffer = [0; 9];
//! assert_eq!(iov.copy_from_iter(&mut buffer), Ok(9));
//! assert_eq!(&buffer, b"to be, or");
//! iov.revert(4)?;
//! assert_eq!((iov.count(), iov.single_seg_count()), (8, 8));
//! assert!(iov.revert(6).is_err(), "beyond the start");
//! # Ok::<(), faultin::iov::IovRangeError>(())
//! ```
//!
//! [`Cause::OutOfRange`]: crate::Cause::OutOfRange
//! [`Short`]: crate::Short

#[macro_use]
mod cursor;
mod dest;
mod fault_in;
#[cfg(feature = "std")]
mod import;
mod list;
mod page;
mod reach;
mod segment;
mod source;
mod state;

pub use dest::IovDest;
#[cfg(feature = "std")]
pub use import::ImportError;
pub use segment::{ReadSegment, WriteSegment};
pub use source::IovSource;
pub use state::{IovRangeError, IovState};
