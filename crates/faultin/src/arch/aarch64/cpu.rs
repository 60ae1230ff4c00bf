//! What this CPU has. The copies are the same for all: every aarch64 that runs Linux programs has 16-byte registers.

/// The generic timer, shifted to run at two to four gigahertz whatever its own frequency: a clock cheap enough to time
/// one memory access with. It ticks in steps: at 24 MHz, some 40 ns.
pub(crate) fn ticks() -> u64 {
    let count: u64;
    // SAFETY: Linux lets user space read the timer, or reads it for us.
    unsafe {
        core::arch::asm!("mrs {count}, cntvct_el0", count = out(reg) count, options(nomem, nostack, preserves_flags));
    }
    count << shift(frequency())
}

/// Ticks that a touch of a resident page stays below and a page fault does not: about 0.4 microseconds, between a cache
/// and TLB miss and the cheapest fault.
pub(crate) fn cold_ticks() -> u64 {
    let frequency = frequency();
    (frequency << shift(frequency)) / 2_500_000
}

/// The timer's frequency in hertz.
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

/// How far to shift a timer of this frequency.
const fn shift(frequency: u64) -> u32 {
    // Firmware may have forgotten to set it.
    if frequency == 0 { 0 } else { 31_u32.saturating_sub(frequency.ilog2()) }
}

/// There is no such instruction.
pub(crate) fn string_copies_are_fast() -> bool {
    false
}
