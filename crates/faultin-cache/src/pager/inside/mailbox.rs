//! The mailbox by which a thread that has faulted requests the page from the pager's thread, in its signal handler, and
//! waits for the answer.
//!
//! A *request* is on the stack of the thread that posts it, which stays until the answer is there. Requests that were not
//! taken yet are a list with one atomic head; taking takes all of it. So there is no fixed number of places, even for
//! threads that were interrupted while they waited: such a thread's handler may fault and post in turn, over and over, and
//! each request is answered whatever the ones beneath it are doing.
//!
//! No waiting thread sleeps at a word of its own stack: the pager's thread would have to wake it there after it has the
//! answer, when the stack frame may no longer exist. They share the words of the mailbox, and check for their answer when
//! their word changes.
//!
//! A waiting thread has all its signals blocked. It checks occasionally whether a signal is pending that it would get if it
//! returned to the instruction; if so it withdraws its request from the mailbox and returns. Work on its request may
//! continue meanwhile: that answer is ignored.

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};

use faultin::Access;

use crate::lock::RawLock;
use crate::sync::{self, AtomicPtr, AtomicU32, Bell, Ordering};

/// Passes requests of threads that have faulted to the pager's thread, and answers back.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// The last request that was posted and not taken; or [`closed`].
    last: AtomicPtr<PendingRequest>,
    desk: Desk,
    /// The words that waiting threads sleep at: each changes with each answer for one of its threads.
    words: [AtomicU32; sync::WORDS],
    /// Number of requests, to spread them over the words.
    posted: AtomicU32,
    pub(crate) bell: Bell,
}

/// A fault that a thread waits for. If it is dropped, the answer is no.
#[derive(Debug)]
#[must_use = "dropping it answers no"]
pub(crate) struct Request<'a> {
    /// The address that faulted.
    pub(crate) address: usize,
    /// The kind of access, if that is known.
    pub(crate) access: Option<Access>,
    mailbox: &'a Mailbox,
    number: u64,
}

/// A [`Request`] that is kept beside its mailbox, which answers it no at the latest when it is closed.
#[derive(Debug)]
#[must_use = "its thread waits"]
pub(crate) struct Ticket {
    number: u64,
}

/// A request on the stack of its thread.
///
/// # Invariants
///
/// 1. From when it is in the list until `answer` is not [`WAITS`], or it was withdrawn, its memory stays.
/// 2. It is in the list, or in one of the desk's, until just before it is answered. The code that removes it answers it,
///    and does not touch it afterwards; or it is its own thread, which then leaves.
/// 3. Once it is in the list, `next` and `number` are only used by the thread that has locked the desk.
#[derive(Debug)]
struct PendingRequest {
    next: Cell<*const PendingRequest>,
    /// The number by which [`Request`] identifies it.
    number: Cell<u64>,
    address: usize,
    access: Option<Access>,
    word: usize,
    answer: AtomicU32,
}

const WAITS: u32 = 0;
const NO: u32 = 1;
const YES: u32 = 2;

/// The requests that were taken out of the list, under a lock that a handler may try, with all signals blocked: a thread
/// that holds it is not interrupted by another handler.
#[derive(Debug)]
struct Desk {
    lock: RawLock,
    state: UnsafeCell<DeskState>,
}

// SAFETY: the papers are used by the holder of the lock alone, in whichever thread.
unsafe impl Sync for Desk {}
// SAFETY: as above.
unsafe impl Send for Desk {}

#[derive(Debug)]
struct DeskState {
    /// Taken out of the list, oldest first.
    next: Chain,
    /// [`Request`]s that are not answered.
    taken: Chain,
    numbers: u64,
}

/// Exclusive use of the desk, until it is dropped.
struct DeskGuard<'a>(&'a Desk);

impl Desk {
    fn lock(&self) -> DeskGuard<'_> {
        self.lock.lock_exclusive(None);
        DeskGuard(self)
    }

    /// Tries to lock the desk. Async-signal-safe, and so is dropping the result.
    fn try_lock(&self) -> Option<DeskGuard<'_>> {
        self.lock.try_lock_exclusive(None).then(|| DeskGuard(self))
    }
}

impl Deref for DeskGuard<'_> {
    type Target = DeskState;

    fn deref(&self) -> &DeskState {
        // SAFETY: this holds the lock.
        unsafe { &*self.0.state.get() }
    }
}

impl DerefMut for DeskGuard<'_> {
    fn deref_mut(&mut self) -> &mut DeskState {
        // SAFETY: this holds the lock.
        unsafe { &mut *self.0.state.get() }
    }
}

impl Drop for DeskGuard<'_> {
    fn drop(&mut self) {
        self.0.lock.unlock_exclusive();
    }
}

/// A list of requests, linked by `next`.
#[derive(Debug)]
struct Chain(*const PendingRequest);

// SAFETY: invariants 1 and 2 of `PendingRequest`: its target exists, in whichever thread.
unsafe impl Send for Chain {}

/// Returns the mark in place of a request, when no more are taken.
fn closed() -> *mut PendingRequest {
    // No request has this address: they are aligned.
    ptr::without_provenance_mut(1)
}

impl Mailbox {
    /// # Errors
    /// The kernel's error, for lack of descriptors.
    pub(crate) fn new() -> io::Result<Mailbox> {
        Ok(Mailbox {
            last: AtomicPtr::new(ptr::null_mut()),
            desk: Desk {
                lock: RawLock::default(),
                state: UnsafeCell::new(DeskState { next: Chain(ptr::null()), taken: Chain(ptr::null()), numbers: 0 }),
            },
            words: std::array::from_fn(|_| AtomicU32::new(0)),
            posted: AtomicU32::new(0),
            bell: Bell::new()?,
        })
    }

    /// Requests that the fault of this thread be resolved, and waits for the answer: returns whether the access may be
    /// repeated. Returns false, at once, if the mailbox is closed. Returns true, too, if `leave`, which is called now and
    /// then, reports that the thread has something else to do first.
    ///
    /// Async-signal-safe, with all signals blocked if there is a `leave`; for any number of threads at the same time.
    pub(crate) fn post(&self, address: usize, access: Option<Access>, leave: Option<&dyn Fn() -> bool>) -> bool {
        let word = self.posted.fetch_add(1, Ordering::Relaxed) as usize % sync::WORDS;
        let (next, number, answer) = (Cell::new(ptr::null()), Cell::new(0), AtomicU32::new(WAITS));
        let posted = PendingRequest { next, number, address, access, word, answer };
        let this = (&raw const posted).cast_mut();
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            if last == closed() {
                return false;
            }
            posted.next.set(last);
            match self.last.compare_exchange_weak(last, this, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => last = now,
            }
        }
        // Even if there was another request before: its thread may have been interrupted by this handler before it rang.
        self.bell.ring();
        let word = &self.words[word];
        loop {
            // Before the answer is read: a thread that answers after that read changes the word afterwards, too.
            let seen = word.load(Ordering::Acquire);
            match (posted.answer.load(Ordering::Acquire), leave) {
                (WAITS, None) => sync::wait(word, seen),
                (WAITS, Some(leave)) => {
                    sync::wait_a_while(word, seen);
                    if posted.answer.load(Ordering::Relaxed) == WAITS && leave() && self.withdraw(&posted) {
                        return true;
                    }
                }
                (answer, _) => return answer == YES,
            }
        }
    }

    /// Removes a request of this thread, wherever it is, unless it has been answered, or another thread is at the desk.
    fn withdraw(&self, posted: &PendingRequest) -> bool {
        let Some(mut desk) = self.desk.try_lock() else { return false };
        let last = self.last.load(Ordering::Relaxed);
        if last != closed() && !last.is_null() {
            // Only `close` closes it, at the desk.
            let all = Chain(self.last.swap(ptr::null_mut(), Ordering::Acquire));
            desk.next.append(all.reversed());
        }
        let state = &mut *desk;
        // If it is in neither, it was answered.
        [&mut state.next, &mut state.taken]
            .into_iter()
            .any(|chain| chain.remove(|other| ptr::eq(other, posted)).is_some())
    }

    // Outside signals: it waits for the desk.
    /// Takes the oldest request. To be called until there is none; then [`fd`](Self::fd) can be polled for the next one.
    pub(crate) fn take(&self) -> Option<Request<'_>> {
        let mut desk = self.desk.lock();
        if desk.next.0.is_null() {
            // Before the list is taken: a thread that posts after that rings again.
            self.bell.silence();
            if self.last.load(Ordering::Relaxed) == closed() {
                return None;
            }
            // Only `close` closes it, with the desk locked.
            let all = Chain(self.last.swap(ptr::null_mut(), Ordering::Acquire));
            desk.next = all.reversed();
        }
        let posted = desk.next.pop()?;
        desk.numbers += 1;
        let number = desk.numbers;
        // SAFETY: invariants 1 and 2 of `PendingRequest`: it is not answered, and this has the desk.
        let (address, access) = unsafe {
            let posted = posted.as_ref();
            posted.number.set(number);
            (posted.address, posted.access)
        };
        // SAFETY: it was popped.
        unsafe { desk.taken.push(posted) };
        Some(Request { address, access, mailbox: self, number })
    }

    // Outside signals: it waits for the desk.
    /// Answers a request as [`Request::answer`] does.
    pub(crate) fn answer_to(&self, ticket: Ticket, served: bool) {
        self.give(ticket.number, if served { YES } else { NO });
    }

    // Outside signals: it waits for the desk.
    /// Returns whether a request that was kept still waits: its thread may have left.
    pub(crate) fn waits(&self, ticket: &Ticket) -> bool {
        self.desk.lock().taken.has(|posted| posted.number.get() == ticket.number)
    }

    // Outside signals: it waits for the desk.
    fn give(&self, number: u64, answer: u32) {
        let mut desk = self.desk.lock();
        if let Some(posted) = desk.taken.remove(|posted| posted.number.get() == number) {
            // SAFETY: it was removed.
            unsafe { self.answer(posted, answer) };
        }
    }

    // Outside signals: it waits for the desk.
    /// Answers no to all waiting threads, and from now on at once.
    pub(crate) fn close(&self) {
        let mut desk = self.desk.lock();
        let last = self.last.swap(closed(), Ordering::Acquire);
        let mut waiting = Chain(if last == closed() { ptr::null() } else { last });
        while let Some(posted) = waiting.pop().or_else(|| desk.next.pop()).or_else(|| desk.taken.pop()) {
            // SAFETY: it was popped.
            unsafe { self.answer(posted, NO) };
        }
        // A polling thread must see that it was closed.
        self.bell.ring();
    }

    /// Wakes the thread that polls.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    /// Returns whether it has been [closed](Self::close).
    pub(crate) fn is_closed(&self) -> bool {
        self.last.load(Ordering::Relaxed) == closed()
    }

    /// Returns a descriptor that is readable when [`take`](Self::take) has something, and once when it has been closed.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.bell)
    }

    /// # Safety
    /// `posted` was in a list and is in none any more. It is not used again.
    unsafe fn answer(&self, posted: NonNull<PendingRequest>, answer: u32) {
        // SAFETY: invariant 1 of `PendingRequest`: it was not answered yet.
        let word = unsafe {
            let word = (*posted.as_ptr()).word;
            (*posted.as_ptr()).answer.store(answer, Ordering::Release);
            word
        };
        // The request may no longer exist. The words do.
        self.words[word].fetch_add(1, Ordering::Release);
        // All of them: one that has been interrupted could be woken in place of another.
        sync::wake(&self.words[word], u32::MAX);
    }
}

impl Request<'_> {
    /// Answers whether the access may be repeated; otherwise it has failed. The answer is ignored if the mailbox has been
    /// closed, or the thread has left.
    pub(crate) fn answer(self, served: bool) {
        self.mailbox.give(self.number, if served { YES } else { NO });
    }

    /// Leaves it for [`Mailbox::answer_to`], which may be called by another thread.
    pub(crate) fn keep(self) -> Ticket {
        let number = self.number;
        std::mem::forget(self);
        Ticket { number }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        // It does not exist if it was answered or withdrawn.
        self.mailbox.give(self.number, NO);
    }
}

impl Chain {
    /// # Safety
    /// It is in no list, and was not answered.
    unsafe fn push(&mut self, posted: NonNull<PendingRequest>) {
        // SAFETY: invariant 1 of `PendingRequest`.
        unsafe { posted.as_ref() }.next.set(self.0);
        self.0 = posted.as_ptr();
    }

    fn pop(&mut self) -> Option<NonNull<PendingRequest>> {
        let first = NonNull::new(self.0.cast_mut())?;
        // SAFETY: invariants 1 and 2 of `PendingRequest`: it is in this list.
        self.0 = unsafe { first.as_ref() }.next.get();
        Some(first)
    }

    fn reversed(mut self) -> Chain {
        let mut reversed = Chain(ptr::null());
        while let Some(posted) = self.pop() {
            // SAFETY: it was popped.
            unsafe { reversed.push(posted) };
        }
        reversed
    }

    /// Appends another list.
    fn append(&mut self, others: Chain) {
        let mut all = Chain(ptr::null());
        for mut chain in [std::mem::replace(self, Chain(ptr::null())), others] {
            while let Some(posted) = chain.pop() {
                // SAFETY: it was popped.
                unsafe { all.push(posted) };
            }
        }
        *self = all.reversed();
    }

    /// Returns whether there is a request for which `is_it` returns true.
    fn has(&self, is_it: impl Fn(&PendingRequest) -> bool) -> bool {
        let mut next = self.0;
        // SAFETY: invariants 1 and 2 of `PendingRequest`: it is in this list, and is not answered.
        while let Some(posted) = unsafe { next.as_ref() } {
            if is_it(posted) {
                return true;
            }
            next = posted.next.get();
        }
        false
    }

    /// Removes the request for which `is_it` returns true; the others keep their order.
    fn remove(&mut self, is_it: impl Fn(&PendingRequest) -> bool) -> Option<NonNull<PendingRequest>> {
        let (mut others, mut found) = (Chain(ptr::null()), None);
        while let Some(posted) = self.pop() {
            // SAFETY: invariants 1 and 2 of `PendingRequest`: it was in this list, and is not answered.
            if found.is_none() && is_it(unsafe { posted.as_ref() }) {
                found = Some(posted);
            } else {
                // SAFETY: it was popped.
                unsafe { others.push(posted) };
            }
        }
        *self = others.reversed();
        found
    }
}
