//! The interrupted registers in a signal, on Linux/x86-64.

use crate::fault::Access;

/// Indices of the registers in `gregs`, four bits per register number of table entries. In a handler every cache line is
/// cold, so this is a constant in the code, not a table in memory.
const GREGS: u64 = {
    let order = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];
    let (mut packed, mut number) = (0, 0);
    while number < order.len() {
        assert!(order[number] >= 0 && order[number] < 16);
        packed |= (order[number] as u64) << (4 * number);
        number += 1;
    }
    packed
};

/// Returns the program counter of the interrupted instruction.
pub(crate) fn pc(context: &libc::ucontext_t) -> usize {
    context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize
}

/// Continues at another address. The direction flag is cleared: no operation of this crate sets it, and compiled code needs
/// it clear.
pub(crate) fn set_pc(context: &mut libc::ucontext_t, pc: usize) {
    const DF: i64 = 1 << 10;
    context.uc_mcontext.gregs[libc::REG_RIP as usize] = pc as i64;
    context.uc_mcontext.gregs[libc::REG_EFL as usize] &= !DF;
}

/// Writes the register with this number.
pub(crate) fn set_register(context: &mut libc::ucontext_t, number: usize, value: u64) {
    let greg = (GREGS >> (4 * (number & 15))) & 15;
    context.uc_mcontext.gregs[greg as usize] = value as i64;
}

/// Returns the access that failed according to the hardware: bit 1 of a page fault's error code is set for stores.
pub(crate) fn access(context: &libc::ucontext_t) -> Option<Access> {
    const PAGE_FAULT: i64 = 14;
    if context.uc_mcontext.gregs[libc::REG_TRAPNO as usize] != PAGE_FAULT {
        return None;
    }
    let store = context.uc_mcontext.gregs[libc::REG_ERR as usize] & 2 != 0;
    Some(if store { Access::Write } else { Access::Read })
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
    // SAFETY: the `syscall` instruction changes rax, rcx and r11 only; the rest is the caller's contract.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Returns the thread pointer, which differs from thread to thread. Async-signal-safe: no thread-local variable is used.
pub(crate) fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: the ABI of x86-64 keeps the address of the thread's block in its first word.
    unsafe {
        core::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) pointer, options(nostack, preserves_flags, readonly));
    }
    pointer
}
