//! Checking lists of checksums.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::hash::{HashError, Hasher};
use super::{complain, name};

/// A line of a list.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    sum: blake3::Hash,
    file: PathBuf,
    /// The prefix of the name's line and the name, as they are in the list.
    shown: (&'static str, &'a str),
}

/// Checks every file of every list. Returns the number of files that have another checksum or none, and of unreadable
/// lines.
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
                complain(format_args!("{}: {error}", name::shown(list)));
                failed += 1;
            }
        }
    }
    if failed > 0 {
        complain(format_args!("{failed} of the files or lines have no checksum that agrees"));
    }
    Ok(failed)
}

/// Maximum number of bytes of a line: a checksum and a path of the longest kind are a hundredth of it.
const LINE: u64 = 1 << 20;

fn check_list(list: &Path, mut lines: impl BufRead, hasher: &Hasher, quiet: bool) -> io::Result<u64> {
    let (mut out, mut failed, mut number, mut bytes) = (io::stdout().lock(), 0, 0_u64, Vec::new());
    loop {
        bytes.clear();
        number += 1;
        match lines.by_ref().take(LINE).read_until(b'\n', &mut bytes) {
            Ok(0) => return Ok(failed),
            Ok(len) if len as u64 == LINE && bytes.last() != Some(&b'\n') => {
                complain(format_args!("{}: line {number} has more than {LINE} bytes", name::shown(list)));
                return Ok(failed + 1);
            }
            Ok(_) => {}
            Err(error) => {
                complain(format_args!("{}: {error}, in line {number}", name::shown(list)));
                return Ok(failed + 1);
            }
        }
        let parsed = std::str::from_utf8(&bytes).map_err(|_| "not Unicode").and_then(parse);
        let Line { sum, file, shown: (escaped, name) } = match parsed {
            Ok(line) => line,
            Err(wrong) => {
                complain(format_args!("{}: line {number} is no checksum: {wrong}", name::shown(list)));
                failed += 1;
                continue;
            }
        };
        match hasher.hash(&file) {
            Ok(mut reader) => {
                let mut actual = [0; 32];
                reader.fill(&mut actual);
                let shown = name::for_output(name);
                if sum != actual {
                    failed += 1;
                    writeln!(out, "{escaped}{shown}: FAILED")?;
                } else if !quiet {
                    writeln!(out, "{escaped}{shown}: OK")?;
                }
            }
            Err(error) => {
                failed += 1;
                // Unlike the name of a URL that has a checksum, this one may have secrets.
                let (escaped, name) = match &error {
                    HashError::Object(error) => name::printed(Path::new(&error.name)),
                    _ => (escaped, crate::url::told(name).into_owned()),
                };
                writeln!(out, "{escaped}{}: FAILED ({error})", name::for_output(&name))?;
            }
        }
        out.flush()?;
    }
}

/// Parses both styles: `checksum  name` and `BLAKE3 (name) = checksum`, escaped if the line begins with a backslash. A line
/// end in a name is escaped, so all line ends after the last character belong to the list.
fn parse(line: &str) -> Result<Line<'_>, &'static str> {
    let line = line.trim_end_matches(['\n', '\r']);
    let (escaped, line) = line.strip_prefix('\\').map_or(("", line), |rest| ("\\", rest));
    let (sum, name) = match line.strip_prefix("BLAKE3 (") {
        Some(rest) => rest.rsplit_once(") = ").map(|(name, sum)| (sum, name)).ok_or("no checksum after the name")?,
        None => line.split_once("  ").ok_or("not a checksum, two spaces and a name")?,
    };
    let sum = blake3::Hash::from_hex(sum).ok().filter(|hash| hash.to_hex().as_str() == sum);
    let sum = sum.ok_or("a checksum has 64 hexadecimal digits, in lower case")?;
    Ok(Line { sum, file: name::parsed(name, !escaped.is_empty())?, shown: (escaped, name) })
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
            (format!("{SUM}  a\n\r\r\n"), "a"),
            (format!("{SUM}   \t\r\n\n\r \t\r\n\n\r"), " \t\r\n\n\r \t"),
            (format!("{SUM}   "), " "),
            (format!("{SUM}  fo\\a\\no"), "fo\\a\\no"),
            (format!("\\{SUM}  fo\\r\\n\\n\\ro"), "fo\r\n\n\ro"),
            (format!("{SUM}  否认"), "否认"),
            (format!("\\{SUM}  a\\nb\n"), "a\nb"),
            (format!("BLAKE3 (a) = {SUM}\n"), "a"),
            (format!("BLAKE3 (a) = b) = {SUM}\n"), "a) = b"),
            (format!("\\BLAKE3 (a\\\\b) = {SUM}"), "a\\b"),
        ] {
            let parsed = parse(&line).unwrap_or_else(|wrong| panic!("{line:?}: {wrong}"));
            assert_eq!((parsed.file.as_path(), parsed.sum), (Path::new(file), blake3::hash(b"")));
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
            (format!("{}  a", SUM.to_uppercase()), "lower case"),
            ("BLAKE3 (a)".to_owned(), "after the name"),
            (format!("\\{SUM}  a\\t"), "escape"),
        ] {
            let wrong = parse(&line).unwrap_err();
            assert!(wrong.contains(reason), "{line:?}: {wrong}");
        }
    }
}
