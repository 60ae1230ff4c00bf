//! The positions of the fields of a context.

#![forbid(unsafe_code)]

use std::ops::Range;

use faultin::Short;
use faultin::memory::WriteMemory;

use super::thread::{Thread, bytes_of};
use crate::user::Scale;

/// The bytes of a context between its fields.
const PADDING: u8 = 0x11;

/// The positions of the fields of a context.
#[derive(Clone, Debug)]
pub(in crate::callers) struct Layout {
    /// Size of a general register in bytes.
    pub(in crate::callers) word: usize,
    /// The alternate signal stack.
    pub(in crate::callers) stack: Range<usize>,
    /// Blocked signals.
    pub(in crate::callers) mask: Range<usize>,
    /// A pointer to `target`.
    pub(in crate::callers) pointer: Range<usize>,
    /// The pointer's target in a context that was saved.
    pub(in crate::callers) target: usize,
    /// General registers, MSR among them.
    pub(in crate::callers) general: Range<usize>,
    /// Floating point registers.
    pub(in crate::callers) floating: Range<usize>,
    /// Vector registers.
    pub(in crate::callers) vector: Range<usize>,
    /// Later halves of vector registers, at the end. Empty on ppc32.
    pub(in crate::callers) vsx: Range<usize>,
    /// Size in bytes.
    pub(in crate::callers) size: usize,
    /// Index of MSR among the general registers.
    pub(super) msr: usize,
    /// Index of the register that points to the thread's own data.
    pub(super) tls: usize,
}

impl Layout {
    /// Returns `struct ucontext` of ppc32: flags, link, stack, pointer to the machine context, mask; then the machine
    /// context: general, floating point, vector registers.
    pub(in crate::callers) fn ppc32(scale: Scale) -> Layout {
        match scale {
            Scale::Full => Layout {
                word: 4,
                stack: 8..20,
                mask: 52..60,
                pointer: 48..52,
                target: 192,
                general: 192..384,
                floating: 384..648,
                vector: 656..1184,
                vsx: 1184..1184,
                size: 1184,
                msr: 33,
                tls: 2,
            },
            Scale::Small => Layout {
                word: 2,
                stack: 0..2,
                mask: 4..6,
                pointer: 2..4,
                target: 6,
                general: 6..12,
                floating: 12..14,
                vector: 14..16,
                vsx: 16..16,
                size: 16,
                msr: 2,
                tls: 1,
            },
        }
    }

    /// Returns `struct ucontext` of ppc64: flags, link, stack, mask; general, floating point registers, pointer to the
    /// vector registers, vector registers.
    pub(in crate::callers) fn ppc64(scale: Scale) -> Layout {
        match scale {
            Scale::Full => Layout {
                word: 8,
                stack: 16..40,
                mask: 40..48,
                pointer: 880..888,
                target: 896,
                general: 232..616,
                floating: 616..880,
                vector: 896..1440,
                vsx: 1440..1696,
                size: 1696,
                msr: 33,
                tls: 13,
            },
            Scale::Small => Layout {
                word: 2,
                stack: 0..0,
                mask: 0..2,
                pointer: 12..14,
                target: 14,
                general: 2..10,
                floating: 10..12,
                vector: 14..15,
                vsx: 15..16,
                size: 16,
                msr: 2,
                tls: 1,
            },
        }
    }

    /// Returns all layouts.
    #[cfg(test)]
    pub(super) fn all() -> [Layout; 4] {
        [Scale::Full, Scale::Small]
            .map(|scale| [Layout::ppc32(scale), Layout::ppc64(scale)])
            .concat()
            .try_into()
            .unwrap()
    }

    /// Returns the position of general register number `index`.
    pub(in crate::callers) fn register(&self, index: usize) -> Range<usize> {
        let start = self.general.start + index * self.word;
        start..start + self.word
    }

    /// Returns the position of MSR.
    pub(in crate::callers) fn msr(&self) -> Range<usize> {
        self.register(self.msr)
    }

    /// Returns the positions of the general registers before and after MSR.
    pub(super) fn around_msr(&self) -> [Range<usize>; 2] {
        [self.general.start..self.msr().start, self.msr().end..self.general.end]
    }

    /// Saves `thread` to `to`, which may lack the later part at its end.
    ///
    /// # Errors
    /// The short copy, if a byte cannot be stored.
    pub(in crate::callers) fn save(&self, to: &impl WriteMemory, thread: &Thread) -> Result<(), Short> {
        to.write(&thread.general, self.general.start)?;
        to.write(&thread.floating, self.floating.start)?;
        to.write(&thread.vector, self.vector.start)?;
        if to.len() >= self.size {
            to.write(&thread.vsx, self.vsx.start)?;
        }
        to.write(&thread.mask, self.mask.start)?;
        to.write(&self.target_pointer(), self.pointer.start)
    }

    /// Returns the context of `thread`.
    pub(in crate::callers) fn context(&self, thread: &Thread) -> Vec<u8> {
        let mut bytes = self.saved(thread, PADDING);
        bytes[self.stack.clone()].copy_from_slice(&thread.stack);
        bytes
    }

    /// Returns what [`save`](Self::save) leaves in memory full of `background`.
    pub(super) fn saved(&self, thread: &Thread, background: u8) -> Vec<u8> {
        let mut bytes = vec![background; self.size];
        for (range, field) in [
            (&self.general, &thread.general),
            (&self.floating, &thread.floating),
            (&self.vector, &thread.vector),
            (&self.vsx, &thread.vsx),
            (&self.mask, &thread.mask),
            (&self.pointer, &self.target_pointer()),
        ] {
            bytes[range.clone()].copy_from_slice(field);
        }
        bytes
    }

    fn target_pointer(&self) -> Vec<u8> {
        bytes_of(self.target as u64, self.pointer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_beside_each_other() {
        for layout in Layout::all() {
            let fields =
                [&layout.mask, &layout.pointer, &layout.general, &layout.floating, &layout.vector, &layout.vsx];
            let mut fields: Vec<_> = fields.into_iter().chain([&layout.stack]).cloned().collect();
            fields.sort_by_key(|field| (field.start, field.end));
            assert!(fields.windows(2).all(|pair| pair[0].end <= pair[1].start), "{layout:?}");
            assert_eq!(fields.last().map(|last| last.end), Some(layout.size));
            assert!(layout.general.contains(&layout.msr().start) && layout.msr().end <= layout.general.end);
        }
    }
}
