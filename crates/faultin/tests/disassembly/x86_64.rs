//! x86-64, decoded by `iced_x86`.

use faultin::table::Kind;
use iced_x86::{
    Decoder, DecoderOptions, Formatter, InstructionInfoFactory, IntelFormatter, Mnemonic, OpAccess, Register,
    UsedMemory,
};

use crate::decode::{Instruction, Memory, Position};

pub fn decode(code: &[u8], address: u64) -> Result<Vec<Instruction>, u64> {
    let mut factory = InstructionInfoFactory::new();
    let mut formatter = IntelFormatter::new();
    let mut instructions = Vec::new();
    for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE) {
        if instruction.is_invalid() {
            return Err(instruction.ip());
        }
        let used: Vec<UsedMemory> = factory.info(&instruction).used_memory().to_vec();
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        instructions.push(Instruction {
            address: instruction.ip(),
            memory: memory(instruction.mnemonic(), &used),
            position: used.iter().find(|used| loads_stores(used.access()).1).and_then(position),
            refers: match instruction.near_branch_target() {
                0 if instruction.is_ip_rel_memory_operand() => Some(instruction.ip_rel_memory_address()),
                0 => None,
                target => Some(target),
            },
            text,
        });
    }
    Ok(instructions)
}

fn memory(mnemonic: Mnemonic, used: &[UsedMemory]) -> Memory {
    let (mut own, mut load, mut store) = (false, 0, 0);
    for used in used {
        let (loads, stores) = loads_stores(used.access());
        if !loads && !stores {
            continue;
        }
        match used.base() {
            Register::RSP => own = true,
            // Relative to the program counter (which the decoder has added), or thread-local.
            Register::None if used.index() == Register::None => own = true,
            // The header of an XSAVE area is read and written, whatever else is.
            _ if mnemonic == Mnemonic::Xsave64 => store += 1,
            // A read-modify-write operation needs write permission.
            _ if stores => store += 1,
            _ => load += 1,
        }
    }
    match (load, store) {
        (0, 0) if own => Memory::Own,
        (0, 0) => Memory::None,
        (_, 0) => Memory::Foreign(Kind::Load),
        (0, _) => Memory::Foreign(Kind::Store),
        _ => Memory::Foreign(Kind::Either),
    }
}

fn loads_stores(access: OpAccess) -> (bool, bool) {
    match access {
        OpAccess::Read | OpAccess::CondRead => (true, false),
        OpAccess::Write | OpAccess::CondWrite => (false, true),
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
        OpAccess::None | OpAccess::NoMemAccess => (false, false),
    }
}

/// `rdi` is the progress register, `rdi + rdx` the end.
fn position(used: &UsedMemory) -> Option<Position> {
    let displacement = used.displacement() as i64;
    match (used.base(), used.index(), used.scale()) {
        (Register::RDI, Register::None, _) => Some(Position::Head(displacement as usize)),
        (Register::RDI, Register::RDX, 1) | (Register::RDX, Register::RDI, 1) => {
            Some(Position::Tail(-displacement as usize))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_told_apart() {
        use Kind::{Either, Load, Store};
        for (code, memory) in [
            (&[0x48, 0x8b, 0x06][..], Memory::Foreign(Load)),    // mov rax, [rsi]
            (&[0x48, 0x89, 0x07], Memory::Foreign(Store)),       // mov [rdi], rax
            (&[0xf3, 0xa4], Memory::Foreign(Either)),            // rep movsb
            (&[0xf3, 0xaa], Memory::Foreign(Store)),             // rep stosb
            (&[0xf0, 0x80, 0x0f, 0x00], Memory::Foreign(Store)), // lock or byte ptr [rdi], 0
            (&[0xf0, 0x48, 0x0f, 0xb1, 0x0f], Memory::Foreign(Store)), // lock cmpxchg [rdi], rcx
            (&[0x62, 0xe1, 0x7f, 0xc9, 0x6f, 0x06], Memory::Foreign(Load)), // vmovdqu8 zmm16{k1}{z}, [rsi]
            (&[0x48, 0x0f, 0xae, 0x27], Memory::Foreign(Store)), // xsave64 [rdi]
            (&[0x48, 0x0f, 0xae, 0x2e], Memory::Foreign(Load)),  // xrstor64 [rsi]
            (&[0x0f, 0x18, 0x0e], Memory::None),                 // prefetcht0 [rsi]
            (&[0x48, 0x8d, 0x06], Memory::None),                 // lea rax, [rsi]
            (&[0x57], Memory::Own),                              // push rdi
            (&[0xc3], Memory::Own),                              // ret
            (&[0x48, 0x3b, 0x15, 0, 0, 0, 0], Memory::Own),      // cmp rdx, [rip]
        ] {
            let decoded = decode(code, 0).expect("an instruction");
            assert_eq!(decoded.len(), 1, "{code:x?}");
            assert_eq!(decoded[0].memory, memory, "{}", decoded[0].text);
        }
    }
}
