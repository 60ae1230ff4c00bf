//! [`Notes`]: what code above this crate has noticed, in one order with the faults.
//!
//! Such code knows more of a failure than a handler can record: the URL of an object, the server's answer, two versions. So its
//! events are values of its own types, made outside of signals and kept under a lock, and not words of the faults' ring. Each
//! owner has a ring of its own: one that fails often does not push out what others have noticed, or the faults.

use core::fmt;
use core::ops::Deref;
use std::any::Any;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use crate::signal::inside::process::process;
use crate::signal::inside::registry::own;

/// Number of notes that each owner keeps.
const KEPT: usize = 256;

/// Number of owners that were dropped whose notes are kept.
const DROPPED: usize = 16;

/// What a note has noticed. It is printed as an entry of a log, and must have no credentials.
pub trait Details: Any + fmt::Debug + fmt::Display + Send + Sync {}

impl<T: Any + fmt::Debug + fmt::Display + Send + Sync> Details for T {}

/// Something that is no fault of a memory access, such as a request to an object store that failed.
#[non_exhaustive]
pub struct Note<T: ?Sized = dyn Details> {
    /// The number of the note among those of all owners: 0 for the first one of the process.
    pub sequence: u64,
    /// The [number](super::Event::sequence) of the next fault.
    pub faults: u64,
    /// When.
    pub time: SystemTime,
    /// What.
    pub details: Arc<T>,
}

impl Note {
    /// Returns the details, if they are of this type.
    pub fn downcast_ref<T: Details>(&self) -> Option<&T> {
        let details: &dyn Any = &*self.details;
        details.downcast_ref()
    }
}

impl<T: Details> Note<T> {
    /// Returns the note without the type of its details.
    fn erased(self) -> Note {
        Note { sequence: self.sequence, faults: self.faults, time: self.time, details: self.details }
    }
}

impl<T: ?Sized> Deref for Note<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.details
    }
}

impl<T: ?Sized> Clone for Note<T> {
    fn clone(&self) -> Self {
        Note { details: Arc::clone(&self.details), ..*self }
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for Note<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Note")
            .field("sequence", &self.sequence)
            .field("faults", &self.faults)
            .field("time", &self.time)
            .field("details", &&*self.details)
            .finish()
    }
}

impl<T: fmt::Display + ?Sized> fmt::Display for Note<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.details.fmt(f)
    }
}

/// The last 256 notes of an owner, such as an object store, which are among the [events](crate::events()) of the process.
///
/// A child of `fork` begins without the notes of its parent.
///
/// ```
/// use faultin::events::Notes;
///
/// let notes = Notes::<String>::new();
/// notes.add("the server does not answer".into());
/// assert_eq!(notes.last()[0].as_str(), "the server does not answer");
///
/// let events = faultin::events();
/// let last = events.notes().last().expect("this one");
/// assert_eq!(last.downcast_ref::<String>().map(String::as_str), Some("the server does not answer"));
/// // Faults and notes, in the order in which they came.
/// events.entries().for_each(|entry| println!("{entry}"));
/// ```
pub struct Notes<T> {
    kept: Mutex<VecDeque<Note<T>>>,
    process: u32,
}

impl<T: Details> Notes<T> {
    /// Makes an owner's notes. Those of owners that were dropped are kept for a while: the last 16 of these.
    pub fn new() -> Arc<Notes<T>> {
        let notes = Arc::new(Notes { kept: Mutex::default(), process: process() });
        let listed: Arc<dyn Owner> = Arc::clone(&notes) as _;
        drop(without_signals(|| List::of_process().add(listed)));
        notes
    }

    /// Adds a note, in place of the oldest one if there are 256. Must not be called in a signal handler. Does nothing in a
    /// child of `fork`.
    pub fn add(&self, details: T) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if self.process != process() {
            return;
        }
        let details = Arc::new(details);
        let oldest = without_signals(|| {
            // Under the lock, so that an owner's notes are in order.
            let mut kept = lock(&self.kept);
            let sequence = NEXT.fetch_add(1, Ordering::Relaxed);
            kept.push_back(Note { sequence, faults: own().events.count(), time: SystemTime::now(), details });
            if kept.len() > KEPT { kept.pop_front() } else { None }
        });
        drop(oldest);
    }

    /// Returns the notes, the oldest first. There are none in a child of `fork`.
    pub fn last(&self) -> Vec<Note<T>> {
        if self.process != process() {
            return Vec::new();
        }
        without_signals(|| lock(&self.kept).iter().cloned().collect())
    }
}

impl<T> fmt::Debug for Notes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notes").finish_non_exhaustive()
    }
}

/// Returns the notes of all owners, in their order.
pub(super) fn all() -> Vec<Note> {
    let owners: Vec<Arc<dyn Owner>> = without_signals(|| lock(&List::of_process().owners).clone());
    let mut notes: Vec<Note> = owners.iter().flat_map(|owner| owner.notes()).collect();
    // Of two notes at the same time, one may have seen a fault that the other one has not.
    notes.sort_by_key(|note| (note.faults, note.sequence));
    notes
}

/// [`Notes`] of any type.
trait Owner: Send + Sync {
    fn notes(&self) -> Vec<Note>;
}

impl<T: Details> Owner for Notes<T> {
    fn notes(&self) -> Vec<Note> {
        self.last().into_iter().map(Note::erased).collect()
    }
}

/// The owners of a process. A child of `fork` has the next list: a thread that it does not have may hold its parent's lock.
struct List {
    process: u32,
    owners: Mutex<Vec<Arc<dyn Owner>>>,
    next: OnceLock<Box<List>>,
}

impl List {
    fn of_process() -> &'static List {
        static FIRST: OnceLock<Box<List>> = OnceLock::new();
        let mut place = &FIRST;
        loop {
            match place.get() {
                Some(list) if list.process == process() => return list,
                Some(list) => place = &list.next,
                None => {
                    let list = List { process: process(), owners: Mutex::default(), next: OnceLock::new() };
                    // Unless another thread was faster.
                    drop(place.set(Box::new(list)));
                }
            }
        }
    }

    /// Adds an owner. Returns those that are forgotten, to be dropped without the lock.
    fn add(&self, owner: Arc<dyn Owner>) -> Vec<Arc<dyn Owner>> {
        let mut owners = lock(&self.owners);
        let is_dropped = |owner: &Arc<dyn Owner>| Arc::strong_count(owner) == 1;
        let mut excess = owners.iter().filter(|owner| is_dropped(owner)).count().saturating_sub(DROPPED);
        let (forgotten, mut kept): (Vec<_>, Vec<_>) = owners.drain(..).partition(|owner| {
            let is_forgotten = excess > 0 && is_dropped(owner);
            excess -= usize::from(is_forgotten);
            is_forgotten
        });
        kept.push(owner);
        *owners = kept;
        forgotten
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs something that holds a lock, while no signal handler runs in this thread: one could fault on a mapping whose pager adds
/// a note.
fn without_signals<T>(run: impl FnOnce() -> T) -> T {
    struct Restore(Option<libc::sigset_t>);

    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(before) = &self.0 {
                // SAFETY: sets this thread's mask to what it was.
                unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
            }
        }
    }

    let (mut set, mut before) = (MaybeUninit::<libc::sigset_t>::uninit(), MaybeUninit::<libc::sigset_t>::uninit());
    // SAFETY: `sigfillset` writes the set, and `sigdelset` changes it.
    let set = unsafe {
        libc::sigfillset(set.as_mut_ptr());
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS] {
            libc::sigdelset(set.as_mut_ptr(), fault);
        }
        set.assume_init()
    };
    // SAFETY: blocks signals in this thread, and writes a set.
    let is_blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, before.as_mut_ptr()) == 0 };
    // SAFETY: the call succeeded and has written it.
    let _restore = Restore(is_blocked.then(|| unsafe { before.assume_init() }));
    run()
}
