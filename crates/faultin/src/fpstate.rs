//! The floating-point and vector registers of a thread, saved to and restored from memory that may fault, as a kernel does
//! when it delivers a signal and returns from one.
//!
//! The instructions are all or nothing: they return no count, and a caller starts over. So it needs
//! [`probe`](crate::raw#probe) between two attempts, not [`fault_in`](crate::raw#fault-in). The size of an image comes from
//! the CPU, never from the image.

use crate::arch::fpstate as cpu;
use crate::fault::{Access, Cause, Fault};
use crate::view::{ReadView, WriteView};

/// Alignment of an image in memory, in bytes.
pub const ALIGN: usize = cpu::ALIGN;

/// Returns the size of an image on this machine in bytes, from the CPU; 0 where there is no such instruction.
pub fn image_size() -> usize {
    cpu::layout().map_or(0, |(_, size)| size)
}

/// An image in private memory, in the format of the instruction.
#[derive(Clone)]
pub struct Image {
    memory: Box<[Line]>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Image {
    /// Makes an empty image: every register in its initial state.
    pub fn new() -> Self {
        Image { memory: vec![Line([0; 64]); image_size().div_ceil(64)].into_boxed_slice() }
    }

    /// Makes an image with distinct bytes in every register that all machines have: for tests of what arrives.
    pub fn patterned(seed: u8) -> Self {
        let mut image = Image::new();
        cpu::pattern(image.bytes_mut(), seed);
        image
    }

    /// Returns the image's bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `Line` is 64 plain bytes without padding.
        let all = unsafe { core::slice::from_raw_parts(self.memory.as_ptr().cast::<u8>(), self.memory.len() * 64) };
        &all[..image_size()]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the reference is unique.
        let all =
            unsafe { core::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast::<u8>(), self.memory.len() * 64) };
        &mut all[..image_size()]
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_mut_ptr().cast()
    }

    /// Returns whether the registers that every machine has are the same in both.
    pub fn same_registers(&self, other: &Image) -> bool {
        cpu::registers(self.bytes()) == cpu::registers(other.bytes())
    }
}

impl Default for Image {
    fn default() -> Self {
        Image::new()
    }
}

/// Saves the registers of `state` to `to`, with the CPU's own instruction on the foreign memory.
///
/// # Errors
/// The [`Fault`] if a byte cannot be stored; a part of the image may have been stored. [`Cause::Alignment`] if `to` is not
/// aligned, [`Cause::OutOfRange`] if it is too small, [`Cause::Unsupported`] without the instruction.
#[doc(alias = "copy_fpregs_to_sigframe")]
#[doc(alias = "xsave_to_user_sigframe")]
pub fn save(to: &WriteView<'_>, state: &Image) -> Result<(), Fault> {
    let mask = check(to.as_ptr().addr(), to.len(), Access::Write)?;
    let mut scratch = Image::new();
    // SAFETY: checked: size and alignment; the view's invariants; both images are of that size, aligned, and were zero
    // or written by the instruction.
    unsafe { cpu::save(to.as_ptr(), state.memory.as_ptr().cast(), scratch.as_mut_ptr(), mask) }
}

/// Restores the registers from `from` with the CPU's own instruction on the foreign memory, and returns their contents. The
/// thread's own registers are unchanged when this returns.
///
/// # Errors
/// The [`Fault`] if a byte cannot be loaded. [`Cause::Other`] if the CPU rejects the image; otherwise as [`save`].
#[doc(alias = "restore_fpregs_from_user")]
#[doc(alias = "xrstor_from_user_sigframe")]
pub fn restore(from: &ReadView<'_>) -> Result<Image, Fault> {
    let mask = check(from.as_ptr().addr(), from.len(), Access::Read)?;
    let (mut scratch, mut arrived) = (Image::new(), Image::new());
    // SAFETY: as in `save`.
    unsafe { cpu::restore(from.as_ptr(), arrived.as_mut_ptr(), scratch.as_mut_ptr(), mask) }?;
    Ok(arrived)
}

fn check(address: usize, len: usize, access: Access) -> Result<u64, Fault> {
    let (mask, size) = cpu::layout().ok_or(Fault::rejected(access, Cause::Unsupported, address))?;
    if !address.is_multiple_of(ALIGN) {
        return Err(Fault::rejected(access, Cause::Alignment, address));
    }
    if len < size {
        return Err(Fault::rejected(access, Cause::OutOfRange, address.wrapping_add(len)));
    }
    Ok(mask)
}
