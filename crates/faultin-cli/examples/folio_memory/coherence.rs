//! Whether stores through a mapping survive a cache that writes pages back and takes them away meanwhile.
//!
//! A file of a few pages is mapped, its faults are served in the faulting thread (userfaultfd, SIGBUS). Threads count in
//! words of it with ordinary instructions; another one writes back, unmaps and evicts at random. A store that got past
//! the protocol is a count that is too low. To show that this would be seen, the protocol's known mistakes are run, too.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::memory::{Memory, memfd};

const PAGES: usize = 16;
const THREADS: usize = 3;

/// How long each variant runs.
const TIME: Duration = Duration::from_secs(2);

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    /// The page is written back first and protected then.
    ProtectsLate,
    /// A page that comes back into the mapping is not protected.
    ForgetsToProtect,
    /// The page is not looked at again between writing back and taking it away.
    TakesDirty,
}

// Where a folio is. The signal says only that somebody faulted: this says why.
const ABSENT: u8 = 0;
const CACHED: u8 = 1;
/// In the mapping, and a store faults.
const CLEAN: u8 = 2;
/// In the mapping, and stores go through.
const DIRTY: u8 = 3;

struct Folio {
    lock: AtomicBool,
    state: AtomicU8,
}

struct Cache {
    folios: [Folio; PAGES],
    page: usize,
    file: File,
    uffd: File,
    /// The cache's own mapping of the folios.
    alias: Memory,
    /// The one that others store through.
    mapping: Memory,
    store: Box<[UnsafeCell<u8>]>,
    mistake: Mistake,
    served: AtomicU64,
    evicted: AtomicU64,
}

// SAFETY: bytes of the store are touched under the lock of their folio; the mappings are addresses.
unsafe impl Sync for Cache {}
// SAFETY: as above.
unsafe impl Send for Cache {}

/// The one whose faults are served.
static CACHE: [OnceLock<Cache>; 4] = [const { OnceLock::new() }; 4];
static CURRENT: AtomicUsize = AtomicUsize::new(0);

pub fn print() -> Result<(), Box<dyn std::error::Error>> {
    println!("stores through a mapping under writeback and eviction, {THREADS} threads, {} s each", TIME.as_secs());
    let variants = [Mistake::None, Mistake::ProtectsLate, Mistake::ForgetsToProtect, Mistake::TakesDirty];
    for (index, mistake) in variants.into_iter().enumerate() {
        match Cache::new(mistake) {
            Ok(cache) => {
                CURRENT.store(index, SeqCst);
                let cache = CACHE[index].get_or_init(|| cache);
                cache.handle_faults()?;
                let (stores, lost) = cache.run();
                let (served, evicted) = (cache.served.load(SeqCst), cache.evicted.load(SeqCst));
                println!(
                    "  {:18} {stores:9} stores, {served:8} faults, {evicted:8} evictions: {lost} lost",
                    format!("{mistake:?}")
                );
                if (lost == 0) != (mistake == Mistake::None) {
                    return Err(format!("{mistake:?}: {lost} stores lost").into());
                }
            }
            Err(error) => {
                println!("  skipped: userfaultfd with write protection and minor faults of shared memory: {error}")
            }
        }
    }
    Ok(())
}

impl Cache {
    fn new(mistake: Mistake) -> io::Result<Cache> {
        let page = faultin::page_size();
        let file = memfd(PAGES * page)?;
        let (alias, mapping) = (Memory::of_file(&file, PAGES * page)?, Memory::of_file(&file, PAGES * page)?);
        let uffd = uffd::open()?;
        uffd::register(&uffd, mapping.base.addr(), mapping.len)?;
        let folio = || Folio { lock: AtomicBool::new(false), state: AtomicU8::new(ABSENT) };
        Ok(Cache {
            folios: std::array::from_fn(|_| folio()),
            page,
            file,
            uffd,
            alias,
            mapping,
            store: (0..PAGES * page).map(|_| UnsafeCell::new(0)).collect(),
            mistake,
            served: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        })
    }

    fn handle_faults(&self) -> io::Result<()> {
        extern "C" fn handler(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
            // SAFETY: a SIGBUS has an address.
            let address = unsafe { (*info).si_addr() }.addr();
            let cache = CACHE[CURRENT.load(SeqCst)].get();
            if !cache.is_some_and(|cache| cache.serve(address)) {
                // SAFETY: not ours, and nobody else's: it would come again for ever.
                unsafe { libc::_exit(2) };
            }
        }
        // SAFETY: a zeroed `sigaction` with our handler, which is async-signal-safe: atomics, copies, system calls.
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut())
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn lock(&self, index: usize) -> &Folio {
        let folio = &self.folios[index];
        while folio.lock.swap(true, SeqCst) {
            std::hint::spin_loop();
        }
        folio
    }

    fn address(&self, index: usize) -> usize {
        self.mapping.base.addr() + index * self.page
    }

    /// Serves a fault of the mapping.
    fn serve(&self, address: usize) -> bool {
        let at = address.wrapping_sub(self.mapping.base.addr());
        if at >= self.mapping.len {
            return false;
        }
        self.served.fetch_add(1, SeqCst);
        let index = at / self.page;
        let folio = self.lock(index);
        let protect = self.mistake != Mistake::ForgetsToProtect;
        let served = match folio.state.load(SeqCst) {
            state @ (ABSENT | CACHED) => {
                if state == ABSENT {
                    // SAFETY: the folio's bytes, under its lock; the alias is nobody else's.
                    unsafe {
                        self.alias.base.add(index * self.page).copy_from_nonoverlapping(self.in_store(index), self.page)
                    };
                }
                folio.state.store(CLEAN, SeqCst);
                uffd::resume(&self.uffd, self.address(index), self.page, protect)
            }
            CLEAN => {
                folio.state.store(DIRTY, SeqCst);
                uffd::protect(&self.uffd, self.address(index), self.page, false)
            }
            // Somebody else was quicker.
            _ => true,
        };
        folio.lock.store(false, SeqCst);
        served
    }

    fn in_store(&self, index: usize) -> *mut u8 {
        UnsafeCell::raw_get(&raw const self.store[index * self.page])
    }

    fn write_back(&self, index: usize) {
        // SAFETY: as in `serve`.
        unsafe { self.in_store(index).copy_from_nonoverlapping(self.alias.base.add(index * self.page), self.page) };
    }

    /// Writes a folio back, and takes it out of the mapping and out of memory, if that is wanted.
    fn reclaim(&self, index: usize, unmap: bool, evict: bool) {
        let folio = self.lock(index);
        if folio.state.load(SeqCst) == DIRTY {
            let protect = || assert!(uffd::protect(&self.uffd, self.address(index), self.page, true));
            match self.mistake {
                Mistake::ProtectsLate => {
                    self.write_back(index);
                    protect();
                }
                // As asynchronous write protection has it: a store since then is noticed by nobody.
                Mistake::TakesDirty => self.write_back(index),
                _ => {
                    protect();
                    self.write_back(index);
                }
            }
            folio.state.store(CLEAN, SeqCst);
            if self.mistake == Mistake::TakesDirty && !unmap {
                folio.state.store(DIRTY, SeqCst);
            }
        }
        if unmap && folio.state.load(SeqCst) == CLEAN {
            self.mapping.advise(index * self.page, self.page, libc::MADV_DONTNEED).expect("our own mapping");
            folio.state.store(CACHED, SeqCst);
        }
        if evict && folio.state.load(SeqCst) == CACHED {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            let (at, len) = ((index * self.page) as libc::off_t, self.page as libc::off_t);
            // SAFETY: our own file; nobody has a reference to its bytes.
            assert_eq!(unsafe { libc::fallocate(self.file.as_raw_fd(), mode, at, len) }, 0);
            folio.state.store(ABSENT, SeqCst);
            self.evicted.fetch_add(1, SeqCst);
        }
        folio.lock.store(false, SeqCst);
    }

    /// How many stores were made, and how many of them are not in the store afterwards.
    fn run(&self) -> (u64, u64) {
        let stop = AtomicBool::new(false);
        let words = self.page / 8;
        let counts: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let counting: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let stop = &stop;
                    scope.spawn(move || {
                        let mut counts = vec![0_u64; PAGES];
                        let mut random = Random(thread as u64 + 1);
                        while !stop.load(SeqCst) {
                            let index = random.below(PAGES);
                            // A word of its own in each page.
                            let word = index * words + thread * 7;
                            // SAFETY: a word of the mapping that only this thread touches; its faults are served.
                            unsafe {
                                let place = self.mapping.base.cast::<u64>().add(word);
                                place.write_volatile(place.read_volatile() + 1);
                            }
                            counts[index] += 1;
                        }
                        counts
                    })
                })
                .collect();
            let (start, mut random) = (Instant::now(), Random(77));
            while start.elapsed() < TIME {
                let how = random.below(4);
                self.reclaim(random.below(PAGES), how > 0, how > 1);
            }
            stop.store(true, SeqCst);
            counting.into_iter().map(|thread| thread.join().expect("it counts")).collect()
        });
        (0..PAGES).for_each(|index| self.reclaim(index, true, true));
        let (mut stores, mut kept) = (0, 0);
        for (thread, counts) in counts.iter().enumerate() {
            for (index, count) in counts.iter().enumerate() {
                // SAFETY: nobody counts any more.
                kept += unsafe { self.in_store(index).cast::<u64>().add(thread * 7).read_unaligned() };
                stores += count;
            }
        }
        (stores, stores - kept)
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// `<linux/userfaultfd.h>`, as far as it is needed.
mod uffd {
    use super::*;

    const API: u64 = 0xaa;
    const USER_MODE_ONLY: c_int = 1;
    const FEATURES: u64 = MISSING_SHMEM | SIGBUS | MINOR_SHMEM | WP_SHMEM;
    const MISSING_SHMEM: u64 = 1 << 5;
    const SIGBUS: u64 = 1 << 7;
    const MINOR_SHMEM: u64 = 1 << 10;
    const WP_SHMEM: u64 = 1 << 12;
    const MODES: u64 = 1 | 1 << 1 | 1 << 2;

    #[repr(C)]
    struct Three {
        start: u64,
        len: u64,
        mode: u64,
    }

    #[repr(C)]
    struct Four {
        three: Three,
        answer: u64,
    }

    #[repr(C)]
    struct Ask {
        api: u64,
        features: u64,
        ioctls: u64,
    }

    const UFFDIO_API: libc::Ioctl = libc::_IOWR::<Ask>(0xaa, 0x3f);
    const UFFDIO_REGISTER: libc::Ioctl = libc::_IOWR::<Four>(0xaa, 0x00);
    const UFFDIO_WRITEPROTECT: libc::Ioctl = libc::_IOWR::<Three>(0xaa, 0x06);
    const UFFDIO_CONTINUE: libc::Ioctl = libc::_IOWR::<Four>(0xaa, 0x07);

    fn ask<T>(uffd: RawFd, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
        // SAFETY: the request's own structure.
        match unsafe { libc::ioctl(uffd, request, argument) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn open() -> io::Result<File> {
        // SAFETY: flags; a new descriptor.
        let file = unsafe {
            let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | USER_MODE_ONLY);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(fd as RawFd)
        };
        ask(file.as_raw_fd(), UFFDIO_API, &mut Ask { api: API, features: FEATURES, ioctls: 0 })?;
        Ok(file)
    }

    pub fn register(uffd: &File, start: usize, len: usize) -> io::Result<()> {
        let three = Three { start: start as u64, len: len as u64, mode: MODES };
        ask(uffd.as_raw_fd(), UFFDIO_REGISTER, &mut Four { three, answer: 0 })
    }

    /// Maps what the memfd has, protected against stores or not.
    pub fn resume(uffd: &File, start: usize, len: usize, protect: bool) -> bool {
        let three = Three { start: start as u64, len: len as u64, mode: if protect { 1 << 1 } else { 0 } };
        ask(uffd.as_raw_fd(), UFFDIO_CONTINUE, &mut Four { three, answer: 0 }).is_ok()
    }

    /// Has stores fault, or go through.
    pub fn protect(uffd: &File, start: usize, len: usize, protect: bool) -> bool {
        let mut three = Three { start: start as u64, len: len as u64, mode: u64::from(protect) };
        ask(uffd.as_raw_fd(), UFFDIO_WRITEPROTECT, &mut three).is_ok()
    }
}
