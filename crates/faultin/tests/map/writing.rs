//! Writes: stored bytes are in the file, nothing is stored past its end, and a concurrent truncation is reported.

use faultin::{
    FileMapMut,
    map::{Change, Reason},
};

use crate::fixture::{Case, content, each, set_len};

fn mapped(case: &Case, len: usize) -> (std::path::PathBuf, FileMapMut) {
    let path = case.file("file", len);
    let map = case.options().open_mut(&path).expect("map it");
    assert_eq!(map.backend(), case.backend);
    (path, map)
}

#[test]
fn what_is_stored_is_in_the_file() {
    let page = faultin::page_size();
    let len = 3 * page + 50;
    each(|case| {
        for offset in [0, 1, page + 7] {
            let path = case.file("file", len);
            let map = case.options().offset(offset as u64).open_mut(&path).expect("map it");
            let mut model = content(len);
            for (at, size) in [(0, 1), (5, 100), (page - 3, 6), (20, page + 9), (len - offset - 1, 1), (9, 0)] {
                let new: Vec<u8> = (0..size).map(|i| (i * 7 + at) as u8).collect();
                map.write_at(&new, at as u64).expect("room");
                model[offset + at..offset + at + size].copy_from_slice(&new);
            }
            map.fill(30..2030, 0xee).expect("room");
            model[offset + 30..offset + 2030].fill(0xee);
            map.store(3, 0x0123_4567_89ab_cdef_u64).expect("room");
            model[offset + 3..offset + 11].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_ne_bytes());
            map.store(page as u64 - 1, -2_i16).expect("room");
            model[offset + page - 1..offset + page + 1].copy_from_slice(&(-2_i16).to_ne_bytes());
            assert_eq!(std::fs::read(&path).expect("read"), model);
            let mut seen = vec![0; len - offset];
            assert_eq!(map.read_at(&mut seen, 0).expect("our own changes are none"), len - offset);
            assert_eq!(seen, model[offset..]);
            map.flush().expect("a disk");
            map.flush_range(7..7 + page as u64).expect("a disk");
            map.flush_range(u64::MAX..).expect("nothing to do");
        }
    });
}

#[test]
fn a_large_fill_reaches_every_byte() {
    let len = 100_001;
    each(|case| {
        let (path, map) = mapped(case, len);
        map.fill(1..len as u64 - 1, 9).expect("room");
        let mut model = content(len);
        model[1..len - 1].fill(9);
        assert_eq!(std::fs::read(&path).expect("read"), model);
    });
}

#[test]
fn nothing_is_stored_behind_the_end() {
    let len = 2 * faultin::page_size() + 10;
    each(|case| {
        let (path, map) = mapped(case, len);
        let error = map.write_at(&[1; 20], len as u64 - 5).expect_err("five fit");
        assert!(matches!(error.reason(), Reason::PastEnd { len: l } if *l == len as u64), "{error:?}");
        assert_eq!((error.done(), error.offset()), (5, len as u64));
        let error = map.fill(len as u64 - 5..len as u64 + 15, 2).expect_err("five fit");
        assert_eq!((error.done(), error.offset()), (5, len as u64));
        for at in [len as u64, len as u64 + 1, u64::MAX] {
            assert_eq!(map.write_at(&[1], at).expect_err("behind").done(), 0);
        }
        map.store(len as u64 - 7, 0_u64).expect_err("not all of it fits");
        let mut model = content(len);
        model[len - 5..].fill(2);
        let now = std::fs::read(&path).expect("read");
        assert_eq!(now.len(), len, "the file did not grow");
        assert_eq!(now, model, "what does not fit whole is not stored in part");
        set_len(&path, len + 100);
        assert_eq!(std::fs::read(&path).expect("read")[len..], [0; 100], "nor hidden behind the end");
    });
}

#[test]
fn a_store_to_a_file_that_was_cut_says_how_much_is_in_it() {
    let page = faultin::page_size();
    each(|case| {
        for (to, at, size, done) in [
            (100, 50, 100, 50),
            (100, 200, 10, 0),
            (100, 50, 2 * page, 50),
            (0, 0, 1, 0),
            (page + 1, 0, 3 * page, page + 1),
            (page, page - 1, 2, 1),
            (2 * page, 10, 10, 10),
        ] {
            let (path, map) = mapped(case, 3 * page);
            set_len(&path, to);
            let outcome = map.write_at(&vec![7; size], at as u64);
            let now = std::fs::read(&path).expect("read");
            assert_eq!(now.len(), to, "the file did not grow");
            let what = format!("cut to {to}, {size} at {at}: {outcome:?}");
            if done == size {
                outcome.expect(&what);
            } else {
                let error = outcome.expect_err(&what);
                assert_eq!(error.change(), Some(Change::Shrunk { from: 3 * page as u64, to: to as u64 }), "{what}");
                // With pread the size is checked first.
                let done = if case.backend == faultin::map::Backend::Pread { 0 } else { done };
                assert_eq!((error.done(), error.offset()), (done, (at + done) as u64), "{what}");
                assert_eq!(now[at.min(to)..(at + done).min(to)], vec![7; done][..], "{what}");
            }
            assert_eq!(map.flush().is_err(), to < 3 * page, "a flush says that something was lost");
            map.refresh().expect("take it as it is");
            map.flush().expect("nothing is lost any more");
        }
    });
}

#[test]
fn allocating_makes_room_and_the_file_longer() {
    let page = faultin::page_size() as u64;
    each(|case| {
        let (path, map) = mapped(case, 10);
        match map.allocate(5..5 + 40 * page) {
            Err(error) if matches!(error.reason(), Reason::Unsupported(_)) => {
                return faultin_test::skipped("fallocate", format_args!("{}: {error}", path.display()));
            }
            other => other.expect("room"),
        }
        assert_eq!((map.len(), map.file_len().expect("known")), (5 + 40 * page, 5 + 40 * page));
        let now = std::fs::read(&path).expect("read");
        assert_eq!((&now[..10], now[10..].iter().all(|&byte| byte == 0)), (&content(10)[..], true));
        map.write_at(&[3; 5], 40 * page).expect("the map has grown with it");
        assert_eq!(std::fs::read(&path).expect("read")[40 * page as usize..], [3; 5]);
        map.allocate(..0).expect("nothing");
        let error = map.allocate(..u64::MAX).expect_err("no file has so much");
        assert!(error.errno().is_some(), "{error:?}");
        let window = case.options().length(100).open_mut(&path).expect("map it");
        assert!(matches!(window.allocate(50..101).expect_err("not in it").reason(), Reason::PastEnd { len: 100 }));
        window.allocate(50..100).expect("in it");
    });
}

#[test]
fn a_file_that_is_open_for_appending_is_stored_to_in_place_or_not_at_all() {
    each(|case| {
        let path = case.file("file", 100);
        let file = std::fs::File::options().read(true).append(true).open(&path).expect("open");
        match case.options().from_file_mut(file) {
            Ok(map) => map.write_at(&[7; 9], 3).expect("room"),
            Err(error) => {
                assert_eq!(case.backend, faultin::map::Backend::Pread);
                return assert!(matches!(error.reason(), Reason::Unsupported(_)), "{error:?}");
            }
        }
        assert_eq!(case.backend, faultin::map::Backend::Mapped);
        let now = std::fs::read(&path).expect("read");
        assert_eq!((now.len(), &now[3..12]), (100, &[7; 9][..]));
    });
}

#[test]
fn many_threads_store_side_by_side() {
    let (threads, each_has) = (4, 10_000);
    each(|case| {
        let (path, map) = mapped(case, threads * each_has);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let map = &map;
                scope.spawn(move || {
                    for i in 0..each_has / 100 {
                        let at = (thread * each_has + i * 100) as u64;
                        map.write_at(&[thread as u8; 100], at).expect("room");
                    }
                });
            }
        });
        let now = std::fs::read(&path).expect("read");
        assert!(now.chunks(each_has).enumerate().all(|(thread, part)| part.iter().all(|&byte| byte == thread as u8)));
    });
}
