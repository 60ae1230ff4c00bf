//! CPython issue 148650: `mmap.mmap(f.fileno(), 0)`, the file is truncated, and the map is accessed: an index, a slice, a
//! search, a read, and a store.

use std::io::{BufRead, Seek, SeekFrom};

use faultin::{
    FileMap, FileMapMut, MapError, MapOptions,
    map::{Change, Watch},
};

use crate::file::{Place, ROUNDS, cut, text};
use crate::naive;

/// An access to a map at a position.
type Access<Map> = (&'static str, fn(&Map, u64) -> Result<(), MapError>);

const READS: &[Access<FileMap>] = &[
    ("m[i]", |map, at| map.load::<u8>(at).map(drop)),
    ("m[i:j]", |map, at| map.read_exact_at(&mut [0; 1000], at)),
    ("m[i:]", |map, at| map.chunks(at..).for_each(|_| {}).map(drop)),
    ("m.find(b)", |map, at| {
        let mut reader = map.reader();
        reader.seek(SeekFrom::Start(at)).expect("in the file");
        match reader.skip_until(0) {
            Ok(skipped) => {
                assert_eq!(reader.position(), map.len(), "found behind {skipped} bytes where there is none");
                Ok(())
            }
            Err(error) => Err(*error.into_inner().expect("ours").downcast().expect("ours")),
        }
    }),
    ("struct.unpack_from", |map, at| map.load::<u64>(at).map(drop)),
];

const STORES: &[Access<FileMapMut>] = &[
    ("m[i] = b", |map, at| map.store(at, b'!')),
    ("m[i:j] = b", |map, at| map.write_at(&[b'!'; 1000], at)),
    ("m.write(b)", |map, at| map.fill(at..at + 5000, b'!')),
];

#[test]
fn cpython_148650() {
    naive::dies("python::cpython_148650", |text, path| {
        assert_eq!(text[0], b'0');
        cut(path, 0);
        println!("{}", text[0]);
    });
    let (place, text) = (Place::new(), text());
    let len = text.len();
    for round in 0..ROUNDS {
        let path = place.file(&text);
        let to = [0, 1, 4095, 4096, 100_000][round % 5];
        let at = (to + 1 + round * 20_011 % (len - to - 10_000)) as u64;
        let (reads, stores) = (
            MapOptions::new().watch(Watch::Contents).open(&path).expect("map it"),
            FileMapMut::open(&path).expect("map it"),
        );
        for (name, read) in READS {
            read(&reads, at).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        cut(&path, to);
        let judge = |name: &str, result: Result<(), MapError>| {
            let error = result.expect_err(name);
            let shrunk = Change::Shrunk { from: len as u64, to: to as u64 };
            assert_eq!(error.change(), Some(shrunk), "{name} in round {round}");
            assert_eq!((error.done(), error.offset(), error.path()), (0, at, Some(&*path)), "{name} in round {round}");
            assert_eq!(
                error.to_string(),
                format!("{}: the file was truncated from {len} to {to} bytes", path.display())
            );
        };
        for (name, read) in READS {
            judge(name, read(&reads, at));
        }
        for (name, store) in STORES {
            judge(name, store(&stores, at));
        }
        assert_eq!(std::fs::read(&path).expect("read"), text[..to], "nothing was stored, and nothing grew");

        // A file that has grown again is another file although it has the old size: reads report that instead of returning
        // zeros.
        cut(&path, len);
        for (name, read) in READS {
            let error = read(&reads, at).expect_err(name);
            assert_eq!(error.change(), Some(Change::Rewritten), "{name} in round {round}");
        }
        reads.refresh().expect("take it as it is");
        assert_eq!(reads.load::<u8>(at).expect("a hole"), 0);
    }
}
