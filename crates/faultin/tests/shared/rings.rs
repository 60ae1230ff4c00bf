//! Rings: entries arrive in order, also across the wrap-around; invalid counters are errors, and consume nothing.

use faultin::shared::ring::{Consumer, Counter, Producer, RingError, RingLayout};
use faultin::{
    map::{Backend, Change, Reason, Rights},
    shared::{SharedMap, SharedOptions},
};

use crate::fixture::{memfd, serial};

const LAYOUT: RingLayout = RingLayout { head: 4, tail: 0, data: 64, entry: 12, capacity: 8 };

fn shared() -> Option<SharedMap> {
    if cfg!(faultin_syscall) {
        faultin_test::skipped("assembly", "atomic operations");
        return None;
    }
    Some(SharedOptions::new().backend(Backend::Mapped).create("ring", 4096).expect("a memfd"))
}

/// Entry `n`.
fn entry(n: u32) -> [u8; 12] {
    std::array::from_fn(|i| (n.wrapping_mul(7) as u8).wrapping_add(i as u8))
}

fn entries(first: u32, count: u32) -> Vec<u8> {
    (0..count).flat_map(|i| entry(first.wrapping_add(i))).collect()
}

#[test]
fn what_goes_in_comes_out() {
    let _one = serial();
    let Some(map) = shared() else { return };
    // The counters wrap around meanwhile.
    for first in [0, 5, u32::MAX - 20] {
        map.store(LAYOUT.head, first).expect("there");
        map.store(LAYOUT.tail, first).expect("there");
        let mut producer = Producer::new(&map, LAYOUT).expect("a ring");
        let mut consumer = Consumer::new(&map, LAYOUT).expect("a ring");
        let (mut head, mut tail) = (first, first);
        for round in 0..200_u32 {
            let offered = round * 5 % 11;
            let taken = producer.push(&entries(tail, offered)).expect("an honest peer");
            assert_eq!(taken, offered.min(8 - tail.wrapping_sub(head)));
            tail = tail.wrapping_add(taken);
            let room = round * 3 % 10;
            let mut seen = vec![0xcc; room as usize * 12];
            let there = consumer.snapshot(&mut seen).expect("an honest peer");
            assert_eq!(there, room.min(tail.wrapping_sub(head)));
            assert_eq!(seen[..there as usize * 12], entries(head, there));
            assert!(seen[there as usize * 12..].iter().all(|&byte| byte == 0xcc));
            let mut again = vec![0; room as usize * 12];
            assert_eq!(consumer.consume(&mut again).expect("an honest peer"), there, "a snapshot consumes nothing");
            assert_eq!(again[..there as usize * 12], seen[..there as usize * 12]);
            head = head.wrapping_add(there);
            assert_eq!((consumer.head(), producer.tail()), (head, tail));
            assert_eq!(map.load::<u32>(LAYOUT.head).expect("there"), head);
            assert_eq!(map.load::<u32>(LAYOUT.tail).expect("there"), tail);
        }
        assert!(tail.wrapping_sub(first) > 300);
    }
}

#[test]
fn counters_that_cannot_be_are_named() {
    let _one = serial();
    let Some(map) = shared() else { return };
    let mut producer = Producer::new(&map, LAYOUT).expect("a ring");
    let mut consumer = Consumer::new(&map, LAYOUT).expect("a ring");
    producer.push(&entries(0, 6)).expect("room");
    let mut seen = [0; 12 * 20];
    assert_eq!(consumer.consume(&mut seen[..24]).expect("six"), 2);
    for lie in [11, 100, 1, 0, u32::MAX, 2 + (1 << 31)] {
        map.store(LAYOUT.tail, lie).expect("there");
        for error in [consumer.consume(&mut seen).expect_err("a lie"), consumer.snapshot(&mut seen).expect_err("a lie")]
        {
            assert!(
                matches!(error, RingError::Indices { head: 2, tail, capacity: 8, peer: Counter::Tail } if tail == lie),
                "{error:?}"
            );
            assert!(error.to_string().starts_with(&format!("the peer's tail {lie} is ")), "{error}");
        }
    }
    map.store(LAYOUT.tail, 6_u32).expect("there");
    for lie in [7, 6 + (1 << 31), u32::MAX - 3] {
        map.store(LAYOUT.head, lie).expect("there");
        let error = producer.push(&entries(6, 1)).expect_err("a lie");
        assert!(
            matches!(error, RingError::Indices { head, tail: 6, capacity: 8, peer: Counter::Head } if head == lie),
            "{error:?}"
        );
    }
    // A peer that overwrites its victim's counter confuses only itself.
    assert_eq!(consumer.consume(&mut seen).expect("four are left"), 4);
    assert_eq!(seen[..48], entries(2, 4));
    assert_eq!(map.load::<u32>(LAYOUT.head).expect("there"), 6);
    assert!(matches!(consumer.advance(1).expect_err("none"), RingError::Unseen { count: 1, seen: 0 }));
    assert!(matches!(consumer.consume(&mut seen[..13]).expect_err("not whole"), RingError::Buffer(13)));
}

#[test]
fn layouts_that_cannot_be_are_refused() {
    let _one = serial();
    let Some(map) = shared() else { return };
    let good = LAYOUT;
    for bad in [
        RingLayout { entry: 0, ..good },
        RingLayout { capacity: 0, ..good },
        RingLayout { capacity: 3, ..good },
        RingLayout { head: 2, ..good },
        RingLayout { head: 0, ..good },
        RingLayout { tail: 4096, ..good },
        RingLayout { tail: u64::MAX - 3, ..good },
        RingLayout { data: 7, ..good },
        RingLayout { data: 4096 - 95, ..good },
        RingLayout { data: u64::MAX, ..good },
        RingLayout { tail: 68, ..good },
        RingLayout { entry: u32::MAX, capacity: 1 << 31, ..good },
    ] {
        assert!(matches!(Consumer::new(&map, bad), Err(RingError::Layout(_))), "{bad:?}");
        assert!(matches!(Producer::new(&map, bad), Err(RingError::Layout(_))), "{bad:?}");
    }
    Consumer::new(&map, RingLayout { data: 4096 - 96, ..good }).expect("just fits");
    let read_only = SharedMap::from_fd(map.try_clone_fd().expect("one more"), 4096, Rights::Read).expect("map it");
    let pread = SharedOptions::new().backend(Backend::Pread).create("ring", 4096).expect("a memfd");
    for map in [read_only, pread] {
        match Consumer::new(&map, good).map(drop).expect_err("no ring") {
            RingError::Map(error) => assert!(matches!(error.reason(), Reason::Unsupported(_)), "{error:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_ring_that_is_cut_is_not_an_empty_one() {
    let _one = serial();
    let page = faultin::page_size();
    if cfg!(faultin_syscall) {
        return faultin_test::skipped("assembly", "atomic operations");
    }
    let layout = RingLayout { head: 512, tail: 1024, data: page as u64 - 48, entry: 12, capacity: 8 };
    for cut in [0, 100, 600, 1024, page - 50, page, page + 40] {
        let file = memfd(0);
        file.set_len(2 * page as u64).expect("room");
        let map =
            SharedMap::from_file(file.try_clone().expect("one more"), 2 * page, Rights::ReadWrite).expect("map it");
        let mut producer = Producer::new(&map, layout).expect("a ring");
        let mut consumer = Consumer::new(&map, layout).expect("a ring");
        let mut seen = [0; 12 * 8];
        for filled in [0, 6] {
            producer.push(&entries(0, filled)).expect("room");
            file.set_len(cut as u64).expect("cut");
            for error in [
                consumer.consume(&mut seen).expect_err("cut"),
                producer.push(&entries(6, 2)).expect_err("cut"),
                producer.push(&[]).expect_err("cut"),
            ] {
                let RingError::Map(error) = error else { panic!("cut to {cut}: {error:?}") };
                let change = Change::Shrunk { from: 2 * page as u64, to: cut as u64 };
                assert_eq!(error.change(), Some(change), "cut to {cut}: {error:?}");
            }
            assert_eq!((consumer.head(), producer.tail()), (0, filled), "nothing is consumed or produced");
            file.set_len(2 * page as u64).expect("grow");
        }
    }
}

#[test]
fn two_threads_see_every_entry_once_and_in_order() {
    let _one = serial();
    let Some(map) = shared() else { return };
    map.seal_shrink().expect("a memfd");
    let layout = RingLayout { entry: 8, ..LAYOUT };
    let last = if cfg!(target_arch = "x86_64") { 200_000_u64 } else { 20_000 };
    std::thread::scope(|scope| {
        let map = &map;
        scope.spawn(move || {
            let mut producer = Producer::new(map, layout).expect("a ring");
            let mut next = 0_u64;
            while next < last {
                let offered: Vec<u8> = (next..(next + 5).min(last)).flat_map(u64::to_ne_bytes).collect();
                match producer.push(&offered).expect("an honest peer") {
                    0 => std::thread::yield_now(),
                    taken => next += u64::from(taken),
                }
            }
        });
        let mut consumer = Consumer::new(map, layout).expect("a ring");
        let (mut next, mut seen) = (0_u64, [0; 24]);
        while next < last {
            let count = consumer.consume(&mut seen).expect("an honest peer");
            for value in seen[..count as usize * 8].chunks(8) {
                assert_eq!(value, next.to_ne_bytes());
                next += 1;
            }
            if count == 0 {
                std::thread::yield_now();
            }
        }
    });
}
