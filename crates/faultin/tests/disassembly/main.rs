//! Every instruction of the crate's assembly that may access foreign memory has a table entry, and no other instruction has
//! one: checked in the machine code of this executable.
//!
//! * In the out-of-line routines, which consist of assembly, each instruction is checked.
//! * For inlined code, each entry is checked: its instruction accesses memory in the stated way. That none is missing is
//!   checked in functions for this purpose, one for each operation and type.

mod aarch64;
mod decode;
mod elf;
mod memory_traits;
mod operations;
mod x86_64;

use std::collections::{BTreeMap, BTreeSet};

use decode::{Instruction, Memory, Position, decode};
use elf::{Entry, Function, Program};
use faultin::table::{Kind, Progress};
use object::Architecture;

/// The routines that consist of assembly only.
fn routines(architecture: Architecture) -> &'static [&'static str] {
    match architecture {
        Architecture::X86_64 => &[
            "copy_avx512",
            "copy_avx2",
            "copy_sse2",
            "copy_streaming_avx512",
            "copy_streaming_sse2",
            "copy_unpredictable_avx512",
            "copy_unpredictable_sse2",
            "counting_copy_avx512",
            "counting_copy_avx2",
            "counting_copy_sse2",
            "copy_rep",
            "fill_sse2",
            "fill_rep",
        ],
        Architecture::Aarch64 => {
            &["copy_vector", "copy_general", "fill_vector", "fill_general", "store_registers", "load_registers"]
        }
        other => panic!("no routines for {other:?}"),
    }
}

/// The maximum number of instructions from an inlined access to its fixup: a loop of load-exclusive and store-exclusive. A
/// more distant fixup is the exit of a routine.
const NEAR: usize = 8;

/// The errors of the table.
fn complaints(program: &Program, operations: &[(String, u64)]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    let mut by_function: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
    for entry in &program.entries {
        if !seen.insert(entry.insn) {
            complaints.push(format!("{:#x} has two entries", entry.insn));
        }
        match program.function_at(entry.insn) {
            Some(function) => by_function.entry(function.address).or_default().push(*entry),
            None => complaints.push(format!("{:#x} has an entry and lies in no function", entry.insn)),
        }
    }
    for (address, entries) in &by_function {
        let function = program.function_at(*address).expect("found above");
        complaints.extend(each_entry_fits(program, function, entries));
    }
    for name in routines(program.architecture) {
        match program.routine(name) {
            Some(routine) => complaints.extend(each_access_has_an_entry(program, routine, true)),
            None => complaints.push(format!("no routine {name}")),
        }
    }
    for (name, address) in operations {
        match program.function_at(*address) {
            Some(function) if program.entries_in(function).is_empty() => complaints.push(format!("{name}: no entry")),
            Some(function) => complaints.extend(each_access_has_an_entry(program, function, false)),
            None => complaints.push(format!("{name}: no function at {address:#x}")),
        }
    }
    complaints
}

/// Each entry of `function` is at an instruction that does what the entry says, and continues at another one.
fn each_entry_fits(program: &Program, function: &Function, entries: &[Entry]) -> Vec<String> {
    let code = match decode(program.architecture, function) {
        Ok(code) => code,
        Err(at) => return vec![format!("{}: no instruction at {at:#x}", function.name)],
    };
    let index = |address: u64| code.binary_search_by_key(&address, |insn| insn.address).ok();
    let at = |address: u64| index(address).map(|i| &code[i]);
    let mut complaints: Vec<String> = entries
        .iter()
        .filter_map(|entry| misfit(entry, at(entry.insn), at(entry.fixup)))
        .map(|what| format!("{}: {what}", function.name))
        .collect();
    let far = |entry: &Entry| matches!((index(entry.insn), index(entry.fixup)), (Some(a), Some(b)) if b > a + NEAR);
    let known = || routines(program.architecture).iter().filter_map(|name| program.routine(name));
    if entries.iter().any(far) && known().all(|routine| routine.address != function.address) {
        complaints.push(format!("{}: an out-of-line routine that this check does not know", function.name));
    }
    complaints
}

fn misfit(entry: &Entry, insn: Option<&Instruction>, fixup: Option<&Instruction>) -> Option<String> {
    let Some(insn) = insn else { return Some(format!("the entry for {:#x} is not at an instruction", entry.insn)) };
    let here = format!("{:#x} {}", insn.address, insn.text);
    match insn.memory {
        Memory::Foreign(kind) if kind == entry.kind() => {}
        memory => return Some(format!("{here}: the entry says {:?}, the instruction {memory:?}", entry.kind())),
    }
    if fixup.is_none() {
        return Some(format!("{here}: the fixup {:#x} is not an instruction of this function", entry.fixup));
    }
    let (error, address) = entry.registers();
    if error == address {
        return Some(format!("{here}: one register for the code and for the address"));
    }
    None
}

/// Each instruction of `function` that accesses foreign memory has an entry; in a routine, with the progress that the
/// instruction's address implies.
fn each_access_has_an_entry(program: &Program, function: &Function, routine: bool) -> Vec<String> {
    let Ok(code) = decode(program.architecture, function) else { return Vec::new() }; // said elsewhere
    let entries: BTreeMap<u64, Entry> = program.entries_in(function).into_iter().map(|e| (e.insn, e)).collect();
    let mut complaints = Vec::new();
    for insn in &code {
        let Memory::Foreign(kind) = insn.memory else { continue };
        let here = format!("{}: {:#x} {}", function.name, insn.address, insn.text);
        match entries.get(&insn.address) {
            None => complaints.push(format!("{here}: no entry")),
            Some(entry) if routine && !progress_fits(kind, insn.position, entry.progress()) => {
                complaints.push(format!("{here}: the entry says {:?}", entry.progress()));
            }
            Some(_) => {}
        }
    }
    complaints
}

/// All bytes before a failing store are stored; a load implies nothing.
fn progress_fits(kind: Kind, position: Option<Position>, progress: Progress) -> bool {
    // In the middle of a long operation, far from the bytes at its start.
    let (base, len) = (1 << 19, 1 << 20);
    match (kind, position) {
        (Kind::Store, Some(Position::Head(n))) => progress.done(base, len) == base + n,
        (Kind::Store, Some(Position::Tail(n))) => progress.done(base, len) == len - n,
        // A string operation's registers contain the progress.
        (Kind::Load | Kind::Either, _) => progress.done(base, len) == base,
        (Kind::Store, None) => true,
    }
}

/// Unreferenced functions: a table that is kept keeps the code to which it points. `None` if that cannot be determined.
fn dead(program: &Program) -> Option<BTreeSet<u64>> {
    if program.architecture != Architecture::X86_64 {
        return None;
    }
    let mut alive = program.referred.clone();
    for function in &program.functions {
        let code = decode(program.architecture, function).unwrap_or_default();
        alive.extend(code.iter().filter_map(|insn| insn.refers).filter(|address| !function.contains(*address)));
    }
    Some(program.functions.iter().map(|f| f.address).filter(|address| !alive.contains(address)).collect())
}

/// This executable, and the address of each of [`operations`] in it.
fn this() -> (Program, Vec<(String, u64)>) {
    let path = std::env::current_exe().expect("this executable's path");
    operations::link_the_rest();
    let program = Program::read(&path);
    let bias = (faultin::table::own_table().as_ptr() as u64).wrapping_sub(program.table);
    let operations = operations::all()
        .into_iter()
        .map(|(name, address)| (name.to_owned(), (address as u64).wrapping_sub(bias)))
        .collect();
    (program, operations)
}

fn assert_clean(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn every_access_to_foreign_memory_has_an_entry_and_nothing_else_has() {
    let (program, operations) = this();
    assert_eq!(program.entries.len(), faultin::table::own_table().len());
    for (entry, site) in program.entries.iter().zip(faultin::table::own_table().sites()) {
        assert_eq!((site.kind(), site.error_register() as u32), (entry.kind(), entry.registers().0));
    }
    assert_clean(&complaints(&program, &operations));
    let in_routines: BTreeSet<u64> =
        routines(program.architecture).iter().filter_map(|name| Some(program.routine(name)?.address)).collect();
    let in_operations: BTreeSet<u64> =
        operations.iter().filter_map(|(_, address)| Some(program.function_at(*address)?.address)).collect();
    let of = |functions: &BTreeSet<u64>| -> usize {
        functions.iter().filter_map(|a| program.function_at(*a)).map(|f| program.entries_in(f).len()).sum()
    };
    let dead = dead(&program).map_or("an unknown number".to_owned(), |functions| of(&functions).to_string());
    eprintln!(
        "{} entries: {} in {} routines, {} in {} functions for one operation each, {} elsewhere; {dead} in dead code",
        program.entries.len(),
        of(&in_routines),
        in_routines.len(),
        of(&in_operations),
        in_operations.len(),
        program.entries.len() - of(&in_routines) - of(&in_operations),
    );
}

#[test]
fn a_table_that_lacks_an_entry_is_noticed() {
    let (program, operations) = this();
    let victims = routines(program.architecture)
        .iter()
        .filter_map(|name| program.routine(name))
        .chain(operations.iter().take(40).filter_map(|(_, address)| program.function_at(*address)));
    let mut removed = 0;
    for victim in victims {
        for entry in program.entries_in(victim) {
            let mut without = program.clone();
            without.entries.retain(|e| *e != entry);
            let complaints = each_access_has_an_entry(&without, victim, false);
            assert_eq!(complaints.len(), 1, "{} without {:#x}: {complaints:?}", victim.name, entry.insn);
            removed += 1;
        }
    }
    assert!(removed > 40, "only {removed} entries were removed");
    // And by the whole check.
    let mut without = program;
    let routine = without.routine(routines(without.architecture)[0]).expect("a routine").clone();
    let gone = without.entries_in(&routine)[0];
    without.entries.retain(|e| *e != gone);
    assert_eq!(complaints(&without, &operations).len(), 1);
}

#[test]
fn an_entry_that_does_not_fit_is_noticed() {
    let (program, _) = this();
    let routine = program.routine(routines(program.architecture)[0]).expect("a routine").clone();
    let code = decode(program.architecture, &routine).expect("instructions");
    let good = program.entries_in(&routine)[0];
    let idle = code.iter().find(|insn| insn.memory == Memory::None).expect("an instruction without memory").address;
    let outside = routine.address + routine.code.len() as u64;
    for (name, entry) in [
        ("an instruction that touches no memory", Entry { insn: idle, ..good }),
        ("the midst of an instruction", Entry { insn: good.insn + 1, ..good }),
        ("a place in no function", Entry { insn: 0, ..good }),
        ("the same instruction twice", good),
        ("the other kind", Entry { info: good.info ^ 3, ..good }),
        ("a fixup in the midst of an instruction", Entry { fixup: good.insn + 1, ..good }),
        ("a fixup in another function", Entry { fixup: outside, ..good }),
        ("one register for both", Entry { info: good.info & !(31 << 2) & !(31 << 7), ..good }),
    ] {
        let mut with = program.clone();
        if name.starts_with("the other") || name.starts_with("a fixup") || name.starts_with("one register") {
            with.entries.retain(|e| *e != good);
        }
        with.entries.push(entry);
        let complaints = complaints(&with, &[]);
        assert_eq!(complaints.len(), 1, "{name}: {complaints:?}");
    }
}
