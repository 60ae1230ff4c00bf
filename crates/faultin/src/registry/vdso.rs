//! The kernel's `clock_gettime` that needs no system call. The C library's calls the same function, but a library that is
//! loaded before it may replace that, and a handler must not call what it does not know.

/// Returns the address of the function, null where the kernel or an emulator offers none.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_pointer_width = "64"))]
pub(crate) fn vdso_clock() -> *mut () {
    let name = if cfg!(target_arch = "x86_64") { c"__vdso_clock_gettime" } else { c"__kernel_clock_gettime" };
    // SAFETY: queries a number, which is 0 or the address at which the kernel has mapped its object.
    let base = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } as usize;
    if base == 0 {
        return core::ptr::null_mut();
    }
    let at = core::ptr::with_exposed_provenance::<u8>(base);
    // SAFETY: the kernel's object, which is never unmapped or changed.
    unsafe { elf::symbol(at, name) }.map_or(core::ptr::null_mut(), |function| function.cast_mut().cast())
}

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_pointer_width = "64")))]
pub(crate) fn vdso_clock() -> *mut () {
    core::ptr::null_mut()
}

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_pointer_width = "64"))]
mod elf {
    use core::ffi::CStr;

    const DT_HASH: u64 = 4;
    const DT_STRTAB: u64 = 5;
    const DT_SYMTAB: u64 = 6;
    const DT_GNU_HASH: u64 = 0x6fff_fef5;

    /// Returns the address of a symbol that the object at `base` defines.
    ///
    /// # Safety
    /// A whole ELF object for this machine is mapped at `base`, as the kernel maps its own: as it is in its file.
    pub(super) unsafe fn symbol(base: *const u8, name: &CStr) -> Option<*const u8> {
        // SAFETY: the object begins with its header, which tells where the others are; all of it is mapped by contract.
        unsafe {
            let header = base.cast::<libc::Elf64_Ehdr>().read();
            let headers = base.add(header.e_phoff as usize).cast::<libc::Elf64_Phdr>();
            let headers = core::slice::from_raw_parts(headers, usize::from(header.e_phnum));
            let of = |kind| headers.iter().find(|header| header.p_type == kind);
            let (load, dynamic) = (of(libc::PT_LOAD)?, of(libc::PT_DYNAMIC)?);
            // The address at which address 0 of the object would be.
            let zero = base.wrapping_add(load.p_offset as usize).wrapping_sub(load.p_vaddr as usize);
            let (mut entry, mut symbols, mut strings, mut hash, mut gnu) =
                (base.add(dynamic.p_offset as usize).cast::<[u64; 2]>(), None, None, None, None);
            loop {
                let [tag, value] = entry.read();
                let at = zero.wrapping_add(value as usize);
                match tag {
                    0 => break,
                    DT_SYMTAB => symbols = Some(at.cast::<libc::Elf64_Sym>()),
                    DT_STRTAB => strings = Some(at),
                    DT_HASH => hash = Some(at.cast::<u32>()),
                    DT_GNU_HASH => gnu = Some(at.cast::<u32>()),
                    _ => {}
                }
                entry = entry.add(1);
            }
            let (symbols, strings) = (symbols?, strings?);
            let count = match (hash, gnu) {
                (Some(hash), _) => hash.add(1).read() as usize,
                (None, Some(gnu)) => count_by_gnu_hash(gnu),
                (None, None) => return None,
            };
            let symbol = (0..count).map(|i| symbols.add(i).read()).find(|symbol| {
                let is_defined = symbol.st_shndx != 0;
                is_defined && CStr::from_ptr(strings.add(symbol.st_name as usize).cast()) == name
            })?;
            Some(zero.wrapping_add(symbol.st_value as usize))
        }
    }

    /// Returns the number of symbols: one more than the last one of the last chain.
    ///
    /// # Safety
    /// `table` is a whole GNU hash table.
    unsafe fn count_by_gnu_hash(table: *const u32) -> usize {
        // SAFETY: within the table, by its own numbers.
        unsafe {
            let [buckets, first, bloom] = [0, 1, 2].map(|i| table.add(i).read() as usize);
            let chains = table.add(4 + 2 * bloom);
            let last = (0..buckets).map(|i| chains.add(i).read() as usize).max().unwrap_or(0);
            if last < first {
                return first;
            }
            let chains = chains.add(buckets);
            let mut last = last;
            while chains.add(last - first).read() & 1 == 0 {
                last += 1;
            }
            last + 1
        }
    }
}
