//! Slices of a mapping: faults of others' code in one that is being read are served, and no others are.

use std::fs::File;

use faultin::map::FileMap;

use crate::Ends;
use crate::child;
use crate::foreign::{self, A};

/// A file of four pages, and its map.
fn mapped() -> (tempfile::NamedTempFile, FileMap) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![7; 4 * child::page()]).unwrap();
    let map = FileMap::open(file.path()).unwrap();
    (file, map)
}

fn cut(file: &tempfile::NamedTempFile) {
    File::options().write(true).open(file.path()).unwrap().set_len(1).unwrap();
}

/// Reads on one map under [`FileMap::with_slice`]; the file is cut.
fn reading(then: impl FnOnce(&[u8])) {
    let (file, map) = mapped();
    // SAFETY: for any bytes, the closures read one of them or do what they must not, which is what is being tested.
    let _ = unsafe {
        map.with_slice(.., |bytes| {
            cut(&file);
            // SAFETY: an address in the slice.
            child::peek((&raw const bytes[2 * child::page()]).expose_provenance());
            then(bytes);
        })
    };
}

crate::scenarios! {
    page_that_is_gone_is_served_and_no_predecessor_sees_it => Ends::Well, |_| {
        child::clean_slate();
        foreign::install(A, libc::SIGBUS, libc::SA_SIGINFO, &[], |_, _, _, _| panic!("not its fault"));
        faultin::install().unwrap();
        reading(|_| {});
        assert_eq!((faultin::counters().substituted, faultin::counters().forwarded), (1, 0));
        child::ours_is_recovered();
    };
    fault_elsewhere_while_a_slice_is_read_dies_with_its_own_address_and_pc => Ends::Killed(libc::SIGBUS), |_| {
        child::clean_slate();
        reading(|_| child::dies_of_foreign_fault(libc::SIGBUS));
    };
    fault_in_a_map_that_nobody_reads_dies => Ends::Killed(libc::SIGBUS), |_| {
        child::clean_slate();
        let (file, map) = mapped();
        let mut at = 0;
        // SAFETY: an address is right for any bytes.
        unsafe { map.with_slice(.., |bytes| at = (&raw const bytes[2 * child::page()]).expose_provenance()) }.unwrap();
        cut(&file);
        const BUS_ADRERR: i32 = 2;
        child::dies(libc::SIGBUS, BUS_ADRERR, at, 0, None);
        // SAFETY: kills this process, which is what is being tested.
        unsafe { child::peek(at) };
    };
    store_into_the_zeros_dies => Ends::Killed(libc::SIGSEGV), |_| {
        child::clean_slate();
        reading(|bytes| {
            let at = (&raw const bytes[3 * child::page()]).cast_mut();
            const SEGV_ACCERR: i32 = 2;
            child::dies(libc::SIGSEGV, SEGV_ACCERR, at.expose_provenance(), 0, None);
            // SAFETY: kills this process, which is what is being tested.
            unsafe { at.write_volatile(1) };
        });
    };
    blocked_signal_means_a_copy => Ends::Well, |_| {
        child::clean_slate();
        let (file, map) = mapped();
        child::change_mask(libc::SIG_BLOCK, &[libc::SIGBUS]);
        // SAFETY: a byte is right for any bytes.
        let result = unsafe {
            map.with_slice(.., |bytes| {
                cut(&file);
                bytes[3 * child::page()]
            })
        };
        assert_eq!(result.expect("it had a copy"), 7);
        assert_eq!(faultin::counters().substituted, 0);
    };
}
