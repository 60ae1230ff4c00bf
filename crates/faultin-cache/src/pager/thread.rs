//! The thread that resolves faults where the faulting thread cannot: faults that wait in the kernel (a userfaultfd's
//! messages), and those that a signal handler hands over.
//!
//! A file that is mapped has one such thread; a store that hangs blocks the faults of its own file only.
//!
//! The thread waits for the file's lock, whose holder may fault with the next message: a copy under the lock, which has to
//! come back short. So another thread, the *porter*, which waits for no inode lock, reads the messages: it rejects those of
//! threads that hold a lock, and passes the others on.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, Weak};
use std::thread;

use faultin::{Access, CallError};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};

use super::Mode;
use super::mailbox::{Mailbox, Request};
use super::map::Map;
use super::server;
use super::signal::{self, Blocked};
use super::uffd::Message;
use crate::error::Error;
use crate::inode::Inode;
use crate::lock;
use crate::sync::Bell;

/// The state that a file's pager thread, its porter and its mappings share.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) mailbox: Mailbox,
    /// Messages of waiting threads that the porter passes on. Code that is about to [wake](Map::wake) such a thread removes
    /// its message first.
    messages: Mutex<VecDeque<(Arc<Map>, Message)>>,
    /// Wakes the porter, when mappings are added or dropped, or the mailbox is closed.
    bell: Bell,
    /// The mappings.
    maps: Mutex<Vec<Arc<Map>>>,
}

impl Post {
    /// # Errors
    /// The kernel's error, for lack of descriptors.
    fn new() -> io::Result<Post> {
        Ok(Post {
            mailbox: Mailbox::new()?,
            messages: Mutex::new(VecDeque::new()),
            bell: Bell::new()?,
            maps: Mutex::new(Vec::new()),
        })
    }

    /// Removes the messages of threads that wait for a page, before they are woken. A thread that still lacks something
    /// faults again. A message that stayed would be handled when no thread waits any more: a page would be writable, and
    /// dirty, after its stores were written back.
    fn forget(&self, map: &Map, page: usize) {
        let is_about =
            |other: &Map, message: &Message| ptr::eq(other, map) && other.page_at(message.address) == Some(page);
        self.messages.lock().retain(|(other, message)| !is_about(other, message));
    }
}

/// The pager's thread, until it is dropped.
#[derive(Debug)]
pub(crate) struct PagerThread {
    pub(super) post: Arc<Post>,
    /// The process that has the threads.
    process: u32,
}

impl PagerThread {
    /// # Errors
    /// The kernel's error.
    pub(super) fn start(inode: &Arc<Inode>) -> io::Result<PagerThread> {
        let post = Arc::new(Post::new()?);
        // From here on, started threads end if the rest fails.
        let started = PagerThread { post, process: faultin::process() };
        let (post, weak) = (Arc::clone(&started.post), Arc::downgrade(inode));
        let name = |what| thread::Builder::new().name(format!("{what} {}", inode.number));
        let named = |error| CallError::name("clone3", error);
        signal::without_signals(|| name("pager").spawn(move || run(&post, &weak))).map_err(named)?;
        let post = Arc::clone(&started.post);
        signal::without_signals(|| name("porter").spawn(move || carry(&post))).map_err(named)?;
        Ok(started)
    }

    pub(super) fn add(&self, map: &Arc<Map>) {
        // As in `remove`.
        let _blocked = Blocked::all();
        self.post.maps.lock().push(Arc::clone(map));
        self.post.bell.ring();
    }

    pub(super) fn remove(&self, map: &Arc<Map>) {
        // A handler whose copy faults would wait for the porter, which would wait for these locks.
        let _blocked = Blocked::all();
        self.post.maps.lock().retain(|other| !Arc::ptr_eq(other, map));
        self.post.messages.lock().retain(|(other, _)| !Arc::ptr_eq(other, map));
        self.post.bell.ring();
    }
}

impl Drop for PagerThread {
    fn drop(&mut self) {
        // A child of `fork` shares the bells with its parent, and may have copies of locks that are held.
        if self.process == faultin::process() {
            self.post.mailbox.close();
            self.post.bell.ring();
        }
    }
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
    server::count(&map.counts.rejected);
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
        server::count(count);
        served
    });
    request.answer(served);
}

/// Resolves a fault that waits in the kernel.
fn serve_message(inode: &Inode, map: &Map, message: Message, post: &Post) {
    let Some(page) = map.page_at(message.address) else { return };
    let access = if message.is_store { Access::Write } else { Access::Read };
    if caught(|| server::serve(inode, map, page, Some(access))) {
        server::count(&map.counts.by_thread);
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
