//! Scans by pointer: the same protection, without a reference to bytes that change.

use faultin::map::Change;

use crate::fixture::{content, each, set_len};
use crate::scan::{add, served};

/// The sum of the bytes, each loaded once.
fn volatile_sum(bytes: *const [u8]) -> u64 {
    let first = bytes.cast::<u8>();
    // SAFETY: within the bytes of a running scan.
    (0..bytes.len()).map(|at| u64::from(unsafe { first.add(at).read_volatile() })).sum()
}

#[test]
fn a_scan_by_pointer_sees_the_file() {
    let page = faultin::page_size();
    let len = 3 * page + 77;
    let whole = content(len);
    each(|case| {
        let (_path, map) = case.mapped(len);
        assert_eq!(map.with_raw(.., volatile_sum).expect("nothing happened"), add(&whole));
        let within = map.with_raw(5..page as u64 + 5, volatile_sum).expect("nothing happened");
        assert_eq!(within, add(&whole[5..page + 5]));
        assert_eq!(map.with_raw(9..9, |bytes| bytes.len()).expect("nothing happened"), 0);
    });
}

#[test]
fn a_file_that_is_cut_under_a_scan_by_pointer_is_damage() {
    let page = faultin::page_size();
    let whole = content(4 * page);
    each(|case| {
        let (path, map) = case.mapped(4 * page);
        let before = served();
        let scanned = map.with_raw(.., |bytes| {
            // SAFETY: the first byte of a running scan.
            let first = unsafe { bytes.cast::<u8>().read_volatile() };
            set_len(&path, page + 100);
            (first, volatile_sum(bytes))
        });
        if !case.faults() {
            // The copy that was made before.
            assert_eq!(scanned.expect("a copy does not change"), (whole[0], add(&whole)));
            return;
        }
        let damaged = scanned.expect_err("the file was cut");
        let change = Change::Shrunk { from: 4 * page as u64, to: page as u64 + 100 };
        assert_eq!(damaged.error.change(), Some(change));
        assert_eq!(damaged.value, Some((whole[0], add(&whole[..page + 100]))));
        assert_eq!((damaged.first_bad, served() - before), (Some(page as u64 + 100), 1));
    });
}
