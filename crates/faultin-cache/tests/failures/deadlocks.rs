//! Observers that call the file that they observe: the caller that would cause a deadlock gets an error, and nothing hangs.

use std::sync::Barrier;
use std::thread;

use faultin::iov::{IovDest, IovSource};
use faultin::{ReadView, Short, WriteView};
use faultin_cache::copy::MayWait;
use faultin_cache::lock::LockKind;
use faultin_cache::store::MemoryStore;
use faultin_cache::write::Observer;
use faultin_cache::{Cache, CacheOptions, CachedFile, Error};

use crate::common::watchdog;

fn open() -> (Cache, CachedFile) {
    watchdog::start();
    let cache = CacheOptions::new().block(16).limit(1024).build();
    let file = cache.open(MemoryStore::new([7; 100])).unwrap();
    (cache, file)
}

/// Calls something while the inode lock is held.
struct Within<F>(Option<F>);

impl<F: FnOnce()> Observer for Within<F> {
    fn copied(&mut self, _: usize, _: &Result<usize, Short>) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

fn write(file: &CachedFile, bytes: &[u8], within: impl FnOnce()) -> usize {
    let mut observer = Within(Some(within));
    let mut from = IovSource::<ReadView<'_>>::one(bytes);
    let done = file.write_iter_with::<_, MayWait>(&mut from, 10, &mut observer).expect("nothing is wrong with it");
    assert!(observer.0.is_none(), "it was told");
    done
}

fn read(file: &CachedFile, bytes: &mut [u8], within: impl FnOnce()) -> usize {
    let mut observer = Within(Some(within));
    let mut to = IovDest::<WriteView<'_>>::one(bytes);
    let done = file.read_iter_with::<_, MayWait>(&mut to, 0, &mut observer).expect("nothing is wrong with it");
    assert!(observer.0.is_none(), "it was told");
    done
}

/// The lock, if the error says that this thread waits for itself.
fn own_lock(error: &Error, file: &CachedFile) -> LockKind {
    let Error::Deadlock(deadlock) = error else { panic!("{error}") };
    assert_eq!(deadlock.cycle.len(), 1, "{deadlock}");
    let waits = deadlock.cycle[0];
    assert_eq!((waits.thread, waits.lock.file()), (thread::current().id(), file.number()));
    assert_eq!(error.errno(), Some(libc::EDEADLK));
    assert!(error.to_string().contains(&format!("of file {}", file.number())), "{error}");
    waits.lock.kind()
}

#[test]
fn every_operation_says_so_within_a_write() {
    let (cache, file) = open();
    type Call = fn(&CachedFile) -> Result<(), Error>;
    let calls: [(&str, LockKind, Call); 13] = [
        ("len", LockKind::Inode, |file| file.len().map(drop)),
        ("read_at", LockKind::Inode, |file| file.read_at(&mut [0; 9], 3).map(drop).map_err(|partial| partial.error)),
        ("read_direct", LockKind::Inode, |file| {
            let mut bytes = [0; 9];
            let mut to = IovDest::<WriteView<'_>>::one(&mut bytes[..]);
            file.read_direct(&mut to, 3).map(drop).map_err(|partial| partial.error)
        }),
        ("write_at", LockKind::Writers, |file| file.write_at(&[1], 3).map(drop).map_err(|partial| partial.error)),
        ("write_direct", LockKind::Writers, |file| {
            let mut from = IovSource::<ReadView<'_>>::one(&[1][..]);
            file.write_direct(&mut from, 3).map(drop).map_err(|partial| partial.error)
        }),
        ("append", LockKind::Writers, |file| file.append(&[1]).map(drop).map_err(|partial| partial.error)),
        ("set_len", LockKind::Writers, |file| file.set_len(4)),
        ("punch_hole", LockKind::Writers, |file| file.punch_hole(1..2)),
        ("sync_all", LockKind::Inode, |file| file.sync_all()),
        ("sync_data", LockKind::Inode, |file| file.sync_data()),
        ("write_back", LockKind::Inode, |file| file.write_back(0..100)),
        ("will_need", LockKind::Inode, |file| file.will_need(0..100)),
        ("dont_need", LockKind::Inode, |file| file.dont_need(0..100)),
    ];
    file.write_at(&[8; 3], 90).unwrap();
    for (name, kind, call) in calls {
        let done = write(&file, &[9; 40], || {
            let error = call(&file).map(|()| panic!("{name} went through")).unwrap_err();
            assert_eq!(own_lock(&error, &file), kind, "{name}");
        });
        assert_eq!(done, 40, "{name}");
    }
    // These only try the locks.
    write(&file, &[9; 40], || cache.drop_clean());
    write(&file, &[9; 40], || drop(file.clone()));
    let error = write_and_get(&file, || cache.sync());
    own_lock(&error.unwrap_err(), &file);
    let mut bytes = [0; 100];
    file.read_at(&mut bytes, 0).unwrap();
    let ought: Vec<u8> = [7; 10].into_iter().chain([9; 40]).chain([7; 40]).chain([8; 3]).chain([7; 7]).collect();
    assert_eq!(bytes[..], ought[..]);
    file.sync_all().unwrap();
}

fn write_and_get<T>(file: &CachedFile, within: impl FnOnce() -> T) -> T {
    let mut result = None;
    write(file, &[9; 40], || result = Some(within()));
    result.expect("it was told")
}

/// A reader shares its lock, also with itself, but not while another thread waits for exclusive access.
#[test]
fn a_reader_may_read_within_until_somebody_waits() {
    let (_cache, file) = open();
    let mut bytes = [0; 20];
    file.read_at(&mut bytes, 0).unwrap();
    read(&file, &mut bytes, || {
        assert_eq!(file.len().unwrap(), 100);
        assert_eq!(file.read_at(&mut [0; 9], 3).unwrap(), 9);
        assert_eq!(own_lock(&file.set_len(3).unwrap_err(), &file), LockKind::Inode);
        assert_eq!(own_lock(&file.punch_hole(0..3).unwrap_err(), &file), LockKind::Inode);
        assert_eq!(own_lock(&file.write_at(&[1], 3).unwrap_err().error, &file), LockKind::Inode);
    });
    thread::scope(|scope| {
        let mut waiter = None;
        read(&file, &mut bytes, || {
            waiter = Some(scope.spawn(|| file.write_at(&[5; 4], 0)));
            let error = loop {
                match file.len() {
                    Ok(_) => thread::yield_now(),
                    Err(error) => break error,
                }
            };
            assert_eq!(own_lock(&error, &file), LockKind::Inode);
        });
        assert_eq!(waiter.expect("spawned").join().unwrap().unwrap(), 4);
    });
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes[..5], [5, 5, 5, 5, 7]);
}

/// Two writes, each of which needs the other's file.
#[test]
fn one_of_two_threads_that_wait_for_each_other_is_told() {
    let (cache, a) = open();
    let b = cache.open(MemoryStore::new([7; 100])).unwrap();
    let both = Barrier::new(2);
    let turn = |mine: &CachedFile, other: &CachedFile| {
        write_and_get(mine, || {
            both.wait();
            other.len()
        })
    };
    let (first, second) = thread::scope(|scope| {
        let second = scope.spawn(|| turn(&b, &a));
        (turn(&a, &b), second.join().unwrap())
    });
    let told: Vec<Error> = [first, second].into_iter().filter_map(Result::err).collect();
    let [Error::Deadlock(deadlock)] = &told[..] else { panic!("{told:?}") };
    let mut files: Vec<u64> = deadlock.cycle.iter().map(|waits| waits.lock.file()).collect();
    files.sort_unstable();
    assert_eq!(files, [a.number(), b.number()]);
}

/// A thread that waits for one that makes progress gets the lock.
#[test]
fn waiting_for_who_is_not_waiting_is_no_deadlock() {
    let (_cache, file) = open();
    let both = Barrier::new(2);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            both.wait();
            file.set_len(50)?;
            file.len()
        });
        write_and_get(&file, || both.wait());
        assert_eq!(other.join().unwrap().unwrap(), 50);
    });
}
