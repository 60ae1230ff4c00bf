//! Copies of up to [`SHORT`] bytes where they are called, in the registers that every x86-64 has: no jump to a routine, and no
//! choice by the kind of CPU.
//!
//! A size class is two or four registers, from the start and from the end, overlapping. All loads come before the first store.

use core::arch::asm;

/// The largest size of [`copy_short`].
pub(crate) const SHORT: usize = 64;

/// One class: a list of loads and stores, and the registers between them. Each class tests for itself, and returns: a test that all
/// have in common would be a jump away.
macro_rules! class {
    ($dst:ident, $src:ident, $len:ident, $failed:ident, $class:ident [$($register:ident)*], $($text:expr),* $(,)?) => {{
        let (code, si_addr): (u64, usize);
        asm!(
            concat!(floor!("0"), "xor eax, eax\n", $($text,)* "77:\n", prelude!()),
            in("rdi") $dst,
            in("rsi") $src,
            in("rdx") $len,
            out("rax") code,
            out("r8") si_addr,
            $($register = out($class) _,)*
            options(nostack),
        );
        if code == 0 { $len } else { $failed(code, si_addr) }
    }};
}

/// Copies up to [`SHORT`] bytes, and returns `len`. After a fault it returns the result of `failed`, which receives the fault code and
/// `si_addr`. The progress of the code counts from `dst`: everything before it is stored, and nothing after it.
///
/// # Safety
/// Each range is plain memory of the right kind or foreign memory; the handler of this object's table is reached. They do not
/// overlap. `len` is at most [`SHORT`].
#[inline(always)]
pub(crate) unsafe fn copy_short(
    dst: *mut u8,
    src: *const u8,
    len: usize,
    failed: impl FnOnce(u64, usize) -> usize,
) -> usize {
    // SAFETY: loads and stores in the two ranges, with table entries; forwarded from the caller. The last class has nothing to
    // touch.
    unsafe {
        match len {
            33.. => class!(
                dst, src, len, failed, xmm_reg [a b c d],
                ld!("movups {a}, [rsi]"),
                ld!("movups {b}, [rsi + 16]"),
                ld!("movups {c}, [rsi + rdx - 32]"),
                ld!("movups {d}, [rsi + rdx - 16]"),
                st!(head "0", "movups [rdi], {a}"),
                st!(head "16", "movups [rdi + 16], {b}"),
                floor!("32"),
                st!(tail "32", "movups [rdi + rdx - 32], {c}"),
                st!(tail "16", "movups [rdi + rdx - 16], {d}"),
            ),
            16.. => class!(
                dst, src, len, failed, xmm_reg [a b],
                ld!("movups {a}, [rsi]"),
                ld!("movups {b}, [rsi + rdx - 16]"),
                st!(head "0", "movups [rdi], {a}"),
                floor!("16"),
                st!(tail "16", "movups [rdi + rdx - 16], {b}"),
            ),
            8.. => class!(
                dst, src, len, failed, reg [a b],
                ld!("mov {a}, [rsi]"),
                ld!("mov {b}, [rsi + rdx - 8]"),
                st!(head "0", "mov [rdi], {a}"),
                floor!("8"),
                st!(tail "8", "mov [rdi + rdx - 8], {b}"),
            ),
            4.. => class!(
                dst, src, len, failed, reg [a b],
                ld!("mov {a:e}, [rsi]"),
                ld!("mov {b:e}, [rsi + rdx - 4]"),
                st!(head "0", "mov [rdi], {a:e}"),
                floor!("4"),
                st!(tail "4", "mov [rdi + rdx - 4], {b:e}"),
            ),
            2.. => class!(
                dst, src, len, failed, reg [a b],
                ld!("movzx {a:e}, word ptr [rsi]"),
                ld!("movzx {b:e}, word ptr [rsi + rdx - 2]"),
                st!(head "0", "mov [rdi], {a:x}"),
                floor!("2"),
                st!(tail "2", "mov [rdi + rdx - 2], {b:x}"),
            ),
            1 => class!(
                dst,
                src,
                len,
                failed,
                reg[a],
                ld!("movzx {a:e}, byte ptr [rsi]"),
                st!(head "0", "mov [rdi], {a:l}"),
            ),
            0 => 0,
        }
    }
}
