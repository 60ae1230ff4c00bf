//! Stress tests: threads access memory at full speed while another protects, unmaps, remaps, truncates and extends it.
//! Counts are exact in each case: the bytes before the count are done, the bytes after it unchanged.
//!
//! The affected pages have a second mapping in which they stay accessible; it shows what an operation really stored. Each
//! thread stores to its own pages, so that other threads' stores do not interfere with the checks.
//!
//! A truncation also discards stored bytes. So the file is read, by system call, before each operation and after it: if
//! there was no truncation meanwhile, each byte is known; otherwise each is the known one or zero.

mod pages;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use faultin::{Access, Cause, Fault, Granularity, Short, testing};
use faultin_test::Random;
use pages::{CANARY, pattern, serial};

/// Linux 6.13.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Accessing threads.
const WORKERS: usize = 2;

/// Pages that are only read, and pages of each thread, in the affected range.
const READ_PAGES: usize = 4;
const OWN_PAGES: usize = 4;
const PAGES: usize = READ_PAGES + WORKERS * OWN_PAGES;

/// The address of the affected range: far below everything else, so that no new mapping (for example, the signal stack of a
/// new thread) is placed in one of its holes.
const FAR_BELOW: usize = 0x10_0000_0000;

/// The duration of a run, over all vector widths.
const STORM: Duration = Duration::from_millis(2000);

/// Bytes after the count that may have been stored if the page is revoked at that very moment. The architectures permit it:
/// on aarch64 a store across two pages may be done on the good one only, and that is revoked before the copy can continue
/// there. On x86-64 a store of more than eight bytes may be done in part (Intel SDM, volume 3, 9.1.1), and a string
/// instruction that loses its page was observed to report one byte less than it stored (Xeon with FSRM, one of some ten
/// million stores), whether that was the source or the destination. The stored bytes are right in each case.
const PARTLY: usize = if cfg!(target_arch = "aarch64") { 31 } else { 63 };

/// The changes of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    /// `mprotect`: none, read-only, all.
    Protect,
    /// Unmapped (with a guard where the kernel supports them, otherwise `PROT_NONE`), and mapped again with `MAP_FIXED`.
    Unmap,
    /// `ftruncate` in both directions, with occasional pauses. Restored bytes are zero.
    Truncate,
}

/// Changes between two pauses.
const CHANGES_PER_PAUSE: u64 = 50;
/// Operations while nearly everything is truncated, before a pause, and stores during it whose bytes must be verified.
const OPERATIONS_PER_PAUSE: u64 = 2 * WORKERS as u64;

/// A file, mapped twice.
struct SharedFile {
    memory: i32,
    disturbed: *mut u8,
    undisturbed: *mut u8,
    page: usize,
    /// Truncations begun plus truncations completed: odd during one.
    truncations: AtomicU64,
    /// Stores without a simultaneous truncation, whose bytes were all verified.
    proven: AtomicU64,
    operations: AtomicU64,
    /// Number of copies to plain memory that stored bytes after their count.
    partly: AtomicU64,
}

// SAFETY: the addresses are shared on purpose; the module documentation says which thread stores where.
unsafe impl Sync for SharedFile {}

impl SharedFile {
    fn new() -> SharedFile {
        let page = faultin::page_size();
        // SAFETY: a new file and new mappings.
        unsafe {
            let memory = libc::memfd_create(c"storm".as_ptr(), 0);
            assert!(memory >= 0, "memfd_create: {}", std::io::Error::last_os_error());
            assert_eq!(libc::ftruncate(memory, (PAGES * page) as libc::off_t), 0);
            let map = |at: usize, flags| {
                let (at, rw) = (std::ptr::without_provenance_mut(at), libc::PROT_READ | libc::PROT_WRITE);
                let map = libc::mmap(at, PAGES * page, rw, libc::MAP_SHARED | flags, memory, 0);
                assert_ne!(map, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
                map.cast::<u8>()
            };
            let (disturbed, undisturbed) = (map(FAR_BELOW, libc::MAP_FIXED_NOREPLACE), map(0, 0));
            let [truncations, proven, operations, partly] = [0; 4].map(AtomicU64::new);
            let shared = SharedFile { memory, disturbed, undisturbed, page, truncations, proven, operations, partly };
            shared.write_pattern();
            shared
        }
    }

    /// The bytes to be read: not zero, except for one NUL in 300.
    fn byte(offset: usize) -> u8 {
        if offset % 300 == 299 { 0 } else { pattern(offset) | 1 }
    }

    /// By system call, so that truncations do not interfere.
    fn write_pattern(&self) {
        let bytes: Vec<u8> = (0..READ_PAGES * self.page).map(SharedFile::byte).collect();
        // SAFETY: reads the vector.
        unsafe { libc::pwrite(self.memory, bytes.as_ptr().cast(), bytes.len(), 0) };
    }

    /// The bytes of the file from `offset` on, with zeros past its current end.
    fn read(&self, offset: usize, bytes: &mut [u8]) {
        bytes.fill(0);
        // SAFETY: writes to the slice.
        let read = unsafe { libc::pread(self.memory, bytes.as_mut_ptr().cast(), bytes.len(), offset as libc::off_t) };
        assert!(read >= 0, "pread: {}", std::io::Error::last_os_error());
    }

    /// Waits until the threads have worked while the file is short, and again while it has its full length: with few CPUs
    /// they might run only between truncations, or never.
    fn pause(&self, over: &AtomicBool) {
        let wait = |counter: &AtomicU64| {
            let enough = counter.load(Ordering::SeqCst) + OPERATIONS_PER_PAUSE;
            while counter.load(Ordering::SeqCst) < enough && !over.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        };
        self.truncate(self.page, || wait(&self.operations));
        wait(&self.proven);
    }

    /// Truncates the file, and restores its length.
    fn truncate(&self, size: usize, meanwhile: impl FnOnce()) {
        let set = |size: usize| {
            // SAFETY: the file of the affected mapping, as intended.
            assert_eq!(unsafe { libc::ftruncate(self.memory, size as libc::off_t) }, 0);
        };
        self.truncations.fetch_add(1, Ordering::SeqCst);
        set(size);
        meanwhile();
        set(PAGES * self.page);
        self.truncations.fetch_add(1, Ordering::SeqCst);
    }

    /// One change at a random place.
    fn change(&self, disturbance: Disturbance, random: &Random) {
        let (first, count) = (random.below(PAGES), 1 + random.below(3));
        let count = count.min(PAGES - first);
        let (at, len) = (self.disturbed.wrapping_add(first * self.page).cast(), count * self.page);
        let (none, read, all) = (libc::PROT_NONE, libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: changes the affected mapping, or its file, as intended.
        unsafe {
            match disturbance {
                Disturbance::Protect => {
                    assert_eq!(libc::mprotect(at, len, [none, read, all, all][random.below(4)]), 0);
                }
                Disturbance::Unmap => {
                    if random.below(2) == 0 {
                        // Nothing is left there, but the range stays reserved: the test harness starts threads at any time,
                        // and their mappings must not be placed in the hole.
                        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
                        assert_eq!(libc::mmap(at, len, none, flags, -1, 0), at);
                        libc::madvise(at, len, MADV_GUARD_INSTALL);
                    }
                    let protection = [all, all, all, read][random.below(4)];
                    let (flags, offset) = (libc::MAP_SHARED | libc::MAP_FIXED, (first * self.page) as libc::off_t);
                    assert_eq!(libc::mmap(at, len, protection, flags, self.memory, offset), at);
                }
                Disturbance::Truncate => {
                    let (size, writes) = (random.below(PAGES * self.page + 1), random.below(3) == 0);
                    self.truncate(size, || {
                        if writes {
                            self.write_pattern();
                        }
                    });
                }
            }
        }
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        // SAFETY: this value's mappings and file; all threads have ended.
        unsafe {
            libc::munmap(self.disturbed.cast(), PAGES * self.page);
            libc::munmap(self.undisturbed.cast(), PAGES * self.page);
            libc::close(self.memory);
        }
    }
}

/// An accessing thread.
struct Worker<'a> {
    shared: &'a SharedFile,
    disturbance: Disturbance,
    /// The offset of the thread's own pages, and their contents before this operation.
    own: usize,
    holds: Vec<u8>,
    /// The bytes that the thread has stored there last, which a truncation zeroes. Neither at once nor permanently: the
    /// file's end moves before the pages are unmapped, and bytes stored past the end in its last page reappear when the
    /// file grows.
    stored: Vec<u8>,
    /// The contents of the read-only pages before this operation.
    reads: Vec<u8>,
    /// [`SharedFile::truncations`] before both were read.
    began: u64,
    random: Random,
    complete: u64,
    short: u64,
}

impl Worker<'_> {
    /// A place in `pages` from `first` on, more often than not near the end of a page, and a length that stays inside.
    fn range(&mut self, first: usize, pages: usize) -> (usize, usize) {
        let page = self.shared.page;
        let end = first + pages * page;
        let at = match self.random.below(4) {
            0 => first + self.random.below(pages * page),
            _ => first + (1 + self.random.below(pages - 1)) * page - self.random.below(130),
        };
        let len = match self.random.below(8) {
            0 => self.random.below(2 * page),
            1 | 2 => self.random.below(1800),
            3 => self.random.below(300),
            _ => self.random.below(70),
        };
        (at, len.min(end - at))
    }

    fn own_range(&mut self) -> (usize, usize) {
        self.range(self.own, OWN_PAGES)
    }

    fn read_range(&mut self) -> (usize, usize) {
        self.range(0, READ_PAGES)
    }

    fn disturbed(&self, offset: usize) -> *mut u8 {
        self.shared.disturbed.wrapping_add(offset)
    }

    /// Reads the contents of the pages. Without truncations they are known.
    fn begin(&mut self) {
        if self.disturbance == Disturbance::Truncate {
            self.began = self.shared.truncations.load(Ordering::SeqCst);
            self.shared.read(0, &mut self.reads);
            self.shared.read(self.own, &mut self.holds);
        }
    }

    /// Whether there has been a truncation since the operation began: any byte may have become zero.
    fn is_truncating(&self) -> bool {
        self.disturbance == Disturbance::Truncate
            && (self.began % 2 == 1 || self.shared.truncations.load(Ordering::SeqCst) != self.began)
    }

    /// The bytes done. The reason must be one that this kind of change can cause, at the byte after them.
    fn count(&mut self, what: &str, result: Result<(), Short>, len: usize, sides: &[(Access, *mut u8)]) -> usize {
        match result {
            Ok(()) => {
                self.complete += 1;
                len
            }
            Err(short) => {
                self.short += 1;
                let fits = sides.iter().any(|(access, start)| {
                    short.fault.access() == *access
                        && short.fault.address() == Some(start.addr().wrapping_add(short.done))
                });
                assert!(fits && short.done < len, "{what} of {len} bytes, {sides:?}: {short:?}");
                self.reason(what, &short.fault);
                short.done
            }
        }
    }

    fn reason(&self, what: &str, fault: &Fault) {
        let possible = match self.disturbance {
            Disturbance::Protect => fault.cause() == Cause::Protection,
            Disturbance::Unmap => matches!(fault.cause(), Cause::Unmapped | Cause::Protection),
            Disturbance::Truncate => fault.cause() == Cause::Backing && self.is_truncating(),
        };
        assert!(possible, "{what}: {fault:?} in {:?}", self.disturbance);
    }

    /// Whether the read-only pages may have `byte` at `offset`.
    fn may_read(&self, offset: usize, byte: u8) -> bool {
        // (Truncated bytes are zero, and occasionally written again.)
        byte == self.reads[offset] || self.is_truncating() && (byte == 0 || byte == SharedFile::byte(offset))
    }

    fn check_read(&self, what: &str, src: usize, bytes: &[u8], done: usize) {
        if let Some(at) = (0..done).find(|at| !self.may_read(src + at, bytes[*at])) {
            panic!("{what} from {src:#x}: byte {at} of {done} is {:#x}, never in memory", bytes[at]);
        }
        let touched = bytes[done..].iter().rposition(|byte| *byte != CANARY).map_or(0, |last| last + 1);
        if let Some(at) = (done..done + touched).find(|at| *at >= done + PARTLY || !self.may_read(src + at, bytes[*at]))
        {
            panic!(
                "{what} from {src:#x}: {touched} bytes after the count of {done} were touched, byte {at} is {:#x}",
                bytes[at]
            );
        }
        self.shared.partly.fetch_add(u64::from(touched > 0), Ordering::Relaxed);
    }

    /// Checks that the thread's own pages have exactly what it stored: the first `done` of `bytes` at `dst`.
    fn check_stored(&mut self, what: &str, dst: usize, bytes: &[u8], done: usize) {
        let (from, len) = (dst - self.own, bytes.len());
        let (low, high) = (from.saturating_sub(80), (from + len + 80).min(self.holds.len()));
        let mut real = vec![0; high - low];
        if self.disturbance == Disturbance::Truncate {
            self.shared.read(self.own + low, &mut real);
        } else {
            // SAFETY: the undisturbed mapping; only this thread stores to these pages.
            real.copy_from_slice(unsafe {
                std::slice::from_raw_parts(self.shared.undisturbed.wrapping_add(self.own + low), high - low)
            });
        }
        let truncating = self.is_truncating();
        for at in 0..len.min(done + PARTLY) {
            // The result of a truncation says nothing about this store.
            let is = real[from + at - low];
            let partly = is == bytes[at] && is != self.holds[from + at] && !(truncating && is == 0);
            if at < done || partly {
                (self.holds[from + at], self.stored[from + at]) = (bytes[at], bytes[at]);
            }
        }
        let cut = |at: usize| real[at - low] == self.stored[at] || real[at - low] == 0;
        let wrong = |at: &usize| real[at - low] != self.holds[*at] && !(truncating && cut(*at));
        if let Some(at) = (low..high).find(wrong) {
            panic!(
                "{what} to {dst:#x}, {done} of {len} bytes done: byte {} is {:#x} and should be {:#x}{}",
                at as isize - from as isize,
                real[at - low],
                self.holds[at],
                if truncating { ", or zero" } else { "" }
            );
        }
        if !truncating && done > 0 {
            self.shared.proven.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn copy_in(&mut self) {
        let (src, len) = self.read_range();
        let mut bytes = vec![CANARY; len + 70];
        let from = self.disturbed(src);
        let unpredictable = self.random.below(2) == 1;
        // SAFETY: a private buffer, and foreign memory that stays reserved.
        let result = unsafe {
            if unpredictable {
                faultin::raw::copy_unpredictable(bytes.as_mut_ptr(), from, len)
            } else {
                faultin::raw::copy_in(bytes.as_mut_ptr(), from, len)
            }
        };
        let done = self.count("copy_in", result, len, &[(Access::Read, from)]);
        self.check_read("copy_in", src, &bytes, done);
    }

    fn copy_out(&mut self) {
        let (dst, len) = self.own_range();
        let seed = self.random.below(256) as u8;
        let bytes: Vec<u8> = (0..len).map(|i| pattern(i).wrapping_add(seed)).collect();
        let to = self.disturbed(dst);
        let unpredictable = self.random.below(2) == 1;
        // SAFETY: a private buffer, and foreign memory that stays reserved.
        let result = unsafe {
            if unpredictable {
                faultin::raw::copy_unpredictable(to, bytes.as_ptr(), len)
            } else {
                faultin::raw::copy_out(to, bytes.as_ptr(), len)
            }
        };
        let done = self.count("copy_out", result, len, &[(Access::Write, to)]);
        self.check_stored("copy_out", dst, &bytes, done);
    }

    fn copy(&mut self) {
        let (src, most) = self.read_range();
        let (dst, len) = self.own_range();
        let len = len.min(most);
        let (from, to) = (self.disturbed(src), self.disturbed(dst));
        // SAFETY: foreign memory that stays reserved on both sides.
        let result = unsafe { faultin::raw::copy(to, from, len) };
        let done = self.count("copy", result, len, &[(Access::Read, from), (Access::Write, to)]);
        // Bytes read during a truncation are the pattern, or zero.
        let pattern = self.is_truncating();
        let bytes: Vec<u8> =
            (src..src + len).map(|at| if pattern { SharedFile::byte(at) } else { self.reads[at] }).collect();
        self.check_stored("copy", dst, &bytes, done);
    }

    fn fill(&mut self) {
        let (dst, len) = self.own_range();
        let byte = self.random.below(256) as u8;
        let to = self.disturbed(dst);
        // SAFETY: foreign memory that stays reserved.
        let result = unsafe { faultin::raw::fill(to, byte, len) };
        let done = self.count("fill", result, len, &[(Access::Write, to)]);
        self.check_stored("fill", dst, &vec![byte; len], done);
    }

    fn string(&mut self) {
        let (src, max) = self.read_range();
        let from = self.disturbed(src);
        let mut bytes = vec![CANARY; max + 70];
        // SAFETY: a private buffer, and foreign memory that stays reserved.
        let (length, copied) =
            unsafe { (faultin::raw::strnlen(from, max), faultin::raw::strncpy(bytes.as_mut_ptr(), from, max)) };
        let truncating = self.is_truncating();
        // During a truncation any byte may be a NUL, and those of the pattern are.
        let nul = |at: usize| if truncating { SharedFile::byte(at) } else { self.reads[at] } == 0;
        let nul = (src..src + max).position(nul).unwrap_or(max);
        for (what, result) in [("strnlen", length), ("strncpy", copied)] {
            match result {
                Ok(len) => assert!(
                    len == nul || truncating && len < nul,
                    "{what} from {src:#x}: {len} of at most {max}, the NUL is at {nul}"
                ),
                Err(short) => {
                    self.count(what, Err(short), max, &[(Access::Read, from)]);
                    assert!(
                        short.done <= nul,
                        "{what} from {src:#x}: {} bytes without a NUL, which is at {nul}",
                        short.done
                    );
                }
            }
        }
        let done = match copied {
            Ok(len) => max.min(len + 1),
            Err(short) => short.done,
        };
        self.check_read("strncpy", src, &bytes, done);
    }

    fn scan(&mut self) {
        let (src, len) = self.read_range();
        let from = self.disturbed(src);
        let same: Vec<u8> = (src..src + len).map(SharedFile::byte).collect();
        // SAFETY: a private buffer, and foreign memory that stays reserved.
        let (different, zeroed) =
            unsafe { (faultin::raw::compare(from, same.as_ptr(), len), faultin::raw::is_zeroed(from, len)) };
        let truncating = self.is_truncating();
        let holds = &self.reads[src..src + len];
        match different {
            // A byte that is zero in the pattern is never anything else.
            Ok(at) if truncating && at.is_none_or(|at| same[at] != 0) => self.complete += 1,
            Ok(at) if !truncating && at == (0..len).find(|at| holds[*at] != same[*at]) => self.complete += 1,
            Err(short) if short.done < len => self.reason("compare", &short.fault),
            other => {
                panic!("compare of {len} bytes from {src:#x} with the pattern, truncating: {truncating}: {other:?}")
            }
        }
        let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        match zeroed {
            Ok(zeroed) if truncating && (zeroed || !zeros(&same)) => {}
            Ok(zeroed) if !truncating && zeroed == zeros(&self.reads[src..src + len]) => {}
            Err(short) if short.done < len => self.reason("is_zeroed", &short.fault),
            other => panic!("is_zeroed of {len} bytes from {src:#x}, truncating: {truncating}: {other:?}"),
        }
    }

    fn scalar(&mut self) {
        let (dst, len) = self.own_range();
        if len < 16 {
            return;
        }
        let aligned = dst & !7;
        let (at, to) = (aligned.max(self.own), self.disturbed(aligned.max(self.own)).cast::<u64>());
        let value = self.random.below(usize::MAX) as u64;
        let old = u64::from_ne_bytes(self.holds[at - self.own..at - self.own + 8].try_into().expect("eight bytes"));
        // SAFETY: foreign memory that stays reserved.
        let (what, found) = unsafe {
            match self.random.below(4) {
                0 => ("store", faultin::raw::store(to, value).map(|()| old)),
                1 => ("swap", faultin::raw::swap(to, value)),
                2 => ("fetch_add", faultin::raw::fetch_add(to, value, Ordering::AcqRel)),
                _ => ("fetch_xor", faultin::raw::fetch_xor(to, value, Ordering::AcqRel)),
            }
        };
        if let Ok(found) = found {
            self.check_old(what, at, found, old);
        }
        let was = found.unwrap_or(old);
        let new = match what {
            "fetch_add" => was.wrapping_add(value),
            "fetch_xor" => was ^ value,
            _ => value,
        };
        let done = match found {
            Ok(_) => 8,
            Err(fault) => {
                self.reason(what, &fault);
                0
            }
        };
        self.check_stored(what, at, &new.to_ne_bytes(), done);
        let (src, len) = self.read_range();
        if len < 4 {
            return;
        }
        // SAFETY: foreign memory that stays reserved.
        match unsafe { faultin::raw::load(self.disturbed(src).cast::<u32>()) } {
            Ok(value) => {
                let bytes = value.to_ne_bytes();
                assert!((0..4).all(|i| self.may_read(src + i, bytes[i])), "load from {src:#x}: {value:#x}");
            }
            Err(fault) => self.reason("load", &fault),
        }
    }

    fn check_old(&self, what: &str, at: usize, found: u64, old: u64) {
        // A truncation may end in the middle of a word.
        let mut bytes = found.to_ne_bytes().into_iter().zip(&self.stored[at - self.own..]);
        let cut = bytes.all(|(found, stored)| found == *stored || found == 0);
        let truncating = self.is_truncating();
        assert!(
            found == old || truncating && cut,
            "{what}, truncating: {truncating}: {found:#x}, and it held {old:#x}"
        );
    }

    fn prepare(&mut self) {
        let (dst, len) = self.own_range();
        let Some(some) = NonZeroUsize::new(len) else { return };
        let to = self.disturbed(dst);
        // SAFETY: foreign memory that stays reserved.
        let (prefix, probe) = unsafe {
            (faultin::raw::fault_in_writeable(to, some), faultin::raw::probe_write(to, len, Granularity::Line))
        };
        match prefix {
            Ok(prefix) => assert!(prefix <= some, "fault_in_writeable: {prefix} of {some}"),
            Err(fault) => self.reason("fault_in_writeable", &fault),
        }
        if let Err(short) = probe {
            assert!(short.done < len, "probe_write of {len}: {short:?}");
            self.reason("probe_write", &short.fault);
        }
        // Neither changes a byte.
        let same = self.holds[dst - self.own..][..len].to_vec();
        self.check_stored("fault_in_writeable and probe_write", dst, &same, 0);
    }

    fn work(&mut self) {
        self.begin();
        match self.random.below(9) {
            0 | 1 => self.copy_in(),
            2 | 3 => self.copy_out(),
            4 => self.copy(),
            5 => self.fill(),
            6 => self.string(),
            7 => {
                if self.random.below(2) == 0 {
                    self.scan()
                } else {
                    self.prepare()
                }
            }
            _ => self.scalar(),
        }
    }
}

fn storm(disturbance: Disturbance) {
    let _one = serial();
    faultin::install().expect("install");
    let usual = testing::thresholds();
    testing::set_thresholds([700, 1100, 1500]);
    let widths = testing::vectors();
    for width in &widths {
        assert!(testing::select_vector(width));
        let (shared, over) = (SharedFile::new(), AtomicBool::new(false));
        let [complete, short, changes] = [0; 3].map(AtomicU64::new);
        std::thread::scope(|scope| {
            for index in 0..WORKERS {
                let (shared, over, complete, short) = (&shared, &over, &complete, &short);
                scope.spawn(move || {
                    let own = (READ_PAGES + index * OWN_PAGES) * shared.page;
                    let random = Random::new(0x9e37_79b9_7f4a_7c15 ^ index as u64);
                    let holds = vec![0; OWN_PAGES * shared.page];
                    let reads = (0..READ_PAGES * shared.page).map(SharedFile::byte).collect();
                    let mut worker = Worker {
                        shared,
                        disturbance,
                        own,
                        stored: holds.clone(),
                        holds,
                        reads,
                        began: 0,
                        random,
                        complete: 0,
                        short: 0,
                    };
                    let _stop = Stop(over);
                    while !over.load(Ordering::Relaxed) {
                        worker.work();
                        shared.operations.fetch_add(1, Ordering::SeqCst);
                    }
                    complete.fetch_add(worker.complete, Ordering::Relaxed);
                    short.fetch_add(worker.short, Ordering::Relaxed);
                });
            }
            let random = Random::new(77);
            let (started, share) = (Instant::now(), STORM / widths.len() as u32);
            let _stop = Stop(&over);
            while started.elapsed() < share && !over.load(Ordering::Relaxed) {
                shared.change(disturbance, &random);
                if changes.fetch_add(1, Ordering::Relaxed) % CHANGES_PER_PAUSE == 0
                    && disturbance == Disturbance::Truncate
                {
                    shared.pause(&over);
                }
            }
        });
        let (operations, proven) = (shared.operations.load(Ordering::SeqCst), shared.proven.load(Ordering::SeqCst));
        eprintln!(
            "{disturbance:?}, {width}: {changes:?} changes, {operations:?} operations, of the copies {complete:?} complete, {short:?} short; {proven} stores proven, {:?} copies with bytes after their count",
            shared.partly
        );
        assert!(proven > 0, "no store was checked byte by byte");
        assert!(complete.load(Ordering::Relaxed) > 0 && short.load(Ordering::Relaxed) > 0, "no disturbance at all");
    }
    testing::set_thresholds(usual);
    testing::select_widest();
}

/// Ends the run for all threads, also when a check fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn counts_are_exact_while_pages_are_protected() {
    storm(Disturbance::Protect);
}

#[test]
fn counts_are_exact_while_pages_are_unmapped_and_remapped() {
    storm(Disturbance::Unmap);
}

#[test]
fn counts_are_exact_while_the_file_is_truncated_and_grown() {
    storm(Disturbance::Truncate);
}
