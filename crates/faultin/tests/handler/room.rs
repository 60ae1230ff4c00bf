//! The space that the handler needs on a signal stack, and what happens to a fault where there is too little.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use faultin::FileMap;

use crate::Ends;
use crate::child::{self, page};
use crate::foreign::{self, A};

/// Bytes of the kernel's own frame on an alternate stack of `size` bytes.
fn frame(size: usize) -> usize {
    extern "C" fn returns(_: i32) {}
    child::install(libc::SIGUSR1, returns as *const () as usize, libc::SA_ONSTACK, &[]);
    child::on_alternate_stack(size, || child::Sent::Tgkill.send(libc::SIGUSR1))
}

/// The maximum size of the kernel's frame in bytes, as far as it reports it.
fn largest_frame() -> usize {
    // SAFETY: returns a number.
    (unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize).max(libc::MINSIGSTKSZ)
}

/// Bytes that the handler reports to need below the kernel's frame.
fn ours() -> usize {
    faultin::signal::status().stack_needed - largest_frame()
}

/// Runs `f` during a scan with the address of a byte past the end of the truncated file.
fn in_a_scan(f: impl FnOnce(usize)) {
    let file = tempfile::tempfile().expect("a temporary folder");
    file.set_len(4 * page() as u64).expect("set_len");
    let map = FileMap::from_file(file.try_clone().expect("dup")).expect("map it");
    // SAFETY: nothing relies on a byte.
    let _ = unsafe {
        map.with_slice(.., |bytes| {
            file.set_len(page() as u64).expect("set_len");
            f(bytes.as_ptr().expose_provenance() + 2 * page());
        })
    };
}

fn peek(at: usize) -> u8 {
    // SAFETY: handled, or its handling is what is tested.
    unsafe { core::ptr::with_exposed_provenance::<u8>(at).read_volatile() }
}

crate::scenarios! {
    recovery_by_table_stays_within_what_status_says => Ends::Well, |_| {
        faultin::install().unwrap();
        let size = 64 << 10;
        let used = child::on_alternate_stack(size, child::ours_is_recovered) - frame(size);
        println!("{used} bytes below the kernel's frame");
        assert!((1..=ours()).contains(&used), "{used} of {}", ours());
    };
    recovery_by_guard_stays_within_what_status_says => Ends::Well, |_| {
        faultin::install().unwrap();
        let size = 64 << 10;
        let mut used = 0;
        in_a_scan(|at| used = child::on_alternate_stack(size, || assert_eq!(peek(at), 0)));
        assert_eq!(faultin::signal::counters().substituted, 1);
        let used = used - frame(size);
        println!("{used} bytes below the kernel's frame");
        assert!((1..=ours()).contains(&used), "{used} of {}", ours());
    };
    passing_a_signal_on_stays_within_what_status_says => Ends::Well, |_| {
        /// A handler that needs as little as possible.
        extern "C" fn repairs(_: i32) {
            child::repair();
        }
        child::clean_slate();
        child::install(libc::SIGBUS, repairs as *const () as usize, 0, &[]);
        let size = 64 << 10;
        let alone = child::on_alternate_stack(size, || {
            child::install(libc::SIGBUS, repairs as *const () as usize, libc::SA_ONSTACK, &[]);
            child::foreign_fault(libc::SIGBUS);
        });
        faultin::install().unwrap();
        let used = child::on_alternate_stack(size, || child::foreign_fault(libc::SIGBUS)) - alone;
        println!("{used} bytes more than without us");
        assert!((1..=ours()).contains(&used), "{used} of {}", ours());
    };
    /// Nothing is overwritten below the stack, and the predecessor decides.
    guard_without_room_passes_on => Ends::Well, |_| {
        static PASSED_ON: AtomicBool = AtomicBool::new(false);
        // There is no room for more here: another thread looks at the counters.
        extern "C" fn passed_on(_: i32) {
            PASSED_ON.store(true, SeqCst);
            loop {
                std::hint::spin_loop();
            }
        }
        std::thread::spawn(|| {
            while !PASSED_ON.load(SeqCst) {
                std::thread::yield_now();
            }
            let substituted = faultin::signal::counters().substituted;
            // SAFETY: exits the process.
            unsafe { libc::_exit(if substituted == 0 { 0 } else { 3 }) };
        });
        child::clean_slate();
        child::install(libc::SIGBUS, passed_on as *const () as usize, 0, &[]);
        faultin::install().unwrap();
        // Room for the handler, but not for the guard.
        let size = (frame(64 << 10) + ours() - 256).next_multiple_of(64);
        in_a_scan(|at| _ = child::on_alternate_stack(size, || _ = peek(at)));
        unreachable!("it was served");
    };
    status_reports_the_alternate_stack_and_what_it_should_have => Ends::Well, |_| {
        for size in [16 << 10, 100_000] {
            child::on_alternate_stack(size, || {
                let status = faultin::signal::status();
                assert_eq!(status.alternate_stack, size);
                assert!(status.stack_needed > largest_frame() && status.stack_needed <= largest_frame() + 4096);
            });
        }
        child::without_alternate_stack(|| assert_eq!(faultin::signal::status().alternate_stack, 0));
        // Also if a handler runs on it.
        child::on_alternate_stack(100_000, || {
            foreign::install(A, libc::SIGUSR1, libc::SA_ONSTACK, &[], |_, _, _, _| {
                assert_eq!(faultin::signal::status().alternate_stack, 100_000);
            });
            child::Sent::Tgkill.send(libc::SIGUSR1);
        });
        assert_eq!(foreign::seen(A).calls, 1);
    };
}
