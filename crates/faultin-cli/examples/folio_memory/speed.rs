//! What it costs to fill memory of each kind, to fill it again, and to show it to somebody.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use crate::memory::{Memory, memfd};

/// Bytes of one write.
const WRITE: usize = 64 << 10;

/// Bytes of an extent: a huge page.
const EXTENT: usize = 2 << 20;

const ROUNDS: usize = 7;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A way to store so many bytes; returns nanoseconds.
type Way<'a> = (&'static str, Box<dyn FnMut() -> io::Result<f64> + 'a>);

pub fn print(len: usize) -> Result<()> {
    faultin::install()?;
    let bytes = vec![7; WRITE];
    let tmpfs = tempfile::tempfile_in("/dev/shm")?;
    let kept = tempfile::tempfile_in("/dev/shm")?;
    fill_file(&kept, &bytes, len)?;
    let shared_file = memfd(len)?;
    let shared = Memory::of_file(&shared_file, len)?;
    fill(&shared, &bytes)?;
    let anonymous = Memory::anonymous(len)?;
    anonymous.advise(0, len, libc::MADV_HUGEPAGE)?;
    fill(&anonymous, &bytes)?;
    let bytes = &bytes;
    let mut ways: Vec<Way<'_>> = vec![
        (
            "kernel: pwrite, fresh tmpfs file",
            Box::new(|| {
                tmpfs.set_len(0)?;
                timed(|| fill_file(&tmpfs, bytes, len))
            }),
        ),
        ("kernel: pwrite, again", Box::new(|| timed(|| fill_file(&kept, bytes, len)))),
        (
            "memfd, fresh, by faults",
            Box::new(|| {
                let file = memfd(len)?;
                let memory = Memory::of_file(&file, len)?;
                timed(|| fill(&memory, bytes))
            }),
        ),
        (
            "memfd, fresh, populated by extents",
            Box::new(|| {
                let file = memfd(len)?;
                let memory = Memory::of_file(&file, len)?;
                timed(|| populated(&memory, bytes))
            }),
        ),
        (
            "memfd, fresh, populated, huge pages advised",
            Box::new(|| {
                let file = memfd(len)?;
                let memory = Memory::of_file(&file, len)?;
                memory.advise(0, len, libc::MADV_HUGEPAGE)?;
                timed(|| populated(&memory, bytes))
            }),
        ),
        (
            "anonymous, fresh, 4 KiB pages",
            Box::new(|| {
                let memory = Memory::anonymous(len)?;
                timed(|| populated(&memory, bytes))
            }),
        ),
        (
            "anonymous, fresh, huge pages",
            Box::new(|| {
                let memory = Memory::anonymous(len)?;
                memory.advise(0, len, libc::MADV_HUGEPAGE)?;
                timed(|| fill(&memory, bytes))
            }),
        ),
        ("memfd, recycled", Box::new(|| timed(|| fill(&shared, bytes)))),
        ("anonymous huge pages, recycled", Box::new(|| timed(|| fill(&anonymous, bytes)))),
        (
            "migration: anonymous huge pages to a memfd",
            Box::new(|| {
                let file = memfd(len)?;
                let memory = Memory::of_file(&file, len)?;
                timed(|| migrate(&anonymous, &memory))
            }),
        ),
    ];
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for ((_, way), times) in ways.iter_mut().zip(&mut times) {
            times.push(way()?);
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    println!(
        "{} MiB in writes of {} KiB, medians of {ROUNDS} rounds; speed as a multiple of the kernel's",
        len >> 20,
        WRITE >> 10
    );
    for ((name, _), time) in ways.iter().zip(&medians) {
        let to = if name.contains("again") || name.contains("recycled") { medians[1] } else { medians[0] };
        println!("  {name:46} {:6.2} GB/s  {:5.2}", len as f64 / time, to / time);
    }
    drop(ways);
    mappings(len, &shared_file)
}

fn fill_file(file: &File, bytes: &[u8], len: usize) -> io::Result<()> {
    (0..len).step_by(bytes.len()).try_for_each(|at| file.write_all_at(bytes, at as u64))
}

fn fill(memory: &Memory, bytes: &[u8]) -> io::Result<()> {
    (0..memory.len).step_by(bytes.len()).for_each(|at| memory.write(at, bytes));
    Ok(())
}

fn populated(memory: &Memory, bytes: &[u8]) -> io::Result<()> {
    (0..memory.len).step_by(EXTENT).try_for_each(|extent| {
        let len = EXTENT.min(memory.len - extent);
        memory.advise(extent, len, libc::MADV_POPULATE_WRITE)?;
        (extent..extent + len).step_by(bytes.len()).for_each(|at| memory.write(at, bytes));
        Ok(())
    })
}

fn migrate(from: &Memory, to: &Memory) -> io::Result<()> {
    (0..from.len).step_by(EXTENT).try_for_each(|extent| {
        let len = EXTENT.min(from.len - extent);
        to.advise(extent, len, libc::MADV_POPULATE_WRITE)?;
        // SAFETY: two mappings of ours, as long as each other.
        unsafe { faultin::copy(to.base.wrapping_add(extent), from.base.wrapping_add(extent), len) }
            .map_err(io::Error::from)
    })
}

/// One mapping of everything, and one for each extent.
fn mappings(len: usize, file: &File) -> Result<()> {
    let one = median(
        &mut (0..ROUNDS).map(|_| timed(|| Memory::of_file(file, len).map(drop))).collect::<io::Result<Vec<_>>>()?,
    );
    let place = Memory::anonymous(len)?;
    let extents = len / EXTENT;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(timed(|| {
            // Neighbours that lie elsewhere, so that the kernel cannot join them.
            (0..extents).try_for_each(|i| {
                let rights = libc::PROT_READ | libc::PROT_WRITE;
                let flags = libc::MAP_SHARED | libc::MAP_FIXED;
                let (to, from) = (place.base.wrapping_add(i * EXTENT), (extents - 1 - i) * EXTENT);
                // SAFETY: a part of a mapping of ours, to which nobody has a reference.
                let mapped =
                    unsafe { libc::mmap(to.cast(), EXTENT, rights, flags, file.as_raw_fd(), from as libc::off_t) };
                if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
            })
        })?);
    }
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count")?;
    println!("showing {} MiB to somebody", len >> 20);
    println!("  one mapping                                     {:8.1} us", one / 1000.0);
    println!(
        "  one for each extent of 2 MiB                    {:8.1} us  {:.0} ns each; at most {} of them: {} GiB",
        median(&mut times) / 1000.0,
        median(&mut times) / extents as f64,
        limit.trim(),
        (limit.trim().parse::<usize>()? * EXTENT) >> 30
    );
    Ok(())
}

fn timed(what: impl FnOnce() -> io::Result<()>) -> io::Result<f64> {
    let start = Instant::now();
    what()?;
    Ok(start.elapsed().as_nanos() as f64)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
