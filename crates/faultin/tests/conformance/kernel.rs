//! The host's memory, accessed only by the kernel, in each available way.

use std::os::raw::c_long;

use faultin::memory::AtomicMemory;
use faultin::signal_free::{KernelReadView, KernelWriteView, Method, method};
use faultin::{Access, Cause, page_size};

use super::filters::{deny, works};
use super::host::{Host, Pages};
use super::layout::{Backend, Kind, Memory};

#[derive(Debug)]
pub struct Kernel;

/// Pages as [`Host`] has them.
pub struct KernelPages(Pages);

impl Backend for Kernel {
    type Memory = KernelPages;

    fn page_size(&self) -> usize {
        page_size()
    }

    fn memory(&self, kinds: &[Kind]) -> KernelPages {
        KernelPages(Host.memory(kinds))
    }
}

impl Memory for KernelPages {
    type Read = KernelReadView<'static>;
    type Write = KernelWriteView<'static>;

    fn read(&self) -> KernelReadView<'static> {
        // SAFETY: as in `Host`.
        unsafe { KernelReadView::new(self.0.read().as_ptr(), self.0.read().len()) }
    }

    fn write(&self) -> KernelWriteView<'static> {
        // SAFETY: as in `Host`.
        unsafe { KernelWriteView::new(self.0.write().as_ptr(), self.0.write().len()) }
    }

    fn base(&self) -> usize {
        self.0.base()
    }

    fn contents(&self) -> Vec<u8> {
        self.0.contents()
    }
}

const CROSS: [c_long; 2] = [libc::SYS_process_vm_readv, libc::SYS_process_vm_writev];
const MEM: [c_long; 2] = [libc::SYS_pread64, libc::SYS_pwrite64];

/// Runs a test with each way, in a thread that may not use the ways before it.
pub fn by_each_way(promise: fn(&Kernel)) {
    // The cause of a failed kernel access is available from Linux 6.12 on, and not under an emulator.
    let cause = Kernel.memory(&[Kind::NoAccess]).read().load::<u8>(0).map_err(|fault| fault.cause());
    if cause != Err(Cause::Protection) {
        return faultin_test::skipped("populate", format!("the cause of a fault is {cause:?}"));
    }
    promise(&Kernel);
    if !works() {
        return faultin_test::skipped("seccomp", "a thread cannot have a filter");
    }
    for (denied, expected) in [(&CROSS[..], Method::ProcMem), (&[CROSS, MEM].concat(), Method::Pipe)] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(deny(denied, libc::EPERM), "a filter");
                assert_eq!(method(), Some(expected));
                promise(&Kernel);
            });
        });
    }
}

#[test]
fn atomics_are_refused_and_change_nothing() {
    use std::sync::atomic::Ordering::SeqCst;
    let _serial = super::serial();
    let memory = Kernel.memory(&[Kind::Good]);
    let (write, before) = (memory.write(), memory.contents());
    let refusals = [
        write.swap(8, 1_u64).map(|_| ()),
        write.fetch_add(8, 1_u64, SeqCst).map(|_| ()),
        write.compare_exchange(8, 1_u64, 1, SeqCst, SeqCst).map(|_| ()),
    ];
    for refusal in refusals {
        let fault = refusal.expect_err("the kernel has no such operation");
        let address = Some(memory.base() + 8);
        assert_eq!((fault.access(), fault.cause(), fault.address()), (Access::Write, Cause::Unsupported, address));
    }
    assert!(before == memory.contents());
}
