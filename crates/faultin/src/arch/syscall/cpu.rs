//! A clock for timing touches, which cost a system call here.

/// Nanoseconds since some moment.
pub(crate) fn ticks() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// More than a touch by system call takes.
pub(crate) fn cold_ticks() -> u64 {
    2_000
}

/// There is no such instruction.
pub(crate) fn string_copies_are_fast() -> bool {
    false
}
