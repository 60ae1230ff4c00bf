//! The decoder for x86: which of an instruction's memory operands holds the address.

use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, InstructionInfoOptions, MemorySize, OpAccess,
    Register, UsedMemory,
};

use super::{Access, Code, Decoded, LONGEST, Registers};

/// The selector of 32-bit code of user processes.
const USER32_CS: u64 = 0x23;

/// The bytes that an operand without a size of its own may have: the image of XSAVE with all that CPUs have today.
const LARGEST: u64 = 16 << 10;

pub(super) fn decode(code: &Code<'_>, registers: &Registers, address: u64) -> Decoded {
    let at = |access| Decoded { access, sent: false };
    let pc = registers.rip;
    let bits = if registers.cs == USER32_CS { 32 } else { 64 };
    let mut decoder = Decoder::with_ip(bits, code.at, pc, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let is_fetch = address >= pc && address - pc < LONGEST as u64;
    // Also where no byte could be read: that is no fetch if the address is another one.
    if instruction.is_invalid() {
        return at(if is_fetch { Access::Fetch } else { Access::Unknown });
    }
    let touched = touched(&instruction, registers, address);
    let sent = touched.is_none() && !is_fetch && has_made_a_call(code.before);
    match touched {
        Some(access) => at(access),
        None if is_fetch => at(Access::Fetch),
        None => Decoded { access: Access::Unknown, sent },
    }
}

pub(super) fn prepare() {
    let mut decoder = Decoder::with_ip(64, &[0x8a, 0x07], 0, DecoderOptions::NONE);
    let _ = InstructionInfoFactory::new().info(&decoder.decode());
}

/// Whether the instruction before was a system call: `syscall`, `sysenter` or `int 0x80`.
fn has_made_a_call(before: &[u8]) -> bool {
    [[0x0f, 0x05], [0x0f, 0x34], [0xcd, 0x80]].iter().any(|call| before.ends_with(call))
}

/// What the instruction does at the address; no value if no operand holds it.
fn touched(instruction: &Instruction, registers: &Registers, address: u64) -> Option<Access> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info_options(instruction, InstructionInfoOptions::NO_REGISTER_USAGE);
    let operands: Vec<&UsedMemory> =
        info.used_memory().iter().filter(|operand| access(operand.access()).is_some()).collect();
    // The elements of a gather or scatter are where vector registers say. There is no second operand in memory.
    if let [operand] = operands[..]
        && operand.vsib_size() != 0
    {
        return access(operand.access());
    }
    let mut found = None;
    for operand in operands {
        if holds(operand, instruction, registers, address) {
            let now = access(operand.access());
            found = if found.is_none() || found == now { now } else { Some(Access::LoadAndStore) };
        }
    }
    found
}

fn access(access: OpAccess) -> Option<Access> {
    match access {
        OpAccess::Read | OpAccess::CondRead => Some(Access::Load),
        OpAccess::Write | OpAccess::CondWrite => Some(Access::Store),
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => Some(Access::LoadAndStore),
        OpAccess::None | OpAccess::NoMemAccess => None,
    }
}

/// Whether the address is in the operand.
fn holds(operand: &UsedMemory, instruction: &Instruction, registers: &Registers, address: u64) -> bool {
    let Some(start) = operand.virtual_address(0, |register, _, _| value(register, registers)) else { return false };
    let size = match operand.memory_size() {
        MemorySize::Unknown => instruction.memory_size().size(),
        size => size.size(),
    } as u64;
    let size = if size == 0 { LARGEST } else { size };
    if !instruction.is_string_instruction() || !has_repeat(instruction) {
        return address.wrapping_sub(start) < size;
    }
    let len = registers.rcx.saturating_mul(size);
    // The direction flag: the count runs towards lower addresses.
    if registers.eflags & 0x400 != 0 {
        let end = start.wrapping_add(size);
        return end.wrapping_sub(address).wrapping_sub(1) < len;
    }
    address.wrapping_sub(start) < len
}

fn has_repeat(instruction: &Instruction) -> bool {
    instruction.has_rep_prefix() || instruction.has_repe_prefix() || instruction.has_repne_prefix()
}

/// The value of a register that an address is made of.
fn value(register: Register, registers: &Registers) -> Option<u64> {
    let whole = match register.full_register() {
        Register::RAX => registers.rax,
        Register::RBX => registers.rbx,
        Register::RCX => registers.rcx,
        Register::RDX => registers.rdx,
        Register::RSI => registers.rsi,
        Register::RDI => registers.rdi,
        Register::RBP => registers.rbp,
        Register::RSP => registers.rsp,
        Register::R8 => registers.r8,
        Register::R9 => registers.r9,
        Register::R10 => registers.r10,
        Register::R11 => registers.r11,
        Register::R12 => registers.r12,
        Register::R13 => registers.r13,
        Register::R14 => registers.r14,
        Register::R15 => registers.r15,
        Register::RIP => registers.rip,
        Register::FS => return Some(registers.fs_base),
        Register::GS => return Some(registers.gs_base),
        // Of 64-bit code, and of 32-bit code on Linux, the others begin at 0.
        Register::ES | Register::CS | Register::SS | Register::DS => return Some(0),
        _ => return None,
    };
    Some(match register.size() {
        // Of a translation by a table.
        1 => whole & 0xff,
        2 => whole & 0xffff,
        4 => whole & 0xffff_ffff,
        _ => whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_a_fetch_only_where_the_fault_is() {
        // SAFETY: a structure of numbers.
        let mut registers: Registers = unsafe { std::mem::zeroed() };
        registers.rip = 0x1000;
        let decode = |at: &[u8], address| decode(&Code { before: &[], at }, &registers, address);
        let unknown = Decoded { access: Access::Unknown, sent: false };
        assert_eq!(decode(&[], 0x5000), unknown, "memory that cannot be read");
        assert_eq!(decode(&[], 0xfff), unknown);
        assert_eq!(decode(&[], 0x1000).access, Access::Fetch);
        // The rest of the instruction is in the next page.
        assert_eq!(decode(&[0x48, 0x8b], 0x1002).access, Access::Fetch);
    }
}
