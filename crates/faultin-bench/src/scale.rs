//! Growth: one operation beside more and more mappings, as a curve and the exponent of a power that is fitted to it.
//!
//! A cost that does not depend on the number has the exponent 0, a list that is searched tends to 1. A curve that should
//! be flat fails above [`FLAT`]. Each point is the best of several short samples, because a machine that does other work
//! only ever adds time.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use faultin::map::Rights;
use faultin::pager::{Pager, Registration, register};
use faultin::{Access, Cause, Fault, FileMap};
use faultin_cache::pager::Mode;
use faultin_cache::store::MemoryStore;
use faultin_cache::{Cache, CacheOptions};
use serde::Serialize;

use super::memory::{Kind, Memory};
use super::report;
use super::sample::opaque_ptr;

/// The largest exponent of a curve that counts as flat.
const FLAT: f64 = 0.1;

/// Number of samples of a point, of which the best counts.
const SAMPLES: usize = 15;

/// One curve: nanoseconds of an operation by number of mappings.
#[derive(Serialize)]
struct Curve {
    name: &'static str,
    /// The best time at each number, in ascending order.
    points: Vec<Point>,
    /// The fitted exponent; `None` with fewer than two numbers above 0.
    exponent: Option<f64>,
    /// The largest exponent that is accepted; `None` for a peer.
    bound: Option<f64>,
}

#[derive(Clone, Copy, Serialize)]
struct Point {
    number: usize,
    ns: f64,
}

/// The curves, and what could not be measured.
#[derive(Default, Serialize)]
pub struct Scale {
    curves: Vec<Curve>,
    skipped: Vec<String>,
}

impl Scale {
    /// Measures all curves; with `quick` at small numbers.
    ///
    /// # Errors
    /// What failed, in words.
    pub fn measure(quick: bool) -> Result<Scale, String> {
        let mut scale = Scale::default();
        let cached: &[usize] = if quick { &[0, 10, 100] } else { &[0, 100, 300, 1_000, 3_000] };
        let ranges: &[usize] = if quick { &[0, 100, 1_000] } else { &[0, 1_000, 10_000, 100_000, 1_000_000] };
        let maps: &[usize] = if quick { &[50, 200] } else { &[500, 1_000, 2_000, 4_000, 8_000, 16_000] };
        scale.beside_cached_files(cached)?;
        scale.beside_ranges(ranges)?;
        scale.opening_maps(maps)?;
        Ok(scale)
    }

    /// Returns the curves that should be flat and are not, in words.
    pub fn failures(&self) -> Vec<String> {
        let steep = |curve: &Curve| match (curve.exponent, curve.bound) {
            (Some(exponent), Some(bound)) if exponent > bound => {
                Some(format!("{}: grows with the power {exponent:.2}, at most {bound} is flat", curve.name))
            }
            _ => None,
        };
        self.curves.iter().filter_map(steep).collect()
    }

    /// Returns the curves as a table, and below it what was skipped.
    pub fn text(&self) -> String {
        let mut table = report::plain(["operation", "number: ns", "exponent", "bound"]);
        for curve in &self.curves {
            let points: Vec<_> =
                curve.points.iter().map(|point| format!("{}: {:.0}", point.number, point.ns)).collect();
            let number = |number: Option<f64>| number.map_or(String::from("-"), |number| format!("{number:.2}"));
            table.add_row([curve.name, &points.join("  "), &number(curve.exponent), &number(curve.bound)]);
        }
        let skipped: String = self.skipped.iter().map(|what| format!("skipped: {what}\n")).collect();
        format!("{table}\n{skipped}")
    }

    fn add(&mut self, name: &'static str, points: Vec<Point>, bound: Option<f64>) {
        self.curves.push(Curve { name, exponent: exponent(&points), points, bound });
    }

    /// `fault_in` of a resident page of ordinary memory, beside mappings of cached files.
    fn beside_cached_files(&mut self, numbers: &[usize]) -> Result<(), String> {
        let memory = Memory::resident(Kind::Anon, faultin::page_size())?;
        let cache: Cache = CacheOptions::new().build();
        let (mut mappings, mut points) = (Vec::new(), Vec::new());
        for &number in numbers {
            while mappings.len() < number {
                let file = cache.open(MemoryStore::new([7; 100])).map_err(|error| error.to_string())?;
                mappings.push(file.map(0..100, Rights::Read, Mode::Mprotect).map_err(|error| error.to_string())?);
            }
            points.push(Point { number, ns: fault_in(memory.ptr())? });
        }
        self.add("fault_in, resident, beside mapped cached files", points, Some(FLAT));
        Ok(())
    }

    /// The registry alone: ranges of one page, neighbours of each other.
    fn beside_ranges(&mut self, numbers: &[usize]) -> Result<(), String> {
        let page = faultin::page_size();
        let memory = Memory::resident(Kind::Anon, page)?;
        let most = numbers.iter().max().map_or(0, |&most| most + SAMPLES * BATCH);
        let room = Memory::new(Kind::Anon, most * page)?;
        let pager: Arc<dyn Pager> = Arc::new(Nothing);
        let register = |index: usize| {
            let start = room.ptr().addr() + index * page;
            // SAFETY: a page of memory that nothing else uses and that outlives the registration; each index once.
            unsafe { register(start..start + page, Arc::clone(&pager)) }.map_err(|error| error.to_string())
        };
        let mut ranges: Vec<Registration> = Vec::with_capacity(most);
        let (mut beside, mut added, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        for &number in numbers {
            while ranges.len() < number {
                ranges.push(register(ranges.len())?);
            }
            beside.push(Point { number, ns: fault_in(memory.ptr())? });
            let (mut add, mut remove) = (f64::INFINITY, f64::INFINITY);
            for _ in 0..SAMPLES {
                let begun = Instant::now();
                for _ in 0..BATCH {
                    ranges.push(register(ranges.len())?);
                }
                add = add.min(nanoseconds(begun, BATCH));
                let begun = Instant::now();
                ranges.truncate(number);
                remove = remove.min(nanoseconds(begun, BATCH));
            }
            added.push(Point { number, ns: add });
            removed.push(Point { number, ns: remove });
        }
        self.add("fault_in, resident, beside registered ranges", beside, Some(FLAT));
        self.add("registering a range", added, Some(FLAT));
        self.add("dropping a range", removed, Some(FLAT));
        Ok(())
    }

    /// Opening one more map, beside those that are open.
    fn opening_maps(&mut self, numbers: &[usize]) -> Result<(), String> {
        let directory =
            tempfile::tempdir_in("/dev/shm").map_err(|error| format!("a directory on /dev/shm: {error}"))?;
        let most = numbers.iter().max().map_or(0, |&most| most);
        let paths: Vec<_> = (0..most).map(|index| directory.path().join(index.to_string())).collect();
        for path in &paths {
            std::fs::write(path, [7; 100]).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        // A map has a descriptor of its file, and one of the directory if it was opened by name.
        self.opening("FileMap::open", Some(FLAT), (&paths, numbers, 2), |path| {
            FileMap::open(path).map_err(|error| error.to_string())
        })?;
        let open = |path: &Path| File::open(path).map_err(|error| error.to_string());
        self.opening("File::open, FileMap::from_file", Some(FLAT), (&paths, numbers, 1), |path| {
            FileMap::from_file(open(path)?).map_err(|error| error.to_string())
        })?;
        self.opening("File::open, memmap2", None, (&paths, numbers, 1), |path| {
            let file = open(path)?;
            // SAFETY: a file that nothing changes, of which no byte is read.
            let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|error| error.to_string())?;
            Ok((file, map))
        })
    }

    /// Opens maps of all `paths`, as far as the limit of descriptors lets it, with so many descriptors each.
    fn opening<M>(
        &mut self,
        name: &'static str,
        bound: Option<f64>,
        (paths, numbers, descriptors): (&[PathBuf], &[usize], usize),
        open: impl Fn(&Path) -> Result<M, String>,
    ) -> Result<(), String> {
        let allowed = allowed_descriptors().saturating_sub(100) / descriptors;
        let numbers: Vec<usize> = numbers.iter().copied().filter(|&number| number <= allowed).collect();
        if numbers.last() != Some(&paths.len()) {
            let wanted = paths.len() * descriptors;
            self.skipped.push(format!("{name}, {} files: the limit of open files is less than {wanted}", paths.len()));
        }
        if !numbers.is_empty() {
            let points = open_all(paths, &numbers, open).map_err(|why| format!("{name}: {why}"))?;
            self.add(name, points, bound);
        }
        Ok(())
    }
}

/// Number of operations of a sample.
const BATCH: usize = 20;

/// Opens all files, and returns the time of one of the last that make a number full.
fn open_all<M>(
    paths: &[PathBuf],
    numbers: &[usize],
    open: impl Fn(&Path) -> Result<M, String>,
) -> Result<Vec<Point>, String> {
    let mut maps = Vec::with_capacity(paths.len());
    let mut points = Vec::new();
    for &number in numbers {
        // Room for the samples that end there.
        let window = (number - maps.len()).min(SAMPLES * BATCH);
        while maps.len() < number - window {
            maps.push(open(&paths[maps.len()])?);
        }
        let mut best = f64::INFINITY;
        while maps.len() < number {
            let batch = BATCH.min(number - maps.len());
            let begun = Instant::now();
            for _ in 0..batch {
                maps.push(open(&paths[maps.len()])?);
            }
            best = best.min(nanoseconds(begun, batch));
        }
        points.push(Point { number, ns: best });
    }
    Ok(points)
}

/// Returns the time of `fault_in_readable` of one resident page.
fn fault_in(page: *mut u8) -> Result<f64, String> {
    const CALLS: usize = 2_000;
    let mut best = f64::INFINITY;
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        for _ in 0..CALLS {
            // SAFETY: our own memory.
            unsafe { faultin::raw::fault_in_readable(opaque_ptr(page), NonZeroUsize::MIN) }
                .map_err(|fault| fault.to_string())?;
        }
        best = best.min(nanoseconds(begun, CALLS));
    }
    Ok(best)
}

fn nanoseconds(begun: Instant, operations: usize) -> f64 {
    begun.elapsed().as_secs_f64() * 1e9 / operations as f64
}

/// Returns the exponent of the power that fits the points above 0 best, by least squares of the logarithms.
fn exponent(points: &[Point]) -> Option<f64> {
    let logs: Vec<(f64, f64)> = points
        .iter()
        .filter(|point| point.number > 0)
        .map(|point| ((point.number as f64).ln(), point.ns.ln()))
        .collect();
    if logs.len() < 2 {
        return None;
    }
    let count = logs.len() as f64;
    let (mean_x, mean_y) =
        (logs.iter().map(|p| p.0).sum::<f64>() / count, logs.iter().map(|p| p.1).sum::<f64>() / count);
    let covariance: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    Some(covariance / variance)
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

/// A pager that resolves nothing.
struct Nothing;

// SAFETY: `in_signal` is the default.
unsafe impl Pager for Nothing {
    fn fault_in(&self, address: usize, _: usize, access: Access) -> Result<(), Fault> {
        Err(Fault::rejected(access, Cause::Backing, address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(time: impl Fn(f64) -> f64) -> Option<f64> {
        let points: Vec<_> = [0, 100, 1_000, 10_000].map(|number| Point { number, ns: time(number as f64) }).into();
        exponent(&points)
    }

    #[test]
    fn exponents_are_those_of_the_powers() {
        for (power, time) in [(0.0, (|_| 50.0) as fn(f64) -> f64), (1.0, |n| 3.0 * n), (0.5, f64::sqrt)] {
            let fitted = curve(time).unwrap();
            assert!((fitted - power).abs() < 1e-9, "{fitted} for {power}");
        }
    }

    #[test]
    fn a_steep_curve_fails_and_a_flat_one_does_not() {
        let mut scale = Scale::default();
        let points =
            |time: fn(f64) -> f64| [100, 1_000].map(|number| Point { number, ns: time(number as f64) }).to_vec();
        scale.add("flat", points(|n| 50.0 + n / 1_000.0), Some(FLAT));
        scale.add("steep", points(|n| 50.0 + n / 10.0), Some(FLAT));
        scale.add("a peer's", points(|n| n), None);
        let failures = scale.failures();
        assert!(matches!(&failures[..], [one] if one.starts_with("steep: ")), "{failures:?}");
    }
}
