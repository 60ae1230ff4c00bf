//! The assembly that puts an instruction into the exception table.

use crate::table::Object;

/// The info word of an entry of an `asm!` whose operands `err` and `addr` receive code and address.
///
/// The compiler chooses those registers, so the assembler looks their names up: each name is a symbol whose value is
/// the number, once per assembly unit. (The kernel's `_ASM_EXTABLE_TYPE_REG` compares names instead.)
macro_rules! info {
    ($kind:literal) => {
        concat!($kind, " | (.Lfaultin_gpr_{err:r} << 2) | (.Lfaultin_gpr_{addr:r} << 7)")
    };
}

/// The text that an `asm!` with entries needs once: the object of the table, and the symbols for [`info`].
macro_rules! prelude {
    () => {
        concat!(
            __faultin_object!(),
            ".ifndef .Lfaultin_gpr_rax\n",
            ".set .Lfaultin_r, 0\n",
            ".irp r,rax,rcx,rdx,rbx,rsp,rbp,rsi,rdi,r8,r9,r10,r11,r12,r13,r14,r15\n",
            ".set .Lfaultin_gpr_\\r, .Lfaultin_r\n",
            ".set .Lfaultin_r, .Lfaultin_r + 1\n",
            ".endr\n",
            ".endif\n",
        )
    };
}

/// `$insn` with a table entry; operands `err` and `addr` of the surrounding `asm!` receive code and address.
macro_rules! guarded {
    ($kind:literal, $insn:expr) => {
        concat!("2: ", $insn, "\n3:\n", prelude!(), entry_at!("2b", "3b", info!($kind)))
    };
}

/// From here on in the text of a routine, the given number of bytes from the start of the operation is stored, whatever the
/// progress register holds. Each routine begins with 0.
macro_rules! floor {
    ($n:literal) => {
        concat!(".set .Lfaultin_floor, ", $n, "\n")
    };
}

/// `$insn` in an out-of-line operation: code to rax, address to r8, then a jump to the operation's exit at label `77`.
/// `$progress` is the assembler expression of the low bits of [`Progress`](crate::table::Progress); [`floor`] is above
/// them.
macro_rules! step {
    ($kind:literal, $progress:expr, $insn:expr) => {
        concat!(
            "90: ",
            $insn,
            "\n",
            entry_at!(
                "90b",
                "77f",
                concat!($kind, " | (0 << 2) | (8 << 7) | ((", $progress, ") << 12) | (.Lfaultin_floor << 22)")
            ),
        )
    };
}

/// A guarded load that leaves the progress as it is.
#[cfg(feature = "std")]
macro_rules! ld {
    ($insn:expr) => {
        step!("1", "0", $insn)
    };
}

/// A guarded store: `head N`, this many bytes after the progress registers are done; `tail N`, all but the last N.
#[cfg(feature = "std")]
macro_rules! st {
    (head $n:literal, $insn:expr) => {
        step!("2", $n, $insn)
    };
    (tail $n:literal, $insn:expr) => {
        step!("2", concat!("0x200 + ", $n), $insn)
    };
}

/// Returns the [`Object`] that this code was linked into.
#[inline(always)]
pub(crate) fn object() -> &'static Object {
    let object: *const Object;
    // SAFETY: computes the address of the object that the same text emits; touches no memory and no flags.
    unsafe {
        core::arch::asm!(
            "lea {object}, [rip + faultin_object_v4]",
            __faultin_object!(),
            object = out(reg) object,
            options(nomem, nostack, preserves_flags, pure),
        );
    }
    // SAFETY: `faultin_object_v4` is a static of this object, laid out as `Object`, whose fields are atomics or never
    // written.
    unsafe { &*object }
}
