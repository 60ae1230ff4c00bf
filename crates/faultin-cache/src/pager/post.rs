//! What the pager's threads, their porter and the mappings of a file share.

#![forbid(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::inside::mailbox::Mailbox;
use super::inside::map::Map;
use super::waiting::Waiting;
use crate::inside::sys::Blocked;
use crate::sync::Bell;

/// The state that a file's pager threads, its porter and its mappings share.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) mailbox: Mailbox,
    /// Messages of waiting threads that the porter passes on, and all that takes the store. Code that is about to
    /// [wake](Map::wake) such a thread removes its message first.
    pub(super) waiting: Mutex<Waiting>,
    /// Wakes idle pager threads.
    pub(super) more: Condvar,
    /// Wakes the porter, when mappings are added or dropped, or the mailbox is closed.
    pub(super) bell: Bell,
    /// The mappings.
    pub(super) maps: Mutex<Vec<Arc<Map>>>,
}

impl Post {
    /// # Errors
    /// The kernel's error, for lack of descriptors.
    pub(super) fn new() -> io::Result<Post> {
        Ok(Post {
            mailbox: Mailbox::new()?,
            waiting: Mutex::new(Waiting::default()),
            more: Condvar::new(),
            bell: Bell::new()?,
            maps: Mutex::new(Vec::new()),
        })
    }

    /// Removes the messages of threads that wait for a page, before they are woken. A thread that still lacks something
    /// faults again. A message that stayed would be handled when no thread waits any more: a page would be writable, and
    /// dirty, after its stores were written back.
    pub(super) fn forget(&self, map: &Map, page: usize) {
        self.waiting.lock().forget(|other, address| ptr::eq(other, map) && other.page_at(address) == Some(page));
    }
}

/// The pager's threads, until it is dropped.
#[derive(Debug)]
pub(crate) struct PagerThread {
    pub(super) post: Arc<Post>,
    /// The process that has the threads.
    pub(super) process: u32,
}

impl PagerThread {
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
        self.post.waiting.lock().forget(|other, _| ptr::eq(other, &**map));
        self.post.bell.ring();
    }
}

impl Drop for PagerThread {
    fn drop(&mut self) {
        // A child of `fork` shares the bells with its parent, and may have copies of locks that are held.
        if self.process == faultin::process() {
            self.post.mailbox.close();
            self.post.bell.ring();
            // One that misses it ends a little later.
            self.post.more.notify_all();
        }
    }
}
