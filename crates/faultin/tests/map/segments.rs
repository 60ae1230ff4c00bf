//! Maps as segments of lists: they end where their file ends, and a watched change stops a copy.

use std::num::NonZeroUsize;

use faultin::Granularity;
use faultin::iov::{IovDest, IovSource, ReadSegment, WriteSegment};
use faultin::{Cause, Short};
use faultin::{
    FileMap, FileMapMut,
    map::{Backend, Change, MapDest, MapSource, Rights, Watch},
    shared::SharedMap,
};

use crate::fixture::{Case, content, each, overwrite, set_len, settle};

const LEN: usize = 1000;

fn copy(map: &FileMap) -> (Result<usize, Short>, Vec<u8>) {
    let mut bytes = vec![0xee; 4096];
    (IovSource::one(map).copy_from_iter(&mut bytes), bytes)
}

#[test]
fn a_list_ends_where_the_file_does() {
    each(|case| {
        for offset in [0, 10] {
            let path = case.file("file", LEN);
            let map = case.options().offset(offset as u64).open(&path).expect("map it");
            let (copied, bytes) = copy(&map);
            assert_eq!(copied.expect("whole"), LEN - offset);
            assert!(
                bytes[..LEN - offset] == content(LEN)[offset..] && bytes[LEN - offset..].iter().all(|&b| b == 0xee)
            );
            let source = map.source(..);
            assert_eq!((source.len(), map.source(990..).len(), map.source(5000..).len()), {
                (LEN - offset, 10 - offset, 0)
            });
            let mut tail = IovSource::one(map.source(900 - offset as u64..));
            tail.advance(50);
            let mut bytes = [0; 64];
            assert_eq!(tail.copy_from_iter(&mut bytes).expect("whole"), 50);
            assert_eq!(bytes[..50], content(LEN)[950..]);
        }
    });
}

#[test]
fn lists_mix_maps_of_every_kind_and_plain_memory() {
    each(|case| {
        let (first, second) = (case.file("first", LEN), case.file("second", 20_000));
        let [one, two] = [&first, &second].map(|path| case.options().open(path).expect("map it"));
        let shared = SharedMap::create("segments", 300).expect("a memfd");
        shared.fill(..300, b's').expect("stored");
        let mut segments: Vec<ReadSegment<'_, MapSource<'_>>> = vec![
            (&one).into(),
            (&b"plain"[..]).into(),
            two.source(10_000..).into(),
            (&shared).into(),
            one.source(..0).into(),
            one.source(500..600).into(),
        ];
        let expected =
            [&content(LEN)[..], b"plain", &content(20_000)[10_000..], &[b's'; 300], &content(LEN)[500..600]].concat();
        for step in [1, 7, 1000, 8192, 20_000] {
            let mut list = IovSource::new(&segments);
            assert_eq!(list.count(), expected.len());
            let (mut all, mut piece) = (Vec::new(), vec![0; step]);
            while !list.is_empty() {
                let copied = list.copy_from_iter(&mut piece).expect("whole");
                all.extend_from_slice(&piece[..copied]);
            }
            assert!(all == expected, "in steps of {step}");
            list.revert(500).expect("they lie before");
            let mut again = vec![0; 500];
            list.copy_from_iter_full(&mut again).expect("whole");
            assert!(again == expected[expected.len() - 500..]);
        }
        // A truncated one ends the list there.
        set_len(&second, 15_000);
        let mut list = IovSource::new(&segments);
        let mut bytes = vec![0xee; expected.len()];
        let short = list.copy_from_iter(&mut bytes).expect_err("it was cut");
        assert_eq!((short.done, short.fault.cause(), list.moved()), (LEN + 5 + 5_000, Cause::Backing, LEN + 5 + 5_000));
        assert!(bytes[..short.done] == expected[..short.done] && bytes[short.done..].iter().all(|&b| b == 0xee));
        // Nothing more is accessible there, and the error says so.
        let one_byte = NonZeroUsize::MIN;
        assert_eq!(list.fault_in(one_byte).expect_err("it was cut").cause(), Cause::Backing);
        segments.remove(2);
        assert_eq!(IovSource::new(&segments).copy_from_iter(&mut bytes).expect("whole"), LEN + 5 + 400);
    });
}

#[test]
fn what_the_map_watches_stops_a_copy() {
    /// The change of the file, the watch mode, the count, and the reported change.
    type Row = (fn(&Case, &std::path::Path), Watch, usize, Option<Change>);
    let cut: fn(&Case, &std::path::Path) = |_, path| set_len(path, 500);
    let grown: fn(&Case, &std::path::Path) = |_, path| set_len(path, 5000);
    let rewritten: fn(&Case, &std::path::Path) = |_, path| overwrite(path, 10, b"x");
    let (from, to) = (LEN as u64, 5000);
    let rows: [Row; 11] = [
        (cut, Watch::Reader, 500, Some(Change::Shrunk { from, to: 500 })),
        (cut, Watch::Appending, 500, Some(Change::Shrunk { from, to: 500 })),
        (cut, Watch::Contents, 500, Some(Change::Shrunk { from, to: 500 })),
        // It is not known from which moment these bytes are: none counts.
        (grown, Watch::Contents, 0, Some(Change::Grown { from, to })),
        (rewritten, Watch::Contents, 0, Some(Change::Rewritten)),
        (rewritten, Watch::Appending, 0, Some(Change::Rewritten)),
        // Not a watched change.
        (grown, Watch::Reader, LEN, None),
        (rewritten, Watch::Reader, LEN, None),
        (grown, Watch::Appending, LEN, None),
        (grown, Watch::Nothing, LEN, None),
        (rewritten, Watch::Nothing, LEN, None),
    ];
    each(|case| {
        for (happens, watch, counts, change) in rows {
            let path = case.file("file", LEN);
            settle(&path);
            let map = case.options().watch(watch).open(&path).expect("map it");
            let source = map.source(..);
            happens(case, &path);
            let mut bytes = vec![0xee; 4096];
            let copied = IovSource::one(source.clone()).copy_from_iter(&mut bytes);
            let done = copied.unwrap_or_else(|short| short.done);
            assert_eq!((done, copied.is_err()), (counts, change.is_some()), "{watch:?}");
            assert!(bytes[done..].iter().all(|&b| b == 0xee), "what does not count is as it was");
            assert_eq!(source.take_error().and_then(|error| error.change()), change);
            assert!(source.take_error().is_none());
            let proven = IovSource::one(source.clone()).probe(LEN, Granularity::Page);
            assert_eq!(proven.map_or_else(|short| short.done, |()| LEN), counts);
            if change.is_some() {
                map.refresh().expect("refresh");
                assert_eq!(copy(&map).0.expect("as it is now"), map.len().min(4096) as usize);
            }
        }
    });
}

#[test]
fn a_destination_ends_where_the_file_does() {
    each(|case| {
        let path = case.file("file", LEN);
        let map: FileMapMut = case.options().open_mut(&path).expect("map it");
        let bytes = vec![b'w'; 4096];
        let mut dest = IovDest::one(&map);
        assert_eq!(dest.count(), LEN);
        dest.advance(100);
        assert_eq!(dest.fault_in(NonZeroUsize::MAX).expect("writable").get(), 900);
        dest.probe(900, Granularity::Page).expect("writable");
        assert_eq!(dest.copy_to_iter(&bytes).expect("whole"), 900);
        assert_eq!(std::fs::read(&path).expect("read"), [&content(100)[..], &bytes[..900]].concat());
        let mut dest = IovDest::one(map.dest(990..));
        assert_eq!(dest.zero(4096).expect("whole"), 10);
        assert_eq!(std::fs::read(&path).expect("read").len(), LEN);

        let other = SharedMap::create("segments", 300).expect("a memfd");
        let mut plain = [0; 5];
        let mut segments: Vec<WriteSegment<'_, MapDest<'_>>> =
            vec![map.dest(..10).into(), (&mut plain[..]).into(), (&other).into()];
        assert_eq!(IovDest::new(&mut segments).copy_to_iter(&bytes).expect("whole"), 315);
        drop(segments);
        assert_eq!((plain, other.read_once::<[u8; 300]>(0).expect("read")), (*b"wwwww", [b'w'; 300]));

        // Truncated during the operation: bytes past its end do not count, and the file is not extended.
        let dest = map.dest(..);
        set_len(&path, 500);
        let short = IovDest::one(dest.clone()).copy_to_iter(&bytes).expect_err("it was cut");
        // With pread nothing is stored to a truncated file.
        let stored = if case.backend == Backend::Mapped { 500 } else { 0 };
        assert_eq!((short.done, short.fault.cause()), (stored, Cause::Backing));
        assert_eq!(dest.take_error().expect("kept").change(), Some(Change::Shrunk { from: LEN as u64, to: 500 }));
        let mut behind = IovDest::one(dest);
        behind.advance(500);
        assert_eq!(behind.fault_in(NonZeroUsize::MIN).expect_err("it was cut").cause(), Cause::Backing);
        assert_eq!(behind.probe(1, Granularity::Page).expect_err("it was cut").done, 0);
        assert_eq!(std::fs::read(&path).expect("read").len(), 500);
    });
}

#[test]
fn a_shared_map_that_is_cut_stops_a_copy() {
    each(|case| {
        let path = case.file("file", LEN);
        let file = std::fs::File::options().read(true).write(true).open(&path).expect("open");
        let options = faultin::shared::SharedOptions::new().backend(case.backend);
        let map = options.from_file(file, LEN, Rights::ReadWrite).expect("map it");
        set_len(&path, 500);
        let mut bytes = vec![0xee; 4096];
        let short = IovSource::one(&map).copy_from_iter(&mut bytes).expect_err("it was cut");
        assert_eq!(short.done, 500);
        assert!(bytes[..500] == content(500) && bytes[500..].iter().all(|&b| b == 0xee));
        let mut dest = IovDest::one(&map);
        assert_eq!(dest.fault_in(NonZeroUsize::MAX).expect("a part").get(), 500);
        dest.advance(600);
        assert_eq!(dest.fault_in(NonZeroUsize::MAX).expect_err("it was cut").cause(), Cause::Backing);
    });
}
