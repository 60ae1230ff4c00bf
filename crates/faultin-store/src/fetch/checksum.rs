//! Checksums that a store offers with a body.

use std::sync::Arc;

use crc_fast::{CrcAlgorithm, Digest};
#[cfg(feature = "net")]
use http::HeaderMap;

use crate::error::Cause;

/// Standard alphabet, with padding: what the headers of all stores use.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A checksum that a body has to have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checksum {
    name: &'static str,
    algorithm: CrcAlgorithm,
    /// In base64, as in the header.
    expected: Arc<str>,
}

impl Checksum {
    /// Returns the checksum that the headers of an answer offer for its body: all of the object's bytes if `is_whole`.
    #[cfg(feature = "net")]
    pub(crate) fn offered(headers: &HeaderMap, is_whole: bool) -> Option<Checksum> {
        if !is_whole {
            // These headers are of the object, whichever range of it was requested.
            return None;
        }
        let amazon = [
            ("x-amz-checksum-crc64nvme", "CRC-64/NVME", CrcAlgorithm::Crc64Nvme, 12),
            ("x-amz-checksum-crc32c", "CRC-32C", CrcAlgorithm::Crc32Iscsi, 8),
            ("x-amz-checksum-crc32", "CRC-32", CrcAlgorithm::Crc32IsoHdlc, 8),
        ];
        let of_amazon = amazon.into_iter().find_map(|(header, name, algorithm, len)| {
            // That of an object with parts is a checksum of checksums: longer, with their number.
            let expected = headers.get(header)?.to_str().ok().filter(|text| text.len() == len)?;
            Some(Checksum { name, algorithm, expected: expected.into() })
        });
        of_amazon.or_else(|| {
            // The bytes of an object that is stored compressed are others than those of its checksum.
            let is_compressed = |header| headers.get(header).is_some_and(|kind| kind != "identity");
            if is_compressed("content-encoding") || is_compressed("x-goog-stored-content-encoding") {
                return None;
            }
            let mut hashes = headers.get_all("x-goog-hash").iter().filter_map(|hash| hash.to_str().ok());
            let expected =
                hashes.find_map(|hash| hash.split(',').find_map(|one| one.trim().strip_prefix("crc32c=")))?;
            (expected.len() == 8).then(|| Checksum {
                name: "CRC-32C",
                algorithm: CrcAlgorithm::Crc32Iscsi,
                expected: expected.into(),
            })
        })
    }

    /// Checks the bytes of a body.
    ///
    /// # Errors
    /// [`Cause::Checksum`].
    pub(crate) fn check<'b>(&self, parts: impl Iterator<Item = &'b [u8]>) -> Result<(), Cause> {
        let mut digest = Digest::new(self.algorithm);
        parts.for_each(|part| digest.update(part));
        let sum = digest.finalize();
        let is_same = match self.algorithm {
            CrcAlgorithm::Crc64Nvme => base64(&sum.to_be_bytes()) == *self.expected,
            _ => base64(&(sum as u32).to_be_bytes()) == *self.expected,
        };
        if is_same { Ok(()) } else { Err(Cause::Checksum { name: self.name }) }
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().enumerate().fold(0_u32, |bits, (at, &byte)| bits | u32::from(byte) << (16 - 8 * at));
        for at in 0..4 {
            let letter = BASE64[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= three.len() { letter as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[cfg(feature = "net")]
    #[test]
    fn what_is_offered_is_checked_and_what_is_not_of_the_body_is_left() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        // The check values of the algorithms, of "123456789".
        type Headers<'a> = &'a [(&'static str, &'static str)];
        let cases: [(Headers<'_>, &str); 4] = [
            (&[("x-amz-checksum-crc32c", "4waSgw==")], "CRC-32C"),
            (&[("x-amz-checksum-crc32", "y/Q5Jg==")], "CRC-32"),
            (&[("x-amz-checksum-crc64nvme", "rosUhgp5mIg=")], "CRC-64/NVME"),
            (&[("x-goog-hash", "crc32c=4waSgw==,md5=JfnnlDI7RTiF9RgfG2JNCw==")], "CRC-32C"),
        ];
        for (pairs, name) in cases {
            let checksum = Checksum::offered(&headers(pairs), true).unwrap();
            assert_eq!(checksum.name, name);
            checksum.check([&b"1234"[..], b"56789"].into_iter()).unwrap();
            let cause = checksum.check([&b"123456780"[..]].into_iter()).unwrap_err();
            assert!(cause.to_string().contains(name), "{cause}");
            assert_eq!(Checksum::offered(&headers(pairs), false), None, "a range");
        }
        assert_eq!(Checksum::offered(&headers(&[("x-amz-checksum-crc32c", "4waSgw==-3")]), true), None, "of parts");
        let compressed = [("x-goog-hash", "crc32c=4waSgw=="), ("x-goog-stored-content-encoding", "gzip")];
        assert_eq!(Checksum::offered(&headers(&compressed), true), None);
    }
}
