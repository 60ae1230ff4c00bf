//! Values of types that implement `zerocopy`'s traits: [`ReadAs`] and [`WriteFrom`].
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use faultin::shared::SharedMap;
//! use faultin::typed::zerocopy::{ReadAs, WriteFrom};
//! use zerocopy::{FromBytes, Immutable, IntoBytes};
//!
//! #[derive(FromBytes, IntoBytes, Immutable)]
//! #[repr(C)]
//! struct Request {
//!     at: u32,
//!     len: u32,
//! }
//!
//! let shared = SharedMap::create("requests", 4096)?;
//! shared.write_from(&Request { at: 4090, len: 7 }, 16)?;
//!
//! let request: Request = shared.read_as(16)?;
//! let end = request.at.checked_add(request.len).ok_or("the client lies")?; // of the copy
//! assert_eq!(end, 4097);
//! # Ok(())
//! # }
//! ```

use ::zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Dest, Source};
use crate::value::fetched;

/// Reads values from maps and views.
pub trait ReadAs: Source {
    /// Copies the value at `offset`, once.
    ///
    /// # Errors
    /// Those of the map or view if not all of the value can be read: [`MapError`](crate::MapError) or
    /// [`Short`](crate::Short). Nothing of the value is given out.
    #[inline]
    fn read_as<T: FromBytes>(&self, offset: u64) -> Result<T, Self::Error> {
        // SAFETY: any initialised bytes are a valid `T`: that is what the trait says.
        unsafe { fetched(|bytes| self.fetch(bytes, offset)) }
    }
}

/// Writes values to maps and views.
pub trait WriteFrom: Dest {
    /// Stores a value at `offset`.
    ///
    /// # Errors
    /// Those of the map or view if not all of the value can be stored: [`MapError`](crate::MapError) or
    /// [`Short`](crate::Short), whose `done` bytes are stored.
    #[inline]
    fn write_from<T: IntoBytes + Immutable>(&self, value: &T, offset: u64) -> Result<(), Self::Error> {
        self.put(value.as_bytes(), offset)
    }
}

impl<M: Source> ReadAs for M {}
impl<M: Dest> WriteFrom for M {}
