//! A file grows from a mapping of its own last page. The bytes past the end in that page are zeroed before they become part
//! of the file, and the page, which is the buffer, is unmapped for that once.

use faultin::iov::IovSource;
use faultin_cache::pager::Mode;
use faultin_cache::store::MemoryStore;
use faultin_cache::write::WriteLoop;
use faultin_cache::{CacheOptions, CachedFile, FileOptions, Partial};

use crate::common::compare::assert_same;
use crate::common::kernel_loops;
use crate::common::watchdog;
use crate::counted::{map, pattern};

const LEN: usize = 1725;

/// The position of each write; `None`: the end.
const WRITES: [Option<usize>; 6] = [None, Some(LEN), Some(LEN - 25), Some(9000), Some(100), Some(4096)];

fn check(
    how: &WriteLoop,
    write: impl Fn(&CachedFile, &mut IovSource<'_, '_>, Option<usize>) -> Result<usize, Partial>,
) {
    watchdog::start();
    for mode in Mode::ALL {
        for stored in [None, Some(10), Some(LEN + 5)] {
            for (pos, from, len) in WRITES.iter().flat_map(|pos| [(*pos, 0, 64), (*pos, 1000, LEN - 1000)]) {
                let cache = CacheOptions::new().limit(16 << 20).build();
                let options = FileOptions::new().write_loop(how.clone());
                let file = cache.open_with(MemoryStore::new([]), options).unwrap();
                let mut expected = pattern(LEN, 3);
                file.write_at(&expected, 0).unwrap();
                let Some(mapping) = map(&file, 4096, mode) else { continue };
                if let Some(at) = stored {
                    // SAFETY: within the mapping, whose faults are resolved.
                    unsafe { mapping.as_ptr().add(at).write_volatile(8) };
                    if let Some(byte) = expected.get_mut(at) {
                        *byte = 8;
                    }
                }
                let view = mapping.read_view().unwrap().subslice(from..from + len).unwrap();
                let moved = write(&file, &mut IovSource::one(view), pos);
                let what = format!("{mode:?}, stored to {stored:?}, {len} bytes from {from} to {pos:?}");
                assert_eq!(moved.map_err(|partial| (partial.done, partial.to_string())), Ok(len), "{what}");
                let pos = pos.unwrap_or(LEN);
                expected.resize(expected.len().max(pos + len), 0);
                expected.copy_within(from..from + len, pos);
                let mut bytes = vec![0; expected.len() + 1];
                let read = file.read_at(&mut bytes, 0).unwrap();
                // Where source and destination overlap, the bytes are some mixture.
                if from + len <= pos {
                    assert_same(&bytes[..read], &expected, &what);
                } else {
                    assert_eq!(read, expected.len(), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_file_grows_from_a_mapping_of_its_last_page() {
    for how in [
        WriteLoop::DEFAULT,
        kernel_loops::GENERIC_PERFORM_WRITE,
        kernel_loops::GENERIC_PERFORM_WRITE_5_18,
        kernel_loops::FUSE_FILL_WRITE_PAGES,
    ] {
        check(&how, |file, from, pos| match pos {
            None => file.append_iter(from),
            Some(pos) => file.write_iter(from, pos as u64),
        });
    }
}

#[test]
fn a_file_grows_by_direct_writes_from_a_mapping_of_its_last_page() {
    check(&WriteLoop::DEFAULT, |file, from, pos| file.write_direct(from, pos.unwrap_or(LEN) as u64));
}

/// Bytes that a store through the mapping left past the end never become part of the file, however often it grows.
#[test]
fn what_was_stored_after_the_end_is_zeroed_each_time() {
    watchdog::start();
    for mode in Mode::ALL {
        let file = CacheOptions::new().build().open(MemoryStore::new([])).unwrap();
        file.write_at(&[7; 100], 0).unwrap();
        let Some(mapping) = map(&file, 4096, mode) else { continue };
        let mut expected = vec![7; 100];
        for round in 0..20 {
            let end = expected.len();
            // SAFETY: within the mapping, whose faults are resolved.
            unsafe { mapping.as_ptr().add(end + 3).write_volatile(9) };
            let view = mapping.read_view().unwrap().subslice(0..10).unwrap();
            let at = end + 20;
            assert_eq!(file.write_iter(&mut IovSource::one(view), at as u64).unwrap(), 10, "{mode:?}, round {round}");
            expected.resize(at, 0);
            expected.extend_from_slice(&[7; 10]);
            let mut bytes = vec![0; expected.len()];
            file.read_at(&mut bytes, 0).unwrap();
            assert_same(&bytes, &expected, &format!("{mode:?}, round {round}"));
        }
    }
}
