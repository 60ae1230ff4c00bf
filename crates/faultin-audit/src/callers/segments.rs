//! The buffer of callers that take a list of segments: one of them is empty.

#![forbid(unsafe_code)]

use std::ops::Range;

use crate::user::{Object, Scale};

/// Three segments: a short one, an empty one, and the rest.
pub(super) fn segments(len: usize) -> [Range<usize>; 3] {
    let first = len / 3;
    [0..first, first..first, first..len]
}

/// Makes an object of which nothing is in the middle segment, and the last one crosses into the second page.
pub(super) fn object(scale: Scale, byte: impl Fn(u8) -> u8) -> Object {
    match scale {
        // 100 bytes on each page. The second way of rows 7 and 16 starts at the second page.
        Scale::Full => Object::new((1..=200).map(byte).collect(), 100).with_tail(132).with_restart(100),
        Scale::Small => Object::new((1..=14).map(byte).collect(), 6).with_tail(10).with_restart(6),
    }
}
