//! The assembly that puts an instruction into the exception table.

use crate::table::Object;

/// `$insn` with a table entry; operands `err` and `addr` of the surrounding `asm!` receive code and address.
///
/// The compiler chooses those registers, so the assembler looks their names up: the kernel's `_ASM_EXTABLE_TYPE_REG`
/// does the same.
macro_rules! guarded {
    ($kind:literal, $insn:expr) => {
        concat!(
            "2: ",
            $insn,
            "\n3:\n",
            __faultin_object!(),
            ".set .Lfaultin_r, 0\n",
            ".irp r,rax,rcx,rdx,rbx,rsp,rbp,rsi,rdi,r8,r9,r10,r11,r12,r13,r14,r15\n",
            ".ifc \\r,{err:r}\n.set .Lfaultin_err, .Lfaultin_r\n.endif\n",
            ".ifc \\r,{addr:r}\n.set .Lfaultin_addr, .Lfaultin_r\n.endif\n",
            ".set .Lfaultin_r, .Lfaultin_r + 1\n",
            ".endr\n",
            entry_at!("2b", "3b", concat!($kind, " | (.Lfaultin_err << 4) | (.Lfaultin_addr << 10)")),
        )
    };
}

/// `$insn` in an out-of-line operation: code to rax, address to r8, and on to the operation's exit at label `77`.
/// `$progress` is the assembler expression of [`Progress`](crate::table::Progress).
// (The compiler does not count a macro that only `asm!` templates expand as used.)
#[allow(unused_macros)]
macro_rules! step {
    ($kind:literal, $progress:expr, $insn:expr) => {
        concat!(
            "90: ",
            $insn,
            "\n",
            entry_at!("90b", "77f", concat!($kind, " | (0 << 4) | (8 << 10) | ((", $progress, ") << 16)")),
        )
    };
}

/// A guarded load that leaves the progress as it is.
#[cfg(feature = "std")]
#[allow(unused_macros)]
macro_rules! ld {
    ($insn:expr) => {
        step!("1", "0", $insn)
    };
}

#[cfg(feature = "std")]
// (The compiler does not count a macro that only `asm!` templates expand as used.)
#[allow(unused_macros)]
macro_rules! step {
    ($kind:literal, $progress:expr, $insn:expr) => {
        concat!(
            "90: ",
            $insn,
            "\n",
            entry_at!("90b", "77f", concat!($kind, " | (0 << 4) | (8 << 10) | ((", $progress, ") << 16)")),
        )
    };
}

/// A guarded load that leaves the progress as it is.
#[cfg(feature = "std")]
#[allow(unused_macros)]
macro_rules! ld {
    ($insn:expr) => {
        step!("1", "0", $insn)
    };
}

#[cfg(feature = "std")]
/// A guarded store: `head N`, this many bytes after the progress registers are done; `tail N`, all but the last N.
macro_rules! st {
    (head $n:literal, $insn:expr) => {
        step!("2", $n, $insn)
    };
    (tail $n:literal, $insn:expr) => {
        step!("2", concat!("0x8000 + ", $n), $insn)
    };
}

/// The [`Object`] this code was linked into.
#[inline(always)]
pub(crate) fn object() -> &'static Object {
    let object: *const Object;
    // SAFETY: computes the address of the object the same text emits; touches no memory and no flags.
    unsafe {
        core::arch::asm!(
            "lea {object}, [rip + faultin_object_v1]",
            __faultin_object!(),
            object = out(reg) object,
            options(nomem, nostack, preserves_flags, pure),
        );
    }
    // SAFETY: `faultin_object_v1` is a static of this object, laid out as `Object`, whose fields are atomics or never
    // written.
    unsafe { &*object }
}
