//! The thread that resolves faults where the faulting thread cannot: faults that wait in the kernel (a userfaultfd's
//! messages), and those that a signal handler hands over.
//!
//! A file that is mapped has one such thread; a store that hangs blocks the faults of its own file only.
//!
//! The thread waits for the file's lock, whose holder may fault with the next message: a copy under the lock, which has to
//! come back short. So another thread, the *porter*, which waits for no inode lock, reads the messages: it rejects those of
//! threads that hold a lock, and passes the others on.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;

use faultin::{Access, CallError};
use rustix::event::{PollFd, PollFlags, poll};

use super::inside::mailbox::Request;
use super::inside::map::{Map, count};
use super::inside::mode::Mode;
use super::inside::uffd::Message;
use super::post::{PagerThread, Post};
use super::server;
use crate::error::Error;
use crate::inode::Inode;
use crate::inside::sys::Blocked;
use crate::{lock, sys};

/// Starts the pager's thread of a file, and its porter.
///
/// # Errors
/// The kernel's error.
pub(super) fn start(inode: &Arc<Inode>) -> io::Result<PagerThread> {
    let post = Arc::new(Post::new()?);
    // From here on, started threads end if the rest fails.
    let started = PagerThread { post, process: faultin::process() };
    let (post, weak) = (Arc::clone(&started.post), Arc::downgrade(inode));
    let name = |what| thread::Builder::new().name(format!("{what} {}", inode.number));
    let named = |error| CallError::name("clone3", error);
    without_signals(|| name("pager").spawn(move || run(&post, &weak))).map_err(named)?;
    let post = Arc::clone(&started.post);
    without_signals(|| name("porter").spawn(move || carry(&post))).map_err(named)?;
    Ok(started)
}

fn run(post: &Post, inode: &Weak<Inode>) {
    while !post.mailbox.is_closed() {
        // An interruption counts as an event.
        let _ = poll(&mut [PollFd::from_borrowed_fd(post.mailbox.fd(), PollFlags::IN)], None);
        let Some(inode) = inode.upgrade() else { return };
        loop {
            let request = post.mailbox.take();
            let message = post.messages.lock().pop_front();
            if request.is_none() && message.is_none() {
                break;
            }
            if let Some(request) = request {
                serve_request(&inode, request, post);
            }
            if let Some((map, message)) = message {
                serve_message(&inode, &map, message, post);
            }
        }
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
        let mut messages = post.messages.lock();
        let message = uffd.next()?;
        if lock::held_by(message.thread) {
            return Some(message);
        }
        messages.push_back((Arc::clone(map), message));
        drop(messages);
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

/// Resolves a fault that a signal handler has handed over.
fn serve_request(inode: &Inode, request: Request, post: &Post) {
    let (address, access) = (request.address, request.access);
    let found = post.maps.lock().iter().find_map(|map| Some((Arc::clone(map), map.page_at(address)?)));
    let served = found.is_some_and(|(map, page)| {
        let served = caught(|| server::serve(inode, &map, page, access));
        if !served && map.mode() == Mode::Thread {
            poison(&map, page, post);
        }
        let count = if served { &map.counts.by_thread } else { &map.counts.rejected };
        super::inside::map::count(count);
        served
    });
    request.answer(served);
}

/// Resolves a fault that waits in the kernel.
fn serve_message(inode: &Inode, map: &Map, message: Message, post: &Post) {
    let Some(page) = map.page_at(message.address) else { return };
    let access = if message.is_store { Access::Write } else { Access::Read };
    if caught(|| server::serve(inode, map, page, Some(access))) {
        count(&map.counts.by_thread);
        post.forget(map, page);
        map.wake(page);
    } else {
        turn_away(map, message, post);
    }
}

/// Returns whether the fault was resolved, without a panic: a store is foreign code.
fn caught(serve: impl FnOnce() -> Result<(), Error>) -> bool {
    catch_unwind(AssertUnwindSafe(serve)).is_ok_and(|result| result.is_ok())
}

/// Runs something during which no handler of the process's signals runs in this thread: starts a thread, which inherits
/// that, or holds a lock. A handler there could fault, and wait for the very thread that it interrupts.
pub fn without_signals<T>(run: impl FnOnce() -> T) -> T {
    // The C library's own signals stay open: it waits until every thread has had them.
    let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];
    let open = faults.into_iter().chain(32..libc::SIGRTMIN()).fold(0, |open, signal| open | 1_u64 << (signal - 1));
    let blocked = Blocked::all();
    sys::set_mask(blocked.before | !open);
    let result = run();
    drop(blocked);
    result
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
