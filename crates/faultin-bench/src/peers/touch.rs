//! The touch loop: one access per page, or per smaller unit.

use core::sync::atomic::{AtomicU8, Ordering};

use super::super::sample::{opaque, used};

/// Loads one byte of each unit of `stride` bytes.
#[inline]
pub fn read(ptr: *const u8, len: usize, stride: usize) {
    for offset in (0..len).step_by(stride) {
        // SAFETY: all callers pass memory of their own.
        used(u64::from(unsafe { ptr.add(offset).read_volatile() }));
    }
}

/// Stores one byte of each unit of `stride` bytes, unchanged and atomically: `lock or` on x86-64.
#[inline]
pub fn write(ptr: *mut u8, len: usize, stride: usize) {
    // The compiler would turn a known zero into a fence and a load.
    let zero = opaque(0) as u8;
    for offset in (0..len).step_by(stride) {
        // SAFETY: all callers pass memory of their own.
        unsafe { AtomicU8::from_ptr(ptr.add(offset)) }.fetch_or(zero, Ordering::Relaxed);
    }
}
