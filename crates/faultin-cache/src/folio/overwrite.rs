//! Overwriting cached bytes beside other threads, each of which has a range of its own.
//!
//! Only bytes, dirty bits and the number of uses change: all else of a table is as it was, so that threads can share it.

use super::inside::memory::Memory;
use super::{Folio, Table};
use crate::lock::Ranged;

/// The result of an overwrite.
pub(crate) struct Overwritten {
    /// Number of bytes that were copied.
    pub(crate) moved: usize,
    /// Number of bytes that became dirty.
    pub(crate) dirty: usize,
}

impl Table {
    /// Lets `copy` overwrite the bytes of a range, folio by folio; it returns how many it has. Returns `None`, and changes
    /// nothing, where more than bytes and bits would change: if not all of the range is valid, was written before, and is
    /// in the file; if the file is mapped; if a sync has failed.
    #[inline]
    pub(crate) fn overwrite(
        ranged: &mut Ranged<'_, Table>,
        mut copy: impl FnMut(&mut [u8]) -> usize,
    ) -> Option<Overwritten> {
        let range = ranged.range();
        let table: &Table = ranged;
        if range.is_empty() || range.end > table.size || table.mapped.is_some() || !table.unsynced.is_quiet() {
            return None;
        }
        let piece = |pos| {
            let folio = table.get(table.find(pos)?);
            Some((folio, pos..folio.end().min(range.end)))
        };
        let mut pos = range.start;
        while pos < range.end {
            let (folio, part) = piece(pos)?;
            pos = part.end;
            if !folio.is_uptodate(part) || !folio.was_written() || folio.is_shared() {
                return None;
            }
        }
        let mut done = Overwritten { moved: 0, dirty: 0 };
        let mut pos = range.start;
        while pos < range.end
            && let Some((folio, part)) = piece(pos)
            && let Memory::Frames(frames) = &folio.memory
        {
            folio.touch();
            // SAFETY: the part is in the range, whose bytes only this thread accesses while it has `ranged`, and `ranged` is
            // borrowed exclusively.
            let moved = copy(unsafe { frames.part_mut(folio.within(part.clone())) });
            done.moved += moved;
            done.dirty += folio.set_dirty_beside_others(pos..pos + moved as u64);
            if moved < (part.end - part.start) as usize {
                break;
            }
            pos = part.end;
        }
        Some(done)
    }
}

impl Folio {
    /// Marks the blocks dirty that `part` touches, of a folio that was written before: returns how many bytes more than
    /// before. Other threads may do the same at the same time, and nothing else.
    #[inline]
    fn set_dirty_beside_others(&self, part: std::ops::Range<u64>) -> usize {
        if part.is_empty() { 0 } else { self.dirty.set_beside_others(self.touched(&part)) * self.block }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use crate::lock::{WHILE_ALLOWING, held_by};
    use crate::store::MemoryStore;
    use crate::write::WriteLoop;
    use crate::{Cache, CachedFile, FileOptions, sync, sys};

    const LEN: usize = 1 << 20;

    fn dirty_file() -> CachedFile {
        let file = Cache::new().open(MemoryStore::new([])).unwrap();
        file.write_at(&vec![1; LEN], 0).unwrap();
        file
    }

    /// Lets writers meet until ranges are allowed.
    fn allow(file: &CachedFile) {
        let mut met = 0;
        let writers = file.inode().writers().exclusive().unwrap();
        while !file.inode().table().meet_writer() {
            met += 1;
            assert!(met <= 2 * sync::MEETINGS);
        }
        writers.bias();
        assert!(met > 1, "one meeting is not many");
    }

    fn all(file: &CachedFile) -> Vec<u8> {
        let mut bytes = vec![0; 2 * LEN];
        let len = file.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(len);
        bytes
    }

    #[test]
    fn overwrites_keep_ranges_allowed_and_other_operations_do_not() {
        let file = dirty_file();
        let mut expected = vec![1; LEN];
        allow(&file);
        let write = |expected: &mut Vec<u8>, byte: u8, pos: usize, len: usize| {
            assert_eq!(file.write_at(&vec![byte; len], pos as u64).unwrap(), len);
            let end = (pos + len).max(expected.len());
            expected.resize(end, 0);
            expected[pos..pos + len].fill(byte);
            file.inode().table().has_ranges()
        };
        for (byte, pos, len) in [(2, 0, 1), (3, 4095, 2), (4, 500_000, 4096), (5, LEN - 200_000, 200_000)] {
            assert!(write(&mut expected, byte, pos, len), "{len} bytes at {pos}");
        }
        assert!(!write(&mut expected, 6, LEN - 1, 2), "it makes the file longer");
        assert!(all(&file) == expected && !file.inode().table().has_ranges());

        // Clean blocks become dirty.
        file.sync_all().unwrap();
        allow(&file);
        assert_eq!(file.dirty(), 0);
        assert!(write(&mut expected, 7, 8191, 2));
        assert_eq!(file.dirty(), 2 * 4096);
        assert!(write(&mut expected, 8, 8191, 3));
        assert_eq!(file.dirty(), 2 * 4096);
        assert!(all(&file) == expected);

        // Blocks that are not in memory.
        allow(&file);
        file.sync_all().unwrap();
        file.dont_need(0..u64::MAX).unwrap();
        allow(&file);
        assert!(!write(&mut expected, 9, 10_000, 10));
        assert!(all(&file) == expected);
        // Blocks that were not written yet: only then may the store have other bytes than they have.
        file.sync_all().unwrap();
        file.dont_need(0..u64::MAX).unwrap();
        assert!(all(&file) == expected);
        allow(&file);
        assert!(!write(&mut expected, 10, 100_000, 10));
        assert!(all(&file) == expected);
        assert_eq!(file.stats().writes, 10);
    }

    #[test]
    fn who_allows_ranges_is_seen_to_hold_the_lock() {
        let file = dirty_file();
        WHILE_ALLOWING.set(Some(|| {
            assert!(held_by(sys::gettid()));
            WHILE_ALLOWING.set(None);
        }));
        allow(&file);
        assert!(WHILE_ALLOWING.get().is_none(), "it was looked at");
    }

    #[test]
    fn other_kinds_of_writes_take_the_whole_lock() {
        for how in [
            WriteLoop { write_through: true, ..WriteLoop::DEFAULT },
            WriteLoop { batch: crate::write::Batch::Folio, ..WriteLoop::DEFAULT },
        ] {
            let options = FileOptions::new().write_loop(how.clone());
            let file = Cache::new().open_with(MemoryStore::new([]), options).unwrap();
            file.write_at(&vec![1; LEN], 0).unwrap();
            allow(&file);
            file.write_at(&[2], 0).unwrap();
            assert!(!file.inode().table().has_ranges(), "{how:?}");
        }
        let file = dirty_file();
        allow(&file);
        file.append(&[2]).unwrap();
        assert!(!file.inode().table().has_ranges());
        allow(&file);
        let _map = file.map(0..LEN as u64, faultin::map::Rights::ReadWrite, crate::pager::Mode::Mprotect).unwrap();
        allow(&file);
        file.write_at(&[3], 1).unwrap();
        assert!(!file.inode().table().has_ranges(), "the bytes are in another place");
        assert_eq!(all(&file)[..3], [1, 3, 1]);
    }

    /// A write waits for another one to the same bytes, and not for one to others; everything else waits for it.
    #[test]
    fn ranges_exclude_what_overlaps() {
        let file = dirty_file();
        allow(&file);
        let has_written = AtomicBool::new(false);
        thread::scope(|scope| {
            let range = file.inode().table().try_range(0..100).unwrap();
            assert!(file.inode().table().try_range(50..150).is_none());
            assert!(file.inode().table().try_exclusive().is_none());
            assert!(file.inode().table().try_in_signal().is_none());
            assert!(file.inode().table().has_ranges(), "attempts that fail change nothing");
            file.write_at(&[2; 100], 500_000).unwrap();
            assert!(matches!(file.len(), Err(crate::Error::Deadlock(_))), "this thread has a part of the lock");
            let overlapping = scope.spawn(|| {
                file.write_at(&[3; 100], 99).unwrap();
                has_written.store(true, Ordering::Release);
            });
            thread::sleep(Duration::from_millis(20));
            assert!(!has_written.load(Ordering::Acquire));
            drop(range);
            overlapping.join().unwrap();
        });
        assert!(has_written.into_inner());
        let bytes = all(&file);
        assert_eq!((bytes[98], bytes[99], bytes[198], bytes[199], bytes[500_099]), (1, 3, 3, 1, 2));
    }

    /// A thread that has the writers' lock may be in the middle of a longer write.
    #[test]
    fn a_write_waits_for_the_writers_lock() {
        let file = dirty_file();
        allow(&file);
        let has_written = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers = file.inode().writers().exclusive().unwrap();
            let other = scope.spawn(|| {
                file.write_at(&[3], 0).unwrap();
                has_written.store(true, Ordering::Release);
            });
            thread::sleep(Duration::from_millis(20));
            assert!(!has_written.load(Ordering::Acquire));
            drop(writers);
            other.join().unwrap();
        });
        assert_eq!(all(&file)[..2], [3, 1]);
    }
}
