//! Why an access stopped: [`Fault`], and [`Short`], the count that goes with it.
//!
//! The vocabulary is the kernel's. A *short* result is one that moved fewer bytes than requested; its count is exact. A
//! *cause* is what the hardware or the kernel reported about the first byte that could not be accessed.

pub(crate) mod outcome;

use core::fmt;

/// Which kind of access failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Access {
    /// A load.
    Read = 1,
    /// A store, or a read-modify-write operation (which needs the right to store).
    Write = 2,
}

/// The granularity of a probe: differences within one unit go unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Granularity {
    /// One access per page: mapping, protection, backing.
    Page,
    /// One load per 64 bytes as well: poison, as the memory controller keeps it.
    Line,
    /// One load per 16 bytes as well: memory tags.
    Tag,
}

/// Why an access failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Nothing is mapped at the address, or a guard page is (`SEGV_MAPERR`).
    Unmapped,
    /// Mapped, but not with this right (`SEGV_ACCERR`).
    Protection,
    /// Mapped, but the file or memory behind the mapping did not deliver (`BUS_ADRERR`): past the end of the file, an I/O
    /// error, no space, exhausted huge pages, a userfaultfd in `SIGBUS` mode. They all share one signal code;
    /// [`Backing`](crate::Backing) distinguishes them where the file is known.
    Backing,
    /// Poisoned memory (`BUS_MCEERR_AR`), lost in an aligned extent of this many bytes.
    Poison {
        /// Bytes lost, a power of two; the extent is aligned to its size.
        extent: usize,
    },
    /// The pointer's tag is not the memory's (`SEGV_MTESERR`).
    Tag,
    /// A protection key forbids it (`SEGV_PKUERR`).
    ProtectionKey,
    /// Not an address of this machine (x86-64: `#GP`, which reports no address).
    NonCanonical,
    /// A misaligned atomic operation, or `BUS_ADRALN`.
    Alignment,
    /// The access would have had to wait, and must not; or the byte does not stay resident together with the bytes before
    /// it.
    NotResident,
    /// The range extends past the end of the view. Nothing was accessed.
    OutOfRange,
    /// The ranges overlap with the destination above the source. Nothing was accessed.
    Overlap,
    /// This machine or this mode has no such operation. Nothing was accessed.
    Unsupported,
    /// Any other cause; the signal and its code are kept in the [`Fault`].
    Other,
    /// Resolving the fault would wait for a lock that the faulting thread itself holds: see [`pager`](crate::pager).
    Deadlock,
}

impl Cause {
    /// The number of causes: the length of a table indexed by [`Cause::index`].
    pub const COUNT: usize = 14;

    /// Every cause, in the order of [`Cause::index`].
    pub const ALL: [Cause; Self::COUNT] = [
        Cause::Unmapped,
        Cause::Protection,
        Cause::Backing,
        Cause::Poison { extent: 0 },
        Cause::Tag,
        Cause::ProtectionKey,
        Cause::NonCanonical,
        Cause::Alignment,
        Cause::NotResident,
        Cause::OutOfRange,
        Cause::Overlap,
        Cause::Unsupported,
        Cause::Other,
        Cause::Deadlock,
    ];

    /// Returns a small number for this cause, `0..COUNT`, the same in every build: for tables and for C.
    pub const fn index(self) -> usize {
        match self {
            Cause::Unmapped => 0,
            Cause::Protection => 1,
            Cause::Backing => 2,
            Cause::Poison { .. } => 3,
            Cause::Tag => 4,
            Cause::ProtectionKey => 5,
            Cause::NonCanonical => 6,
            Cause::Alignment => 7,
            Cause::NotResident => 8,
            Cause::OutOfRange => 9,
            Cause::Overlap => 10,
            Cause::Unsupported => 11,
            Cause::Other => 12,
            Cause::Deadlock => 13,
        }
    }

    /// Returns the cause in one or two words.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Unmapped => "unmapped",
            Cause::Protection => "protection",
            Cause::Backing => "backing",
            Cause::Poison { .. } => "hardware poison",
            Cause::Tag => "memory tag",
            Cause::ProtectionKey => "protection key",
            Cause::NonCanonical => "non-canonical address",
            Cause::Alignment => "alignment",
            Cause::NotResident => "not resident",
            Cause::OutOfRange => "out of range",
            Cause::Overlap => "overlap",
            Cause::Unsupported => "unsupported",
            Cause::Other => "other",
            Cause::Deadlock => "deadlock",
        }
    }
}

/// An access that failed: its kind, the cause, and the address if that is known.
///
/// The layout is `repr(C)`, 16 bytes on 64-bit machines, and part of the stable interface.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Fault {
    address: usize,
    code: i16,
    signal: u8,
    access: Access,
    cause: u8,
    extent_log2: u8,
    address_known: bool,
    reserved: u8,
}

impl Fault {
    /// Makes a fault that no signal reported: a rejected argument, or an operation that this mode does not have.
    #[cold]
    pub const fn rejected(access: Access, cause: Cause, address: usize) -> Self {
        Fault {
            address,
            code: 0,
            signal: 0,
            access,
            cause: cause.index() as u8,
            extent_log2: match cause {
                Cause::Poison { extent } if extent > 0 => extent.ilog2() as u8,
                _ => 0,
            },
            address_known: true,
            reserved: 0,
        }
    }

    /// Makes a rejection without an address: bytes past the end of a list.
    #[cold]
    pub(crate) const fn rejected_nowhere(access: Access, cause: Cause) -> Self {
        let mut fault = Fault::rejected(access, cause, 0);
        fault.address_known = false;
        fault
    }

    /// Returns the same fault at a known address: copies know it from their count, also where the CPU does not report it.
    #[must_use]
    pub(crate) const fn at(mut self, address: usize) -> Self {
        self.address = address;
        self.address_known = true;
        self
    }

    /// Returns the same fault as part of an operation of this kind.
    #[must_use]
    pub(crate) const fn of_kind(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Returns the same fault with another cause.
    #[cfg(all(feature = "internals", target_arch = "x86_64", not(faultin_syscall)))]
    #[must_use]
    pub(crate) const fn with_cause(mut self, cause: Cause) -> Self {
        self.cause = cause.index() as u8;
        self
    }

    /// Returns whether a load or a store failed.
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Returns the cause.
    pub const fn cause(&self) -> Cause {
        outcome::cause_at(self.cause, self.extent_log2)
    }

    /// Returns the address of the first byte that could not be accessed, if it is known. Copies and views always know it; a
    /// single load or store does not know it where the CPU reports none (a non-canonical address on x86-64).
    pub const fn address(&self) -> Option<usize> {
        if self.address_known { Some(self.address) } else { None }
    }

    /// Returns the signal that reported the fault (`SIGSEGV` or `SIGBUS`), 0 if none did.
    pub const fn signal(&self) -> i32 {
        self.signal as i32
    }

    /// Returns the signal's `si_code`, 0 if no signal reported the fault.
    pub const fn code(&self) -> i32 {
        self.code as i32
    }

    /// Returns the errno that a system call would return for the same memory: `EFAULT`, except `EAGAIN` where waiting was
    /// not allowed, `EINVAL` for arguments that no access could satisfy, `ENOSYS` for operations that this machine does not
    /// have, `EDEADLK` for a page whose [pager](crate::pager) needs a lock that the thread holds.
    pub const fn errno(&self) -> i32 {
        const EAGAIN: i32 = 11;
        const EFAULT: i32 = 14;
        const EINVAL: i32 = 22;
        const EDEADLK: i32 = 35;
        const ENOSYS: i32 = 38;
        match self.cause() {
            Cause::NotResident => EAGAIN,
            // futex(2) and io_uring's atomics answer a misaligned word with EINVAL.
            Cause::Overlap | Cause::OutOfRange => EINVAL,
            Cause::Alignment if self.signal == 0 => EINVAL,
            Cause::Unsupported => ENOSYS,
            Cause::Deadlock => EDEADLK,
            _ => EFAULT,
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_struct("Fault");
        d.field("access", &self.access).field("cause", &self.cause());
        if let Some(address) = self.address() {
            d.field("address", &format_args!("{address:#x}"));
        }
        d.field("signal", &self.signal).field("code", &self.code).finish()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Read => "load",
            Access::Write => "store",
        };
        write!(f, "{access} failed: {}", self.cause().name())?;
        if let Cause::Poison { extent } = self.cause() {
            write!(f, " ({extent} bytes lost)")?;
        }
        if self.cause() == Cause::Other {
            write!(f, " (signal {}, code {})", self.signal, self.code)?;
        }
        match self.address() {
            Some(address) => write!(f, " at {address:#x}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Fault {}

/// A short result: the first `done` bytes are done, no byte after them is, and `fault` is the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Short {
    /// Number of bytes done. Exact: everything before is complete, everything after is untouched.
    pub done: usize,
    /// The fault of the first byte that is not done.
    pub fault: Fault,
}

impl Short {
    #[cold]
    pub(crate) const fn rejected(access: Access, cause: Cause, address: usize) -> Self {
        Short { done: 0, fault: Fault::rejected(access, cause, address) }
    }

    /// Returns the [errno](Fault::errno) of its fault.
    pub const fn errno(&self) -> i32 {
        self.fault.errno()
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "short after {} bytes: {}", self.done, self.fault)
    }
}

impl core::error::Error for Short {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.fault)
    }
}

#[cfg(feature = "std")]
impl From<Fault> for std::io::Error {
    fn from(fault: Fault) -> Self {
        crate::errno::whole(Some(fault.errno()), fault)
    }
}

#[cfg(feature = "std")]
impl From<Short> for std::io::Error {
    fn from(short: Short) -> Self {
        crate::errno::whole(Some(short.errno()), short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_sixteen_bytes_on_64_bit() {
        assert_eq!(size_of::<Fault>(), if size_of::<usize>() == 8 { 16 } else { 12 });
    }

    #[test]
    fn every_cause_survives_the_c_layout() {
        for (i, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause.index(), i);
            let fault = Fault::rejected(Access::Write, cause, 64);
            assert_eq!(fault.cause().index(), i, "{cause:?}");
        }
        let poison = Fault::rejected(Access::Read, Cause::Poison { extent: 4096 }, 0);
        assert_eq!(poison.cause(), Cause::Poison { extent: 4096 });
    }
}
