//! The C library, as a program sees it that is linked with the shared library: each call goes through a pointer, as through
//! the procedure linkage table.
//!
//! The library is built here, with cargo, and loaded twice: one copy without a handler, one that has installed it.

use core::ffi::{CStr, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;

use faultin::{MapOptions, map::Watch};

use super::case::{Bound, Case};
use super::measure::Bench;
use super::report::Goal;
use super::sample::{hot, hot_unrolled};

const MEMCPY: &str = "memcpy";
const READV: &str = "process_vm_readv";
const RUST: &str = "with_raw of the crate";

type CopyIn = unsafe extern "C" fn(*mut c_void, *const c_void, usize, *mut c_void) -> usize;
type Memcpy = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void;
type Install = unsafe extern "C" fn() -> c_int;
type Open = unsafe extern "C" fn(*mut *mut c_void, c_int, *const Choices, *mut c_void) -> c_int;
type Begin = unsafe extern "C" fn(*const c_void, u64, u64, *mut Guard, *mut c_void) -> c_int;
type End = unsafe extern "C" fn(*mut Guard, *mut c_void) -> c_int;

/// `struct faultin_map_options`.
#[repr(C)]
struct Choices {
    size: u32,
    flags: u32,
    watch: u32,
    backend: u32,
    offset: u64,
    length: u64,
    reserved: [u64; 4],
}

/// `struct faultin_guard`.
#[repr(C)]
struct Guard {
    data: *const c_void,
    len: usize,
    flags: [u32; 2],
    state: [u64; 40],
}

/// A loaded copy of the library. It stays loaded.
struct Library(*mut c_void);

impl Library {
    fn load(path: &Path) -> Result<Library, String> {
        let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: a string; the library's initialisers are those of Rust's standard library.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() { Err(format!("{}: dlopen", path.display())) } else { Ok(Library(handle)) }
    }

    /// # Safety
    /// `F` is the type of the function with this name.
    unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F, String> {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
        // SAFETY: a loaded library.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if found.is_null() {
            return Err(format!("{name:?} is not in the library"));
        }
        // SAFETY: forwarded; as many bytes.
        Ok(unsafe { core::mem::transmute_copy::<*mut c_void, F>(&found) })
    }
}

/// Builds the shared library as `make install` does.
fn build() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("c");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&root).args(["rustc", "--package", "faultin-c", "--lib", "--release", "--quiet"]);
    cargo.args(["--crate-type", "staticlib,cdylib", "--target-dir"]).arg(&target);
    cargo.args(["--", "-Clink-arg=-Wl,-soname,libfaultin.so.0"]);
    match cargo.status() {
        Ok(status) if status.success() => Ok(target.join("release/libfaultin_c.so")),
        Ok(status) => Err(format!("building the C library: {status}")),
        Err(error) => Err(format!("cargo: {error}")),
    }
}

/// Measures the C library.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let built = build()?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let copy = folder.path().join("second.so");
    std::fs::copy(&built, &copy).map_err(|error| error.to_string())?;
    let (quiet, loud) = (Library::load(&copy)?, Library::load(&built)?);
    // SAFETY: the types of these functions in faultin.h.
    let functions = unsafe {
        let install: Install = loud.function(c"faultin_install")?;
        if install() != 0 {
            return Err("faultin_install failed".into());
        }
        (
            quiet.function::<CopyIn>(c"faultin_copy_in")?,
            loud.function::<CopyIn>(c"faultin_copy_in")?,
            Library(libc::RTLD_DEFAULT).function::<Memcpy>(c"memcpy")?,
            loud.function::<Open>(c"faultin_map_from_fd")?,
            loud.function::<Begin>(c"faultin_guard_begin")?,
            loud.function::<End>(c"faultin_guard_end")?,
        )
    };
    let (by_kernel, in_place, memcpy, open, begin, end) = functions;
    let sizes: &[usize] = if bench.quick { &[64] } else { &[8, 64, 256, 4096, 64 << 10] };
    for &len in sizes {
        // The two of a case have the same addresses.
        let (source, target) = (vec![1_u8; len + 64], vec![0_u8; len + 64]);
        let from = source[source.as_ptr().align_offset(64)..].as_ptr().cast::<c_void>();
        let to = target[target.as_ptr().align_offset(64)..].as_ptr().cast_mut().cast::<c_void>();
        let copies = |copy: CopyIn| {
            let (copy, none) = (std::hint::black_box(copy), core::ptr::null_mut());
            // SAFETY: two buffers of as many bytes, which nothing refers to meanwhile.
            move || unsafe { copy(to, from, len, none) == len }
        };
        let memcpy = std::hint::black_box(memcpy);
        // SAFETY: as above.
        let plain = move || unsafe { memcpy(to, from, len) == to };
        bench.run(Case::new("copy_in, with the handler", len, hot_unrolled(copies(in_place))).peer(
            MEMCPY,
            Some(Bound::times(1.15)),
            hot_unrolled(plain),
        ));
        let process = std::process::id().cast_signed();
        let bare = move || {
            let vector = |base: *mut c_void| libc::iovec { iov_base: base, iov_len: len };
            let (local, remote) = (vector(to), vector(from.cast_mut()));
            // SAFETY: as above.
            let moved = unsafe { libc::process_vm_readv(process, &raw const local, 1, &raw const remote, 1, 0) };
            moved.cast_unsigned() == len
        };
        bench.run(Case::new("copy_in, without", len, hot(copies(by_kernel))).peer(
            READV,
            Some(Bound::times(1.05)),
            hot(bare),
        ));
    }

    let file = tempfile::tempfile().map_err(|error| error.to_string())?;
    file.set_len(1 << 20).map_err(|error| error.to_string())?;
    for (name, watch) in [("reader", Watch::Reader), ("appending", Watch::Appending), ("nothing", Watch::Nothing)] {
        let number = match watch {
            Watch::Appending => 1,
            Watch::Nothing => 3,
            _ => 0,
        };
        let size = size_of::<Choices>() as u32;
        let choices = Choices { size, flags: 0, watch: number, backend: 1, offset: 0, length: 0, reserved: [0; 4] };
        let mut map = core::ptr::null_mut();
        // SAFETY: a place for the map, and options that outlive the call.
        let error = unsafe {
            open(&raw mut map, std::os::fd::AsRawFd::as_raw_fd(&file), &raw const choices, core::ptr::null_mut())
        };
        if error != 0 {
            return Err(format!("faultin_map_from_fd: {}", std::io::Error::from_raw_os_error(error)));
        }
        let file = file.try_clone().map_err(|error| error.to_string())?;
        let rust = MapOptions::new().watch(watch).backend(faultin::map::Backend::Mapped).from_file(file);
        let rust = rust.map_err(|error| error.to_string())?;
        let mut guard = Guard { data: core::ptr::null(), len: 0, flags: [0; 2], state: [0; 40] };
        let ours = move || {
            let none = core::ptr::null_mut();
            // SAFETY: a map that stays open, and a place for the guard.
            unsafe {
                begin(map, 0, u64::MAX, &raw mut guard, none) == 0
                    && guard.len == 1 << 20
                    && end(&raw mut guard, none) == 0
            }
        };
        let theirs = move || rust.with_raw(.., |bytes| bytes.len()).is_ok_and(|len| len == 1 << 20);
        bench.run(Case::new(format!("guard, begin and end, {name}"), 1 << 20, hot(ours)).peer(
            RUST,
            Some(Bound::times(1.1)),
            hot(theirs),
        ));
    }
    let rows = &bench.rows;
    let goals = [
        Goal::worst("copy_in of 64 bytes with the handler, memcpy", 1.15, rows, |row| {
            row.peer == MEMCPY && row.size == 64
        }),
        Goal::worst("copy_in of 64 bytes without, process_vm_readv", 1.05, rows, |row| {
            row.peer == READV && row.size == 64
        }),
        Goal::worst("begin and end of a guard, the crate's", 1.1, rows, |row| row.peer == RUST),
    ];
    bench.goals.extend(goals.into_iter().flatten());
    Ok(())
}
