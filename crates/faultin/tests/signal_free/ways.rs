//! Filters that forbid the kernel's copies one after the other: the next method gives the same results.

use faultin::signal_free::{KernelReadView, KernelWriteView, Method, method};
use faultin::{Access, Cause, page_size, signal_free};

use crate::filters::{deny, works};
use crate::pages::{Bad, CANARY, Pages, pattern};
use crate::{Scenario, child};

pub const SCENARIOS: &[Scenario] = &[
    ("ways", ways),
    ("none", none),
    ("forked", forked),
    ("changes its number", changes_its_number),
    ("outlives its first thread", outlives_its_first_thread),
    ("secret", secret),
];

const CROSS: [libc::c_long; 2] = [libc::SYS_process_vm_readv, libc::SYS_process_vm_writev];
const MEM: [libc::c_long; 2] = [libc::SYS_pread64, libc::SYS_pwrite64];
const PIPE: [libc::c_long; 1] = [libc::SYS_pipe2];
const ASK: [libc::c_long; 1] = [libc::SYS_rt_sigprocmask];

/// Runs `run` in a thread that may not make these calls, for each of the errors that sandboxes return.
fn without(calls: &[libc::c_long], run: impl Fn() + Send + Sync) {
    for errno in [libc::EPERM, libc::ENOSYS, libc::EACCES] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(deny(calls, errno), "a filter");
                run();
            });
        });
    }
}

/// Checks counts, causes, and bytes at every kind of bad page.
fn same_as_ever() {
    let page = page_size();
    let source: Vec<u8> = (0..4 * page).map(|i| pattern(i) ^ 0x55).collect();
    for bad in Bad::ALL {
        let mut pages = Pages::new(bad, 2 * page);
        let start = pages.good;
        for good in [0, 1, 100, page, page + 7] {
            for size in [1, 8, 101, page + 8, 2 * page] {
                let what = format!("{size} bytes, {good} good before {bad:?}, {:?}", method());
                pages.all().iter_mut().enumerate().for_each(|(i, b)| *b = pattern(i));
                let ptr = pages.boundary().wrapping_sub(good);
                let expected = |access| match bad.cause(access) {
                    Some(cause) if good < size => Err((good, access, cause, Some(pages.boundary().addr()))),
                    _ => Ok(()),
                };
                let named = |result: Result<(), faultin::Short>| {
                    result.map_err(|s| (s.done, s.fault.access(), s.fault.cause(), s.fault.address()))
                };
                let (to_read, to_write) = (expected(Access::Read), expected(Access::Write));
                let mut out = vec![CANARY; size + 64];
                // SAFETY: `out` and `source` are long enough; `ptr` may fault.
                let (read, written) = unsafe {
                    let read = signal_free::copy_in(out.as_mut_ptr(), ptr, size);
                    (read, signal_free::copy_out(ptr, source.as_ptr(), size))
                };
                assert_eq!(named(read), to_read, "{what}");
                let done = if to_read.is_ok() { size } else { good };
                assert!((0..done).all(|i| out[i] == pattern(start - good + i)), "{what}");
                assert!(out[done..].iter().all(|&b| b == CANARY), "{what}");
                assert_eq!(named(written), to_write, "{what}");
                let done = if to_write.is_ok() { size } else { good };
                let seen = pages.all();
                assert!(seen[start - good..][..done] == source[..done], "{what}");
                let after = start - good + done;
                assert!(seen[after..].iter().enumerate().all(|(i, &b)| b == pattern(after + i)), "{what}");
            }
        }
    }
    // Backwards, to the bad page and to the bytes before it.
    for bad in Bad::ALL {
        let mut pages = Pages::new(bad, 2 * page);
        pages.all().fill(1);
        let (from, len) = (pages.boundary().wrapping_sub(page), 2 * page + 100);
        // SAFETY: may fault.
        let (nowhere, there) =
            unsafe { (signal_free::rfind_byte(from, len, 9), signal_free::rfind_byte(from, page, 1)) };
        // The page after the bad one belongs to the file as well, unless the file has ended.
        let behind = if bad == Bad::PastEnd { 0 } else { 100 };
        let expected = if bad.cause(Access::Read).is_some() { Err(behind) } else { Ok(None) };
        assert_eq!(nowhere.map_err(|short| short.done), expected, "{bad:?}");
        assert_eq!(there, Ok(Some(page - 1)), "{bad:?}");
    }
    // Addresses outside of every program.
    for address in [0, 1 << 47, 1 << 62, usize::MAX - 3, usize::MAX / 2 + 1] {
        let ptr: *mut u8 = core::ptr::without_provenance_mut(address);
        let mut out = [CANARY; 8];
        // SAFETY: faults.
        let (read, written) =
            unsafe { (signal_free::copy_in(out.as_mut_ptr(), ptr, 8), signal_free::copy_out(ptr, out.as_ptr(), 8)) };
        assert_eq!((read.map_err(|s| s.done), out), (Err(0), [CANARY; 8]), "{address:#x}");
        assert_eq!(written.map_err(|s| (s.done, s.fault.cause())), Err((0, Cause::Unmapped)), "{address:#x}");
    }
}

#[test]
fn the_next_way_gives_the_same_results() {
    if !works() {
        return faultin_test::skipped("seccomp", "a thread cannot have a filter");
    }
    child::check("ways");
}

fn ways() {
    assert_eq!(method(), Some(Method::CrossMemory));
    same_as_ever();
    without(&CROSS, || {
        same_as_ever();
        assert_eq!(method(), Some(Method::ProcMem));
    });
    // Filters apply to a thread: this one has none.
    assert_eq!(method(), Some(Method::CrossMemory));
    without(&[&CROSS[..], &PIPE].concat(), || {
        same_as_ever();
        assert_eq!(method(), Some(Method::ProcMem));
    });
    // The call that tells whether a page is readable: the filter's error says nothing about the page.
    without(&[&CROSS[..], &ASK].concat(), || {
        same_as_ever();
        assert_eq!(method(), Some(Method::ProcMem));
    });
    without(&[&CROSS[..], &MEM].concat(), || {
        same_as_ever();
        assert_eq!(method(), Some(Method::Pipe));
    });
}

#[test]
fn without_any_way_nothing_is_accessed() {
    if !works() {
        return faultin_test::skipped("seccomp", "a thread cannot have a filter");
    }
    child::check("none");
}

fn none() {
    without(&[&CROSS[..], &MEM, &PIPE].concat(), || {
        assert_eq!(method(), None);
        let mut bytes = [1_u8, 2, 3];
        let view = bytes.as_mut_ptr();
        // SAFETY: three local bytes, which are not used otherwise meanwhile.
        let (read, written) = unsafe {
            let read = KernelReadView::new(view, 3).read(&mut [0; 3], 0);
            (read, KernelWriteView::new(view, 3).write(&[9; 3], 0))
        };
        assert_eq!(read.map_err(|s| (s.done, s.fault.cause())), Err((0, Cause::Unsupported)));
        assert_eq!(written.map_err(|s| (s.done, s.fault.cause())), Err((0, Cause::Unsupported)));
        assert_eq!(bytes, [1, 2, 3]);
    });
}

#[test]
fn a_forked_child_copies_its_own_memory() {
    if !works() {
        return faultin_test::skipped("seccomp", "a thread cannot have a filter");
    }
    child::check("forked");
}

fn forked() {
    without(&CROSS, || {
        let mut value = 1_u64;
        let ptr = &raw mut value;
        // SAFETY: a local value; the child only copies, and exits.
        unsafe {
            assert_eq!(signal_free::load(ptr), Ok(1));
            let child = libc::fork();
            if child == 0 {
                ptr.write(2);
                let own = signal_free::load(ptr) == Ok(2) && signal_free::store(ptr, 3) == Ok(()) && ptr.read() == 3;
                libc::_exit(i32::from(!own));
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!((status, ptr.read()), (0, 1));
        }
    });
}

/// The kernel is given the number of the process, which is remembered.
#[test]
fn a_forked_child_copies_its_own_memory_by_the_same_call() {
    child::check("changes its number");
}

fn changes_its_number() {
    let mut value = 1_u64;
    let ptr = &raw mut value;
    // SAFETY: a local value; the children only copy, and exit.
    unsafe {
        assert_eq!((signal_free::load(ptr), method()), (Ok(1), Some(Method::CrossMemory)));
        let in_child = |run: &dyn Fn() -> bool| {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(i32::from(!run()));
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            status == 0
        };
        let own = |number| {
            ptr.write(number);
            signal_free::load(ptr) == Ok(number)
                && signal_free::store(ptr, number + 1) == Ok(())
                && ptr.read() == number + 1
        };
        assert!(in_child(&|| own(2) && in_child(&|| own(4)) && own(6)));
        assert_eq!((signal_free::load(ptr), method()), (Ok(1), Some(Method::CrossMemory)));
    }
}

#[test]
fn a_process_whose_first_thread_has_ended_copies() {
    child::check("outlives its first thread");
}

fn outlives_its_first_thread() {
    assert_eq!(method(), Some(Method::CrossMemory));
    super::remote::end_the_first_thread(|| {
        same_as_ever();
        assert_eq!(method(), Some(Method::CrossMemory));
    });
}

#[test]
fn memory_that_the_kernel_is_not_given_by_address_is_copied() {
    child::check("secret");
}

fn secret() {
    let page = page_size();
    // SAFETY: a new descriptor and a new mapping.
    let ptr = unsafe {
        let fd = libc::syscall(libc::SYS_memfd_secret, 0) as i32;
        if fd < 0 || libc::ftruncate(fd, page as libc::off_t) != 0 {
            return faultin_test::skipped("memfd-secret", std::io::Error::last_os_error());
        }
        libc::mmap(std::ptr::null_mut(), page, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
    };
    if ptr == libc::MAP_FAILED {
        return faultin_test::skipped("memfd-secret", std::io::Error::last_os_error());
    }
    let source: Vec<u8> = (0..page).map(pattern).collect();
    let mut out = vec![0; page];
    // SAFETY: as many bytes.
    unsafe {
        assert_eq!(signal_free::copy_out(ptr.cast(), source.as_ptr(), page), Ok(()));
        assert_eq!(signal_free::copy_in(out.as_mut_ptr(), ptr.cast(), page), Ok(()));
    }
    assert!(out == source);
}
