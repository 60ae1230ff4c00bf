//! What is known of a signal, and of the memory at its address.

use core::ffi::{c_int, c_void};

use faultin::Access;

use super::file::{self, Facts};
use super::region::{NAME, Region};

/// A signal as the kernel reported it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signal {
    pub number: c_int,
    pub code: c_int,
    pub address: u64,
    /// The exponent of the number of bytes that poison has destroyed.
    pub damaged: u32,
    pub access: Option<Access>,
}

impl Signal {
    /// # Safety
    /// What the kernel passed to an `SA_SIGINFO` handler of SIGSEGV or SIGBUS; the context may be null.
    pub(super) unsafe fn of(info: *const libc::siginfo_t, context: *const c_void) -> Signal {
        /// Where the kernel has `si_addr_lsb`, behind `si_addr`: the C library's structure hides it.
        const LSB: usize = 24;
        // SAFETY: forwarded.
        unsafe {
            let (number, code) = ((*info).si_signo, (*info).si_code);
            // In a signal that was sent, the same bytes are a process and a user.
            let is_fault = code > 0;
            Signal {
                number,
                code,
                address: if is_fault { (*info).si_addr().addr() as u64 } else { 0 },
                damaged: u32::from(info.cast::<u8>().add(LSB).cast::<u16>().read_unaligned()) & 63,
                access: if context.is_null() || !is_fault { None } else { faultin::signal::access(context) },
            }
        }
    }

    /// Returns whether it was sent, and no instruction has raised it.
    pub(super) fn was_sent(&self) -> bool {
        self.code <= 0
    }
}

/// The memory at the address of a signal.
pub(super) struct Look {
    region: Region,
    is_mapped: bool,
    pub file: Option<Facts>,
    /// The room for a part of the list of mappings, and for a path.
    buffer: [u8; NAME + 1],
}

impl Look {
    pub(super) const fn new() -> Look {
        Look { region: Region::new(), is_mapped: false, file: None, buffer: [0; NAME + 1] }
    }

    /// Looks at the memory of a signal.
    pub(super) fn at(&mut self, signal: &Signal) {
        self.file = None;
        self.is_mapped = !signal.was_sent() && self.region.find(signal.address, &mut self.buffer);
        if self.is_mapped && self.region.inode != 0 {
            self.file = file::ask(&self.region, &mut self.buffer);
        }
    }

    pub(super) fn region(&self) -> Option<&Region> {
        self.is_mapped.then_some(&self.region)
    }
}
