//! A thread as its registers.

#![forbid(unsafe_code)]

use std::ops::Range;

use super::layout::Layout;

/// Bits of MSR, the machine state register. They are at their positions in the word of the smallest layout.
pub(in crate::callers) const VECTOR: u64 = 1 << 4;
pub(in crate::callers) const VSX: u64 = 1 << 5;
pub(in crate::callers) const BRANCH: u64 = 1 << 9;
pub(in crate::callers) const STEP: u64 = 1 << 10;

/// Seeds: the thread before, and the thread of the new context.
pub(in crate::callers) const BEFORE: u8 = 0x21;
pub(in crate::callers) const AFTER: u8 = 0x96;

/// A thread as its registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::callers) struct Thread {
    pub(in crate::callers) general: Vec<u8>,
    pub(in crate::callers) floating: Vec<u8>,
    pub(in crate::callers) vector: Vec<u8>,
    pub(in crate::callers) vsx: Vec<u8>,
    pub(in crate::callers) mask: Vec<u8>,
    pub(in crate::callers) stack: Vec<u8>,
}

impl Thread {
    /// Makes a thread in which every byte differs. It uses its vector registers, and is traced at branches.
    pub(in crate::callers) fn patterned(seed: u8, layout: &Layout) -> Thread {
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
    pub(in crate::callers) fn msr(&self, layout: &Layout) -> u64 {
        value(&self.general[layout.msr * layout.word..][..layout.word])
    }

    /// Sets its machine state register.
    pub(in crate::callers) fn set_msr(&mut self, layout: &Layout, msr: u64) {
        let bytes = bytes_of(msr, layout.word);
        self.general[layout.msr * layout.word..][..layout.word].copy_from_slice(&bytes);
    }

    /// Returns this thread after [`AFTER`]: all of the context's, except for MSR, the alternate stack and the register of
    /// the thread's own data, which does not change unless a signal returns.
    pub(in crate::callers) fn switched(&self, layout: &Layout, signal: bool) -> Thread {
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
}

/// Returns a word of the machine, which is little-endian.
pub(in crate::callers) fn value(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Returns the bytes of such a word.
pub(in crate::callers) fn bytes_of(value: u64, len: usize) -> Vec<u8> {
    value.to_le_bytes()[..len].to_vec()
}
