//! A loop over the traits of memory has no cost on the host: instantiated with a view, it has the same instructions as the
//! loop written for the view, and calls the same functions.

use core::num::NonZeroUsize;

use faultin::memory::{AtomicMemory, ReadMemory, WriteMemory};
use faultin::{ReadView, Short, WriteView};

use super::decode::{Instruction, Memory, decode};
use super::elf::Program;

/// One loop, twice: for every memory, and for the view alone.
macro_rules! twice {
    ($($name:ident<$memory:ident>($view:ty) |$m:ident, $buffer:ident: $slice:ty| $result:ty $body:block)*) => {
        mod generic {
            use super::*;
            $(#[inline(never)]
            pub fn $name<M: $memory>($m: &M, $buffer: $slice) -> $result $body)*
        }
        mod direct {
            use super::*;
            $(#[inline(never)]
            pub fn $name($m: &$view, $buffer: $slice) -> $result $body)*
        }
        /// The name, the generic function, the direct one.
        fn pairs() -> Vec<(&'static str, usize, usize)> {
            vec![$((
                stringify!($name),
                generic::$name::<$view> as *const () as usize,
                direct::$name as *const () as usize,
            )),*]
        }
    };
}

twice! {
    restart_rule<ReadMemory>(ReadView<'static>) |memory, dst: &mut [u8]| Result<(), Short> {
        let mut done = 0;
        while done < dst.len() {
            match memory.read(&mut dst[done..], done) {
                Ok(()) => break,
                Err(short) if short.done > 0 => done += short.done,
                Err(short) => {
                    let rest = NonZeroUsize::new(dst.len() - done).ok_or(short)?;
                    memory.fault_in(done, rest).map_err(|fault| Short { done, fault })?;
                }
            }
        }
        Ok(())
    }
    sum_of_words<ReadMemory>(ReadView<'static>) |memory, dst: &mut [u8]| Result<(), Short> {
        let mut sum = 0_u32;
        for at in (0..memory.len()).step_by(4) {
            sum = sum.wrapping_add(memory.load::<u32>(at).map_err(|fault| Short { done: at, fault })?);
        }
        dst[0] = sum as u8;
        Ok(())
    }
    records<WriteMemory>(WriteView<'static>) |memory, src: &mut [u8]| Result<(), Short> {
        let mut at = 0;
        for record in src.chunks(40) {
            memory.store(at, record.len() as u64).map_err(|fault| Short { done: at, fault })?;
            memory.write(record, at + 8)?;
            at += 48;
        }
        memory.fill(at..memory.len(), 0)
    }
    ticket<AtomicMemory>(WriteView<'static>) |memory, out: &mut [u8]| Result<(), Short> {
        use core::sync::atomic::Ordering::{AcqRel, Acquire};
        let ticket = memory.fetch_add(0, 1_u32, AcqRel).map_err(|fault| Short { done: 0, fault })?;
        while memory.compare_exchange(4, ticket, 0, AcqRel, Acquire).map_err(|fault| Short { done: 4, fault })?.is_err() {}
        out[0] = ticket as u8;
        Ok(())
    }
}

/// A function without its addresses: each operation, its memory, and the code or the entry of the linker's table to which
/// it refers outside. (Addresses of data are those of panic messages, which differ for each function.)
fn placeless<'c>(program: &Program, code: &'c [Instruction]) -> Vec<(&'c str, Memory, Option<u64>)> {
    let (Some(first), Some(last)) = (code.first(), code.last()) else { return Vec::new() };
    code.iter()
        .map(|insn| {
            let operation = insn.text.split_whitespace().next().unwrap_or_default();
            // Unknown opcodes are shown as encoded instructions, which include addresses.
            let operation = if operation == ".inst" { "" } else { operation };
            let outside = insn.refers.filter(|address| !(first.address..=last.address).contains(address));
            let told = outside.filter(|address| operation != "lea" || program.function_at(*address).is_some());
            (operation, insn.memory, told)
        })
        .collect()
}

#[test]
fn a_loop_over_the_traits_is_the_loop_over_the_view() {
    let path = std::env::current_exe().expect("this executable's path");
    let program = Program::read(&path);
    let bias = (faultin::table::own_table().as_ptr() as u64).wrapping_sub(program.table);
    let code = |name: &str, address: usize| -> Vec<Instruction> {
        let address = (address as u64).wrapping_sub(bias);
        let function = program.function_at(address).unwrap_or_else(|| panic!("{name}: no function at {address:#x}"));
        decode(program.architecture, function).unwrap_or_else(|at| panic!("{name}: no instruction at {at:#x}"))
    };
    let mut all = Vec::new();
    for (name, generic, direct) in pairs() {
        if name == "ticket" && cfg!(target_arch = "aarch64") {
            faultin_test::skipped(
                "x86-64",
                "ticket: what is inlined differs, because an atomic operation is a loop there",
            );
            continue;
        }
        let merged = generic == direct;
        let (generic, direct) = (code(name, generic), code(name, direct));
        let shape = placeless(&program, &direct);
        let outside = shape.iter().filter(|(_, _, refers)| refers.is_some()).count();
        eprintln!("{name}: {} instructions, {outside} of them refer to code outside, merged: {merged}", direct.len());
        let listing = |code: &[Instruction]| code.iter().map(|insn| format!("{insn:x?}\n")).collect::<String>();
        let same = placeless(&program, &generic) == shape;
        assert!(same, "{name}, generic:\n{}\ndirect:\n{}", listing(&generic), listing(&direct));
        all.push(direct);
    }
    // A difference would be detected.
    for (index, one) in all.iter().enumerate() {
        assert!(one.len() > 10, "this is no loop:\n{one:x?}");
        assert!(all[..index].iter().all(|other| placeless(&program, other) != placeless(&program, one)));
    }
}
