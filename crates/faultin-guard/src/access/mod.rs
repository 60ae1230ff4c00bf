//! What an instruction does at an address: a load, a store, or neither. A SIGBUS reports the address only.

#[cfg(any(target_arch = "aarch64", test))]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

/// What the faulting instruction did at the address of the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// It loaded.
    Load,
    /// It stored.
    Store,
    /// It loads and stores there, as an atomic addition does.
    LoadAndStore,
    /// The instruction itself could not be fetched.
    Fetch,
    /// The instruction could not be read or is not understood.
    Unknown,
}

impl Access {
    /// Whether a page that can only be read does not satisfy the access, as far as is known.
    #[must_use]
    pub fn may_store(self) -> bool {
        matches!(self, Access::Store | Access::LoadAndStore | Access::Unknown)
    }

    /// The word for the reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Access::Load => "load",
            Access::Store => "store",
            Access::LoadAndStore => "load and store",
            Access::Fetch => "fetch of an instruction",
            Access::Unknown => "access",
        }
    }
}

/// The longest instruction, in bytes.
#[cfg(target_arch = "x86_64")]
pub(crate) const LONGEST: usize = 15;
/// The longest instruction, in bytes.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const LONGEST: usize = 4;

/// Bytes before the program counter that are read as well: they tell whether a system call has just returned.
pub(crate) const BEFORE: usize = 4;

/// The registers of the stopped thread.
pub(crate) type Registers = libc::user_regs_struct;

/// What is known of the instruction: its bytes, and those before it.
pub(crate) struct Code<'a> {
    /// What is before the program counter; empty if it could not be read.
    pub before: &'a [u8],
    /// What is at the program counter, as far as it could be read.
    pub at: &'a [u8],
}

/// An access, and whether the signal cannot be the instruction's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub access: Access,
    /// A system call has just returned, and the next instruction does not touch the address: the thread has sent the signal to
    /// itself, with the `si_code` of a fault.
    pub sent: bool,
}

/// The program counter.
pub(crate) fn program_counter(registers: &Registers) -> u64 {
    #[cfg(target_arch = "x86_64")]
    return registers.rip;
    #[cfg(target_arch = "aarch64")]
    return registers.pc;
}

/// The address that a signal names. Pointers of aarch64 may have a tag in their highest byte; the kernel hides it from handlers, and not
/// from tracers.
pub(crate) fn untagged(address: u64) -> u64 {
    #[cfg(target_arch = "aarch64")]
    // Bit 55 says which half of the address space it is.
    return ((address << 8) as i64 >> 8) as u64;
    #[cfg(not(target_arch = "aarch64"))]
    address
}

/// Does what the first use of the decoder would do: its tables take half a millisecond.
pub(crate) fn prepare() {
    #[cfg(target_arch = "x86_64")]
    x86_64::prepare();
}

/// Decodes what the instruction at the program counter does at `address`.
pub(crate) fn decode(code: &Code<'_>, registers: &Registers, address: u64) -> Decoded {
    #[cfg(target_arch = "x86_64")]
    return x86_64::decode(code, registers, address);
    #[cfg(target_arch = "aarch64")]
    return aarch64::decode(code, registers.pc, address);
}
