//! Values of types that derive the traits of `zerocopy` and `bytemuck`, in maps and views.

use std::io::Write;

use faultin::{Cause, ReadView, WriteView};
use faultin::{FileMap, FileMapMut, map::Reason, shared::SharedMap};

#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    bytemuck::Pod,
    bytemuck::Zeroable,
)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: u16,
    flags: u16,
    len: u64,
}

const HEADER: Header = Header { magic: *b"FLTN", version: 3, flags: 0x8001, len: 1 << 40 };

macro_rules! by {
    ($name:ident) => {
        #[test]
        fn $name() {
            use faultin::typed::$name::{ReadAs, WriteFrom};

            let mut file = tempfile::NamedTempFile::new().expect("a file");
            file.write_all(&[0xee; 100]).expect("room");
            let written = FileMapMut::open(file.path()).expect("map it");
            written.write_from(&HEADER, 13).expect("room");
            assert_eq!(written.read_as::<Header>(13).expect("there"), HEADER);
            let map = FileMap::open(file.path()).expect("map it");
            assert_eq!(map.read_as::<Header>(13).expect("there"), HEADER);
            assert_eq!(map.read_as::<[u16; 3]>(0).expect("there"), [0xeeee; 3]);
            assert_eq!(std::fs::read(file.path()).expect("read")[13..17], *b"FLTN");
            let error = map.read_as::<Header>(90).expect_err("six are missing");
            assert!(matches!(error.reason(), Reason::PastEnd { len: 100 }));

            let shared = SharedMap::create("typed", 100).expect("memory");
            shared.write_from(&HEADER, 84).expect("room");
            assert_eq!(shared.read_as::<Header>(84).expect("there"), HEADER);
            let error = shared.write_from(&HEADER, 85).expect_err("one is missing");
            assert!(matches!(error.reason(), Reason::PastEnd { len: 100 }));

            let mut bytes = [0_u8; 64];
            let ptr = bytes.as_mut_ptr();
            // SAFETY: the array, which is not used otherwise meanwhile.
            let (read, write) = unsafe { (ReadView::new(ptr, 64).unwrap(), WriteView::new(ptr, 64).unwrap()) };
            write.write_from(&HEADER, 3).expect("room");
            assert_eq!(read.read_as::<Header>(3).expect("there"), HEADER);
            assert_eq!(read.read_as::<Header>(49).expect_err("one is missing").fault.cause(), Cause::OutOfRange);
            assert_eq!(write.write_from(&HEADER, u64::MAX).expect_err("not in it").fault.cause(), Cause::OutOfRange);
        }
    };
}

by!(bytemuck);
by!(zerocopy);
