//! Faults of foreign instructions, resolved in the signal handler of the thread that faults.
//!
//! Atomic operations and system calls without `errno`, and nothing else: no allocation, no waiting for a lock, no
//! thread-local, no code of a store. Everything that needs more (a lock that another thread holds, memory that must be
//! allocated, a store that is not a file) is handed over to the pager's thread, and waited for. So is a fault for which the
//! thread's signal stack has no room.

use std::os::fd::AsFd;
use std::sync::Arc;

use faultin::Access;
use faultin::pager::SignalContext;

use super::mailbox::Mailbox;
use super::map::{Map, count};
use super::mapped::Source;
use super::mode::Mode;
use super::place::PageRequest;
use super::step::{Step, step};
use crate::folio::{Extent, Folio, Memory, Table};
use crate::inside::core::Core;
use crate::inside::sys::Blocked;
use crate::pager::bug::{self, Bug};
use crate::store::Length;
use crate::{lock, sys};

/// Maximum number of blocks of a folio that is filled here: the state of more is in memory that would have to be allocated.
const MAX_BLOCKS: usize = 64;

/// Size in bytes of the signal stack that resolving a fault here takes, without optimization (3,200; 900 with), and that
/// handing it over does (1,900; 500). `tests/pager/signals.rs` enforces them.
const SERVING: usize = 4096;
const HANDING_OVER: usize = 2560;

/// The result of an attempt to resolve a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pager) enum Outcome {
    Resolved,
    /// This pager must not resolve it.
    Rejected,
    /// The pager's thread has to resolve it.
    HandOver,
}

/// Resolves a fault, or hands it over: returns whether the instruction may be repeated.
pub(in crate::pager) fn serve(
    core: &Core,
    map: &Map,
    mailbox: &Mailbox,
    page: usize,
    address: usize,
    access: Option<Access>,
    interrupted: &SignalContext,
) -> bool {
    // In a child of `fork`, where another mapping is now.
    if !core.arena().is_ours() {
        return false;
    }
    if interrupted.room < HANDING_OVER {
        count(&map.counts.rejected);
        return false;
    }
    // Our own handler blocks all blockable signals, but a host's may not, and a signal may be sent that ours leaves open. A
    // handler that interrupts this one could fault as well: it would find the lock taken by its own thread, or, while this
    // one waits, put one frame after the other on a small stack. So all signals are blocked until there is a result; no
    // code in between unblocks one.
    let _blocked = Blocked::all();
    let thread = sys::gettid();
    let outcome = match map.mode() {
        Mode::Signal | Mode::Mprotect if interrupted.room >= SERVING => core.serve_at_once(map, page, access),
        _ => Outcome::HandOver,
    };
    let counts = &map.counts;
    match outcome {
        Outcome::Resolved => {
            map.keep(page);
            count(&counts.in_signal);
            true
        }
        Outcome::Rejected => {
            count(&counts.rejected);
            false
        }
        // A thread that holds a lock would wait for itself.
        Outcome::HandOver if lock::held_by(thread) => {
            count(&counts.rejected);
            false
        }
        // A store that hangs, and signals that end or query the program: the access faults again after them.
        Outcome::HandOver => {
            let is_wanted = || sys::pending() & !interrupted.blocked != 0;
            mailbox.post(address, access, Some(&is_wanted))
        }
    }
}

impl Core {
    /// Resolves a fault, if that is possible without waiting.
    #[inline(never)]
    pub(in crate::pager) fn serve_at_once(&self, map: &Map, page: usize, access: Option<Access>) -> Outcome {
        let Some(mut table) = self.table().try_in_signal() else { return Outcome::HandOver };
        let Some(wanted) = PageRequest::by(map, page, access) else { return Outcome::Rejected };
        let pos = map.pos(page);
        if pos >= table.size() {
            return Outcome::Rejected;
        }
        let window = map.window(page);
        if !self.is_in(&table, pos) && !self.fill_in_signal(&mut table, map, page, window) {
            return Outcome::HandOver;
        }
        if wanted.write && self.reserves() {
            return Outcome::HandOver;
        }
        match self.place(&mut table, map, wanted, window) {
            Ok(changed) if map.is_stuck(changed) => Outcome::Rejected,
            Ok(_) => Outcome::Resolved,
            Err(_) => Outcome::HandOver,
        }
    }

    /// Returns whether the block at `pos` is valid, in memory that mappings show.
    fn is_in(&self, table: &Table, pos: u64) -> bool {
        let folio = table.find(pos).map(|key| table.get(key));
        folio.is_some_and(|folio| folio.is_shared() && folio.is_uptodate(pos..pos + 1))
    }

    /// Reads the missing bytes from the store, if that is a file, and there is room for them.
    fn fill_in_signal(&self, table: &mut Table, map: &Map, page: usize, window: usize) -> bool {
        if table.mapped().is_none_or(|mapped| mapped.source.is_none()) {
            return false;
        }
        let pos = map.pos(page);
        // If the folio exists in part, the rest is for the pager's thread.
        let is_there = table.find(pos).is_some() && !bug::has(Bug::FillsWhatIsThere);
        if is_there || !table.is_ready_for(pos) {
            return false;
        }
        let block = self.geometry().block;
        let start = self.geometry().block_down(pos);
        let end = self.geometry().block_up(table.size()).min(self.geometry().block_up(map.pos(page + window)));
        let len = table.room(start, end - start).min(MAX_BLOCKS * block);
        let Some(taken) = self.arena().take_in_signal(len) else { return false };
        let Some(mapped) = table.mapped_mut() else { return false };
        let Some(source) = &mapped.source else { return false };
        // It is freed again, with its contents, unless this succeeds.
        let extent = Extent::new(Arc::clone(&mapped.backing), start, taken);
        let mut at = 0;
        while at < len {
            let some = (len - at).min(extent.at_once());
            let bytes = mapped.scratch.bytes_mut(some);
            let from = start + at as u64;
            if !read(source, self.store_len(), bytes, from) {
                if !bug::has(Bug::FailureIsZeros) {
                    return false;
                }
                bytes.fill(0);
            }
            self.calls().read_in_signal(some);
            step(Step::Answered { pos: from, len: some });
            if extent.backing.write(bytes, from).is_err() {
                return false;
            }
            at += some;
        }
        let mut folio = Folio::new(Memory::Extent(extent), start, block);
        folio.set_uptodate(start..start + len as u64);
        // Otherwise the pager's thread reads it again, and makes room.
        table.insert_in_signal(folio)
    }
}

/// Reads all of `bytes`; zeros past the store's `length`. Returns whether it could: a failure, an end before the length,
/// and a count within a unit are for code that may call the store.
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
            // An interruption, too: it cannot be due to a signal here.
            Ok(_) | Err(_) => return false,
        }
    }
    bytes[end..].fill(0);
    true
}
