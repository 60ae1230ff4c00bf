//! The helpers of the kernels in which the callers were found, on user memory, with their bugs, and the two of this crate
//! that replace them. Each reports when it has brought something in.
//!
//! None of them proves what its callers assumed: one byte in each page says nothing about the others.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;

use faultin::memory::{ReadMemory, WriteMemory};
use faultin::{Cause, Fault, Granularity, Short};

use crate::log::Log;

/// `fault_in_pages_readable` of Linux 5.14: loads a byte at the start, one at every page's distance from it, and the last
/// one if that is on another page. All or an error.
///
/// # Errors
/// The first fault.
pub fn fault_in_pages_readable(user: &impl ReadMemory, log: &mut Log) -> Result<(), Fault> {
    let result = touched(user).try_for_each(|at| user.load::<u8>(at).map(drop));
    log.accessed("fault_in_pages_readable (5.14: a byte of each page; all or EFAULT)", user.len(), &result);
    result.inspect(|()| log.faulted_in())
}

/// `fault_in_pages_writeable` of Linux 5.14: *stores a zero* where its sibling loads. All or an error; the zeros stay
/// either way.
///
/// # Errors
/// The first fault.
pub fn fault_in_pages_writeable(user: &impl WriteMemory, log: &mut Log) -> Result<(), Fault> {
    let result = touched(&user.as_read()).try_for_each(|at| user.store::<u8>(at, 0));
    log.accessed("fault_in_pages_writeable (5.14: stores a zero in each page; all or EFAULT)", user.len(), &result);
    result.inspect(|()| log.faulted_in())
}

/// The helper that the mail argues against: a part is success. The callers that need ANY want this, and this crate's own
/// `fault_in` does it; the mail's point is which callers may *not* use it.
///
/// # Errors
/// The fault of the first byte: nothing could be faulted in.
pub fn fault_in_partial_is_success(user: &impl ReadMemory, log: &mut Log) -> Result<(), Fault> {
    let what = "fault-in (partial counts as success)";
    let Some(len) = NonZeroUsize::new(user.len()) else { return Ok(()) };
    let result = user.fault_in(0, len);
    let bytes = result.map_or(0, NonZeroUsize::get);
    match result {
        Ok(_) if bytes < user.len() => log.decide(format!("{what}: {bytes} of {len} bytes, success")),
        _ => log.accessed(what, user.len(), &result),
    }
    result.map(drop).inspect(|()| log.faulted_in())
}

/// faultin's own *ALL* for loads: proves every granule.
///
/// # Errors
/// [`Short`] if a byte cannot be loaded: the number of bytes proven.
pub fn probe_read(user: &impl ReadMemory, log: &mut Log) -> Result<(), Short> {
    let proven = user.probe(0..user.len(), Granularity::Tag);
    log.copied("probe every byte for reading", user.len(), &proven);
    proven.inspect(|()| log.faulted_in())
}

/// faultin's own *ALL* for stores: proves every granule, and changes none.
///
/// # Errors
/// [`Short`] if a byte cannot be stored: the number of bytes proven.
pub fn probe_write(user: &impl WriteMemory, log: &mut Log) -> Result<(), Short> {
    let proven = user.probe(0..user.len(), Granularity::Tag);
    log.copied("probe every byte for writing, change none", user.len(), &proven);
    proven.inspect(|()| log.faulted_in())
}

/// Returns whether a kernel would have seen a page fault, which a fault-in may resolve, and not an error that it cannot.
pub fn is_page_fault(fault: &Fault) -> bool {
    matches!(
        fault.cause(),
        Cause::Unmapped
            | Cause::Protection
            | Cause::Backing
            | Cause::Poison { .. }
            | Cause::Tag
            | Cause::ProtectionKey
            | Cause::NotResident
    )
}

/// Returns the offsets that the helpers of 5.14 touch.
pub(crate) fn touched(user: &impl ReadMemory) -> impl Iterator<Item = usize> {
    strides(user.page_size(), if user.is_empty() { 1 } else { user.to_page_end(0) }, user.len())
}

/// Returns the offsets in a range of `len` bytes whose first page ends after `to_page_end`.
fn strides(page: usize, to_page_end: usize, len: usize) -> impl Iterator<Item = usize> {
    let strides = (0..len).step_by(page);
    let reached = strides.clone().next_back().unwrap_or(0);
    let last = len.saturating_sub(1);
    let page_of = |offset: usize| (page - to_page_end + offset) / page;
    let spills = page_of(last) != page_of(reached);
    strides.chain(spills.then_some(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touches_every_page_once() {
        let page = 4096;
        for (start, len, expected) in [
            (0, 0, vec![]),
            (0, 1, vec![0]),
            (0, page, vec![0]),
            (0, page + 1, vec![0, page]),
            (page - 4, 4, vec![0]),
            (page - 4, 5, vec![0, 4]),
            (page - 4, page, vec![0, page - 1]),
            (page - 4, page + 4, vec![0, page]),
            (page - 4, page + 5, vec![0, page, page + 4]),
        ] {
            assert_eq!(strides(page, page - start, len).collect::<Vec<_>>(), expected, "{start} {len}");
        }
    }
}
