//! `Read`, `Write` and `Seek` over a cached file: compared with `std::io::Cursor`, and with a store that fails partway.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use faultin_cache::store::{MemoryStore, Store};
use faultin_cache::{Cache, Cursor, Error, Partial};

#[test]
fn it_does_what_a_cursor_of_a_vector_does() {
    let file = Cache::new().open(MemoryStore::new([])).expect("a file");
    let (mut ours, mut model) = (file.cursor(), io::Cursor::new(Vec::new()));
    let mut seed = 1_u64;
    for round in 0..5_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (what, size, at) = (seed >> 60, (seed >> 40) as usize % 9_000, (seed >> 20) as i64 % 40_000);
        match what {
            0..6 => {
                let bytes = vec![(round % 251) as u8; size];
                assert_eq!(ours.write(&bytes).expect("room"), model.write(&bytes).expect("room"));
            }
            6..11 => {
                let (mut got, mut expected) = (vec![0; size], vec![0; size]);
                assert_eq!(ours.read(&mut got).expect("read"), model.read(&mut expected).expect("read"), "{round}");
                assert!(got == expected, "{round}");
            }
            11 => ours.flush().expect("write back"),
            _ => {
                let by = at - 20_000;
                let to =
                    [SeekFrom::Start(by.unsigned_abs()), SeekFrom::End(by), SeekFrom::Current(by)][what as usize % 3];
                match model.seek(to) {
                    Ok(to_there) => assert_eq!(ours.seek(to).expect("there"), to_there),
                    Err(error) => assert_eq!(ours.seek(to).expect_err("before the start").kind(), error.kind()),
                }
            }
        }
        assert_eq!((ours.position(), ours.stream_position().expect("known")), (model.position(), model.position()));
    }
    assert_eq!(file.len().expect("known"), model.get_ref().len() as u64);
    let mut all = Vec::new();
    ours.rewind().expect("to the start");
    ours.read_to_end(&mut all).expect("read");
    assert!(all == *model.get_ref());
    assert_eq!(ours.seek(SeekFrom::Start(1 << 63)).expect_err("no file").kind(), io::ErrorKind::InvalidInput);
    assert_eq!(ours.seek(SeekFrom::Start((1 << 63) - 1)).expect("a position"), (1 << 63) - 1);
    assert!(ours.write(b"x").is_err(), "no file is so long");
    assert_eq!(ours.read(&mut [0]).expect_err("as the kernel says").kind(), io::ErrorKind::InvalidInput);
    ours.seek(SeekFrom::Start(1 << 62)).expect("a position");
    assert_eq!(ours.read(&mut [0]).expect("after the end"), 0);
}

#[test]
fn it_owns_its_file_or_shares_it() {
    let file = Cache::new().open(MemoryStore::new(*b"one\ntwo\nthree")).expect("a file");
    let shared = Arc::new(file.clone());
    let threads: Vec<_> = (0..3)
        .map(|skip| {
            let mut cursor = Cursor::new(Arc::clone(&shared));
            std::thread::spawn(move || {
                cursor.seek(SeekFrom::Start(skip)).expect("there");
                BufReader::new(cursor).lines().map(|line| line.expect("read").len()).sum::<usize>()
            })
        })
        .collect();
    assert_eq!(threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>(), [11, 10, 9]);
    let mut owned = Cursor::new(file);
    io::copy(&mut &b"ONE"[..], &mut owned).expect("room");
    assert_eq!(owned.get_ref().len().expect("known"), 13);
    let mut word = [0; 3];
    owned.into_inner().read_exact_at(&mut word, 0).expect("there");
    assert_eq!(&word, b"ONE");
}

/// A store that cannot be read from a given position on.
#[derive(Debug)]
struct Broken {
    memory: MemoryStore,
    from: Arc<AtomicU64>,
}

impl Store for Broken {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let good = self.from.load(SeqCst).saturating_sub(pos).min(buf.len() as u64) as usize;
        match good {
            0 if !buf.is_empty() => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => self.memory.read_at(&mut buf[..good], pos),
        }
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        self.memory.write_at(buf, pos)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        self.memory.sync(data_only)
    }
}

#[test]
fn a_part_comes_before_its_error() {
    const LEN: usize = 4 << 20;
    const GOOD: u64 = 1 << 20;
    let from = Arc::new(AtomicU64::new(GOOD));
    let store = Broken { memory: MemoryStore::new(vec![7; LEN]), from: Arc::clone(&from) };
    let file = Cache::new().open(store).expect("a file");
    let mut cursor = file.cursor();
    let mut buf = vec![0; LEN];
    let read = cursor.read(&mut buf).expect("a part") as u64;
    assert!(read > 0 && read <= GOOD && cursor.position() == read, "{read}");
    assert!(buf[..read as usize].iter().all(|&byte| byte == 7));
    let error = loop {
        match cursor.read(&mut buf) {
            Ok(more) => assert!(more > 0, "not the end of the file"),
            Err(error) => break error,
        }
    };
    assert_eq!(faultin_cache::errno(&error), Some(libc::EIO));
    assert!(matches!(error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()), Some(Error::Store(_))));
    let at = cursor.position();
    assert!(at <= GOOD, "{at}");

    // All or nothing: the error has the count.
    let error = file.read_exact_at(&mut buf, 0).expect_err("not all of it");
    let partial = error.get_ref().and_then(|inner| inner.downcast_ref::<Partial>()).expect("inside");
    assert_eq!(partial.done as u64, at);

    from.store(u64::MAX, SeqCst);
    cursor.read_exact(&mut buf[at as usize..]).expect("it has healed");
    assert!(buf.iter().all(|&byte| byte == 7));
    file.read_exact_at(&mut buf, 0).expect("all of it");
    assert_eq!(file.read_exact_at(&mut buf, 1).expect_err("one is missing").kind(), io::ErrorKind::UnexpectedEof);
    file.write_all_at(&[9; 100], LEN as u64 - 50).expect("room");
    assert_eq!(file.len().expect("known"), LEN as u64 + 50);
    let error = file.write_all_at(&[9], u64::MAX).expect_err("no file is so long");
    assert!(error.get_ref().is_some_and(|inner| inner.is::<Partial>()));
}
