//! The callers of the kernel's fault-in helpers, in the order of the mail, and the four that the series added: one file
//! for each.
//!
//! Each runs in two [variants](Variant) that differ in their steps. For both, one line names the caller and kernel version
//! and the helper.

#![deny(unsafe_code)]

mod armada_gem_pwrite_ioctl;
mod btrfs_buffered_write;
mod copy_fpstate_to_sigframe;
mod copy_page_from_iter_iovec;
mod copy_page_to_iter_iovec;
mod debug_setcontext;
mod f2fs_file_write_iter;
mod fuse_fill_write_pages;
mod generic_perform_write;
mod gfs2;
mod gfs2_buffered_read;
mod gfs2_buffered_write;
mod gfs2_direct_read;
mod gfs2_direct_write;
mod iomap_write_actor;
mod kernel_loops;
mod kvm_use_magic_page;
mod ntfs_perform_write;
mod restore_fpregs_from_user;
mod search_ioctl;
mod search_tree;
mod swapcontext_ppc32;
mod swapcontext_ppc64;
mod ucontext;
mod written;

use std::fmt;
use std::io;

use crate::environment::Feature;
use crate::expect::Expectation;
use crate::log::{Log, Stuck};
use crate::scenario::Scenario;
use crate::user::{HostUser, Memory, Object, Registers, Scale, SimUser, User};

use gfs2::Operation;
use gfs2::served::{Pages, Served};

pub use armada_gem_pwrite_ioctl::ArmadaGemPwriteIoctl;
pub use btrfs_buffered_write::BtrfsBufferedWrite;
pub use copy_fpstate_to_sigframe::CopyFpstateToSigframe;
pub use copy_page_from_iter_iovec::CopyPageFromIterIovec;
pub use copy_page_to_iter_iovec::CopyPageToIterIovec;
pub use debug_setcontext::DebugSetcontext;
pub use f2fs_file_write_iter::F2fsFileWriteIter;
pub use fuse_fill_write_pages::FuseFillWritePages;
pub use generic_perform_write::GenericPerformWrite;
pub use gfs2_buffered_read::Gfs2BufferedRead;
pub use gfs2_buffered_write::Gfs2BufferedWrite;
pub use gfs2_direct_read::Gfs2DirectRead;
pub use gfs2_direct_write::Gfs2DirectWrite;
pub use iomap_write_actor::IomapWriteActor;
pub use kvm_use_magic_page::KvmUseMagicPage;
pub use ntfs_perform_write::NtfsPerformWrite;
pub use restore_fpregs_from_user::RestoreFpregsFromUser;
pub use search_ioctl::SearchIoctl;
pub use swapcontext_ppc32::SwapcontextPpc32;
pub use swapcontext_ppc64::SwapcontextPpc64;

/// One row of the audit.
#[derive(Clone, Copy)]
pub struct Caller {
    /// Its number in the mail, or after it.
    pub row: u8,
    /// The kernel's name.
    pub name: &'static str,
    /// Its place: an architecture or a part of the kernel.
    pub place: &'static str,
    /// The caller's need of a fault-in.
    pub need: Need,
    /// The mail's finding, in our words.
    pub finding: &'static str,
    /// The code of the caller, if it is written yet.
    pub job: Option<&'static dyn Job>,
}

/// What a caller needs from a fault-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// That some progress is possible.
    Any,
    /// That every byte is accessible.
    All,
    /// Either, or neither.
    Either,
    /// Not a fault-in: a read that fails instead of faulting.
    NofaultRead,
}

impl Need {
    /// Returns the need in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Need::Any => "ANY",
            Need::All => "ALL",
            Need::Either => "either",
            Need::NofaultRead => "no-fault read",
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The variant of a caller's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// As it was found.
    AsFound,
    /// As it should be.
    Fixed,
}

impl Variant {
    /// Both kinds.
    pub const ALL: [Variant; 2] = [Variant::AsFound, Variant::Fixed];

    /// Returns the name as an argument.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::AsFound => "as-found",
            Variant::Fixed => "fixed",
        }
    }
}

/// The end of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The status that it reports.
    pub status: &'static str,
    /// The number of bytes that it moved.
    pub moved: usize,
    /// Whether its product is right; if not, what is wrong.
    pub product: Result<(), String>,
}

/// The reason why a caller did not end.
#[derive(Debug)]
pub enum Halt {
    /// It would not have ended.
    Stuck(Stuck),
    /// The machine failed.
    Machine(io::Error),
}

impl From<Stuck> for Halt {
    fn from(stuck: Stuck) -> Halt {
        Halt::Stuck(stuck)
    }
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Halt {
        Halt::Machine(error)
    }
}

/// The code of a caller, written once for every kind of user.
pub trait Code: Sync {
    /// Returns the object in user memory, and its division, on a machine with these registers.
    fn object<R: Registers>(&self, scale: Scale) -> Object;

    /// Does the job on an object in user memory and checks its product.
    ///
    /// # Errors
    /// [`Halt`] if the caller did not end.
    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt>;

    /// Returns "Caller from X, helper from Y".
    fn origin(&self, variant: Variant) -> &'static str;

    /// Returns how each of its cells must end, on either memory.
    fn expectations(&self) -> &'static [Expectation];

    /// Returns the feature that it needs, if it runs on this machine and not on a simulated one.
    fn needs(&self) -> Option<Feature> {
        None
    }

    /// Returns the number of fruitless attempts that one outside event justifies.
    fn attempts_per_event(&self) -> usize {
        1
    }

    /// Returns whether it changes the object; otherwise no byte changes.
    fn changes_the_object(&self) -> bool {
        false
    }

    /// Returns the variant whose buffer is a mapping of a file of the cache, if the caller reads or writes such a file
    /// under a lock that its page faults take.
    fn mapped(&self) -> Option<&'static Mapped> {
        None
    }
}

/// A caller whose buffer is a mapping of a file, and whose faults this process resolves.
#[derive(Debug)]
pub struct Mapped {
    operation: Operation,
    same: Served,
    other: Served,
    expectations: &'static [Expectation],
}

impl Mapped {
    /// Makes it; `ends` are the possible ends with any buffer, `expectations` the required ones with such a buffer.
    const fn new(operation: Operation, ends: &'static [Expectation], expectations: &'static [Expectation]) -> Mapped {
        let same = Served { operation, pages: Pages::Same, expectations: ends };
        Mapped { operation, same, other: Served { pages: Pages::Other, ..same }, expectations }
    }

    /// Returns the code for simulated memory, which behaves like a mapping.
    pub fn simulated(&self, scenario: Scenario) -> &dyn Job {
        if scenario == Scenario::SamePages { &self.same } else { &self.other }
    }

    /// Runs it with mappings of this process, once or often.
    ///
    /// # Errors
    /// The machine's error.
    pub(crate) fn on_host(
        &self,
        variant: Variant,
        scenario: Scenario,
        each: &mut dyn FnMut(Log<'_>, Result<Ended, Halt>) -> bool,
    ) -> io::Result<()> {
        gfs2::pager::run(self.operation, variant, scenario, each)
    }

    /// Returns how each of its cells must end.
    pub fn expectations(&self) -> &'static [Expectation] {
        self.expectations
    }

    /// Returns why this scenario does not exist on this memory.
    pub fn is_not_for(memory: Memory, scenario: Scenario) -> Option<&'static str> {
        match (memory, scenario) {
            (Memory::Sim, Scenario::TwoFiles) => Some("simulated memory belongs to one thread"),
            (Memory::Host, Scenario::BadGranule) => Some("the pager's pages are a memfd's, mapped without memory tags"),
            _ => None,
        }
    }
}

/// [`Code`] as a trait object.
pub trait Job: Sync {
    /// Returns the object as [`Code::object`] does, on the machine of this memory.
    fn object(&self, memory: Memory, scale: Scale) -> Object;

    /// Runs as [`Code::run`] does, in this process.
    ///
    /// # Errors
    /// [`Halt`] if the caller did not end.
    fn on_host(&self, variant: Variant, user: &HostUser, log: &mut Log) -> Result<Ended, Halt>;

    /// Runs as [`Code::run`] does, simulated.
    ///
    /// # Errors
    /// [`Halt`] if the caller did not end.
    fn on_sim(&self, variant: Variant, user: &SimUser, log: &mut Log) -> Result<Ended, Halt>;

    /// Returns "Caller from X, helper from Y".
    fn origin(&self, variant: Variant) -> &'static str;

    /// Returns how each of its cells must end.
    fn expectations(&self) -> &'static [Expectation];

    /// Returns the feature that it needs of the machine with this memory.
    fn needs(&self, memory: Memory) -> Option<Feature>;

    /// Returns [`Code::attempts_per_event`].
    fn attempts_per_event(&self) -> usize;

    /// Returns [`Code::changes_the_object`].
    fn changes_the_object(&self) -> bool;

    /// Returns [`Code::mapped`].
    fn mapped(&self) -> Option<&'static Mapped>;
}

impl<C: Code> Job for C {
    fn object(&self, memory: Memory, scale: Scale) -> Object {
        match memory {
            Memory::Host => Code::object::<<HostUser as User>::Registers>(self, scale),
            Memory::Sim => Code::object::<<SimUser as User>::Registers>(self, scale),
        }
    }

    fn on_host(&self, variant: Variant, user: &HostUser, log: &mut Log) -> Result<Ended, Halt> {
        self.run(variant, user, log)
    }

    fn on_sim(&self, variant: Variant, user: &SimUser, log: &mut Log) -> Result<Ended, Halt> {
        self.run(variant, user, log)
    }

    fn origin(&self, variant: Variant) -> &'static str {
        Code::origin(self, variant)
    }

    fn expectations(&self) -> &'static [Expectation] {
        Code::expectations(self)
    }

    fn needs(&self, memory: Memory) -> Option<Feature> {
        Code::needs(self).filter(|_| memory == Memory::Host)
    }

    fn attempts_per_event(&self) -> usize {
        Code::attempts_per_event(self)
    }

    fn changes_the_object(&self) -> bool {
        Code::changes_the_object(self)
    }

    fn mapped(&self) -> Option<&'static Mapped> {
        Code::mapped(self)
    }
}

/// Returns every row, in order.
pub fn all() -> Vec<Caller> {
    vec![
        kvm_use_magic_page::CALLER,
        swapcontext_ppc32::CALLER,
        debug_setcontext::CALLER,
        swapcontext_ppc64::CALLER,
        restore_fpregs_from_user::CALLER,
        armada_gem_pwrite_ioctl::CALLER,
        copy_page_from_iter_iovec::CALLER,
        generic_perform_write::CALLER,
        f2fs_file_write_iter::CALLER,
        fuse_fill_write_pages::CALLER,
        btrfs_buffered_write::CALLER,
        ntfs_perform_write::CALLER,
        iomap_write_actor::CALLER,
        copy_fpstate_to_sigframe::CALLER,
        search_ioctl::CALLER,
        copy_page_to_iter_iovec::CALLER,
        gfs2_buffered_write::CALLER,
        gfs2_buffered_read::CALLER,
        gfs2_direct_read::CALLER,
        gfs2_direct_write::CALLER,
    ]
}

/// Returns the rows with this name (which two of them share) or this number.
pub fn named(name: &str) -> Vec<Caller> {
    let number = name.trim_start_matches('#').parse::<u8>().ok();
    let spelling = |name: &str| name.to_lowercase().replace([' ', '-'], "_");
    all()
        .into_iter()
        .filter(|caller| Some(caller.row) == number || spelling(caller.name) == spelling(name.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_rows_in_order() {
        assert_eq!(all().len(), 20);
        for (index, caller) in all().iter().enumerate() {
            assert_eq!(usize::from(caller.row), index + 1);
        }
        assert!(all().iter().all(|caller| caller.job.is_some()));
        let mapped = all().into_iter().filter(|caller| caller.job.is_some_and(|job| job.mapped().is_some()));
        assert_eq!(mapped.map(|caller| caller.row).collect::<Vec<u8>>(), [17, 18, 19, 20]);
    }

    #[test]
    fn found_by_name_and_by_number() {
        let rows = |name| named(name).iter().map(|caller| caller.row).collect::<Vec<_>>();
        assert_eq!(rows("restore_fpregs_from_user"), [5]);
        assert_eq!(rows("swapcontext"), [2, 4]);
        assert_eq!(rows("gfs2 direct read"), [19]);
        assert_eq!(rows("gfs2-direct-read"), [19]);
        assert_eq!((rows("14"), rows("#6"), rows("21"), rows("")), (vec![14], vec![6], vec![], vec![]));
    }

    #[test]
    fn one_expectation_for_each_cell_with_a_source() {
        for (row, name, job) in all().iter().filter_map(|caller| Some((caller.row, caller.name, caller.job?))) {
            let has_files = (8..=13).contains(&row) || row >= 17;
            let scenarios = if has_files { Scenario::OF_BUFFERS } else { Scenario::OF_MEMORY };
            let of_mappings = job.mapped().map(|mapped| (mapped.expectations(), Scenario::OF_MAPPINGS));
            for (expectations, scenarios) in [(job.expectations(), scenarios)].into_iter().chain(of_mappings) {
                assert_eq!(expectations.len(), Variant::ALL.len() * scenarios.len(), "{name}");
                for variant in Variant::ALL {
                    for &scenario in scenarios {
                        let cell = expectations.iter().filter(|e| e.variant == variant && e.scenario == scenario);
                        let sources: Vec<_> = cell.map(|e| e.source).collect();
                        assert!(
                            matches!(sources[..], [source] if !source.is_empty()),
                            "{name} {variant:?} {scenario:?}"
                        );
                    }
                }
            }
        }
    }
}
