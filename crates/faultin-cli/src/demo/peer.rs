//! Shared memory that the process at the other end shrinks.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use faultin::{map::Rights, shared::SharedMap};

use super::child::Stage;
use super::plain::PlainMapping;
use super::{Missing, Scene, Stopped, Way, in_two_parts};

const LEN: usize = 1 << 20;

/// Number of bytes that are read before the memory shrinks.
const FIRST: usize = 256 << 10;

/// Number of bytes that are left.
const LEFT: usize = 300_000;

/// The memory, in its owner, this process. The child that accesses it inherits the descriptor.
pub struct Shrinks(File);

impl Shrinks {
    pub fn new() -> Result<Shrinks, Missing> {
        // SAFETY: makes a descriptor.
        let fd = unsafe { libc::memfd_create(c"faultin-demo".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(Missing::because("memory to share (memfd_create)", io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was made above, and has no other owner.
        Ok(Shrinks(unsafe { OwnedFd::from_raw_fd(fd) }.into()))
    }
}

impl Scene for Shrinks {
    fn title(&self) -> &'static str {
        "A process shrinks the memory that it shares"
    }

    fn story(&self) -> String {
        format!(
            "A server (a compositor, an audio server, a database) reads a buffer of {LEN} bytes that a client shares with it. After \
             the server has read {FIRST} bytes, the client shrinks the buffer to {LEFT} bytes, by mistake or as an \
             attack. A server that reads through a plain mapping dies, for all its clients."
        )
    }

    fn accessible(&self) -> u64 {
        LEFT as u64
    }

    fn prepare(&self) -> Result<(), Missing> {
        let grown = self.0.set_len(0).and_then(|()| self.0.set_len(LEN as u64));
        grown.map_err(|error| Missing::because("memory to share", error))
    }

    fn access(&self, way: Way, stage: &mut Stage) -> Result<Stopped, Missing> {
        match way {
            Way::Plain => {
                let plain = PlainMapping::of_file(&self.0, LEN, libc::PROT_READ)?;
                plain.read(0..FIRST, stage);
                stage.pause()?;
                plain.read(FIRST..LEN, stage);
                Ok(Stopped { done: LEN as u64, why: String::new() })
            }
            Way::Faultin => {
                let file = self.0.try_clone().map_err(|error| Missing::because("a descriptor", error))?;
                let shared = SharedMap::from_file(file, LEN, Rights::Read);
                let shared = shared.map_err(|error| Missing::because("sharing memory", error))?;
                // As many as there are: an exact read past the end would read nothing.
                in_two_parts(LEN, FIRST, stage, |bytes, at| shared.read_at(bytes, at).map(drop))
            }
        }
    }

    fn remove(&self) -> io::Result<()> {
        self.0.set_len(LEFT as u64)
    }
}
