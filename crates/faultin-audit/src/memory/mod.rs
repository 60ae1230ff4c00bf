//! User memory in the state a [`Scenario`] asks for: a few pages of a memfd, mapped inside a reservation of their own.
//!
//! The memfd keeps the bytes whatever happens to the mapping, so they can be written before a page of it is present and
//! looked at after it is gone.

mod adversary;
mod mapping;
mod object;
pub(crate) mod poison;

pub use object::BufferObject;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;

use faultin::{Granularity, ReadView, WriteView, page_size};

use crate::scenario::Scenario;
use mapping::{Protection, Reservation};

/// What surrounds an object in its pages: must still be there afterwards.
const SURROUNDINGS: u8 = 0xa5;

/// What a caller keeps in user memory.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// How many of them lie on the first page.
    pub on_first_page: usize,
}

/// An object in user memory.
#[derive(Debug)]
pub struct UserMemory {
    file: File,
    range: Reservation,
    /// Where the object lies, from the first page's first byte.
    start: usize,
    len: usize,
}

impl UserMemory {
    /// Puts `object` into memory of which the matter is `scenario`.
    ///
    /// # Errors
    /// What the kernel says to a mapping; for [`Scenario::Poisoned`] where it has no such thing.
    ///
    /// # Panics
    /// If more bytes shall lie on the first page than fit, or none.
    pub fn new(object: &Object, scenario: Scenario) -> io::Result<UserMemory> {
        let (page, len) = (page_size(), object.bytes.len());
        assert!((1..=page).contains(&object.on_first_page), "an object begins on the first page");
        let start = page - object.on_first_page;
        let pages = (start + len).div_ceil(page).max(2);
        let file = mapping::memfd("user memory")?;
        file.write_all_at(&vec![SURROUNDINGS; pages * page], 0)?;
        file.write_all_at(&object.bytes, start as u64)?;
        let memory = UserMemory { file, range: Reservation::new(pages)?, start, len };
        memory.arrange(scenario)?;
        Ok(memory)
    }

    /// Puts the object's bytes back, whatever has become of the mapping.
    ///
    /// # Errors
    /// If the memfd cannot be written.
    pub fn refill(&self, object: &Object) -> io::Result<()> {
        self.file.write_all_at(&object.bytes, self.start as u64)
    }

    fn arrange(&self, scenario: Scenario) -> io::Result<()> {
        let last = (self.start + self.len - 1) / page_size();
        for index in 0..self.range.pages() {
            let protection = match (scenario, index) {
                (Scenario::FirstPageBad, 0) | (Scenario::SecondPageBad, 1) => continue,
                (Scenario::ReadOnly, _) => Protection::Read,
                _ => Protection::ReadWrite,
            };
            self.range.map(index, &self.file, protection)?;
            let at = index * page_size();
            match scenario {
                Scenario::Cold => {}
                Scenario::Poisoned if index == last => poison::poison(&self.range, index)?,
                Scenario::ReadOnly => self.range.read()?.probe(at, page_size(), Granularity::Page)?,
                _ => self.range.write()?.probe(at, page_size(), Granularity::Page)?,
            }
        }
        Ok(())
    }

    /// The object, to read from.
    ///
    /// # Errors
    /// If the handler cannot be installed.
    pub fn source(&self) -> io::Result<ReadView<'_>> {
        Ok(self.range.read()?.subslice(self.start..self.start + self.len).expect("the object lies in its pages"))
    }

    /// The object, to write to.
    ///
    /// # Errors
    /// If the handler cannot be installed.
    pub fn dest(&self) -> io::Result<WriteView<'_>> {
        Ok(self.range.write()?.subslice(self.start..self.start + self.len).expect("the object lies in its pages"))
    }

    /// The object's bytes, whatever has become of the mapping.
    ///
    /// # Errors
    /// If the memfd cannot be read.
    pub fn contents(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len];
        self.file.read_exact_at(&mut bytes, self.start as u64)?;
        Ok(bytes)
    }

    /// Whether every byte around the object is as it was.
    ///
    /// # Errors
    /// If the memfd cannot be read.
    pub fn surroundings_intact(&self) -> io::Result<bool> {
        let mut all = vec![0; self.range.pages() * page_size()];
        self.file.read_exact_at(&mut all, 0)?;
        let (before, rest) = all.split_at(self.start);
        Ok(before.iter().chain(&rest[self.len..]).all(|&byte| byte == SURROUNDINGS))
    }

    /// The same object in a second place where nothing is the matter with it.
    ///
    /// # Errors
    /// What the kernel says to a mapping.
    pub fn witness(&self) -> io::Result<UserMemory> {
        let range = Reservation::new(self.range.pages())?;
        for index in 0..range.pages() {
            range.map(index, &self.file, Protection::ReadWrite)?;
        }
        Ok(UserMemory { file: self.file.try_clone()?, range, start: self.start, len: self.len })
    }

    /// Runs `work` while another thread unmaps and remaps page after page, and counts how often it has; all pages are
    /// back when this returns.
    ///
    /// # Errors
    /// What the kernel says to a mapping.
    pub fn while_remapped<R>(&self, work: impl FnOnce(&AtomicU64) -> R) -> io::Result<R> {
        adversary::run(&self.range, &self.file, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faultin::Cause;

    fn object() -> Object {
        Object { bytes: (0..200).collect(), on_first_page: 100 }
    }

    #[test]
    fn the_bad_byte_lies_where_the_scenario_says() {
        for (scenario, readable, writeable) in [
            (Scenario::AllResident, 200, 200),
            (Scenario::Cold, 200, 200),
            (Scenario::FirstPageBad, 0, 0),
            (Scenario::SecondPageBad, 100, 100),
            (Scenario::ReadOnly, 200, 0),
            (Scenario::Poisoned, 100, 100),
        ] {
            let memory = match UserMemory::new(&object(), scenario) {
                Err(_) if scenario == Scenario::Poisoned && poison::probe().is_err() => continue,
                made => made.unwrap(),
            };
            let mut bytes = [0; 200];
            let read = memory.source().unwrap().read(0, &mut bytes).map_or_else(|short| short.done, |()| 200);
            assert_eq!((scenario, read), (scenario, readable));
            assert_eq!(bytes[..read], object().bytes[..read]);
            let written = memory.dest().unwrap().write(0, &bytes).map_or_else(|short| short.done, |()| 200);
            assert_eq!((scenario, written), (scenario, writeable));
            assert!(memory.surroundings_intact().unwrap());
        }
    }

    #[test]
    fn contents_and_witness_survive_the_mapping() {
        let memory = UserMemory::new(&object(), Scenario::FirstPageBad).unwrap();
        assert_eq!(memory.contents().unwrap(), object().bytes);
        let witness = memory.witness().unwrap();
        let mut bytes = [0; 200];
        witness.source().unwrap().read(0, &mut bytes).unwrap();
        assert_eq!(bytes[..], object().bytes);
    }

    #[test]
    fn the_adversary_takes_pages_away_and_gives_them_back() {
        let memory = UserMemory::new(&object(), Scenario::Remapping).unwrap();
        let view = memory.source().unwrap();
        let failed = memory.while_remapped(|cycles| {
            let mut faults = [0_u32; 2];
            while faults.contains(&0) || cycles.load(std::sync::atomic::Ordering::Relaxed) < 10 {
                for (at, count) in [0, 199].into_iter().zip(&mut faults) {
                    match view.load::<u8>(at) {
                        Ok(byte) => assert_eq!(usize::from(byte), at),
                        Err(fault) => {
                            assert!(matches!(fault.cause(), Cause::Protection | Cause::Unmapped), "{fault}");
                            *count += 1;
                        }
                    }
                }
            }
        });
        failed.unwrap();
        view.read(0, &mut [0; 200]).unwrap();
    }
}
