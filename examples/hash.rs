//! A hash tool of ten lines that no change of the file kills.
//!
//! `cargo run --example hash -- FILE…` hashes files; without one it hashes a file that is truncated meanwhile. Errors go to standard
//! error, and the exit status is then 1.

use std::process::ExitCode;

use faultin::{MapError, MapOptions, map::Watch};

fn hash(path: &str) -> Result<blake3::Hash, MapError> {
    let map = MapOptions::new().watch(Watch::Contents).open(path)?;
    let mut hasher = blake3::Hasher::new();
    map.chunks(..).of(64 << 10).for_each(|bytes| {
        hasher.update(bytes);
    })?;
    Ok(hasher.finalize())
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    let files = tempfile::tempdir()?;
    if paths.is_empty() {
        let path = files.path().join("data");
        std::fs::write(&path, vec![7; 256 << 20])?;
        let file = std::fs::File::options().write(true).open(&path)?;
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(10));
            file.set_len(5000)
        });
        paths.push(path.display().to_string());
    }
    let mut status = ExitCode::SUCCESS;
    for path in paths {
        let hashed = match hash(&path) {
            Err(error) if error.is_stream() => hash_stream(&path),
            other => other.map_err(Into::into),
        };
        match hashed {
            Ok(hash) => println!("{hash}  {path}"),
            Err(error) => {
                eprintln!("{error}");
                status = ExitCode::FAILURE;
            }
        }
    }
    Ok(status)
}

/// Hashes a source without a size to map: a pipe, or a file of /proc or /sys.
fn hash_stream(path: &str) -> Result<blake3::Hash, Box<dyn std::error::Error>> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(faultin::FileReader::open(path)?)?;
    Ok(hasher.finalize())
}
