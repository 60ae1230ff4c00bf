//! Simulated memory: an address space whose every fault is a decision of the test.
//!
//! A [`Sim`] has its own page size and *granule* (the bytes that share a memory tag), as small as one likes, so that
//! loops can be explored exhaustively, and every scenario exists on every machine. [`SimRead`] and [`SimWrite`] are ranges
//! of it, with the promises of [`ReadMemory`](faultin::memory::ReadMemory) and [`WriteMemory`](faultin::memory::WriteMemory).
//!
//! # What may be wrong with a byte
//!
//! | property | of each | cause |
//! |---|---|---|
//! | [`Permission`] | byte | [`Unmapped`](faultin::Cause::Unmapped), [`Protection`](faultin::Cause::Protection) |
//! | backed: within the file, no I/O error | page | [`Backing`](faultin::Cause::Backing) |
//! | resident | page | [`NotResident`](faultin::Cause::NotResident), if the access must not wait |
//! | poison | granule | [`Poison`](faultin::Cause::Poison) with its extent |
//! | memory tag | granule | [`Tag`](faultin::Cause::Tag), if it is not the range's |
//!
//! Where several are wrong the first in this order is the cause: what the translation refuses comes before what the
//! memory does.
//!
//! # Steps
//!
//! A *step* is one elementary access, and counts whether it fails or not:
//!
//! * of a copy or a fill: the bytes of one granule. The bytes before a bad one are moved, those after it are not;
//! * of a load, a store or an atomic operation: all of it if it is aligned and not longer than 8 bytes, or atomic. Others
//!   are cut at each multiple of their size, at most 8. The first step proves all bytes, so that the access happens as a
//!   whole or not at all; between the steps it can be torn, as on real machines;
//! * of `fault_in` and `probe`: one touched byte.
//!
//! An access that may wait makes a page resident by itself, within its step, as the kernel does behind a fault.
//!
//! Between two steps an adversary may act: a [`Script`] says what it does after which step. The [`Trace`] keeps what
//! happened, if it was asked to.
//!
//! # fault_in and probe
//!
//! `fault_in` touches the first byte of the range and of each further page, as the kernel does: a bad granule behind
//! these goes unnoticed. `probe` touches the first byte of each unit as well; the units are the page, for `Line` 64 bytes
//! (no less than a granule, no more than a page) and for `Tag` a granule. As on the host, a store probe stores once per
//! page and only reads in between.
//!
//! # States
//!
//! [`Sim::state`] is everything that can influence an access but what the script has yet to do: a value to compare, to
//! hash and to go back to. A loop that comes by the same state twice, without an action between, will do so for ever.

// Traits of memory are not there on other systems than Linux, whose tests of files do without this crate.
#![cfg(all(target_os = "linux", not(faultin_portable)))]
#![deny(unsafe_code)]

mod action;
mod copy;
mod range;
mod read;
mod scalar;
mod state;
mod step;
mod touch;
mod trace;
mod write;

use core::cell::RefCell;
use core::ops::Range;
use std::rc::Rc;

pub use action::{Action, Script};
pub use read::SimRead;
pub use state::{Geometry, Permission, State};
pub use trace::{Event, Moment, StepKind, Trace};
pub use write::SimWrite;

use range::Window;
use step::World;

/// A simulated address space. Clones are handles of the same space; a [`State`] is a separate copy.
#[derive(Clone, Debug)]
pub struct Sim {
    world: Rc<RefCell<World>>,
}

impl Sim {
    /// Makes a space of `pages` pages: zeros, readable and writable, backed, resident, tag 0.
    pub fn new(geometry: Geometry, pages: usize) -> Self {
        Self::from_state(State::new(geometry, pages))
    }

    /// Makes a space in this state, without a script.
    pub fn from_state(state: State) -> Self {
        Sim { world: Rc::new(RefCell::new(World::new(state))) }
    }

    /// Returns the sizes of its units.
    pub fn geometry(&self) -> Geometry {
        self.world.borrow().state.geometry()
    }

    /// Returns the size of the space in bytes.
    pub fn len(&self) -> usize {
        self.world.borrow().state.len()
    }

    /// Returns whether the space is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the address of its first byte, which is page-aligned: the base of the addresses in faults.
    pub fn base(&self) -> usize {
        self.geometry().base()
    }

    /// Returns a range to read from, in bytes from the start of the space.
    ///
    /// # Panics
    /// If the range leaves the space; pages that are [`Permission::Unmapped`] are a part of it.
    pub fn read_range(&self, range: Range<usize>) -> SimRead {
        SimRead(self.window(range))
    }

    /// Returns a range to write to, in bytes from the start of the space.
    ///
    /// # Panics
    /// If the range leaves the space, as for [`read_range`](Self::read_range).
    pub fn write_range(&self, range: Range<usize>) -> SimWrite {
        SimWrite(self.window(range))
    }

    fn window(&self, range: Range<usize>) -> Window {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "{range:?} leaves a space of {} bytes",
            self.len()
        );
        Window::new(Rc::clone(&self.world), range)
    }

    /// Performs an action at once.
    pub fn act(&self, action: Action) {
        self.world.borrow_mut().act(action);
    }

    /// Starts this script now, in place of the rest of another: steps count from 0 again.
    pub fn play(&self, script: Script) {
        self.world.borrow_mut().play(script);
    }

    /// Returns the number of steps since the script began, or since the space was made.
    pub fn steps(&self) -> u64 {
        self.world.borrow().steps()
    }

    /// Returns the number of pending actions of the script.
    pub fn pending(&self) -> usize {
        self.world.borrow().pending()
    }

    /// Records a trace from now on.
    pub fn record(&self) {
        self.world.borrow_mut().trace.get_or_insert_default();
    }

    /// Returns the events since [`record`](Self::record), or since the last call; none if nothing is recorded. Recording
    /// continues.
    pub fn take_trace(&self) -> Trace {
        self.world.borrow_mut().trace.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// Records the [`Moment`]s from now on, this one first.
    pub fn watch(&self) {
        let mut world = self.world.borrow_mut();
        world.moments = Some(Vec::new());
        world.keep_moment();
    }

    /// Returns the moments since [`watch`](Self::watch), which ends here; none if there was no `watch`.
    pub fn take_moments(&self) -> Vec<Moment> {
        self.world.borrow_mut().moments.take().unwrap_or_default()
    }

    /// Returns how often an access has waited for a page that was not resident.
    pub fn waits(&self) -> u64 {
        self.world.borrow().waits()
    }

    /// Returns the current state.
    pub fn state(&self) -> State {
        self.world.borrow().state.clone()
    }

    /// Returns to a state. Script, steps and trace do not change.
    ///
    /// # Panics
    /// If the state has another geometry or length: ranges would become meaningless.
    pub fn restore(&self, state: &State) {
        let mut world = self.world.borrow_mut();
        assert_eq!(
            (world.state.geometry(), world.state.len()),
            (state.geometry(), state.len()),
            "another space's state"
        );
        world.state.clone_from(state);
    }

    /// Returns the [digest](State::digest) of the current state.
    pub fn digest(&self) -> u64 {
        self.world.borrow().state.digest()
    }
}
