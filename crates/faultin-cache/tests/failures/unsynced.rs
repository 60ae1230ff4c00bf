//! Stores that lose bytes that they have accepted and report it to one sync, as the kernel does with dirty pages that it
//! cannot write.

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::{Arc, Mutex};

use faultin::ReadView;
use faultin::iov::IovSource;
use faultin_cache::store::Store;
use faultin_cache::write::WriteLoop;
use faultin_cache::{Cache, CacheOptions, CachedFile, Error, FileOptions};
use faultin_test::Random;

const BLOCK: usize = 16;

/// Runs in a sync before it succeeds.
type InSync = Box<dyn FnMut() -> io::Result<()> + Send>;

/// A disk behind a page cache.
struct Kernel {
    state: Mutex<State>,
    in_sync: Mutex<InSync>,
    /// Whether reads return the old bytes or the new ones after a sync failed to write them.
    reverts: bool,
}

#[derive(Default)]
struct State {
    now: Vec<u8>,
    disk: Vec<u8>,
    dirty: Vec<Range<usize>>,
    /// Lengths that the file was truncated to.
    cuts: Vec<usize>,
    has_len: bool,
    reserved: u64,
}

impl State {
    fn bytes(bytes: &[u8], at: Range<usize>) -> Vec<u8> {
        at.map(|at| bytes.get(at).copied().unwrap_or(0)).collect()
    }

    fn write_out(&mut self) {
        let most = self.cuts.iter().fold(usize::MAX, |most, &cut| most.min(cut));
        self.disk.truncate(most);
        if self.has_len {
            self.disk.resize(self.now.len(), 0);
        }
        for range in std::mem::take(&mut self.dirty) {
            let end = range.end.min(self.now.len());
            if range.start < end {
                self.disk.resize(self.disk.len().max(end), 0);
                self.disk[range.start..end].copy_from_slice(&self.now[range.start..end]);
            }
        }
        (self.cuts, self.has_len) = (Vec::new(), false);
    }

    /// Dirty bytes become clean without reaching the disk.
    fn lose(&mut self, reverts: bool) {
        for range in std::mem::take(&mut self.dirty) {
            let end = range.end.min(self.now.len());
            if reverts && range.start < end {
                let before = State::bytes(&self.disk, range.start..end);
                self.now[range.start..end].copy_from_slice(&before);
            }
        }
        (self.cuts, self.has_len) = (Vec::new(), false);
    }
}

impl Kernel {
    fn new(reverts: bool) -> Arc<Kernel> {
        let in_sync: InSync = Box::new(|| Ok(()));
        Arc::new(Kernel { state: Mutex::default(), in_sync: Mutex::new(in_sync), reverts })
    }

    fn in_sync(&self, in_sync: impl FnMut() -> io::Result<()> + Send + 'static) {
        *self.in_sync.lock().unwrap() = Box::new(in_sync);
    }

    /// Makes the next sync fail.
    fn fail_once(&self) {
        let mut fails = true;
        self.in_sync(move || if std::mem::take(&mut fails) { Err(eio()) } else { Ok(()) });
    }

    fn disk(&self) -> Vec<u8> {
        self.state.lock().unwrap().disk.clone()
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl Store for Kernel {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().now.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let state = self.state.lock().unwrap();
        let from = (pos as usize).min(state.now.len());
        let read = buf.len().min(state.now.len() - from);
        buf[..read].copy_from_slice(&state.now[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap();
        let at = pos as usize..pos as usize + buf.len();
        if at.end > state.now.len() {
            state.now.resize(at.end, 0);
            state.has_len = true;
        }
        state.now[at.clone()].copy_from_slice(buf);
        state.dirty.push(at);
        Ok(buf.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.now.resize(len as usize, 0);
        state.cuts.push(len as usize);
        state.has_len = true;
        Ok(())
    }

    fn sync(&self, _: bool) -> io::Result<()> {
        // Writes during the sync are not part of it.
        let (now, dirty) = {
            let state = self.state.lock().unwrap();
            (state.now.clone(), state.dirty.len())
        };
        let result = self.in_sync.lock().unwrap()();
        let mut state = self.state.lock().unwrap();
        if result.is_err() {
            state.lose(self.reverts);
            return result;
        }
        let late = state.dirty.split_off(dirty);
        let later = std::mem::replace(&mut state.now, now);
        state.write_out();
        (state.now, state.dirty) = (later, late);
        Ok(())
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let end = (range.end as usize).min(state.now.len());
        let range = (range.start as usize).min(end)..end;
        state.now[range.clone()].fill(0);
        state.dirty.push(range);
        Ok(())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.state.lock().unwrap().reserved += bytes;
        Ok(())
    }

    fn unreserve(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap();
        state.reserved = state.reserved.checked_sub(bytes).expect("what was reserved");
    }
}

fn open(blocks: usize, store: &Arc<Kernel>, how: WriteLoop) -> (Cache, CachedFile) {
    let cache = CacheOptions::new().block(BLOCK).limit(blocks * BLOCK).build();
    let file = cache.open_with(Arc::clone(store), FileOptions::new().max_folio(BLOCK).write_loop(how)).unwrap();
    (cache, file)
}

fn lost(result: Result<(), Error>) -> Vec<Range<u64>> {
    match result {
        Err(Error::Lost { ranges, store }) => {
            assert_eq!(store.raw_os_error(), Some(libc::EIO));
            ranges
        }
        other => panic!("{other:?}"),
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| at as u8 + 1).collect()
}

#[test]
fn what_is_still_in_memory_is_written_again() {
    for reverts in [false, true] {
        for how in [WriteLoop::DEFAULT, WriteLoop::DEFAULT.reserve(true)] {
            let store = Kernel::new(reverts);
            let (_cache, file) = open(8, &store, how.clone());
            let bytes = pattern(3 * BLOCK + 5);
            file.write_at(&bytes, 0).unwrap();
            store.fail_once();
            assert_eq!(file.sync_all().unwrap_err().errno(), Some(libc::EIO));
            assert_eq!((store.disk(), file.dirty()), (vec![], 4 * BLOCK as u64));
            assert_eq!(store.state.lock().unwrap().reserved, if how.reserve { 4 * BLOCK as u64 } else { 0 });
            file.sync_data().unwrap();
            assert_eq!((store.disk(), file.dirty(), store.state.lock().unwrap().reserved), (bytes, 0, 0));
        }
    }
}

#[test]
fn what_is_no_longer_in_memory_fails_each_sync_until_it_is_written_again() {
    for reverts in [false, true] {
        let store = Kernel::new(reverts);
        let (cache, file) = open(8, &store, WriteLoop::DEFAULT);
        let second = file.clone();
        let mut bytes = pattern(6 * BLOCK);
        file.write_at(&bytes, 0).unwrap();
        file.write_back(0..4 * BLOCK as u64).unwrap();
        cache.drop_clean();
        // Bytes that are read again may differ from what was written.
        file.read_at(&mut [0; BLOCK], 0).unwrap();
        store.fail_once();
        assert!(matches!(file.sync_all(), Err(Error::Store(_))));
        let gone = 0..4 * BLOCK as u64;
        assert_eq!(lost(file.sync_all()), slice::from_ref(&gone));
        let error = file.sync_data().unwrap_err();
        assert!(error.to_string().contains("bytes 0 to 64"), "{error}");
        assert_eq!(error.errno(), Some(libc::EIO));
        assert!(matches!(second.sync_all(), Err(Error::Store(_))), "each handle hears of the failure itself");
        assert_eq!(lost(second.sync_all()), slice::from_ref(&gone));
        assert!(matches!(cache.sync(), Err(Error::Lost { .. })));
        assert_eq!(store.disk()[4 * BLOCK..], bytes[4 * BLOCK..], "the rest has got there");
        // Exact to the byte.
        bytes[3..20].fill(99);
        file.write_at(&bytes[3..20], 3).unwrap();
        assert_eq!(lost(file.sync_all()), [0..3, 20..gone.end]);
        // Neither a read nor a partial overwrite helps.
        file.read_at(&mut [0; 6 * BLOCK], 0).unwrap();
        assert_eq!(lost(file.sync_all()), [0..3, 20..gone.end]);
        file.write_at(&bytes[..40], 0).unwrap();
        assert_eq!(lost(file.sync_all()), slice::from_ref(&(40..gone.end)));
        file.write_at(&bytes[40..], 40).unwrap();
        file.sync_all().unwrap();
        second.sync_all().unwrap();
        cache.sync().unwrap();
        assert!(store.disk() == bytes);
    }
}

#[test]
fn what_is_no_longer_in_the_file_is_not_lost() {
    let store = Kernel::new(true);
    let (cache, file) = open(8, &store, WriteLoop::DEFAULT);
    let bytes = pattern(4 * BLOCK);
    file.write_at(&bytes, 0).unwrap();
    file.write_back(0..u64::MAX).unwrap();
    cache.drop_clean();
    store.fail_once();
    file.sync_all().unwrap_err();
    assert_eq!(lost(file.sync_all()), slice::from_ref(&(0..4 * BLOCK as u64)));
    file.punch_hole(0..2 * BLOCK as u64).unwrap();
    assert_eq!(lost(file.sync_all()), slice::from_ref(&(2 * BLOCK as u64..4 * BLOCK as u64)));
    file.set_len(2 * BLOCK as u64 + 3).unwrap();
    assert_eq!(lost(file.sync_all()), slice::from_ref(&(2 * BLOCK as u64..2 * BLOCK as u64 + 3)));
    file.set_len(BLOCK as u64).unwrap();
    file.sync_all().unwrap();
    assert_eq!(store.disk(), [0; BLOCK]);
}

/// A successful sync does not cover writes during it.
#[test]
fn a_write_during_a_sync_is_part_of_the_next_one() {
    let store = Kernel::new(true);
    let (cache, file) = open(8, &store, WriteLoop::DEFAULT);
    let bytes = pattern(4 * BLOCK);
    file.write_at(&bytes[..2 * BLOCK], 0).unwrap();
    let (other, part) = (file.clone(), bytes[2 * BLOCK..].to_vec());
    let mut writes = Some(move || {
        // In another thread: a store must not call its file.
        let written = std::thread::spawn(move || {
            other.write_at(&part, 2 * BLOCK as u64).unwrap();
            other.write_back(0..u64::MAX).unwrap();
        });
        written.join().unwrap();
    });
    store.in_sync(move || {
        if let Some(write) = writes.take() {
            write();
        }
        Ok(())
    });
    file.sync_all().unwrap();
    assert_eq!((store.disk(), file.dirty()), (bytes[..2 * BLOCK].to_vec(), 0));
    cache.drop_clean();
    store.fail_once();
    file.sync_all().unwrap_err();
    assert_eq!(
        lost(file.sync_all()),
        slice::from_ref(&(2 * BLOCK as u64..4 * BLOCK as u64)),
        "and not what was durable"
    );
}

#[test]
fn what_went_past_the_cache_is_lost_unless_blocks_have_it() {
    let store = Kernel::new(true);
    let (_cache, file) = open(8, &store, WriteLoop::DEFAULT);
    let bytes = pattern(4 * BLOCK);
    file.write_at(&[7; 2 * BLOCK], 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.write_direct(&mut IovSource::<ReadView<'_>>::one(&bytes[..]), 0).unwrap(), bytes.len());
    store.fail_once();
    file.sync_all().unwrap_err();
    assert_eq!(lost(file.sync_all()), slice::from_ref(&(2 * BLOCK as u64..4 * BLOCK as u64)));
    assert_eq!(store.disk()[..2 * BLOCK], bytes[..2 * BLOCK]);
    assert_eq!(
        file.write_direct(&mut IovSource::<ReadView<'_>>::one(&bytes[2 * BLOCK..]), 2 * BLOCK as u64).unwrap(),
        2 * BLOCK
    );
    file.sync_all().unwrap();
    assert!(store.disk() == bytes);
}

#[test]
fn a_sync_that_panics_has_failed() {
    let store = Kernel::new(false);
    let (_cache, file) = open(8, &store, WriteLoop::DEFAULT);
    let bytes = pattern(2 * BLOCK);
    file.write_at(&bytes, 0).unwrap();
    let (lossy, mut panics) = (Arc::downgrade(&store), true);
    store.in_sync(move || {
        if std::mem::take(&mut panics) {
            lossy.upgrade().unwrap().state.lock().unwrap().lose(false);
            panic!("the store panics in a sync");
        }
        Ok(())
    });
    catch_unwind(AssertUnwindSafe(|| file.sync_all())).unwrap_err();
    // The test's own lock.
    store.in_sync.clear_poison();
    let error = file.sync_all().unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    file.sync_all().unwrap();
    assert!(store.disk() == bytes);
}

#[test]
fn the_cache_syncs_again_what_it_could_not_sync() {
    let store = Kernel::new(true);
    let (cache, file) = open(8, &store, WriteLoop::DEFAULT);
    let bytes = pattern(2 * BLOCK);
    file.write_at(&bytes, 0).unwrap();
    store.in_sync(|| Err(eio()));
    cache.sync().unwrap_err();
    assert_eq!((file.dirty(), store.disk()), (2 * BLOCK as u64, vec![]));
    cache.sync().unwrap_err();
    store.in_sync(|| Ok(()));
    cache.sync().unwrap();
    assert!(store.disk() == bytes);
}

/// Whatever fails before: after a successful sync the disk has the file's bytes.
#[test]
fn a_sync_that_succeeds_means_that_the_bytes_are_on_the_disk() {
    const MOST: u64 = 10 * BLOCK as u64;
    let mut good = 0;
    for seed in 0..3000 {
        let random = Random::new(seed);
        let store = Kernel::new(seed % 2 == 0);
        let how = WriteLoop::DEFAULT.reserve(seed % 3 == 0);
        let (cache, file) = open(3 + (seed % 6) as usize, &store, how);
        let mut model: Vec<u8> = Vec::new();
        let mut done = Vec::new();
        for _ in 0..40 {
            let (pos, len) = (random.below(MOST) as usize, 1 + random.below(3 * BLOCK as u64) as usize);
            let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            let kind = random.below(12);
            done.push((kind, pos, len));
            match kind {
                0..=3 => {
                    let wrote = if kind == 3 {
                        file.write_direct(&mut IovSource::<ReadView<'_>>::one(&bytes[..]), pos as u64)
                    } else {
                        file.write_at(&bytes, pos as u64)
                    };
                    assert_eq!(wrote.unwrap(), len);
                    model.resize(model.len().max(pos + len), 0);
                    model[pos..pos + len].copy_from_slice(&bytes);
                }
                // The bytes may be stale.
                4 => drop(file.read_at(&mut vec![0; len], pos as u64)),
                5 => cache.drop_clean(),
                6 => file.write_back(pos as u64..(pos + len) as u64).unwrap(),
                7 => {
                    file.set_len(pos as u64).unwrap();
                    model.resize(pos, 0);
                }
                8 => {
                    file.punch_hole(pos as u64..(pos + len) as u64).unwrap();
                    let end = model.len().min(pos + len);
                    model[pos.min(end)..end].fill(0);
                }
                9 => {
                    store.fail_once();
                    file.sync_all().unwrap_err();
                }
                _ => {
                    if file.sync_all().is_ok() {
                        good += 1;
                        assert!(store.disk() == model, "seed {seed}: {done:?}\n{:?}\n{model:?}", store.disk());
                    }
                }
            }
        }
        // After another write, everything is safe.
        store.in_sync(|| Ok(()));
        file.write_at(&model, 0).unwrap();
        let _ = file.sync_all();
        file.sync_all().unwrap_or_else(|error| panic!("seed {seed}: {error}: {done:?}"));
        assert!(store.disk() == model, "seed {seed}: {done:?}");
        drop(file);
        drop(cache);
        assert_eq!(store.state.lock().unwrap().reserved, 0, "seed {seed}: {done:?}");
    }
    assert!(good > 1000, "{good}");
}
