//! Tagged memory: a window of granules in the middle of two pages, each of which can be made bad.
#![allow(dead_code)] // each test binary uses a part of it

use std::arch::asm;

pub const GRANULE: usize = 16;
/// Granules in the window. A page boundary is in its middle.
pub const GRANULES: usize = 24;
const WINDOW: usize = GRANULES * GRANULE;

const PROT_MTE: i32 = 0x20;
const PR_SET_TAGGED_ADDR_CTRL: i32 = 55;
const PR_TAGGED_ADDR_ENABLE: u64 = 1;
const EVERY_TAG_BUT_0: u64 = 0xfffe << 3;
const HWCAP2_MTE: u64 = 1 << 18;

/// The tag of memory and pointers, and that of bad granules.
const GOOD: usize = 1;
const BAD: usize = 2;

/// When a tag mismatch is reported.
#[derive(Clone, Copy)]
pub enum Mode {
    /// At the access.
    Sync = 1 << 1,
    /// Some time later.
    Async = 1 << 2,
}

/// Enables tag checks for this thread; `false` where there are no tags.
pub fn check_tags(mode: Mode) -> bool {
    // SAFETY: changes how this thread's accesses are checked, as the test intends.
    unsafe {
        libc::getauxval(libc::AT_HWCAP2) & HWCAP2_MTE != 0
            && libc::prctl(PR_SET_TAGGED_ADDR_CTRL, PR_TAGGED_ADDR_ENABLE | mode as u64 | EVERY_TAG_BUT_0, 0, 0, 0) == 0
    }
}

/// A window of tagged memory with a page to either side. Unmapped when dropped.
pub struct Tagged {
    map: *mut u8,
    size: usize,
    start: *mut u8,
}

impl Tagged {
    /// A new window of good granules, whose bytes are zero, with the handler installed; `None` where there are no tags.
    pub fn new() -> Option<Self> {
        if !check_tags(Mode::Sync) {
            faultin_test::skipped("memory-tags", "this CPU has none");
            return None;
        }
        faultin::install().unwrap();
        let page = faultin::page_size();
        let size = 4 * page;
        // SAFETY: a new mapping.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE | PROT_MTE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(map, libc::MAP_FAILED);
        let map = map.cast::<u8>();
        let window = Tagged { map, size, start: tagged(map.wrapping_add(2 * page - WINDOW / 2), GOOD) };
        // The granules around the window are good as well: bytes next to a range must not affect it.
        for offset in (0..size).step_by(GRANULE) {
            set_tag(tagged(map.wrapping_add(offset), GOOD));
        }
        Some(window)
    }

    /// The address of the window's byte at `offset`, with the good tag.
    pub fn at(&self, offset: usize) -> *mut u8 {
        self.start.wrapping_add(offset)
    }

    /// The window's bytes, while none of its granules is bad.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped, initialised (by the kernel, with zeros) and not otherwise referenced, as `self` is not.
        unsafe { std::slice::from_raw_parts_mut(self.start, WINDOW) }
    }

    /// Numbers the window's bytes so that neighbours, and bytes a power of two apart, differ.
    pub fn number(&mut self, seed: u8) {
        for (i, byte) in self.bytes().iter_mut().enumerate() {
            *byte = number(i, seed);
        }
    }

    /// Makes a granule bad while `f` runs.
    pub fn with_bad<T>(&self, granule: usize, f: impl FnOnce() -> T) -> T {
        let at = granule * GRANULE;
        set_tag(tagged(self.at(at), BAD));
        let result = f();
        set_tag(self.at(at));
        result
    }
}

impl Drop for Tagged {
    fn drop(&mut self) {
        // SAFETY: this value's mapping, whose references end with `self`.
        unsafe { libc::munmap(self.map.cast(), self.size) };
    }
}

/// Byte `i` of numbered memory.
pub fn number(i: usize, seed: u8) -> u8 {
    (i as u8).wrapping_mul(37).wrapping_add((i >> 8) as u8).wrapping_add(seed)
}

/// How many of `len` bytes at `offset` of the window precede the first bad one.
pub fn good_prefix(offset: usize, len: usize, bad: usize) -> usize {
    let (from, to) = (bad * GRANULE, (bad + 1) * GRANULE);
    if offset + len <= from || offset >= to { len } else { from.saturating_sub(offset) }
}

fn tagged(ptr: *mut u8, tag: usize) -> *mut u8 {
    ptr.map_addr(|address| address & !(0xf << 56) | tag << 56)
}

/// Gives the granule the pointer's tag.
fn set_tag(ptr: *mut u8) {
    // SAFETY: the granule is in a mapping of `Tagged`; its bytes do not change.
    unsafe {
        asm!(".arch_extension memtag", "stg {ptr}, [{ptr}]", ptr = in(reg) ptr, options(nostack, preserves_flags))
    }
}
