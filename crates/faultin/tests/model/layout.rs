//! Pages, each good or bad in its own way, and the model's knowledge of them.

use faultin::{Access, Cause};

use super::Source;

/// Pages that operations use.
const PAGES: usize = 6;

/// Inaccessible pages before and after them: more than any operation can exceed them by.
const MARGIN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Good,
    ReadOnly,
    NoAccess,
    Hole,
    PastEnd,
    /// A guard page (`MADV_GUARD_INSTALL`): inaccessible, but no other mapping can be placed there.
    Guard,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Good,
        Kind::Good,
        Kind::Good,
        Kind::Good,
        Kind::ReadOnly,
        Kind::NoAccess,
        Kind::Hole,
        Kind::PastEnd,
        Kind::Guard,
    ];

    /// Returns the cause for which `access` fails, if it does.
    fn cause(self, access: Access) -> Option<Cause> {
        match (self, access) {
            (Kind::Good, _) | (Kind::ReadOnly, Access::Read) => None,
            (Kind::ReadOnly, Access::Write) | (Kind::NoAccess, _) => Some(Cause::Protection),
            (Kind::Hole | Kind::Guard, _) => Some(Cause::Unmapped),
            (Kind::PastEnd, _) => Some(Cause::Backing),
        }
    }
}

/// An address for operations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place(pub usize);

impl core::fmt::Debug for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Place {
    pub fn read(self) -> *const u8 {
        core::ptr::with_exposed_provenance(self.0)
    }

    pub fn write(self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.0)
    }

    pub fn after(self, n: usize) -> Place {
        Place(self.0.wrapping_add(n))
    }
}

/// The pages, mapped according to their kinds; a second, always accessible mapping of the same memory; and the expected
/// contents.
pub struct Layout {
    /// The first page of the margin.
    start: usize,
    alias: *mut u8,
    memory: i32,
    empty: i32,
    kinds: [Kind; PAGES],
    pub content: Vec<u8>,
    page: usize,
}

impl core::fmt::Debug for Layout {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} at {:#x}", self.kinds, self.base())
    }
}

impl Layout {
    pub fn new(source: &mut Source<'_>) -> Layout {
        let page = faultin::page_size();
        let len = PAGES * page;
        // SAFETY: new files and mappings.
        let (start, alias, memory, empty) = unsafe {
            let (memory, empty) = (libc::memfd_create(c"model".as_ptr(), 0), libc::memfd_create(c"empty".as_ptr(), 0));
            assert!(memory >= 0 && empty >= 0, "memfd_create: {}", std::io::Error::last_os_error());
            assert_eq!(libc::ftruncate(memory, len as libc::off_t), 0);
            let around = libc::mmap(
                faultin_test::far_below(len + 2 * MARGIN * page),
                len + 2 * MARGIN * page,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            let alias = libc::mmap(core::ptr::null_mut(), len, rw, libc::MAP_SHARED, memory, 0);
            assert!(around != libc::MAP_FAILED && alias != libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
            (around.expose_provenance(), alias.cast::<u8>(), memory, empty)
        };
        // Zeros are frequent, and so are runs of them.
        let seed = usize::from(source.byte());
        let content: Vec<u8> =
            (0..len).map(|i| if (i / 97) & 1 == 0 { 0 } else { (i * 7 + seed * (i >> 9)) as u8 }).collect();
        // SAFETY: `alias` is a mapping of `len` bytes that is not used elsewhere.
        unsafe { alias.copy_from_nonoverlapping(content.as_ptr(), len) };
        let mut layout = Layout { start, alias, memory, empty, kinds: [Kind::Good; PAGES], content, page };
        for index in 0..PAGES {
            layout.remap(index, source.one_of(&Kind::ALL));
        }
        layout
    }

    fn base(&self) -> usize {
        self.start + MARGIN * self.page
    }

    pub fn pages(&self) -> usize {
        PAGES
    }

    pub fn random_kind(source: &mut Source<'_>) -> Kind {
        source.one_of(&Kind::ALL)
    }

    /// Makes a page good or bad.
    pub fn remap(&mut self, index: usize, kind: Kind) {
        let at = core::ptr::with_exposed_provenance_mut::<libc::c_void>(self.base() + index * self.page);
        let (rw, page, fixed) = (libc::PROT_READ | libc::PROT_WRITE, self.page, libc::MAP_FIXED);
        let offset = (index * self.page) as libc::off_t;
        let mut kind = kind;
        // SAFETY: replaces a page of this layout's reservation.
        unsafe {
            let mapped = match kind {
                Kind::PastEnd => libc::mmap(at, page, rw, libc::MAP_SHARED | fixed, self.empty, 0),
                Kind::Guard => libc::mmap(at, page, rw, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed, -1, 0),
                Kind::Good | Kind::ReadOnly | Kind::NoAccess | Kind::Hole => {
                    libc::mmap(at, page, rw, libc::MAP_SHARED | fixed, self.memory, offset)
                }
            };
            assert_eq!(mapped, at, "mmap: {}", std::io::Error::last_os_error());
            let done = match kind {
                Kind::ReadOnly => libc::mprotect(at, page, libc::PROT_READ),
                Kind::NoAccess => libc::mprotect(at, page, libc::PROT_NONE),
                Kind::Hole => libc::munmap(at, page),
                Kind::Guard => {
                    const MADV_GUARD_INSTALL: i32 = 102;
                    // User-mode emulation accepts and ignores any advice, even one that does not exist.
                    let obeyed = libc::madvise(at, page, i32::MAX) != 0;
                    if !obeyed || libc::madvise(at, page, MADV_GUARD_INSTALL) != 0 {
                        // A kernel before 6.13.
                        kind = Kind::NoAccess;
                        libc::mprotect(at, page, libc::PROT_NONE)
                    } else {
                        0
                    }
                }
                Kind::Good | Kind::PastEnd => 0,
            };
            assert_eq!(done, 0, "{kind:?}: {}", std::io::Error::last_os_error());
        }
        self.kinds[index] = kind;
    }

    /// A place in the layout, more often than not near a page boundary, or an unrelated address.
    pub fn place(&self, source: &mut Source<'_>) -> Place {
        let choice = source.byte();
        if choice < 8 {
            return Place(match choice {
                0 => 0,
                1 => 1,
                2 => usize::MAX,
                3 => usize::MAX - 63,
                4 => 1 << 63,
                5 => 0x0000_8000_0000_0000,
                6 => 0xffff_8000_0000_0000,
                _ => self.start,
            });
        }
        let page = source.below(PAGES + 1) * self.page;
        let near = match choice % 3 {
            0 => source.below(self.page) as isize,
            1 => source.below(256) as isize - 128,
            _ => source.below(16) as isize - 8,
        };
        Place(self.base().wrapping_add_signed(page as isize + near))
    }

    /// A length, more often than not a short one.
    pub fn len(&self, source: &mut Source<'_>) -> usize {
        match source.byte() {
            0..=99 => source.below(65),
            100..=179 => source.below(700),
            180..=229 => source.below(2 * self.page),
            230..=250 => source.below(4) * self.page + source.below(64),
            251 => isize::MAX as usize,
            252 => isize::MAX as usize + 1,
            253 => usize::MAX,
            254 => usize::MAX - source.below(64),
            _ => 0,
        }
    }

    /// The position of this address in the contents.
    pub fn offset(&self, place: Place) -> Option<usize> {
        place.0.checked_sub(self.base()).filter(|offset| *offset < self.content.len())
    }

    /// Why `access` to the byte at `place` fails, if it does.
    pub fn cause(&self, place: Place, access: Access) -> Option<Cause> {
        if let Some(offset) = self.offset(place) {
            return self.kinds[offset / self.page].cause(access);
        }
        let reserved = self.start..self.start + (PAGES + 2 * MARGIN) * self.page;
        Some(if reserved.contains(&place.0) {
            Cause::Protection
        } else if cfg!(target_arch = "x86_64") && !matches!(place.0 >> 47, 0 | 0x1ffff) {
            Cause::NonCanonical
        } else {
            // Null and its neighbours, and the kernel's half.
            Cause::Unmapped
        })
    }

    /// How many of `len` bytes at `place` are accessible.
    pub fn prefix(&self, place: Place, len: usize, access: Access) -> usize {
        let mut done = 0;
        while done < len && self.cause(place.after(done), access).is_none() {
            let in_page = self.page - (place.after(done).0 & (self.page - 1));
            done += in_page.min(len - done);
        }
        done
    }

    /// The expected byte at `place`, which must be readable.
    pub fn byte(&self, place: Place) -> u8 {
        self.content[self.offset(place).expect("a place in the layout")]
    }

    /// The expected `len` bytes.
    pub fn bytes(&self, place: Place, len: usize) -> &[u8] {
        if len == 0 {
            return &[];
        }
        let offset = self.offset(place).expect("a place in the layout");
        &self.content[offset..offset + len]
    }

    /// Stores into the model.
    pub fn put(&mut self, place: Place, bytes: &[u8]) {
        if let Some(offset) = self.offset(place) {
            self.content[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// The first byte that differs from the model.
    pub fn difference(&self) -> Option<String> {
        // SAFETY: the mapping is as long as the content, and nothing stores to it during the comparison.
        let real = unsafe { core::slice::from_raw_parts(self.alias, self.content.len()) };
        if real == &*self.content {
            return None;
        }
        let at = real.iter().zip(&self.content).position(|(a, b)| a != b)?;
        let place = Place(self.base() + at);
        Some(format!("the byte at {place:?} is {:#x}, the model says {:#x}", real[at], self.content[at]))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: the layout's mappings and files. No thread of a test maps anything meanwhile, so that the holes are still
        // holes.
        unsafe {
            libc::munmap(core::ptr::with_exposed_provenance_mut(self.start), (PAGES + 2 * MARGIN) * self.page);
            libc::munmap(self.alias.cast(), self.content.len());
            libc::close(self.memory);
            libc::close(self.empty);
        }
    }
}
