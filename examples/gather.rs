//! Concatenates files: `gather OUT FILE...` appends each FILE to OUT and reports how much of it.
//!
//! The files are mapped: a map can be the source of the cache's writes like any buffer, without `unsafe` and without
//! another crate. Other processes may truncate the files meanwhile, and a disk may fail. Then the readable bytes are in
//! OUT, exactly, and counted; the process survives. A source without a size to map (a pipe, a file of /proc) is read as a
//! stream.

#![forbid(unsafe_code)]

use std::env::args_os;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use faultin::iov::IovSource;
use faultin::{FileMap, FileReader};
use faultin_cache::store::FileStore;
use faultin_cache::{CacheOptions, CachedFile};

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

/// Returns whether all of every file is in `out`.
fn gather(out: &PathBuf, files: &[PathBuf]) -> Result<bool, Box<dyn Error>> {
    let disk = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(out)?;
    let gathered = CacheOptions::new().limit(64 << 20).build().open(FileStore::new(disk)?)?;
    let mut whole = true;
    for name in files {
        match append(&gathered, name) {
            Ok(bytes) => println!("{}: {bytes} bytes", name.display()),
            Err(why) => {
                eprintln!("{why}");
                whole = false;
            }
        }
    }
    gathered.sync_all()?;
    Ok(whole)
}

fn append(gathered: &CachedFile, name: &Path) -> Result<usize, Box<dyn Error>> {
    let map = match FileMap::open(name) {
        Err(error) if error.is_stream() => return append_stream(gathered, name),
        map => map?,
    };
    let source = map.source(..);
    let appended = gathered.append_iter(&mut IovSource::one(source.clone()));
    Ok(appended.map_err(|partial| match source.take_error() {
        // The map's error says more than the fault.
        Some(why) => format!("{} bytes, then: {why}", partial.done),
        None => format!("{}: {partial}", name.display()),
    })?)
}

fn append_stream(gathered: &CachedFile, name: &Path) -> Result<usize, Box<dyn Error>> {
    let (mut reader, mut done) = (FileReader::open(name)?, 0);
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(done);
        }
        let appended = gathered.append(bytes)?;
        done += appended;
        reader.consume(appended);
    }
}
