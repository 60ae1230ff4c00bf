//! A thread as its registers.

#![forbid(unsafe_code)]

use std::ops::Range;

use faultin::Short;
use faultin::memory::WriteMemory;

use super::layout::{Layout, bytes_of, value};

/// The bytes of a context between its fields.
const PADDING: u8 = 0x11;

/// Bits of MSR, the machine state register. They are at their positions in the word of the smallest layout.
pub(super) const VECTOR: u64 = 1 << 4;
pub(super) const VSX: u64 = 1 << 5;
pub(super) const BRANCH: u64 = 1 << 9;
pub(super) const STEP: u64 = 1 << 10;

/// Seeds: the thread before, and the thread of the new context.
pub(super) const BEFORE: u8 = 0x21;
pub(super) const AFTER: u8 = 0x96;

/// A thread as its registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    pub(super) general: Vec<u8>,
    pub(super) floating: Vec<u8>,
    pub(super) vector: Vec<u8>,
    pub(super) vsx: Vec<u8>,
    pub(super) mask: Vec<u8>,
    pub(super) stack: Vec<u8>,
}

impl Thread {
    /// Makes a thread in which every byte differs. It uses its vector registers, and is traced at branches.
    pub(super) fn patterned(seed: u8, layout: &Layout) -> Thread {
        let bank = |range: &Range<usize>| range.clone().map(|at| seed ^ (at as u8).wrapping_mul(7) | 1).collect();
        let mut thread = Thread {
            general: bank(&layout.general),
            floating: bank(&layout.floating),
            vector: bank(&layout.vector),
            vsx: bank(&layout.vsx),
            mask: bank(&layout.mask),
            stack: bank(&layout.stack),
        };
        let msr = VECTOR | BRANCH | if layout.vsx.is_empty() { 0 } else { VSX };
        thread.set_msr(layout, msr);
        thread
    }

    /// Returns its machine state register.
    pub(super) fn msr(&self, layout: &Layout) -> u64 {
        value(&self.general[layout.msr * layout.word..][..layout.word])
    }

    /// Sets its machine state register.
    pub(super) fn set_msr(&mut self, layout: &Layout, msr: u64) {
        let bytes = bytes_of(msr, layout.word);
        self.general[layout.msr * layout.word..][..layout.word].copy_from_slice(&bytes);
    }

    /// Returns this thread after [`AFTER`]: all of the context's, except for MSR, the alternate stack and the register of
    /// the thread's own data, which does not change unless a signal returns.
    pub(super) fn switched(&self, layout: &Layout, signal: bool) -> Thread {
        let mut after = Thread { stack: self.stack.clone(), ..Thread::patterned(AFTER, layout) };
        after.set_msr(layout, self.msr(layout));
        if !signal {
            after.keep_tls(layout, &self.tls(layout));
        }
        after
    }

    pub(super) fn tls(&self, layout: &Layout) -> Vec<u8> {
        self.general[layout.tls * layout.word..][..layout.word].to_vec()
    }

    pub(super) fn keep_tls(&mut self, layout: &Layout, tls: &[u8]) {
        self.general[layout.tls * layout.word..][..layout.word].copy_from_slice(tls);
    }

    /// Saves it to `to`, which may lack the later part at its end.
    ///
    /// # Errors
    /// The short copy, if a byte cannot be stored.
    pub(super) fn save(&self, layout: &Layout, to: &impl WriteMemory) -> Result<(), Short> {
        to.write(&self.general, layout.general.start)?;
        to.write(&self.floating, layout.floating.start)?;
        to.write(&self.vector, layout.vector.start)?;
        if to.len() >= layout.size {
            to.write(&self.vsx, layout.vsx.start)?;
        }
        to.write(&self.mask, layout.mask.start)?;
        to.write(&layout.target_pointer(), layout.pointer.start)
    }

    /// Returns its context.
    pub(super) fn context(&self, layout: &Layout) -> Vec<u8> {
        let mut bytes = self.saved(layout, PADDING);
        bytes[layout.stack.clone()].copy_from_slice(&self.stack);
        bytes
    }

    /// Returns what [`save`](Self::save) leaves in memory full of `background`.
    pub(super) fn saved(&self, layout: &Layout, background: u8) -> Vec<u8> {
        let mut bytes = vec![background; layout.size];
        for (range, field) in [
            (&layout.general, &self.general),
            (&layout.floating, &self.floating),
            (&layout.vector, &self.vector),
            (&layout.vsx, &self.vsx),
            (&layout.mask, &self.mask),
            (&layout.pointer, &layout.target_pointer()),
        ] {
            bytes[range.clone()].copy_from_slice(field);
        }
        bytes
    }
}
