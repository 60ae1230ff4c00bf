//! Reads, writes and mappings show the same bytes.

use std::num::NonZeroUsize;

use faultin::iov::{IovDest, IovSource};
use faultin::{Cause, page_size};
use faultin_test::Random;

use crate::modes::{each, load, map, pattern, store};

const PAGES: usize = 40;

#[test]
fn what_is_written_shows_and_what_is_stored_is_read() {
    let page = page_size();
    let bytes = pattern(PAGES * page - 100);
    each(&bytes, |_, file, home, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        for at in [0, 1, 5 * page, 5 * page - 1, bytes.len() - 1] {
            assert_eq!(load(&mapping, at), bytes[at], "{mode:?}, {at}");
        }
        assert!((bytes.len()..mapping.len()).all(|at| load(&mapping, at) == 0), "zeros behind the end");
        file.write_at(b"written", 3 * page as u64 - 3).unwrap();
        assert_eq!((load(&mapping, 3 * page - 3), load(&mapping, 3 * page)), (b'w', b't'));
        for at in [7, 2 * page, 9 * page + 5] {
            store(&mapping, at, 0xee);
            let mut read = [0];
            file.read_at(&mut read, at as u64).unwrap();
            assert_eq!(read, [0xee], "{mode:?}, {at}");
        }
        assert_eq!(file.dirty(), 4 * page as u64, "pages 0, 2 and 9 by stores, 2 and 3 by the write");
        file.sync_all().unwrap();
        assert_eq!(file.dirty(), 0);
        let mut model = bytes.clone();
        model[3 * page - 3..3 * page + 4].copy_from_slice(b"written");
        for at in [7, 2 * page, 9 * page + 5] {
            model[at] = 0xee;
        }
        assert!(home.contents() == model, "{mode:?}");
        // Stores are detected again after the pages were clean.
        store(&mapping, 7, 0xdd);
        drop(mapping);
        file.sync_all().unwrap();
        model[7] = 0xdd;
        assert!(home.contents() == model, "{mode:?}");
    });
}

#[test]
fn what_is_taken_away_comes_back() {
    let page = page_size();
    let bytes = pattern(PAGES * page);
    each(&bytes, |cache, file, _, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        for round in 0..4_u8 {
            for index in 0..PAGES {
                store(&mapping, index * page + usize::from(round), round);
            }
            if round % 2 == 0 {
                file.sync_all().unwrap();
            }
            cache.drop_clean();
            for index in 0..PAGES {
                for at in 0..=round {
                    assert_eq!(load(&mapping, index * page + usize::from(at)), at, "{mode:?}, page {index}");
                }
            }
        }
    });
}

#[test]
fn a_mapping_larger_than_the_cache() {
    let page = page_size();
    let bytes = pattern(300 * page);
    each(&bytes, |cache, file, home, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        for index in 0..300 {
            store(&mapping, index * page + 1, 2);
            assert!(cache.used() <= cache.limit() + 2 * page);
        }
        for index in 0..300 {
            assert_eq!((load(&mapping, index * page), load(&mapping, index * page + 1)), (bytes[index * page], 2));
        }
        drop(mapping);
        file.sync_all().unwrap();
        let contents = home.contents();
        assert!((0..300).all(|index| contents[index * page + 1] == 2));
    });
}

#[test]
fn a_file_that_is_cut_and_grows_again() {
    let page = page_size();
    let bytes = pattern(8 * page);
    each(&bytes, |_, file, home, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        let view = mapping.read_view().unwrap();
        let one = NonZeroUsize::MIN;
        for at in (0..bytes.len()).step_by(page) {
            store(&mapping, at, 9);
        }
        file.set_len(3 * page as u64 + 10).unwrap();
        assert_eq!(load(&mapping, 3 * page), 9);
        assert_eq!(load(&mapping, 3 * page + 10), 0, "behind the end");
        let fault = view.fault_in(4 * page, one).unwrap_err();
        assert_eq!(fault.cause(), Cause::Backing, "{mode:?}");
        assert!(view.read(&mut [0], 4 * page).is_err());
        // A store past the end does not become part of the file.
        store(&mapping, 3 * page + 20, 7);
        file.set_len(8 * page as u64).unwrap();
        assert_eq!((load(&mapping, 3 * page + 20), load(&mapping, 4 * page), load(&mapping, 7 * page)), (0, 0, 0));
        store(&mapping, 6 * page, 5);
        file.set_len(3 * page as u64 + 10).unwrap();
        store(&mapping, 3 * page + 30, 7);
        file.write_at(b"x", 3 * page as u64 + 40).unwrap();
        store(&mapping, 3 * page + 45, 7);
        file.append(b"y").unwrap();
        file.sync_all().unwrap();
        let mut model = bytes[..3 * page + 10].to_vec();
        for at in (0..model.len()).step_by(page) {
            model[at] = 9;
        }
        model.resize(3 * page + 40, 0);
        model.extend(b"xy");
        assert!(home.contents() == model, "{mode:?}");
    });
}

#[test]
fn a_hole_is_zeros_in_mappings_too() {
    let page = page_size();
    let bytes = pattern(8 * page);
    each(&bytes, |_, file, home, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        for at in (0..bytes.len()).step_by(page) {
            store(&mapping, at + 1, 9);
        }
        let hole = page + 5..4 * page + 7;
        file.punch_hole(hole.start as u64..hole.end as u64).unwrap();
        let mut model = bytes.clone();
        (0..bytes.len()).step_by(page).for_each(|at| model[at + 1] = 9);
        model[hole].fill(0);
        assert!((0..bytes.len()).all(|at| load(&mapping, at) == model[at]), "{mode:?}");
        store(&mapping, 2 * page, 1);
        model[2 * page] = 1;
        file.sync_all().unwrap();
        assert!(home.contents() == model, "{mode:?}");
    });
}

#[test]
fn two_mappings_of_a_file_are_one() {
    let page = page_size();
    let bytes = pattern(8 * page);
    each(&bytes, |cache, file, _, mode| {
        let (one, other) = (map(file, mode, bytes.len() as u64).unwrap(), map(file, mode, bytes.len() as u64).unwrap());
        for round in 1..20 {
            let at = round * 1000 % bytes.len();
            store(&one, at, round as u8);
            assert_eq!(load(&other, at), round as u8);
            if round % 3 == 0 {
                file.sync_all().unwrap();
            }
            if round % 5 == 0 {
                cache.drop_clean();
            }
        }
    });
}

/// A buffer that is a mapping of the file being read or written.
#[test]
fn a_file_is_read_and_written_with_itself_as_the_buffer() {
    let page = page_size();
    let bytes = pattern(PAGES * page);
    let rounds = if cfg!(target_arch = "x86_64") { 60 } else { 8 };
    each(&bytes, |cache, file, home, mode| {
        let mapping = map(file, mode, bytes.len() as u64).unwrap();
        let (read, write) = (mapping.read_view().unwrap(), mapping.write_view().unwrap());
        let random = Random::new(1);
        let mut model = bytes.clone();
        for round in 0..rounds {
            let len = 1 + random.below(6 * page as u64) as usize;
            let [from, to] = [0, 1].map(|_| random.below((bytes.len() - len) as u64) as usize);
            // Overlapping ranges are copied in pieces, in unspecified order; other tests cover them.
            if from.abs_diff(to) < len && from != to {
                continue;
            }
            let before = model.clone();
            match round % 4 {
                0 | 1 => {
                    let mut source = IovSource::one(read.subslice(from..from + len).unwrap());
                    let written = if round % 4 == 0 {
                        file.write_iter(&mut source, to as u64)
                    } else {
                        file.write_direct(&mut source, to as u64)
                    };
                    assert_eq!(written.unwrap(), len, "{mode:?}");
                    model[to..to + len].copy_from_slice(&before[from..from + len]);
                }
                _ => {
                    let mut dest = IovDest::one(write.subslice(to..to + len).unwrap());
                    let done = if round % 4 == 2 {
                        file.read_iter(&mut dest, from as u64)
                    } else {
                        file.read_direct(&mut dest, from as u64)
                    };
                    assert_eq!(done.unwrap(), len, "{mode:?}");
                    model[to..to + len].copy_from_slice(&before[from..from + len]);
                }
            }
            if round % 3 == 0 {
                file.sync_all().unwrap();
                cache.drop_clean();
            }
            let mut now = vec![0; bytes.len()];
            file.read_at(&mut now, 0).unwrap();
            assert!(now == model, "{mode:?}, round {round}: {len} bytes at {from} to {to}");
        }
        file.sync_all().unwrap();
        assert!(home.contents() == model, "{mode:?}");
    });
}
