//! What has gone wrong, and what was done about it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Cause;

/// Something that a [`Store`](crate::Store) has noticed. It is a note among the [events](faultin::events()) of the process, where
/// it is in one order with the faults of mappings:
///
/// ```
/// use faultin::events::Entry;
/// use faultin_store::{Event, What};
///
/// for entry in faultin::events().entries() {
///     match entry {
///         Entry::Note(note) => match note.downcast_ref::<Event>() {
///             Some(Event { object, what: What::Down(cause), .. }) => println!("{object} is unavailable: {cause}"),
///             _ => println!("{note}"),
///         },
///         fault => println!("{fault}"),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The URL of the object, without credentials.
    pub object: Arc<str>,
    /// The range of the request.
    pub range: Range<u64>,
    /// The number of the attempt, from 1 on; 0 if no request was made.
    pub attempt: u32,
    /// What happened.
    pub what: What,
}

/// What has happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// An attempt has failed, and another one follows.
    Retried(Cause),
    /// The request has failed.
    Failed(Cause),
    /// No thread waited for the request any more.
    Cancelled,
    /// The store does not work: from now on accesses fail at once.
    Down(Cause),
    /// The store works again.
    Up,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { object, range, attempt, what } = self;
        write!(f, "{object}")?;
        if !range.is_empty() {
            write!(f, ", bytes {} to {}", range.start, range.end)?;
        }
        if *attempt > 0 {
            write!(f, ", attempt {attempt}")?;
        }
        match what {
            What::Retried(cause) => write!(f, ": {cause}; it is tried again"),
            What::Failed(cause) => write!(f, ": {cause}"),
            What::Cancelled => f.write_str(": no access waits for it any more"),
            What::Down(cause) => write!(f, ": the store does not work: {cause}"),
            What::Up => f.write_str(": the store works again"),
        }
    }
}
