//! Scans of mapped files: which faults are handled and which are not.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use faultin::Cause;
use faultin::FileMap;

use crate::Ends;
use crate::child::{self, BUS_ADRERR, SEGV_ACCERR};

pub(crate) const PAGES: usize = 8;

/// A file of [`PAGES`] pages full of sevens, and its map.
pub(crate) fn mapped() -> (tempfile::NamedTempFile, FileMap) {
    let file = tempfile::NamedTempFile::new().expect("a temporary folder");
    std::fs::write(file.path(), vec![7; PAGES * child::page()]).expect("write");
    let map = FileMap::open(file.path()).expect("map it");
    (file, map)
}

pub(crate) fn cut(file: &tempfile::NamedTempFile, pages: usize) {
    file.as_file().set_len((pages * child::page()) as u64).expect("set_len");
}

pub(crate) fn peek(at: usize) -> u8 {
    // SAFETY: the handling of a fault is what is tested.
    unsafe { core::ptr::with_exposed_provenance::<u8>(at).read_volatile() }
}

/// Runs `f` with the first address of a scan.
pub(crate) fn scan<T>(map: &FileMap, f: impl FnOnce(usize) -> T) -> Result<T, faultin::map::Damaged<T>> {
    // SAFETY: nothing relies on a byte; stores and uses after the scan are meant to be fatal.
    unsafe { map.with_slice(.., |bytes| f(bytes.as_ptr().expose_provenance())) }
}

crate::scenarios! {
    served_under_the_default => Ends::Well, |_| {
        child::clean_slate();
        let (file, map) = mapped();
        let damaged = scan(&map, |at| {
            cut(&file, 2);
            (peek(at + child::page()), peek(at + 2 * child::page()))
        });
        assert_eq!(damaged.expect_err("it was cut").value, Some((7, 0)));
        assert_eq!(faultin::signal::counters().substituted, 1);
        assert_eq!(faultin::signal::counters().forwarded, 0);
    };
    after_the_scan_dies => Ends::Killed(libc::SIGBUS), |_| {
        child::clean_slate();
        let (file, map) = mapped();
        let at = scan(&map, |at| at).expect("nothing happened") + 3 * child::page();
        cut(&file, 1);
        child::dies(libc::SIGBUS, BUS_ADRERR, at, 0, None);
        peek(at);
    };
    after_a_scan_that_met_damage_dies => Ends::Killed(libc::SIGBUS), |_| {
        child::clean_slate();
        let (file, map) = mapped();
        let at = scan(&map, |at| {
            cut(&file, 1);
            peek(at + 2 * child::page());
            at
        });
        let at = at.expect_err("it was cut").value.unwrap() + 2 * child::page();
        child::dies(libc::SIGBUS, BUS_ADRERR, at, 0, None);
        peek(at);
    };
    a_store_behind_the_end_within_a_scan_dies => Ends::Killed(libc::SIGBUS), |_| {
        child::clean_slate();
        let (file, _) = mapped();
        let map = faultin::FileMapMut::open(file.path()).expect("map it");
        let _ = scan(&map, |at| {
            cut(&file, 1);
            let at = at + 2 * child::page();
            child::dies(libc::SIGBUS, BUS_ADRERR, at, 0, None);
            // SAFETY: dies.
            unsafe { core::ptr::with_exposed_provenance_mut::<u8>(at).write_volatile(1) };
        });
    };
    a_store_to_the_slice_dies => Ends::Killed(libc::SIGSEGV), |_| {
        child::clean_slate();
        let (_file, map) = mapped();
        let _ = scan(&map, |at| {
            child::dies(libc::SIGSEGV, SEGV_ACCERR, at, 0, None);
            // SAFETY: dies.
            unsafe { core::ptr::with_exposed_provenance_mut::<u8>(at).write_volatile(1) };
        });
    };
    a_bug_of_the_closure_dies_with_its_own_address_and_pc => Ends::Killed(libc::SIGSEGV), |_| {
        child::clean_slate();
        let (_file, map) = mapped();
        let _ = scan(&map, |_| child::dies_of_null());
    };
    a_foreign_fault_of_the_same_kind_within_a_scan_dies => Ends::Killed(libc::SIGBUS), |_| {
        child::clean_slate();
        let (_file, map) = mapped();
        let _ = scan(&map, |_| child::dies_of_foreign_fault(libc::SIGBUS));
    };
    a_stack_overflow_within_a_scan_is_reported => Ends::Killed(libc::SIGABRT), |_| {
        let (file, map) = mapped();
        #[allow(unconditional_recursion)]
        fn deeper(n: usize) -> usize {
            let array = core::hint::black_box([n; 512]);
            deeper(n + 1) + array[n % 512]
        }
        let overflow = std::thread::spawn(move || {
            let _ = scan(&map, |at| {
                cut(&file, 1);
                peek(at + 2 * child::page());
                println!("stderr will have: has overflowed its stack");
                child::dies(libc::SIGABRT, libc::SI_TKILL, child::pid(), 0, None);
                deeper(at)
            });
        });
        let _ = overflow.join();
    };
    ours_within_a_scan_is_a_short_result => Ends::Well, |_| {
        let (file, map) = mapped();
        let damaged = scan(&map, |at| {
            cut(&file, 1);
            let at = core::ptr::with_exposed_provenance::<u8>(at + 2 * child::page());
            // SAFETY: the mapping exists.
            let fault = unsafe { faultin::raw::load(at) }.expect_err("the table comes first");
            assert_eq!(fault.cause(), Cause::Backing);
            assert_eq!(faultin::signal::counters().substituted, 0);
        });
        assert_eq!(damaged.expect_err("it was cut").first_bad, Some(child::page() as u64));
    };
    a_system_call_gets_efault => Ends::Well, |_| {
        let (file, map) = mapped();
        let _ = scan(&map, |at| {
            cut(&file, 1);
            let null = std::fs::File::options().write(true).open(file.path()).expect("open");
            let from = core::ptr::with_exposed_provenance(at + 2 * child::page());
            // SAFETY: only reads, if it can.
            let written = unsafe { libc::pwrite(null.as_raw_fd(), from, 1, 0) };
            assert_eq!((written, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EFAULT)));
        });
        assert_eq!(faultin::signal::counters().substituted, 0);
    };
    a_child_forked_within_a_scan_goes_on_with_it => Ends::Well, |_| {
        let (file, map) = mapped();
        let page = child::page();
        let result = scan(&map, |at| {
            cut(&file, 4);
            peek(at + 5 * page);
            let status = child::fork(|| {
                // The pages that the parent substituted, and one more.
                assert_eq!(peek(at + 5 * page), 0);
                cut(&file, 2);
                assert_eq!(peek(at + 3 * page), 0);
            });
            assert_eq!(status, 0);
            // The child's mapping is its own.
            assert_eq!(peek(at + 3 * page), 0);
        });
        assert_eq!(result.expect_err("it was cut").first_bad, Some(2 * page as u64));
    };
    a_child_forked_while_others_scan_reads_drops_and_scans => Ends::Well, |_| {
        let (file, map) = mapped();
        let page = child::page();
        let owner = Box::into_raw(Box::new(map));
        // SAFETY: valid until the end of the scenario, or until the child drops it.
        let map = unsafe { &*owner };
        let (begun, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| scan(map, |at| {
                cut(&file, 2);
                peek(at + 3 * page);
                begun.store(true, Ordering::SeqCst);
                while !stop.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            }).expect_err("it was cut"));
            while !begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let status = child::fork(|| {
                std::fs::write(file.path(), vec![7; PAGES * page]).expect("write");
                map.refresh().expect("it can be asked");
                let mut all = vec![0; PAGES * page];
                map.read_exact_at(&mut all, 0).expect("nothing happened since");
                assert_eq!(all, vec![7; PAGES * page]);
                assert_eq!(scan(map, |at| peek(at + 3 * page)).expect("by pread"), 7);
                // The thread that scans it is not in this process: it may be unmapped, and its addresses reused.
                // SAFETY: not used any more in this process.
                drop(unsafe { Box::from_raw(owner) });
                let (other_file, other) = mapped();
                let damaged = scan(&other, |at| {
                    cut(&other_file, 1);
                    peek(at + 2 * page)
                });
                assert_eq!(damaged.expect_err("it was cut").value, Some(0));
            });
            stop.store(true, Ordering::SeqCst);
            assert_eq!(status, 0);
        });
        // SAFETY: no scan of it is running.
        drop(unsafe { Box::from_raw(owner) });
    };
    a_host_that_owns_the_handler_serves_scans => Ends::Well, |_| {
        child::clean_slate();
        faultin::signal::host_owns_handler().unwrap();
        unsafe extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut core::ffi::c_void) {
            // SAFETY: the kernel's arguments.
            if unsafe { faultin::signal::try_handle(signal, info, context) } == faultin::signal::SignalOutcome::NotOurs {
                // SAFETY: exits without destructors.
                unsafe { libc::_exit(9) };
            }
        }
        for signal in child::SIGNALS {
            let handler = handler as unsafe extern "C" fn(i32, *mut libc::siginfo_t, *mut core::ffi::c_void);
            child::install(signal, handler as usize, libc::SA_SIGINFO | libc::SA_ONSTACK, &[]);
        }
        let (file, map) = mapped();
        let damaged = scan(&map, |at| {
            cut(&file, 2);
            peek(at + 2 * child::page())
        });
        assert_eq!(damaged.expect_err("it was cut").value, Some(0));
    };
}
