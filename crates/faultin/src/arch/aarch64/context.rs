//! The interrupted registers in a signal, on Linux/aarch64.

use crate::fault::Access;

/// Returns the program counter of the interrupted instruction.
pub(crate) fn pc(context: &libc::ucontext_t) -> usize {
    context.uc_mcontext.pc as usize
}

/// Continues at another address. The branch type is cleared: if the interrupted instruction was the target of an indirect
/// branch, it would require a landing pad at the fixup.
pub(crate) fn set_pc(context: &mut libc::ucontext_t, pc: usize) {
    const BTYPE: u64 = 3 << 10;
    context.uc_mcontext.pc = pc as u64;
    context.uc_mcontext.pstate &= !BTYPE;
}

/// Writes the register with this number.
pub(crate) fn set_register(context: &mut libc::ucontext_t, number: usize, value: u64) {
    if let Some(register) = context.uc_mcontext.regs.get_mut(number) {
        *register = value;
    }
}

/// Returns the access that failed according to the hardware: the syndrome (ESR) of a data abort has bit 6 set for stores.
/// The kernel leaves it in one of the records after the registers; emulators leave none.
pub(crate) fn access(context: &libc::ucontext_t) -> Option<Access> {
    const ESR_MAGIC: u32 = 0x4553_5201;
    const RECORDS: usize = 4096;
    const DATA_ABORT: u64 = 0x24 >> 1; // 0x24 from user space, 0x25 from the same level
    const WRITE: u64 = 1 << 6;
    let pstate = &raw const context.uc_mcontext.pstate;
    // The records begin at the next multiple of 16: `__reserved` of the kernel's `struct sigcontext`.
    let start = pstate.wrapping_add(1).cast::<u8>();
    let start = start.wrapping_add(start.align_offset(16));
    let mut at = 0;
    while at + 16 <= RECORDS {
        let record = start.wrapping_add(at);
        // SAFETY: `__reserved` is a part of `ucontext_t`, is 4096 bytes long and consists of plain bytes; the 16 read
        // here lie within it, aligned, because every size is a multiple of 16 (checked below).
        let (magic, size, syndrome) =
            unsafe { (*record.cast::<u32>(), *record.cast::<u32>().add(1), *record.cast::<u64>().add(1)) };
        if magic == ESR_MAGIC {
            let data_abort = syndrome >> 27 & 0x1f == DATA_ABORT;
            let access = if syndrome & WRITE != 0 { Access::Write } else { Access::Read };
            return data_abort.then_some(access);
        }
        // The last record is all zeros.
        if size < 16 || !size.is_multiple_of(16) {
            return None;
        }
        at += size as usize;
    }
    None
}

/// Makes a system call that touches neither errno nor anything else of the C library.
///
/// # Safety
/// Those of the system call.
pub(crate) unsafe fn syscall4(number: i64, a: usize, b: usize, c: usize, d: usize) -> isize {
    // SAFETY: forwarded; the kernel ignores arguments that a call does not take.
    unsafe { syscall6(number, [a, b, c, d, 0, 0]) }
}

/// Makes a system call with the maximum number of arguments.
///
/// # Safety
/// Those of the system call.
pub(crate) unsafe fn syscall6(number: i64, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: a system call changes x0 only; the rest is the caller's contract.
    unsafe {
        core::arch::asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack),
        );
    }
    result
}

/// Returns the thread pointer, which differs from thread to thread. Async-signal-safe: no thread-local variable is used.
pub(crate) fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a register that every thread may read.
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    pointer
}
