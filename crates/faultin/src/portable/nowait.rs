//! Replaces `map::nowait` on systems other than Linux, which have no call that reads only resident bytes without
//! waiting.

use std::fs::File;

use super::error::{OperationError, Reason};

/// Fails, unless the range is empty.
pub(super) fn read(_: &File, dst: &mut [u8], _: u64) -> Result<(), OperationError> {
    if dst.is_empty() { Ok(()) } else { Err(OperationError::new(0, Reason::Unsupported("reading without waiting"))) }
}
