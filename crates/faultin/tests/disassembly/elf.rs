//! The parts of an ELF file that the check needs: the exception table and the functions.

use std::collections::BTreeSet;
use std::path::Path;

use faultin::table::{Kind, Progress};
use object::{Architecture, Object, ObjectSection, ObjectSymbol, SymbolKind};

/// A table entry, resolved to addresses of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub insn: u64,
    pub fixup: u64,
    pub info: u32,
}

impl Entry {
    pub fn kind(&self) -> Kind {
        match self.info & 3 {
            1 => Kind::Load,
            2 => Kind::Store,
            _ => Kind::Either,
        }
    }

    pub fn registers(&self) -> (u32, u32) {
        ((self.info >> 2) & 31, (self.info >> 7) & 31)
    }

    pub fn progress(&self) -> Progress {
        Progress::from_bits(self.info >> 12)
    }
}

/// A function and its code.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub address: u64,
    pub code: Vec<u8>,
}

impl Function {
    pub fn contains(&self, address: u64) -> bool {
        (self.address..self.address + self.code.len() as u64).contains(&address)
    }
}

/// An executable or a shared library.
#[derive(Clone)]
pub struct Program {
    pub architecture: Architecture,
    /// In link order.
    pub entries: Vec<Entry>,
    /// By address.
    pub functions: Vec<Function>,
    /// Address of the table's first byte.
    pub table: u64,
    /// Addresses that the file's data refers to.
    pub referred: BTreeSet<u64>,
}

impl Program {
    pub fn read(path: &Path) -> Program {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = object::File::parse(&*bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let section = file.section_by_name("faultin_ex").expect("a section faultin_ex");
        let data = section.data().expect("the section's bytes");
        let word = |at: usize| i32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"));
        let entries = (0..data.len() / 12)
            .map(|i| {
                let at = |field: usize| {
                    let position = 12 * i + 4 * field;
                    (section.address() + position as u64).wrapping_add_signed(i64::from(word(position)))
                };
                Entry { insn: at(0), fixup: at(1), info: word(12 * i + 8) as u32 }
            })
            .collect();
        let mut functions: Vec<Function> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
            .filter_map(|symbol| {
                let section = file.section_by_index(symbol.section_index()?).ok()?;
                let code = section.data_range(symbol.address(), symbol.size()).ok()??.to_vec();
                Some(Function { name: symbol.name().ok()?.to_owned(), address: symbol.address(), code })
            })
            .collect();
        functions.sort_by_key(|function| function.address);
        // Identical functions may share their code.
        functions.dedup_by_key(|function| function.address);
        let relocations = file.dynamic_relocations().into_iter().flatten();
        let referred = relocations.map(|(_, relocation)| relocation.addend() as u64).chain([file.entry()]).collect();
        Program { architecture: file.architecture(), entries, functions, table: section.address(), referred }
    }

    /// The function at this address.
    pub fn function_at(&self, address: u64) -> Option<&Function> {
        let after = self.functions.partition_point(|function| function.address <= address);
        self.functions[..after].last().filter(|function| function.contains(address))
    }

    /// The function whose path ends with `name`, in every mangling.
    pub fn routine(&self, name: &str) -> Option<&Function> {
        let needle = format!("{}{name}", name.len());
        self.functions.iter().find(|function| {
            let Some((before, after)) = function.name.split_once(&needle) else { return false };
            before.contains("faultin") && before.contains("arch") && (after.is_empty() || after.starts_with("17h"))
        })
    }

    pub fn entries_in(&self, function: &Function) -> Vec<Entry> {
        self.entries.iter().copied().filter(|entry| function.contains(entry.insn)).collect()
    }
}
