//! CRC-32C: the CPU's own instruction in three streams at once, where it has one; otherwise tables.
//!
//! The instruction accepts eight bytes in each cycle but has a latency of three, so three parts of a block are summed side
//! by side and then combined: a sum moves past `n` bytes by a multiplication with `x^8n` modulo the polynomial, which is
//! linear in each of its four bytes, so four tables suffice.

use super::bytes::Bytes;
use crate::fault::Short;

/// The polynomial of Castagnoli, lowest power first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Size in bytes of each of the three parts of a block.
const PART: usize = 1 << 10;

/// `TABLES[i][b]` is the sum of byte `b` and `i` zeros.
const TABLES: [[u32; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let (mut sum, mut bit) = (byte as u32, 0);
        while bit < 8 {
            sum = (sum >> 1) ^ (POLYNOMIAL * (sum & 1));
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut i = 1;
    while i < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[i - 1][byte];
            tables[i][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        i += 1;
    }
    tables
};

/// `PAST_PART[i][b]` is the result for byte `b` of a sum, the `i`th, when [`PART`] zeros follow.
static PAST_PART: [[u32; 256]; 4] = {
    // The result for each bit.
    let mut bits = [0; 32];
    let mut bit = 0;
    while bit < 32 {
        let (mut sum, mut zeros) = (1_u32 << bit, 0);
        while zeros < PART {
            sum = (sum >> 8) ^ TABLES[0][(sum & 0xff) as usize];
            zeros += 1;
        }
        bits[bit] = sum;
        bit += 1;
    }
    let mut tables = [[0; 256]; 4];
    let mut i = 0;
    while i < 4 {
        let mut byte = 0;
        while byte < 256 {
            let (mut sum, mut bit) = (0, 0);
            while bit < 8 {
                if byte & (1 << bit) != 0 {
                    sum ^= bits[8 * i + bit];
                }
                bit += 1;
            }
            tables[i][byte] = sum;
            byte += 1;
        }
        i += 1;
    }
    tables
};

/// For all 256 values, once in the binary.
static STEP: [[u32; 256]; 8] = TABLES;

fn past_part(sum: u32) -> u32 {
    let [a, b, c, d] = sum.to_le_bytes().map(usize::from);
    PAST_PART[0][a] ^ PAST_PART[1][b] ^ PAST_PART[2][c] ^ PAST_PART[3][d]
}

/// Returns the checksum, continued from `before`; as [`scan::crc32c`](super::crc32c).
///
/// # Safety
/// The range has `len` bytes.
pub(crate) unsafe fn sum<B: Bytes>(before: u32, bytes: B, len: usize) -> Result<u32, Short> {
    let sum = !before;
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: forwarded; the CPU has it.
        return unsafe { x86_64(sum, bytes, len) }.map(|sum| !sum);
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("crc") {
        // SAFETY: forwarded; the CPU has it.
        return unsafe { aarch64(sum, bytes, len) }.map(|sum| !sum);
    }
    // SAFETY: forwarded.
    unsafe { in_streams(sum, bytes, len, by_tables, by_table) }.map(|sum| !sum)
}

/// # Safety
/// The CPU has SSE4.2; the range has `len` bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
unsafe fn x86_64<B: Bytes>(sum: u32, bytes: B, len: usize) -> Result<u32, Short> {
    use core::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};
    let eight = |sum: u32, word: u64| _mm_crc32_u64(u64::from(sum), word) as u32;
    // SAFETY: forwarded.
    unsafe { in_streams(sum, bytes, len, eight, |sum, byte| _mm_crc32_u8(sum, byte)) }
}

/// # Safety
/// The CPU has the CRC instructions; the range has `len` bytes.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "crc")]
unsafe fn aarch64<B: Bytes>(sum: u32, bytes: B, len: usize) -> Result<u32, Short> {
    use core::arch::aarch64::{__crc32cb, __crc32cd};
    // SAFETY: forwarded.
    unsafe { in_streams(sum, bytes, len, |sum, word| __crc32cd(sum, word), |sum, byte| __crc32cb(sum, byte)) }
}

fn by_table(sum: u32, byte: u8) -> u32 {
    (sum >> 8) ^ STEP[0][usize::from(sum as u8 ^ byte)]
}

fn by_tables(sum: u32, word: u64) -> u32 {
    let word = (word ^ u64::from(sum)).to_le_bytes();
    word.iter().enumerate().fold(0, |sum, (i, &byte)| sum ^ STEP[7 - i][usize::from(byte)])
}

/// # Safety
/// The range has `len` bytes.
#[inline(always)]
unsafe fn in_streams<B: Bytes>(
    mut sum: u32,
    bytes: B,
    len: usize,
    eight: impl Fn(u32, u64) -> u32,
    one: impl Fn(u32, u8) -> u32,
) -> Result<u32, Short> {
    let mut at = 0;
    while len - at >= 3 * PART {
        // SAFETY: forwarded; a block is left.
        let block = (|| unsafe {
            let (mut a, mut b, mut c) = (sum, 0, 0);
            for i in (at..at + PART).step_by(8) {
                a = eight(a, bytes.word(i)?);
                b = eight(b, bytes.word(i + PART)?);
                c = eight(c, bytes.word(i + 2 * PART)?);
            }
            Ok::<_, crate::fault::Fault>(past_part(past_part(a) ^ b) ^ c)
        })();
        match block {
            Ok(of_block) => sum = of_block,
            // To find the exact byte, one after the other.
            Err(_) => break,
        }
        at += 3 * PART;
    }
    // If a word is accessible again when its bytes are loaded: once.
    let mut again = true;
    while at < len {
        let fault = 'failed: {
            while len - at >= 8 {
                // SAFETY: forwarded.
                match unsafe { bytes.word(at) } {
                    Ok(word) => sum = eight(sum, word),
                    Err(fault) => break 'failed Some(fault),
                }
                at += 8;
            }
            None
        };
        // The rest, or the eight bytes of which one failed.
        let end = if fault.is_some() { at + 8 } else { len };
        while at < end {
            // SAFETY: forwarded.
            let byte = unsafe { bytes.byte(at) }.map_err(|fault| Short { done: at, fault })?;
            sum = one(sum, byte);
            at += 1;
        }
        match fault {
            Some(fault) if !again => return Err(Short { done: at, fault }),
            _ => again = false,
        }
    }
    Ok(sum)
}
