//! The operations: their effect in the model, and the comparison with the real one.

use core::mem::MaybeUninit;
use core::num::NonZeroUsize;
use core::sync::atomic::Ordering;

use faultin::{Access, Cause, Fault, Granularity, Scalar, Short, raw::StructError, signal::counters};

use super::Source;
use super::layout::{Kind, Layout, Place};

/// The byte in private memory where nothing was copied to.
const CANARY: u8 = 0xc9;

/// The longest copy to or from private memory.
const BUFFER: usize = 1 << 15;

/// Calls a function for the integer type of this many bits.
macro_rules! sized {
    ($bits:expr, $function:ident($($argument:expr),*)) => {
        match $bits {
            8 => $function::<u8>($($argument),*),
            16 => $function::<u16>($($argument),*),
            32 => $function::<u32>($($argument),*),
            64 => $function::<u64>($($argument),*),
            _ => $function::<u128>($($argument),*),
        }
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomic {
    Load,
    Store,
    Swap,
    CompareExchange,
    Add,
    Sub,
    And,
    Or,
    Xor,
    Nand,
    Max,
    Min,
}

impl Atomic {
    const ALL: [Atomic; 12] = [
        Atomic::Load,
        Atomic::Store,
        Atomic::Swap,
        Atomic::CompareExchange,
        Atomic::Add,
        Atomic::Sub,
        Atomic::And,
        Atomic::Or,
        Atomic::Xor,
        Atomic::Nand,
        Atomic::Max,
        Atomic::Min,
    ];
}

#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Remap { index: usize, kind: Kind },
    CopyIn { src: Place, len: usize, how: In },
    CopyOut { dst: Place, len: usize, unpredictable: bool, seed: u8 },
    Copy { dst: Place, src: Place, len: usize },
    Fill { dst: Place, byte: u8, len: usize },
    Strnlen { at: Place, max: usize },
    Strncpy { at: Place, max: usize },
    IsZeroed { at: Place, len: usize },
    Compare { a: Place, b: Place, len: usize },
    CopyStruct { src: Place, ours: usize, theirs: usize },
    Load { at: Place, bits: u32 },
    Store { at: Place, bits: u32, value: u128 },
    Atomic { at: Place, bits: u32, what: Atomic, value: u128, expected: bool },
    FaultIn { at: Place, len: usize, access: Access },
    Probe { at: Place, len: usize, access: Access, granularity: Granularity },
}

/// The ways to copy into private memory.
#[derive(Clone, Copy, Debug)]
pub enum In {
    Usual,
    Unpredictable,
    Uninit,
}

/// The outcome of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Complete,
    /// A byte before a bad one in the same block, which a wide load may have touched.
    Found,
    Short,
    /// Without an access.
    Refused,
}

impl Operation {
    pub fn from_source(source: &mut Source<'_>, layout: &Layout) -> Operation {
        let access = |source: &mut Source<'_>| source.one_of(&[Access::Read, Access::Write]);
        let bits = |source: &mut Source<'_>| source.one_of(&[8, 16, 32, 64, 128]);
        let wide = |source: &mut Source<'_>| u128::from(source.word()) | u128::from(source.word()) << 64;
        match source.below(16) {
            0 => Operation::Remap { index: source.below(layout.pages()), kind: Layout::random_kind(source) },
            1 | 2 => Operation::CopyIn {
                src: layout.place(source),
                len: layout.len(source),
                how: source.one_of(&[In::Usual, In::Unpredictable, In::Uninit]),
            },
            3 | 4 => Operation::CopyOut {
                dst: layout.place(source),
                len: layout.len(source),
                unpredictable: source.byte() & 1 == 1,
                seed: source.byte(),
            },
            5 => Operation::Copy { dst: layout.place(source), src: layout.place(source), len: layout.len(source) },
            6 => Operation::Fill { dst: layout.place(source), byte: source.byte(), len: layout.len(source) },
            7 => Operation::Strnlen { at: layout.place(source), max: layout.len(source) },
            8 => Operation::Strncpy { at: layout.place(source), max: layout.len(source).min(BUFFER) },
            9 => Operation::IsZeroed { at: layout.place(source), len: layout.len(source) },
            10 => Operation::Compare { a: layout.place(source), b: layout.place(source), len: layout.len(source) },
            11 => {
                Operation::CopyStruct { src: layout.place(source), ours: source.below(300), theirs: source.below(300) }
            }
            12 => Operation::Load { at: layout.place(source), bits: bits(source) },
            13 => Operation::Store { at: layout.place(source), bits: bits(source), value: wide(source) },
            14 => Operation::Atomic {
                at: layout.place(source),
                bits: bits(source),
                what: source.one_of(&Atomic::ALL),
                value: wide(source),
                expected: source.byte() & 1 == 1,
            },
            _ if source.byte() & 1 == 0 => {
                Operation::FaultIn { at: layout.place(source), len: layout.len(source), access: access(source) }
            }
            _ => Operation::Probe {
                at: layout.place(source),
                len: layout.len(source),
                access: access(source),
                granularity: source.one_of(&[Granularity::Page, Granularity::Line, Granularity::Tag]),
            },
        }
    }

    /// Runs the operation in the model and for real. `Err`: the difference.
    pub fn check(self, layout: &mut Layout) -> Result<End, String> {
        let before = counters().total();
        let end = self.compare(layout)?;
        let signals = counters().total() - before;
        // One more where the CPU gives no address, or two places are bad.
        let bound = match end {
            End::Complete | End::Refused => 0,
            End::Short | End::Found => 2,
        };
        if signals > bound {
            return Err(format!("{signals} signals for {end:?}"));
        }
        layout.difference().map_or(Ok(end), Err)
    }

    fn compare(self, layout: &mut Layout) -> Result<End, String> {
        match self {
            Operation::Remap { index, kind } => {
                layout.remap(index, kind);
                Ok(End::Complete)
            }
            Operation::CopyIn { src, len, how } => copy_in(layout, src, len, how),
            Operation::CopyOut { dst, len, unpredictable, seed } => copy_out(layout, dst, len, unpredictable, seed),
            Operation::Copy { dst, src, len } => copy(layout, dst, src, len),
            Operation::Fill { dst, byte, len } => {
                let done = layout.prefix(dst, len, Access::Write);
                layout.put(dst, &vec![byte; done]);
                // SAFETY: foreign memory of the layout; what follows it is not accessible.
                let real = unsafe { faultin::raw::fill(dst.write(), byte, len) };
                short(layout, real, len, done, (Access::Write, dst))
            }
            Operation::Strnlen { at, max } => {
                // SAFETY: as above.
                let real = unsafe { faultin::raw::strnlen(at.read(), max) };
                string(layout, real, at, max)
            }
            Operation::Strncpy { at, max } => strncpy(layout, at, max),
            Operation::IsZeroed { at, len } => {
                let readable = layout.prefix(at, len, Access::Read);
                let zeros = layout.bytes(at, readable).iter().take_while(|byte| **byte == 0).count();
                // SAFETY: as above.
                let real = unsafe { faultin::raw::is_zeroed(at.read(), len) };
                if zeros < readable {
                    return same(&real, &Ok(false)).map(|()| End::Found);
                }
                short(layout, real.map(|all| assert!(all)), len, readable, (Access::Read, at))
            }
            Operation::Compare { a, b, len } => {
                let readable = layout.prefix(a, len, Access::Read).min(layout.prefix(b, len, Access::Read));
                let equal = layout.bytes(a, readable).iter().zip(layout.bytes(b, readable)).take_while(|(a, b)| a == b);
                let equal = equal.count();
                // SAFETY: as above.
                let real = unsafe { faultin::raw::compare(a.read(), b.read(), len) };
                if equal < readable {
                    return same(&real, &Ok(Some(equal))).map(|()| End::Found);
                }
                let bad = if layout.cause(a.after(readable), Access::Read).is_some() { a } else { b };
                // With both bad at the same offset, either is correct.
                let real = match real {
                    Err(mut short) if layout.cause(b.after(readable), Access::Read).is_some() => {
                        if let Ok(expected) = fault_at(layout, Access::Read, bad.after(readable)) {
                            short.fault = expected;
                        }
                        Err(short)
                    }
                    real => real,
                };
                short(layout, real.map(|different| assert_eq!(different, None)), len, readable, (Access::Read, bad))
            }
            Operation::CopyStruct { src, ours, theirs } => copy_struct(layout, src, ours, theirs),
            Operation::Load { at, bits } => sized!(bits, load(layout, at)),
            Operation::Store { at, bits, value } => sized!(bits, store(layout, at, value)),
            Operation::Atomic { at, bits, what, value, expected } => {
                sized!(bits, atomic(layout, at, what, value, expected))
            }
            Operation::FaultIn { at, len, access } => {
                let Some(len) = NonZeroUsize::new(len) else { return Ok(End::Complete) };
                let done = layout.prefix(at, len.get(), access);
                // SAFETY: as above.
                let real = unsafe {
                    match access {
                        Access::Read => faultin::raw::fault_in_readable(at.read(), len),
                        Access::Write => faultin::raw::fault_in_writeable(at.write(), len),
                    }
                };
                match (NonZeroUsize::new(done), real) {
                    (Some(done), Ok(real)) if done == real => Ok(if done == len { End::Complete } else { End::Short }),
                    (None, Err(fault)) => {
                        reason(layout, &fault, access, at)?;
                        Ok(End::Short)
                    }
                    (expected, real) => Err(format!("the model says {expected:?}, it was {real:?}")),
                }
            }
            Operation::Probe { at, len, access, granularity } => {
                let done = layout.prefix(at, len, access);
                // SAFETY: as above.
                let real = unsafe {
                    match access {
                        Access::Read => faultin::raw::probe_read(at.read(), len, granularity),
                        Access::Write => faultin::raw::probe_write(at.write(), len, granularity),
                    }
                };
                short(layout, real, len, done, (access, at))
            }
        }
    }
}

fn same<T: core::fmt::Debug + PartialEq>(real: &T, expected: &T) -> Result<(), String> {
    if real == expected { Ok(()) } else { Err(format!("the model says {expected:?}, it was {real:?}")) }
}

/// The fault of an access to `place`, according to the model.
fn fault_at(layout: &Layout, access: Access, place: Place) -> Result<Fault, String> {
    let cause = layout.cause(place, access).ok_or(format!("{place:?} is accessible"))?;
    Ok(Fault::rejected(access, cause, place.0))
}

/// Whether `fault` is the model's for `access` to `place`. Its address may be unknown where the CPU gives none.
fn reason(layout: &Layout, fault: &Fault, access: Access, place: Place) -> Result<(), String> {
    let expected = fault_at(layout, access, place)?;
    let told = fault.address().is_none_or(|address| {
        // On aarch64 the top byte is a tag, which the kernel does not report. User-mode emulation on x86-64 reports 0
        // for what is no address there.
        let (a64, ignored) = if cfg!(target_arch = "aarch64") { (true, 8) } else { (false, 0) };
        address << ignored == place.0 << ignored || (a64 && address == 0 && place.0 >= 1 << 47)
    });
    if (fault.access(), fault.cause()) == (access, expected.cause()) && told {
        return Ok(());
    }
    Err(format!("the model says {expected:?}, it was {fault:?}"))
}

/// Compares a result with `done` of `len` bytes, short at `side`.
fn short(
    layout: &Layout,
    real: Result<(), Short>,
    len: usize,
    done: usize,
    (access, side): (Access, Place),
) -> Result<End, String> {
    match real {
        Ok(()) if done == len => Ok(End::Complete),
        Err(short) if done < len && short.done == done => {
            reason(layout, &short.fault, access, side.after(done))?;
            Ok(End::Short)
        }
        real => Err(format!("the model says {done} of {len} bytes, it was {real:?}")),
    }
}

/// The kernel's count for a copy within this process; `None` where its rules for lengths differ.
fn oracle(write: bool, local: *mut u8, remote: Place, len: usize) -> Option<usize> {
    if len == 0 || len > BUFFER {
        return None;
    }
    let local = libc::iovec { iov_base: local.cast(), iov_len: len };
    let remote = libc::iovec { iov_base: remote.write().cast(), iov_len: len };
    // SAFETY: `local` is private memory of that length; the other side is in the layout or unmapped.
    let moved = unsafe {
        if write {
            libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0)
        } else {
            libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0)
        }
    };
    if moved >= 0 {
        return Some(moved as usize);
    }
    // A sandbox or an emulator may lack the call.
    (std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)).then_some(0)
}

/// A private buffer for `len` bytes with canaries after them; copies longer than it stop before its end.
fn buffer(len: usize) -> Vec<u8> {
    vec![CANARY; len.min(BUFFER) + 64]
}

fn untouched(buffer: &[u8], done: usize) -> Result<(), String> {
    match buffer[done..].iter().position(|byte| *byte != CANARY) {
        None => Ok(()),
        Some(at) => Err(format!("byte {} behind the count of {done} was touched", done + at)),
    }
}

fn copy_in(layout: &Layout, src: Place, len: usize, how: In) -> Result<End, String> {
    let done = layout.prefix(src, len, Access::Read);
    let mut own = buffer(len);
    // The kernel first: this crate's copy must overwrite its bytes.
    if let Some(moved) = oracle(false, own.as_mut_ptr(), src, len) {
        if moved != done || own[..moved] != *layout.bytes(src, moved) {
            return Err(format!("the model says {done}, the kernel {moved}"));
        }
        own.fill(CANARY);
    }
    // SAFETY: the layout is shorter than the buffer and followed by memory that is not accessible.
    let real = unsafe {
        match how {
            In::Usual => faultin::raw::copy_in(own.as_mut_ptr(), src.read(), len),
            In::Unpredictable => faultin::raw::copy_unpredictable(own.as_mut_ptr(), src.read(), len),
            In::Uninit if len <= BUFFER => {
                let dst = &mut own[..len];
                let dst = core::slice::from_raw_parts_mut(dst.as_mut_ptr().cast::<MaybeUninit<u8>>(), len);
                match faultin::raw::read_uninit(dst, src.read()) {
                    Ok(all) if all.len() == len => Ok(()),
                    Ok(all) => return Err(format!("{} of {len} bytes are said to be all", all.len())),
                    Err(half) if half.init.len() + half.uninit.len() == len => {
                        Err(Short { done: half.init.len(), fault: half.fault })
                    }
                    Err(half) => return Err(format!("{} + {} of {len}", half.init.len(), half.uninit.len())),
                }
            }
            In::Uninit => faultin::raw::copy_in(own.as_mut_ptr(), src.read(), len),
        }
    };
    let end = short(layout, real, len, done, (Access::Read, src))?;
    if own[..done] != *layout.bytes(src, done) {
        return Err("the bytes copied are others".to_owned());
    }
    untouched(&own, done)?;
    Ok(end)
}

fn copy_out(layout: &mut Layout, dst: Place, len: usize, unpredictable: bool, seed: u8) -> Result<End, String> {
    let done = layout.prefix(dst, len, Access::Write);
    let mut own: Vec<u8> = (0..len.min(BUFFER)).map(|i| (i as u8).wrapping_mul(13).wrapping_add(seed)).collect();
    if let Some(moved) = oracle(true, own.as_mut_ptr(), dst, len) {
        layout.put(dst, &own[..done]);
        if moved != done || layout.difference().is_some() {
            return Err(format!("the model says {done}, the kernel {moved}"));
        }
        own.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    }
    layout.put(dst, &own[..done]);
    // The source must be as long as the copy: bytes past its end would be read.
    let (len, real) = if len <= BUFFER {
        // SAFETY: as above.
        let real = unsafe {
            if unpredictable {
                faultin::raw::copy_unpredictable(dst.write(), own.as_ptr(), len)
            } else {
                faultin::raw::copy_out(dst.write(), own.as_ptr(), len)
            }
        };
        (len, real)
    } else {
        // SAFETY: as above.
        (BUFFER, unsafe { faultin::raw::copy_out(dst.write(), own.as_ptr(), BUFFER) })
    };
    short(layout, real, len, done, (Access::Write, dst))
}

fn copy(layout: &mut Layout, dst: Place, src: Place, len: usize) -> Result<End, String> {
    let (above, below) = (dst.0.wrapping_sub(src.0), src.0.wrapping_sub(dst.0));
    // SAFETY: foreign memory on both sides.
    let real = unsafe { faultin::raw::copy(dst.write(), src.read(), len) };
    if (above < len || below < len) && dst.0 > src.0 {
        let refused = Short { done: 0, fault: Fault::rejected(Access::Write, Cause::Overlap, dst.0) };
        return same(&real, &Err(refused)).map(|()| End::Refused);
    }
    let (readable, writable) = (layout.prefix(src, len, Access::Read), layout.prefix(dst, len, Access::Write));
    let done = readable.min(writable);
    for i in 0..done {
        let byte = layout.byte(src.after(i));
        layout.put(dst.after(i), &[byte]);
    }
    // With both sides bad at the same offset, either is correct.
    let side = match real {
        Err(Short { fault, .. }) if readable == writable && fault.access() == Access::Write => (Access::Write, dst),
        _ if readable <= writable => (Access::Read, src),
        _ => (Access::Write, dst),
    };
    short(layout, real, len, done, side)
}

fn string(layout: &Layout, real: Result<usize, Short>, at: Place, max: usize) -> Result<End, String> {
    let readable = layout.prefix(at, max, Access::Read);
    if let Some(len) = layout.bytes(at, readable).iter().position(|byte| *byte == 0) {
        return same(&real, &Ok(len)).map(|()| End::Complete);
    }
    let real = match real {
        Ok(len) if len == max => Ok(()),
        Ok(len) => return Err(format!("a string of {len} bytes without a NUL")),
        Err(short) => Err(short),
    };
    short(layout, real, max, readable, (Access::Read, at))
}

fn strncpy(layout: &Layout, at: Place, max: usize) -> Result<End, String> {
    let mut own = buffer(max);
    // SAFETY: the buffer is longer than `max`.
    let real = unsafe { faultin::raw::strncpy(own.as_mut_ptr(), at.read(), max) };
    let end = string(layout, real, at, max)?;
    let copied = match real {
        Ok(len) => max.min(len + 1),
        Err(short) => short.done,
    };
    if own[..copied] != *layout.bytes(at, copied) {
        return Err("the bytes copied are others".to_owned());
    }
    untouched(&own, copied)?;
    Ok(end)
}

fn copy_struct(layout: &Layout, src: Place, ours: usize, theirs: usize) -> Result<End, String> {
    let mut own = buffer(ours);
    // SAFETY: the buffer is longer than `ours`.
    let real = unsafe { faultin::raw::copy_struct_in(own.as_mut_ptr(), ours, src.read(), theirs) };
    let common = ours.min(theirs);
    let rest = theirs - common;
    let readable = layout.prefix(src.after(common), rest, Access::Read);
    let unknown = layout.bytes(src.after(common), readable).iter().any(|byte| *byte != 0);
    let bad = if unknown {
        None
    } else if readable < rest {
        Some(src.after(common + readable))
    } else {
        let readable = layout.prefix(src, common, Access::Read);
        (readable < common).then(|| src.after(readable))
    };
    untouched(&own[ours..], 0)?;
    match (unknown, bad, real) {
        (true, _, Err(StructError::TooBig)) => Ok(End::Found),
        (false, Some(place), Err(StructError::Fault(fault))) => {
            reason(layout, &fault, Access::Read, place)?;
            Ok(End::Short)
        }
        (false, None, Ok(())) => {
            if own[..common] != *layout.bytes(src, common) || own[common..ours].iter().any(|byte| *byte != 0) {
                return Err("the structure is another".to_owned());
            }
            Ok(End::Complete)
        }
        (_, _, real) => Err(format!("the model says too big: {unknown}, bad: {bad:?}, it was {real:?}")),
    }
}

/// An integer as bytes in memory.
trait Word: Scalar + core::fmt::Debug {
    fn truncate(value: u128) -> Self;
    fn widen(self) -> u128;
    fn of(bytes: &[u8]) -> Self {
        let mut wide = [0; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        Self::truncate(u128::from_le_bytes(wide))
    }
    fn put(self, layout: &mut Layout, at: Place) {
        layout.put(at, &self.widen().to_le_bytes()[..size_of::<Self>()]);
    }
}

macro_rules! words {
    ($($ty:ident)*) => {$(
        impl Word for $ty {
            fn truncate(value: u128) -> Self {
                value as $ty
            }
            fn widen(self) -> u128 {
                self as u128
            }
        }
    )*};
}
words!(u8 u16 u32 u64 u128);

/// A failed access of fixed size reports an inaccessible byte: the first one or, if the access crosses into a bad page,
/// whichever the CPU checks first; or it reports no address.
fn failed<T>(layout: &Layout, fault: &Fault, access: Access, at: Place) -> Result<End, String> {
    let first = at.after(layout.prefix(at, size_of::<T>(), access));
    let place = match fault.address() {
        Some(address) if address.wrapping_sub(at.0) < size_of::<T>() => Place(address),
        _ => first,
    };
    reason(layout, fault, access, place)?;
    Ok(End::Short)
}

fn load<T: Word>(layout: &Layout, at: Place) -> Result<End, String> {
    let size = size_of::<T>();
    // SAFETY: foreign memory.
    let real = unsafe { faultin::raw::load(at.read().cast::<T>()) };
    match real {
        Ok(value) if layout.prefix(at, size, Access::Read) == size => {
            same(&value, &T::of(layout.bytes(at, size))).map(|()| End::Complete)
        }
        Err(fault) if layout.prefix(at, size, Access::Read) < size => failed::<T>(layout, &fault, Access::Read, at),
        real => Err(format!("it was {real:?}")),
    }
}

fn store<T: Word>(layout: &mut Layout, at: Place, value: u128) -> Result<End, String> {
    let (size, value) = (size_of::<T>(), T::truncate(value));
    // SAFETY: foreign memory.
    let real = unsafe { faultin::raw::store(at.write().cast::<T>(), value) };
    match real {
        Ok(()) if layout.prefix(at, size, Access::Write) == size => {
            value.put(layout, at);
            Ok(End::Complete)
        }
        Err(fault) if layout.prefix(at, size, Access::Write) < size => failed::<T>(layout, &fault, Access::Write, at),
        real => Err(format!("it was {real:?}")),
    }
}

fn atomic<T: Word>(layout: &mut Layout, at: Place, what: Atomic, value: u128, expected: bool) -> Result<End, String> {
    let (size, value) = (size_of::<T>(), T::truncate(value));
    let access = if what == Atomic::Load { Access::Read } else { Access::Write };
    let readable = layout.prefix(at, size, Access::Read) == size;
    let old = if readable { T::of(layout.bytes(at, size)) } else { value };
    // A compare-exchange that succeeds, or most likely fails.
    let current = if expected { old } else { T::truncate(!old.widen()) };
    let ptr = at.write().cast::<T>();
    let order = Ordering::SeqCst;
    // SAFETY: foreign memory.
    let real: Result<T, Fault> = unsafe {
        match what {
            Atomic::Load => faultin::raw::load_atomic(ptr, order),
            Atomic::Store => faultin::raw::store_atomic(ptr, value, order).map(|()| old),
            Atomic::Swap => faultin::raw::swap(ptr, value),
            Atomic::CompareExchange => match faultin::raw::compare_exchange(ptr, current, value, order, order) {
                Ok(Ok(found)) if expected => Ok(found),
                Ok(Err(found)) if !expected => Ok(found),
                Ok(other) => return Err(format!("expecting {current:?} it was {other:?}")),
                Err(fault) => Err(fault),
            },
            Atomic::Add => faultin::raw::fetch_add(ptr, value, order),
            Atomic::Sub => faultin::raw::fetch_sub(ptr, value, order),
            Atomic::And => faultin::raw::fetch_and(ptr, value, order),
            Atomic::Or => faultin::raw::fetch_or(ptr, value, order),
            Atomic::Xor => faultin::raw::fetch_xor(ptr, value, order),
            Atomic::Nand => faultin::raw::fetch_nand(ptr, value, order),
            Atomic::Max => faultin::raw::fetch_max(ptr, value, order),
            Atomic::Min => faultin::raw::fetch_min(ptr, value, order),
        }
    };
    if let Err(fault) = real {
        if !at.0.is_multiple_of(size) {
            return same(&fault, &Fault::rejected(access, Cause::Alignment, at.0)).map(|()| End::Refused);
        }
        if size == 16 && fault.cause() == Cause::Unsupported {
            return Ok(End::Refused);
        }
        if layout.prefix(at, size, access) < size {
            return failed::<T>(layout, &fault, access, at);
        }
        return Err(format!("it failed with {fault:?}"));
    }
    if !at.0.is_multiple_of(size) || layout.prefix(at, size, access) < size {
        return Err(format!("it was {real:?}"));
    }
    same(&real, &Ok(old))?;
    let (o, v) = (old.widen(), value.widen());
    let new = match what {
        Atomic::Load => o,
        Atomic::Store | Atomic::Swap => v,
        Atomic::CompareExchange => {
            if expected {
                v
            } else {
                o
            }
        }
        Atomic::Add => o.wrapping_add(v),
        Atomic::Sub => o.wrapping_sub(v),
        Atomic::And => o & v,
        Atomic::Or => o | v,
        Atomic::Xor => o ^ v,
        Atomic::Nand => !(o & v),
        Atomic::Max => o.max(v),
        Atomic::Min => o.min(v),
    };
    T::truncate(new).put(layout, at);
    Ok(End::Complete)
}
