//! The loaded objects with our note: finding and pinning them.

use core::ffi::{CStr, c_int, c_void};

use super::InstallError;
use crate::table::{ABI, Object};

/// A loaded object with our note. Unless it is pinned, it may be unloaded at any time, and `object` dangle.
pub(super) struct Loaded {
    pub(super) object: &'static Object,
    /// Path under which the loader knows it; empty for the executable, which is never unloaded.
    name: Box<CStr>,
    base: usize,
}

/// Finds every loaded object with a note of our ABI for which `want` returns true. `want` runs while nothing can be
/// unloaded.
pub(super) fn find<W: Fn(&'static Object) -> bool>(want: W) -> Vec<Loaded> {
    unsafe extern "C" fn visit<W: Fn(&'static Object) -> bool>(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a valid `info` for the time of the call, and `data` is the pair below.
        let (info, (found, want)) = unsafe { (&*info, &mut *data.cast::<(Vec<Loaded>, W)>()) };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the loader's program headers of a mapped object.
        let headers = unsafe { core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum as usize) };
        for header in headers.iter().filter(|h| h.p_type == libc::PT_NOTE) {
            let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
            // SAFETY: a PT_NOTE segment lies inside a loaded segment of the object, mapped as long as it is loaded.
            let notes = unsafe {
                core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<u8>(start), header.p_memsz as usize)
            };
            let Some(object) = object_in(notes, header.p_align as usize) else { continue };
            if !want(object) {
                break;
            }
            let name = if info.dlpi_name.is_null() {
                Box::from(c"")
            } else {
                // SAFETY: the loader's NUL-terminated name.
                Box::from(unsafe { CStr::from_ptr(info.dlpi_name) })
            };
            found.push(Loaded { object, name, base: info.dlpi_addr as usize });
            break;
        }
        0
    }
    let mut data = (Vec::new(), want);
    // SAFETY: `visit` only reads what the loader shows it, asks `want` and pushes to the vector.
    unsafe { libc::dl_iterate_phdr(Some(visit::<W>), core::ptr::from_mut(&mut data).cast()) };
    data.0
}

/// Returns the object that one of our notes among `notes` leads to.
fn object_in(notes: &'static [u8], align: usize) -> Option<&'static Object> {
    let align = if align == 8 { 8 } else { 4 };
    let mut at = 0;
    loop {
        let word = |i: usize| {
            let bytes = notes.get(at + 4 * i..at + 4 * i + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let (name_len, desc_len, kind) = (word(0)? as usize, word(1)? as usize, word(2)?);
        let name_at = at + 12;
        let desc_at = name_at.checked_add(name_len)?.checked_next_multiple_of(align)?;
        let name = notes.get(name_at..name_at.checked_add(name_len)?)?;
        if name == b"faultin\0" && kind == ABI && desc_len == 4 {
            let desc = notes.get(desc_at..desc_at + 4)?;
            let offset = i32::from_ne_bytes(desc.try_into().ok()?);
            let object = desc.as_ptr().wrapping_offset(offset as isize).cast::<Object>();
            // SAFETY: a note of this name and version is only made together with the object it points to.
            return Some(unsafe { &*core::ptr::with_exposed_provenance::<Object>(object.expose_provenance()) });
        }
        at = desc_at.checked_add(desc_len)?.checked_next_multiple_of(align)?;
    }
}

/// Prevents the object from ever being unloaded.
pub(super) fn pin(loaded: &Loaded) -> Result<(), InstallError> {
    // The executable; musl calls that of a static program so.
    if loaded.name.is_empty() || *loaded.name == *c"/proc/self/exe" {
        return Ok(());
    }
    let error = || InstallError::Pin(loaded.name.to_string_lossy().into_owned());
    // SAFETY: NOLOAD: only finds what is loaded already, and marks it.
    let handle =
        unsafe { libc::dlopen(loaded.name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE) };
    if handle.is_null() {
        return Err(error());
    }
    // SAFETY: returns the reference; the mark stays.
    unsafe { libc::dlclose(handle) };
    // Another object may have taken its name and address meanwhile.
    let same = find(|object| core::ptr::eq(object, loaded.object))
        .iter()
        .any(|l| l.base == loaded.base && l.name == loaded.name);
    if same { Ok(()) } else { Err(error()) }
}

/// Runs `f` while the loader neither loads nor unloads: `dl_iterate_phdr` holds its lock around the callback, and the lock
/// may be taken again inside (glibc). Where it holds none (musl), processes with several objects that install at the same
/// moment in two threads may end with two registries, which chain to each other.
pub(super) fn with_loader_lock(mut f: impl FnMut()) {
    unsafe extern "C" fn once<F: FnMut()>(_: *mut libc::dl_phdr_info, _: usize, f: *mut c_void) -> c_int {
        // SAFETY: `f` is the closure below, alive and not otherwise used during the call.
        unsafe { (*f.cast::<F>())() };
        1
    }
    fn go<F: FnMut()>(f: &mut F) {
        // SAFETY: `once` calls `f` at most once, during this call. `f` does not unwind.
        unsafe { libc::dl_iterate_phdr(Some(once::<F>), core::ptr::from_mut(f).cast()) };
    }
    go(&mut f);
}
