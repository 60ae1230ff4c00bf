//! The part that the assembly of every architecture shares: the object that leads to the table, and an entry of the table.

/// Emits the [`Object`](crate::table::Object) of the object file's final executable or shared library, and the ELF note
/// that leads to it.
///
/// Every `asm!` with a table entry carries this text. It emits something once per assembly unit (`.ifndef`), the linker
/// keeps one per object (`comdat`, hidden), and does not discard it (`R`, the retain flag). All positions are
/// self-relative, so that none needs a relocation at load time. The bounds are weak, because an object may use its table
/// and have no entry in it.
#[macro_export]
#[doc(hidden)]
macro_rules! __faultin_object {
    () => {
        concat!(
            ".ifndef .Lfaultin_object_v4_here\n",
            ".set .Lfaultin_object_v4_here, 1\n",
            ".weak __start_faultin_ex\n",
            ".weak __stop_faultin_ex\n",
            ".hidden __start_faultin_ex\n",
            ".hidden __stop_faultin_ex\n",
            ".pushsection .data.faultin_object_v4,\"awGR\",@progbits,faultin_object_v4,comdat\n",
            ".balign 8\n",
            ".weak faultin_object_v4\n",
            ".hidden faultin_object_v4\n",
            ".type faultin_object_v4,@object\n",
            ".size faultin_object_v4, 40\n",
            "faultin_object_v4:\n",
            ".quad 0, 0, 0, 0\n",
            ".long __start_faultin_ex - .\n",
            ".long __stop_faultin_ex - .\n",
            ".popsection\n",
            ".pushsection .note.faultin,\"aGR\",@note,faultin_object_v4,comdat\n",
            ".balign 4\n",
            ".long 8, 4, 4\n",
            ".asciz \"faultin\"\n",
            ".long faultin_object_v4 - .\n",
            ".popsection\n",
            ".endif\n",
        )
    };
}

/// A table entry for the instruction at a numeric label (`2b`), which continues at another label (`3f`), with the info word
/// as an assembler expression.
macro_rules! entry_at {
    ($insn:literal, $fixup:literal, $info:expr) => {
        concat!(
            ".pushsection faultin_ex,\"aR\",@progbits\n",
            ".balign 4\n",
            ".long ",
            $insn,
            " - .\n",
            ".long ",
            $fixup,
            " - .\n",
            ".long ",
            $info,
            "\n",
            ".popsection\n",
        )
    };
}
