//! A file that is truncated while it is read.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use faultin::FileMap;

use super::child::Stage;
use super::folder::Folder;
use super::plain::PlainMapping;
use super::{Missing, Scene, Stopped, Way, in_two_parts};

const LEN: usize = 4 << 20;

/// Number of bytes that are read before the file is truncated.
const FIRST: usize = 1 << 20;

/// Number of bytes that are left: not a whole number of pages.
const LEFT: usize = 1_500_000;

/// The file.
pub struct Truncated {
    path: PathBuf,
    _folder: Folder,
}

impl Truncated {
    pub fn new() -> Result<Truncated, Missing> {
        let folder = Folder::new()?;
        Ok(Truncated { path: folder.path().join("server.log"), _folder: folder })
    }
}

impl Scene for Truncated {
    fn title(&self) -> &'static str {
        "A file is truncated while a program reads it"
    }

    fn story(&self) -> String {
        format!(
            "A program has mapped a file of {LEN} bytes and has read {FIRST} of them. Then another program (one that rotates logs, \
             an editor, a download that starts again) truncates the file to {LEFT} bytes. The rest of the mapping no \
             longer has memory."
        )
    }

    fn accessible(&self) -> u64 {
        LEFT as u64
    }

    fn prepare(&self) -> Result<(), Missing> {
        fs::write(&self.path, vec![b'.'; LEN]).map_err(|error| Missing::because("a file of 4 MiB", error))
    }

    fn access(&self, way: Way, stage: &mut Stage) -> Result<Stopped, Missing> {
        match way {
            Way::Plain => {
                let file = File::open(&self.path).map_err(|error| Missing::because("opening a file", error))?;
                let plain = PlainMapping::of_file(&file, LEN, libc::PROT_READ)?;
                plain.read(0..FIRST, stage);
                stage.pause()?;
                plain.read(FIRST..LEN, stage);
                Ok(Stopped { done: LEN as u64, why: String::new() })
            }
            Way::Faultin => {
                let map = FileMap::open(&self.path).map_err(|error| Missing::because("mapping a file", error))?;
                in_two_parts(LEN, FIRST, stage, |bytes, at| map.read_exact_at(bytes, at))
            }
        }
    }

    fn remove(&self) -> io::Result<()> {
        File::options().write(true).open(&self.path)?.set_len(LEFT as u64)
    }
}
