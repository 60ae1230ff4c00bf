//! What is on disk: an index of records with checksums, and the bytes of the blocks in slots of one size.
//!
//! The index begins with a header of [`RECORD`] bytes; record `n` after it describes slot `n`. All numbers are little-endian.
//! A record is written after the bytes it describes. It has the checksum of these bytes and of itself, so what a kill, a loss of
//! power or a bad sector leaves is recognised, whatever part of it was written. Names are not stored, only their digest.

use std::num::NonZeroU32;
use std::ops::Range;

use twox_hash::XxHash3_64;

use super::Key;

/// Size of the header and of each record in bytes. Records do not cross sectors.
pub const RECORD: usize = 64;

/// The first bytes of the index.
const MAGIC: &[u8; 16] = b"faultin-store\r\n\0";

/// The version of this format. Files of another version are emptied.
const VERSION: u32 = 1;

/// Where the checksum of a header or record is.
const CHECK: usize = RECORD - 8;

/// Identifies a block: 128 bits of the BLAKE3 hash of its key. Nobody can make two keys with the same digest, so equal digests mean
/// equal keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u64; 2]);

impl Digest {
    /// Returns the digest of `range` of the object and version of `key`.
    pub fn of(key: &Key, range: &Range<u64>) -> Digest {
        let mut bytes = Vec::with_capacity(4 * 8 + key.object.len() + key.version.len());
        for name in [&key.object, &key.version] {
            bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes.extend_from_slice(&range.start.to_le_bytes());
        bytes.extend_from_slice(&range.end.to_le_bytes());
        // In one piece: a hasher that takes several is 2 KiB.
        let hash = blake3::hash(&bytes);
        let words = hash.as_bytes().as_chunks::<8>().0;
        Digest([u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])])
    }

    /// Returns 64 bits of it, for hash tables.
    pub fn short(self) -> u64 {
        self.0[0]
    }
}

/// Returns the checksum of a block's bytes, which differs for other keys.
pub fn sum(digest: Digest, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes) ^ digest.0[1]
}

/// Describes the bytes of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub digest: Digest,
    pub sum: u64,
    /// Grows with each record that is written: the larger of two is the newer one.
    pub sequence: u64,
    /// Number of bytes, at most a slot's.
    pub len: NonZeroU32,
}

impl Record {
    /// Returns the record as it is stored for `slot`.
    pub fn encode(&self, slot: u32) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.digest.0[0].to_le_bytes());
        bytes[8..16].copy_from_slice(&self.digest.0[1].to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sum.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.len.get().to_le_bytes());
        bytes[36..40].copy_from_slice(&slot.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    /// Returns the record of `slot`, or `None` if these bytes are not one that was stored for it.
    pub fn decode(bytes: &[u8; RECORD], slot: u32, slot_len: u32) -> Option<Record> {
        let words = bytes.as_chunks::<8>().0;
        let [first, second, sum, sequence] = [0, 1, 2, 3].map(|word| u64::from_le_bytes(words[word]));
        let numbers = bytes.as_chunks::<4>().0;
        let len = NonZeroU32::new(u32::from_le_bytes(numbers[8]))?;
        let is_valid = is_sealed(bytes) && u32::from_le_bytes(numbers[9]) == slot && len.get() <= slot_len;
        is_valid.then_some(Record { digest: Digest([first, second]), sum, sequence, len })
    }
}

/// Returns the header of an index of slots of `slot_len` bytes. An index with another header is not read.
pub fn header(slot_len: u32) -> [u8; RECORD] {
    header_of(VERSION, slot_len)
}

/// Returns the header of a version of this format.
pub fn header_of(version: u32, slot_len: u32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..16].copy_from_slice(MAGIC);
    bytes[16..20].copy_from_slice(&version.to_le_bytes());
    bytes[20..24].copy_from_slice(&slot_len.to_le_bytes());
    seal(&mut bytes);
    bytes
}

fn seal(bytes: &mut [u8; RECORD]) {
    let check = XxHash3_64::oneshot(&bytes[..CHECK]);
    bytes[CHECK..].copy_from_slice(&check.to_le_bytes());
}

fn is_sealed(bytes: &[u8; RECORD]) -> bool {
    bytes[CHECK..] == XxHash3_64::oneshot(&bytes[..CHECK]).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(object: &str, version: &str) -> Key {
        Key { object: object.into(), version: version.into(), range: 0..10 }
    }

    #[test]
    fn keys_that_differ_in_any_part_have_other_digests() {
        let digests = [
            Digest::of(&key("s3://a/b", "1"), &(0..10)),
            Digest::of(&key("s3://a/b1", ""), &(0..10)),
            Digest::of(&key("s3://a/", "b1"), &(0..10)),
            Digest::of(&key("s3://a/b", "2"), &(0..10)),
            Digest::of(&key("s3://a/b", "1"), &(0..11)),
            Digest::of(&key("s3://a/b", "1"), &(1..10)),
        ];
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests[..at].contains(digest), "{at}");
        }
        // The format: another value would make all tiers that exist useless without a new version.
        assert_eq!(format!("{:x?}", digests[0]), "Digest([ac9e394a8e6797af, eb14d3a0de2fb74c])");
    }

    #[test]
    fn a_record_with_any_bit_changed_is_none() {
        let digest = Digest::of(&key("o", "v"), &(0..10));
        let record = Record { digest, sum: sum(digest, b"bytes"), sequence: 7, len: NonZeroU32::new(5).unwrap() };
        let bytes = record.encode(3);
        assert_eq!(Record::decode(&bytes, 3, 4096), Some(record));
        assert_eq!(Record::decode(&bytes, 4, 4096), None, "of another slot");
        assert_eq!(Record::decode(&bytes, 3, 4), None, "longer than a slot");
        assert_eq!(Record::decode(&[0; RECORD], 0, 4096), None, "never written");
        for bit in 0..8 * RECORD {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&bytes, 3, 4096), None, "bit {bit}");
        }
    }

    #[test]
    fn headers_of_other_slots_differ() {
        assert_ne!(header(4096), header(65536));
        assert!(is_sealed(&header(4096)));
    }
}
