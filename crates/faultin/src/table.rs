//! The exception table: which instructions may fault, and where to continue if they do.
//!
//! Each instruction of this crate that may touch foreign memory has an [`Entry`] in the section `faultin_ex` of the object
//! that it is linked into. A handler that finds the interrupted program counter there writes the fault into two registers
//! that the entry names, and continues at the entry's *fixup*. No other state is kept, so an access costs nothing until it
//! fails, may nest, and may run in any thread, fiber or signal handler.
//!
//! A load that is inlined into another crate has its entry in *that* crate's object. So every object that contains such an
//! instruction also gets one [`Object`] with the bounds of its own table, and an ELF note that leads to it; both come from
//! the same `asm!` as the entry, folded into one per object by the linker.
//!
//! This module compiles without `std`, for kernels: their trap handler needs only [`own_table`] and [`search`].

use core::sync::atomic::{AtomicPtr, AtomicUsize};

use crate::fault::Access;
use crate::fault::outcome::FaultCode;
pub use crate::fault::outcome::Progress;

/// The version of everything that objects share: [`Entry`], [`Object`], the note and the registry. Objects with another
/// version have their own registry and handler, and chain to each other.
pub const ABI: u32 = 4;

/// One instruction that may fault. Positions are relative to the address of the field that holds them, so that the table
/// needs no relocations. An entry is meaningful only where the linker has put it, so it cannot be copied or moved.
///
/// ```compile_fail,E0277
/// fn copied<T: Clone>() {}
/// copied::<faultin::table::Entry>();
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct Entry {
    insn: i32,
    fixup: i32,
    info: u32,
}

/// The kind of access of an entry's instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A load.
    Load,
    /// A store.
    Store,
    /// A load and a store (`rep movsb`): the hardware reports which one failed.
    Either,
}

/// An entry with its positions resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// Address of the instruction.
    pub insn: usize,
    /// Address to continue at.
    pub fixup: usize,
    info: u32,
}

// The layout of `info`, low bits first: kind (2), error register (5), address register (5), progress (20).
const KIND_LOAD: u32 = 1;
const KIND_STORE: u32 = 2;

impl Site {
    /// Returns the kind of access of the instruction.
    pub const fn kind(&self) -> Kind {
        match self.info & 3 {
            KIND_LOAD => Kind::Load,
            KIND_STORE => Kind::Store,
            _ => Kind::Either,
        }
    }

    /// Returns the access that failed, given the hardware's report, if there is one.
    pub const fn access(&self, hardware: Option<Access>) -> Access {
        match (self.kind(), hardware) {
            (Kind::Load, _) => Access::Read,
            (Kind::Store, _) => Access::Write,
            (Kind::Either, Some(access)) => access,
            (Kind::Either, None) => Access::Read,
        }
    }

    /// Returns the number of the register that receives the fault code (never 0).
    pub const fn error_register(&self) -> usize {
        ((self.info >> 2) & 31) as usize
    }

    /// Returns the number of the register that receives `si_addr`.
    pub const fn address_register(&self) -> usize {
        ((self.info >> 7) & 31) as usize
    }

    /// Returns the fault code for the error register: for trap handlers that get no `siginfo` and choose the signal that
    /// Linux would report. `signal` and `si_code` are those of Linux (11 and 1: nothing is mapped).
    pub const fn fault_code(&self, signal: u8, si_code: i16, hardware: Option<Access>) -> u64 {
        FaultCode::new(signal, si_code, 0, self.access(hardware), self.progress_bits()).0
    }

    /// Returns the raw bits of [`Progress`], which the fault code carries.
    pub const fn progress_bits(&self) -> u32 {
        self.info >> 12
    }
}

impl Entry {
    /// Resolves the entry's relative positions.
    pub fn site(&self) -> Site {
        let at = |field: &i32| (core::ptr::from_ref(field).addr()).wrapping_add_signed(*field as isize);
        Site { insn: at(&self.insn), fixup: at(&self.fixup), info: self.info }
    }
}

/// The exception table of one object, where the linker has put it. It cannot be copied, and returns [`Site`]s, whose
/// positions are absolute.
///
/// ```compile_fail,E0599
/// use faultin::table::{own_table, search};
/// let elsewhere = own_table().to_vec(); // an entry means something only where it lies
/// ```
///
/// ```compile_fail,E0608
/// let entry = faultin::table::own_table()[0];
/// ```
#[derive(Debug)]
#[repr(transparent)]
pub struct Table([Entry]);

impl Table {
    /// Returns the entries' sites, in link order.
    pub fn sites(&self) -> impl ExactSizeIterator<Item = Site> + Clone + '_ {
        self.0.iter().map(Entry::site)
    }

    /// Returns the number of entries.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the table has no entry.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the address of the first entry.
    pub const fn as_ptr(&self) -> *const Entry {
        self.0.as_ptr()
    }
}

/// The record of an object (executable or shared library): the bounds of its table, and its place in the registry.
#[repr(C)]
pub struct Object {
    /// The next object in the process-wide registry.
    pub(crate) next: AtomicPtr<Object>,
    /// The registry that this object has been entered into, null before.
    pub(crate) registry: AtomicPtr<core::ffi::c_void>,
    /// The table in the form for lookups by a handler, made when the object is registered: see [`slots`].
    pub(crate) slots: AtomicPtr<Site>,
    pub(crate) slot_count: AtomicUsize,
    start: i32,
    stop: i32,
}

/// The size of [`Object`] in the assembly that emits it.
const _: () = assert!(size_of::<Object>() == 4 * size_of::<usize>() + 8);

impl Object {
    /// Makes an object without entries.
    #[cfg(any(faultin_syscall, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    pub(crate) const fn empty() -> Self {
        Object {
            next: AtomicPtr::new(core::ptr::null_mut()),
            registry: AtomicPtr::new(core::ptr::null_mut()),
            slots: AtomicPtr::new(core::ptr::null_mut()),
            slot_count: AtomicUsize::new(0),
            // The same place: each is relative to itself.
            start: 4,
            stop: 0,
        }
    }

    /// Returns the object's table, in link order.
    pub fn table(&'static self) -> &'static Table {
        let at = |field: &'static i32| core::ptr::from_ref(field).cast::<u8>().wrapping_offset(*field as isize);
        let (start, stop) = (at(&self.start), at(&self.stop));
        let len = stop.addr().wrapping_sub(start.addr()) / size_of::<Entry>();
        // Without an entry there are no bounds: the linker leaves both null, or each at its own place, 4 bytes apart.
        let entries = if len == 0 {
            core::ptr::slice_from_raw_parts(core::ptr::NonNull::<Entry>::dangling().as_ptr(), 0)
        } else {
            core::ptr::slice_from_raw_parts(start.cast::<Entry>(), len)
        };
        // SAFETY: `start` and `stop` are the linker's bounds of the section `faultin_ex` of the object that holds
        // `self`, which consists of entries only, is never written and stays mapped as long as `self` does; or there is
        // no entry. `Table` is a transparent slice of entries.
        unsafe { &*(entries as *const Table) }
    }
}

/// Returns the table of the object that this crate's code is linked into: its copies, and what was inlined into the same
/// object.
pub fn own_table() -> &'static Table {
    crate::arch::object().table()
}

/// Returns the site at `pc`, if one of the table's instructions is there. Linear, because a table in a read-only section is
/// in link order; the registry of this crate keeps a hash table of the [`Site`]s instead.
///
/// Mirrors the kernel's `search_exception_tables`.
#[doc(alias = "search_exception_tables")]
#[doc(alias = "fixup_exception")]
pub fn search(table: &Table, pc: usize) -> Option<Site> {
    table.sites().find(|site| site.insn == pc)
}

/// Returns the table's sites, each in the slot of its address's hash or the next free one. At most half of the slots, whose
/// number is a power of two, are taken, so that a lookup in a handler reads one cache line.
#[cfg(feature = "std")]
pub(crate) fn slots(table: &Table) -> Vec<Site> {
    let mut slots = vec![Site { insn: 0, fixup: 0, info: 0 }; (2 * table.len()).next_power_of_two().max(2)];
    for site in table.sites() {
        let mut at = slot(site.insn, slots.len());
        while slots[at].insn != 0 {
            at = (at + 1) & (slots.len() - 1);
        }
        slots[at] = site;
    }
    slots
}

/// Returns the site at `pc` in [`slots`]. Async-signal-safe.
#[cfg(feature = "std")]
pub(crate) fn search_slots(slots: &[Site], pc: usize) -> Option<Site> {
    let mut at = slot(pc, slots.len());
    // Terminates: half of the slots are free.
    loop {
        let site = *slots.get(at)?;
        // First: a jump to null faults at this address, and must not match a free slot.
        if site.insn == 0 {
            return None;
        }
        if site.insn == pc {
            return Some(site);
        }
        at = (at + 1) & (slots.len() - 1);
    }
}

/// Multiplicative hashing: the upper bits of a product with 2^64 divided by the golden ratio.
#[cfg(feature = "std")]
fn slot(pc: usize, slots: usize) -> usize {
    let hash = (pc as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    hash as usize & (slots - 1)
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn progress_never_goes_back() {
        let (head, tail, floor) =
            (Progress::from_bits(64), Progress::from_bits(0x200 | 256), Progress::from_bits(64 << 10));
        assert_eq!(head.done(128, 1000), 192);
        assert_eq!(tail.done(128, 1000), 744);
        assert_eq!(tail.done(800, 1000), 800);
        assert_eq!(tail.done(0, 100), 0);
        assert_eq!(floor.done(3, 1000), 64);
        assert_eq!(floor.done(100, 1000), 100);
        // Of registers that overlap, the last ones may repeat bytes.
        assert_eq!(head.done(0, 63), 63);
    }

    #[test]
    fn every_entry_has_a_fixup_in_the_same_object() {
        // SAFETY: a load of plain memory, so that there is an entry.
        assert_eq!(unsafe { crate::raw::load(&7_u32) }, Ok(7));
        let table = own_table();
        assert!(!table.is_empty());
        let slots = slots(table);
        for pc in [0, 1, usize::MAX] {
            assert_eq!(search_slots(&slots, pc), None);
        }
        for site in table.sites() {
            assert_eq!(search(table, site.insn), Some(site));
            assert_eq!(search_slots(&slots, site.insn), Some(site));
            assert_eq!(search_slots(&slots, site.insn + 1), search(table, site.insn + 1));
            assert_ne!(site.error_register(), site.address_register());
            assert!(site.insn.abs_diff(site.fixup) < 1 << 24, "{site:?}");
        }
    }
}
