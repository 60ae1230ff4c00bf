//! Faults of others' instructions, served in the signal handler of the thread that faults.
//!
//! Atomic operations and system calls without `errno`, and nothing else: no allocation, no lock that is waited for, no thread-local,
//! no code of a store's. What needs more (a lock that somebody has, memory that must be made, a store that is no file) is
//! handed over to the pager's thread, and waited for. So is what the thread's signal stack has no room for.

use std::io;

use faultin::Access;
use faultin::pager::Interrupted;
use std::os::fd::AsFd;

use super::Mode;
use super::bug::{self, Bug};
use super::map::Map;
use super::mapped::Source;
use super::serve::Wanted;
use super::server::{Server, count};
use super::step::{Step, step};
use crate::folio::backing::Extent;
use crate::folio::memory::Memory;
use crate::folio::{Folio, Table};
use crate::inode::Inode;
use crate::store::Length;
use crate::{lock, sys};

/// Blocks of a folio that is filled here, at most: what is known of more is in memory that would have to be allocated.
const MOST_BLOCKS: usize = 64;

/// Bytes of the signal stack that serving a fault here takes, without any optimization (3,200; 900 with), and that handing it over
/// does (1,900; 500). `tests/pager/signals.rs` holds them to it.
const SERVING: usize = 4096;
const HANDING_OVER: usize = 2560;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Served,
    /// It is not for us to serve.
    Refused,
    /// Somebody else has to.
    HandOver,
}

/// Serves a fault, or has it served: whether the instruction is to be repeated.
pub(super) fn serve(
    server: &Server,
    page: usize,
    address: usize,
    access: Option<Access>,
    interrupted: &Interrupted,
) -> bool {
    // In a child of `fork`, where something else is now.
    if !server.inode.cache.is_ours() {
        return false;
    }
    if interrupted.room < HANDING_OVER {
        count(&server.map.counts.refused);
        return false;
    }
    // Our own handler blocks what can wait, but not each host's does, and a signal may be sent that ours leaves open. A handler that
    // interrupts this one could fault as well: it would find the lock taken by its own thread, or, while this one waits, put one frame
    // after the other on a small stack. So all signals wait until there is an answer; nothing in between unblocks one.
    let _blocked = Blocked::all();
    let thread = sys::gettid();
    let came = match server.map.mode() {
        Mode::Signal | Mode::Mprotect if interrupted.room >= SERVING => {
            server.inode.serve_at_once(&server.map, page, access)
        }
        _ => Came::HandOver,
    };
    let counts = &server.map.counts;
    match came {
        Came::Served => {
            server.map.keep(page);
            count(&counts.in_signal);
            true
        }
        Came::Refused => {
            count(&counts.refused);
            false
        }
        // Whoever has a lock would wait for itself.
        Came::HandOver if lock::held_by(thread) => {
            count(&counts.refused);
            false
        }
        // A store that hangs, and signals that end the program or ask it something: the access faults again after them.
        Came::HandOver => {
            let is_wanted = || sys::pending() & !interrupted.blocked != 0;
            server.post.mailbox.post(address, access, Some(&is_wanted))
        }
    }
}

impl Inode {
    /// Serves a fault, if that can be done without waiting for anybody.
    #[inline(never)]
    pub(super) fn serve_at_once(&self, map: &Map, page: usize, access: Option<Access>) -> Came {
        let Some(mut table) = self.table.try_in_signal() else { return Came::HandOver };
        let Ok(wanted) = Wanted::by(map, page, access) else { return Came::Refused };
        let pos = map.pos(page);
        if pos >= table.size {
            return Came::Refused;
        }
        let window = map.window(page);
        if !self.is_in(&table, pos) && !self.fill_in_signal(&mut table, map, page, window) {
            return Came::HandOver;
        }
        if wanted.write && self.how.reserve {
            return Came::HandOver;
        }
        match self.place(&mut table, map, wanted, window) {
            Ok(changed) if map.is_stuck(changed) => Came::Refused,
            Ok(_) => Came::Served,
            Err(_) => Came::HandOver,
        }
    }

    /// Whether the block at `pos` is in memory that mappings show, and up to date.
    fn is_in(&self, table: &Table, pos: u64) -> bool {
        let folio = table.find(pos).map(|key| table.get(key));
        folio.is_some_and(|folio| folio.is_shared() && folio.is_uptodate(pos..pos + 1))
    }

    /// Reads what is missing from the store, if that is a file, and there is room for it.
    fn fill_in_signal(&self, table: &mut Table, map: &Map, page: usize, window: usize) -> bool {
        if table.mapped.as_ref().is_none_or(|mapped| mapped.source.is_none()) {
            return false;
        }
        let pos = map.pos(page);
        // Of what is there in part, the rest is for others.
        let is_there = table.find(pos).is_some() && !bug::has(Bug::FillsWhatIsThere);
        if is_there || !table.is_ready_for(pos) {
            return false;
        }
        let block = self.geometry.block;
        let start = self.geometry.block_down(pos);
        let end = self.geometry.block_up(table.size).min(self.geometry.block_up(map.pos(page + window)));
        let len = table.room(start, end - start).min(MOST_BLOCKS * block);
        let Some(account) = self.cache.take(len) else { return false };
        let Some(mapped) = table.mapped.as_deref_mut() else { return false };
        let Some(source) = &mapped.source else { return false };
        // It goes again, with what was written of it, if this does not come to its end.
        let extent = Extent::new(&mapped.backing, start, account);
        let mut at = 0;
        while at < len {
            let some = (len - at).min(extent.at_once());
            let bytes = mapped.scratch.bytes_mut(some);
            let from = start + at as u64;
            if !read(source, &self.store_len, bytes, from) {
                if !bug::has(Bug::FailureIsZeros) {
                    return false;
                }
                bytes.fill(0);
            }
            step(Step::Answered { pos: from, len: some });
            if extent.backing.write(bytes, from).is_err() {
                return false;
            }
            at += some;
        }
        let mut folio = Folio::new(Memory::Extent(extent), start, block);
        folio.set_uptodate(start..start + len as u64);
        table.insert(folio);
        true
    }
}

/// Reads all of `bytes`; zeros behind the store's `length`. Returns whether it could: a failure, an end before the length, and a
/// count within a unit are for code that may ask the store.
fn read(source: &Source, length: &Length, bytes: &mut [u8], pos: u64) -> bool {
    #[cfg(test)]
    if source.is_down.load(std::sync::atomic::Ordering::Relaxed) {
        return false;
    }
    let most = length.most();
    let end = usize::try_from(most.saturating_sub(pos)).unwrap_or(usize::MAX).min(bytes.len());
    let mut done = 0;
    while done < end {
        match sys::pread(source.file.as_fd(), &mut bytes[done..], pos + done as u64) {
            Ok(more) if pos + (done + more) as u64 >= most => break,
            Ok(more) if more >= source.unit => done += more / source.unit * source.unit,
            // An interruption, too: no signal can be the reason here.
            Ok(_) | Err(_) => return false,
        }
    }
    bytes[end..].fill(0);
    true
}

/// All signals are blocked, until this is dropped.
pub(super) struct Blocked {
    before: u64,
}

impl Blocked {
    pub(super) fn all() -> Blocked {
        Blocked { before: sys::set_mask(u64::MAX) }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        sys::set_mask(self.before);
    }
}

/// Starts a thread that signals of the process do not go to: a handler there could fault, and wait for the very thread it
/// interrupts.
pub(super) fn without_signals<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    // The C library's own signals stay open: it waits until every thread has had them.
    let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];
    let open = faults.into_iter().chain(32..libc::SIGRTMIN()).fold(0, |open, signal| open | 1_u64 << (signal - 1));
    let blocked = Blocked::all();
    sys::set_mask(blocked.before | !open);
    let started = start();
    drop(blocked);
    started
}
