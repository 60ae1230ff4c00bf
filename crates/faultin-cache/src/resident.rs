//! Which blocks are in memory.

#![forbid(unsafe_code)]

use std::ops::Range;

use faultin::Residency;

use crate::error::Error;
use crate::inode::Inode;

impl Inode {
    /// Returns the valid bytes of a range, as far as the file has it.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] if another thread has the inode lock exclusively.
    pub(crate) fn resident(&self, range: Range<u64>) -> Result<Residency, Error> {
        let table = self.table().try_shared().ok_or(Error::WouldBlock)?;
        let mut found = Residency::new(range.start..range.end.min(table.size()));
        table.valid_runs(range, |_, run| {
            found.add(run);
            true
        });
        Ok(found)
    }
}
