//! The lines of a file in `/proc`. A program with many mappings or mounts makes it long: it is never in memory as a whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};

/// No line of the kernel's is longer: a path of 4 KiB, each byte of it escaped.
const LONGEST: u64 = 64 << 10;
/// So much is read at once.
const AT_ONCE: usize = 8 << 10;

/// Goes through the lines of a file of a process, up to the first one of which `f` makes a value.
pub(super) fn find<T>(process: &OwnedFd, name: &str, f: impl FnMut(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
    let file = openat(process.as_fd(), name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(find_in(File::from(file), f)?.0)
}

/// The same for an open file; also, whether there was any line.
pub(super) fn find_in<T>(file: impl Read, mut f: impl FnMut(&[u8]) -> Option<T>) -> io::Result<(Option<T>, bool)> {
    let mut file = BufReader::with_capacity(AT_ONCE, file);
    let mut line = Vec::new();
    let mut has_lines = false;
    loop {
        line.clear();
        if file.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok((None, has_lines));
        }
        has_lines = true;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if let Some(value) = f(&line) {
            return Ok((Some(value), true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_and_long_ones_are_cut() {
        let find = |text: &[u8], begin: &[u8]| {
            find_in(text, |line| line.starts_with(begin).then(|| line.to_vec())).expect("it is in memory")
        };
        assert_eq!(find(b"a 1\nb 2\nb 3", b"b"), (Some(b"b 2".to_vec()), true));
        assert_eq!(find(b"a 1\nb 2", b"c"), (None, true));
        assert_eq!(find(b"", b""), (None, false));
        let long = vec![b'x'; 3 << 20];
        let longest = find_in(&long[..], |line| (line.len() as u64 > LONGEST).then_some(())).expect("it is in memory");
        assert_eq!(longest, (None, true));
    }
}
