//! A buffer that a store's alignment is content with.

#![forbid(unsafe_code)]

/// Bytes, aligned.
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

    /// The first `len` of them.
    pub(crate) fn bytes(&self, len: usize) -> &[u8] {
        &self.bytes[self.offset..self.offset + len]
    }

    /// As [`bytes`](Self::bytes).
    pub(crate) fn bytes_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.offset..self.offset + len]
    }
}
