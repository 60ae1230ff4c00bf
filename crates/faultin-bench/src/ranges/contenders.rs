//! The ways to read ranges of a file.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use faultin::FileMap;
use faultin_cache::store::{FileStore, ReadRequest};
use faultin_cache::{CacheOptions, CachedFile};
use io_uring::{IoUring, opcode, types};
use memmap2::Mmap;

use super::{IN_FLIGHT, LENGTHS, Span, check};

/// The names, those of the raw mappings first.
pub(super) const NAMES: [&str; 7] = [
    "memmap2, a thread for each processor",
    "memmap2, 32 threads",
    "memmap2, 32 buffers in turn",
    "cached file, read_many",
    "FileMap, read_many",
    "pread, 32 threads",
    "io_uring",
];

/// Number of raw mappings.
const MAPPINGS: usize = 3;

/// Returns whether times are divided by that of the contender with this number, if it is faster than others of these.
pub(super) fn is_base(number: usize) -> bool {
    number < 2
}

/// Returns whether the bounds are for the contender with this number.
pub(super) fn is_bounded(number: usize) -> bool {
    number == MAPPINGS
}

pub(super) enum Contender {
    /// With this number of threads, and of buffers of each.
    Mapping(Mmap, usize, usize),
    Cached(CachedFile),
    Map(Box<FileMap>),
    Pread(File),
    Ring(File, Vec<Mutex<IoUring>>),
}

/// Number of threads of the contenders that have several ranges under way in each.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, |count| count.get()).clamp(1, IN_FLIGHT)
}

/// Number of ranges that each of these threads has under way.
fn per_thread() -> usize {
    (IN_FLIGHT / threads()).max(1)
}

impl Contender {
    /// # Errors
    /// Why there is none, in words.
    pub(super) fn new(number: usize, path: &Path, limit: usize) -> Result<Contender, String> {
        let open = || File::open(path).map_err(|error| error.to_string());
        Ok(match number {
            0..MAPPINGS => {
                // SAFETY: a file that nothing changes.
                let map = unsafe { Mmap::map(&open()?) }.map_err(|error| error.to_string())?;
                match number {
                    0 => Contender::Mapping(map, threads(), 1),
                    1 => Contender::Mapping(map, IN_FLIGHT, 1),
                    _ => Contender::Mapping(map, threads(), per_thread()),
                }
            }
            MAPPINGS => {
                let file = File::options().read(true).write(true).open(path).map_err(|error| error.to_string())?;
                let cache = CacheOptions::new().limit(limit).build();
                let store = FileStore::new(file).map_err(|error| error.to_string())?;
                Contender::Cached(cache.open(store).map_err(|error| error.to_string())?)
            }
            4 => Contender::Map(Box::new(FileMap::open(path).map_err(|error| error.to_string())?)),
            5 => Contender::Pread(open()?),
            _ => {
                let ring = |_| IoUring::new(per_thread() as u32).map(Mutex::new);
                let rings = (0..threads()).map(ring).collect::<Result<_, _>>();
                Contender::Ring(open()?, rings.map_err(|error| format!("io_uring: {error}"))?)
            }
        })
    }

    /// Copies every range to a buffer.
    pub(super) fn read(&self, spans: &[Span]) -> Result<(), String> {
        match self {
            Contender::Mapping(map, threads, buffers) => each(spans, *threads, *buffers, |span, bytes| {
                let start = span.pos as usize;
                bytes.copy_from_slice(&map[start..start + span.len]);
                Ok(())
            }),
            Contender::Pread(file) => each(spans, IN_FLIGHT, 1, |span, bytes| {
                file.read_exact_at(bytes, span.pos).map_err(|error| error.to_string())
            }),
            Contender::Cached(file) => batches(spans, |_, reads| {
                let mut requests: Vec<_> =
                    reads.iter_mut().map(|(span, bytes)| ReadRequest::new(span.pos, bytes)).collect();
                file.read_many(&mut requests).into_iter().try_for_each(|result| match result {
                    Ok(_) => Ok(()),
                    Err(partial) => Err(partial.to_string()),
                })
            }),
            Contender::Map(map) => batches(spans, |_, reads| {
                let mut requests: Vec<_> =
                    reads.iter_mut().map(|(span, bytes)| faultin::map::ReadRequest::new(span.pos, bytes)).collect();
                map.read_many(&mut requests).into_iter().try_for_each(|result| match result {
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.to_string()),
                })
            }),
            Contender::Ring(file, rings) => batches(spans, |thread, reads| {
                let mut ring = rings[thread].lock().map_err(|error| error.to_string())?;
                by_ring(&mut ring, file, reads)
            }),
        }
    }
}

/// Reads one range after the other in each of some threads, to its buffers in turn.
fn each(
    spans: &[Span],
    threads: usize,
    buffers: usize,
    read: impl Fn(Span, &mut [u8]) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    run(threads, |_| {
        let mut all: Vec<_> = (0..buffers).map(|_| vec![1; LENGTHS[1]]).collect();
        let mut turn = 0;
        while let Some(&span) = spans.get(next.fetch_add(1, Relaxed)) {
            turn += 1;
            let bytes = &mut all[turn % buffers][..span.len];
            read(span, bytes)?;
            check(span, bytes)?;
        }
        Ok(())
    })
}

/// Reads several ranges at once in each of a few threads, [`IN_FLIGHT`] in all.
fn batches(
    spans: &[Span],
    read: impl Fn(usize, &mut [(Span, &mut [u8])]) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let (next, each) = (AtomicUsize::new(0), per_thread());
    run(threads(), |thread| {
        let mut buffers: Vec<_> = (0..each).map(|_| vec![1; LENGTHS[1]]).collect();
        loop {
            let start = next.fetch_add(each, Relaxed).min(spans.len());
            let now = &spans[start..spans.len().min(start + each)];
            if now.is_empty() {
                return Ok(());
            }
            let mut reads: Vec<_> =
                now.iter().zip(&mut buffers).map(|(&span, bytes)| (span, &mut bytes[..span.len])).collect();
            read(thread, &mut reads)?;
            reads.iter().try_for_each(|(span, bytes)| check(*span, bytes))?;
        }
    })
}

fn run(count: usize, work: impl Fn(usize) -> Result<(), String> + Sync) -> Result<(), String> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
    })
}

/// Reads ranges by a ring; one that comes back short is read on.
fn by_ring(ring: &mut IoUring, file: &File, reads: &mut [(Span, &mut [u8])]) -> Result<(), String> {
    let mut done = vec![0; reads.len()];
    let push = |ring: &mut IoUring, index: usize, span: Span, bytes: &mut [u8], done: usize| {
        let rest = &mut bytes[done..];
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), rest.as_mut_ptr(), rest.len() as u32)
            .offset(span.pos + done as u64)
            .build()
            .user_data(index as u64);
        // SAFETY: the file and the buffer outlive the ring's use of them: all completions are waited for.
        unsafe { ring.submission().push(&entry) }.map_err(|error| error.to_string())
    };
    for (index, (span, bytes)) in reads.iter_mut().enumerate() {
        push(ring, index, *span, bytes, 0)?;
    }
    let mut left = reads.len();
    while left > 0 {
        ring.submit_and_wait(1).map_err(|error| error.to_string())?;
        let completions: Vec<_> = ring.completion().map(|entry| (entry.user_data() as usize, entry.result())).collect();
        for (index, result) in completions {
            let read = usize::try_from(result).map_err(|_| format!("io_uring: error {}", -result))?;
            done[index] += read;
            let (span, bytes) = &mut reads[index];
            if read == 0 || done[index] == span.len {
                left -= 1;
            } else {
                push(ring, index, *span, bytes, done[index])?;
            }
        }
    }
    Ok(())
}
