//! The mapping of an address, from /proc/self/maps.

use super::sys::Descriptor;

/// The largest length of a name that is kept.
pub(super) const NAME: usize = 1024;

/// A mapping, and the name that the kernel gives for it.
pub(super) struct Region {
    pub start: u64,
    pub end: u64,
    /// The offset in the file where it begins.
    pub offset: u64,
    pub device: (u32, u32),
    pub inode: u64,
    pub is_shared: bool,
    name: [u8; NAME],
    name_len: usize,
    pub is_deleted: bool,
}

/// The line of a mapping as it is read, byte by byte.
#[derive(Default)]
struct Line {
    fields: [u64; 6],
    field: usize,
    is_shared: bool,
}

impl Region {
    pub(super) const fn new() -> Region {
        Region {
            start: 0,
            end: 0,
            offset: 0,
            device: (0, 0),
            inode: 0,
            is_shared: false,
            name: [0; NAME],
            name_len: 0,
            is_deleted: false,
        }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name[..self.name_len]
    }

    /// Reads the mapping at `address` into this; returns whether there is one.
    pub(super) fn find(&mut self, address: u64, buffer: &mut [u8]) -> bool {
        let Some(maps) = Descriptor::open(c"/proc/self/maps", libc::O_RDONLY) else { return false };
        let mut line = Line::default();
        self.name_len = 0;
        loop {
            let len = maps.read(buffer);
            match buffer.get(..len) {
                None | Some([]) => return false,
                Some(part) if self.find_in(address, &mut line, part) => return true,
                Some(_) => {}
            }
        }
    }

    /// Continues in the next part of the lines; returns whether the mapping is there.
    fn find_in(&mut self, address: u64, line: &mut Line, part: &[u8]) -> bool {
        for &byte in part {
            if byte != b'\n' {
                self.take(line, byte);
                continue;
            }
            let [start, end, offset, major, minor, inode] = line.fields;
            if (start..end).contains(&address) {
                (self.start, self.end, self.offset) = (start, end, offset);
                (self.device, self.inode) = ((major as u32, minor as u32), inode);
                self.is_shared = line.is_shared;
                self.end_name();
                return true;
            }
            *line = Line::default();
            self.name_len = 0;
        }
        false
    }

    /// Takes a byte of a line: `start-end rwxp offset major:minor inode   name`.
    fn take(&mut self, line: &mut Line, byte: u8) {
        // The index of each field in `fields`; 6 for the rights.
        const FIELDS: [usize; 7] = [0, 1, 6, 2, 3, 4, 5];
        let digit = |byte: u8| (byte as char).to_digit(16).map(u64::from);
        match (line.field, byte) {
            (0, b'-') | (1..=3, b' ') | (4, b':') | (5 | 6, b' ') => line.field += 1,
            (2, b's') => line.is_shared = true,
            // The inode is decimal.
            (6, b'0'..=b'9') => line.fields[5] = line.fields[5].wrapping_mul(10).wrapping_add(u64::from(byte - b'0')),
            (field @ (0 | 1 | 3 | 4 | 5), byte) => {
                let value = &mut line.fields[FIELDS[field]];
                *value = value.wrapping_mul(16).wrapping_add(digit(byte).unwrap_or(0));
            }
            (7.., byte) => {
                let is_blank = byte == b' ' && self.name_len == 0;
                if !is_blank && self.name_len < NAME {
                    self.name[self.name_len] = byte;
                    self.name_len += 1;
                }
            }
            _ => {}
        }
    }

    /// Separates what the kernel has added to the name, and replaces its escapes.
    fn end_name(&mut self) {
        const DELETED: &[u8] = b" (deleted)";
        self.is_deleted = self.name().ends_with(DELETED);
        if self.is_deleted {
            self.name_len -= DELETED.len();
        }
        // A line feed in a name is `\012`.
        let (mut to, mut from) = (0, 0);
        while from < self.name_len {
            let is_escape = self.name[from..self.name_len].starts_with(b"\\012");
            self.name[to] = if is_escape { b'\n' } else { self.name[from] };
            (to, from) = (to + 1, from + if is_escape { 4 } else { 1 });
        }
        self.name_len = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"00400000-00401000 r--p 00000000 fd:01 5242881                            /usr/bin/cat\n\
        7f0000000000-7f0000010000 rw-s 00003000 00:19 1073741824                 /dev/shm/a b\\012c (deleted)\n\
        7f0000010000-7f0000011000 rw-p 00000000 00:00 0 \n\
        7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n";

    /// Looks for an address, in parts of this many bytes.
    fn found(address: u64, part: usize) -> Option<Region> {
        let (mut region, mut line) = (Region::new(), Line::default());
        MAPS.chunks(part).any(|part| region.find_in(address, &mut line, part)).then_some(region)
    }

    #[test]
    fn a_mapping_is_found_however_its_line_is_cut() {
        for part in 1..=MAPS.len() {
            let region = found(0x7f00_0000_ffff, part).unwrap();
            assert_eq!((region.start, region.end, region.offset), (0x7f00_0000_0000, 0x7f00_0001_0000, 0x3000));
            assert_eq!((region.device, region.inode), ((0, 0x19), 1_073_741_824));
            assert_eq!((region.name(), region.is_deleted, region.is_shared), (&b"/dev/shm/a b\nc"[..], true, true));
            let program = found(0x400000, part).unwrap();
            assert_eq!((program.name(), program.is_shared, program.inode), (&b"/usr/bin/cat"[..], false, 5_242_881));
            assert_eq!(program.device, (0xfd, 1));
            assert_eq!(found(0x7f00_0001_0000, part).unwrap().name(), b"");
            assert_eq!(found(0x7ffd_0000_0000, part).unwrap().name(), b"[stack]");
            assert!(found(0x500000, part).is_none() && found(0, part).is_none());
        }
    }
}
