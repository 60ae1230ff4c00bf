//! Opening one more map, beside those that are open.

use std::fs::File;
use std::path::{Path, PathBuf};

use faultin::FileMap;

use super::clock::Clock;
use crate::stats::median;

/// Number of maps that are opened and timed together, and of those in the window that ends at a number.
const BATCH: usize = 20;
const WINDOW: usize = 15 * BATCH;

/// One way to open a file and map it.
pub struct Opened {
    pub name: &'static str,
    /// Whether it is ours, and not a peer's.
    pub is_ours: bool,
    /// The numbers of open maps that the limit of descriptors permits.
    pub numbers: Vec<usize>,
    /// Nanoseconds, by round and number.
    pub times: Vec<Vec<f64>>,
}

/// Opens maps of small files up to these numbers, in each round by each way.
///
/// # Errors
/// What failed, in words.
pub fn opening(numbers: &[usize], rounds: usize, skipped: &mut Vec<String>) -> Result<Vec<Opened>, String> {
    let directory = tempfile::tempdir_in("/dev/shm").map_err(|error| format!("a directory on /dev/shm: {error}"))?;
    let most = numbers.iter().max().map_or(0, |&most| most);
    let paths: Vec<_> = (0..most).map(|index| directory.path().join(index.to_string())).collect();
    for path in &paths {
        std::fs::write(path, [7; 100]).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let allowed = allowed_descriptors().saturating_sub(100);
    let mut way = |name, is_ours, descriptors: usize| {
        let numbers: Vec<usize> = numbers.iter().copied().filter(|&number| number * descriptors <= allowed).collect();
        if numbers.last() != Some(&most) {
            let wanted = most * descriptors;
            skipped.push(format!("{name}, {most} files: the limit of open files is less than {wanted}"));
        }
        Opened { name, is_ours, numbers, times: Vec::new() }
    };
    // A map has a descriptor of its file, and one of the directory if it was opened by name.
    let mut by_name = way("FileMap::open", true, 2);
    let mut from_file = way("File::open, FileMap::from_file", true, 1);
    let mut memmap2 = way("File::open, memmap2", false, 1);
    let open = |path: &Path| File::open(path).map_err(|error| error.to_string());
    for _ in 0..rounds {
        by_name.round(&paths, |path| FileMap::open(path).map_err(|error| error.to_string()))?;
        from_file.round(&paths, |path| FileMap::from_file(open(path)?).map_err(|error| error.to_string()))?;
        memmap2.round(&paths, |path| {
            let file = open(path)?;
            // SAFETY: a file that nothing changes, of which no byte is read.
            let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|error| error.to_string())?;
            Ok((file, map))
        })?;
    }
    Ok([by_name, from_file, memmap2].into_iter().filter(|opened| !opened.numbers.is_empty()).collect())
}

impl Opened {
    /// Opens maps up to each number, and adds the time of one of the last that make it full.
    fn round<M>(&mut self, paths: &[PathBuf], open: impl Fn(&Path) -> Result<M, String>) -> Result<(), String> {
        let open = |path: &Path| open(path).map_err(|why| format!("{}: {why}", self.name));
        let mut maps = Vec::with_capacity(paths.len());
        let mut round = Vec::new();
        for &number in &self.numbers {
            let window = (number - maps.len()).min(WINDOW);
            while maps.len() < number - window {
                maps.push(open(&paths[maps.len()])?);
            }
            let mut times = Vec::new();
            while maps.len() < number {
                let batch = BATCH.min(number - maps.len());
                let clock = Clock::start();
                for _ in 0..batch {
                    maps.push(open(&paths[maps.len()])?);
                }
                times.push(clock.each(batch));
            }
            round.push(median(&times));
        }
        self.times.push(round);
        Ok(())
    }
}

/// Raises the limit of open descriptors as far as this process may, and returns it.
fn allowed_descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads and writes a local value.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 0;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) == 0 {
            limit = raised;
        }
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}
