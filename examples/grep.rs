//! A grep: prints the lines of files that contain a string, at the speed of a mapping, and survives changes of the files.
//!
//! `cargo run --example grep -- STRING FILE…` searches files; without arguments it searches one that is truncated after the
//! first line was found.

use std::io::{BufRead, Read, Write};
use std::path::Path;

use faultin::{FileMap, FileReader, MapError};

/// Maximum number of bytes of a line that are kept: a file may be one line of any length.
const LINE: u64 = 64 << 20;

/// Calls `found` with the position and the bytes of each line that contains `needle`.
fn grep(path: &Path, needle: &[u8], mut found: impl FnMut(u64, &[u8])) -> Result<(), MapError> {
    let map = FileMap::open(path)?;
    let mut at = 0;
    while let Some(hit) = map.find(needle, at..)? {
        let start = map.rfind(b"\n", at..hit)?.map_or(at, |newline| newline + 1);
        let end = map.find_any([b'\n'], hit..)?.unwrap_or(map.len());
        // (The beginning of a line that is longer.)
        let mut line = vec![0; (end - start).min(LINE) as usize];
        map.read_exact_at(&mut line, start)?;
        found(start, &line);
        at = end + 1;
    }
    Ok(())
}

/// Does the same for a source without a size to map: a pipe, or a file of /proc or /sys.
fn grep_stream(path: &Path, needle: &[u8], mut found: impl FnMut(u64, &[u8])) -> std::io::Result<()> {
    let (mut reader, mut line, mut at) = (FileReader::open(path)?, Vec::new(), 0);
    while reader.by_ref().take(LINE).read_until(b'\n', &mut line)? > 0 {
        if line.len() as u64 == LINE && line.last() != Some(&b'\n') {
            return Err(std::io::Error::other(format!("{}: the line at byte {at} is too long", path.display())));
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if needle.is_empty() || text.windows(needle.len()).any(|window| window == needle) {
            found(at, text);
        }
        at += line.len() as u64;
        line.clear();
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let print = |at: u64, line: &[u8]| {
        let mut out = std::io::stdout().lock();
        // The reader may have closed the pipe.
        let _ = write!(out, "{at}: ").and_then(|()| out.write_all(line)).and_then(|()| out.write_all(b"\n"));
    };
    let Some(needle) = arguments.next() else {
        let files = tempfile::tempdir()?;
        let path = files.path().join("log");
        std::fs::write(&path, "all is well\nan error\n".repeat(10_000))?;
        let result = grep(&path, b"error", |at, line| {
            print(at, line);
            std::fs::write(&path, "rotated\n").expect("write it again");
        });
        match result {
            Ok(()) => println!("nothing happened"),
            Err(error) => println!("{error}"),
        }
        return Ok(());
    };
    let mut failed = false;
    for path in arguments {
        let (path, needle) = (Path::new(&path), needle.as_encoded_bytes());
        let result = match grep(path, needle, print) {
            Err(error) if error.is_stream() => grep_stream(path, needle, print),
            other => other.map_err(MapError::into_io),
        };
        if let Err(error) = result {
            eprintln!("{error}");
            failed = true;
        }
    }
    std::process::exit(i32::from(failed));
}
