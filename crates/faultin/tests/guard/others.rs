//! What other threads get from a map while one of its scans has zeros in place of the file: the file's bytes, or an error.

use std::io::Read;

use faultin::{FileMap, MapError, map::Watch};

use crate::fixture::{content, each, pattern, set_len};
use crate::scan::peek;

/// Reads in every way except by a scan.
fn read_all(map: &FileMap, whole: &[u8]) -> Result<(), MapError> {
    let mut all = vec![0; whole.len()];
    assert_eq!(map.read_at(&mut all, 0)?, whole.len());
    assert!(all == whole, "read_at");
    let mut all = Vec::new();
    map.chunks(..).for_each(|chunk| all.extend_from_slice(chunk))?;
    assert!(all == whole, "chunks");
    let mut all = Vec::new();
    map.reader().read_to_end(&mut all).expect("it can be read");
    assert!(all == whole, "the reader");
    for at in (0..whole.len() - 8).step_by(faultin::page_size() / 2) {
        assert_eq!(map.load::<u64>(at as u64)?.to_ne_bytes(), whole[at..at + 8], "load at {at}");
    }
    Ok(())
}

#[test]
fn nobody_takes_a_scans_zeros_for_the_file() {
    let page = faultin::page_size();
    let len = 16 * page;
    let whole = content(len);
    each(|case| {
        let path = case.file("file", len);
        for watch in [Watch::Reader, Watch::Appending, Watch::Contents, Watch::Nothing] {
            let map = case.options().watch(watch).open(&path).expect("map it");
            let scan = |all: &[u8]| {
                set_len(&path, 2 * page);
                peek(all, 3 * page);
                // The file is whole again; the mapping is not.
                std::fs::write(&path, &whole).expect("write it again");
                map.refresh().expect("it can be asked");
                assert_eq!(peek(all, 3 * page), if case.faults() { 0 } else { pattern(3 * page) });
                read_all(&map, &whole).expect("nothing happened since");
                std::thread::scope(|scope| {
                    scope.spawn(|| read_all(&map, &whole).expect("nothing happened since"));
                });
                // Past its end, reads are errors.
                set_len(&path, 3 * page + 1);
                let mut bytes = [1; 10];
                let error = map.read_at(&mut bytes, 3 * page as u64).expect_err("it was cut");
                // A reader gets the file's bytes. Otherwise a scan's zeros end the read where they begin.
                let reads = matches!(watch, Watch::Reader | Watch::Nothing);
                assert_eq!(error.done(), usize::from(reads || !case.faults()), "{watch:?}: {error:?}");
                assert!(error.done() == 0 || bytes[0] == pattern(3 * page), "{watch:?}: {error:?}");
                assert!(map.load::<u8>(4 * page as u64).is_err());
                std::fs::write(&path, &whole).expect("write it again");
                map.refresh().expect("it can be asked");
            };
            // SAFETY: relies on no byte, stores nothing, keeps nothing.
            let damaged = unsafe { map.with_slice(.., scan) };
            assert_eq!(damaged.is_err(), case.faults(), "{watch:?}");
            let before = faultin::signal::counters();
            read_all(&map, &whole).expect("nothing happened since");
            assert_eq!(faultin::signal::counters(), before);
        }
    });
}

#[test]
fn stores_go_to_the_file_while_a_scan_has_zeros_there() {
    let page = faultin::page_size();
    let len = 16 * page;
    let whole = content(len);
    each(|case| {
        let path = case.file("file", len);
        let map = case.options().open_mut(&path).expect("map it");
        let scan = |all: &[u8]| {
            set_len(&path, 2 * page);
            peek(all, 3 * page);
            std::fs::write(&path, &whole).expect("write it again");
            map.write_at(b"stored", 5 * page as u64 - 3).expect("there is room");
            map.store(7 * page as u64, 0x1122_3344_u32).expect("there is room");
            map.fill(8 * page as u64..11 * page as u64, 9).expect("there is room");
            map.flush().expect("it can be written");
            map.flush_range(8 * page as u64..9 * page as u64).expect("it can be written");
        };
        // SAFETY: relies on no byte, stores nothing through the slice, keeps nothing.
        let _ = unsafe { map.with_slice(.., scan) };
        let mut expected = whole.clone();
        expected[5 * page - 3..5 * page + 3].copy_from_slice(b"stored");
        expected[7 * page..7 * page + 4].copy_from_slice(&0x1122_3344_u32.to_ne_bytes());
        expected[8 * page..11 * page].fill(9);
        assert!(std::fs::read(&path).expect("read") == expected);
        read_all(&map, &expected).expect("it is the file");
        map.write_at(&[1], 3 * page as u64).expect("by the mapping again");
        assert_eq!(std::fs::read(&path).expect("read")[3 * page], 1);
    });
}
