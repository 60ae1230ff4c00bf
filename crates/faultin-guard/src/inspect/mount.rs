//! Where a file's file system is mounted, and what it is.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use super::lines;
use crate::fault::Mount;

/// Finds the mount of an open file, as its process sees it.
pub(super) fn find(process: &OwnedFd, file: &OwnedFd) -> Option<Mount> {
    let begin = format!("{} ", id(file)?);
    lines::find(process, "mountinfo", |line| line.starts_with(begin.as_bytes()).then(|| parse(line))).ok()??
}

/// The number of the mount that an open file is on. (`statx` has it, too, except on older kernels, and where a filter or
/// an emulator keeps it back.)
fn id(file: &OwnedFd) -> Option<u64> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    about.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

fn parse(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    // A list of optional fields ends with a hyphen.
    let hyphen = words.iter().skip(6).position(|word| *word == b"-")? + 6;
    Some(Mount {
        point: unescape(words.get(4)?),
        kind: String::from_utf8_lossy(words.get(hyphen + 1)?).into_owned(),
        source: unescape(words.get(hyphen + 2)?),
    })
}

/// Blanks, newlines and backslashes are three octal digits.
fn unescape(word: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, after @ ..] = rest {
        let digits = (*first == b'\\').then(|| after.get(..3)).flatten();
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match byte {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_parsed() {
        let text = b"12 1 0:5 / /a\\040b\\134c rw,nosuid shared:5 master:1 - tmpfs t\\012x rw,size=1024k";
        let mount = parse(text).expect("it is one");
        assert_eq!((mount.point, &*mount.kind, mount.source), ("/a b\\c".into(), "tmpfs", "t\nx".into()));
        assert_eq!(parse(b"12 1 0:5 / /a rw shared:5"), None);
    }

    #[test]
    fn the_mount_of_this_file_is_found() {
        let process = rustix::fs::open("/proc/self", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("/proc");
        let file = File::open("/proc/self/status").expect("/proc");
        let mount = find(&process, &file.into()).expect("/proc is mounted");
        assert_eq!((mount.kind.as_str(), mount.point), ("proc", "/proc".into()));
    }
}
