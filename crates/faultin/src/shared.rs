//! Memory shared with an untrusted peer: memfds and files that another process has open as well, and may truncate, punch
//! holes into or rewrite at any moment.
//!
//! A [`SharedMap`] has the length that two processes have agreed on; only [`resize`](SharedMap::resize) changes it. Its *peer*
//! is any other process that has the file.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use faultin::{
//!     map::{Change, Rights},
//!     shared::SharedMap,
//! };
//!
//! # let page = faultin::page_size();
//! // What a client does: make a buffer, pass its descriptor on.
//! let client = SharedMap::create("buffer", 2 * page)?;
//! client.write_at(b"hello", 0)?;
//! let descriptor = client.try_clone_fd()?;
//!
//! // What a server does with the descriptor and the length it was told.
//! let buffer = SharedMap::from_fd(descriptor, 2 * page, Rights::Read)?;
//! assert_eq!(buffer.read_once::<[u8; 5]>(0)?, *b"hello");
//!
//! // The client takes the memory away.
//! std::fs::File::from(client.try_clone_fd()?).set_len(100)?;
//! let error = buffer.read_at(&mut vec![0; page], 0).unwrap_err();
//! assert_eq!(error.change(), Some(Change::Shrunk { from: 2 * page as u64, to: 100 }));
//! assert_eq!(error.done(), 100);
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! * No operation kills the process, or waits for the peer. The limits are those of [files](crate::map#guarantees).
//! * **The work of an operation is bounded, whatever the peer does meanwhile**: one copy that ends at its first fault;
//!   after a fault a few queries of the file; for reads, a fixed number of calls that read the rest from the file. Nothing
//!   is retried. The atomic operations that are loops of compare-exchange ([`fetch_and`](SharedMap::fetch_and) and others,
//!   see [`scalar`](crate::raw#scalars)) are the exception: a peer that writes the same word without pause can make a round
//!   of them fail, though each time by chance only.
//! * **Counts are exact.** After an error, [`done`](MapError::done) bytes from the start were read, or stored, and were
//!   within the file when it was checked. No byte past the count of a store was stored to the mapping, unless it was
//!   truncated ([`Changed`](crate::map::Reason::Changed): bytes that were stored past the end are lost). Past the count the
//!   destination of a read may have been overwritten.
//! * **Results are copies, made once.** [`read_at`](SharedMap::read_at), [`read_once`](SharedMap::read_once) and the
//!   [rings](ring) copy to private memory, and no function here returns a reference. Check the copy, use the copy: a value
//!   that is checked in shared memory and read again may be different. (A read that faulted takes the rest from the file.)
//!
//! The contents are *not* guaranteed: the peer chooses them, and while it writes, a copy is a mixture of old and new bytes,
//! except for aligned values of up to 64 bits.
//!
//! # Sealed memory
//!
//! A memfd with `F_SEAL_SHRINK` cannot be truncated by any process, ever again. Where it is set,
//! [`is_sealed`](SharedMap::is_sealed) is true and operations skip the check of the file's size, which is a system call
//! each. Accesses stay fallible, because that costs nothing and sealed memory can still fault: where a page has to be
//! allocated and none is available (a hole, also one punched by the peer, in a control group at its limit or without huge
//! pages), where it cannot be read back from swap, and where it is poisoned. The seal does not protect the contents: only
//! `F_SEAL_WRITE` would.
//!
//! Memory that is not sealed is checked after each access, because a fault proves nothing: the last page of a truncated
//! file reads as zeros past its end and takes stores that are lost. (If the file is truncated and grows again between two
//! checks, it reads as zeros without an error, as if the peer had stored them.) [`SharedOptions::watch`] skips this check,
//! too.
//!
//! With [`Backend::Pread`] nothing is mapped: reads and stores go to the file with the same results; atomic operations and
//! rings do not exist.

#[cfg(doc)]
use crate::{MapError, map::Backend};

pub use crate::map::shared::{PlainData, SharedMap, SharedOptions, ring};
