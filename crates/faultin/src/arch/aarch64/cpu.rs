//! The features of this CPU. The copies are the same for all: every aarch64 that runs Linux programs has 16-byte registers.

/// Reads the generic timer, shifted to run at two to four gigahertz whatever its own frequency: cheap enough to time one
/// memory access. It ticks in steps: at 24 MHz, of some 40 ns.
pub(crate) fn ticks() -> u64 {
    let count: u64;
    // SAFETY: Linux lets user space read the timer, or emulates the read.
    unsafe {
        core::arch::asm!("mrs {count}, cntvct_el0", count = out(reg) count, options(nomem, nostack, preserves_flags));
    }
    count << shift(frequency())
}

/// Returns a number of ticks that a touch of a resident page takes less than, and a page fault more: about 0.4
/// microseconds, between a cache and TLB miss and the cheapest fault.
pub(crate) fn cold_ticks() -> u64 {
    let frequency = frequency();
    (frequency << shift(frequency)) / 2_500_000
}

/// Returns the timer's frequency in hertz.
fn frequency() -> u64 {
    let frequency: u64;
    // SAFETY: as the timer itself.
    unsafe {
        core::arch::asm!(
            "mrs {frequency}, cntfrq_el0",
            frequency = out(reg) frequency,
            options(nomem, nostack, preserves_flags, pure),
        );
    }
    frequency
}

/// Returns the number of bits to shift a timer of this frequency.
const fn shift(frequency: u64) -> u32 {
    // Firmware may not have set it.
    if frequency == 0 { 0 } else { 31_u32.saturating_sub(frequency.ilog2()) }
}

/// Returns false: there is no such instruction.
pub(crate) fn string_copies_are_fast() -> bool {
    false
}
