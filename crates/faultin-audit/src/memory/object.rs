//! A graphics driver's buffer object: memory of a device's, here pages of a memfd, which a driver writes through its own
//! mapping.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use faultin::{WriteView, page_size};

use super::mapping::{Protection, Reservation, memfd};

/// A buffer object of one page.
#[derive(Debug)]
pub struct BufferObject {
    file: File,
    mapping: Reservation,
}

impl BufferObject {
    /// An object of zeros.
    ///
    /// # Errors
    /// What the kernel says to a mapping.
    pub fn new() -> io::Result<BufferObject> {
        let file = memfd("buffer object")?;
        file.set_len(page_size() as u64)?;
        let mapping = Reservation::new(1)?;
        mapping.map(0, &file, Protection::ReadWrite)?;
        Ok(BufferObject { file, mapping })
    }

    /// The driver's mapping.
    ///
    /// # Errors
    /// If the handler cannot be installed.
    pub fn mapped(&self) -> io::Result<WriteView<'_>> {
        self.mapping.write()
    }

    /// Every byte of the object, as the device would see them.
    ///
    /// # Errors
    /// If the memfd cannot be read.
    pub fn contents(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; page_size()];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}
