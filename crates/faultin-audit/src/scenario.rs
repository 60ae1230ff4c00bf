//! The scenarios: faults of the user's memory. They are the columns of the table.
//!
//! An *object* (a word, a register image, a buffer) is in user memory across two pages, divided where its caller chooses; a
//! word is at the very end of the first page. *Bad* means inaccessible: the page is unmapped, and an inaccessible
//! reservation (`PROT_NONE`) keeps its addresses, so that nothing else can be mapped there. Below page size a memory tag,
//! kept for each *granule* of 16 bytes, makes bytes inaccessible.

#![forbid(unsafe_code)]

use crate::environment::Feature;
use crate::user::Memory;

/// A fault of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scenario {
    /// None: every page is mapped and present.
    AllResident,
    /// The contents exist, but no page of this mapping is present yet.
    Cold,
    /// The page with the object's first byte is bad.
    FirstPageBad,
    /// The page after it is bad.
    SecondPageBad,
    /// Loads succeed, stores do not.
    ReadOnly,
    /// No page is present at first; and once a fault-in has brought it in, it is evicted again, once.
    Evicted,
    /// The page with the object's last byte is poisoned.
    Poisoned,
    /// The object's tail is inaccessible, but not the first byte of a page: permissions below page size.
    InaccessibleTail,
    /// Only the granule with the byte where the caller starts over is inaccessible.
    RestartGranuleBad,
    /// Another thread unmaps and remaps page after page, for as long as the caller runs.
    Remapping,
    /// The buffer is a mapping of the very folio that is written: not present, and its faults need the lock that the write
    /// takes. For callers that read and write files.
    OwnFolio,
    /// The buffer is a mapping of the very pages that are read or written, whose faults this process resolves.
    SamePages,
    /// The buffer is a mapping of other pages of the same file.
    OtherPages,
    /// Two threads read or write two files, each with a mapping of the other's file as its buffer.
    TwoFiles,
    /// As other pages; and everything is evicted from the cache all the time.
    EvictionStorm,
    /// As other pages; and a granule in the middle of the buffer is inaccessible.
    BadGranule,
    /// As other pages; and after the first attempt the buffer's second page is unmapped.
    UnmappedMidway,
    /// As other pages; and the store cannot read the bytes that the buffer's second page shows.
    StoreErrorMidway,
}

impl Scenario {
    /// Every scenario, in the order of the columns.
    pub const ALL: [Scenario; 18] = [
        Scenario::AllResident,
        Scenario::Cold,
        Scenario::FirstPageBad,
        Scenario::SecondPageBad,
        Scenario::ReadOnly,
        Scenario::Evicted,
        Scenario::Poisoned,
        Scenario::InaccessibleTail,
        Scenario::RestartGranuleBad,
        Scenario::Remapping,
        Scenario::OwnFolio,
        Scenario::SamePages,
        Scenario::OtherPages,
        Scenario::TwoFiles,
        Scenario::EvictionStorm,
        Scenario::BadGranule,
        Scenario::UnmappedMidway,
        Scenario::StoreErrorMidway,
    ];

    /// Those that concern memory alone, so every caller.
    pub const OF_MEMORY: &[Scenario] = Self::ALL.split_at(10).0;

    /// Those, and the one of callers that work on files: the columns of the first table.
    pub const OF_BUFFERS: &[Scenario] = Self::ALL.split_at(11).0;

    /// Those in which the buffer is a mapping of a file of the cache, whose faults this process resolves: the columns of
    /// the second table.
    pub const OF_MAPPINGS: &[Scenario] = Self::ALL.split_at(11).1;

    /// Returns whether it is one of [`OF_MAPPINGS`](Self::OF_MAPPINGS).
    pub const fn is_of_mappings(self) -> bool {
        self as usize >= Self::OF_BUFFERS.len()
    }

    /// Returns why it may not exist for a caller.
    pub const fn is_not_for(self) -> &'static str {
        match self {
            Scenario::OwnFolio => "the caller neither reads nor writes a file whose folios could be its buffer",
            _ if self.is_of_mappings() => {
                "the caller holds no lock that the page faults of a mapped file take: that is what rows 17 to 20 are about"
            }
            _ => "nobody expects anything of the caller here",
        }
    }

    /// Returns the column's head.
    pub const fn name(self) -> &'static str {
        match self {
            Scenario::AllResident => "all resident",
            Scenario::Cold => "cold",
            Scenario::FirstPageBad => "first page bad",
            Scenario::SecondPageBad => "second page bad",
            Scenario::ReadOnly => "read-only",
            Scenario::Evicted => "evicted",
            Scenario::Poisoned => "poisoned",
            Scenario::InaccessibleTail => "tail bad",
            Scenario::RestartGranuleBad => "restart granule bad",
            Scenario::Remapping => "remapping thread",
            Scenario::OwnFolio => "its own folio",
            Scenario::SamePages => "same pages",
            Scenario::OtherPages => "other pages",
            Scenario::TwoFiles => "two files",
            Scenario::EvictionStorm => "eviction storm",
            Scenario::BadGranule => "bad granule",
            Scenario::UnmappedMidway => "unmapped midway",
            Scenario::StoreErrorMidway => "store error midway",
        }
    }

    /// Returns its meaning, and how it is made.
    pub const fn meaning(self) -> &'static str {
        match self {
            Scenario::AllResident => "every page is mapped and present",
            Scenario::Cold => {
                "the contents exist, but no page of this mapping is present yet (a memfd behind a userfaultfd)"
            }
            Scenario::FirstPageBad => "the page that holds the object's first byte is inaccessible (PROT_NONE)",
            Scenario::SecondPageBad => "the page after it is inaccessible (PROT_NONE)",
            Scenario::ReadOnly => "loads succeed, stores do not (PROT_READ)",
            Scenario::Evicted => {
                "as cold; and after the first fault-in every page is taken away again (MADV_DONTNEED), before the copy"
            }
            Scenario::Poisoned => "the page that holds the object's last byte is poisoned (UFFDIO_POISON)",
            Scenario::InaccessibleTail => {
                "the object's last bytes are inaccessible, its pages' first ones are not (memory tags)"
            }
            Scenario::RestartGranuleBad => {
                "only the granule where the caller starts over is inaccessible (memory tags)"
            }
            Scenario::Remapping => {
                "another thread unmaps and remaps page after page throughout; asserts what must hold, not a value"
            }
            Scenario::OwnFolio => {
                "the buffer maps the folio that is read or written: it is cold, and a fault that is served under the inode lock is a \
                 deadlock"
            }
            Scenario::SamePages => "the buffer is a mapping of the very pages that are read or written, cold",
            Scenario::OtherPages => "the buffer is a mapping of other pages of the same file, cold",
            Scenario::TwoFiles => {
                "two threads, two files, each one's buffer a mapping of the other's file; asserts what must hold, not a value"
            }
            Scenario::EvictionStorm => {
                "as other pages, while everything is written back and taken out of the cache again and again; asserts what must \
                 hold, not a value"
            }
            Scenario::BadGranule => {
                "as other pages; a granule in the midst of the buffer is inaccessible (a memory tag)"
            }
            Scenario::UnmappedMidway => "as other pages; once a copy was tried, the buffer's second page is unmapped",
            Scenario::StoreErrorMidway => {
                "as other pages; the store cannot read what is in the buffer's second page (EIO)"
            }
        }
    }

    /// Returns the feature that it needs, on this memory.
    pub const fn needs(self, memory: Memory) -> Option<Feature> {
        match (memory, self) {
            (Memory::Host, Scenario::Evicted | Scenario::OwnFolio) => Some(Feature::Paging),
            (Memory::Host, Scenario::Poisoned) => Some(Feature::Poison),
            (Memory::Host, Scenario::InaccessibleTail | Scenario::RestartGranuleBad) => Some(Feature::Tags),
            _ => None,
        }
    }

    /// Returns the name as an argument: with hyphens.
    pub fn slug(self) -> String {
        self.name().replace(' ', "-")
    }

    /// Returns the scenario with this name, hyphenated or not, or the only one whose name contains it.
    pub fn named(name: &str) -> Option<Scenario> {
        let name = name.trim().to_lowercase().replace([' ', '_'], "-");
        let mut like = Self::ALL.into_iter().filter(|s| s.slug().contains(&name));
        match (Self::ALL.into_iter().find(|s| s.slug() == name), like.next(), like.next()) {
            (Some(exact), ..) => Some(exact),
            (None, Some(only), None) if !name.is_empty() => Some(only),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_in_its_place() {
        for (index, scenario) in Scenario::ALL.into_iter().enumerate() {
            assert_eq!(scenario as usize, index);
            assert_eq!(scenario.is_of_mappings(), Scenario::OF_MAPPINGS.contains(&scenario));
            assert_ne!(scenario.is_of_mappings(), Scenario::OF_BUFFERS.contains(&scenario));
        }
    }

    #[test]
    fn names_are_found_in_every_spelling() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::named(scenario.name()), Some(scenario));
            assert_eq!(Scenario::named(&scenario.slug()), Some(scenario));
        }
        assert_eq!(Scenario::named("second"), Some(Scenario::SecondPageBad));
        assert_eq!(Scenario::named("thread"), Some(Scenario::Remapping));
        assert_eq!(Scenario::named("storm"), Some(Scenario::EvictionStorm));
        assert_eq!(Scenario::named("midway"), None, "two of them");
        for none in ["", "re", "bad", "warm", "page"] {
            assert_eq!(Scenario::named(none), None, "{none}");
        }
    }
}
