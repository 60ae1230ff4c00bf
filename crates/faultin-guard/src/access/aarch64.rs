//! The decoder for A64: loads and stores differ in few bits of the instruction, and one instruction has one place in memory.

use super::{Access, Code, Decoded};

pub(super) fn decode(code: &Code<'_>, pc: u64, address: u64) -> Decoded {
    let at = |access| Decoded { access, sent: false };
    let is_fetch = address.wrapping_sub(pc) < 4;
    let Some(word) = word(code.at) else {
        // Memory that cannot be read is no fetch if the address is another one.
        return at(if is_fetch { Access::Fetch } else { Access::Unknown });
    };
    match access(word) {
        Some(access) => at(access),
        None if is_fetch => at(Access::Fetch),
        // `svc #0`
        None => Decoded { access: Access::Unknown, sent: self::word(code.before) == Some(0xd400_0001) },
    }
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// What an instruction does in memory; no value for one that is not known to access memory.
///
/// # References
/// Arm Architecture Reference Manual for A-profile, C4.1 (encoding index): "Loads and Stores", "SVE Memory", "System".
pub(super) fn access(word: u32) -> Option<Access> {
    let bit = |at: u32| word >> at & 1 == 1;
    let bits = |high: u32, low: u32| word >> low & ((1 << (high - low + 1)) - 1);
    let load_if = |is_load: bool| Some(if is_load { Access::Load } else { Access::Store });

    // DC ZVA, DC GVA and DC GZVA store.
    if word & 0xffff_ff00 == 0xd50b_7400 && [0x20, 0x60, 0x80].contains(&(word & 0xe0)) {
        return Some(Access::Store);
    }
    // SVE: loads have 100 0010, 101 0010 and 110 0010, and 111 0010 is stores.
    if bits(28, 25) == 0b0010 && bit(31) {
        return load_if(bits(30, 29) != 0b11);
    }
    if !bit(27) || bit(25) {
        return None;
    }
    match bits(29, 28) {
        0b00 if bit(26) && !bit(31) => load_if(bit(22)), // structures of SIMD registers
        0b00 if !bit(26) => {
            // Compare-and-swap: of one register (o2, o1 and o0 of the class say so), or of a pair.
            let compare_and_swap = bit(21) && (bit(23) || !bit(31)) && bits(14, 10) == 0b11111;
            if compare_and_swap { Some(Access::LoadAndStore) } else { load_if(bit(22)) }
        }
        // Literals. With bit 24 and bit 21: memory tags, or, with 01 in bits 11 and 10 as those without bit 21, copies and sets
        // of memory. The rest is LDAPUR and STLUR.
        0b01 if !bit(24) => Some(Access::Load),
        0b01 if bits(31, 30) == 0b11 && bit(21) => load_if(bit(22) && bits(11, 10) == 0),
        0b01 if bits(11, 10) != 0 => Some(Access::Unknown),
        0b01 => load_if(bits(23, 22) != 0),
        0b10 => load_if(bit(22)), // pairs
        _ => {
            // One register. Bit 24: an offset of 12 bits. Without it bit 21 says "atomic operation or offset in a register".
            if !bit(24) && bit(21) && bits(11, 10) == 0b00 && !bit(26) {
                // LDAPR only loads.
                let only_loads = bits(15, 12) == 0b1100;
                return Some(if only_loads { Access::Load } else { Access::LoadAndStore });
            }
            // LDRAA, LDRAB
            if !bit(24) && bit(21) && bits(11, 10) != 0b10 && !bit(26) {
                return Some(Access::Load);
            }
            load_if(if bit(26) { bit(22) } else { bits(23, 22) != 0 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_instruction_is_known() {
        const L: Option<Access> = Some(Access::Load);
        const S: Option<Access> = Some(Access::Store);
        const B: Option<Access> = Some(Access::LoadAndStore);
        // Assembled with LLVM.
        let table: &[(&str, u32, Option<Access>)] = &include!("aarch64.table");
        for &(text, word, expected) in table {
            assert_eq!(access(word), expected, "{text} ({word:08x})");
        }
    }

    #[test]
    fn a_signal_that_follows_a_system_call_was_sent() {
        let svc = 0xd400_0001_u32.to_le_bytes();
        let (nop, load) = (0xd503_201f_u32.to_le_bytes(), 0xf940_0000_u32.to_le_bytes());
        let decode = |before: &[u8], at: &[u8], address| decode(&Code { before, at }, 0x1000, address);
        assert!(decode(&svc, &nop, 0x5000).sent);
        assert!(!decode(&svc, &load, 0x5000).sent, "the instruction after it accesses memory");
        assert!(!decode(&nop, &nop, 0x5000).sent);
        assert_eq!(decode(&nop, &[], 0x1000).access, Access::Fetch);
        assert_eq!(decode(&nop, &[], 0x5000).access, Access::Unknown, "memory that cannot be read");
        assert_eq!(decode(&nop, &[], 0xfff).access, Access::Unknown);
        assert_eq!(decode(&nop, &nop, 0x1002).access, Access::Fetch);
    }
}
