//! Checks that several rows have in common.

#![forbid(unsafe_code)]

/// Number of bytes after a count that may be stored where a second page is revoked during a copy that fails: Arm leaves
/// open what a store across two pages stores to the accessible one.
pub(super) const STRADDLING: usize = if cfg!(target_arch = "aarch64") { 31 } else { 0 };

/// Checks that `moved`, and nothing else, is at `offset` in memory that was full of `background`.
pub(super) fn landed(memory: &[u8], offset: usize, background: u8, moved: &[u8]) -> Result<(), String> {
    let (before, rest) = memory.split_at(offset);
    let (landed, after) = rest.split_at(moved.len());
    if landed != moved {
        return Err(format!("not the {} bytes that were to move", moved.len()));
    }
    match before.iter().chain(after).filter(|&&byte| byte != background).count() {
        0 => Ok(()),
        others => Err(format!("{others} bytes more than the {} counted", moved.len())),
    }
}

/// Compares bytes with the expected ones; an error has the first difference.
pub(super) fn compare(place: &str, bytes: &[u8], expected: &[u8]) -> Result<(), String> {
    if bytes.len() != expected.len() {
        return Err(format!("{} bytes {place}, where {} must be", bytes.len(), expected.len()));
    }
    match bytes.iter().zip(expected).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => Err(format!("{:#x} at {at} {place}, where {:#x} must be", bytes[at], expected[at])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_a_wrong_and_an_uncounted_byte_are_seen() {
        let mut memory = vec![0; 256];
        memory[64..67].copy_from_slice(&[1, 2, 3]);
        assert_eq!(landed(&memory, 64, 0, &[1, 2, 3]), Ok(()));
        for moved in [&[1, 2][..], &[1, 2, 4], &[1, 2, 3, 4]] {
            assert!(landed(&memory, 64, 0, moved).is_err(), "{moved:?}");
        }
    }
}
