//! The memory that the cases run on: mappings that can be made cold again.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// The kind of memory of a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Private anonymous memory, base pages only.
    Anon,
    /// Private anonymous memory in transparent huge pages.
    Huge,
    /// A shared mapping of a memfd whose pages exist.
    Memfd,
    /// A shared mapping of a file whose pages are in the page cache.
    File,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Anon, Kind::Huge, Kind::Memfd, Kind::File];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Anon => "anon",
            Kind::Huge => "huge",
            Kind::Memfd => "memfd",
            Kind::File => "file",
        }
    }
}

/// A mapping of our own, unmapped when dropped.
pub struct Memory {
    base: *mut u8,
    len: usize,
    /// The address of the mapping proper, which may begin before `base` for alignment.
    mapped: *mut u8,
    mapped_len: usize,
    fd: Option<OwnedFd>,
}

impl Memory {
    /// Maps `len` bytes, readable and writeable, none of it resident. Errors report what is missing.
    pub fn new(kind: Kind, len: usize) -> Result<Memory, String> {
        match kind {
            Kind::Anon => {
                let memory = Memory::map(len, faultin::page_size(), None)?;
                // Fails on a kernel without huge pages, where there is nothing to forbid.
                memory.advise(libc::MADV_NOHUGEPAGE);
                Ok(memory)
            }
            Kind::Huge => {
                let memory = Memory::map(len, huge_page_size()?, None)?;
                if !memory.advise(libc::MADV_HUGEPAGE) {
                    return Err("this kernel has no transparent huge pages".to_owned());
                }
                Ok(memory)
            }
            Kind::Memfd => {
                // SAFETY: the name is a C string; the result is checked.
                let fd = unsafe { libc::memfd_create(c"faultin-bench".as_ptr(), libc::MFD_CLOEXEC) };
                if fd < 0 {
                    return Err(os_error("memfd_create"));
                }
                // SAFETY: a new descriptor without another owner.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                Memory::of_file(File::from(fd), len)
            }
            Kind::File => Memory::of_file(scratch_file()?, len),
        }
    }

    /// Maps as [`new`](Self::new) does, all of it resident.
    pub fn resident(kind: Kind, len: usize) -> Result<Memory, String> {
        let memory = Memory::new(kind, len)?;
        memory.touch();
        Ok(memory)
    }

    /// Maps `good` bytes of anonymous memory, resident, and an inaccessible page after them.
    pub fn guarded(good: usize) -> Result<Memory, String> {
        let page = faultin::page_size();
        let memory = Memory::map(good + page, page, None)?;
        memory.advise(libc::MADV_NOHUGEPAGE);
        // SAFETY: our own mapping, to which no reference exists.
        if unsafe { libc::mprotect(memory.base.wrapping_add(good).cast(), page, libc::PROT_NONE) } != 0 {
            return Err(os_error("mprotect"));
        }
        for offset in (0..good).step_by(page) {
            // SAFETY: within the accessible part.
            unsafe { memory.base.add(offset).write_volatile(1) };
        }
        Ok(memory)
    }

    fn of_file(mut file: File, len: usize) -> Result<Memory, String> {
        let block: Vec<u8> = (0..1 << 20).map(|i: u32| (i / 7) as u8).collect();
        let mut left = len;
        while left > 0 {
            let step = left.min(block.len());
            file.write_all(&block[..step]).map_err(|error| format!("writing a scratch file: {error}"))?;
            left -= step;
        }
        Memory::map(len, faultin::page_size(), Some(file.into()))
    }

    fn map(len: usize, align: usize, fd: Option<OwnedFd>) -> Result<Memory, String> {
        let slack = if align > faultin::page_size() { align } else { 0 };
        let (flags, raw) = match &fd {
            Some(fd) => (libc::MAP_SHARED, fd.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1),
        };
        let mapped_len = len.next_multiple_of(align) + slack;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let mapped = unsafe { libc::mmap(core::ptr::null_mut(), mapped_len, prot, flags, raw, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(os_error("mmap"));
        }
        let mapped = mapped.cast::<u8>();
        let base = mapped.wrapping_add(mapped.addr().next_multiple_of(align) - mapped.addr());
        Ok(Memory { base, len, mapped, mapped_len, fd })
    }

    pub fn ptr(&self) -> *mut u8 {
        self.base
    }

    /// Drops the pages of the first `len` bytes: anonymous memory is freed, a file's is unmapped. Some of their neighbours
    /// are dropped, too, because a fault may have brought them in; not all, which would evict the data of a small case from
    /// the caches.
    pub fn make_cold(&self, len: usize) {
        const NEIGHBOURS: usize = 2 << 20;
        self.advise_part(len.max(NEIGHBOURS).min(self.len), libc::MADV_DONTNEED);
    }

    /// Makes every page resident, by a store to each.
    pub fn touch(&self) {
        super::peers::touch::write(self.base, self.len, faultin::page_size());
    }

    /// Truncates the file of the mapping: accesses past `len` are SIGBUS from now on.
    pub fn truncate(&self, len: usize) -> Result<(), String> {
        let fd = self.fd.as_ref().ok_or("no file behind this memory")?;
        // SAFETY: a descriptor owned here.
        match unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) } {
            0 => Ok(()),
            _ => Err(os_error("ftruncate")),
        }
    }

    /// Forbids stores to a part.
    pub fn make_read_only(&self, offset: usize, len: usize) -> Result<(), String> {
        // SAFETY: this value's mapping.
        match unsafe { libc::mprotect(self.base.wrapping_add(offset).cast(), len, libc::PROT_READ) } {
            0 => Ok(()),
            _ => Err(os_error("mprotect")),
        }
    }

    /// Returns whether all of it is in huge pages, according to `smaps`.
    pub fn is_huge(&self) -> bool {
        huge_bytes(self.base.addr()).is_some_and(|huge| huge >= self.len)
    }

    /// Returns how many pages of the first `len` bytes are mapped now, according to `pagemap`.
    pub fn present(&self, len: usize) -> Result<usize, String> {
        const PRESENT: u64 = 1 << 63;
        let page = faultin::page_size();
        let mut entries = vec![0; len.div_ceil(page) * size_of::<u64>()];
        File::open("/proc/self/pagemap")
            .and_then(|file| file.read_exact_at(&mut entries, (self.base.addr() / page * size_of::<u64>()) as u64))
            .map_err(|error| format!("/proc/self/pagemap: {error}"))?;
        let (entries, _) = entries.as_chunks::<8>();
        Ok(entries.iter().filter(|entry| u64::from_ne_bytes(**entry) & PRESENT != 0).count())
    }

    fn advise(&self, advice: libc::c_int) -> bool {
        self.advise_part(self.len, advice)
    }

    fn advise_part(&self, len: usize, advice: libc::c_int) -> bool {
        // SAFETY: our own mapping, to which no reference exists; its content may be lost.
        unsafe { libc::madvise(self.base.cast(), len.next_multiple_of(faultin::page_size()), advice) == 0 }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which no reference exists.
        unsafe { libc::munmap(self.mapped.cast(), self.mapped_len) };
    }
}

impl AsFd for Memory {
    /// Returns the file of the mapping. Panics for anonymous memory.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_ref().expect("a memfd or a file").as_fd()
    }
}

/// Returns the size of a transparent huge page in bytes.
pub fn huge_page_size() -> Result<usize, String> {
    let path = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.trim().parse().map_err(|error| format!("{path}: {error}"))
}

/// Returns `AnonHugePages` of the mapping that contains `address`, in bytes.
fn huge_bytes(address: usize) -> Option<usize> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let mut inside = false;
    for line in smaps.lines() {
        let head = line.split_whitespace().next()?;
        if let Some((start, end)) = head.split_once('-') {
            let parse = |text| usize::from_str_radix(text, 16).ok();
            if let (Some(start), Some(end)) = (parse(start), parse(end)) {
                inside = (start..end).contains(&address);
            }
        } else if inside && head == "AnonHugePages:" {
            let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
            return Some(kib << 10);
        }
    }
    None
}

/// Makes a file without a name, on a disk: /var/tmp is on one where /tmp is not.
fn scratch_file() -> Result<File, String> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut errors = String::new();
    for directory in [std::path::Path::new("/var/tmp"), &std::env::temp_dir()] {
        match std::fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(directory) {
            Ok(file) => return Ok(file),
            Err(error) => errors += &format!("{}: {error}; ", directory.display()),
        }
    }
    Err(format!("no place for a scratch file: {errors}"))
}

fn os_error(call: &str) -> String {
    format!("{call}: {}", std::io::Error::last_os_error())
}
