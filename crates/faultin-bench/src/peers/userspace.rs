//! `userspace-pagefault`, a published pager: SIGSEGV, two pipes to a thread that fills the page, and two calls of `mprotect`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use userspace_pagefault::{AccessType, PageChunk, PageChunks, PageStore, PagedSegment};

use super::Handler;

/// Memory that the library fills from a file, page by page.
pub struct Paged {
    segment: PagedSegment<'static>,
    handler: Handler,
}

impl Paged {
    /// Makes memory of `len` bytes with the contents of `store`. Once in a process: only the first time does the library
    /// install its handler.
    ///
    /// # Errors
    /// What failed, in words.
    pub fn new(len: usize, store: &File) -> Result<Paged, String> {
        let file = store.try_clone().map_err(|error| error.to_string())?;
        let page = Vec::new();
        // The library installs its handler for the process; from here on, only during its samples.
        let (segment, handler) = Handler::installed_by(|| PagedSegment::new(len, FileStore { file, page }, None));
        let segment = segment.map_err(|error| format!("{error:?}"))?;
        Ok(Paged { segment, handler })
    }

    pub fn handler(&self) -> &Handler {
        &self.handler
    }

    pub fn base(&self) -> *mut u8 {
        self.segment.as_raw_parts().0
    }

    /// Forgets all pages.
    pub fn forget(&self) {
        let forgotten = self.segment.release_all_pages();
        assert!(forgotten.is_ok(), "mmap over the segment: {forgotten:?}");
    }
}

/// Reads a page at a time, as our store does.
struct FileStore {
    file: File,
    page: Vec<u8>,
}

impl PageStore for FileStore {
    fn page_fault(&mut self, offset: usize, length: usize, _: AccessType) -> Option<PageChunks<'_>> {
        self.page.resize(length, 0);
        self.file.read_exact_at(&mut self.page, offset as u64).ok()?;
        let chunk: PageChunk<'_> = Box::new(self.page.as_slice());
        Some(Box::new(std::iter::once(chunk)))
    }
}
