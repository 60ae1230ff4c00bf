//! Checking lists of checksums.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::hash::Hasher;
use super::name;

/// What a list says of one file.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    sum: [u8; 32],
    file: PathBuf,
}

/// Checks every file of every list; returns how many have not their checksum, or have none, or are not known because their
/// line cannot be read.
///
/// # Errors
/// Those of standard output.
pub fn check_all(lists: &[PathBuf], hasher: &Hasher, quiet: bool) -> io::Result<u64> {
    let mut failed = 0;
    for list in lists {
        let opened: io::Result<Box<dyn BufRead>> = match super::is_stdin(list) {
            true => Ok(Box::new(io::stdin().lock())),
            false => File::open(list).map(|file| Box::new(BufReader::new(file)) as _),
        };
        match opened {
            Ok(lines) => failed += check_list(list, lines, hasher, quiet)?,
            Err(error) => {
                eprintln!("faultin sum: {}: {error}", name::shown(list));
                failed += 1;
            }
        }
    }
    if failed > 0 {
        eprintln!("faultin sum: {failed} of the files did not have their checksum, or could not be checked");
    }
    Ok(failed)
}

/// Bytes of a line at most: a checksum and a path of the longest kind are a hundredth of it.
const LINE: u64 = 1 << 20;

fn check_list(list: &Path, mut lines: impl BufRead, hasher: &Hasher, quiet: bool) -> io::Result<u64> {
    let (mut out, mut failed, mut number, mut bytes) = (io::stdout().lock(), 0, 0_u64, Vec::new());
    loop {
        bytes.clear();
        number += 1;
        match lines.by_ref().take(LINE).read_until(b'\n', &mut bytes) {
            Ok(0) => return Ok(failed),
            Ok(len) if len as u64 == LINE && bytes.last() != Some(&b'\n') => {
                eprintln!("faultin sum: {}: line {number} has more than {LINE} bytes", name::shown(list));
                return Ok(failed + 1);
            }
            Ok(_) => {}
            Err(error) => {
                eprintln!("faultin sum: {}: {error}, in line {number}", name::shown(list));
                return Ok(failed + 1);
            }
        }
        let parsed = std::str::from_utf8(&bytes).map_err(|_| "not Unicode").and_then(parse);
        let Line { sum, file } = match parsed {
            Ok(line) => line,
            Err(wrong) => {
                eprintln!("faultin sum: {}: line {number} is no checksum: {wrong}", name::shown(list));
                failed += 1;
                continue;
            }
        };
        let shown = name::printed(&file).1;
        match hasher.hash(&file) {
            Ok(mut reader) => {
                let mut actual = [0; 32];
                reader.fill(&mut actual);
                if actual != sum {
                    failed += 1;
                    writeln!(out, "{shown}: FAILED")?;
                } else if !quiet {
                    writeln!(out, "{shown}: OK")?;
                }
            }
            Err(error) => {
                failed += 1;
                writeln!(out, "{shown}: FAILED ({error})")?;
            }
        }
        out.flush()?;
    }
}

/// Both styles: `checksum  name` and `BLAKE3 (name) = checksum`, escaped if it begins with a backslash.
fn parse(line: &str) -> Result<Line, &'static str> {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let (line, escaped) = line.strip_prefix('\\').map_or((line, false), |rest| (rest, true));
    let (sum, file) = match line.strip_prefix("BLAKE3 (") {
        Some(rest) => rest.rsplit_once(") = ").map(|(file, sum)| (sum, file)).ok_or("no checksum behind the name")?,
        None => line.split_once("  ").ok_or("not a checksum, two spaces and a name")?,
    };
    let sum = blake3::Hash::from_hex(sum).map_err(|_| "a checksum has 64 hexadecimal digits")?;
    Ok(Line { sum: *sum.as_bytes(), file: name::parsed(file, escaped)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    #[test]
    fn both_styles_are_read() {
        for (line, file) in [
            (format!("{SUM}  a b"), "a b"),
            (format!("{SUM}  a  b\n"), "a  b"),
            (format!("{SUM}  a\r\n"), "a"),
            (format!("\\{SUM}  a\\nb\n"), "a\nb"),
            (format!("BLAKE3 (a) = {SUM}\n"), "a"),
            (format!("BLAKE3 (a) = b) = {SUM}\n"), "a) = b"),
            (format!("\\BLAKE3 (a\\\\b) = {SUM}"), "a\\b"),
        ] {
            let parsed = parse(&line).unwrap_or_else(|wrong| panic!("{line:?}: {wrong}"));
            assert_eq!((parsed.file.as_path(), parsed.sum), (Path::new(file), *blake3::hash(b"").as_bytes()));
        }
    }

    #[test]
    fn what_is_no_checksum_is_refused_with_a_reason() {
        for (line, reason) in [
            ("\n".to_owned(), "two spaces"),
            (format!("{SUM} a"), "two spaces"),
            (format!("{SUM}  "), "no name"),
            (format!("{}  a", &SUM[1..]), "64 hexadecimal digits"),
            (format!("{SUM}00  a"), "64 hexadecimal digits"),
            ("BLAKE3 (a)".to_owned(), "behind the name"),
            (format!("\\{SUM}  a\\t"), "escape"),
        ] {
            let wrong = parse(&line).unwrap_err();
            assert!(wrong.contains(reason), "{line:?}: {wrong}");
        }
    }
}
