//! A file that fails on purpose, without root: a fixture for the tests of other programs.

use core::ffi::{CStr, c_int, c_void};
use core::ptr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use crate::fault::{Cause, Fault, failed};

/// How a test file fails: an argument of faultin_test_file().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum TestFail {
    /// The file was truncated to `fails_at` bytes after it was mapped. The bytes from there to the end of the page read as zeros;
    /// pages after that raise SIGBUS. read() ends.
    Truncated = 0,
    /// The pages from `fails_at` on cannot be provided, although the file has them: as for an I/O error, an access of the
    /// mapping raises SIGBUS. (The kernel has no I/O errors without root: read() of the descriptor succeeds.)
    Unreadable = 1,
    /// The file system is full: the file has `bytes` bytes, and space for `fails_at` of them. A store past that raises SIGBUS,
    /// and write() fails with ENOSPC.
    NoSpace = 2,
    /// The pages from `fails_at` on are PROT_NONE: an access of the mapping raises SIGSEGV.
    Protected = 3,
}

/// A file that fails on purpose: a descriptor and a mapping.
#[derive(Debug)]
#[repr(C)]
pub struct TestFile {
    /// A descriptor for reading and writing.
    pub fd: c_int,
    /// How it fails: enum faultin_test_fail.
    pub how: u32,
    /// A mapping of the file from its start, with MAP_SHARED, PROT_READ and PROT_WRITE.
    pub data: *mut c_void,
    /// The length of the mapping in bytes.
    pub len: usize,
    /// The first byte whose access fails: `fails_at`, rounded up to a page.
    pub fails_at: usize,
    /// The library's.
    pub reserved: [u64; 4],
}

/// A mapping that is unmapped when it is dropped.
struct Mapping {
    base: *mut c_void,
    len: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made here, and used by nothing else.
        unsafe { libc::munmap(self.base, self.len) };
    }
}

fn page_up(len: usize) -> Option<usize> {
    len.checked_next_multiple_of(faultin::page_size())
}

fn map(file: &File, len: usize) -> io::Result<Mapping> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping.
    let base = unsafe { libc::mmap(ptr::null_mut(), len, rights, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Mapping { base, len }) }
}

fn memfd(len: usize) -> Result<File, Refusal> {
    // SAFETY: a string that ends with NUL; a new descriptor.
    let fd = unsafe { libc::memfd_create(c"faultin-test".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(lacking(io::Error::last_os_error()));
    }
    // SAFETY: owned by nothing else.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len as u64)?;
    Ok(file)
}

/// Why a test file was not made.
struct Refusal {
    error: io::Error,
    /// This system has no such files, however they are asked for.
    is_of_system: bool,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal { error, is_of_system: false }
    }
}

/// An error of a step that systems may forbid or lack: a namespace, a mount, a userfaultfd. How they say so differs (a limit of 0
/// namespaces is ENOSPC), except that limits of this process are not the system's.
fn lacking(error: io::Error) -> Refusal {
    let is_of_process = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN));
    Refusal { error, is_of_system: !is_of_process }
}

/// Stores the pattern of the bytes before `len`: byte `n` is `n % 251`.
fn fill(file: &File, len: usize) -> io::Result<()> {
    let pattern: Vec<u8> = (0..251 * 64).map(|n| (n % 251) as u8).collect();
    for at in (0..len).step_by(pattern.len()) {
        file.write_all_at(&pattern[..pattern.len().min(len - at)], at as u64)?;
    }
    Ok(())
}

/// Makes a file that fails from a byte on, without root: a fixture for tests of code that maps files.
///
/// Byte `n` of the file is `n % 251`, for bytes before `fails_at`.
///
/// FAULTIN_TEST_FAIL_NO_SPACE needs user namespaces, or root: it mounts a tmpfs in a mount namespace of its own.
/// FAULTIN_TEST_FAIL_UNREADABLE needs userfaultfd (Linux 5.11). Not async-signal-safe.
///
/// @param file      Filled in. After an error, its `fd` is -1 and its `data` NULL.
/// @param bytes     The length of the file and of the mapping in bytes, not 0.
/// @param fails_at  The first byte that fails, at most `bytes`. Memory fails by the page: accesses fail from the next page on, if
///                  this is within one.
/// @param how       How it fails: enum faultin_test_fail.
/// @param fault     Written after an error; may be NULL. FAULTIN_CAUSE_UNSUPPORTED if this system cannot make such a file: then a
///                  test is to be skipped.
/// @return 0, or an error number.
///
/// # Safety
/// `file` is valid for writes, `fault` is null or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_test_file(
    file: *mut TestFile,
    bytes: usize,
    fails_at: usize,
    how: c_int,
    fault: *mut Fault,
) -> c_int {
    const TRUNCATED: c_int = TestFail::Truncated as c_int;
    const UNREADABLE: c_int = TestFail::Unreadable as c_int;
    const NO_SPACE: c_int = TestFail::NoSpace as c_int;
    const PROTECTED: c_int = TestFail::Protected as c_int;
    let nothing =
        TestFile { fd: -1, how: 0, data: ptr::null_mut(), len: 0, fails_at: 0, reserved: [NO_WATCHER, 0, 0, 0] };
    // SAFETY: forwarded.
    unsafe { file.write(nothing) };
    let from = page_up(fails_at).filter(|_| bytes > 0 && fails_at <= bytes && page_up(bytes).is_some());
    let Some(from) = from else {
        // SAFETY: forwarded.
        return unsafe { failed(Fault::invalid(), fault) };
    };
    let made = match how {
        TRUNCATED => truncated(bytes, fails_at),
        UNREADABLE => unreadable(bytes, from),
        NO_SPACE => no_space(bytes, from),
        PROTECTED => protected(bytes, from),
        // SAFETY: forwarded.
        _ => return unsafe { failed(Fault::invalid(), fault) },
    };
    match made {
        Ok((made, mapping, watcher)) => {
            let watcher = watcher.map_or(-1, IntoRawFd::into_raw_fd);
            let ours = TestFile {
                fd: made.into_raw_fd(),
                how: how.cast_unsigned(),
                data: mapping.base,
                len: bytes,
                fails_at: from,
                reserved: [watcher.cast_unsigned().into(), 0, 0, 0],
            };
            core::mem::forget(mapping);
            // SAFETY: forwarded.
            unsafe { file.write(ours) };
            0
        }
        Err(error) => {
            let number = error.error.raw_os_error().unwrap_or(libc::EINVAL);
            let cause = match number {
                _ if error.is_of_system => Cause::Unsupported,
                libc::EINVAL | libc::EFBIG | libc::EOVERFLOW => Cause::OutOfRange,
                libc::ENOSPC => Cause::NoSpace,
                _ => Cause::Io,
            };
            // SAFETY: forwarded.
            unsafe { failed(Fault::new(cause, number), fault) }
        }
    }
}

/// Unmaps and closes a test file. Does nothing if its `data` is NULL: after an error, after a close, and for a structure of zeros.
///
/// Not async-signal-safe.
///
/// @param file  What faultin_test_file() has filled in.
///
/// # Safety
/// `file` was filled in by `faultin_test_file`; its mapping is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faultin_test_file_close(file: *mut TestFile) {
    // SAFETY: forwarded; each is released once.
    unsafe {
        let file = &mut *file;
        if file.data.is_null() {
            return;
        }
        libc::munmap(file.data, file.len);
        file.data = ptr::null_mut();
        let watcher = file.reserved[0] as c_int;
        for fd in [file.fd, watcher] {
            if fd >= 0 {
                libc::close(fd);
            }
        }
        (file.fd, file.reserved[0]) = (-1, NO_WATCHER);
    }
}

/// A file, its mapping, and what has to stay open for it to fail.
type Made = Result<(File, Mapping, Option<OwnedFd>), Refusal>;

/// No descriptor, in the words of a test file.
const NO_WATCHER: u64 = u32::MAX as u64;

fn truncated(bytes: usize, fails_at: usize) -> Made {
    let file = memfd(bytes)?;
    let mapping = map(&file, bytes)?;
    fill(&file, fails_at)?;
    file.set_len(fails_at as u64)?;
    Ok((file, mapping, None))
}

fn protected(bytes: usize, from: usize) -> Made {
    let file = memfd(bytes)?;
    let mapping = map(&file, bytes)?;
    fill(&file, from.min(bytes))?;
    let whole = page_up(bytes).unwrap_or(bytes);
    if from < whole {
        // SAFETY: a part of the mapping, which nothing uses yet.
        let set = unsafe { libc::mprotect(mapping.base.wrapping_byte_add(from), whole - from, libc::PROT_NONE) };
        if set != 0 {
            return Err(io::Error::last_os_error().into());
        }
    }
    Ok((file, mapping, None))
}

/// The pages are missing, and a userfaultfd answers with SIGBUS.
fn unreadable(bytes: usize, from: usize) -> Made {
    let file = memfd(bytes)?;
    let mapping = map(&file, bytes)?;
    fill(&file, from.min(bytes))?;
    let whole = page_up(bytes).unwrap_or(bytes);
    if from >= whole {
        return Ok((file, mapping, None));
    }
    const USER_MODE_ONLY: c_int = 1;
    // SAFETY: a new descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY) };
    let fd = c_int::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(|| lacking(io::Error::last_os_error()))?;
    // SAFETY: owned by nothing else.
    let watcher = unsafe { OwnedFd::from_raw_fd(fd) };
    // `struct uffdio_api` and `struct uffdio_register` of <linux/userfaultfd.h>.
    const UFFD_API: u64 = 0xaa;
    const FEATURE_SIGBUS: u64 = 1 << 7;
    const FEATURE_MISSING_SHMEM: u64 = 1 << 5;
    const REGISTER_MODE_MISSING: u64 = 1;
    let mut api = [UFFD_API, FEATURE_SIGBUS | FEATURE_MISSING_SHMEM, 0];
    let start = mapping.base.wrapping_byte_add(from).expose_provenance() as u64;
    let mut range = [start, (whole - from) as u64, REGISTER_MODE_MISSING, 0];
    // _IOWR(0xaa, 0x3f, struct uffdio_api), _IOWR(0xaa, 0, struct uffdio_register).
    for (request, argument) in [(0xc018_aa3f_u64, api.as_mut_ptr()), (0xc020_aa00_u64, range.as_mut_ptr())] {
        // SAFETY: the kernel reads and writes the structures.
        if unsafe { libc::ioctl(watcher.as_raw_fd(), request as _, argument) } != 0 {
            return Err(lacking(io::Error::last_os_error()));
        }
    }
    // Holes from here on: nothing has filled the pages of the file, so the first access finds them missing.
    Ok((file, mapping, Some(watcher)))
}

/// A file on a full tmpfs.
fn no_space(bytes: usize, from: usize) -> Made {
    let page = faultin::page_size();
    // A tmpfs of no size would be unlimited.
    let file = tmpfs(from.max(page))?;
    file.set_len(bytes as u64)?;
    let mapping = map(&file, bytes)?;
    fill(&file, from.min(bytes))?;
    if from == 0 {
        // Takes the one page that there is, past the end of the file.
        let past = page_up(bytes).unwrap_or(bytes) as libc::off_t;
        // SAFETY: allocates for the file of a descriptor that we own.
        if unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, past, page as libc::off_t) } != 0 {
            return Err(io::Error::last_os_error().into());
        }
    }
    Ok((file, mapping, None))
}

/// The size of the child's stack.
const STACK: usize = 64 << 10;

/// What the child shares with this process.
struct Child {
    /// `size=…`, for the mount.
    options: [u8; 32],
    uid_map: [u8; 32],
    gid_map: [u8; 32],
    /// The descriptor, or a negative error number.
    result: c_int,
    /// Whether the tmpfs was mounted.
    is_mounted: bool,
}

/// Makes a file on a new tmpfs of `size` bytes, which lives as long as the file is open. A child process mounts it in
/// namespaces of its own; it shares this process's descriptors, so the file that it opens is open here.
fn tmpfs(size: usize) -> Result<File, Refusal> {
    let text = |text: String| {
        let mut bytes = [0; 32];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    };
    // SAFETY: queries two numbers.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let mut child = Child {
        options: text(format!("size={size}")),
        uid_map: text(format!("0 {uid} 1")),
        gid_map: text(format!("0 {gid} 1")),
        result: -libc::EIO,
        is_mounted: false,
    };
    let mut stack = vec![0_u128; STACK / 16];
    // SAFETY: the child runs on a stack of its own, and this thread waits until it has ended (CLONE_VFORK). It makes system calls
    // only, and writes nothing but `child`.
    let number = unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
        libc::clone(in_child, stack.as_mut_ptr_range().end.cast(), flags, (&raw mut child).cast())
    };
    if number < 0 {
        return Err(lacking(io::Error::last_os_error()));
    }
    // SAFETY: the child of this function.
    while unsafe { libc::waitpid(number, ptr::null_mut(), libc::__WALL) } < 0
        && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
    {}
    // SAFETY: the child has written both.
    let (result, is_mounted) =
        unsafe { ((&raw const child.result).read_volatile(), (&raw const child.is_mounted).read_volatile()) };
    match result {
        // SAFETY: opened for this, and owned by nothing else.
        fd @ 0.. => Ok(unsafe { File::from_raw_fd(fd) }),
        error if is_mounted => Err(io::Error::from_raw_os_error(-error).into()),
        error => Err(lacking(io::Error::from_raw_os_error(-error))),
    }
}

extern "C" fn in_child(argument: *mut c_void) -> c_int {
    // SAFETY: this process's child, and the argument of `tmpfs`.
    unsafe {
        let child = argument.cast::<Child>();
        let is_mounted = || (&raw mut (*child).is_mounted).write_volatile(true);
        let (options, uid_map, gid_map) = ((*child).options, (*child).uid_map, (*child).gid_map);
        let opened = open_on_tmpfs(&options, &uid_map, &gid_map, is_mounted);
        (&raw mut (*child).result).write_volatile(opened);
        0
    }
}

/// Returns the descriptor, or a negative error number. In a child that shares the memory: system calls without the C library,
/// whose variables are the parent's.
fn open_on_tmpfs(options: &[u8; 32], uid_map: &[u8; 32], gid_map: &[u8; 32], is_mounted: impl Fn()) -> c_int {
    let call = |number, arguments: [usize; 6]| {
        // SAFETY: about this process's own namespaces and descriptors; the strings end with NUL.
        unsafe { faultin::signal::syscall6(number, arguments) as c_int }
    };
    let at = |text: &CStr| text.as_ptr().expose_provenance();
    let bytes = |text: &[u8; 32]| {
        CStr::from_bytes_until_nul(text).map_or(c"", |text| {
            // SAFETY: the parent's memory, which outlives the child.
            unsafe { CStr::from_ptr(text.as_ptr()) }
        })
    };
    let here = libc::AT_FDCWD as isize as usize;
    let write = |path: &CStr, text: &CStr| {
        let fd = call(libc::SYS_openat, [here, at(path), (libc::O_WRONLY | libc::O_CLOEXEC) as usize, 0, 0, 0]);
        if fd >= 0 {
            call(libc::SYS_write, [fd as usize, at(text), text.count_bytes(), 0, 0, 0]);
            call(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]);
        }
    };
    let is_root = call(libc::SYS_unshare, [libc::CLONE_NEWNS as usize, 0, 0, 0, 0, 0]) == 0;
    if !is_root {
        let unshared = call(libc::SYS_unshare, [(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) as usize, 0, 0, 0, 0, 0]);
        if unshared < 0 {
            return unshared;
        }
        write(c"/proc/self/setgroups", c"deny");
        write(c"/proc/self/uid_map", bytes(uid_map));
        write(c"/proc/self/gid_map", bytes(gid_map));
    }
    // What is mounted from here on stays in this namespace.
    let private = (libc::MS_REC | libc::MS_PRIVATE) as usize;
    let made = call(libc::SYS_mount, [at(c"none"), at(c"/"), at(c"none"), private, 0, 0]);
    if made < 0 {
        return made;
    }
    let flags = (libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC) as usize;
    let mounted = call(libc::SYS_mount, [at(c"faultin-test"), at(c"/tmp"), at(c"tmpfs"), flags, at(bytes(options)), 0]);
    if mounted < 0 {
        return mounted;
    }
    is_mounted();
    let flags = (libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC) as usize;
    call(libc::SYS_openat, [here, at(c"/tmp/faultin-test"), flags, 0o600, 0, 0])
}
