//! Real mappings of the host.

use faultin::{ReadView, WriteView, page_size};

use super::layout::{Backend, Kind, Memory, pattern};

#[derive(Debug)]
pub struct Host;

/// Pages of one file, mapped according to their kinds (those past the end from another, empty file), and a second, always
/// accessible mapping of the file.
pub struct Pages {
    base: *mut u8,
    alias: *mut u8,
    kinds: Vec<Kind>,
}

impl Backend for Host {
    type Memory = Pages;

    fn page_size(&self) -> usize {
        page_size()
    }

    fn memory(&self, kinds: &[Kind]) -> Pages {
        let (page, len) = (page_size(), kinds.len() * page_size());
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        let error = std::io::Error::last_os_error;
        // SAFETY: new files and mappings, then changes within them.
        unsafe {
            let (file, empty) = (libc::memfd_create(c"good".as_ptr(), 0), libc::memfd_create(c"empty".as_ptr(), 0));
            assert!(file >= 0 && empty >= 0, "memfd_create: {}", error());
            assert_eq!(libc::ftruncate(file, len as libc::off_t), 0, "ftruncate: {}", error());
            let map = || libc::mmap(faultin_test::far_below(len), len, rw, libc::MAP_SHARED, file, 0);
            let (base, alias) = (map(), map());
            assert!(base != libc::MAP_FAILED && alias != libc::MAP_FAILED, "mmap: {}", error());
            let (base, alias) = (base.cast::<u8>(), alias.cast::<u8>());
            (0..len).for_each(|at| alias.add(at).write(pattern(at)));
            for (index, kind) in kinds.iter().enumerate() {
                let at = base.add(index * page).cast();
                let done = match kind {
                    Kind::Good => 0,
                    Kind::ReadOnly => libc::mprotect(at, page, libc::PROT_READ),
                    Kind::NoAccess => libc::mprotect(at, page, libc::PROT_NONE),
                    Kind::Unmapped => libc::munmap(at, page),
                    Kind::PastEnd => {
                        let mapped = libc::mmap(at, page, rw, libc::MAP_SHARED | libc::MAP_FIXED, empty, 0);
                        i32::from(mapped == libc::MAP_FAILED)
                    }
                };
                assert_eq!(done, 0, "{kind:?}: {}", error());
            }
            libc::close(file);
            libc::close(empty);
            Pages { base, alias, kinds: kinds.to_vec() }
        }
    }
}

impl Pages {
    fn len(&self) -> usize {
        self.kinds.len() * page_size()
    }
}

impl Memory for Pages {
    type Read = ReadView<'static>;
    type Write = WriteView<'static>;

    fn read(&self) -> ReadView<'static> {
        // SAFETY: this value's mapping, holes included (see `serial`), during every use of the view.
        unsafe { ReadView::new(self.base, self.len()) }.expect("the handler")
    }

    fn write(&self) -> WriteView<'static> {
        // SAFETY: as in `read`, and no reference to it exists.
        unsafe { WriteView::new(self.base, self.len()) }.expect("the handler")
    }

    fn base(&self) -> usize {
        self.base.addr()
    }

    fn contents(&self) -> Vec<u8> {
        // SAFETY: mapped as long as `self` exists, and nothing stores to it meanwhile.
        unsafe { std::slice::from_raw_parts(self.alias, self.len()) }.to_vec()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this value's mappings; no other mapping was placed in a hole (see `serial`).
        unsafe {
            libc::munmap(self.base.cast(), self.len());
            libc::munmap(self.alias.cast(), self.len());
        }
    }
}
