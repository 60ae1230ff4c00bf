//! The parts of an ELF parser that are needed to check the linker's output for this crate's sections.

use std::path::Path;

/// The sections of a 64-bit little-endian ELF file.
pub(crate) struct Elf {
    bytes: Vec<u8>,
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Section {
    name: String,
    flags: u64,
    address: u64,
    offset: usize,
    size: usize,
}

const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;
const PT_NOTE: u64 = 4;

impl Elf {
    pub(crate) fn read(path: &Path) -> Elf {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(&bytes[..6], b"\x7fELF\x02\x01", "{}", path.display());
        let (table, count, names) = (word(&bytes, 40, 8), word(&bytes, 60, 2), word(&bytes, 62, 2));
        let header = |i: u64, at: usize, len: usize| word(&bytes, (table + 64 * i) as usize + at, len);
        let names = header(names, 24, 8) as usize;
        let sections = (0..count)
            .map(|i| {
                let name = &bytes[names + header(i, 0, 4) as usize..];
                let name = &name[..name.iter().position(|b| *b == 0).unwrap()];
                Section {
                    name: String::from_utf8_lossy(name).into_owned(),
                    flags: header(i, 8, 8),
                    address: header(i, 16, 8),
                    offset: header(i, 24, 8) as usize,
                    size: header(i, 32, 8) as usize,
                }
            })
            .collect();
        Elf { bytes, sections }
    }

    /// The section of this name; there is at most one.
    fn section(&self, name: &str) -> Option<&Section> {
        let mut found = self.sections.iter().filter(|s| s.name == name);
        let first = found.next();
        assert!(found.next().is_none(), "two sections {name}");
        first
    }

    fn content(&self, section: &Section) -> &[u8] {
        &self.bytes[section.offset..section.offset + section.size]
    }

    /// Whether LLD has linked it, according to its comment section.
    pub(crate) fn is_linked_by_lld(&self) -> bool {
        let comment = self.section(".comment").map_or(&[][..], |s| self.content(s));
        comment.windows(10).any(|w| w == b"Linker: LL")
    }

    /// Checks note, object record and table, and returns the number of table entries.
    ///
    /// * The note exists once, and is in a segment that the loader sees.
    /// * Its descriptor points to one object record, in writable data.
    /// * The record's bounds are those of the table's section.
    /// * Every entry's instruction and fixup are in code.
    pub(crate) fn check_table(&self) -> usize {
        let note = self.section(".note.faultin").expect("the note was kept");
        assert_ne!(note.flags & SHF_ALLOC, 0, "the note is loaded");
        assert_eq!(note.size, 24, "one note: 12 bytes of header, 8 of name, 4 of descriptor");
        assert!(self.has_note_segment_over(note.address, note.size as u64), "a PT_NOTE segment covers the note");
        let desc = note.address + 20;
        let record = desc.wrapping_add_signed(self.signed(desc));
        let [start, stop] = [32, 36].map(|at| (record + at).wrapping_add_signed(self.signed(record + at)));
        let Some(table) = self.section("faultin_ex") else {
            // Whatever the linker does with undefined weak symbols, the difference must be less than an entry.
            assert!(stop.wrapping_sub(start) < 12, "no section, no entries: {start:#x} to {stop:#x}");
            return 0;
        };
        assert_eq!((start, stop), (table.address, table.address + table.size as u64));
        assert_eq!(table.size % 12, 0);
        for entry in (start..stop).step_by(12) {
            for at in [entry, entry + 4] {
                let target = at.wrapping_add_signed(self.signed(at));
                let home = self.sections.iter().find(|s| s.contains(target));
                assert!(
                    home.is_some_and(|s| s.flags & SHF_EXECINSTR != 0),
                    "the entry at {entry:#x} leads to {target:#x} in {home:?}"
                );
            }
        }
        table.size / 12
    }

    fn has_note_segment_over(&self, address: u64, size: u64) -> bool {
        let (table, count) = (word(&self.bytes, 32, 8), word(&self.bytes, 56, 2));
        (0..count).any(|i| {
            let field = |at, len| word(&self.bytes, (table + 56 * i) as usize + at, len);
            field(0, 4) == PT_NOTE && field(16, 8) <= address && address + size <= field(16, 8) + field(40, 8)
        })
    }

    /// The signed 32-bit number at an address of the loaded file.
    fn signed(&self, address: u64) -> i64 {
        let home = self.sections.iter().find(|s| s.flags & SHF_ALLOC != 0 && s.contains(address));
        let home = home.unwrap_or_else(|| panic!("nothing at {address:#x}"));
        i64::from(word(&self.bytes, home.offset + (address - home.address) as usize, 4) as u32 as i32)
    }
}

impl Section {
    fn contains(&self, address: u64) -> bool {
        self.flags & SHF_ALLOC != 0 && (self.address..self.address + self.size as u64).contains(&address)
    }
}

fn word(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}
