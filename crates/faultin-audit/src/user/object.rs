//! What a caller keeps in user memory, and where it lies there.

#![forbid(unsafe_code)]

/// How large objects and pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scale {
    /// As on a real machine.
    Full,
    /// As small as a caller's steps allow, so that everything that can happen can be tried.
    Small,
}

/// What a caller keeps in user memory: a word, a register image, a buffer. It lies across two pages, divided where its
/// caller says; a word lies at the very end of the first page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// How many of them lie on the first page.
    pub on_first_page: usize,
    /// How many lie in front of the tail that [`InaccessibleTail`](crate::Scenario::InaccessibleTail) makes bad.
    pub before_tail: usize,
    /// The byte of which [`RestartGranuleBad`](crate::Scenario::RestartGranuleBad) makes the granule bad: where the caller
    /// starts over.
    pub restart: usize,
}

impl Object {
    /// An object of which so many bytes lie on the first page; its caller starts over at its first byte.
    pub fn new(bytes: Vec<u8>, on_first_page: usize) -> Object {
        Object { bytes, on_first_page, before_tail: 0, restart: 0 }
    }

    /// The tail begins here: at a granule's first byte, and not at a page's.
    #[must_use]
    pub fn with_tail(self, before_tail: usize) -> Object {
        Object { before_tail, ..self }
    }

    /// The caller starts over here.
    #[must_use]
    pub fn with_restart(self, restart: usize) -> Object {
        Object { restart, ..self }
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Pages it touches, the second one even if it does not reach it.
    pub(super) fn pages(&self, page_size: usize) -> usize {
        (self.start(page_size) + self.len()).div_ceil(page_size).max(2)
    }

    /// Where it lies, from the first page's first byte.
    ///
    /// # Panics
    /// If more bytes shall lie on the first page than fit, or none.
    pub(super) fn start(&self, page_size: usize) -> usize {
        assert!((1..=page_size).contains(&self.on_first_page), "an object begins on the first page");
        page_size - self.on_first_page
    }
}
