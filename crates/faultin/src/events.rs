//! The faults of this process, to see them in production: the last ones with their place and time by [`events()`](crate::events()), and their
//! numbers by [`counters`](crate::signal::counters).
//!
//! Code above this crate adds [`Notes`] of what is no fault, such as a request to an object store that failed.
//! [`Events::entries`] has both in one order.
//!
//! A fault that became a short result is handled, but it also says that a file was truncated, that a disk fails, or that a peer
//! breaks an agreement. A service exports [`Counters::faults`](crate::signal::Counters::faults) as a metric that must stay zero, and
//! logs the events when it does not.
//!
//! An access that does not fault records nothing. The handler records a fault without a lock, an allocation or a system call,
//! and resolves nothing: events get their [file](Event::file) when they are read, or when the map of that file is dropped.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::os::unix::fs::MetadataExt;
//!
//! use faultin::events::Outcome;
//! use faultin::map::Watch;
//! use faultin::{Cause, MapOptions};
//!
//! # let file = tempfile::NamedTempFile::new()?;
//! # std::fs::write(file.path(), vec![1; 100_000])?;
//! # let path = file.path();
//! let before = faultin::signal::counters();
//! let map = MapOptions::new().watch(Watch::Nothing).open(path)?;
//! std::fs::File::options().write(true).open(path)?.set_len(0)?; // by another process
//! assert!(map.read_exact_at(&mut [0; 10], 50_000).is_err());
//!
//! # if !faultin::signal::status().is_covered() { return Ok(()) }
//! let new = faultin::signal::counters().since(&before);
//! assert_eq!((new.faults(), new.recovered(Cause::Backing)), (1, 1));
//!
//! let events = faultin::events();
//! let last = events.as_slice().last().expect("the fault");
//! assert_eq!((last.outcome, last.fault.cause()), (Outcome::Recovered, Cause::Backing));
//! // The map is open, so its file is known.
//! let file = last.file.expect("a file");
//! assert_eq!((file.inode, file.offset), (std::fs::metadata(path)?.ino(), 50_000));
//! println!("{last}; {} events before it were overwritten", events.overwritten());
//! # Ok(())
//! # }
//! ```

mod notes;

use core::fmt;
use std::time::{Duration, SystemTime};

pub use notes::{Details, Note, Notes};

use crate::arch;
use crate::fault::{Access, Fault};
use crate::signal::inside::events::{COUNTERS, KEPT};
pub use crate::signal::inside::events::{FilePosition, Outcome};
use crate::signal::inside::registered::Registered;
use crate::signal::inside::registry::{Registry, own};

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The number of the event: 0 for the first one of the process. A reader that has seen one skips those up to it.
    pub sequence: u64,
    /// What became of the fault.
    pub outcome: Outcome,
    /// Its cause, access and address. The address is the one that the CPU or the kernel reported.
    pub fault: Fault,
    /// The address of the instruction that faulted, if a signal reported the fault.
    pub instruction: Option<usize>,
    /// The thread: what `pthread_self(3)` returns there, as a number. (The kernel's number of the thread would take a system
    /// call, which the handler does not make.)
    pub thread: u64,
    /// When the handler ran, to a tick of the kernel's clock (1 to 10 ms). Events of different ticks are in the order of their
    /// numbers, unless the clock was set. `None` where the kernel, or an emulator, offers no clock that needs no system call.
    pub time: Option<SystemTime>,
    /// The place in the file that a map of this crate had at the address. `None` for other memory.
    pub file: Option<FilePosition>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.outcome.name(), self.fault)?;
        if let Some(file) = self.file {
            write!(f, ", byte {} of inode {} on device {:#x}", file.offset, file.inode, file.device)?;
        }
        if let Some(instruction) = self.instruction {
            write!(f, ", instruction {instruction:#x}")?;
        }
        write!(f, ", thread {:#x}", self.thread)
    }
}

/// The last faults and notes of the process: see [`events()`](crate::events()).
#[derive(Clone, Debug)]
pub struct Events {
    kept: Vec<Event>,
    count: u64,
    notes: Vec<Note>,
}

/// A fault, or a note.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Entry<'a> {
    /// A fault.
    Fault(&'a Event),
    /// Something else.
    Note(&'a Note),
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Fault(event) => event.fmt(f),
            Entry::Note(note) => note.fmt(f),
        }
    }
}

impl Events {
    /// Returns the faults, the oldest first.
    pub fn as_slice(&self) -> &[Event] {
        &self.kept
    }

    /// Returns the notes of all owners, the oldest first: at most 256 of each owner.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Returns faults and notes, in the order in which they came. A fault that was recorded while a note was added may come
    /// before or after it.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let (mut faults, mut notes) = (self.kept.iter().peekable(), self.notes.iter().peekable());
        std::iter::from_fn(move || {
            let is_note = match (faults.peek(), notes.peek()) {
                (Some(fault), Some(note)) => note.faults <= fault.sequence,
                (_, note) => note.is_some(),
            };
            if is_note { notes.next().map(Entry::Note) } else { faults.next().map(Entry::Fault) }
        })
    }

    /// Returns the number of earlier faults that are not here. They were overwritten by later ones, or dropped, because a
    /// handler was writing in the same place for as long as 256 others took. Events that were being written count until they
    /// are complete.
    pub fn overwritten(&self) -> u64 {
        self.count - self.kept.len() as u64
    }
}

impl IntoIterator for Events {
    type Item = Event;
    type IntoIter = std::vec::IntoIter<Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.into_iter()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = core::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.iter()
    }
}

/// See [`events()`](crate::events()).
pub(crate) fn snapshot() -> Events {
    let registry = own();
    let notes = notes::all();
    let mut kept = Vec::with_capacity(KEPT);
    // A pointer's distance from what `pthread_self` returns is the same in all threads.
    // SAFETY: returns a number of this thread.
    let distance = (unsafe { libc::pthread_self() } as u64).wrapping_sub(arch::context::thread_pointer() as u64);
    for recorded in registry.events.recorded() {
        let Some(outcome) = recorded.outcome else { continue };
        let file = file_at(registry, recorded.ticket, recorded.address);
        let time = recorded.nanoseconds != 0;
        kept.push(Event {
            sequence: recorded.ticket,
            outcome,
            fault: Fault::from_registers(recorded.code, recorded.address),
            instruction: Some(recorded.pc).filter(|pc| *pc != 0),
            thread: recorded.thread.wrapping_add(distance),
            time: time.then(|| SystemTime::UNIX_EPOCH + Duration::from_nanos(recorded.nanoseconds)),
            file,
        });
    }
    kept.sort_unstable_by_key(|event| event.sequence);
    // Read last: no event that is kept has a larger number.
    Events { count: registry.events.count(), kept, notes }
}

/// Returns the byte that a map had at `address` when the event with this number was recorded: one that is still mapped, or was
/// unmapped since.
fn file_at(registry: &Registry, ticket: u64, address: usize) -> Option<FilePosition> {
    let mapped = match registry.at(arch::untag(address)) {
        Some(Registered::Guard(guard)) => guard.position(arch::untag(address), ticket),
        _ => None,
    };
    // In this order: an owner that unmaps keeps the position first.
    mapped.or_else(|| registry.events.attributed(ticket))
}

/// Returns the position of the counter of a cause and an access.
pub(crate) const fn counter(cause: crate::Cause, access: Access) -> usize {
    let stores = matches!(access, Access::Write) as usize;
    cause.index() + stores * (COUNTERS / 2)
}
