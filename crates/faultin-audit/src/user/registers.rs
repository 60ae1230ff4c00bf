//! Registers that an instruction saves and restores as a whole.

#![forbid(unsafe_code)]

use std::ops::Range;

use faultin::fpstate::{self, Image};

use super::object::Scale;

/// The layout of an image in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Size in bytes.
    pub size: usize,
    /// The header, which an instruction does not write as a whole: a caller that needs it clean zeroes it. Empty where
    /// there is none.
    pub header: Range<usize>,
}

/// The registers of a machine.
pub trait Registers: Sized {
    /// Returns the layout of an image in memory. Its size comes from the machine, never from the image.
    fn frame(scale: Scale) -> Frame;

    /// Makes registers with distinct contents.
    fn patterned(seed: u8, scale: Scale) -> Self;

    /// Returns their image.
    fn image(&self) -> &[u8];

    /// Returns whether both have the same contents.
    fn same(&self, other: &Self) -> bool;
}

/// The header of an image of XSAVE's; other architectures have none.
const HEADER: Range<usize> = if cfg!(target_arch = "x86_64") { 512..576 } else { 0..0 };

impl Registers for Image {
    fn frame(_: Scale) -> Frame {
        Frame { size: fpstate::image_size(), header: HEADER }
    }

    fn patterned(seed: u8, _: Scale) -> Image {
        Image::patterned(seed)
    }

    fn image(&self) -> &[u8] {
        self.bytes()
    }

    fn same(&self, other: &Image) -> bool {
        self.same_registers(other)
    }
}
