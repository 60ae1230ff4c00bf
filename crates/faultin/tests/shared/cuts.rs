//! A peer that has truncated the file: the count of each operation, with a seal and without.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use faultin::{
    MapError,
    map::{Change, Reason, Rights, Watch},
    shared::{SharedMap, SharedOptions},
};
use faultin::{map::Backend, shared::PlainData};

use crate::fixture::{Kind, content, each, memfd, seal, serial};

fn shrunk(error: &MapError, from: usize, to: usize) -> bool {
    error.change() == Some(Change::Shrunk { from: from as u64, to: to as u64 })
}

#[test]
fn a_read_of_what_was_cut_says_how_much_was_there() {
    let page = faultin::page_size();
    let len = 3 * page;
    each(|case| {
        for (to, at, size, done) in [
            (100, 0, len, 100),
            (100, 50, 10, 10),
            (100, 50, 51, 50),
            (100, 200, 10, 0),
            (0, 0, 1, 0),
            (page, page - 1, 2, 1),
            (page + 1, page, page, 1),
            (2 * page, page, page, page),
            (len + 5, 0, len, len),
        ] {
            let (file, map) = case.shared(len);
            file.set_len(to as u64).expect("cut");
            let mut seen = vec![0xcc; size];
            let outcome = map.read_at(&mut seen, at as u64);
            let what = format!("cut to {to}, {size} at {at}: {outcome:?}");
            if done == size {
                assert_eq!(outcome.expect(&what), size);
            } else {
                let error = outcome.expect_err(&what);
                assert_eq!((error.done(), error.offset()), (done, (at + done) as u64), "{what}");
                // With pread the reason is the end of the file.
                assert!(
                    matches!(error.change(), Some(Change::Shrunk { from, to: t }) if from == len as u64
                    && (t == to as u64 || !case.is_mapped() && t <= to.max(at) as u64)),
                    "{what}"
                );
                assert_eq!(map.verify().is_err(), to < len, "{what}");
            }
            assert_eq!(seen[..done], content(len)[at..at + done], "{what}");
        }
    });
}

#[test]
fn a_store_to_what_was_cut_says_how_much_is_in_the_file() {
    let page = faultin::page_size();
    let len = 3 * page;
    each(|case| {
        type Store = fn(&SharedMap, usize, usize) -> Result<(), MapError>;
        let stores: [Store; 2] = [
            |map, at, size| map.write_at(&vec![7; size], at as u64),
            |map, at, size| map.fill(at as u64..(at + size) as u64, 7),
        ];
        for store in stores {
            for (to, at, size, done) in [
                (100, 50, 100, 50),
                (100, 200, 10, 0),
                (100, 50, 2 * page, 50),
                (0, 0, 1, 0),
                (page + 1, 0, len, page + 1),
                (2 * page, 10, 10, 10),
            ] {
                let (file, map) = case.shared(len);
                file.set_len(to as u64).expect("cut");
                let outcome = store(&map, at, size);
                let what = format!("cut to {to}, {size} at {at}: {outcome:?}");
                // With pread the size is checked first.
                let done = if done < size && !case.is_mapped() { 0 } else { done };
                if done == size {
                    outcome.expect(&what);
                } else {
                    let error = outcome.expect_err(&what);
                    assert!(shrunk(&error, len, to), "{what}");
                    assert_eq!((error.done(), error.offset()), (done, (at + done) as u64), "{what}");
                }
                let mut now = vec![0; len];
                assert_eq!(file.read_at(&mut now, 0).expect("read"), to, "it did not grow");
                let mut model = content(len);
                model[at..at + done].fill(7);
                assert_eq!(now[..to], model[..to], "{what}");
            }
        }
    });
}

#[test]
fn values_of_what_was_cut_are_not_given_out() {
    let page = faultin::page_size();
    each(|case| {
        let (file, map) = case.shared(2 * page);
        file.set_len(100).expect("cut");
        // In the last page, where nothing faults, across the end, and past it.
        for at in [104, 96, 2 * page as u64 - 8] {
            #[derive(Clone, Copy, Debug)]
            #[repr(C)]
            struct Pair(#[allow(dead_code)] u32, #[allow(dead_code)] u32);
            // SAFETY: two numbers.
            unsafe impl PlainData for Pair {}
            let errors = [
                map.load::<u64>(at).map(drop).expect_err("cut"),
                map.store(at, 1_u64).expect_err("cut"),
                map.read_once::<Pair>(at).map(drop).expect_err("cut"),
            ];
            let done = errors.each_ref().map(|error| error.done());
            for error in errors {
                assert!(matches!(error.change(), Some(Change::Shrunk { .. })), "{error:?}");
            }
            // A store to a mapping is made, and half of it is in the file.
            let stored = if at == 96 && case.is_mapped() { 4 } else { 0 };
            assert_eq!(done, [0, stored, 0], "at {at}");
            if case.is_mapped() && !cfg!(faultin_syscall) {
                for error in [
                    map.load_atomic::<u64>(at, Ordering::Acquire).map(drop).expect_err("cut"),
                    map.fetch_add(at, 1_u64, Ordering::AcqRel).map(drop).expect_err("cut"),
                ] {
                    assert!(shrunk(&error, 2 * page, 100) && error.done() == 0, "{error:?}");
                }
            }
        }
        assert_eq!(map.load::<u32>(92).expect("there").to_ne_bytes()[..], content(96)[92..]);
    });
}

#[test]
fn a_sealed_memfd_is_not_looked_at_and_cannot_be_cut() {
    let _one = serial();
    let page = faultin::page_size();
    for backend in [Backend::Mapped, Backend::Pread] {
        let options = SharedOptions::new().backend(backend);
        let map = options.clone().seal_shrink().seal_grow().create("sealed", 2 * page).expect("a memfd");
        let peer = std::fs::File::from(map.try_clone_fd().expect("a descriptor"));
        assert!(map.is_sealed());
        for len in [0, page as u64, 3 * page as u64] {
            assert_eq!(peer.set_len(len).expect_err("sealed").raw_os_error(), Some(libc::EPERM));
        }
        map.write_at(&content(2 * page), 0).expect("room");
        let other = options.from_file(peer, page + 3, Rights::Read).expect("map it");
        assert!(other.is_sealed());
        let mut seen = vec![0; page + 3];
        other.read_exact_at(&mut seen, 0).expect("there");
        assert_eq!(seen, content(page + 3));
        other.verify().expect("sealed");

        let plain = options.create("plain", page).expect("a memfd");
        assert!(!plain.is_sealed());
        plain.seal_shrink().expect("nobody forbids it");
        plain.seal_shrink().expect("it is so already");
        assert!(plain.is_sealed());

        let cut = options.create("cut", page).expect("a memfd");
        let peer = std::fs::File::from(cut.try_clone_fd().expect("a descriptor"));
        peer.set_len(10).expect("cut");
        assert!(shrunk(&cut.seal_shrink().expect_err("too late"), page, 10));
        assert!(!cut.is_sealed());
        assert!(shrunk(&cut.read_at(&mut [0; 20], 0).expect_err("still looked at"), page, 10));

        let last = options.clone().seal_seals().create("last", page).expect("a memfd");
        assert_eq!(last.seal_shrink().expect_err("no more seals").errno(), Some(libc::EPERM));
        assert!(!last.is_sealed());
    }
}

#[test]
fn what_has_no_seals_is_not_sealed() {
    each(|case| {
        let (_file, map) = case.shared(100);
        assert!(!map.is_sealed());
        match (case.kind, map.seal_shrink()) {
            (Kind::Memfd, sealed) => sealed.expect("a memfd"),
            // Files of a mounted tmpfs have seals, and one of them prevents further ones.
            (Kind::Tmpfs, sealed) => assert_eq!(sealed.expect_err("no memfd").errno(), Some(libc::EPERM)),
            (Kind::Disk, sealed) => {
                let error = sealed.expect_err("no memfd");
                let known = matches!(error.reason(), Reason::Unsupported(_)) || error.errno() == Some(libc::EPERM);
                assert!(known, "{error:?}");
            }
        }
        assert_eq!(map.is_sealed(), case.kind == Kind::Memfd);
    });
}

#[test]
fn holes_in_sealed_memory_read_as_zeros() {
    let _one = serial();
    let page = faultin::page_size();
    let file = memfd(0);
    file.write_all_at(&content(2 * page), 0).expect("room");
    seal(&file, libc::F_SEAL_SHRINK).expect("a memfd");
    let map = SharedMap::from_file(file.try_clone().expect("a descriptor"), 2 * page, Rights::Read).expect("map it");
    use std::os::fd::AsRawFd;
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: a descriptor owned here.
    if unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, page as libc::off_t) } != 0 {
        return faultin_test::skipped("holes", format_args!("of a memfd: {}", std::io::Error::last_os_error()));
    }
    let mut seen = vec![1; 2 * page];
    assert_eq!(map.read_at(&mut seen, 0).expect("no error"), 2 * page);
    assert!(seen[..page].iter().all(|&byte| byte == 0) && seen[page..] == content(2 * page)[page..]);
}

#[test]
fn unwatched_memory_is_asked_only_after_a_fault() {
    let page = faultin::page_size();
    each(|case| {
        let file = case.file(2 * page);
        let options = case.options().watch(Watch::Nothing);
        let map = options.from_file(file.try_clone().expect("a descriptor"), 2 * page, Rights::Read).expect("map it");
        file.set_len(100).expect("cut");
        let mut seen = vec![0xcc; 200];
        match map.read_at(&mut seen, 0) {
            Ok(read) => {
                assert!(case.is_mapped());
                assert_eq!((read, &seen[100..]), (200, &[0; 100][..]), "zeros behind the end");
            }
            Err(error) => assert_eq!((case.is_mapped(), error.done()), (false, 100)),
        }
        assert!(
            shrunk(&map.read_at(&mut [0; 8], page as u64).expect_err("a fault"), 2 * page, 100) || !case.is_mapped()
        );
        assert!(shrunk(&map.verify().expect_err("cut"), 2 * page, 100));
    });
}
