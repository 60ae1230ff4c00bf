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
//! A thread that waits has all its signals blocked. It looks now and then whether one is pending that it would get if it went
//! back to the instruction; if so it takes its request out of the mailbox and goes. What is being served for it may go on
//! meanwhile: nobody hears that answer.

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};

use faultin::Access;

use crate::lock::RawLock;
use crate::sync::{self, AtomicPtr, AtomicU32, Bell, Ordering};

/// Takes requests from threads that have faulted to the pager's thread, and answers back.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// The last one that was posted and not taken; or [`closed`].
    last: AtomicPtr<Posted>,
    desk: Desk,
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
    mailbox: &'a Mailbox,
    number: u64,
}

/// A request where its thread waits.
///
/// # Invariants
///
/// 1. From when it is in the list until `answer` is not [`WAITS`], or it was withdrawn, its memory stays.
/// 2. It is in the list, or in one of the desk's, until just before it is answered. What takes it out of there answers it,
///    and does not touch it afterwards; or is its own thread, which then leaves.
/// 3. Once it is in the list, `next` and `number` are only used by who has locked the desk.
#[derive(Debug)]
struct Posted {
    next: Cell<*const Posted>,
    /// By which [`Request`] knows it.
    number: Cell<u64>,
    address: usize,
    access: Option<Access>,
    word: usize,
    answer: AtomicU32,
}

const WAITS: u32 = 0;
const NO: u32 = 1;
const YES: u32 = 2;

/// What is out of the list, under a lock that a handler may try to take, with all signals blocked: no thread is interrupted by
/// another one of them while it has it.
#[derive(Debug)]
struct Desk {
    lock: RawLock,
    papers: UnsafeCell<Papers>,
}

// SAFETY: the papers are used by who has the lock alone, in whichever thread.
unsafe impl Sync for Desk {}
// SAFETY: as above.
unsafe impl Send for Desk {}

#[derive(Debug)]
struct Papers {
    /// Taken out of the list, oldest first.
    next: Chain,
    /// [`Request`]s that are not answered.
    taken: Chain,
    numbers: u64,
}

/// The desk is this one's alone, until it is dropped.
struct AtDesk<'a>(&'a Desk);

impl Desk {
    fn lock(&self) -> AtDesk<'_> {
        self.lock.lock_exclusive();
        AtDesk(self)
    }

    /// Async-signal-safe, as dropping the answer is.
    fn try_lock(&self) -> Option<AtDesk<'_>> {
        self.lock.try_lock_exclusive().then(|| AtDesk(self))
    }
}

impl Deref for AtDesk<'_> {
    type Target = Papers;

    fn deref(&self) -> &Papers {
        // SAFETY: this has the lock alone.
        unsafe { &*self.0.papers.get() }
    }
}

impl DerefMut for AtDesk<'_> {
    fn deref_mut(&mut self) -> &mut Papers {
        // SAFETY: this has the lock alone.
        unsafe { &mut *self.0.papers.get() }
    }
}

impl Drop for AtDesk<'_> {
    fn drop(&mut self) {
        self.0.lock.unlock_exclusive();
    }
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
            desk: Desk {
                lock: RawLock::default(),
                papers: UnsafeCell::new(Papers { next: Chain(ptr::null()), taken: Chain(ptr::null()), numbers: 0 }),
            },
            words: std::array::from_fn(|_| AtomicU32::new(0)),
            posted: AtomicU32::new(0),
            bell: Bell::new()?,
        })
    }

    /// Asks for the fault of this thread to be served, and waits for the answer: whether the access is to be
    /// repeated. No, at once, if the mailbox is closed. Yes, too, if `leave` says while it waits that the thread has something
    /// else to do first, which is asked now and then.
    ///
    /// Async-signal-safe, with all signals blocked if there is a `leave`; for any number of threads at the same time.
    pub(crate) fn post(&self, address: usize, access: Option<Access>, leave: Option<&dyn Fn() -> bool>) -> bool {
        let word = self.posted.fetch_add(1, Ordering::Relaxed) as usize % sync::WORDS;
        let (next, number, answer) = (Cell::new(ptr::null()), Cell::new(0), AtomicU32::new(WAITS));
        let posted = Posted { next, number, address, access, word, answer };
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

    /// Takes a request of this thread out of wherever it is, unless it has been answered, or somebody else is at the desk.
    fn withdraw(&self, posted: &Posted) -> bool {
        let Some(mut desk) = self.desk.try_lock() else { return false };
        let last = self.last.load(Ordering::Relaxed);
        if last != closed() && !last.is_null() {
            // Only `close` closes it, at the desk.
            let all = Chain(self.last.swap(ptr::null_mut(), Ordering::Acquire));
            desk.next.append(all.reversed());
        }
        let papers = &mut *desk;
        // If it is in neither, it was answered.
        [&mut papers.next, &mut papers.taken]
            .into_iter()
            .any(|chain| chain.remove(|other| ptr::eq(other, posted)).is_some())
    }

    /// The oldest request that nobody has taken. To be called until there is none; then [`fd`](Self::fd) can be polled for
    /// the next one.
    pub(crate) fn take(&self) -> Option<Request<'_>> {
        let mut desk = self.desk.lock();
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
        let (address, access) = unsafe {
            let posted = posted.as_ref();
            posted.number.set(number);
            (posted.address, posted.access)
        };
        // SAFETY: it was popped.
        unsafe { desk.taken.push(posted) };
        Some(Request { address, access, mailbox: self, number })
    }

    /// Answers no to everybody who waits, from now on also at once.
    pub(crate) fn close(&self) {
        let mut desk = self.desk.lock();
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
}

impl Request<'_> {
    /// Whether the access is to be repeated; otherwise it has failed. Nobody hears it if the mailbox has been closed, or the thread
    /// has left.
    pub(crate) fn answer(self, served: bool) {
        self.give(if served { YES } else { NO });
    }

    fn give(&self, answer: u32) {
        let mut desk = self.mailbox.desk.lock();
        if let Some(posted) = desk.taken.remove(|posted| posted.number.get() == self.number) {
            // SAFETY: it was removed.
            unsafe { self.mailbox.answer(posted, answer) };
        }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        // It is not there, if it was answered or withdrawn.
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

    /// Puts others behind.
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

    /// Takes out the one that `is_it`; the others keep their order.
    fn remove(&mut self, is_it: impl Fn(&Posted) -> bool) -> Option<NonNull<Posted>> {
        let (mut others, mut found) = (Chain(ptr::null()), None);
        while let Some(posted) = self.pop() {
            // SAFETY: invariants 1 and 2 of `Posted`: it was in this list, and is not answered.
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
