//! Searching, counting and checksumming foreign memory: all results compared with plain code, and every position of a
//! fault.

mod pages;

use faultin::raw;
use faultin::{Access, Short};
use faultin_test::Random;
use pages::{Bad, Pages, serial};
use proptest::prelude::*;

/// With every vector width of this CPU.
fn each_width(test: impl Fn(&str)) {
    for width in faultin::testing::vectors() {
        assert!(faultin::testing::select_vector(width));
        test(width);
    }
    faultin::testing::select_widest();
}

fn filled(bad: Bad, pages: usize) -> Pages {
    faultin::install().unwrap();
    let mut pages = Pages::new(bad, pages * faultin::page_size());
    pages.before().fill(b'.');
    pages
}

/// Sizes around those at which the implementation changes.
fn sizes() -> impl Iterator<Item = usize> + Clone {
    (0..=140).chain(250..=262).chain([300, 385, 511, 700])
}

fn stopped(result: Result<impl std::fmt::Debug, Short>, at: usize, what: &str) {
    let short = result.expect_err(what);
    assert_eq!((short.done, short.fault.access()), (at, Access::Read), "{what}");
}

#[test]
fn a_byte_is_found_wherever_it_is_and_faults_stop_where_they_are() {
    let _one = serial();
    each_width(|width| {
        for bad in [Bad::Unmapped, Bad::PastEnd] {
            let mut pages = filled(bad, 1);
            let end = pages.good;
            for good in sizes() {
                let src = pages.boundary().wrapping_sub(good).cast_const();
                // SAFETY: may fault, as intended; so for all accesses of this file.
                unsafe {
                    let what = format!("{good} bytes before {bad:?}, {width}");
                    assert_eq!(raw::find_byte(src, good, b'x'), Ok(None), "{what}");
                    assert_eq!(raw::rfind_byte(src, good, b'x'), Ok(None), "{what}");
                    assert_eq!(raw::count_byte(src, good, b'.'), Ok(good), "{what}");
                    for more in [1, 15, 64, 300] {
                        let before = faultin::signal::counters().total();
                        stopped(raw::find_byte(src, good + more, b'x'), good, &what);
                        stopped(raw::count_byte(src, good + more, b'.'), good, &what);
                        stopped(raw::crc32c(0, src, good + more), good, &what);
                        assert!(faultin::signal::counters().total() - before <= 4, "signals: {what}");
                        // Backwards, the first byte that cannot be loaded is the last one.
                        stopped(raw::rfind_byte(src, good + more, b'.'), 0, &what);
                    }
                    for at in 0..good {
                        pages.before()[end - good + at] = b'x';
                        let what = format!("byte {at} of {what}");
                        assert_eq!(raw::find_byte(src, good + 40, b'x'), Ok(Some(at)), "{what}");
                        assert_eq!(raw::find_any(src, good + 40, [b'y', b'x']), Ok(Some(at)), "{what}");
                        assert_eq!(raw::rfind_byte(src, good, b'x'), Ok(Some(at)), "{what}");
                        assert_eq!(raw::rfind_byte(src, at, b'x'), Ok(None), "{what}");
                        assert_eq!(raw::count_byte(src, good, b'x'), Ok(1), "{what}");
                        assert_eq!(raw::count_byte(src, good, b'.'), Ok(good - 1), "{what}");
                        pages.before()[end - good + at] = b'.';
                    }
                }
            }
        }
    });
}

#[test]
fn backwards_a_fault_is_the_last_byte_that_cannot_be_loaded() {
    let _one = serial();
    each_width(|width| {
        let pages = filled(Bad::NoAccess, 1);
        let page = faultin::page_size();
        for behind in sizes() {
            let src = pages.boundary().wrapping_sub(100);
            let len = 100 + page + behind;
            let what = format!("{behind} bytes behind a bad page, {width}");
            // SAFETY: as above.
            unsafe {
                let before = faultin::signal::counters().total();
                stopped(raw::rfind_byte(src, len, b'x'), behind, &what);
                assert!(faultin::signal::counters().total() - before <= 2, "signals: {what}");
                stopped(raw::rfind(src, len, b"xy"), behind, &what);
                stopped(raw::find(src, len, b"xy"), 100, &what);
            }
        }
    });
}

#[test]
fn a_string_is_found_up_to_the_byte_before_a_fault() {
    let _one = serial();
    each_width(|width| {
        let mut pages = filled(Bad::PastEnd, 1);
        let end = pages.good;
        let long: Vec<u8> = (0..400_usize).map(|i| if i % 7 == 0 { b'.' } else { b'a' + (i % 23) as u8 }).collect();
        for needle in [&b"xy"[..], b"...x", b"x...", b"x..y..z", &long[..40], &long] {
            for good in [0, 1, 2, 5, 16, 17, 31, 64, 100, 129, 300, 420, 700] {
                let src = pages.boundary().wrapping_sub(good).cast_const();
                let what = format!("{} bytes in {good}, {width}", needle.len());
                // SAFETY: as above.
                unsafe {
                    assert_eq!(raw::find(src, good, needle), Ok(None), "{what}");
                    assert_eq!(raw::rfind(src, good, needle), Ok(None), "{what}");
                    for more in [1, 300, 1000] {
                        stopped(raw::find(src, good + more, needle), good, &what);
                    }
                    // The last byte would be past the fault, too.
                    for at in 0..good.saturating_sub(needle.len() - 1) {
                        let place = end - good + at..end - good + at + needle.len();
                        let what = format!("at {at}: {what}");
                        pages.before()[place.clone()].copy_from_slice(needle);
                        assert_eq!(raw::find(src, good, needle), Ok(Some(at)), "{what}");
                        assert_eq!(raw::find(src, good + 700, needle), Ok(Some(at)), "{what}");
                        assert_eq!(raw::rfind(src, good, needle), Ok(Some(at)), "{what}");
                        pages.before()[place.clone()].fill(b'.');
                        // All of it except its last byte, directly before the fault.
                    }
                    let part = needle.len().min(good + 1) - 1;
                    pages.before()[end - part..].copy_from_slice(&needle[..part]);
                    if part == needle.len() - 1 && needle[part] != b'.' {
                        assert_eq!(raw::find(src, good, needle), Ok(None), "{what}");
                        stopped(raw::find(src, good + 700, needle), good, &what);
                    }
                    pages.before()[end - part..].fill(b'.');
                }
            }
        }
    });
}

#[test]
fn nothing_of_a_range_is_left_out_because_a_string_cannot_be_there() {
    let _one = serial();
    let pages = filled(Bad::Unmapped, 1);
    let page = faultin::page_size();
    // Begins with inaccessible bytes, which could only contain the needle's first bytes.
    for bad in 1..200 {
        let src = pages.boundary().wrapping_add(page - bad).cast_const();
        let mut needle = [b' '; 255];
        needle[254] = 0xf8;
        needle[253] = 0xf7;
        // SAFETY: as above.
        unsafe { stopped(raw::find(src, page, &needle), 0, &format!("{bad} bad bytes before")) }
        // SAFETY: as above.
        unsafe { stopped(raw::find(src, bad + 3, &needle), 0, "too short for it") }
    }
}

#[test]
fn a_string_that_nearly_is_everywhere_takes_its_time_once() {
    let _one = serial();
    faultin::install().unwrap();
    // Each position has all of it except its last byte, or its first one.
    let text = vec![b'a'; 1 << 20];
    let mut needle = vec![b'a'; 1 << 15];
    for odd in [0, needle.len() - 1, needle.len() / 2] {
        needle[odd] = b'b';
        // SAFETY: slices.
        unsafe {
            assert_eq!(raw::find(text.as_ptr(), text.len(), &needle), Ok(None));
            assert_eq!(raw::rfind(text.as_ptr(), text.len(), &needle), Ok(None));
            let mut text = text.clone();
            for at in [text.len() - needle.len(), 77_777] {
                text[at + odd] = b'b';
                assert_eq!(raw::find(text.as_ptr(), text.len(), &needle), Ok(Some(at)));
                assert_eq!(raw::rfind(text.as_ptr(), text.len(), &needle), Ok(Some(text.len() - needle.len())));
            }
        }
        needle[odd] = b'a';
    }
}

#[test]
fn checksums_are_those_of_the_standard() {
    let sum = |bytes: &[u8]| {
        // SAFETY: a slice.
        unsafe { raw::crc32c(0, bytes.as_ptr(), bytes.len()) }.unwrap()
    };
    faultin::install().unwrap();
    // RFC 3720, appendix B.4, and the check value of the CRC catalogue.
    assert_eq!(sum(&[0; 32]), 0x8a91_36aa);
    assert_eq!(sum(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(sum(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    assert_eq!(sum(b"123456789"), 0xe306_9283);
    let bytes: Vec<u8> = (0..20_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut slow = !0_u32;
    for (len, &byte) in (1..).zip(&bytes) {
        slow ^= u32::from(byte);
        for _ in 0..8 {
            slow = (slow >> 1) ^ (0x82f6_3b78 * (slow & 1));
        }
        if len % 509 == 0 || len < 50 {
            assert_eq!(sum(&bytes[..len]), !slow, "{len} bytes");
            let (a, b) = bytes[..len].split_at(len / 3);
            // SAFETY: a slice.
            assert_eq!(unsafe { raw::crc32c(sum(a), b.as_ptr(), b.len()) }, Ok(!slow), "{len} bytes in two parts");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// A small alphabet, so that there are many near matches.
    #[test]
    fn searches_are_those_of_slices(
        text in proptest::collection::vec(0_u8..3, 0..600),
        needle in proptest::collection::vec(0_u8..3, 0..12),
        skip in 0_usize..40,
    ) {
        let _one = serial();
        faultin::install().unwrap();
        let text = &text[skip.min(text.len())..];
        let (ptr, len) = (text.as_ptr(), text.len());
        let windows = || (0..(len + 1).saturating_sub(needle.len())).filter(|&i| text[i..].starts_with(&needle));
        // SAFETY: a slice.
        unsafe {
            prop_assert_eq!(raw::find(ptr, len, &needle), Ok(windows().next()));
            prop_assert_eq!(raw::rfind(ptr, len, &needle), Ok(windows().next_back()));
            prop_assert_eq!(raw::find_byte(ptr, len, 1), Ok(text.iter().position(|&b| b == 1)));
            prop_assert_eq!(raw::find_any(ptr, len, [7, 2, 1]), Ok(text.iter().position(|&b| b >= 1)));
            prop_assert_eq!(raw::rfind_byte(ptr, len, 1), Ok(text.iter().rposition(|&b| b == 1)));
            prop_assert_eq!(raw::count_byte(ptr, len, 1), Ok(text.iter().filter(|&&b| b == 1).count()));
        }
    }
}

/// The lines of a map are found in copies, many ends at once.
#[test]
fn lines_are_the_same_with_every_width() {
    let _one = serial();
    let file = tempfile::NamedTempFile::new().expect("a file");
    // Every density, from nothing but line ends to almost none.
    let random = Random::new(1);
    let bytes: Vec<u8> =
        (0..300_000).map(|at| if random.once_in(1 + at / 500) { b'\n' } else { b'a' + (at % 26) as u8 }).collect();
    std::fs::write(file.path(), &bytes).expect("written");
    let want: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let want = want.strip_suffix(&[&b""[..]]).unwrap_or(&want);
    each_width(|width| {
        let map = faultin::FileMap::open(file.path()).expect("a map");
        let got: Vec<Vec<u8>> = map.lines(..).collect::<Result<_, _>>().expect("readable");
        assert!(got == want, "{width}");
    });
}
