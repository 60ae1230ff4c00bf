//! aarch64: the encoding group "loads and stores" (bits 28 to 25 are x1x0), and the one system instruction that stores.

use faultin::table::Kind;

use crate::decode::{Instruction, Memory};

/// The stack pointer and the frame pointer as base registers.
const SP: u32 = 31;
const FP: u32 = 29;

pub fn decode(code: &[u8], address: u64) -> Result<Vec<Instruction>, u64> {
    Ok(code
        .chunks_exact(4)
        .enumerate()
        .map(|(i, bytes)| {
            let word = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
            Instruction {
                address: address + 4 * i as u64,
                memory: memory(word),
                position: None,
                refers: None,
                text: format!(".inst {word:#010x}"),
            }
        })
        .collect())
}

/// Bits `high..=low` of an instruction.
fn bits(word: u32, high: u32, low: u32) -> u32 {
    (word >> low) & ((1 << (high - low + 1)) - 1)
}

fn memory(word: u32) -> Memory {
    // DC ZVA, GVA, GZVA: zeroes a block at Xt.
    if word & 0xffff_ff80 == 0xd50b_7400 && bits(word, 7, 5) != 0 {
        return Memory::Foreign(Kind::Store);
    }
    // x1x0
    if bits(word, 27, 27) == 0 || bits(word, 25, 25) == 1 {
        return Memory::None;
    }
    let kind = match (bits(word, 29, 27), bits(word, 25, 24)) {
        // Exclusive, ordered, compare-and-swap.
        (0b001, 0b00) if bits(word, 26, 26) == 0 => {
            let (second, load, first) = (bits(word, 23, 23), bits(word, 22, 22), bits(word, 21, 21));
            let swap = first == 1 && (second == 1 || bits(word, 31, 31) == 0);
            // An exclusive load is half of an operation that stores, and reported as a store.
            load_if(load == 1 && second == 1 && !swap)
        }
        // Vector structures.
        (0b001, _) => load_if(bits(word, 22, 22) == 1),
        // Literal: at the program counter.
        (0b011, 0b00) => return Memory::Own,
        (0b011, _) if bits(word, 26, 26) == 0 && bits(word, 21, 21) == 1 && bits(word, 11, 10) != 0b01 => {
            // Tags: LDG and LDGM load, the others store.
            let (opc, op2) = (bits(word, 23, 22), bits(word, 11, 10));
            load_if(op2 == 0 && matches!(opc, 0b01 | 0b11))
        }
        // Memory copy and set: both sides.
        (0b011, _) if bits(word, 11, 10) == 0b01 => Kind::Either,
        // LDAPUR and STLUR.
        (0b011, _) => load_if(bits(word, 23, 22) != 0),
        // Pairs.
        (0b101, _) => load_if(bits(word, 22, 22) == 1),
        // One register.
        (0b111, class) => {
            let (size, vector, opc) = (bits(word, 31, 30), bits(word, 26, 26), bits(word, 23, 22));
            let offset = (bits(word, 21, 21), bits(word, 11, 10));
            match (class, offset) {
                // Atomic memory operations; of them only LDAPR does not store.
                (0b00, (1, 0b00)) => load_if(bits(word, 15, 12) == 0b1100),
                // Authenticated loads.
                (0b00, (1, 0b01 | 0b11)) => Kind::Load,
                _ if size == 0b11 && vector == 0 && opc == 0b10 => return Memory::None, // prefetch
                _ if vector == 1 => load_if(opc & 1 == 1),
                _ => load_if(opc != 0),
            }
        }
        _ => return Memory::None,
    };
    if matches!(bits(word, 9, 5), SP | FP) { Memory::Own } else { Memory::Foreign(kind) }
}

fn load_if(load: bool) -> Kind {
    if load { Kind::Load } else { Kind::Store }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_told_apart() {
        use Kind::{Load, Store};
        for (word, memory, text) in [
            (0xf940_0020_u32, Memory::Foreign(Load), "ldr x0, [x1]"),
            (0xf900_0001, Memory::Foreign(Store), "str x1, [x0]"),
            (0x3940_0027, Memory::Foreign(Load), "ldrb w7, [x1]"),
            (0x3900_0007, Memory::Foreign(Store), "strb w7, [x0]"),
            (0x3dc0_0020, Memory::Foreign(Load), "ldr q0, [x1]"),
            (0x3d80_0000, Memory::Foreign(Store), "str q0, [x0]"),
            (0x3cdf_00a1, Memory::Foreign(Load), "ldur q1, [x5, #-16]"),
            (0x3c9f_00c1, Memory::Foreign(Store), "stur q1, [x6, #-16]"),
            (0x785f_e0a8, Memory::Foreign(Load), "ldurh w8, [x5, #-2]"),
            (0x781f_e0c8, Memory::Foreign(Store), "sturh w8, [x6, #-2]"),
            (0xad40_0420, Memory::Foreign(Load), "ldp q0, q1, [x1]"),
            (0xad00_0400, Memory::Foreign(Store), "stp q0, q1, [x0]"),
            (0xac00_0400, Memory::Foreign(Store), "stnp q0, q1, [x0]"),
            (0xf940_03e0, Memory::Own, "ldr x0, [sp]"),
            (0xa9bf_7bfd, Memory::Own, "stp x29, x30, [sp, #-16]!"),
            (0x5800_0040, Memory::Own, "ldr x0, .+8"),
            (0xf980_0020, Memory::None, "prfm pldl1keep, [x1]"),
            (0xc85f_fc20, Memory::Foreign(Store), "ldaxr x0, [x1]"),
            (0xc802_fc20, Memory::Foreign(Store), "stlxr w2, x0, [x1]"),
            (0xc8df_fc20, Memory::Foreign(Load), "ldar x0, [x1]"),
            (0xc89f_fc20, Memory::Foreign(Store), "stlr x0, [x1]"),
            (0xc87f_8420, Memory::Foreign(Store), "ldaxp x0, x1, [x1]"),
            (0xc8e0_fc41, Memory::Foreign(Store), "casal x0, x1, [x2]"),
            (0x4860_fc82, Memory::Foreign(Store), "caspal x0, x1, x2, x3, [x4]"),
            (0xf8e0_0041, Memory::Foreign(Store), "ldaddal x0, x1, [x2]"),
            (0xf8e0_8041, Memory::Foreign(Store), "swpal x0, x1, [x2]"),
            (0xf8bf_c020, Memory::Foreign(Load), "ldapr x0, [x1]"),
            (0x4c40_7020, Memory::Foreign(Load), "ld1 {v0.16b}, [x1]"),
            (0x4c00_7020, Memory::Foreign(Store), "st1 {v0.16b}, [x1]"),
            (0xd960_0020, Memory::Foreign(Load), "ldg x0, [x1]"),
            (0xd920_0820, Memory::Foreign(Store), "stg x0, [x1]"),
            (0xd50b_7420, Memory::Foreign(Store), "dc zva, x0"),
            (0x8b02_0025, Memory::None, "add x5, x1, x2"),
            (0xd65f_03c0, Memory::None, "ret"),
            (0xb400_0042, Memory::None, "cbz x2, .+8"),
            (0x4e08_0c20, Memory::None, "dup v0.2d, x1"),
        ] {
            assert_eq!(super::memory(word), memory, "{text}");
        }
    }
}
