//! The process-wide [`Registry`]: all that the handler finds. [`registry`](crate::registry) fills it.

use core::ffi::c_int;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::disposition::Disposition;
use super::events::{Counts, EVENTS, Events};
use super::guard::Guard;
use super::handler::{self, GENERATIONS};
use super::pager::Entry;
use super::process::Process;
use super::ranges::Ranges;
use super::reserve::Reserve;
use super::slots::{Slots, Stack};
use crate::arch;
use crate::table::{ABI, Object};

/// Which handler handles the signals.
pub(crate) const MODE_NONE: u32 = 0;
pub(crate) const MODE_OURS: u32 = 1;
pub(crate) const MODE_HOST: u32 = 2;

/// SIGSEGV and SIGBUS.
pub(crate) const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// The process-wide registry, shared by every object with the same [`ABI`]. The fields of a recovery come first, and share
/// a cache line.
#[repr(C, align(64))]
pub(crate) struct Registry {
    pub(crate) abi: u32,
    pub(crate) mode: AtomicU32,
    /// Objects with a table, newest first. Never shrinks.
    pub(crate) objects: AtomicPtr<Object>,
    /// The last faults.
    pub(crate) events: &'static Events,
    /// Numbers of faults.
    pub(crate) counts: Counts,
    /// Number of signals passed on to a predecessor.
    pub(crate) forwarded: AtomicU64,
    /// What is registered, by address: slots of `guards` and `pagers`.
    pub(crate) ranges: Ranges,
    /// Mappings that foreign instructions may read.
    pub(crate) guards: Slots<Guard>,
    /// Ranges with a pager.
    pub(crate) pagers: Slots<Entry>,
    /// Those whose pager has to be freed: a signal handler was the last to leave, after the range was dropped.
    pub(crate) retired_pagers: Stack,
    /// Mappings that handlers can unmap when they need room for others.
    pub(crate) reserve: Reserve,
    /// For each of [`SIGNALS`].
    pub(crate) previous: [Previous; 2],
    /// The handler of the object that contains this registry, by generation.
    pub(crate) entries: [handler::Entry; GENERATIONS],
    /// The [process](Self::process) whose thread changes dispositions, 0 if none does. A child that is forked meanwhile
    /// inherits its parent's number, which it may ignore.
    pub(crate) lock: AtomicU32,
    pub(crate) process: Process,
}

/// The previous action of one signal, by generation of our handler. The first generation is the first installation, or one
/// after the default action was set. Each further generation is above a handler that other code installed above ours, and
/// that we were raised above in turn.
#[repr(C)]
pub(crate) struct Previous {
    pub(crate) before: [Disposition; GENERATIONS],
}

/// The registry that this object offers.
pub(crate) static REGISTRY: Registry = Registry {
    abi: ABI,
    mode: AtomicU32::new(MODE_NONE),
    objects: AtomicPtr::new(core::ptr::null_mut()),
    events: &EVENTS,
    counts: Counts::new(),
    forwarded: AtomicU64::new(0),
    ranges: Ranges::new(),
    guards: Slots::new(),
    pagers: Slots::new(),
    retired_pagers: Stack::new(),
    reserve: Reserve::new(),
    previous: [const { Previous { before: [const { Disposition::new() }; GENERATIONS] } }; 2],
    entries: handler::ENTRIES,
    lock: AtomicU32::new(0),
    process: Process::new(),
};

/// Returns the registry of `object`, if it is in one.
#[inline]
pub(crate) fn of(object: &Object) -> Option<&'static Registry> {
    let registry = object.registry.load(Ordering::Acquire).cast::<Registry>();
    // SAFETY: only `publish` stores it: a registry of our ABI in a pinned object.
    unsafe { registry.as_ref() }
}

/// Returns the registry that this object is in, or the one that it offers.
#[inline]
pub(crate) fn own() -> &'static Registry {
    of(arch::object()).unwrap_or(&REGISTRY)
}

impl Registry {
    /// Returns the previous action of `signal`; `None` for a signal other than [`SIGNALS`].
    pub(crate) fn previous(&self, signal: c_int) -> Option<&Previous> {
        let [segv, bus] = &self.previous;
        match signal {
            libc::SIGSEGV => Some(segv),
            libc::SIGBUS => Some(bus),
            _ => None,
        }
    }

    /// Returns whether the function at this address is our handler.
    pub(crate) fn is_ours(&self, handler: usize) -> bool {
        self.entries.iter().any(|entry| *entry as usize == handler)
    }
}
