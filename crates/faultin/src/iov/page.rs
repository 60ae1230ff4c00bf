//! Copying parts of private pages from and to a list.
//!
//! A page here is a slice of any length: a folio is one, however large. It is mapped as a whole, so no copy has to be split
//! at its pages (which the kernel once forgot where they are mapped one by one: CVE-2024-50222).

use core::ops::Range;

use super::{IovDest, IovSource};
use crate::fault::{Access, Cause, Fault, Short};
use crate::memory::{ReadMemory, WriteMemory};

/// Returns the range of `len` bytes from `offset`, if it is within a page of `size` bytes.
fn within(size: usize, offset: usize, len: usize, access: Access) -> Result<Range<usize>, Short> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(offset..end),
        _ => Err(Short { done: 0, fault: Fault::rejected_nowhere(access, Cause::OutOfRange) }),
    }
}

impl<M: ReadMemory> IovSource<'_, '_, M> {
    /// Copies `len` bytes, or what is left if that is less, to `page` from `offset` on, and advances by the number of bytes
    /// copied, which it returns. The first piece that is short ends the copy.
    ///
    /// # Errors
    /// [`Short`], as [`copy_from_iter`](Self::copy_from_iter). If the bytes are not within the page, nothing is accessed
    /// ([`Cause::OutOfRange`]; the kernel warns and returns 0).
    pub fn copy_page_from_iter(&mut self, page: &mut [u8], offset: usize, len: usize) -> Result<usize, Short> {
        let range = within(page.len(), offset, len, Access::Write)?;
        self.copy_from_iter(&mut page[range])
    }
}

impl<M: WriteMemory> IovDest<'_, '_, M> {
    /// Copies `len` bytes of `page` from `offset` on to the list, or as much as the list has left, and advances by the
    /// number of bytes copied, which it returns. The first piece that is short ends the copy.
    ///
    /// # Errors
    /// [`Short`], as [`copy_to_iter`](Self::copy_to_iter). If the bytes are not within the page, nothing is accessed
    /// ([`Cause::OutOfRange`]; the kernel warns and returns 0).
    pub fn copy_page_to_iter(&mut self, page: &[u8], offset: usize, len: usize) -> Result<usize, Short> {
        let range = within(page.len(), offset, len, Access::Read)?;
        self.copy_to_iter(&page[range])
    }
}
