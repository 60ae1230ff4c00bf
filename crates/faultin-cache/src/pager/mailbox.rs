//! Where a thread that has faulted, in its signal handler, asks the pager's thread for the page and waits for the answer.
//!
//! A *request* lives on the stack of the thread that posts it, which stays until the answer is there. Requests that nobody
//! has taken are a list with one atomic head; whoever takes takes all of it. So there is no number of places that could be
//! used up, also not by threads that were interrupted while they waited: such a thread's handler may fault and post in
//! turn, over and over, and each of these is answered whatever the ones beneath it are doing.
//!
//! Nobody who waits sleeps at a word of its own stack: the pager's thread would have to wake it there after it has the
//! answer, when it may be gone. They share the words of the mailbox, and look for their answer when theirs changes.
//!
//! A handler that interrupts a thread that waits here has to return: `longjmp` over it would leave a request behind that
//! is no more.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::PoisonError;

use faultin::Access;

use crate::sync::{self, AtomicPtr, AtomicU32, Bell, Mutex, MutexGuard, Ordering};

/// Takes requests from threads that have faulted to the pager's thread, and answers back.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// The last one that was posted and not taken; or [`closed`].
    last: AtomicPtr<Posted>,
    desk: Mutex<Desk>,
    /// What those who wait sleep at: changes with each answer for one of them.
    words: [AtomicU32; sync::WORDS],
    /// Counts on with each request, to spread them over the words.
    posted: AtomicU32,
    pub(super) bell: Bell,
}

/// A fault that a thread waits to have served. If it is dropped, the answer is no.
#[derive(Debug)]
#[must_use = "dropping it answers no"]
pub(crate) struct Request<'a> {
    /// The address that faulted.
    pub(crate) address: usize,
    /// How it was accessed, if that is known.
    pub(crate) access: Option<Access>,
    /// The kernel's number of the thread that waits.
    pub(crate) thread: u32,
    mailbox: &'a Mailbox,
    number: u64,
}

/// A request where its thread waits.
///
/// # Invariants
///
/// 1. From when it is in the list until `answer` is not [`WAITS`], its memory stays.
/// 2. It is in the list, or in one of the desk's, until just before it is answered. What takes it out of there answers it,
///    and does not touch it afterwards.
/// 3. Once it is in the list, `next` and `number` are only used by who has locked the desk.
#[derive(Debug)]
struct Posted {
    next: Cell<*const Posted>,
    /// By which [`Request`] knows it.
    number: Cell<u64>,
    address: usize,
    access: Option<Access>,
    thread: u32,
    word: usize,
    answer: AtomicU32,
}

const WAITS: u32 = 0;
const NO: u32 = 1;
const YES: u32 = 2;

/// Of the pager's thread: no signal handler comes here.
#[derive(Debug)]
struct Desk {
    /// Taken out of the list, oldest first.
    next: Chain,
    /// [`Request`]s that are not answered.
    taken: Chain,
    numbers: u64,
}

/// Requests in some order, by `next`.
#[derive(Debug)]
struct Chain(*const Posted);

// SAFETY: invariants 1 and 2 of `Posted`: what it points to is there, in whichever thread.
unsafe impl Send for Chain {}

/// In place of a request, when no more are taken.
fn closed() -> *mut Posted {
    // No request is there: they are aligned.
    ptr::without_provenance_mut(1)
}

impl Mailbox {
    /// # Errors
    /// The kernel's, for want of descriptors.
    pub(crate) fn new() -> io::Result<Mailbox> {
        Ok(Mailbox {
            last: AtomicPtr::new(ptr::null_mut()),
            desk: Mutex::new(Desk { next: Chain(ptr::null()), taken: Chain(ptr::null()), numbers: 0 }),
            words: std::array::from_fn(|_| AtomicU32::new(0)),
            posted: AtomicU32::new(0),
            bell: Bell::new()?,
        })
    }

    /// Asks for the fault of the thread of this number to be served, and waits for the answer: whether the access is to be
    /// repeated. No, at once, if the mailbox is closed.
    ///
    /// Async-signal-safe; for any number of threads at the same time, and for a handler that interrupts one here.
    pub(crate) fn post(&self, address: usize, access: Option<Access>, thread: u32) -> bool {
        let word = self.posted.fetch_add(1, Ordering::Relaxed) as usize % sync::WORDS;
        let (next, number, answer) = (Cell::new(ptr::null()), Cell::new(0), AtomicU32::new(WAITS));
        let posted = Posted { next, number, address, access, thread, word, answer };
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
        // Also if there was another one before: its thread may have been interrupted by this handler, before it rang.
        self.bell.ring();
        let word = &self.words[word];
        loop {
            // Before the look at the answer: who answers after the look changes it after that, too.
            let seen = word.load(Ordering::Acquire);
            match posted.answer.load(Ordering::Acquire) {
                WAITS => sync::wait(word, seen),
                answer => return answer == YES,
            }
        }
    }

    /// The oldest request that nobody has taken. To be called until there is none; then [`fd`](Self::fd) can be polled for
    /// the next one.
    pub(crate) fn take(&self) -> Option<Request<'_>> {
        let mut desk = self.desk();
        if desk.next.0.is_null() {
            // Before the list is taken: who posts after that rings again.
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
        // SAFETY: invariants 1 and 2 of `Posted`: it is not answered, and this has the desk.
        let (address, access, thread) = unsafe {
            let posted = posted.as_ref();
            posted.number.set(number);
            (posted.address, posted.access, posted.thread)
        };
        // SAFETY: it was popped.
        unsafe { desk.taken.push(posted) };
        Some(Request { address, access, thread, mailbox: self, number })
    }

    /// Answers no to everybody who waits, from now on also at once.
    pub(crate) fn close(&self) {
        let mut desk = self.desk();
        let last = self.last.swap(closed(), Ordering::Acquire);
        let mut waiting = Chain(if last == closed() { ptr::null() } else { last });
        while let Some(posted) = waiting.pop().or_else(|| desk.next.pop()).or_else(|| desk.taken.pop()) {
            // SAFETY: it was popped.
            unsafe { self.answer(posted, NO) };
        }
        // Whoever polls is to see that it has ended.
        self.bell.ring();
    }

    /// Has whoever polls look again.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    /// Whether it has been [closed](Self::close).
    pub(super) fn is_closed(&self) -> bool {
        self.last.load(Ordering::Relaxed) == closed()
    }

    /// Readable when [`take`](Self::take) has something, and once when it has been closed.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.bell)
    }

    /// # Safety
    /// `posted` was in a list and is in none any more. It is not used again.
    unsafe fn answer(&self, posted: NonNull<Posted>, answer: u32) {
        // SAFETY: invariant 1 of `Posted`: nobody has answered it.
        let word = unsafe {
            let word = (*posted.as_ptr()).word;
            (*posted.as_ptr()).answer.store(answer, Ordering::Release);
            word
        };
        // It may be gone. The words are not.
        self.words[word].fetch_add(1, Ordering::Release);
        // All of them: one that has been interrupted could be woken in place of another.
        sync::wake(&self.words[word], u32::MAX);
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Nothing panics in the middle of a change.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request<'_> {
    /// Whether the access is to be repeated; otherwise it has failed. Nobody hears it if the mailbox has been closed.
    pub(crate) fn answer(self, served: bool) {
        self.give(if served { YES } else { NO });
    }

    fn give(&self, answer: u32) {
        let mut desk = self.mailbox.desk();
        if let Some(posted) = desk.taken.remove(self.number) {
            // SAFETY: it was removed.
            unsafe { self.mailbox.answer(posted, answer) };
        }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        // It is not there, if it was answered.
        self.give(NO);
    }
}

impl Chain {
    /// # Safety
    /// It is in no list, and was not answered.
    unsafe fn push(&mut self, posted: NonNull<Posted>) {
        // SAFETY: invariant 1 of `Posted`.
        unsafe { posted.as_ref() }.next.set(self.0);
        self.0 = posted.as_ptr();
    }

    fn pop(&mut self) -> Option<NonNull<Posted>> {
        let first = NonNull::new(self.0.cast_mut())?;
        // SAFETY: invariants 1 and 2 of `Posted`: it is in this list.
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

    /// The one of this number.
    fn remove(&mut self, number: u64) -> Option<NonNull<Posted>> {
        let (mut others, mut found) = (Chain(ptr::null()), None);
        while let Some(posted) = self.pop() {
            // SAFETY: invariants 1 and 2 of `Posted`: it was in this list, and is not answered.
            if unsafe { posted.as_ref() }.number.get() == number {
                found = Some(posted);
            } else {
                // SAFETY: it was popped.
                unsafe { others.push(posted) };
            }
        }
        *self = others;
        found
    }
}
