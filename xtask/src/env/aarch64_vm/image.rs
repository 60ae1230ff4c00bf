//! The first file system of a machine: an archive in the format `newc` of cpio, which the kernel unpacks into memory.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;

/// An archive that is being written. Everything in it belongs to root.
pub(super) struct Image<W: Write> {
    out: W,
    written: usize,
    files: u32,
    folders: HashSet<PathBuf>,
}

impl Image<BufWriter<File>> {
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Image::new(BufWriter::new(File::create(path)?)))
    }
}

impl<W: Write> Image<W> {
    pub fn new(out: W) -> Self {
        Image { out, written: 0, files: 0, folders: HashSet::new() }
    }

    /// Adds a file with the permissions `mode`, and the folders that it is in. `path` is absolute.
    pub fn file(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, FILE | mode & 0o7777, bytes)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &Path, to: &Path) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, LINK, to.as_os_str().as_bytes())
    }

    /// Adds a folder, and those that it is in.
    pub fn folder(&mut self, path: &Path) -> io::Result<()> {
        self.parents(&path.join("x"))
    }

    /// Adds a file of this system.
    pub fn copy(&mut self, path: &Path, from: &Path) -> io::Result<()> {
        self.file(path, fs::metadata(from)?.permissions().mode(), &fs::read(from)?)
    }

    /// Adds everything below a folder of this system as what is below `to`, except the paths in `leave_out`.
    pub fn tree(&mut self, root: &Path, to: &Path, leave_out: &[&str]) -> io::Result<()> {
        let mut left = vec![to.to_owned()];
        while let Some(folder) = left.pop() {
            let here = |path: &Path| root.join(path.strip_prefix(to).unwrap_or(path));
            self.folder(&folder)?;
            let mut entries: Vec<_> = fs::read_dir(here(&folder))?.collect::<Result<_, _>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let path = folder.join(entry.file_name());
                let kind = entry.file_type()?;
                if leave_out.iter().any(|out| path == Path::new(out)) {
                } else if kind.is_dir() {
                    left.push(path);
                } else if kind.is_symlink() {
                    self.link(&path, &fs::read_link(entry.path())?)?;
                } else if kind.is_file() {
                    self.copy(&path, &entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry(Path::new("/TRAILER!!!"), 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents(&mut self, path: &Path) -> io::Result<()> {
        let mut parents: Vec<&Path> = path.ancestors().skip(1).filter(|parent| parent.parent().is_some()).collect();
        parents.reverse();
        for parent in parents {
            if self.folders.insert(parent.to_owned()) {
                self.entry(parent, FOLDER, &[])?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
        let size = u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.files += 1;
        // Number, mode, owner, group, links, time, size, two devices, the length of the name with its NUL, and no checksum.
        let fields = [self.files, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        let mut header = String::from("070701");
        for field in fields {
            header += &format!("{field:08x}");
        }
        self.put(header.as_bytes())?;
        self.put(name)?;
        self.put(&[0])?;
        self.align()?;
        self.put(bytes)?;
        self.align()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn align(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(4) - self.written;
        self.put(&[0; 3][..missing])
    }
}

/// Bytes of a file on the disk.
pub(super) fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.size())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Name, mode and contents of each entry.
    fn read(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&archive[at..at + 6], b"070701");
            let field = |number: usize| {
                let start = at + 6 + number * 8;
                let text = std::str::from_utf8(&archive[start..start + 8]).expect("digits");
                u32::from_str_radix(text, 16).expect("a number") as usize
            };
            let (mode, size, name_len) = (field(1), field(6), field(11));
            let name = String::from_utf8(archive[at + 110..at + 109 + name_len].to_vec()).expect("a name");
            assert_eq!(archive[at + 109 + name_len], 0);
            let start = (at + 110 + name_len).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(start, archive.len());
                return entries;
            }
            entries.push((name, mode as u32, archive[start..start + size].to_vec()));
            at = (start + size).next_multiple_of(4);
        }
    }

    #[test]
    fn an_archive_has_each_folder_once_and_before_its_files() {
        let root = crate::env::target().join(format!("image.{}", std::process::id()));
        fs::create_dir_all(root.join("usr/share/doc")).expect("make folders");
        fs::write(root.join("usr/share/doc/left-out"), "text").expect("write");
        fs::write(root.join("usr/tool"), "five!").expect("write");
        fs::set_permissions(root.join("usr/tool"), fs::Permissions::from_mode(0o755)).expect("permissions");
        symlink("tool", root.join("usr/link")).expect("link");
        let mut image = Image::new(Vec::new());
        image.tree(&root, Path::new("/"), &["/usr/share/doc"]).expect("read");
        image.file(Path::new("/usr/share/a/b"), 0o644, b"b").expect("write");
        image.folder(Path::new("/usr/share")).expect("write");
        let archive = image.finish().expect("write");
        fs::remove_dir_all(&root).expect("remove");
        let entries = read(&archive);
        let expected = [
            ("usr", FOLDER, ""),
            ("usr/link", LINK, "tool"),
            ("usr/tool", FILE | 0o755, "five!"),
            ("usr/share", FOLDER, ""),
            ("usr/share/a", FOLDER, ""),
            ("usr/share/a/b", FILE | 0o644, "b"),
        ];
        let found: Vec<(&str, u32, &str)> = entries
            .iter()
            .map(|(name, mode, bytes)| (&**name, *mode, std::str::from_utf8(bytes).expect("text")))
            .collect();
        assert_eq!(found, expected);
    }
}
