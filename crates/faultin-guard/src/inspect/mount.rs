//! Where a file's file system is mounted, and what it is.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{Mode, OFlags, openat};

use crate::fault::Mount;

/// Finds the mount of an open file, as its process sees it.
pub(super) fn find(process: &OwnedFd, file: &OwnedFd) -> Option<Mount> {
    let id = id(file)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = Vec::new();
    File::from(openat(process.as_fd(), "mountinfo", flags, Mode::empty()).ok()?).read_to_end(&mut text).ok()?;
    search(&text, id)
}

/// The number of the mount that an open file is on. (`statx` has it, too, except on older kernels, and where a filter or
/// an emulator keeps it back.)
fn id(file: &OwnedFd) -> Option<u64> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    about.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

fn search(text: &[u8], id: u64) -> Option<Mount> {
    let id = id.to_string();
    let line = text
        .split(|&byte| byte == b'\n')
        .find(|line| line.strip_prefix(id.as_bytes()).is_some_and(|rest| rest.first() == Some(&b' ')))?;
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
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_parsed() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/a rw\n\
            12 1 0:5 / /a\\040b\\134c rw,nosuid shared:5 master:1 - tmpfs t\\012x rw,size=1024k\n";
        let mount = search(text, 12).expect("it is there");
        assert_eq!((mount.point, &*mount.kind, mount.source), ("/a b\\c".into(), "tmpfs", "t\nx".into()));
        assert_eq!(search(text, 2), None);
    }

    #[test]
    fn the_mount_of_this_file_is_found() {
        let process = rustix::fs::open("/proc/self", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("/proc");
        let file = File::open("/proc/self/status").expect("/proc");
        let mount = find(&process, &file.into()).expect("/proc is mounted");
        assert_eq!((mount.kind.as_str(), mount.point), ("proc", "/proc".into()));
    }
}
