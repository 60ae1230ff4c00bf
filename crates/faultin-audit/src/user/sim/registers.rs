//! The registers of a simulated machine: an image with a header in it.
//!
//! As with the real instruction a save leaves the reserved bytes of the header unchanged, and a restore rejects an image in
//! which they are not zero.

#![forbid(unsafe_code)]

use std::ops::Range;

use crate::user::object::Scale;
use crate::user::registers::{Frame, Registers};

/// Registers of a simulated machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimRegisters {
    image: Vec<u8>,
    header: Range<usize>,
}

impl SimRegisters {
    /// Returns the registers in an image, if the machine accepts it.
    pub(super) fn arrived(image: Vec<u8>, header: Range<usize>) -> Option<SimRegisters> {
        let reserved = header.start + 1..header.end;
        image[reserved].iter().all(|&byte| byte == 0).then_some(SimRegisters { image, header })
    }

    /// Returns the ranges that a save stores: all but the reserved bytes.
    pub(super) fn stored(&self) -> [Range<usize>; 2] {
        [0..self.header.start + 1, self.header.end..self.image.len()]
    }
}

impl Registers for SimRegisters {
    fn frame(scale: Scale) -> Frame {
        match scale {
            Scale::Full => Frame { size: 832, header: 512..576 },
            Scale::Small => Frame { size: 12, header: 4..8 },
        }
    }

    fn patterned(seed: u8, scale: Scale) -> SimRegisters {
        let Frame { size, header } = Self::frame(scale);
        let mut image: Vec<u8> = (0..size).map(|at| seed ^ (at as u8).wrapping_mul(7) | 1).collect();
        image[header.clone()].fill(0);
        image[header.start] = 1;
        SimRegisters { image, header }
    }

    fn image(&self) -> &[u8] {
        &self.image
    }

    fn same(&self, other: &SimRegisters) -> bool {
        self == other
    }
}
