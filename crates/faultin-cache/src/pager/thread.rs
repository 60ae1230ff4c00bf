//! The threads that resolve faults where the faulting thread cannot: faults that wait in the kernel (a userfaultfd's
//! messages), and those that a signal handler hands over.
//!
//! A file that is mapped has one such thread, and up to eight more while its store is slow (`turns.rs`): faults
//! of pages that are in memory do not wait for it.
//!
//! A thread waits for the file's lock, whose holder may fault with the next message: a copy under the lock, which has to
//! come back short. So another thread, the *porter*, which waits for no inode lock, reads the messages: it rejects those of
//! threads that hold a lock, and passes the others on.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::thread;

use faultin::{Access, CallError};
use rustix::event::{PollFd, PollFlags, poll};

use super::inside::map::{Map, count};
use super::inside::mode::Mode;
use super::inside::uffd::Message;
use super::post::{PagerThread, Post};
use super::serve::Effort;
use super::server;
use super::turns::Turn;
use super::waiting::{PageFault, Waits};
use crate::inode::Inode;
use crate::lock;
use crate::signals::without_signals;

/// Starts the first of a file's pager threads, and its porter.
///
/// # Errors
/// The kernel's error.
pub(super) fn start(inode: &Arc<Inode>) -> io::Result<PagerThread> {
    let post = Arc::new(Post::new()?);
    // From here on, started threads end if the rest fails.
    let started = PagerThread { post, process: faultin::process() };
    started.post.add_thread();
    let named = |error| CallError::name("clone3", error);
    start_thread(&started.post, &Arc::downgrade(inode), inode.number()).map_err(named)?;
    let post = Arc::clone(&started.post);
    let porter = thread::Builder::new().name(format!("porter {}", inode.number()));
    without_signals(|| porter.spawn(move || carry(&post))).map_err(named)?;
    Ok(started)
}

fn start_thread(post: &Arc<Post>, inode: &Weak<Inode>, number: u64) -> io::Result<()> {
    let (post, inode) = (Arc::clone(post), Weak::clone(inode));
    let builder = thread::Builder::new().name(format!("pager {number}"));
    without_signals(|| builder.spawn(move || run(&post, &inode))).map(drop)
}

fn run(post: &Arc<Post>, inode: &Weak<Inode>) {
    while let Some(turn) = post.next_turn() {
        match turn {
            Turn::Lead => lead(post, inode),
            Turn::Fetch(block) => {
                let Some(inode) = inode.upgrade() else { return };
                fetch(&inode, block, post);
            }
        }
    }
}

/// Resolves faults, until one takes the store: then another thread leads, and this one calls the store.
fn lead(post: &Arc<Post>, weak: &Weak<Inode>) {
    let mut message_first = false;
    loop {
        {
            let Some(inode) = weak.upgrade() else { return };
            // Also what another thread has left that has led before.
            while let Some(fault) = next_fault(post, message_first) {
                message_first = !message_first;
                let PageFault { map, page, access, .. } = &fault;
                let is_wanted = || post.is_wanted(None, &fault);
                if let Some(served) = server::serve(&inode, map, *page, *access, Effort::InMemory(&is_wanted)) {
                    end(fault, served, post);
                    continue;
                }
                let block = inode.geometry().block_down(map.pos(*page));
                if post.enter(block, fault, || start_thread(post, weak, inode.number()).is_ok()) {
                    return fetch(&inode, block, post);
                }
            }
        }
        if post.mailbox.is_closed() {
            return;
        }
        // An interruption counts as an event.
        let _ = poll(&mut [PollFd::from_borrowed_fd(post.mailbox.fd(), PollFlags::IN)], None);
    }
}

/// Takes the next fault: of those that handlers have handed over and of those that wait in the kernel, in turns.
fn next_fault(post: &Post, message_first: bool) -> Option<PageFault> {
    let first = if message_first { next_message(post) } else { None };
    // In this order: a message is there before its ring, which taking a request silences.
    first.or_else(|| next_request(post)).or_else(|| next_message(post))
}

fn next_request(post: &Post) -> Option<PageFault> {
    loop {
        let request = post.mailbox.take()?;
        let (address, access) = (request.address, request.access);
        let found = post.maps.lock().iter().find_map(|map| Some((Arc::clone(map), map.page_at(address)?)));
        match found {
            Some((map, page)) => return Some(PageFault { map, page, access, waits: Waits::InHandler(request.keep()) }),
            None => request.answer(false),
        }
    }
}

fn next_message(post: &Post) -> Option<PageFault> {
    loop {
        let (map, message) = post.waiting.lock().next_message()?;
        if let Some(page) = map.page_at(message.address) {
            let access = Some(if message.is_store { Access::Write } else { Access::Read });
            return Some(PageFault { map, page, access, waits: Waits::InKernel(message) });
        }
    }
}

/// Resolves the faults of a block, of which the first one takes the store.
fn fetch(inode: &Inode, block: u64, post: &Post) {
    while let Some(fault) = post.next_fault(block) {
        // Each has its own attempt: a thread that has left has another one when it comes back.
        if !post.has_waiter(&fault) {
            continue;
        }
        let is_wanted = || post.is_wanted(Some(block), &fault);
        let served = server::serve(inode, &fault.map, fault.page, fault.access, Effort::Store(&is_wanted));
        end(fault, served.unwrap_or(false), post);
    }
}

/// Lets the thread continue that had a fault: with the page, or without.
fn end(fault: PageFault, served: bool, post: &Post) {
    let PageFault { map, page, waits, .. } = fault;
    count(if served { &map.counts.by_thread } else { &map.counts.rejected });
    match waits {
        Waits::InHandler(ticket) => {
            if !served && map.mode() == Mode::Thread {
                poison(&map, page, post);
            }
            post.mailbox.answer_to(ticket, served);
        }
        Waits::InKernel(_) if served => {
            post.forget(&map, page);
            map.wake(page);
        }
        Waits::InKernel(_) => poison(&map, page, post),
    }
}

/// Runs the porter.
fn carry(post: &Post) {
    loop {
        // In this order: closing the mailbox rings afterwards.
        post.bell.silence();
        if post.mailbox.is_closed() {
            return;
        }
        let mut waiting = post.maps.lock().clone();
        waiting.retain(|map| map.mode() == Mode::Thread);
        {
            let uffds = waiting.iter().filter_map(|map| map.uffd()).map(AsFd::as_fd);
            let fds = std::iter::once(post.bell.as_fd()).chain(uffds);
            let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            let _ = poll(&mut fds, None);
        }
        for map in waiting {
            while let Some(message) = next(post, &map) {
                turn_away(&map, message, post);
            }
        }
    }
}

/// Passes the messages of a mapping on, until there are no more, or one has to be rejected: a thread that holds a lock
/// which is needed here would wait forever. A copy comes back short instead, and the page is resolved when the lock is
/// free.
fn next(post: &Post, map: &Arc<Map>) -> Option<Message> {
    let uffd = map.uffd()?;
    loop {
        // Before the kernel is asked: code that is about to wake a thread must find its message among the others.
        let mut waiting = post.waiting.lock();
        let message = uffd.next()?;
        if lock::held_by(message.thread) {
            return Some(message);
        }
        waiting.messages.push_back((Arc::clone(map), message));
        drop(waiting);
        post.mailbox.ring();
    }
}

fn turn_away(map: &Map, message: Message, post: &Post) {
    let Some(page) = map.page_at(message.address) else { return };
    count(&map.counts.rejected);
    poison(map, page, post);
}

/// Makes accesses to a page fail, also of threads that wait for it.
fn poison(map: &Map, page: usize, post: &Post) {
    post.forget(map, page);
    map.poison(page);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::sync;

    /// The only ring that announces it is silenced.
    #[test]
    fn a_porter_ends_that_is_about_to_silence_the_bell_while_its_mailbox_is_closed() {
        let post = Arc::new(Post::new().unwrap());
        let (ends, ended) = mpsc::channel();
        thread::spawn(move || {
            let closed = Arc::clone(&post);
            let close = move || {
                closed.mailbox.close();
                closed.bell.ring();
            };
            sync::BEFORE_SILENCE.set(Some(Box::new(close)));
            carry(&post);
            ends.send(()).unwrap();
        });
        ended.recv_timeout(Duration::from_secs(60)).expect("the porter waits for ever");
    }
}
