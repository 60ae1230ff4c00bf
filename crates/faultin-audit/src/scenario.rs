//! The scenarios: faults of the user's memory. They are the columns of the table.
//!
//! An *object* (a word, a register image, a buffer) is in user memory across two pages, divided where its caller chooses; a
//! word is at the very end of the first page. *Bad* means inaccessible: the page is unmapped, and an inaccessible
//! reservation (`PROT_NONE`) keeps its addresses, so that nothing else can be mapped there. Below page size a memory tag,
//! kept for each *granule* of 16 bytes, makes bytes inaccessible.
//!
//! A scenario is one entry of the table below. Both memories make the state that the entry describes, and every caller has
//! an [expectation](crate::expect) for it, which follows from the bytes that can be accessed: another entry is another
//! column for all of them.

#![forbid(unsafe_code)]

use crate::axes::{Feature, Memory};

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The head.
    pub name: &'static str,
    /// Its meaning, and how it is made.
    pub meaning: &'static str,
    /// The buffers that it is a state of.
    pub buffer: Buffer,
    /// Whether the contents exist, but no page is present at first.
    pub missing: bool,
    /// The part that is inaccessible from the beginning.
    pub bad: Bad,
    /// What happens while the caller runs.
    pub during: During,
    /// A memory that has no such state, and the reason.
    pub not_on: Option<(Memory, &'static str)>,
}

/// The buffers that a scenario is a state of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// Any memory: the callers all have such scenarios.
    Any,
    /// The very folio that is read or written, whose faults need the lock of the caller: for callers that work on files.
    OwnFolio,
    /// A mapping of a file of the cache, whose faults this process resolves: for callers that hold the lock that these
    /// faults take.
    Mapping(Pages),
}

/// The pages of the file that a buffer maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Those that are read or written.
    Same,
    /// Other pages.
    Other,
}

/// The part of an object that is inaccessible from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Nothing.
    Nothing,
    /// This page of the object: 0 has its first byte.
    Page(usize),
    /// All of it, for stores.
    ForStores,
    /// The page with the last byte, which is poisoned.
    LastPagePoisoned,
    /// The granules from the beginning of the tail on.
    Tail,
    /// The granule where the caller starts over.
    RestartGranule,
}

/// What happens to the memory while a caller runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// Nothing.
    Nothing,
    /// Once, after the first successful fault-in, every page is evicted.
    EvictedOnce,
    /// Pages are unmapped and mapped again, throughout.
    Remapped,
    /// Everything is evicted, throughout.
    EvictedAlways,
    /// Another thread does the same with the caller's file as its buffer.
    OtherThread,
    /// After the first attempt the second page is unmapped.
    Unmapped,
    /// The store cannot read the bytes that the second page shows.
    StoreError,
}

impl During {
    /// Returns whether something happens at any moment: such a scenario asserts what must hold, not a value.
    pub const fn is_race(self) -> bool {
        matches!(self, During::Remapped | During::EvictedAlways | During::OtherThread)
    }
}

/// A state of any memory in which nothing is the matter.
const ANY: Column = Column {
    name: "",
    meaning: "",
    buffer: Buffer::Any,
    missing: false,
    bad: Bad::Nothing,
    during: During::Nothing,
    not_on: None,
};

/// A mapping of other pages of the same file, none of them present.
const OTHER: Column = Column { buffer: Buffer::Mapping(Pages::Other), missing: true, ..ANY };

macro_rules! scenarios {
    ($($(#[$doc:meta])* $scenario:ident = $column:expr;)*) => {
        /// A fault of the memory.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Scenario {
            $($(#[$doc])* $scenario,)*
        }

        impl Scenario {
            /// Every scenario, in the order of the columns.
            pub const ALL: [Scenario; [$(Scenario::$scenario),*].len()] = [$(Scenario::$scenario),*];
        }

        /// The columns, in order.
        static COLUMNS: [Column; Scenario::ALL.len()] = [$($column),*];
    };
}

scenarios! {
    /// None: every page is mapped and present.
    AllResident = Column { name: "all resident", meaning: "every page is mapped and present", ..ANY };

    /// The contents exist, but no page of this mapping is present yet.
    Cold = Column {
        name: "cold",
        meaning: "the contents exist, but no page of this mapping is present yet (a memfd behind a userfaultfd)",
        missing: true,
        ..ANY
    };

    /// The page with the object's first byte is bad.
    FirstPageBad = Column {
        name: "first page bad",
        meaning: "the page that holds the object's first byte is inaccessible (PROT_NONE)",
        bad: Bad::Page(0),
        ..ANY
    };

    /// The page after it is bad.
    SecondPageBad = Column {
        name: "second page bad",
        meaning: "the page after it is inaccessible (PROT_NONE)",
        bad: Bad::Page(1),
        ..ANY
    };

    /// Loads succeed, stores do not.
    ReadOnly = Column {
        name: "read-only",
        meaning: "loads succeed, stores do not (PROT_READ)",
        bad: Bad::ForStores,
        ..ANY
    };

    /// No page is present at first; and once a fault-in has brought it in, it is evicted again, once.
    Evicted = Column {
        name: "evicted",
        meaning: "as cold; and after the first fault-in every page is taken away again (MADV_DONTNEED), before the copy",
        missing: true,
        during: During::EvictedOnce,
        ..ANY
    };

    /// The page with the object's last byte is poisoned.
    Poisoned = Column {
        name: "poisoned",
        meaning: "the page that holds the object's last byte is poisoned (UFFDIO_POISON)",
        bad: Bad::LastPagePoisoned,
        ..ANY
    };

    /// The object's tail is inaccessible, but not the first byte of a page: permissions below page size.
    InaccessibleTail = Column {
        name: "tail bad",
        meaning: "the object's last bytes are inaccessible, its pages' first ones are not (memory tags)",
        bad: Bad::Tail,
        ..ANY
    };

    /// Only the granule with the byte where the caller starts over is inaccessible.
    RestartGranuleBad = Column {
        name: "restart granule bad",
        meaning: "only the granule where the caller starts over is inaccessible (memory tags)",
        bad: Bad::RestartGranule,
        ..ANY
    };

    /// Another thread unmaps and remaps page after page, for as long as the caller runs.
    Remapping = Column {
        name: "remapping thread",
        meaning: "another thread unmaps and remaps page after page throughout; asserts what must hold, not a value",
        during: During::Remapped,
        ..ANY
    };

    /// The buffer is a mapping of the very folio that is written: not present, and its faults need the lock that the write
    /// takes. For callers that read and write files.
    OwnFolio = Column {
        name: "its own folio",
        meaning: "the buffer maps the folio that is read or written: it is cold, and a fault that is served under the inode lock is a \
                  deadlock",
        buffer: Buffer::OwnFolio,
        missing: true,
        ..ANY
    };

    /// The buffer is a mapping of the very pages that are read or written, whose faults this process resolves.
    SamePages = Column {
        name: "same pages",
        meaning: "the buffer is a mapping of the very pages that are read or written, cold",
        buffer: Buffer::Mapping(Pages::Same),
        ..OTHER
    };

    /// The buffer is a mapping of other pages of the same file.
    OtherPages = Column {
        name: "other pages",
        meaning: "the buffer is a mapping of other pages of the same file, cold",
        ..OTHER
    };

    /// Two threads read or write two files, each with a mapping of the other's file as its buffer.
    TwoFiles = Column {
        name: "two files",
        meaning: "two threads, two files, each one's buffer a mapping of the other's file; asserts what must hold, not a value",
        during: During::OtherThread,
        not_on: Some((Memory::Sim, "simulated memory belongs to one thread")),
        ..OTHER
    };

    /// As other pages; and everything is evicted from the cache all the time.
    EvictionStorm = Column {
        name: "eviction storm",
        meaning: "as other pages, while everything is written back and taken out of the cache again and again; asserts what must \
                  hold, not a value",
        during: During::EvictedAlways,
        ..OTHER
    };

    /// As other pages; and a granule in the middle of the buffer is inaccessible.
    BadGranule = Column {
        name: "bad granule",
        meaning: "as other pages; a granule in the midst of the buffer is inaccessible (a memory tag)",
        bad: Bad::RestartGranule,
        not_on: Some((Memory::Host, "the pager's pages are a memfd's, mapped without memory tags")),
        ..OTHER
    };

    /// As other pages; and after the first attempt the buffer's second page is unmapped.
    UnmappedMidway = Column {
        name: "unmapped midway",
        meaning: "as other pages; once a copy was tried, the buffer's second page is unmapped",
        during: During::Unmapped,
        ..OTHER
    };

    /// As other pages; and the store cannot read the bytes that the buffer's second page shows.
    StoreErrorMidway = Column {
        name: "store error midway",
        meaning: "as other pages; the store cannot read what is in the buffer's second page (EIO)",
        during: During::StoreError,
        ..OTHER
    };
}

/// Number of columns before the first one of mappings.
const BUFFERS: usize = {
    let mut count = 0;
    while !matches!(COLUMNS[count].buffer, Buffer::Mapping(_)) {
        count += 1;
    }
    count
};

impl Scenario {
    /// Those of any buffer, and those of callers that work on files: the columns of the first table.
    pub const OF_BUFFERS: &[Scenario] = Self::ALL.split_at(BUFFERS).0;

    /// Those in which the buffer is a mapping of a file of the cache, whose faults this process resolves: the columns of
    /// the second table.
    pub const OF_MAPPINGS: &[Scenario] = Self::ALL.split_at(BUFFERS).1;

    /// Returns its entry in the table.
    pub fn column(self) -> &'static Column {
        &COLUMNS[self as usize]
    }

    /// Returns whether it is one of [`OF_MAPPINGS`](Self::OF_MAPPINGS).
    pub fn is_of_mappings(self) -> bool {
        matches!(self.column().buffer, Buffer::Mapping(_))
    }

    /// Returns why it may not exist for a caller.
    pub fn is_not_for(self) -> &'static str {
        match self.column().buffer {
            Buffer::Any => "nobody expects anything of the caller here",
            Buffer::OwnFolio => "the caller neither reads nor writes a file whose folios could be its buffer",
            Buffer::Mapping(_) => {
                "the caller holds no lock that the page faults of a mapped file take: that is what rows 17 to 20 are about"
            }
        }
    }

    /// Returns why it does not exist on this memory, if it does not.
    pub fn is_not_on(self, memory: Memory) -> Option<&'static str> {
        self.column().not_on.filter(|(without, _)| *without == memory).map(|(_, why)| why)
    }

    /// Returns the column's head.
    pub fn name(self) -> &'static str {
        self.column().name
    }

    /// Returns its meaning, and how it is made.
    pub fn meaning(self) -> &'static str {
        self.column().meaning
    }

    /// Returns the feature that it needs, on this memory.
    pub fn needs(self, memory: Memory) -> Option<Feature> {
        let column = self.column();
        match (column.buffer, column.bad, column.during) {
            _ if memory == Memory::Sim => None,
            (Buffer::Mapping(_), ..) => None,
            (_, Bad::Tail | Bad::RestartGranule, _) => Some(Feature::Tags),
            (_, Bad::LastPagePoisoned, _) => Some(Feature::Poison),
            (Buffer::OwnFolio, ..) | (.., During::EvictedOnce) => Some(Feature::Paging),
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
    fn every_scenario_is_in_its_table() {
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
