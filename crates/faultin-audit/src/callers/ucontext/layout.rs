//! The positions of the fields of a context.

#![forbid(unsafe_code)]

use std::ops::Range;

use crate::user::Scale;

/// The positions of the fields of a context.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Size of a general register in bytes.
    pub(super) word: usize,
    /// The alternate signal stack.
    pub(super) stack: Range<usize>,
    /// Blocked signals.
    pub(super) mask: Range<usize>,
    /// A pointer to `target`.
    pub(super) pointer: Range<usize>,
    /// The pointer's target in a context that was saved.
    pub(super) target: usize,
    /// General registers, MSR among them.
    pub(super) general: Range<usize>,
    /// Floating point registers.
    pub(super) floating: Range<usize>,
    /// Vector registers.
    pub(super) vector: Range<usize>,
    /// Later halves of vector registers, at the end. Empty on ppc32.
    pub(super) vsx: Range<usize>,
    /// Size in bytes.
    pub(super) size: usize,
    /// Index of MSR among the general registers.
    pub(super) msr: usize,
    /// Index of the register that points to the thread's own data.
    pub(super) tls: usize,
}

impl Layout {
    /// Returns `struct ucontext` of ppc32: flags, link, stack, pointer to the machine context, mask; then the machine
    /// context: general, floating point, vector registers.
    pub(super) fn ppc32(scale: Scale) -> Layout {
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
    pub(super) fn ppc64(scale: Scale) -> Layout {
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
    pub(super) fn register(&self, index: usize) -> Range<usize> {
        let start = self.general.start + index * self.word;
        start..start + self.word
    }

    /// Returns the position of MSR.
    pub(super) fn msr(&self) -> Range<usize> {
        self.register(self.msr)
    }

    /// Returns the positions of the general registers before and after MSR.
    pub(super) fn around_msr(&self) -> [Range<usize>; 2] {
        [self.general.start..self.msr().start, self.msr().end..self.general.end]
    }

    /// Returns the pointer in a context that was saved.
    pub(super) fn target_pointer(&self) -> Vec<u8> {
        bytes_of(self.target as u64, self.pointer.len())
    }
}

/// Returns a word of the machine, which is little-endian.
pub(super) fn value(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Returns the bytes of such a word.
pub(super) fn bytes_of(value: u64, len: usize) -> Vec<u8> {
    value.to_le_bytes()[..len].to_vec()
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
