//! Permissions below page size, where the CPU has memory tags: a granule is bad while its tag differs from the pointers'.

use std::io;
use std::ops::Range;

use super::mapping::Reservation;

/// Bad granules of a reservation, by the offsets of bytes in them from the first page.
#[cfg(all(target_arch = "aarch64", not(faultin_syscall)))]
#[derive(Debug)]
pub(super) struct Tags {
    bad: Range<usize>,
}

/// This machine has no tags.
#[cfg(not(all(target_arch = "aarch64", not(faultin_syscall))))]
#[derive(Debug)]
pub(super) enum Tags {}

#[cfg(all(target_arch = "aarch64", not(faultin_syscall)))]
mod real {
    use faultin::testing::tags;

    use super::{Range, Reservation, Tags, io};

    const GRANULE: usize = 16;
    /// Pointers have tag 0.
    const BAD: u8 = 2;

    impl Tags {
        /// Makes the granules bad that these bytes touch. All pages were mapped with tags.
        pub(in super::super) fn new(range: &Reservation, bad: Range<usize>) -> io::Result<Tags> {
            if !tags::check() {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "memory tags"));
            }
            let tags = Tags { bad };
            tags.set(range, BAD);
            Ok(tags)
        }

        /// Runs `work` while no granule is bad.
        pub(in super::super) fn healed<T>(&self, range: &Reservation, work: impl FnOnce() -> T) -> T {
            self.set(range, 0);
            let result = work();
            self.set(range, BAD);
            result
        }

        fn set(&self, range: &Reservation, tag: u8) {
            for at in (self.bad.start & !(GRANULE - 1)..self.bad.end).step_by(GRANULE) {
                // SAFETY: `new`'s condition: the page was mapped with `PROT_MTE`, and tags are checked; no references to a
                // reservation's bytes exist.
                unsafe { tags::set(range.page(0).wrapping_add(at), tag) };
            }
        }
    }
}

#[cfg(not(all(target_arch = "aarch64", not(faultin_syscall))))]
impl Tags {
    pub(super) fn new(_: &Reservation, _: Range<usize>) -> io::Result<Tags> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "memory tags"))
    }

    pub(super) fn healed<T>(&self, _: &Reservation, _: impl FnOnce() -> T) -> T {
        match *self {}
    }
}

/// Returns whether a bad granule can be made here, by making one.
pub(crate) fn probe() -> bool {
    use super::mapping::Protection;
    let tried = || -> io::Result<bool> {
        let range = Reservation::new(1)?;
        range.map_anonymous(0, Protection::Tagged)?;
        let _tags = Tags::new(&range, 16..32)?;
        let bad = |at| range.read().map(|view| view.load::<u8>(at).is_err());
        Ok(bad(16)? && bad(31)? && !bad(15)? && !bad(32)?)
    };
    tried().unwrap_or(false)
}
