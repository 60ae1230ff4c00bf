//! The object of a caller in user memory, and its position.

#![forbid(unsafe_code)]

/// The size of objects and pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scale {
    /// As on a real machine.
    Full,
    /// As small as a caller's steps allow, so that every event can be tried.
    Small,
}

/// The object of a caller in user memory: a word, a register image, a buffer. It is on two pages, divided where its caller
/// chooses; a word is at the very end of the first page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// Number of its bytes on the first page.
    pub on_first_page: usize,
    /// Number of its bytes before the tail that [`InaccessibleTail`](crate::Scenario::InaccessibleTail) makes bad.
    pub before_tail: usize,
    /// The byte whose granule [`RestartGranuleBad`](crate::Scenario::RestartGranuleBad) makes bad: where the caller starts
    /// over.
    pub restart: usize,
}

impl Object {
    /// Makes an object with this number of bytes on the first page; its caller starts over at its first byte.
    pub fn new(bytes: Vec<u8>, on_first_page: usize) -> Object {
        Object { bytes, on_first_page, before_tail: 0, restart: 0 }
    }

    /// Sets the beginning of the tail: at a granule's first byte, and not at a page's.
    #[must_use]
    pub fn with_tail(self, before_tail: usize) -> Object {
        Object { before_tail, ..self }
    }

    /// Sets where the caller starts over.
    #[must_use]
    pub fn with_restart(self, restart: usize) -> Object {
        Object { restart, ..self }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether the space is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the number of pages it touches, the second one even if it does not reach it.
    pub(super) fn pages(&self, page_size: usize) -> usize {
        (self.start(page_size) + self.len()).div_ceil(page_size).max(2)
    }

    /// Returns its offset from the first page's first byte.
    ///
    /// # Panics
    /// If the requested part does not fit on the first page, or is empty.
    pub(super) fn start(&self, page_size: usize) -> usize {
        assert!((1..=page_size).contains(&self.on_first_page), "an object begins on the first page");
        page_size - self.on_first_page
    }
}
