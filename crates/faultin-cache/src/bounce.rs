//! A buffer that satisfies a store's alignment.

#![forbid(unsafe_code)]

/// An aligned buffer.
#[derive(Debug, Default)]
pub(crate) struct Bounce {
    bytes: Vec<u8>,
    offset: usize,
}

impl Bounce {
    pub(crate) fn new(len: usize, alignment: usize) -> Bounce {
        let bytes = vec![0; len + alignment - 1];
        let offset = bytes.as_ptr().addr().next_multiple_of(alignment) - bytes.as_ptr().addr();
        Bounce { bytes, offset }
    }

    /// Returns the first `len` bytes.
    pub(crate) fn bytes(&self, len: usize) -> &[u8] {
        &self.bytes[self.offset..self.offset + len]
    }

    /// Returns the first `len` bytes, mutable.
    pub(crate) fn bytes_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.offset..self.offset + len]
    }
}
