//! The reason of a short result: [`Fault`], and [`faultin_fault_print`].

use core::ffi::{c_char, c_int, c_void};
use core::fmt::{self, Write};

use faultin::map::{Change, Reason};
use faultin::{Access, MapError, Short};

/// Why an operation stopped: `cause` in struct faultin_fault.
///
/// Numbers are never reused; later versions may add some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Cause {
    /// It did not: a short count is the end of the file.
    None = 0,
    /// Nothing is mapped at the address (SEGV_MAPERR).
    Unmapped = 1,
    /// Mapped, but not with this right (SEGV_ACCERR).
    Protection = 2,
    /// Mapped, but the file or memory behind the mapping did not deliver (BUS_ADRERR): past the end of the file, an I/O error,
    /// no space, exhausted huge pages, a userfaultfd. Maps distinguish these.
    Backing = 3,
    /// Poisoned memory (BUS_MCEERR_AR): `extent` bytes are lost.
    Poison = 4,
    /// The pointer's tag is not the memory's (SEGV_MTESERR).
    Tag = 5,
    /// A protection key forbids it (SEGV_PKUERR).
    ProtectionKey = 6,
    /// Not an address of this machine.
    NonCanonical = 7,
    /// A misaligned atomic operation. Nothing was accessed.
    Alignment = 8,
    /// The access would have had to wait, and must not.
    NotResident = 9,
    /// An argument is out of range: a length, a number of segments, a granularity. Nothing was accessed.
    OutOfRange = 10,
    /// The ranges overlap with the destination above the source. Nothing was accessed.
    Overlap = 11,
    /// This machine or this mode has no such operation (an atomic one without a handler), or every way by which the kernel
    /// could make the access is forbidden. Nothing was accessed.
    Unsupported = 12,
    /// Any other cause; `signal` and `code` have what the kernel reported.
    Other = 13,
    /// Resolving the fault would wait for a lock that the faulting thread itself holds.
    Deadlock = 14,
    /// The file was truncated: from `size_before` to `size_now` bytes.
    Shrunk = 32,
    /// The file grew: from `size_before` to `size_now` bytes.
    Grown = 33,
    /// The file was rewritten.
    Rewritten = 34,
    /// Another file took the place of the mapped one.
    Replaced = 35,
    /// The file was deleted.
    Deleted = 36,
    /// The file's attributes or data were changed.
    Touched = 37,
    /// A system call failed: `error` has its error number.
    Io = 38,
    /// No space left on the device, or the quota is used up.
    NoSpace = 39,
    /// Past the end of the map, which has `size_now` bytes.
    PastEnd = 40,
    /// A directory, a pipe or a device: not a regular file.
    NotAFile = 41,
    /// The signal handler could not be installed.
    Handler = 42,
    /// The map is in use: a guard is open.
    Busy = 43,
}

/// A load or a store: `access` in struct faultin_fault, and an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Side {
    /// Loading.
    Read = 1,
    /// Storing, and atomic operations that load and store.
    Write = 2,
}

/// The address in a struct faultin_fault is known.
pub const FAULTIN_ADDRESS_KNOWN: u32 = 1;

/// Why an operation stopped, and where. 112 bytes, and the same on every machine.
///
/// Functions write it if, and only if, they did less than was asked for. With a length of 0 nothing is asked for, so nothing is
/// written, whatever the other arguments are.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Fault {
    /// The cause: enum faultin_cause.
    pub cause: u32,
    /// Whether a load or a store failed: enum faultin_access; 0 if neither was tried.
    pub access: u32,
    /// The error number that a system call would return for the same memory or file.
    pub error: i32,
    /// FAULTIN_ADDRESS_KNOWN, or 0. Later versions may set other bits.
    pub flags: u32,
    /// The signal that reported the fault (SIGSEGV or SIGBUS), 0 if none did.
    pub signal: i32,
    /// The signal's si_code, 0 if no signal reported the fault.
    pub code: i32,
    /// The address of the first byte that could not be accessed, if it is known.
    pub address: u64,
    /// The number of bytes that poison has destroyed, otherwise 0.
    pub extent: u64,
    /// The number of bytes that were done before.
    pub done: u64,
    /// Maps: the position in the file of the first byte that is not done.
    pub offset: u64,
    /// Maps: the size of the file when it was mapped, if that is the matter.
    pub size_before: u64,
    /// Maps: the size of the file now, or the length of the map, if that is the matter.
    pub size_now: u64,
    /// 0. Later versions may use it.
    pub reserved: [u64; 5],
}

const _: () = assert!(size_of::<Fault>() == 112);

impl Fault {
    pub(crate) const fn new(cause: Cause, error: c_int) -> Fault {
        Fault {
            cause: cause as u32,
            access: 0,
            error,
            flags: 0,
            signal: 0,
            code: 0,
            address: 0,
            extent: 0,
            done: 0,
            offset: 0,
            size_before: 0,
            size_now: 0,
            reserved: [0; 5],
        }
    }

    /// An argument that no call can satisfy.
    pub(crate) const fn invalid() -> Fault {
        Fault::new(Cause::OutOfRange, libc::EINVAL)
    }

    pub(crate) const fn side(mut self, access: Access) -> Fault {
        self.access = access as u32;
        self
    }

    /// Writes it where the caller wants it.
    ///
    /// # Safety
    /// `to` is null or valid for writes.
    pub(crate) unsafe fn put(&self, to: *mut Fault) {
        if !to.is_null() {
            // SAFETY: forwarded.
            unsafe { to.write(*self) };
        }
    }
}

/// Returns the number in C of a cause of faultin.
const fn cause(index: usize) -> u32 {
    index as u32 + 1
}

impl From<&faultin::Fault> for Fault {
    fn from(fault: &faultin::Fault) -> Fault {
        let extent = match fault.cause() {
            faultin::Cause::Poison { extent } => extent as u64,
            _ => 0,
        };
        Fault {
            cause: cause(fault.cause().index()),
            access: fault.access() as u32,
            flags: if fault.address().is_some() { FAULTIN_ADDRESS_KNOWN } else { 0 },
            signal: fault.signal(),
            code: fault.code(),
            address: fault.address().unwrap_or(0) as u64,
            extent,
            ..Fault::new(Cause::None, fault.errno())
        }
    }
}

impl From<&Short> for Fault {
    fn from(short: &Short) -> Fault {
        Fault { done: short.done as u64, ..Fault::from(&short.fault) }
    }
}

impl From<&MapError> for Fault {
    fn from(error: &MapError) -> Fault {
        let (cause, before, now) = match error.reason() {
            Reason::Changed(change) => of_change(change),
            Reason::Io(_) | Reason::LineTooLong { .. } => (Cause::Io, 0, 0),
            Reason::NoSpace => (Cause::NoSpace, 0, 0),
            Reason::PastEnd { len } => (Cause::PastEnd, 0, *len),
            Reason::NotResident => (Cause::NotResident, 0, 0),
            Reason::NotAFile(_) => (Cause::NotAFile, 0, 0),
            Reason::Handler(_) => (Cause::Handler, 0, 0),
            Reason::Fault(_) => (Cause::Other, 0, 0),
            _ => (Cause::Unsupported, 0, 0),
        };
        let reported = match error.reason() {
            Reason::Fault(fault) => Some(*fault),
            _ => error.fault(),
        };
        let base = reported.as_ref().map_or(Fault::new(cause, 0), Fault::from);
        Fault {
            cause: if matches!(error.reason(), Reason::Fault(_)) { base.cause } else { cause as u32 },
            // A position past the end is an argument out of range.
            error: error.errno().unwrap_or(libc::ERANGE),
            done: error.done() as u64,
            offset: error.offset(),
            size_before: before,
            size_now: now,
            ..base
        }
    }
}

/// Returns the cause, and the sizes before and after, of a change.
pub(crate) fn of_change(change: &Change) -> (Cause, u64, u64) {
    match *change {
        Change::Shrunk { from, to } => (Cause::Shrunk, from, to),
        Change::Grown { from, to } => (Cause::Grown, from, to),
        Change::Rewritten => (Cause::Rewritten, 0, 0),
        Change::Replaced => (Cause::Replaced, 0, 0),
        Change::Deleted => (Cause::Deleted, 0, 0),
        _ => (Cause::Touched, 0, 0),
    }
}

/// Returns `len`, or after a fault the number of bytes done.
///
/// # Safety
/// `fault` is null or valid for writes.
#[inline(always)]
pub(crate) unsafe fn count(result: Result<(), Short>, len: usize, fault: *mut Fault) -> usize {
    match result {
        Ok(()) => len,
        // Nothing was asked for, whatever is wrong with the other arguments.
        Err(_) if len == 0 => 0,
        // SAFETY: forwarded.
        Err(short) => unsafe { stopped(&short, fault.cast()) },
    }
}

/// Reports a short result: returns the number of bytes done.
///
/// # Safety
/// `fault` is null or valid for writes of a [`Fault`].
#[cold]
#[inline(never)]
pub(crate) unsafe extern "C" fn stopped(short: &Short, fault: *mut c_void) -> usize {
    // SAFETY: forwarded.
    unsafe { Fault::from(short).put(fault.cast()) };
    short.done
}

/// Reports a failure: returns its error number.
///
/// # Safety
/// `to` is null or valid for writes.
#[cold]
#[inline(never)]
pub(crate) unsafe fn failed(fault: impl Into<Fault>, to: *mut Fault) -> c_int {
    let fault = fault.into();
    // SAFETY: forwarded.
    unsafe { fault.put(to) };
    fault.error
}

/// A writer to a buffer of the caller, as snprintf's: counts what does not fit.
pub(crate) struct Buffer {
    to: *mut c_char,
    size: usize,
    len: usize,
}

impl Buffer {
    /// # Safety
    /// `to` is valid for writes of `size` bytes, or `size` is 0.
    pub(crate) unsafe fn new(to: *mut c_char, size: usize) -> Buffer {
        Buffer { to, size, len: 0 }
    }

    /// Ends the text with a NUL; returns its length without it, also if that did not fit.
    pub(crate) fn finish(self) -> usize {
        if let Some(last) = self.size.checked_sub(1) {
            // SAFETY: within the buffer.
            unsafe { self.to.add(self.len.min(last)).write(0) };
        }
        self.len
    }
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.len + 1 < self.size {
                // SAFETY: within the buffer, before its last byte.
                unsafe { self.to.add(self.len).write(byte.cast_signed() as c_char) };
            }
            self.len += 1;
        }
        Ok(())
    }
}

/// Returns what happened, in a few words.
fn name(cause: u32) -> &'static str {
    const CHANGES: [&str; 12] = [
        "the file was truncated",
        "the file grew",
        "the file was rewritten",
        "another file took its place",
        "the file was deleted",
        "the file's attributes or data were changed",
        "a system call failed",
        "no space left",
        "past the end",
        "not a regular file",
        "the signal handler could not be installed",
        "the map is in use",
    ];
    match cause {
        0 => "end of file",
        3 => "the file or memory behind the mapping did not deliver",
        10 => "an argument is out of range",
        index => {
            let access = (index as usize).checked_sub(1).and_then(|index| faultin::Cause::ALL.get(index));
            let change = (index as usize).checked_sub(32).and_then(|index| CHANGES.get(index)).copied();
            access.map(|cause| cause.name()).or(change).unwrap_or("unknown cause")
        }
    }
}

/// A size in bytes that is enough for every text of faultin_fault_print().
pub const FAULTIN_FAULT_PRINT_SIZE: usize = 256;

/// Writes what a fault says, as a line without its end, for example "store failed after 4096 bytes: no space left (error 28) at
/// byte 4096".
///
/// At most `size` bytes are written, including a NUL, which is always written unless `size` is 0.
///
/// If FAULTIN_ADDRESS_KNOWN is set in `flags`, the text ends with `address`, which is an address of the calling process. Sent to a
/// peer that is not trusted, or written where others may read it, it discloses where memory is mapped (address space layout
/// randomisation). Clear the flag in the structure first, and the text has no address.
///
/// Async-signal-safe: does not allocate, lock, or use the locale.
///
/// @param fault   What a function has written.
/// @param buffer  Where the text is written; may be NULL if `size` is 0.
/// @param size    The size of the buffer in bytes; FAULTIN_FAULT_PRINT_SIZE is always enough.
/// @return The length of the whole text without its NUL, as snprintf: the text was shortened if this is `size` or more.
///
/// # Safety
/// `fault` is valid for reads, `buffer` for writes of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_fault_print(fault: *const Fault, buffer: *mut c_char, size: usize) -> usize {
    // SAFETY: the caller's contract.
    let (fault, mut text) = unsafe { (&*fault, Buffer::new(buffer, size)) };
    let _ = print(fault, &mut text);
    text.finish()
}

fn print(fault: &Fault, text: &mut Buffer) -> fmt::Result {
    match fault.access {
        1 => text.write_str("load")?,
        2 => text.write_str("store")?,
        _ => text.write_str("operation")?,
    }
    text.write_str(if fault.cause == 0 { " ended" } else { " failed" })?;
    if fault.done > 0 {
        write!(text, " after {} bytes", fault.done)?;
    }
    write!(text, ": {}", name(fault.cause))?;
    if fault.extent > 0 {
        write!(text, " ({} bytes lost)", fault.extent)?;
    }
    if fault.cause == Cause::Other as u32 {
        write!(text, " (signal {}, code {})", fault.signal, fault.code)?;
    }
    if fault.size_before != 0 || fault.size_now != 0 {
        match fault.cause {
            cause if cause == Cause::PastEnd as u32 => write!(text, " of {} bytes", fault.size_now)?,
            _ => write!(text, " from {} to {} bytes", fault.size_before, fault.size_now)?,
        }
    }
    if fault.error != 0 {
        write!(text, " (error {})", fault.error)?;
    }
    if fault.offset > 0 {
        write!(text, " at byte {}", fault.offset)?;
    }
    if fault.flags & FAULTIN_ADDRESS_KNOWN != 0 {
        write!(text, " at {:#x}", fault.address)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_of_faultin_have_the_numbers_of_the_header() {
        let table = [
            (faultin::Cause::Unmapped, Cause::Unmapped),
            (faultin::Cause::Protection, Cause::Protection),
            (faultin::Cause::Backing, Cause::Backing),
            (faultin::Cause::Poison { extent: 1 }, Cause::Poison),
            (faultin::Cause::Tag, Cause::Tag),
            (faultin::Cause::ProtectionKey, Cause::ProtectionKey),
            (faultin::Cause::NonCanonical, Cause::NonCanonical),
            (faultin::Cause::Alignment, Cause::Alignment),
            (faultin::Cause::NotResident, Cause::NotResident),
            (faultin::Cause::OutOfRange, Cause::OutOfRange),
            (faultin::Cause::Overlap, Cause::Overlap),
            (faultin::Cause::Unsupported, Cause::Unsupported),
            (faultin::Cause::Other, Cause::Other),
            (faultin::Cause::Deadlock, Cause::Deadlock),
        ];
        assert_eq!(table.len(), faultin::Cause::COUNT);
        for (rust, c) in table {
            assert_eq!(cause(rust.index()), c as u32, "{rust:?}");
        }
    }

    fn printed(fault: &Fault, size: usize) -> (String, usize) {
        let mut buffer = vec![c_char::MAX; size + 1];
        // SAFETY: a local buffer.
        let len = unsafe { faultin_fault_print(fault, buffer.as_mut_ptr(), size) };
        assert_eq!(buffer[size], c_char::MAX, "past the end");
        let text = buffer[..size].iter().take_while(|&&c| c != 0).map(|&c| c as u8 as char).collect();
        (text, len)
    }

    #[test]
    fn text_is_shortened_as_by_snprintf() {
        let fault = Fault { done: 4096, offset: 4096, ..Fault::new(Cause::NoSpace, 28).side(Access::Write) };
        let whole = "store failed after 4096 bytes: no space left (error 28) at byte 4096";
        for size in 1..whole.len() + 10 {
            assert_eq!(printed(&fault, size), (whole[..whole.len().min(size - 1)].to_owned(), whole.len()), "{size}");
        }
        // SAFETY: nothing is written.
        assert_eq!(unsafe { faultin_fault_print(&raw const fault, core::ptr::null_mut(), 0) }, whole.len());
    }

    #[test]
    fn without_its_flag_an_address_is_not_in_the_text() {
        let known = Fault { flags: FAULTIN_ADDRESS_KNOWN, address: 0x7f12_3456_7000, ..Fault::new(Cause::Unmapped, 0) };
        assert!(printed(&known, 200).0.ends_with(" at 0x7f1234567000"));
        let hidden = printed(&Fault { flags: 0, ..known }, 200).0;
        assert_eq!(hidden, "operation failed: unmapped");
    }

    #[test]
    fn the_longest_text_fits_in_what_the_header_says() {
        let longest = (0..64)
            .map(|cause| {
                let all = Fault {
                    cause,
                    access: 0,
                    error: i32::MIN,
                    flags: FAULTIN_ADDRESS_KNOWN,
                    signal: i32::MIN,
                    code: i32::MIN,
                    address: u64::MAX,
                    extent: if cause == 4 { u64::MAX } else { 0 },
                    done: u64::MAX,
                    offset: if cause >= 32 { u64::MAX } else { 0 },
                    size_before: if (32..34).contains(&cause) { u64::MAX } else { 0 },
                    size_now: if (32..34).contains(&cause) { u64::MAX } else { 0 },
                    reserved: [0; 5],
                };
                printed(&all, 400).1
            })
            .max();
        assert!(longest < Some(FAULTIN_FAULT_PRINT_SIZE), "{longest:?}");
    }
}
