//! The state that an access depends on: bytes, and their properties.

use core::hash::{Hash, Hasher};
use core::ops::Range;
use std::hash::DefaultHasher;

use faultin::Granularity;
use faultin::{Access, Cause};

/// Sizes of the units of a space, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    page_size: usize,
    granule: usize,
}

impl Geometry {
    /// Makes a geometry of pages and granules of these sizes.
    ///
    /// # Panics
    /// Unless both are powers of two, and a granule is no larger than a page.
    pub const fn new(page_size: usize, granule: usize) -> Self {
        assert!(page_size.is_power_of_two() && granule.is_power_of_two() && granule <= page_size);
        Geometry { page_size, granule }
    }

    /// Returns the sizes of this machine.
    pub fn host() -> Self {
        Self::new(faultin::page_size(), faultin::raw::TAG_GRANULE)
    }

    /// Returns the size of a page in bytes.
    pub const fn page_size(self) -> usize {
        self.page_size
    }

    /// Returns the number of bytes that share a memory tag.
    pub const fn granule(self) -> usize {
        self.granule
    }

    /// Returns the number of bytes that one access proves at this granularity.
    pub const fn unit(self, granularity: Granularity) -> usize {
        const LINE: usize = 64;
        match granularity {
            Granularity::Page => self.page_size,
            Granularity::Line if self.granule > LINE => self.granule,
            Granularity::Line if self.page_size < LINE => self.page_size,
            Granularity::Line => LINE,
            // Nothing is finer than tags; a finer unit would prove no more.
            _ => self.granule,
        }
    }

    /// Returns the address of the first byte: page-aligned, and not null.
    pub(super) const fn base(self) -> usize {
        const BASE: usize = 1 << 20;
        if self.page_size > BASE { self.page_size } else { BASE }
    }
}

/// The permission of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Nothing is mapped.
    Unmapped,
    /// Mapped, but neither loads nor stores are allowed.
    None,
    /// Loads only.
    Read,
    /// Loads and stores.
    Write,
}

impl Permission {
    /// Returns the cause for which `access` fails, if it does.
    const fn refuses(self, access: Access) -> Option<Cause> {
        match (self, access) {
            (Permission::Unmapped, _) => Some(Cause::Unmapped),
            (Permission::None, _) | (Permission::Read, Access::Write) => Some(Cause::Protection),
            (Permission::Read, Access::Read) | (Permission::Write, _) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Page {
    backed: bool,
    resident: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Granule {
    tag: u8,
    /// Log2 of the number of bytes lost, 0 if none are: a loss of one byte is rounded up.
    poison: u8,
}

/// Everything that an access depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    geometry: Geometry,
    pub(super) bytes: Vec<u8>,
    permissions: Vec<Permission>,
    granules: Vec<Granule>,
    pages: Vec<Page>,
}

impl State {
    /// Makes a state of `pages` pages: zeros, readable and writable, backed, resident, tag 0.
    pub fn new(geometry: Geometry, pages: usize) -> Self {
        let len = geometry.page_size * pages;
        State {
            geometry,
            bytes: vec![0; len],
            permissions: vec![Permission::Write; len],
            granules: vec![Granule::default(); len / geometry.granule],
            pages: vec![Page { backed: true, resident: true }; pages],
        }
    }

    /// Returns the sizes of the units.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Returns the size of the space in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether the space is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns all bytes, as the other side of the memory sees them: whatever their permissions.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns all bytes, mutable, to prepare a test.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Returns the permission of the byte at `offset`, `None` outside of the space.
    pub fn permission(&self, offset: usize) -> Option<Permission> {
        self.permissions.get(offset).copied()
    }

    /// Returns whether this page is resident.
    pub fn is_resident(&self, page: usize) -> bool {
        self.pages.get(page).is_some_and(|page| page.resident)
    }

    /// Returns a hash of the state: equal for equal states, in every run of one build.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Returns how many of `len` bytes at `offset`, all within one granule, can be accessed once their page is resident,
    /// and the cause of the fault at the next one.
    pub(super) fn accessible(&self, access: Access, tag: u8, offset: usize, len: usize) -> (usize, Option<Cause>) {
        let mut permissions = self.permissions[offset..offset + len].iter().enumerate();
        let refused = permissions.find_map(|(at, permission)| Some((at, permission.refuses(access)?)));
        let done = refused.map_or(len, |(at, _)| at);
        if done > 0
            && let Some(cause) = self.granule_refuses(tag, offset)
        {
            return (0, Some(cause));
        }
        (done, refused.map(|(_, cause)| cause))
    }

    fn granule_refuses(&self, tag: u8, offset: usize) -> Option<Cause> {
        let granule = self.granules[offset / self.geometry.granule];
        if !self.pages[offset / self.geometry.page_size].backed {
            Some(Cause::Backing)
        } else if granule.poison != 0 {
            Some(Cause::Poison { extent: 1 << granule.poison })
        } else if granule.tag != tag {
            Some(Cause::Tag)
        } else {
            None
        }
    }

    /// Returns whether an access that the mapping allows would have to bring the page in first.
    pub(super) fn waits(&self, access: Access, offset: usize) -> bool {
        let page = self.pages[offset / self.geometry.page_size];
        self.permissions[offset].refuses(access).is_none() && page.backed && !page.resident
    }

    pub(super) fn set_resident(&mut self, page: usize, resident: bool) {
        if let Some(page) = self.pages.get_mut(page) {
            page.resident = resident;
        }
    }

    pub(super) fn set_backed(&mut self, pages: Range<usize>, backed: bool) {
        let pages = clamp(pages, self.pages.len());
        self.pages[pages].iter_mut().for_each(|page| page.backed = backed);
    }

    pub(super) fn set_permission(&mut self, range: Range<usize>, permission: Permission) {
        let range = clamp(range, self.len());
        self.permissions[range].fill(permission);
    }

    pub(super) fn set_tag(&mut self, range: Range<usize>, tag: u8) {
        let granules = self.granules_of(range);
        self.granules[granules].iter_mut().for_each(|granule| granule.tag = tag);
    }

    /// `extent` 0 removes poison.
    pub(super) fn set_poison(&mut self, range: Range<usize>, extent: usize) {
        let granules = self.granules_of(range);
        let poison = extent.checked_ilog2().map_or(0, |log2| log2.max(1) as u8);
        self.granules[granules].iter_mut().for_each(|granule| granule.poison = poison);
    }

    pub(super) fn pages_of(&self, range: Range<usize>) -> Range<usize> {
        units_of(clamp(range, self.len()), self.geometry.page_size)
    }

    fn granules_of(&self, range: Range<usize>) -> Range<usize> {
        units_of(clamp(range, self.len()), self.geometry.granule)
    }
}

fn clamp(range: Range<usize>, len: usize) -> Range<usize> {
    let end = range.end.min(len);
    range.start.min(end)..end
}

/// Returns the units that a range touches.
fn units_of(range: Range<usize>, unit: usize) -> Range<usize> {
    if range.is_empty() { 0..0 } else { range.start / unit..range.end.div_ceil(unit) }
}
