//! Copying parts of pages from and to a list.

use faultin::Cause;
use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin_sim::{Permission, SimRead, SimWrite};

use crate::sim::{LEN, Matter, PAGE, space};

#[test]
fn a_folio_of_several_pages_is_copied_in_one() {
    let sim = space(&[]);
    let segments = [0..7, 7..7, 7..LEN].map(|range| ReadSegment::Memory(sim.read_range(range)));
    let (mut iov, mut folio) = (IovSource::new(&segments), vec![0; 3 * PAGE + 8]);
    assert_eq!(iov.copy_page_from_iter(&mut folio, 8, 3 * PAGE), Ok(3 * PAGE));
    assert_eq!(folio[..8], [0; 8]);
    assert_eq!(folio[8..], sim.state().bytes()[..3 * PAGE]);
    // Less is left than requested.
    assert_eq!(iov.copy_page_from_iter(&mut folio, 0, 2 * PAGE), Ok(PAGE));
    assert_eq!((iov.count(), iov.moved()), (0, LEN));
}

#[test]
fn short_in_its_second_page_it_advances_by_what_moved() {
    for bad in PAGE..2 * PAGE {
        let sim = space(&[Matter::Protect(bad..bad + 1, Permission::None)]);
        let mut folio = [0xee; 3 * PAGE];
        let mut iov = IovSource::one(ReadSegment::Memory(sim.read_range(0..LEN)));
        let short = iov.copy_page_from_iter(&mut folio, 0, 3 * PAGE).unwrap_err();
        assert_eq!((short.done, short.fault.cause(), iov.moved()), (bad, Cause::Protection, bad));
        assert_eq!(folio[..bad], sim.state().bytes()[..bad]);
        assert!(folio[bad..].iter().all(|&byte| byte == 0xee));

        let before = sim.state().bytes().to_vec();
        let mut iov = IovDest::one(WriteSegment::Memory(sim.write_range(0..LEN)));
        let short = iov.copy_page_to_iter(&[0x99; 3 * PAGE], 0, 3 * PAGE).unwrap_err();
        assert_eq!((short.done, iov.moved()), (bad, bad));
        assert_eq!(sim.state().bytes()[..bad], [0x99; 2 * PAGE][..bad]);
        assert_eq!(sim.state().bytes()[bad..], before[bad..]);
    }
}

#[test]
fn bytes_outside_of_the_page_are_refused_and_nothing_is_accessed() {
    let sim = space(&[]);
    let before = sim.state();
    for (offset, len) in [(0, PAGE + 1), (1, PAGE), (PAGE + 1, 0), (usize::MAX, 2), (2, usize::MAX)] {
        let mut page = [7; PAGE];
        let mut iov = IovSource::<SimRead>::one(ReadSegment::Memory(sim.read_range(0..LEN)));
        let refused = iov.copy_page_from_iter(&mut page, offset, len).unwrap_err();
        assert_eq!((refused.done, refused.fault.cause(), iov.moved()), (0, Cause::OutOfRange, 0));
        assert_eq!(page, [7; PAGE]);
        let mut iov = IovDest::<SimWrite>::one(WriteSegment::Memory(sim.write_range(0..LEN)));
        let refused = iov.copy_page_to_iter(&page, offset, len).unwrap_err();
        assert_eq!((refused.done, refused.fault.cause(), iov.moved()), (0, Cause::OutOfRange, 0));
    }
    assert!(sim.state() == before);
}
