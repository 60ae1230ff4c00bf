//! The assembly that puts an instruction into the exception table.

use crate::table::Object;

/// The info word of an entry of an `asm!` whose operands `err` and `addr` receive code and address.
/// The compiler chooses those registers, so the assembler looks their names up: each name is a symbol whose value is the
/// number, once per assembly unit. The kernel's `.L__gpr_num_x0` does the same.
macro_rules! info {
    ($kind:literal) => {
        concat!($kind, " | (.Lfaultin_gpr_{err:x} << 2) | (.Lfaultin_gpr_{addr:x} << 7)")
    };
}

/// The text that an `asm!` with entries needs once: the object of the table, and the symbols for [`info`].
macro_rules! prelude {
    () => {
        concat!(
            __faultin_object!(),
            ".ifndef .Lfaultin_gpr_x0\n",
            ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30\n",
            ".set .Lfaultin_gpr_x\\n, \\n\n",
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

/// A loop of an exclusive load `$load` and an exclusive store `$store` with `$between` between them: two entries. Both are
/// stores, because the operation needs the right to store. `$store` reports in `status` whether it stored.
macro_rules! exclusive {
    ($load:expr, $between:expr, $store:expr) => {
        concat!(
            "2: ",
            $load,
            "\n",
            $between,
            "\n",
            "4: ",
            $store,
            "\n",
            "cbnz {status:w}, 2b\n",
            "3:\n",
            prelude!(),
            entry_at!("2b", "3b", info!("2")),
            entry_at!("4b", "3b", info!("2")),
        )
    };
}

/// From here on in the text of a routine, the given number of bytes from the start of the operation is stored, whatever the
/// progress register holds. Each routine begins with 0.
macro_rules! floor {
    ($n:literal) => {
        concat!(".set .Lfaultin_floor, ", $n, "\n")
    };
}

/// `$insn` in an out-of-line operation: code to x3, address to x4, then a jump to the operation's exit at label `77`, or at
/// the given label. `$progress` is the assembler expression of the low bits of [`Progress`](crate::table::Progress);
/// [`floor`] is above them.
macro_rules! step {
    ($kind:literal, $progress:expr, $insn:expr) => {
        step!($kind, $progress, $insn, "77f")
    };
    ($kind:literal, $progress:expr, $insn:expr, $exit:literal) => {
        concat!(
            "90: ",
            $insn,
            "\n",
            entry_at!(
                "90b",
                $exit,
                concat!($kind, " | (3 << 2) | (4 << 7) | ((", $progress, ") << 12) | (.Lfaultin_floor << 22)")
            ),
        )
    };
}

/// A guarded load that leaves the progress as it is.
macro_rules! ld {
    ($insn:expr) => {
        step!("1", "0", $insn)
    };
}

/// A guarded store: `head N`, this many bytes after the progress registers are done; `tail N`, all but the last N.
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
            "adrp {object}, faultin_object_v4",
            "add {object}, {object}, :lo12:faultin_object_v4",
            __faultin_object!(),
            object = out(reg) object,
            options(nomem, nostack, preserves_flags, pure),
        );
    }
    // SAFETY: `faultin_object_v4` is a static of this object, laid out as `Object`, whose fields are atomics or never
    // written.
    unsafe { &*object }
}
