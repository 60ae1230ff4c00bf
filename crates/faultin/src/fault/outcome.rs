//! The decoding of an outcome: from the registers of an operation that has failed to its [`Short`].
//!
//! The handler writes the fault, as a [`FaultCode`], and `si_addr` into two registers of the instruction that faulted; an
//! out-of-line operation also reports how far it came ([`Outcome`]). The progress of the instruction, which the code has from
//! its table entry, gives the exact count ([`Progress`]); the reported address only bounds what is worth trying again.

#[cfg(not(faultin_portable))]
use super::Short;
use super::{Access, Cause, Fault};
#[cfg(not(faultin_portable))]
use crate::arch;

// Signal numbers and codes of <asm-generic/siginfo.h>, the same on every Linux this crate has a handler for.
// They are repeated here because this module also compiles without libc.
const SIGSEGV: u8 = 11;
const SIGBUS: u8 = 7;
const SEGV_MAPERR: i16 = 1;
const SEGV_ACCERR: i16 = 2;
const SEGV_PKUERR: i16 = 4;
const SEGV_MTESERR: i16 = 9;
const SI_KERNEL: i16 = 0x80;
const BUS_ADRALN: i16 = 1;
const BUS_ADRERR: i16 = 2;
const BUS_MCEERR_AR: i16 = 4;

/// A fault in the error register of the access that it interrupted. Never 0: 0 is success.
///
/// | bits | meaning |
/// |---|---|
/// | 0-7 | signal |
/// | 8-15 | `si_addr_lsb` of poison, log2 of the bytes lost |
/// | 16-31 | `si_code` |
/// | 32-33 | [`Access`] |
/// | 36-39 | [`Cause::index`] |
/// | 44-63 | the table entry's [`progress`](crate::table::Progress) |
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct FaultCode(pub u64);

impl FaultCode {
    pub(crate) const fn new(signal: u8, si_code: i16, lsb: u8, access: Access, progress: u32) -> Self {
        FaultCode(
            signal as u64
                | (cause_index(signal, si_code) as u64) << 36
                | ((if lsb < 48 { lsb } else { 48 }) as u64) << 8
                | ((si_code as u16) as u64) << 16
                | (access as u64) << 32
                | (progress as u64) << 44,
        )
    }

    /// Returns the code of a fault that no signal reported.
    #[cfg(any(feature = "std", faultin_syscall, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    pub(crate) const fn of(fault: &Fault) -> Self {
        FaultCode((fault.cause as u64) << 36 | (fault.extent_log2 as u64) << 8 | (fault.access as u64) << 32)
    }

    pub(crate) const fn signal(self) -> u8 {
        self.0 as u8
    }

    pub(crate) const fn lsb(self) -> u8 {
        (self.0 >> 8) as u8
    }

    pub(crate) const fn si_code(self) -> i16 {
        (self.0 >> 16) as u16 as i16
    }

    pub(crate) const fn access(self) -> Access {
        if (self.0 >> 32) & 3 == Access::Write as u64 { Access::Write } else { Access::Read }
    }

    pub(crate) const fn progress(self) -> u32 {
        (self.0 >> 44) as u32
    }

    pub(crate) const fn cause_index(self) -> u8 {
        (self.0 >> 36) as u8 & 15
    }
}

impl Fault {
    /// Returns what the handler wrote into the registers of the access that failed.
    #[cold]
    pub(crate) const fn from_registers(code: FaultCode, si_addr: usize) -> Self {
        Fault {
            address: si_addr,
            code: code.si_code(),
            signal: code.signal(),
            access: code.access(),
            cause: code.cause_index(),
            extent_log2: code.lsb(),
            address_known: code.cause_index() as usize != Cause::NonCanonical.index(),
            reserved: 0,
        }
    }
}

/// Returns the cause that Linux reports by this signal and `si_code`.
const fn cause_of(signal: u8, si_code: i16) -> Cause {
    match (signal, si_code) {
        (SIGSEGV, SEGV_MAPERR) => Cause::Unmapped,
        (SIGSEGV, SEGV_ACCERR) => Cause::Protection,
        (SIGSEGV, SEGV_PKUERR) => Cause::ProtectionKey,
        (SIGSEGV, SEGV_MTESERR) => Cause::Tag,
        // x86-64: a general protection fault, or a stack fault where the address was computed from rbp or rsp.
        (SIGSEGV | SIGBUS, SI_KERNEL) => Cause::NonCanonical,
        (SIGBUS, BUS_ADRERR) => Cause::Backing,
        (SIGBUS, BUS_ADRALN) => Cause::Alignment,
        (SIGBUS, BUS_MCEERR_AR) => POISON,
        _ => Cause::Other,
    }
}

/// Returns the [index](Cause::index) of [`cause_of`]. In a handler every cache line is cold: two constants with four bits
/// per code save the memory and the indirect jump that the compiler would make of the `match`.
const fn cause_index(signal: u8, si_code: i16) -> u8 {
    const SEGV: u64 = nibbles(SIGSEGV);
    const BUS: u64 = nibbles(SIGBUS);
    let table = match signal {
        SIGSEGV => SEGV,
        SIGBUS => BUS,
        _ => return Cause::Other.index() as u8,
    };
    if si_code >= 0 && si_code < 16 {
        (table >> (4 * si_code)) as u8 & 15
    } else if si_code == SI_KERNEL {
        cause_of(signal, SI_KERNEL).index() as u8
    } else {
        Cause::Other.index() as u8
    }
}

const fn nibbles(signal: u8) -> u64 {
    let (mut table, mut code) = (0, 0);
    while code < 16 {
        table |= (cause_of(signal, code).index() as u64) << (4 * code);
        code += 1;
    }
    table
}

const POISON: Cause = Cause::Poison { extent: 0 };

/// Returns the cause with this index; for poison, 2^`extent_log2` bytes are lost.
pub(super) const fn cause_at(index: u8, extent_log2: u8) -> Cause {
    if index as usize == POISON.index() {
        Cause::Poison { extent: 1 << extent_log2 }
    } else if (index as usize) < Cause::COUNT {
        Cause::ALL[index as usize]
    } else {
        Cause::Other
    }
}

/// The progress when the instruction of an entry faults, beyond the progress register: the largest of three counts, each of
/// which is a prefix that is certainly stored, and at most the whole operation.
///
/// | bits | meaning |
/// |---|---|
/// | 0-8 | *n* |
/// | 9 | 0: *n* bytes after the progress register are done; 1: all but the last *n* bytes of the operation are |
/// | 10-18 | this number of bytes from the start is done: a first register that the progress register does not step over whole, or the head of two that overlap |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress(u32);

impl Progress {
    /// Decodes an entry's progress bits.
    pub const fn from_bits(bits: u32) -> Self {
        Progress(bits)
    }

    /// Returns the number of bytes done of `len`, when the progress register reports `base`.
    pub const fn done(self, base: usize, len: usize) -> usize {
        let n = (self.0 & 0x1ff) as usize;
        let edge = if self.0 & 0x200 == 0 { base + n } else { len.saturating_sub(n) };
        let floor = (self.0 >> 10 & 0x1ff) as usize;
        let done = if edge > base { edge } else { base };
        let done = if done > floor { done } else { floor };
        if done < len { done } else { len }
    }
}

/// The result registers of an out-of-line operation.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    /// 0 if everything was done.
    pub code: u64,
    /// `si_addr` of the fault.
    pub si_addr: usize,
    /// The progress register: everything of the destination before this address is stored.
    pub reached: usize,
}

impl Outcome {
    /// Returns the number of bytes before the progress register, when the operation began at `start`.
    pub(crate) fn done(&self, start: *mut u8) -> usize {
        self.reached.wrapping_sub(start.addr())
    }
}

/// Makes the fault of an inlined access from its registers: called only where the error register is not 0.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(faultin_syscall)))]
#[cold]
#[inline(never)]
pub(crate) fn fault_of(code: u64, si_addr: usize) -> Fault {
    Fault::from_registers(FaultCode(code), si_addr)
}

#[cfg(not(faultin_portable))]
/// Returns the progress of an out-of-line operation, and the length up to which another attempt is worthwhile.
pub(crate) fn bounds(dst: *mut u8, side: usize, len: usize, outcome: &Outcome) -> (usize, usize) {
    let code = FaultCode(outcome.code);
    let done = Progress::from_bits(code.progress()).done(outcome.done(dst), len);
    (done, worth_trying(&Fault::from_registers(code, outcome.si_addr), side, len))
}

/// Returns how many bytes of the range at `side` may be accessible although a wide access to them failed.
///
/// Protection, backing and poison are the same within a page (or the poison's extent), tags within a granule. So the bytes
/// before the extent of the reported address did not fail. The architecture's smallest page size is used: if the real pages
/// are larger, this costs only another signal.
#[cfg(not(faultin_portable))]
pub(crate) fn worth_trying(fault: &Fault, side: usize, len: usize) -> usize {
    let extent = match fault.cause() {
        Cause::Tag => TAG_GRANULE,
        Cause::Poison { extent } => extent,
        // The access as a whole failed: every byte is worth trying.
        Cause::Alignment | Cause::Other => return len,
        _ => arch::MIN_PAGE,
    };
    // The CPU gave no address: every byte is worth trying.
    let Some(address) = fault.address().map(arch::untag) else { return len };
    let side = arch::untag(side);
    let bad = address & !(extent - 1);
    let before_bad = bad.wrapping_sub(side);
    if before_bad <= len {
        before_bad
    } else if side.wrapping_sub(bad) < extent {
        // The bad extent begins before the range. The reported address may be the extent's first byte, although the access
        // began after it.
        0
    } else {
        len
    }
}

/// Bytes that share a memory tag (Arm MTE).
pub const TAG_GRANULE: usize = 16;

/// Makes the short result of exactly `done` bytes.
#[cfg(not(faultin_portable))]
pub(crate) fn exact(dst: usize, src: usize, done: usize, code: FaultCode, si_addr: usize) -> Short {
    let fault = Fault::from_registers(code, si_addr);
    let (from, to) = (src.wrapping_add(done), dst.wrapping_add(done));
    // A general protection fault reports neither address nor direction; canonical addresses do not cause it.
    let fault = match fault.cause() {
        Cause::NonCanonical if arch::less_canonical(to, from) => fault.of_kind(Access::Write),
        Cause::NonCanonical => fault.of_kind(Access::Read),
        _ => fault,
    };
    let address = match fault.access() {
        Access::Read => from,
        Access::Write => to,
    };
    Short { done, fault: fault.at(address) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_have_every_code() {
        for signal in [0, SIGBUS, SIGSEGV, 31] {
            for code in -7..0x100 {
                assert_eq!(usize::from(cause_index(signal, code)), cause_of(signal, code).index(), "{signal} {code}");
            }
        }
    }

    #[test]
    fn registers_round_trip() {
        for (signal, code, cause) in [
            (SIGSEGV, SEGV_MAPERR, Cause::Unmapped),
            (SIGSEGV, SEGV_ACCERR, Cause::Protection),
            (SIGSEGV, SEGV_PKUERR, Cause::ProtectionKey),
            (SIGSEGV, SEGV_MTESERR, Cause::Tag),
            (SIGSEGV, SI_KERNEL, Cause::NonCanonical),
            (SIGBUS, SI_KERNEL, Cause::NonCanonical),
            (SIGSEGV, 77, Cause::Other),
            (SIGBUS, BUS_ADRERR, Cause::Backing),
            (SIGBUS, BUS_ADRALN, Cause::Alignment),
            (SIGBUS, BUS_MCEERR_AR, Cause::Poison { extent: 1 << 21 }),
        ] {
            let raw = FaultCode::new(signal, code, 21, Access::Write, 0xf8123);
            assert_eq!(raw.progress(), 0xf8123);
            let fault = Fault::from_registers(raw, 0x1000);
            assert_eq!((fault.cause(), fault.access(), fault.code()), (cause, Access::Write, i32::from(code)));
            assert_eq!(fault.address().is_none(), cause == Cause::NonCanonical);
        }
    }
}
