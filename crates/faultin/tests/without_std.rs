//! What a kernel uses of this crate (`default-features = false`): the table, its lookup and the copies, without vector
//! registers and without detecting CPU features.
//!
//! `fixtures/kernel` is such a kernel with its own trap handler. It is compiled for a target without vector registers,
//! which the compiler enforces; this test checks its machine code, and passes real faults to its trap handler.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicPtr, Ordering};

use object::read::archive::ArchiveFile;
use object::{Architecture, File, Object, ObjectSection, ObjectSymbol, SectionKind};

/// The compiler's flags for a kernel: it does not save vector registers on entry, so it must not use them.
const NO_VECTORS: &str =
    if cfg!(target_arch = "x86_64") { "-C target-feature=-mmx,-sse,-sse2" } else { "-C target-feature=-neon" };

/// The standard library's `core` is compiled for unwinding; a kernel's would not be.
const NO_UNWINDING: &str = "-C link-arg=-Wl,--defsym=rust_eh_personality=0";

/// Builds the fixture; returns the folder with its artifacts.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel");
    let output = Command::new(&cargo)
        .args(["build", "--release", "--offline", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", format!("{NO_VECTORS} {NO_UNWINDING}"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", cargo.display()));
    assert!(output.status.success(), "the fixture does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    // A target other than the host has its own folder.
    let triple = std::env::var_os("CARGO_BUILD_TARGET").unwrap_or_default();
    target.join(triple).join("release")
}

/// Calls `look` with the machine code of this crate and of the fixture, one object file each; the other members of the
/// archive are the compiler's.
fn each_member(mut look: impl FnMut(&str, &File<'_>)) {
    let path = build().join("libkernel.a");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut seen = 0;
    for member in ArchiveFile::parse(&*bytes).expect("an archive").members() {
        let member = member.expect("a member");
        let name = String::from_utf8_lossy(member.name());
        // The crate's name comes first, then "-" and a hash, or ".".
        if matches!(name.split(['-', '.']).next(), Some("kernel" | "faultin")) {
            seen += 1;
            look(&name, &File::parse(member.data(&*bytes).expect("its bytes")).expect("an object file"));
        }
    }
    assert!(seen >= 2, "{}: neither the fixture nor the crate is in it", path.display());
}

/// Instructions of `code` that a kernel must not execute without precautions.
fn forbidden(architecture: Architecture, code: &[u8]) -> Vec<String> {
    match architecture {
        Architecture::X86_64 => forbidden_x86_64(code),
        Architecture::Aarch64 => forbidden_aarch64(code),
        other => panic!("no decoder for {other:?}"),
    }
}

fn forbidden_x86_64(code: &[u8]) -> Vec<String> {
    use iced_x86::{Decoder, DecoderOptions, Formatter, InstructionInfoFactory, IntelFormatter, Mnemonic};
    let (mut factory, mut formatter) = (InstructionInfoFactory::new(), IntelFormatter::new());
    let mut found = Vec::new();
    for instruction in Decoder::new(64, code, DecoderOptions::NONE) {
        let asks = matches!(
            instruction.mnemonic(),
            Mnemonic::Cpuid | Mnemonic::Xgetbv | Mnemonic::Rdtsc | Mnemonic::Rdtscp | Mnemonic::INVALID
        );
        let wide = factory.info(&instruction).used_registers().iter().any(|used| {
            let register = used.register();
            register.is_vector_register() || register.is_mm() || register.is_st() || register.is_k()
        });
        if asks || wide {
            let mut text = String::new();
            formatter.format(&instruction, &mut text);
            found.push(text);
        }
    }
    found
}

fn forbidden_aarch64(code: &[u8]) -> Vec<String> {
    let words = code.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")));
    words
        .filter(|word| {
            let group = (word >> 25) & 0xf;
            let vector = group & 0b0111 == 0b0111 || (group & 0b0101 == 0b0100 && (word >> 26) & 1 == 1);
            // MRS: identification registers and counters.
            let asks = word >> 20 == 0xd53;
            vector || asks
        })
        .map(|word| format!(".inst {word:#010x}"))
        .collect()
}

#[test]
fn the_forbidden_is_recognised() {
    for (architecture, code, found) in [
        (Architecture::X86_64, &[0x0f, 0x10, 0x06][..], true), // movups xmm0, [rsi]
        (Architecture::X86_64, &[0x62, 0xe1, 0x7f, 0xc9, 0x6f, 0x06], true), // vmovdqu8 zmm16{k1}{z}, [rsi]
        (Architecture::X86_64, &[0x0f, 0xa2], true),           // cpuid
        (Architecture::X86_64, &[0x0f, 0x31], true),           // rdtsc
        (Architecture::X86_64, &[0xf3, 0xa4], false),          // rep movsb
        (Architecture::Aarch64, &[0x20, 0x00, 0xc0, 0x3d], true), // ldr q0, [x1]
        (Architecture::Aarch64, &[0x20, 0x0c, 0x08, 0x4e], true), // dup v0.2d, x1
        (Architecture::Aarch64, &[0x00, 0x04, 0x38, 0xd5], true), // mrs x0, id_aa64pfr0_el1
        (Architecture::Aarch64, &[0x20, 0x00, 0x40, 0xf9], false), // ldr x0, [x1]
        (Architecture::Aarch64, &[0x25, 0x00, 0x02, 0x8b], false), // add x5, x1, x2
    ] {
        assert_eq!(!forbidden(architecture, code).is_empty(), found, "{architecture:?} {code:x?}");
    }
}

#[test]
fn a_kernel_gets_no_vector_registers_and_no_cpu_detection() {
    each_member(|name, file| {
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            let found = forbidden(file.architecture(), section.data().expect("its bytes"));
            assert!(found.is_empty(), "{name}, {}:\n{}", section.name().unwrap_or("?"), found.join("\n"));
        }
    });
}

#[test]
fn a_kernel_needs_nothing_but_core() {
    let (mut defined, mut wanted) = (BTreeSet::new(), BTreeSet::new());
    each_member(|_, file| {
        for symbol in file.symbols() {
            let name = symbol.name().unwrap_or_default().to_owned();
            if symbol.is_undefined() {
                wanted.insert(name)
            } else {
                defined.insert(name)
            };
        }
    });
    let provided = |name: &str| {
        // Required by the compiler, the linker's bounds of the table, and `core` in both manglings.
        matches!(name, "" | "memcpy" | "memmove" | "memset" | "memcmp" | "bcmp")
            || matches!(name, "__start_faultin_ex" | "__stop_faultin_ex")
            || name.starts_with("_ZN4core")
            || (name.starts_with("_R") && name.contains("4core"))
    };
    let foreign: Vec<&String> = wanted.difference(&defined).filter(|name| !provided(name)).collect();
    assert!(foreign.is_empty(), "undefined: {foreign:?}");
    for name in ["kernel_page_fault", "copy_from_user", "copy_to_user", "clear_user", "get_user_64", "user_cmpxchg"] {
        assert!(defined.contains(name), "{name} is not in the archive");
    }
}

#[test]
fn a_kernel_has_a_table() {
    let mut entries = 0;
    each_member(|_, file| {
        let sections = file.sections().filter(|section| section.name() == Ok("faultin_ex"));
        entries += sections.map(|section| section.size() / 12).sum::<u64>();
    });
    assert!(entries > 20, "{entries} entries");
    eprintln!("{entries} entries");
}

/// The fixture's `TrapFrame`.
#[repr(C)]
#[derive(Default)]
struct TrapFrame {
    registers: [u64; 32],
    pc: u64,
    error: u64,
    address: u64,
}

type PageFault = extern "C" fn(&mut TrapFrame) -> bool;
type UserCopy = unsafe extern "C" fn(*mut u8, *const u8, usize) -> usize;
type GetUser = unsafe extern "C" fn(*mut u64, *const u64) -> i32;

static PAGE_FAULT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// The part of a kernel's entry code: builds a frame for the handler, and returns. Other faults exit the process.
extern "C" fn trap(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's data, during this call; the handler was stored before this one was installed.
    let (info, context, handle) = unsafe {
        (
            &*info,
            &mut *context.cast::<libc::ucontext_t>(),
            std::mem::transmute::<*mut c_void, PageFault>(PAGE_FAULT.load(Ordering::Relaxed)),
        )
    };
    // SAFETY: SIGSEGV and SIGBUS have an address.
    let mut frame = TrapFrame { address: unsafe { info.si_addr() }.addr() as u64, ..TrapFrame::default() };
    machine::load(&mut frame, context);
    if !handle(&mut frame) {
        std::process::abort();
    }
    machine::store(&frame, context);
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::TrapFrame;

    const REGISTERS: [i32; 16] = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];

    pub fn load(frame: &mut TrapFrame, context: &libc::ucontext_t) {
        let from = &context.uc_mcontext.gregs;
        for (to, number) in frame.registers.iter_mut().zip(REGISTERS) {
            *to = from[number as usize] as u64;
        }
        frame.pc = from[libc::REG_RIP as usize] as u64;
        frame.error = from[libc::REG_ERR as usize] as u64;
    }

    pub fn store(frame: &TrapFrame, context: &mut libc::ucontext_t) {
        let to = &mut context.uc_mcontext.gregs;
        for (from, number) in frame.registers.iter().zip(REGISTERS) {
            to[number as usize] = *from as i64;
        }
        to[libc::REG_RIP as usize] = frame.pc as i64;
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use super::TrapFrame;

    pub fn load(frame: &mut TrapFrame, context: &libc::ucontext_t) {
        frame.registers[..31].copy_from_slice(&context.uc_mcontext.regs);
        frame.pc = context.uc_mcontext.pc;
    }

    pub fn store(frame: &TrapFrame, context: &mut libc::ucontext_t) {
        context.uc_mcontext.regs.copy_from_slice(&frame.registers[..31]);
        context.uc_mcontext.pc = frame.pc;
    }
}

#[test]
fn a_kernels_trap_handler_needs_only_the_table() {
    let path =
        CString::new(build().join("libkernel.so").into_os_string().into_encoded_bytes()).expect("no NUL in a path");
    // SAFETY: the fixture has no initialisers.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    // SAFETY: after a failure there is a message.
    assert!(!library.is_null(), "{:?}", unsafe { CStr::from_ptr(libc::dlerror()) });
    let symbol = |name: &CStr| {
        // SAFETY: an open library.
        let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
        assert!(!symbol.is_null(), "{name:?}");
        symbol
    };
    PAGE_FAULT.store(symbol(c"kernel_page_fault"), Ordering::Relaxed);
    // SAFETY: the fixture's functions have these types.
    let (copies, get_user) = unsafe {
        let copies = [c"copy_from_user", c"copy_to_user", c"copy_in_user"]
            .map(|name| (name, std::mem::transmute::<*mut c_void, UserCopy>(symbol(name))));
        (copies, std::mem::transmute::<*mut c_void, GetUser>(symbol(c"get_user_64")))
    };
    let page = faultin::page_size();
    // SAFETY: a new mapping and its second half; a handler of the right type that is a function of this program.
    let memory = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()), 0);
        let (rw, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let memory = libc::mmap(std::ptr::null_mut(), 2 * page, rw, flags, -1, 0);
        assert_ne!(memory, libc::MAP_FAILED);
        let memory = memory.cast::<u8>();
        assert_eq!(libc::mprotect(memory.add(page).cast(), page, libc::PROT_NONE), 0);
        std::slice::from_raw_parts_mut(memory, page)
    };
    for (name, copy) in copies {
        for good in [0, 1, 7, 8, 33, 100] {
            let into_user = name == c"copy_to_user";
            memory.fill(if into_user { 9 } else { 5 });
            let mut own = [if into_user { 5 } else { 9 }; 100];
            let at = memory.as_mut_ptr().wrapping_add(page - good);
            // SAFETY: 100 local bytes, and memory of which `good` bytes are accessible.
            let left = unsafe { if into_user { copy(at, own.as_ptr(), 100) } else { copy(own.as_mut_ptr(), at, 100) } };
            assert_eq!(left, 100 - good, "{name:?} with {good} good bytes");
            let moved = if into_user { &memory[page - good..] } else { &own[..good] };
            assert!(moved.iter().all(|byte| *byte == 5), "{name:?} with {good} good bytes: {moved:?}");
            assert!(into_user || own[good..].iter().all(|byte| *byte == 9), "{name:?} with {good}: {own:?}");
        }
    }
    let mut value = 77;
    // SAFETY: a local word; the other address is inaccessible, or the last accessible word.
    unsafe {
        assert_eq!(get_user(&mut value, memory.as_ptr().wrapping_add(page).cast()), -libc::EFAULT);
        assert_eq!(value, 77);
        assert_eq!(get_user(&mut value, memory.as_ptr().wrapping_add(page - 8).cast()), 0);
    }
    assert_eq!(value, u64::from_ne_bytes([5; 8]));
}
