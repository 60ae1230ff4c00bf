//! The assembly that puts an instruction into the exception table, and its object onto the map.

use crate::table::Object;

/// Emits the [`Object`] of the object file's final executable or shared library, and the ELF note that leads to it.
///
/// Every `asm!` with a table entry carries this text. It emits something once per assembly unit (`.ifndef`), the linker
/// keeps one per object (`comdat`, hidden), and nothing collects it (`R`, the retain flag). All positions are
/// self-relative, so that none needs a relocation at load time.
#[macro_export]
#[doc(hidden)]
macro_rules! __faultin_object {
    () => {
        concat!(
            ".ifndef .Lfaultin_object_v1_here\n",
            ".set .Lfaultin_object_v1_here, 1\n",
            ".hidden __start_faultin_ex\n",
            ".hidden __stop_faultin_ex\n",
            ".pushsection .data.faultin_object_v1,\"awGR\",@progbits,faultin_object_v1,comdat\n",
            ".balign 8\n",
            ".weak faultin_object_v1\n",
            ".hidden faultin_object_v1\n",
            ".type faultin_object_v1,@object\n",
            ".size faultin_object_v1, 40\n",
            "faultin_object_v1:\n",
            ".quad 0, 0, 0, 0\n",
            ".long __start_faultin_ex - .\n",
            ".long __stop_faultin_ex - .\n",
            ".popsection\n",
            ".pushsection .note.faultin,\"aGR\",@note,faultin_object_v1,comdat\n",
            ".balign 4\n",
            ".long 8, 4, 1\n",
            ".asciz \"faultin\"\n",
            ".long faultin_object_v1 - .\n",
            ".popsection\n",
            ".endif\n",
        )
    };
}

/// A table entry for the instruction at the numeric label `2` (backwards), continuing at `3` (forwards), with the info
/// word given as an assembler expression.
macro_rules! entry_at {
    ($insn:literal, $fixup:literal, $info:expr) => {
        concat!(
            ".pushsection faultin_ex,\"aR\",@progbits\n",
            ".balign 4\n",
            ".long ", $insn, " - .\n",
            ".long ", $fixup, " - .\n",
            ".long ", $info, "\n",
            ".popsection\n",
        )
    };
}

/// `$insn` with a table entry; operands `err` and `addr` of the surrounding `asm!` receive code and address.
///
/// The compiler chooses those registers, so the assembler looks their names up: the kernel's `_ASM_EXTABLE_TYPE_REG`
/// does the same.
macro_rules! guarded {
    ($kind:literal, $insn:expr) => {
        concat!(
            "2: ", $insn, "\n3:\n",
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
            "90: ", $insn, "\n",
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
            "90: ", $insn, "\n",
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
