//! The thread that serves faults where the thread that faults cannot: those that wait in the kernel (a userfaultfd's messages), and
//! those that a signal handler hands over.
//!
//! A file that is mapped has one; a store that hangs keeps the faults of its own file waiting, and no others.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;

use faultin::Access;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};

use super::Mode;
use super::mailbox::{Mailbox, Request};
use super::map::Map;
use super::server;
use super::uffd::Message;
use crate::error::Error;
use crate::inode::Inode;
use crate::lock;

/// What a file's pager thread and its mappings share.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) mailbox: Mailbox,
    /// The mappings, while there are any.
    maps: Mutex<Vec<Arc<Map>>>,
}

/// The thread, until it is dropped.
#[derive(Debug)]
pub(crate) struct PagerThread {
    pub(super) post: Arc<Post>,
}

impl PagerThread {
    /// # Errors
    /// The kernel's.
    pub(super) fn start(inode: &Arc<Inode>) -> io::Result<PagerThread> {
        let post = Arc::new(Post { mailbox: Mailbox::new()?, maps: Mutex::new(Vec::new()) });
        let (thread_post, weak) = (Arc::clone(&post), Arc::downgrade(inode));
        let name = format!("pager {}", inode.number);
        thread::Builder::new().name(name).spawn(move || run(&thread_post, &weak))?;
        Ok(PagerThread { post })
    }

    pub(super) fn add(&self, map: &Arc<Map>) {
        self.post.maps.lock().push(Arc::clone(map));
        self.post.mailbox.ring();
    }

    pub(super) fn remove(&self, map: &Arc<Map>) {
        self.post.maps.lock().retain(|other| !Arc::ptr_eq(other, map));
        self.post.mailbox.ring();
    }
}

impl Drop for PagerThread {
    fn drop(&mut self) {
        self.post.mailbox.close();
    }
}

fn run(post: &Post, inode: &Weak<Inode>) {
    while !post.mailbox.is_closed() {
        let maps = post.maps.lock().clone();
        let waiting: Vec<_> = maps.iter().filter(|map| map.mode() == Mode::Thread).collect();
        {
            let mut fds = vec![PollFd::from_borrowed_fd(post.mailbox.fd(), PollFlags::IN)];
            fds.extend(
                waiting
                    .iter()
                    .filter_map(|map| map.uffd())
                    .map(|uffd| PollFd::from_borrowed_fd(uffd.as_fd(), PollFlags::IN)),
            );
            // An interruption is as good as an event.
            let _ = poll(&mut fds, None);
        }
        let Some(inode) = inode.upgrade() else { return };
        while let Some(request) = post.mailbox.take() {
            serve_request(&inode, &maps, request, post);
        }
        for map in waiting {
            while let Some(message) = map.uffd().and_then(|uffd| uffd.next()) {
                serve_message(&inode, map, message);
            }
        }
    }
}

/// A fault that a signal handler has handed over.
fn serve_request(inode: &Inode, maps: &[Arc<Map>], request: Request, post: &Post) {
    let (address, access) = (request.address, request.access);
    debug_assert!(!lock::held_by(request.thread), "its handler has looked");
    let of = |maps: &[Arc<Map>]| maps.iter().find_map(|map| Some((Arc::clone(map), map.page_at(address)?)));
    // One that was made since has none but itself in the list.
    let found = of(maps).or_else(|| of(&post.maps.lock()));
    let served = found.is_some_and(|(map, page)| {
        let served = caught(|| server::serve(inode, &map, page, access));
        if !served && map.mode() == Mode::Thread {
            map.poison(page);
        }
        let count = if served { &map.counts.by_thread } else { &map.counts.refused };
        server::count(count);
        served
    });
    request.answer(served);
}

/// A fault that waits in the kernel.
fn serve_message(inode: &Inode, map: &Map, message: Message) {
    let Some(page) = map.page_at(message.address) else { return };
    let access = if message.is_store { Access::Write } else { Access::Read };
    // Who has a lock that is needed here would wait for ever. A copy of ours comes back short instead, and the page is
    // served when the lock is free.
    let served =
        if lock::held_by(message.thread) { false } else { caught(|| server::serve(inode, map, page, Some(access))) };
    if served {
        server::count(&map.counts.by_thread);
        map.wake(page);
    } else {
        server::count(&map.counts.refused);
        map.poison(page);
    }
}

/// Whether it was served, and did not panic: a store is somebody else's code.
fn caught(serve: impl FnOnce() -> Result<(), Error>) -> bool {
    catch_unwind(AssertUnwindSafe(serve)).is_ok_and(|result| result.is_ok())
}
