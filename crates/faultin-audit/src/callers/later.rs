//! The rows that do not run yet: their names, needs and findings. [`all`](super::all) has them in line with those that do.

#![forbid(unsafe_code)]

use super::Need::{Any, Either};
use super::{Caller, Need};

const fn row(row: u8, name: &'static str, place: &'static str, need: Need, finding: &'static str) -> Caller {
    Caller { row, name, place, need, finding, job: None }
}

pub(super) const ROWS: [Caller; 10] = [
    row(
        8,
        "generic_perform_write",
        "mm",
        Any,
        "a short copy without progress shortens the next chunk; zero copied relies on fault-in to refuse",
    ),
    row(9, "f2fs_file_write_iter", "f2fs", Either, "preallocation heuristic; correct either way"),
    row(10, "fuse_fill_write_pages", "fuse", Any, "like 8, simpler: no write_end"),
    row(
        11,
        "btrfs_buffered_write",
        "btrfs",
        Any,
        "after a short copy goes page by page and brings destination pages up to date",
    ),
    row(12, "ntfs_perform_write", "ntfs", Any, "like 8"),
    row(13, "iomap_write_actor", "iomap", Any, "like 8"),
    row(
        17,
        "gfs2 buffered write",
        "gfs2",
        Any,
        "copy with faults disabled under the lock, drop it, fault in, retry; one page when nothing moves",
    ),
    row(18, "gfs2 buffered read", "gfs2", Any, "same, faulting in for writing without destroying the buffer"),
    row(19, "gfs2 direct read", "gfs2", Any, "same, resumable: goes on where it stopped"),
    row(20, "gfs2 direct write", "gfs2", Any, "same; falls back to buffered when the write invalidates its own source"),
];
