//! Puts files together: `gather OUT FILE...` appends each FILE to OUT and says how much of it.
//!
//! The files are mapped, not read: their pages go from one cache to the other without a copy in between. Others may cut them
//! meanwhile, and a disk may fail. Then what could be read is in OUT, to the byte, and counted; nobody dies.

use std::env::args_os;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::ExitCode;

use faultin::ReadView;
use faultin::iov::IovSource;
use faultin_cache::store::FileStore;
use faultin_cache::{CacheOptions, CachedFile};
use memmap2::Mmap;

fn main() -> ExitCode {
    let mut names = args_os().skip(1).map(PathBuf::from);
    let (Some(out), files) = (names.next(), names.collect::<Vec<_>>()) else {
        eprintln!("usage: gather OUT FILE...");
        return ExitCode::FAILURE;
    };
    match gather(&out, &files) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}: {error}", out.display());
            ExitCode::FAILURE
        }
    }
}

/// Whether all of every file is in `out`.
fn gather(out: &PathBuf, files: &[PathBuf]) -> Result<bool, Box<dyn Error>> {
    let disk = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(out)?;
    let gathered = CacheOptions::new().limit(64 << 20).build().open(FileStore::new(disk)?)?;
    let mut whole = true;
    for name in files {
        match append(&gathered, name) {
            Ok(bytes) => println!("{}: {bytes} bytes", name.display()),
            Err(why) => {
                eprintln!("{}: {why}", name.display());
                whole = false;
            }
        }
    }
    gathered.sync_all()?;
    Ok(whole)
}

fn append(gathered: &CachedFile, name: &PathBuf) -> Result<usize, Box<dyn Error>> {
    // SAFETY: nobody looks at the mapping but the view below, which allows for everything that can happen to it.
    let map = unsafe { Mmap::map(&File::open(name)?)? };
    // SAFETY: the mapping stays until the view is gone.
    let view = unsafe { ReadView::new(map.as_ptr(), map.len()) }?;
    Ok(gathered.append_iter(&mut IovSource::one(view))?)
}
