//! Lists from raw `iovec`s, with the checks and limits of the kernel's `import_iovec`.

use core::fmt;

use super::list::List;
use super::{IovDest, IovSource, ReadSegment, WriteSegment};
use crate::registry::InstallError;
use crate::view::{ReadView, WriteView};
use crate::{arch, page_size};

/// Maximum number of segments of a list of raw `iovec`s.
const UIO_MAXIOV: usize = 1024;

/// Returns the maximum number of bytes of a list of raw `iovec`s; bytes past it are silently left out, as in the kernel.
fn max_rw_count() -> usize {
    i32::MAX as usize & !(page_size() - 1)
}

/// The reason why a list of raw `iovec`s was rejected.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImportError {
    /// More than 1024 segments (`EINVAL`).
    TooManySegments {
        /// Number of segments.
        segments: usize,
    },
    /// A length that is negative as an `ssize_t` (`EINVAL`).
    NegativeLength {
        /// Index of the segment.
        segment: usize,
    },
    /// A range that wraps around or is in the kernel's half of the addresses (`EFAULT`).
    Address {
        /// Index of the segment.
        segment: usize,
    },
    /// The handler could not be installed.
    Install(InstallError),
}

impl ImportError {
    /// Returns the errno that the kernel returns, `None` for errors that the kernel does not have.
    pub fn errno(&self) -> Option<i32> {
        match self {
            ImportError::TooManySegments { .. } | ImportError::NegativeLength { .. } => Some(libc::EINVAL),
            ImportError::Address { .. } => Some(libc::EFAULT),
            ImportError::Install(error) => error.errno(),
        }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::TooManySegments { segments } => write!(f, "{segments} segments, {UIO_MAXIOV} are allowed"),
            ImportError::NegativeLength { segment } => write!(f, "segment {segment} has a negative length"),
            ImportError::Address { segment } => write!(f, "segment {segment} is not in this process's addresses"),
            ImportError::Install(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ImportError::Install(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ImportError> for std::io::Error {
    fn from(error: ImportError) -> Self {
        crate::errno::whole(error.errno(), error)
    }
}

impl<'a> IovSource<'_, 'a, ReadView<'a>> {
    /// Makes a list of the memory of `iovecs`, to read from. Installs the handler if need be. Allocates for more than one
    /// segment.
    ///
    /// As in the kernel, a list without segments is valid, and an address is checked also where the length is 0, and past
    /// the cap (`i32::MAX`, rounded down to whole pages). Only the length of a single segment is capped before its address
    /// is checked. Unlike in the kernel, an address between the two halves (not canonical), and on aarch64 a tagged one,
    /// passes the check: the access fails instead.
    ///
    /// # Errors
    /// [`ImportError`] in this order: too many segments, a negative length, an address; the first segment of its kind.
    ///
    /// # Safety
    /// Each range satisfies the conditions of [`ReadView::new`], or is one of addresses where nothing is mapped for `'a`.
    #[doc(alias = "import_ubuf")]
    pub unsafe fn import_iovec(iovecs: &[libc::iovec]) -> Result<Self, ImportError> {
        // SAFETY: invariant 1 is the caller's promise, as are the signals; `import` checked invariant 2.
        let list = import(iovecs, |ptr, len| unsafe { ReadView::new(ptr, len) }.map(ReadSegment::Memory))?;
        Ok(Self::from_list(list))
    }
}

impl<'a> IovDest<'_, 'a, WriteView<'a>> {
    /// Makes a list of the memory of `iovecs`, to write to. Installs the handler if need be. Allocates for more than one
    /// segment.
    ///
    /// The limits are those of [`IovSource::import_iovec`]. Segments may overlap.
    ///
    /// # Errors
    /// Those of [`IovSource::import_iovec`].
    ///
    /// # Safety
    /// Those of [`IovSource::import_iovec`], and the owner of each range lets us write it (the conditions of
    /// [`WriteView::new`]).
    #[doc(alias = "import_ubuf")]
    pub unsafe fn import_iovec(iovecs: &[libc::iovec]) -> Result<Self, ImportError> {
        // SAFETY: invariant 1 and the owner's permission are the caller's promise, as are the signals; `import` checked
        // invariant 2.
        let list = import(iovecs, |ptr, len| unsafe { WriteView::new(ptr, len) }.map(WriteSegment::Memory))?;
        Ok(Self::from_list(list))
    }
}

/// Checks `iovecs` and makes a segment of each; the ranges that `view` gets do not wrap around.
fn import<S, B>(
    iovecs: &[libc::iovec],
    view: impl Fn(*mut u8, usize) -> Result<S, InstallError>,
) -> Result<List<S, B>, ImportError> {
    if iovecs.len() > UIO_MAXIOV {
        return Err(ImportError::TooManySegments { segments: iovecs.len() });
    }
    // All lengths are checked before the first address, as in the kernel.
    if let Some(segment) = iovecs.iter().position(|iovec| iovec.iov_len.cast_signed() < 0) {
        return Err(ImportError::NegativeLength { segment });
    }
    if let [one] = iovecs {
        let len = one.iov_len.min(max_rw_count());
        return Ok(List::One([checked(0, one.iov_base, len, len, view)?]));
    }
    let mut left = max_rw_count();
    let mut segments = Vec::with_capacity(iovecs.len());
    for (segment, iovec) in iovecs.iter().enumerate() {
        let len = iovec.iov_len.min(left);
        left -= len;
        segments.push(checked(segment, iovec.iov_base, iovec.iov_len, len, &view)?);
    }
    Ok(List::Imported(segments.into_boxed_slice()))
}

/// Makes the view of `len` bytes at `base`, if all of the `claimed` bytes there are addresses of a process.
fn checked<S>(
    segment: usize,
    base: *mut core::ffi::c_void,
    claimed: usize,
    len: usize,
    view: impl Fn(*mut u8, usize) -> Result<S, InstallError>,
) -> Result<S, ImportError> {
    if !access_ok(base.addr(), claimed) {
        return Err(ImportError::Address { segment });
    }
    view(base.cast(), len).map_err(ImportError::Install)
}

/// Returns whether a range is in the process's half of the addresses, and does not wrap around. Where the sign does not
/// distinguish the halves, only wrapping is checked.
fn access_ok(addr: usize, len: usize) -> bool {
    const HALVES: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    let start = arch::untag(addr);
    addr.checked_add(len).is_some()
        && match start.checked_add(len) {
            Some(end) => !HALVES || (start.cast_signed() >= 0 && end.cast_signed() >= 0),
            None => false,
        }
}
