//! Memory shared with a peer that is not trusted: memfds and files that another process has open as well, and may cut,
//! punch holes into or rewrite at any moment.
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
//! # What is promised
//!
//! * No operation kills the process, or waits for the peer. The limits are those of [files](crate::map#what-is-promised).
//! * **The work of an operation is bounded, whatever the peer does meanwhile**: one copy that ends at its first fault; after
//!   a fault a few questions about the file; for reads, a fixed number of calls that take the rest from the file. Nothing
//!   is tried again. The atomic operations that are loops of compare-exchange ([`fetch_and`](SharedMap::fetch_and) and
//!   others, see [`scalar`](crate::raw#scalars)) are the exception: a peer that writes the same word without pause can
//!   make one of their rounds fail, though each time by chance only.
//! * **Counts are exact.** After an error, [`done`](MapError::done) bytes from the start were read, or stored, and lay
//!   within the file when it was looked at; of a store, nothing behind the count was stored to the mapping unless it was
//!   cut off ([`Changed`](crate::map::Reason::Changed): what was stored behind the end is lost). Behind the count the
//!   destination of a read may have been overwritten.
//! * **What is given out is a copy, made once.** [`read_at`](SharedMap::read_at), [`read_once`](SharedMap::read_once) and the
//!   [rings](ring) copy to memory of our own, and nothing here gives out a reference. Check the copy, use the copy: what
//!   is checked in shared memory and read again is another value. (A read that faulted takes the rest from the file.)
//!
//! What is *not* promised is what the bytes are: they are the peer's to choose, and while it writes, a copy is a mixture
//! of old and new ones, except for aligned values of up to 64 bits.
//!
//! # Sealed memory
//!
//! A memfd with `F_SEAL_SHRINK` cannot be cut, by anybody, ever again. Where it is set, [`is_sealed`](SharedMap::is_sealed)
//! is true and operations leave out their look at the size of the file, which is a system call each. Accesses stay
//! fallible, because that costs nothing and sealed memory can fault all the same: where a page has to be allocated and
//! none is to be had (a hole, also one punched by the peer, in a control group at its limit or without huge pages), where
//! it cannot be brought back from swap, and where it is poisoned. The seal says nothing about contents: only
//! `F_SEAL_WRITE` would.
//!
//! Memory that is not sealed is looked at after each access, because a fault proves nothing: the last page of a file that
//! was cut reads as zeros behind its end and takes stores that are lost. (Cut and grown again between two looks, it
//! reads as zeros without an error, as if the peer had stored them.) [`SharedOptions::watch`] leaves this out, too.
//!
//! Where memory is neither mapped nor to be mapped ([`Backend::Pread`]), reads and stores go to the file with the same
//! answers; atomic operations and rings do not exist.

#[cfg(doc)]
use crate::{MapError, map::Backend};

pub use crate::map::shared::{Plain, SharedMap, SharedOptions, ring};
