//! What a program has in it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The longest table of names that is read.
const LONGEST: u64 = 8 << 20;

/// Among the names of libraries and symbols of a program that searches itself for leaks when it ends.
const LEAKS: [&[u8]; 3] = [b"\0liblsan.so", b"\0libasan.so", b"\0__lsan_"];

/// Whether a program has LeakSanitizer in it, as far as its dynamic names tell.
pub(super) fn searches_for_leaks(path: &Path) -> bool {
    names(path).is_ok_and(|names| {
        let has = |name: &[u8]| names.windows(name.len()).any(|window| window == name);
        LEAKS.iter().any(|name| has(name))
    })
}

/// The dynamic string table of a program; empty if it has none.
fn names(path: &Path) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0)?;
    let native = if cfg!(target_endian = "little") { 1 } else { 2 };
    if header[..6] != [0x7f, b'E', b'L', b'F', 2, native] {
        return Ok(Vec::new());
    }
    const SEGMENT: usize = 56;
    let (place, size, count) = (number(&header, 32, 8), number(&header, 54, 2), number(&header, 56, 2));
    if size != SEGMENT as u64 {
        return Ok(Vec::new());
    }
    let mut segments = vec![0; SEGMENT * count as usize];
    file.read_exact_at(&mut segments, place)?;
    let segments = || segments.chunks_exact(SEGMENT);
    let of_kind = |kind| segments().filter(move |segment| number(segment, 0, 4) == kind);
    let (load, dynamic) = (1, 2);
    let Some(dynamic) = of_kind(dynamic).next() else { return Ok(Vec::new()) };
    let mut entries = vec![0; number(dynamic, 32, 8).min(LONGEST) as usize];
    file.read_exact_at(&mut entries, number(dynamic, 8, 8))?;
    let entry = |tag| entries.chunks_exact(16).find(|entry| number(entry, 0, 8) == tag);
    let (Some(table), Some(len)) = (entry(5), entry(10)) else { return Ok(Vec::new()) };
    let (address, len) = (number(table, 8, 8), number(len, 8, 8).min(LONGEST));
    let place = of_kind(load).find_map(|segment| {
        let (offset, start, len) = (number(segment, 8, 8), number(segment, 16, 8), number(segment, 32, 8));
        let inside = address.checked_sub(start).filter(|inside| *inside < len)?;
        offset.checked_add(inside)
    });
    let Some(place) = place else { return Ok(Vec::new()) };
    let mut names = vec![0; len as usize];
    file.read_exact_at(&mut names, place)?;
    Ok(names)
}

/// Opens a regular file, and nothing else: to open a device or a pipe may have an effect.
fn open(path: &Path) -> io::Result<File> {
    let place = File::options().read(true).custom_flags(libc::O_PATH).open(path)?;
    if !place.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

/// A number of up to 8 bytes; 0 where there are none.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut number = [0; 8];
    let Some(bytes) = bytes.get(at..at + len) else { return 0 };
    if cfg!(target_endian = "little") {
        number[..len].copy_from_slice(bytes);
    } else {
        number[8 - len..].copy_from_slice(bytes);
    }
    u64::from_ne_bytes(number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[cfg(target_env = "gnu")]
    #[test]
    fn the_names_of_this_program_are_found() {
        let this = std::env::current_exe().expect("this program");
        let names = names(&this).expect("read");
        assert!(names.windows(9).any(|name| name == b"\0libc.so."), "it is linked with the C library");
        assert!(!searches_for_leaks(&this));
    }

    proptest::proptest! {
        /// A program may be anything, and be written to meanwhile.
        #[test]
        fn any_file_is_read(
            changes: Vec<(proptest::sample::Index, u8)>,
            len in proptest::option::of(0_u64..600),
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("program");
            let mut start = vec![0; 1024];
            let this = std::env::current_exe().expect("this program");
            File::open(&this).expect("open").read_exact_at(&mut start, 0).expect("read");
            for (index, byte) in changes {
                let index = index.index(start.len());
                start[index] = byte;
            }
            std::fs::write(&path, &start).expect("write");
            if let Some(len) = len {
                File::options().write(true).open(&path).expect("open").set_len(len).expect("truncate");
            }
            let _ = names(&path);
        }
    }

    #[test]
    fn nothing_but_files_is_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let name = std::ffi::CString::new(pipe.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: the name is a string that outlives the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert!(!searches_for_leaks(&pipe));
        assert!(!searches_for_leaks(Path::new("/dev/zero")));
        assert!(!searches_for_leaks(folder.path()));
    }
}
