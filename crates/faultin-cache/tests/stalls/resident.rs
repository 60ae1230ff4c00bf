//! `CachedFile::resident`.

use std::thread;

use faultin::ReadView;
use faultin::iov::IovSource;
use faultin::map::Rights;
use faultin_cache::pager::Mode;
use faultin_cache::store::MemoryStore;
use faultin_cache::{CacheOptions, Error};

use super::gate::Gate;
use super::{BLOCK, block, cache, open, pattern};

#[test]
fn exactly_the_blocks_that_were_read_or_written_are_resident() {
    let file = open(&cache(1024), MemoryStore::new(pattern(600 * BLOCK + 100)));
    assert_eq!(file.resident(0..u64::MAX).unwrap().runs(), []);
    for number in [0, 3, 4, 520, 600] {
        file.read_at(&mut [0], block(number) + 50).unwrap();
    }
    let found = file.resident(0..u64::MAX).unwrap();
    let end = block(600) + 100;
    assert_eq!(found.runs(), [0..block(1), block(3)..block(5), block(520)..block(521), block(600)..end]);
    assert_eq!((found.range(), found.bytes()), (0..end, 4 * block(1) + 100));
    assert_eq!(file.resident(block(3) + 10..block(4) + 20).unwrap().runs(), [block(3) + 10..block(4) + 20]);
    assert!(file.resident(block(3)..block(5)).unwrap().is_whole());
    assert_eq!(file.resident(end..end + 10).unwrap().bytes(), 0, "past the end");
    assert_eq!(file.resident(end + 5..end + 10).unwrap().runs(), []);
    file.write_at(&[1; 10], block(100)).unwrap();
    assert_eq!(file.resident(block(90)..block(110)).unwrap().runs(), [block(100)..block(101)]);
    file.dont_need(0..u64::MAX).unwrap();
    assert_eq!(file.resident(0..u64::MAX).unwrap().runs(), [block(100)..block(101)], "dirty blocks stay");
}

#[test]
fn blocks_of_a_mapped_file_are_those_that_were_touched() {
    let page = faultin::page_size();
    let cache = CacheOptions::new().block(page).build();
    let file = open(&cache, MemoryStore::new(pattern(8 * page)));
    let mapping = file.map(0..8 * page as u64, Rights::Read, Mode::Mprotect).expect("the mode that works everywhere");
    let view = mapping.read_view().expect("a view");
    view.fault_in(3 * page, std::num::NonZeroUsize::MIN).expect("it can be read");
    let found = file.resident(0..u64::MAX).unwrap();
    assert!(found.runs().iter().any(|run| run.contains(&(3 * page as u64))), "{found:?}");
    assert!(!found.runs().iter().any(|run| run.contains(&0)), "{found:?}");
}

#[test]
fn a_thread_that_holds_the_file_while_it_waits_is_not_waited_for() {
    let store = Gate::new(&pattern(8 * BLOCK));
    let file = open(&cache(64), std::sync::Arc::clone(&store));
    file.read_at(&mut [0], 0).unwrap();
    store.close();
    thread::scope(|scope| {
        // It writes to the store with the lock held.
        let writer = scope.spawn(|| file.write_direct(&mut IovSource::<ReadView<'_>>::one(&[9; BLOCK][..]), block(2)));
        store.until_waiting(1);
        assert!(matches!(file.resident(0..u64::MAX), Err(Error::WouldBlock)));
        let partial = file.try_read_at(&mut [0; 10], 0).unwrap_err();
        assert_eq!((partial.done, partial.error.errno()), (0, Some(libc::EAGAIN)));
        store.open();
        assert_eq!(writer.join().unwrap().unwrap(), BLOCK);
    });
    assert_eq!(file.resident(0..u64::MAX).unwrap().runs(), [0..block(1)]);
}
