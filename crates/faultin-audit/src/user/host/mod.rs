//! User memory of this process in the state of a [`Scenario`]: a few pages of a memfd, mapped inside their own reservation.
//!
//! The memfd keeps the bytes whatever happens to the mapping, so they can be written before a page of it is present and
//! read after it is unmapped. Memory with tags is anonymous instead, because some machines have none for files.

mod access;
mod adversary;
pub(crate) mod mapping;
pub(crate) mod paging;
pub(crate) mod tags;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use faultin::fpstate::{self, Image};
use faultin::{Fault, Granularity, page_size};

use super::contract::User;
use super::object::{Object, Scale};
use crate::axes::Memory;
use crate::scenario::{Bad, Scenario};
use mapping::{Protection, Reservation};
use paging::Paging;
use tags::Tags;

pub use access::{HostRead, HostWrite};

/// The bytes around an object in its pages, which must not change.
const SURROUNDINGS: u8 = 0xa5;

/// A caller runs concurrently with the adversary until that has unmapped and mapped again this number of pages.
const CYCLES: u64 = 64;
/// Minimum number of runs.
const RUNS: u32 = 64;
/// Maximum number of runs.
const MOST_RUNS: u32 = 5000;

/// An object in memory of this process.
#[derive(Debug)]
pub struct HostUser {
    file: File,
    range: Reservation,
    /// Without it the kernel alone resolves the faults.
    paging: Option<Paging>,
    /// Bad granules; the bytes are not the file's then.
    tags: Option<Tags>,
    /// Offset of the object from the first page's first byte.
    start: usize,
    len: usize,
}

impl User for HostUser {
    type Source<'a> = HostRead<'a>;
    type Dest<'a> = HostWrite<'a>;
    type Registers = Image;

    fn new(object: &Object, scenario: Scenario, _: Scale) -> io::Result<HostUser> {
        if scenario.is_of_mappings() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "memory of this kind is mapped from the caller's own file",
            ));
        }
        let (page, len) = (page_size(), object.len());
        let (start, pages) = (object.start(page), object.pages(page));
        let mut bytes = vec![SURROUNDINGS; pages * page];
        bytes[start..start + len].copy_from_slice(&object.bytes);
        let file = mapping::memfd("user memory")?;
        file.write_all_at(&bytes, 0)?;
        let range = Reservation::new(pages)?;
        let mut user = HostUser { file, range, paging: None, tags: None, start, len };
        match scenario.column().bad {
            Bad::Tail => user.spoil(&bytes, start + object.before_tail..start + len)?,
            Bad::RestartGranule => user.spoil(&bytes, start + object.restart..start + object.restart + 1)?,
            _ => user.arrange(scenario)?,
        }
        Ok(user)
    }

    fn beside_adversary(
        object: &Object,
        scenario: Scenario,
        scale: Scale,
        mut each: impl FnMut(&HostUser) -> io::Result<bool>,
    ) -> io::Result<()> {
        let user = HostUser::new(object, scenario, scale)?;
        user.while_remapped(|cycles| {
            let mut runs = 0;
            while (cycles.load(Ordering::Relaxed) < CYCLES || runs < RUNS) && runs < MOST_RUNS {
                user.file.write_all_at(&object.bytes, user.start as u64)?;
                runs += 1;
                if !each(&user)? {
                    break;
                }
            }
            Ok(())
        })?
    }

    fn source(&self) -> io::Result<HostRead<'_>> {
        let view = self.range.read()?.subslice(self.start..self.start + self.len);
        Ok(HostRead { view: view.expect("the object lies in its pages"), paging: self.paging.as_ref() })
    }

    fn dest(&self) -> io::Result<HostWrite<'_>> {
        let view = self.range.write()?.subslice(self.start..self.start + self.len);
        Ok(HostWrite { view: view.expect("the object lies in its pages"), paging: self.paging.as_ref() })
    }

    fn address(&self) -> usize {
        self.range.page(0).addr() + self.start
    }

    fn scale(&self) -> Scale {
        Scale::Full
    }

    fn page_size(&self) -> usize {
        page_size()
    }

    fn evict(&self) {
        if let Some(paging) = &self.paging {
            (0..self.range.pages()).for_each(|index| paging.evict(&self.range, index));
        }
    }

    fn waits(&self) -> u64 {
        self.paging.as_ref().map_or(0, Paging::served)
    }

    fn contents(&self) -> io::Result<Vec<u8>> {
        Ok(self.pages()?[self.start..self.start + self.len].to_vec())
    }

    fn surroundings_intact(&self) -> io::Result<bool> {
        let all = self.pages()?;
        let (before, rest) = all.split_at(self.start);
        Ok(before.iter().chain(&rest[self.len..]).all(|&byte| byte == SURROUNDINGS))
    }

    fn witness(&self) -> io::Result<HostUser> {
        let object = Object::new(self.contents()?, page_size() - self.start);
        HostUser::new(&object, Scenario::AllResident, Scale::Full)
    }

    fn save_registers(&self, to: &HostWrite<'_>, registers: &Image) -> Result<(), Fault> {
        fpstate::save(&to.view, registers).map_err(|fault| to.nofault_anywhere(fault))
    }

    fn restore_registers(&self, from: &HostRead<'_>) -> Result<Image, Fault> {
        fpstate::restore(&from.view).map_err(|fault| from.nofault_anywhere(fault))
    }
}

impl HostUser {
    fn arrange(&mut self, scenario: Scenario) -> io::Result<()> {
        let column = scenario.column();
        if !column.during.is_race() && paging::probe().is_ok() {
            self.paging = Some(Paging::new(&self.range)?);
        }
        let needs_paging = scenario.needs(Memory::Host).is_some();
        let last = (self.start + self.len - 1) / page_size();
        for index in 0..self.range.pages() {
            let protection = match column.bad {
                Bad::Page(bad) if bad == index => continue,
                Bad::ForStores => Protection::Read,
                _ => Protection::ReadWrite,
            };
            self.range.map(index, &self.file, protection)?;
            match &self.paging {
                Some(paging) => {
                    paging.serve(index)?;
                    match column.bad {
                        _ if column.missing => {}
                        Bad::LastPagePoisoned if index == last => paging.poison(index)?,
                        _ => paging.continue_page(index)?,
                    }
                }
                None if needs_paging => {
                    return Err(io::Error::new(io::ErrorKind::Unsupported, "faults that this process serves"));
                }
                None if column.missing => {}
                None => self.range.read()?.probe(index * page_size()..(index + 1) * page_size(), Granularity::Page)?,
            }
        }
        Ok(())
    }

    /// Makes memory with these bytes, of which the granules are bad that `bad` touches.
    fn spoil(&mut self, bytes: &[u8], bad: Range<usize>) -> io::Result<()> {
        (0..self.range.pages()).try_for_each(|index| self.range.map_anonymous(index, Protection::Tagged))?;
        self.range.write()?.write(bytes, 0)?;
        self.tags = Some(Tags::new(&self.range, bad)?);
        Ok(())
    }

    /// Returns all bytes, whatever the state of the mapping.
    fn pages(&self) -> io::Result<Vec<u8>> {
        let mut all = vec![0; self.range.pages() * page_size()];
        match &self.tags {
            None => self.file.read_exact_at(&mut all, 0)?,
            Some(tags) => tags.healed(&self.range, || self.range.read()?.read(&mut all, 0).map_err(io::Error::from))?,
        }
        Ok(all)
    }

    /// Runs `work` while another thread unmaps and remaps page after page, and counts how often it has; all pages are
    /// mapped again when this returns.
    fn while_remapped<R>(&self, work: impl FnOnce(&AtomicU64) -> R) -> io::Result<R> {
        adversary::run(&self.range, &self.file, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faultin::Cause;
    use faultin::memory::{ReadMemory, ReadNoWait, WriteMemory};

    fn object() -> Object {
        Object::new((0..200).collect(), 100).with_tail(132)
    }

    fn new(scenario: Scenario) -> io::Result<HostUser> {
        HostUser::new(&object(), scenario, Scale::Full)
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
            (Scenario::InaccessibleTail, 132, 132),
            (Scenario::RestartGranuleBad, 0, 0),
        ] {
            let memory = match new(scenario) {
                Err(_) if scenario.needs(Memory::Host).is_some_and(|feature| !feature.present()) => continue,
                made => made.unwrap(),
            };
            let mut bytes = [0; 200];
            let read = memory.source().unwrap().read(&mut bytes, 0).map_or_else(|short| short.done, |()| 200);
            assert_eq!((scenario, read), (scenario, readable));
            assert_eq!(bytes[..read], object().bytes[..read]);
            let written = memory.dest().unwrap().write(&bytes, 0).map_or_else(|short| short.done, |()| 200);
            assert_eq!((scenario, written), (scenario, writeable));
            assert!(memory.surroundings_intact().unwrap());
        }
    }

    #[test]
    fn contents_and_witness_survive_the_mapping() {
        let memory = new(Scenario::FirstPageBad).unwrap();
        assert_eq!(memory.contents().unwrap(), object().bytes);
        let witness = memory.witness().unwrap();
        let mut bytes = [0; 200];
        witness.source().unwrap().read(&mut bytes, 0).unwrap();
        assert_eq!(bytes[..], object().bytes);
    }

    #[test]
    fn the_adversary_takes_pages_away_and_gives_them_back() {
        let memory = new(Scenario::Remapping).unwrap();
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
        view.read(&mut [0; 200], 0).unwrap();
    }

    #[test]
    fn who_may_not_wait_sees_a_missing_page_and_who_may_brings_it_in() {
        if paging::probe().is_err() {
            return faultin_test::skipped("uffd", "userfaultfd with SIGBUS and minor faults");
        }
        let memory = new(Scenario::Cold).unwrap();
        let (source, mut bytes) = (memory.source().unwrap(), [0; 200]);
        let nowait = |bytes: &mut [u8]| source.read_nowait(bytes, 0).map_err(|short| (short.done, short.fault.cause()));
        assert_eq!(nowait(&mut bytes), Err((0, Cause::NotResident)));
        assert_eq!(source.load::<u8>(0), Ok(0));
        assert_eq!(nowait(&mut bytes), Err((100, Cause::NotResident)));
        source.read(&mut bytes, 0).unwrap();
        assert_eq!(bytes[..], object().bytes);
        memory.evict();
        assert_eq!(nowait(&mut bytes), Err((0, Cause::NotResident)));
        assert_eq!(source.fault_in(0, std::num::NonZeroUsize::new(200).unwrap()).map(usize::from), Ok(200));
        assert_eq!(nowait(&mut bytes), Ok(()));
        memory.evict();
        memory.dest().unwrap().write(&[7; 200], 0).unwrap();
        assert_eq!(memory.contents().unwrap(), [7; 200]);
    }
}
