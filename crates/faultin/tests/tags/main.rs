//! Real memory tags: a granule of 16 bytes whose tag differs from the pointer's, anywhere in a page, on either side.
//!
//! These faults have the finest granularity. They are in the middle of a page, no page table shows them, and a wide access
//! may begin before one, end after it, or both. So every count is checked at every position of the bad granule.

#[cfg(all(target_arch = "aarch64", not(faultin_syscall)))]
mod memory;

#[cfg(all(target_arch = "aarch64", not(faultin_syscall)))]
mod copies;
#[cfg(all(target_arch = "aarch64", not(faultin_syscall)))]
mod scalars;
#[cfg(all(target_arch = "aarch64", not(faultin_syscall)))]
mod walks;

#[cfg(not(all(target_arch = "aarch64", not(faultin_syscall))))]
#[test]
fn memory_tags() {
    faultin_test::skipped("memory-tags", "aarch64 only");
}
