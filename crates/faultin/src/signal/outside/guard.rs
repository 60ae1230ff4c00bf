//! The guard of a mapping, as its owner uses it: registration, the begin and the end of a scan, the damage.

use core::ffi::c_int;
use core::ops::Range;
use core::sync::atomic::{Ordering, fence};

use crate::arch;
use crate::backoff::wait_until;
use crate::events::FilePosition;
use crate::signal::inside::events::Events;
use crate::signal::inside::guard::{Guard, Record};
use crate::signal::inside::registered::Registered;
use crate::signal::inside::registry::own;
use crate::signal::inside::slots::Slot;

impl Guard {
    /// Registers a new mapping of a file with pages of this size, with no scan. `offset` is that of the mapping in the
    /// file.
    pub(crate) fn take(start: usize, len: usize, page: usize, offset: u64) -> &'static Slot<Guard> {
        let registry = own();
        let guard = registry.guards.take(registry.process.number());
        guard.start.store(start, Ordering::Relaxed);
        guard.len.store(len, Ordering::Relaxed);
        guard.offset.store(offset, Ordering::Relaxed);
        guard.page.store(page, Ordering::Relaxed);
        guard.inode.store(0, Ordering::Relaxed);
        guard.since.store(registry.events.count(), Ordering::Relaxed);
        guard.clear();
        // After what it has of this registration: a thread that reads it sees another version before and after.
        guard.version.store(guard.version.load(Ordering::Relaxed) + 1, Ordering::Release);
        registry.register(&guard.range(), Registered::Guard(guard));
        guard
    }

    /// Ends [`take`](Self::take), while the mapping is still mapped. No scan reads it.
    pub(crate) fn give_back(guard: &'static Slot<Guard>) {
        let registry = own();
        guard.attribute(registry.events);
        registry.unregister(&guard.range(), Registered::Guard(guard));
        guard.version.store(guard.version.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        // Before what the next registration stores.
        fence(Ordering::Release);
        if guard.epoch.is_damaged() {
            guard.healed();
        }
        registry.guards.give_back(guard);
    }

    /// Sets the file of the mapping, for the events of faults in it.
    pub(crate) fn identify(&self, device: u64, inode: u64) {
        self.device.store(device, Ordering::Relaxed);
        self.inode.store(inode, Ordering::Release);
    }

    /// Returns the device and the inode of the file, if they are known.
    pub(crate) fn file_id(&self) -> Option<(u64, u64)> {
        let inode = self.inode.load(Ordering::Acquire);
        (inode != 0).then(|| (self.device.load(Ordering::Relaxed), inode))
    }

    /// Returns the position in the file of an `address`, if this mapping had it when the event with this number was recorded.
    /// The guard may be dropped or used again meanwhile. Not called in a signal.
    pub(crate) fn position(&self, address: usize, event: u64) -> Option<FilePosition> {
        let version = self.version.load(Ordering::Acquire);
        let at = address.wrapping_sub(self.start.load(Ordering::Relaxed));
        let is_ours = at < self.len.load(Ordering::Relaxed) && event >= self.since.load(Ordering::Relaxed);
        let file = self.file_id().filter(|_| version & 1 == 1 && is_ours);
        let offset = self.offset.load(Ordering::Relaxed).wrapping_add(at as u64);
        // What was read before the version.
        fence(Ordering::Acquire);
        let (device, inode) = file.filter(|_| self.version.load(Ordering::Relaxed) == version)?;
        Some(FilePosition { device, inode, offset })
    }

    /// Keeps the positions of its events, before its addresses may be used for something else.
    fn attribute(&self, events: &Events) {
        if events.count() == self.since.load(Ordering::Relaxed) {
            return;
        }
        for event in events.recorded() {
            if let Some(position) = self.position(arch::untag(event.address), event.ticket) {
                events.attribute(event.ticket, position);
            }
        }
    }

    /// Resolves faults from here on, if the mappings that the handler may need could be set aside; returns whether they
    /// could. `file` is the mapping's, and stays open.
    pub(crate) fn begin(&self, file: c_int) -> bool {
        if !own().reserve.enter() {
            return false;
        }
        self.file.store(file, Ordering::Relaxed);
        self.wants.store(0, Ordering::Relaxed);
        self.process.store(own().process.number(), Ordering::Relaxed);
        self.handlers.open();
        true
    }

    /// Resolves no faults from here on; no handler uses the guard afterwards.
    pub(crate) fn end(&self) {
        self.handlers.retire();
        wait_until(|| {
            if self.process.load(Ordering::Relaxed) != own().process.number() {
                // They were the parent's.
                self.handlers.forget_parents_users();
                return true;
            }
            self.handlers.claim()
        });
        own().reserve.leave();
    }

    /// Returns whether the kernel lets the handler substitute, as far as can be determined beforehand. After
    /// [`begin`](Self::begin).
    pub(crate) fn may_substitute(&self) -> bool {
        own().reserve.may_substitute()
    }

    /// Makes room for a few more mappings by unmapping what is set aside for handlers. Returns whether there was something.
    pub(crate) fn give_up_reserve(&self) -> bool {
        own().reserve.give_up_one()
    }

    /// Returns the substituted ranges: bytes of the mapping, in the order of substitution.
    pub(crate) fn damage(&self) -> Vec<Range<usize>> {
        let range = |record: &Record| record.from.load(Ordering::SeqCst)..record.to.load(Ordering::SeqCst);
        self.records.iter().map(range).filter(|range| !range.is_empty()).collect()
    }

    /// Returns the lowest end of the file that was seen, in bytes of the mapping.
    pub(crate) fn cut_to(&self) -> Option<u64> {
        Some(self.cut_to.load(Ordering::SeqCst)).filter(|end| *end != u64::MAX)
    }

    /// Records that the file is mapped again everywhere. No handler uses the guard.
    pub(crate) fn healed(&self) {
        self.clear();
        self.epoch.heal();
    }

    fn clear(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.blocks.store(0, Ordering::Relaxed);
        self.cut_to.store(u64::MAX, Ordering::Relaxed);
        for record in &self.records {
            record.from.store(usize::MAX, Ordering::Relaxed);
            record.to.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(faultin_syscall)))]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_scan_waits_for_a_handler_of_a_lower_priority() {
        let guard = own().guards.take(own().process.number());
        assert!(guard.begin(-1));
        let handler = |start: &dyn Fn()| {
            assert!(guard.handlers.enter());
            start();
            assert!(guard.handlers.leave());
        };
        crate::backoff::tests::waits_for_a_lower_priority(handler, || guard.end());
    }
}
