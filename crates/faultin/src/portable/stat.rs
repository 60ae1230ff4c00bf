//! Replaces `stat` on systems other than Linux, with what the standard library reports about a file.

use std::fs::File;
use std::io;

/// Returns the type of a file that is not a regular one.
pub(crate) fn irregular(file: &File) -> io::Result<Option<std::fs::FileType>> {
    let kind = file.metadata()?.file_type();
    Ok(if kind.is_file() { None } else { Some(kind) })
}
