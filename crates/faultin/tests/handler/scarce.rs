//! Scans while the kernel allows no further mappings: what they need was reserved before they began, and where that was not
//! possible they read a copy.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use faultin::FileMap;

use crate::Ends;
use crate::child::{self, BUS_ADRERR};
use crate::scans::{PAGES, cut, mapped, peek, scan};

/// Maps until the kernel refuses another mapping.
fn use_up_all_mappings() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // Adjacent mappings with the same rights would be merged.
    for protection in [libc::PROT_NONE, libc::PROT_READ].into_iter().cycle().take(1 << 18) {
        // SAFETY: new memory.
        if unsafe { libc::mmap(core::ptr::null_mut(), child::page(), protection, flags, -1, 0) } == libc::MAP_FAILED {
            return;
        }
    }
    child::skip("map-limit", "there is no limit on mappings");
}

/// Whether the slice is the mapping itself and not a copy: whether its first page shows a change of the file.
fn follows_the_file(file: &tempfile::NamedTempFile, at: usize) -> bool {
    std::os::unix::fs::FileExt::write_all_at(file.as_file(), &[8], 0).expect("write");
    peek(at) == 8
}

/// Makes `mmap` fail with `errno` from here on, in this thread and those that it starts.
fn forbid_mmap(errno: i32) {
    // Offset 0 of `struct seccomp_data` is the number of the call.
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_mmap as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a program of four steps, only for this process.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    if failed {
        child::skip("seccomp", "filters of system calls");
    }
}

/// The process's current address space in bytes.
fn address_space() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("proc");
    let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number");
    pages * child::page() as u64
}

crate::scenarios! {
    a_cut_is_served_where_there_is_no_room_for_mappings => Ends::Well, |_| {
        child::clean_slate();
        let (file, map) = mapped();
        let page = child::page();
        let damaged = scan(&map, |at| {
            cut(&file, 2);
            use_up_all_mappings();
            (peek(at + page), peek(at + 5 * page), peek(at + 2 * page))
        });
        let damaged = damaged.expect_err("it was cut");
        assert_eq!((damaged.value, damaged.first_bad), (Some((7, 0, 0)), Some(2 * page as u64)));
        // When it was truncated again, there was no room for a second replacement.
        let map = FileMap::open(file.path()).expect("over pread, if it must be");
        let mut is = [0; 2];
        assert_eq!((map.read_at(&mut is, 0).expect("it has two pages"), is), (2, [7; 2]));
    };
    one_cut_after_the_other_is_served_where_there_is_no_room => Ends::Well, |_| {
        child::clean_slate();
        let (file, map) = mapped();
        let page = child::page();
        let damaged = scan(&map, |at| {
            use_up_all_mappings();
            [6, 5, 4, 3].map(|pages| {
                cut(&file, pages);
                assert_eq!(peek(at + pages * page), 0);
                // Whatever was freed is used by other mappings.
                use_up_all_mappings();
            })
        });
        let damaged = damaged.expect_err("it was cut");
        assert_eq!(damaged.first_bad, Some(0), "the whole was replaced, in the end");
        // The remaining part of the file is mapped again.
        let mut is = vec![0; 3 * page];
        assert!(map.refresh().expect("it can be asked").is_some());
        map.read_exact_at(&mut is, 0).expect("it has three pages");
        assert_eq!(is, vec![7; 3 * page]);
    };
    a_scan_that_begins_where_there_is_no_room_reads_a_copy => Ends::Well, |_| {
        child::clean_slate();
        let (file, map) = mapped();
        use_up_all_mappings();
        let whole = scan(&map, |at| {
            cut(&file, 1);
            (0..PAGES).map(|index| u32::from(peek(at + index * child::page()))).sum::<u32>()
        });
        assert_eq!(whole.expect("the copy is whole"), 7 * PAGES as u32);
    };
    many_scans_are_cut_at_once_where_there_is_no_room => Ends::Well, |_| {
        child::clean_slate();
        const THREADS: usize = 8;
        let maps: Vec<_> = (0..THREADS).map(|_| mapped()).collect();
        let (begun, all_cut) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
        let damaged = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for (_, map) in &maps {
                scope.spawn(|| {
                    let result = scan(map, |at| {
                        begun.wait();
                        all_cut.wait();
                        (peek(at), peek(at + 3 * child::page()))
                    });
                    let result = result.expect_err("it was cut");
                    assert!(result.first_bad.is_some_and(|first| first <= 2 * child::page() as u64));
                    let (first, behind) = result.value.expect("it was called");
                    assert!(behind == 0 && (first == 7 || result.first_bad == Some(0)));
                    damaged.fetch_add(1, Ordering::SeqCst);
                });
            }
            begun.wait();
            maps.iter().for_each(|(file, _)| cut(file, 2));
            use_up_all_mappings();
            all_cut.wait();
        });
        assert_eq!(damaged.into_inner(), THREADS);
    };
    what_was_given_up_is_set_aside_again => Ends::Well, |_| {
        child::clean_slate();
        let (file, map) = mapped();
        let page = child::page();
        let mut taken = Vec::new();
        for _ in 0..2 {
            std::fs::write(file.path(), vec![7; PAGES * page]).expect("write");
            map.refresh().expect("it can be asked");
            let damaged = scan(&map, |at| {
                assert!(follows_the_file(&file, at), "it is the mapping");
                cut(&file, 2);
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
                for protection in [libc::PROT_NONE, libc::PROT_READ].into_iter().cycle().take(1 << 18) {
                    // SAFETY: new memory.
                    let new = unsafe { libc::mmap(core::ptr::null_mut(), page, protection, flags, -1, 0) };
                    if new == libc::MAP_FAILED {
                        break;
                    }
                    taken.push(new);
                }
                peek(at + 5 * page)
            });
            assert_eq!(damaged.expect_err("it was cut").value, Some(0));
            // SAFETY: the test's own memory, which is not used any more.
            taken.drain(..).for_each(|at| assert_eq!(unsafe { libc::munmap(at, page) }, 0));
        }
    };
    a_cut_is_served_where_there_is_no_address_space_left => Ends::Well, |_| {
        child::clean_slate();
        let (file, map) = mapped();
        let page = child::page();
        let damaged = scan(&map, |at| {
            cut(&file, 2);
            let limit = libc::rlimit { rlim_cur: address_space(), rlim_max: libc::RLIM_INFINITY };
            // SAFETY: sets a limit.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
            (peek(at + page), peek(at + 5 * page))
        });
        let damaged = damaged.expect_err("it was cut");
        assert_eq!((damaged.value, damaged.first_bad), (Some((7, 0)), Some(2 * page as u64)));
    };
    a_scan_reads_a_copy_where_mmap_is_forbidden => Ends::Well, |_| {
        child::clean_slate();
        // An earlier map exists: what scans need has been reserved.
        let (_other_file, other) = mapped();
        scan(&other, peek).expect("nothing happened");
        let (file, map) = mapped();
        forbid_mmap(libc::EPERM);
        let whole = scan(&map, |at| {
            cut(&file, 1);
            peek(at + 3 * child::page())
        });
        assert_eq!(whole.expect("the copy is whole"), 7);
    };
    a_scan_dies_where_mmap_is_forbidden_while_it_runs => Ends::Killed(libc::SIGBUS), |_| {
        child::clean_slate();
        let (file, map) = mapped();
        let _ = scan(&map, |at| {
            cut(&file, 1);
            let at = at + 3 * child::page();
            child::dies(libc::SIGBUS, BUS_ADRERR, at, 0, None);
            forbid_mmap(libc::EPERM);
            peek(at);
        });
    };
    a_scan_of_a_sealed_mapping_reads_a_copy => Ends::Well, |_| {
        child::clean_slate();
        const SYS_MSEAL: i64 = 462;
        let (file, map) = mapped();
        let maps = std::fs::read_to_string("/proc/self/maps").expect("proc");
        let line = maps.lines().find(|line| line.ends_with(file.path().to_str().expect("a name"))).expect("it is mapped");
        let number = |text: Option<&str>| usize::from_str_radix(text.expect("an address"), 16).expect("a number");
        let mut ends = line.split([' ', '-']);
        let (start, end) = (number(ends.next()), number(ends.next()));
        // SAFETY: seals a mapping of this process.
        if unsafe { libc::syscall(SYS_MSEAL, start, end - start, 0) } != 0 {
            child::skip("mseal", "a kernel with mseal");
        }
        let whole = scan(&map, |at| {
            cut(&file, 1);
            peek(at + 3 * child::page())
        });
        assert_eq!(whole.expect("the copy is whole"), 7);
        // It cannot be unmapped, either.
        core::mem::forget(map);
    };
}
