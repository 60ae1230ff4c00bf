//! Threads: the cached files of a process used by one thread and by several at the same time.
//!
//! A ratio is the time of several threads, each of which does the whole work, relative to one thread that does it alone: 1 is
//! perfect, the number of threads means that they take turns. The host may run two processors of a virtual machine on one
//! core. So `memcpy` runs in the same rounds, and what has no lock is compared with it.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use faultin::map::Rights;
use faultin_cache::pager::{Mapping, Mode};
use faultin_cache::store::MemoryStore;
use faultin_cache::{Cache, CacheOptions, CachedFile};

use super::case::{Bound, Case};
use super::map::second_cache;
use super::measure::Bench;
use super::report::{Goal, Row};
use super::sample::{Sample, Sampler};

const ALONE: &str = "one thread";

/// Goal: maximum of the ratio of threads with a file each, relative to `memcpy`'s ratio of the same round.
const OWN_FILES: f64 = 1.05;
/// Goal: minimum throughput of two readers, and of two writers of parts that do not overlap, as a multiple of one's.
const READERS: f64 = 1.9;
const WRITERS: f64 = 1.3;

/// Size of a call in bytes.
const CALL: usize = 4096;

pub fn run(bench: &mut Bench) -> Result<(), String> {
    let most = std::thread::available_parallelism().map_or(1, usize::from);
    if most < 2 {
        bench.skip("threads", "a second CPU");
        return Ok(());
    }
    for threads in (1..).map(|power| 1 << power).take_while(|&number| number < most).chain([most]) {
        buffered(bench, threads)?;
        mapped(bench, threads)?;
    }
    goals(bench);
    Ok(())
}

fn goals(bench: &mut Bench) {
    let rows = &bench.rows;
    let two = |what: &str| {
        let name = format!("threads {what}, 2 threads");
        move |row: &Row| row.name == name && row.peer == ALONE
    };
    let least = |times: f64| 2.0 / times;
    let goals = [
        Goal::relative(
            "two threads overwrite a file each, relative to memcpy's ratio",
            OWN_FILES,
            rows,
            two("overwrite, own files"),
            two("memcpy"),
        ),
        Goal::relative(
            "two threads read a file each, relative to memcpy's ratio",
            OWN_FILES,
            rows,
            two("read, own files"),
            two("memcpy"),
        ),
        Goal::worst(
            "two readers of one file, 64 B (at least 1.9 times one's throughput)",
            least(READERS),
            rows,
            two("read 64 B, one file"),
        ),
        Goal::relative(
            "two readers of one file, 4 KiB, relative to memcpy's ratio for one source",
            least(READERS),
            rows,
            two("read 4 KiB, one file"),
            two("memcpy, one source"),
        ),
        Goal::worst(
            "two writers of disjoint parts of one file (at least 1.3 times one's throughput)",
            least(WRITERS),
            rows,
            two("overwrite, one file, disjoint"),
        ),
    ];
    let goals: Vec<Goal> = goals.into_iter().flatten().collect();
    bench.goals.extend(goals);
}

/// Measures reads and writes of half of the L2 cache for each thread, in common rounds.
fn buffered(bench: &mut Bench, threads: usize) -> Result<(), String> {
    let part = second_cache() / 2;
    let cache = CacheOptions::new().limit(5 * threads * part + (64 << 20)).build();
    let files: Vec<CachedFile> = (0..threads).map(|_| filled(&cache, part)).collect::<Result<_, _>>()?;
    // A file each for readers and writers: how threads share a file follows what they do, and changes slowly.
    let [shared, written] = [filled(&cache, threads * part)?, filled(&cache, threads * part)?];
    let kernel = tempfile::tempfile_in("/dev/shm").map_err(|error| format!("a file on /dev/shm: {error}"))?;
    let bytes = vec![1_u8; part];
    for at in 0..threads {
        kernel.write_all_at(&bytes, (at * part) as u64).map_err(|error| error.to_string())?;
    }
    let memories: Vec<Mutex<Vec<u8>>> = (0..threads).map(|_| Mutex::new(vec![0_u8; part])).collect();
    let copy = |thread: usize| {
        let Ok(mut memory) = memories[thread].lock() else { return false };
        memory.chunks_exact_mut(CALL).for_each(|part| black_box(part).copy_from_slice(black_box(&bytes[..CALL])));
        true
    };
    // As readers of one file do, without a cache: what processors that have the same lines take longer is theirs.
    let copy_shared = |_: usize| {
        let mut buffer = [0; CALL];
        bytes.chunks_exact(CALL).for_each(|part| black_box(&mut buffer).copy_from_slice(black_box(part)));
        true
    };
    let write = |file: &CachedFile, start: usize| {
        (start..start + part)
            .step_by(CALL)
            .all(|at| file.write_at(black_box(&bytes[..CALL]), at as u64).is_ok_and(|count| count == CALL))
    };
    let read = |file: &CachedFile, size: usize| {
        let mut buffer = [0; CALL];
        let buffer = &mut buffer[..size];
        (0..part)
            .step_by(size)
            .all(|at| file.read_at(black_box(&mut *buffer), at as u64).is_ok_and(|count| count == size))
    };
    let kernel_write = |file: &File, start: usize| {
        (start..start + part)
            .step_by(CALL)
            .all(|at| file.write_at(black_box(&bytes[..CALL]), at as u64).is_ok_and(|count| count == CALL))
    };
    let readers = Some(Bound::times(2.0 / READERS));
    let writers = (threads == 2).then(|| Bound::times(2.0 / WRITERS));
    let overwrite_own = |thread: usize| write(&files[thread], 0);
    let read_own = |thread: usize| read(&files[thread], CALL);
    // (64 bytes are too few for the bytes themselves to matter.)
    let (read_64, read_4096) = (|_| read(&shared, 64), |_| read(&shared, CALL));
    let overwrite_part = |thread: usize| write(&written, thread * part);
    let pwrite_part = |thread: usize| kernel_write(&kernel, thread * part);
    let work = [
        Work::new("memcpy", CALL, None, &copy),
        Work::new("memcpy, one source", CALL, None, &copy_shared),
        Work::new("overwrite, own files", CALL, None, &overwrite_own),
        Work::new("read, own files", CALL, None, &read_own),
        Work::new("read 64 B, one file", 64, readers, &read_64),
        Work::new("read 4 KiB, one file", CALL, None, &read_4096),
        Work::new("overwrite, one file, disjoint", CALL, writers, &overwrite_part),
        Work::new("pwrite, one file on tmpfs, disjoint", CALL, None, &pwrite_part),
    ];
    bench.run_together(work.iter().map(|work| work.case(threads, part)).collect());
    Ok(())
}

fn filled(cache: &Cache, len: usize) -> Result<CachedFile, String> {
    let file = cache.open(MemoryStore::new(vec![1; len])).map_err(|error| error.to_string())?;
    file.will_need(0..len as u64).map_err(|error| error.to_string())?;
    Ok(file)
}

/// What each of the threads does.
struct Work<'a> {
    name: &'static str,
    /// Bytes of one call.
    call: usize,
    bound: Option<Bound>,
    work: &'a (dyn Fn(usize) -> bool + Sync),
}

/// How often a thread does its work in one sample, so that all of them run most of the time.
const BATCH: u64 = 64;

impl<'a> Work<'a> {
    fn new(name: &'static str, call: usize, bound: Option<Bound>, work: &'a (dyn Fn(usize) -> bool + Sync)) -> Self {
        Work { name, call, bound, work }
    }

    /// Makes the case of so many threads, each of which does calls for `len` bytes.
    fn case(&self, threads: usize, len: usize) -> Case<'a> {
        let work = self.work;
        let sampler = move |threads: usize| -> Sampler<'a> {
            Box::new(move |iterations| at_once(threads, iterations * BATCH, work))
        };
        Case::new(format!("{}, {threads} threads", self.name), self.call, sampler(threads))
            .per(BATCH as usize * len / self.call)
            .peer(ALONE, self.bound, sampler(1))
    }
}

/// Measures loads that fault, each thread in its own mapping of its own file, whose bytes are in the cache; and, for
/// comparison, in mappings of files on tmpfs.
fn mapped(bench: &mut Bench, threads: usize) -> Result<(), String> {
    let page = faultin::page_size();
    let len = if bench.quick { 64 } else { 1024 } * page;
    let cache = CacheOptions::new().limit(4 * threads * len + (64 << 20)).build();
    let files: Vec<CachedFile> = (0..threads).map(|_| filled(&cache, len)).collect::<Result<_, _>>()?;
    let mode = if files[0].map(0..1, Rights::Read, Mode::Signal).is_ok() { Mode::Signal } else { Mode::Mprotect };
    let touched = move |base: *const u8| {
        (0..len).step_by(page).all(|at| {
            // SAFETY: within a mapping of `len` bytes that outlives this.
            unsafe { base.add(at).read_volatile() == 1 }
        })
    };
    let tmpfs: Vec<File> = (0..threads)
        .map(|_| {
            let file = tempfile::tempfile_in("/dev/shm")?;
            file.write_all_at(&vec![1; len], 0)?;
            Ok(file)
        })
        .collect::<std::io::Result<_>>()
        .map_err(|error| format!("a file on /dev/shm: {error}"))?;
    let files = &files;
    let ours = |threads: usize| {
        faulting(
            threads,
            touched,
            move || files[..threads].iter().map(|file| file.map(0..len as u64, Rights::Read, mode).ok()).collect(),
            |mapping: &Mapping| mapping.as_ptr(),
        )
    };
    let tmpfs = &tmpfs;
    let kernel = |threads: usize| {
        faulting(
            threads,
            touched,
            move || {
                // SAFETY: files that nothing else uses.
                tmpfs[..threads].iter().map(|file| unsafe { memmap2::Mmap::map(file) }.ok()).collect()
            },
            |mapping: &memmap2::Mmap| mapping.as_ptr().cast_mut(),
        )
    };
    let pages = len / page;
    let name = format!("faults, own mappings, {mode:?}, {threads} threads");
    bench.run(Case::new(name, page, ours(threads)).per(pages).peer(ALONE, None, ours(1)));
    let name = format!("faults, own mappings of tmpfs, {threads} threads");
    bench.run(Case::new(name, page, kernel(threads)).per(pages).peer(ALONE, None, kernel(1)));
    Ok(())
}

/// Makes a sampler of threads, each of which touches its own mapping. The mappings are made anew before each touch, untimed.
fn faulting<'a, M: 'a>(
    threads: usize,
    touched: impl Fn(*const u8) -> bool + Copy + Sync + 'a,
    map: impl Fn() -> Option<Vec<M>> + 'a,
    base: impl Fn(&M) -> *mut u8 + 'a,
) -> Sampler<'a> {
    Box::new(move |iterations| {
        let mut sample = Sample { elapsed: Duration::ZERO, failed: 0 };
        for _ in 0..iterations {
            let Some(mappings) = map() else {
                sample.failed += 1;
                continue;
            };
            let bases: Vec<usize> = mappings.iter().map(|mapping| base(mapping).expose_provenance()).collect();
            let once = at_once(threads, 1, &|thread| touched(std::ptr::with_exposed_provenance(bases[thread])));
            sample.elapsed += once.elapsed;
            sample.failed += once.failed;
        }
        sample
    })
}

/// Runs so many threads, each of which does the work `iterations` times; returns the time of the slowest.
fn at_once(threads: usize, iterations: u64, work: &(dyn Fn(usize) -> bool + Sync)) -> Sample {
    let start = Barrier::new(threads);
    let run = |thread: usize| {
        start.wait();
        let begun = Instant::now();
        let done = (0..iterations).all(|_| work(thread));
        (begun.elapsed(), done)
    };
    std::thread::scope(|scope| {
        let run = &run;
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let mut results = vec![run(0)];
        results.extend(others.into_iter().filter_map(|other| other.join().ok()));
        let elapsed = results.iter().map(|(elapsed, _)| *elapsed).max().unwrap_or_default();
        let done = results.len() == threads && results.iter().all(|(_, done)| *done);
        Sample { elapsed, failed: u64::from(!done) }
    })
}
