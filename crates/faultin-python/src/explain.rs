//! `faultin.explain`: the message of a bus error that ends the process.
//!
//! The handler prints one line, and passes the signal on to the handler that was there before (faulthandler prints the Python
//! traceback), or lets the kernel end the process. Code that runs in the signal: [`handle`] and what it calls. System calls
//! and static memory only.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use faultin::{InstallError, signal};
use pyo3::prelude::*;

use crate::error::no_handler;
use crate::guard::{Query, READABLE, Reference, SHARED, Shown, WRITABLE, open_maps, query};
use crate::status;

/// What was there before, in a box that is never freed; 0 before the first installation.
static PREVIOUS: AtomicUsize = AtomicUsize::new(0);

/// Whether a thread is printing: one line is enough, and there is one buffer.
static PRINTING: AtomicBool = AtomicBool::new(false);

/// Whether a signal that the process sent itself was passed over.
static PASSED_OVER: AtomicBool = AtomicBool::new(false);

/// A file system with less than this has no space: some want more blocks for a store than for the page alone.
const NEARLY_FULL: u64 = 64 << 10;

const BUS_ADRALN: c_int = 1;
const BUS_ADRERR: c_int = 2;
const BUS_MCEERR: [c_int; 2] = [4, 5];

/// Returns whether bus errors are explained.
pub(crate) fn is_active() -> bool {
    PREVIOUS.load(Ordering::Relaxed) != 0
}

/// Makes a bus error print one line before it ends the process.
#[pyfunction]
pub(crate) fn explain(py: Python<'_>) -> PyResult<()> {
    if !is_active() {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all zeros is a value of both; the handler is async-signal-safe.
        let result = unsafe {
            let action = action.assume_init_mut();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            // The handler needs to know what was there before the kernel can call it.
            if libc::sigaction(libc::SIGBUS, core::ptr::null(), previous.as_mut_ptr()) == 0 {
                PREVIOUS.store(Box::into_raw(Box::new(previous.assume_init())).expose_provenance(), Ordering::Release);
                libc::sigaction(libc::SIGBUS, action, core::ptr::null_mut())
            } else {
                -1
            }
        };
        if result != 0 {
            let error = std::io::Error::last_os_error();
            PREVIOUS.store(0, Ordering::Release);
            return Err(no_handler(py, &InstallError::Sigaction(libc::SIGBUS, error)));
        }
    }
    // Faults that faultin recovers from are none that end the process: its handler comes first.
    status::be_first(py)
}

/// The handler of SIGBUS.
unsafe extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the thread's own variable.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    // SAFETY: the kernel's, or what a handler above passes on.
    let code = unsafe { info.as_ref() }.map_or(0, |info| info.si_code);
    if code <= 0 {
        // SAFETY: a signal that a process has sent carries its number.
        let own = code == libc::SI_TKILL && unsafe { (*info).si_pid() == libc::getpid() };
        // faulthandler above us, enabled later, has printed its traceback, restored us, and raises the signal again. Without
        // an effect, the instruction faults again, and comes here with its address.
        if own && !PASSED_OVER.swap(true, Ordering::Relaxed) {
            return;
        }
    } else if !PRINTING.swap(true, Ordering::Acquire) {
        // SAFETY: a signal of the kernel carries an address; this thread alone uses the buffers.
        unsafe { print(code, (*info).si_addr().addr(), stores(context)) };
        PRINTING.store(false, Ordering::Release);
    }
    // SAFETY: as above.
    unsafe {
        *errno = before;
        forward(signal, info, context);
    }
}

/// Passes the signal on.
///
/// # Safety
/// The arguments are a signal's.
unsafe fn forward(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let previous = core::ptr::with_exposed_provenance::<libc::sigaction>(PREVIOUS.load(Ordering::Acquire));
    // SAFETY: never freed, and not null while this handler is installed.
    let Some(previous) = (unsafe { previous.as_ref() }) else { return };
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The kernel ends the process when the instruction is repeated, with a core file of that moment.
            // SAFETY: all zeros is a value, with the default action in it.
            unsafe {
                let action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
                libc::sigaction(signal, &raw const action, core::ptr::null_mut());
                // A signal that was sent does not come again by itself.
                if (*info).si_code <= 0 {
                    libc::raise(signal);
                }
            }
        }
        // SAFETY: the address of a handler of that form.
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => unsafe {
            let handler: unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = core::mem::transmute(handler);
            handler(signal, info, context);
        },
        // SAFETY: as above.
        handler => unsafe {
            let handler: unsafe extern "C" fn(c_int) = core::mem::transmute(handler);
            handler(signal);
        },
    }
}

/// Returns whether the instruction is a store, if the processor reports it.
fn stores(context: *mut c_void) -> Option<bool> {
    if context.is_null() {
        return None;
    }
    // SAFETY: a signal's context.
    unsafe { signal::access(context) }.map(|access| access == faultin::Access::Write)
}

/// A line in static memory: the handler's stack may be small.
struct Line {
    bytes: [u8; 6 << 10],
    len: usize,
}

impl Line {
    fn raw(&mut self, bytes: &[u8]) {
        let room = self.bytes.len() - 1 - self.len;
        let taken = &bytes[..bytes.len().min(room)];
        self.bytes[self.len..self.len + taken.len()].copy_from_slice(taken);
        self.len += taken.len();
    }

    fn text(&mut self, text: &str) {
        self.raw(text.as_bytes());
    }

    fn number(&mut self, mut number: u64) {
        let (mut digits, mut at) = ([0; 20], 20);
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.raw(&digits[at..]);
    }

    fn hex(&mut self, number: usize) {
        self.text("0x");
        let mut begun = false;
        for shift in (0..usize::BITS / 4).rev() {
            let digit = number >> (shift * 4) & 15;
            begun |= digit != 0 || shift == 0;
            if begun {
                self.raw(&[b"0123456789abcdef"[digit]]);
            }
        }
    }

    /// A name that anybody may have chosen: control characters could move the cursor of a terminal.
    fn name(&mut self, name: &[u8]) {
        for byte in name {
            self.raw(if *byte < b' ' || *byte == 0x7f { b"?" } else { core::slice::from_ref(byte) });
        }
    }
}

/// Memory of the thread that has set [`PRINTING`].
struct Static<T>(UnsafeCell<T>);

// SAFETY: one thread uses it at a time.
unsafe impl<T> Sync for Static<T> {}

impl<T> Static<T> {
    fn get(&self) -> *mut T {
        self.0.get()
    }
}

static LINE: Static<Line> = Static(UnsafeCell::new(Line { bytes: [0; 6 << 10], len: 0 }));
static NAME: Static<[u8; libc::PATH_MAX as usize + 16]> = Static(UnsafeCell::new([0; libc::PATH_MAX as usize + 16]));

/// Prints the line.
///
/// # Safety
/// No other thread is in this function.
unsafe fn print(code: c_int, address: usize, stores: Option<bool>) {
    // SAFETY: by contract, the only references.
    let (line, name) = unsafe { (&mut *LINE.get(), &mut *NAME.get()) };
    line.len = 0;
    line.text("faultin: bus error in process ");
    // SAFETY: no condition.
    line.number(unsafe { libc::getpid() } as u64);
    line.text(match stores {
        Some(true) => ": store at ",
        Some(false) => ": load at ",
        None => ": access at ",
    });
    let maps = open_maps();
    let found = query(maps, address, name).or_else(|| search(maps, address, name));
    // SAFETY: a descriptor of this function, or -1.
    unsafe { libc::close(maps) };
    match found {
        Some(mapping) if mapping.inode != 0 => {
            let path = CStr::from_bytes_until_nul(name).map_or(&[][..], CStr::to_bytes);
            let offset = mapping.offset + (address as u64 - mapping.start);
            line.text("byte ");
            line.number(offset);
            line.text(" of ");
            line.name(path);
            line.text(": ");
            match code {
                BUS_ADRERR => of_file(line, &mapping, name, offset, stores),
                code => of_code(line, code),
            }
        }
        _ => {
            line.text("address ");
            line.hex(address);
            line.text(": ");
            of_code(line, code);
        }
    }
    line.bytes[line.len] = b'\n';
    let mut rest = &line.bytes[..=line.len];
    while !rest.is_empty() {
        // SAFETY: bytes of the line.
        match unsafe { libc::write(2, rest.as_ptr().cast(), rest.len()) } {
            written @ 1.. => rest = &rest[written as usize..],
            _ => break,
        }
    }
}

/// The cause that the signal's code alone gives.
fn of_code(line: &mut Line, code: c_int) {
    match code {
        BUS_ADRALN => line.text("misaligned access"),
        code if BUS_MCEERR.contains(&code) => line.text("the hardware reports damaged memory"),
        code => {
            line.text("the cause is not known: code ");
            line.number(code as u64);
            line.text(" of SIGBUS, in memory without a file");
        }
    }
}

/// The cause that the file gives, and what to do about it.
fn of_file(line: &mut Line, mapping: &Query, name: &[u8], offset: u64, stores: Option<bool>) {
    let file = open_file(name, mapping);
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: room for the answer.
    if unsafe { libc::fstat(file, stat.as_mut_ptr()) } != 0 {
        return line.text("the cause is not known, because no path and no descriptor leads to the file");
    }
    // SAFETY: the call has succeeded.
    let size = unsafe { stat.assume_init() }.st_size as u64;
    let page = mapping.page.max(1);
    if offset >= size.next_multiple_of(page) {
        line.text("past the end of the file: it has ");
        line.number(size);
        line.text(" bytes (mapped up to byte ");
        line.number(mapping.offset + (mapping.end - mapping.start));
        return line.text(
            "). If another program truncated it to replace it, that one should write a new file and rename it; \
             faultin.open and faultin.guard make this an exception",
        );
    }
    let mut byte = 0_u8;
    // SAFETY: room for a byte.
    if unsafe { libc::pread(file, (&raw mut byte).cast(), 1, offset as libc::off_t) } < 0 {
        // SAFETY: the thread's own variable.
        let errno = unsafe { *libc::__errno_location() };
        // (A descriptor that is open for writing only says nothing about the data.)
        if errno != libc::EBADF {
            line.text(if errno == libc::EIO { "Input/output error" } else { "reading it fails: error " });
            if errno != libc::EIO {
                line.number(errno as u64);
            }
            return line.text(
                ". The kernel's log (`dmesg`) may say more; faultin.open and faultin.guard make this an exception",
            );
        }
    }
    let mut system = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: room for the answer.
    if unsafe { libc::fstatfs(file, system.as_mut_ptr()) } == 0 {
        // SAFETY: the call has succeeded.
        let system = unsafe { system.assume_init() };
        let (block, free) = (system.f_bsize as u64, system.f_bavail);
        let in_memory = system.f_type as u64 == libc::TMPFS_MAGIC as u64;
        if free.saturating_mul(block) < NEARLY_FULL && (stores != Some(false) || in_memory) {
            line.text("no space left for the page: the file system has ");
            line.number(system.f_blocks.saturating_mul(block));
            line.text(" bytes, ");
            line.number(free.saturating_mul(block));
            line.text(" free");
            return line.text(if name.starts_with(b"/dev/shm/") {
                ". /dev/shm is too small: in a container, `docker run --shm-size=1g`; faultin.SharedMemory makes this an \
                 exception"
            } else {
                ". faultin.memmap makes this an exception"
            });
        }
    }
    line.text("the page could not be provided, but can be by now");
}

/// Opens the mapped file, by its path or another descriptor of it; -1 if there is neither. It is not closed: the process ends.
fn open_file(name: &[u8], mapping: &Query) -> c_int {
    static LINK: Static<[u8; libc::PATH_MAX as usize]> = Static(UnsafeCell::new([0; libc::PATH_MAX as usize]));
    let path = CStr::from_bytes_until_nul(name).map_or(&[][..], CStr::to_bytes);
    let shown = Shown { device: mapping.device(), inode: mapping.inode, name: path };
    let is_it = |fd: c_int| {
        let way = Reference::Descriptor(fd);
        // SAFETY: as the line, this thread's alone, and used by one call at a time.
        way.stat().is_some_and(|stat| shown.is(&stat, way, || unsafe { &mut *LINK.get() }))
    };
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_RDONLY;
    // SAFETY: a path that ends with a zero.
    let opened = unsafe { libc::open(name.as_ptr().cast(), flags) };
    if is_it(opened) {
        return opened;
    }
    (0..4096).find(|fd| is_it(*fd)).unwrap_or(-1)
}

/// Searches the text of `/proc/self/maps`, for kernels without the query.
fn search(maps: c_int, address: usize, name: &mut [u8]) -> Option<Query> {
    static TEXT: Static<[u8; 4096]> = Static(UnsafeCell::new([0; 4096]));
    // SAFETY: as the line, this thread's alone.
    let text = unsafe { &mut *TEXT.get() };
    let mut state = Parser::new(address as u64);
    loop {
        // SAFETY: room for the bytes.
        let read = unsafe { libc::read(maps, text.as_mut_ptr().cast(), text.len()) };
        let Ok(read @ 1..) = usize::try_from(read) else { return None };
        for byte in &text[..read] {
            if let Some(found) = state.take(*byte, name) {
                return Some(found);
            }
        }
    }
}

/// Reads the text of `/proc/self/maps` byte by byte: `start-end rights offset device inode path`.
struct Parser {
    address: u64,
    field: usize,
    /// Start, end, rights, offset, device (its major number in the upper half), inode.
    numbers: [u64; 6],
    path: usize,
}

impl Parser {
    fn new(address: u64) -> Self {
        Parser { address, field: 0, numbers: [0; 6], path: 0 }
    }

    fn take(&mut self, byte: u8, name: &mut [u8]) -> Option<Query> {
        if byte == b'\n' {
            let [start, end, rights, offset, device, inode] = self.numbers;
            if let Some(last) = name.get_mut(self.path) {
                *last = 0;
            }
            if (start..end).contains(&self.address) {
                return Some(Query::of(start, end, rights, offset, ((device >> 32) as u32, device as u32), inode));
            }
            *self = Parser::new(self.address);
            return None;
        }
        match (self.field, byte) {
            (0, b'-') => self.field = 1,
            (0..=5, b' ') => self.field += 1,
            (0 | 1 | 3, _) => {
                self.numbers[self.field] =
                    self.numbers[self.field] << 4 | u64::from((byte as char).to_digit(16).unwrap_or(0));
            }
            (4, b':') => self.numbers[4] <<= 32,
            (4, _) => {
                let (major, minor) = (self.numbers[4] & !0xffff_ffff, self.numbers[4] & 0xffff_ffff);
                self.numbers[4] = major | minor << 4 | u64::from((byte as char).to_digit(16).unwrap_or(0));
            }
            (2, b'r') => self.numbers[2] |= READABLE,
            (2, b'w') => self.numbers[2] |= WRITABLE,
            (2, b's') => self.numbers[2] |= SHARED,
            (5, _) => self.numbers[5] = self.numbers[5] * 10 + u64::from(byte.wrapping_sub(b'0')),
            // Spaces before the path.
            (6, b' ') if self.path == 0 => {}
            (6, _) => {
                if let Some(place) = name.get_mut(self.path) {
                    *place = byte;
                    self.path += 1;
                }
            }
            _ => {}
        }
        None
    }
}
