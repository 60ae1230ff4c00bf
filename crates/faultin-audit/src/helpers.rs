//! The helpers of the kernels that the callers were found in, on a view of user memory, with their faults.
//!
//! None of them proves what its callers took it to prove: one byte in each page says nothing about the others.

#![forbid(unsafe_code)]

use std::num::NonZeroUsize;

use faultin::{Cause, Fault, ReadView, WriteView};

use crate::log::Log;

/// `fault_in_pages_readable` of Linux 5.14: loads a byte at the start, one at every page's distance from it, and the last
/// one if that lies in another page. All or an error.
///
/// # Errors
/// The first fault.
pub fn fault_in_pages_readable(user: &ReadView<'_>, log: &mut Log) -> Result<(), Fault> {
    let result = touched(user.as_ptr().addr(), user.len()).try_for_each(|at| user.load::<u8>(at).map(drop));
    log.accessed("fault_in_pages_readable (5.14: a byte of each page; all or EFAULT)", user.len(), &result);
    result
}

/// `fault_in_pages_writeable` of Linux 5.14: *stores a zero* where its sibling loads. All or an error; the zeros stay
/// either way.
///
/// # Errors
/// The first fault.
pub fn fault_in_pages_writeable(user: &WriteView<'_>, log: &mut Log) -> Result<(), Fault> {
    let result = touched(user.as_ptr().addr(), user.len()).try_for_each(|at| user.store::<u8>(at, 0));
    log.accessed("fault_in_pages_writeable (5.14: stores a zero in each page; all or EFAULT)", user.len(), &result);
    result
}

/// The helper that the mail argues against: some of it is success. It is what the callers that need ANY want, and what
/// this crate's own `fault_in` does; the mail's point is who may *not* use it.
///
/// # Errors
/// The fault at the first byte: nothing could be faulted in.
pub fn fault_in_partial_is_success(user: &ReadView<'_>, log: &mut Log) -> Result<(), Fault> {
    let what = "fault-in (partial counts as success)";
    let Some(len) = NonZeroUsize::new(user.len()) else { return Ok(()) };
    let result = user.fault_in(0, len);
    let bytes = result.map_or(0, NonZeroUsize::get);
    match result {
        Ok(_) if bytes < user.len() => log.decide(format!("{what}: {bytes} of {len} bytes, success")),
        _ => log.accessed(what, user.len(), &result),
    }
    result.map(drop)
}

/// Whether a kernel would have seen a page fault, which a fault-in may mend, and not a refusal that it cannot.
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

/// The offsets that the helpers of 5.14 touch.
fn touched(start: usize, len: usize) -> impl Iterator<Item = usize> {
    let page = faultin::page_size();
    let strides = (0..len).step_by(page);
    let reached = strides.clone().next_back().unwrap_or(0);
    let last = len.saturating_sub(1);
    let spills = (start + last) / page != (start + reached) / page;
    strides.chain(spills.then_some(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touches_every_page_once() {
        let page = faultin::page_size();
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
            assert_eq!(touched(start, len).collect::<Vec<_>>(), expected, "{start} {len}");
        }
    }
}
