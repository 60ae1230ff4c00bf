//! A clock for timing touches, each of which is a system call here.

/// Returns nanoseconds since some moment.
pub(crate) fn ticks() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// Returns more ticks than a touch by system call takes.
pub(crate) fn cold_ticks() -> u64 {
    2_000
}

/// Returns false: there is no such instruction.
pub(crate) fn string_copies_are_fast() -> bool {
    false
}
