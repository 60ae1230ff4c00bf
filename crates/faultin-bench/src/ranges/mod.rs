//! Many ranges of a file that is larger than the memory that may be used for it: each is copied to a buffer of its own,
//! with [`IN_FLIGHT`] under way, from a file that the kernel has in memory (*hot*), and from one that it has not (*cold*).
//!
//! All contenders read the same ranges in the same order, one after the other in each round. The ratio is the median over
//! the rounds of the time by that of a raw mapping: of the faster one of two, which as many threads copy from as there are
//! processors, or [`IN_FLIGHT`] threads. (On a machine that does other work, more threads get a larger share of it. The time
//! that the processors have worked for the process tells what is left of a difference.) Beside it is the memory that the
//! process has gained meanwhile (the most that was seen of its resident set), which is to stay below the cache's limit plus
//! 5 % and the buffers.

mod contenders;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use contenders::{Contender, NAMES};
use faultin::FileMap;
use faultin_test::Random;
use serde::Serialize;

use super::report;

/// Number of ranges that are read at the same time.
const IN_FLIGHT: usize = 32;

/// The shortest and the longest range in bytes.
const LENGTHS: [usize; 2] = [64 << 10, 1 << 20];

/// The largest ratios that meet the bounds.
const HOT: f64 = 1.05;
const COLD: f64 = 1.0;

/// The part of the limit by which the resident set may exceed it.
const TOLERANCE: f64 = 0.05;

/// What ranges are copied to, in bytes.
const BUFFERS: usize = IN_FLIGHT * LENGTHS[1];

/// A range of the file.
#[derive(Clone, Copy)]
struct Span {
    pos: u64,
    len: usize,
}

/// The sizes of a run.
#[derive(Clone, Copy)]
struct Sizes {
    file: usize,
    limit: usize,
    ranges: usize,
    rounds: usize,
}

const FULL: Sizes = Sizes { file: 4 << 30, limit: 512 << 20, ranges: 20_000, rounds: 3 };
const QUICK: Sizes = Sizes { file: 48 << 20, limit: 8 << 20, ranges: 100, rounds: 1 };

/// What was measured of a contender.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    /// The best times of a pass, in seconds.
    hot: f64,
    cold: f64,
    /// The median ratios to the raw mapping.
    hot_ratio: f64,
    cold_ratio: f64,
    /// The processor time of the best hot pass in seconds, and the median ratio to the raw mapping's.
    hot_cpu: f64,
    hot_cpu_ratio: f64,
    /// The most that the resident set has grown, in bytes.
    resident: usize,
    /// Whether the bounds are for it.
    is_bounded: bool,
}

/// The results.
#[derive(Serialize)]
pub struct Ranges {
    rows: Vec<Row>,
    file: usize,
    limit: usize,
    ranges: usize,
    /// The part of the file that the kernel still had in memory before a cold pass, the most that was seen.
    still_cached: f64,
    skipped: Vec<String>,
}

impl Ranges {
    /// Measures everything; with `quick` at small sizes. `only` selects contenders whose name contains it, beside the mapping.
    ///
    /// # Errors
    /// What failed, in words.
    pub fn measure(quick: bool, rounds: Option<usize>, only: Option<&str>) -> Result<Ranges, String> {
        let sizes = if quick { QUICK } else { FULL };
        let sizes = Sizes { rounds: rounds.unwrap_or(sizes.rounds).max(1), ..sizes };
        let folder = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
        let path = folder.path().join("ranges");
        write(&path, sizes.file).map_err(|error| format!("{}: {error}", path.display()))?;
        let spans = spans(sizes);
        let mut found = Ranges {
            rows: Vec::new(),
            file: sizes.file,
            limit: sizes.limit,
            ranges: sizes.ranges,
            still_cached: 0.0,
            skipped: Vec::new(),
        };
        let names: Vec<_> = NAMES
            .into_iter()
            .enumerate()
            .filter(|(at, name)| *at == 0 || only.is_none_or(|only| name.contains(only)))
            .collect();
        let mut samples: Vec<Samples> = names.iter().map(|_| Default::default()).collect();
        let mut resident = vec![0; names.len()];
        found.hot(&path, sizes, &spans, &names, &mut samples, &mut resident)?;
        found.cold(&path, sizes, &spans, &names, &mut samples, &mut resident)?;
        let ratio = |times: &[f64], base: &[f64]| {
            let mut ratios: Vec<f64> = times.iter().zip(base).map(|(time, base)| time / base).collect();
            ratios.sort_by(f64::total_cmp);
            ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let fastest = |which: usize| -> Vec<f64> {
            let bases = names.iter().zip(&samples).filter(|((number, _), _)| contenders::is_base(*number));
            let times: Vec<&Vec<f64>> = bases.map(|(_, samples)| &samples[which]).collect();
            let fastest =
                |round: usize| times.iter().filter_map(|times| times.get(round)).copied().fold(f64::NAN, f64::min);
            (0..times.first().map_or(0, |times| times.len())).map(fastest).collect()
        };
        let best = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
        for (at, &(number, name)) in names.iter().enumerate() {
            let [hot, cold, cpu] = &samples[at];
            if hot.is_empty() || cold.is_empty() {
                continue;
            }
            found.rows.push(Row {
                name,
                hot: best(hot),
                cold: best(cold),
                hot_ratio: ratio(hot, &fastest(0)),
                cold_ratio: ratio(cold, &fastest(1)),
                hot_cpu: best(cpu),
                hot_cpu_ratio: ratio(cpu, &fastest(2)),
                resident: resident[at],
                is_bounded: contenders::is_bounded(number),
            });
        }
        Ok(found)
    }

    /// Passes over a file that the kernel has in memory. Each contender has read the ranges once before.
    fn hot(
        &mut self,
        path: &Path,
        sizes: Sizes,
        spans: &[Span],
        names: &[(usize, &'static str)],
        samples: &mut [Samples],
        resident: &mut [usize],
    ) -> Result<(), String> {
        let mut all: Vec<Option<Contender>> = Vec::new();
        for (at, &(number, name)) in names.iter().enumerate() {
            let before = resident_now();
            match Contender::new(number, path, sizes.limit) {
                Ok(contender) => {
                    resident[at] = pass(&contender, spans, before)?.resident;
                    all.push(Some(contender));
                }
                Err(why) => {
                    self.skipped.push(format!("{name}: {why}"));
                    all.push(None);
                }
            }
        }
        for _ in 0..sizes.rounds {
            for (contender, samples) in all.iter().zip(&mut *samples) {
                let Some(contender) = contender else { continue };
                let passed = pass(contender, spans, 0)?;
                samples[0].push(passed.time);
                samples[2].push(passed.cpu);
            }
        }
        Ok(())
    }

    /// Passes over a file that the kernel has not in memory, by contenders that have read nothing.
    fn cold(
        &mut self,
        path: &Path,
        sizes: Sizes,
        spans: &[Span],
        names: &[(usize, &'static str)],
        samples: &mut [Samples],
        resident: &mut [usize],
    ) -> Result<(), String> {
        for _ in 0..sizes.rounds {
            for (at, &(number, _)) in names.iter().enumerate() {
                let Ok(contender) = Contender::new(number, path, sizes.limit) else { continue };
                let cached = drop_cached(path)?;
                self.still_cached = self.still_cached.max(cached);
                let passed = pass(&contender, spans, resident_now())?;
                samples[at][1].push(passed.time);
                resident[at] = resident[at].max(passed.resident);
            }
        }
        Ok(())
    }

    /// Returns the bounds that are missed, in words.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for row in self.rows.iter().filter(|row| row.is_bounded) {
            if row.hot_ratio > HOT {
                failures.push(format!("{}: hot {:.2} of a raw mapping's time, at most {HOT}", row.name, row.hot_ratio));
            }
            if row.cold_ratio > COLD {
                failures
                    .push(format!("{}: cold {:.2} of a raw mapping's time, at most {COLD}", row.name, row.cold_ratio));
            }
            let most = self.limit as f64 * (1.0 + TOLERANCE) + BUFFERS as f64;
            if row.resident as f64 > most {
                let mib = |bytes: usize| bytes >> 20;
                let (resident, limit) = (mib(row.resident), mib(self.limit));
                failures.push(format!(
                    "{}: {resident} MiB resident, limit {limit}, buffers {}",
                    row.name,
                    mib(BUFFERS)
                ));
            }
        }
        failures
    }

    /// Returns the results as a table.
    pub fn text(&self) -> String {
        let mut table = report::plain([
            "contender",
            "hot, s",
            "ratio",
            "processors, s",
            "ratio",
            "cold, s",
            "ratio",
            "resident, MiB",
            "bounds",
        ]);
        for row in &self.rows {
            let bounds = if row.is_bounded {
                format!("{HOT}, {COLD:.1}, {} MiB and buffers", self.limit >> 20)
            } else {
                "-".to_owned()
            };
            let number = |number: f64| format!("{number:.2}");
            let resident = (row.resident >> 20).to_string();
            table.add_row([
                row.name,
                &number(row.hot),
                &number(row.hot_ratio),
                &number(row.hot_cpu),
                &number(row.hot_cpu_ratio),
                &number(row.cold),
                &number(row.cold_ratio),
                &resident,
                &bounds,
            ]);
        }
        let skipped: String = self.skipped.iter().map(|what| format!("skipped: {what}\n")).collect();
        format!(
            "{} ranges of 64 KiB to 1 MiB of a file of {} MiB, {IN_FLIGHT} under way\n{table}\nbefore cold passes, at most {:.1} % \
             of the file was in the kernel's page cache\n{skipped}",
            self.ranges,
            self.file >> 20,
            100.0 * self.still_cached,
        )
    }
}

/// Writes a file of which every 8 bytes are their position.
fn write(path: &Path, len: usize) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let mut piece = Vec::with_capacity(1 << 20);
    for start in (0..len).step_by(1 << 20) {
        piece.clear();
        (start..start + (1 << 20)).step_by(8).for_each(|at| piece.extend((at as u64).to_le_bytes()));
        file.write_all(&piece)?;
    }
    file.sync_all()
}

/// Returns ranges at random positions, each of whole words, with lengths of equal probability.
fn spans(sizes: Sizes) -> Vec<Span> {
    let random = Random::new(7);
    let span = |_| {
        let len = (LENGTHS[0] + random.below(LENGTHS[1] - LENGTHS[0])) / 8 * 8;
        Span { pos: (random.below(sizes.file - len) / 8 * 8) as u64, len }
    };
    (0..sizes.ranges).map(span).collect()
}

/// Checks the first and the last word of a range.
fn check(span: Span, bytes: &[u8]) -> Result<(), String> {
    let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
    match (word(0), word(span.len - 8)) == (span.pos, span.pos + span.len as u64 - 8) {
        true => Ok(()),
        false => Err(format!("wrong bytes at {}", span.pos)),
    }
}

/// The times of hot and of cold passes, and the processor times of hot ones, in seconds.
type Samples = [Vec<f64>; 3];

/// What a pass has taken.
struct Passed {
    /// Seconds, by the clock and of processors.
    time: f64,
    cpu: f64,
    /// How much the resident set has grown, in bytes.
    resident: usize,
}

/// Reads all ranges. The resident set had `before` bytes; 0 if it is not of interest.
fn pass(contender: &Contender, spans: &[Span], before: usize) -> Result<Passed, String> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut most = 0;
            while before > 0 && !is_over.load(Relaxed) {
                most = most.max(resident_now());
                thread::sleep(Duration::from_millis(10));
            }
            most.saturating_sub(before)
        });
        let (begun, worked) = (Instant::now(), processor_time());
        let result = contender.read(spans);
        let (time, cpu) = (begun.elapsed().as_secs_f64(), processor_time() - worked);
        is_over.store(true, Relaxed);
        let most = sampler.join().map_err(|_| "the sampler panicked".to_owned())?;
        result.map(|()| Passed { time, cpu, resident: most })
    })
}

/// Returns the seconds that processors have worked for this process, in the kernel, too.
fn processor_time() -> f64 {
    // SAFETY: zeros are one.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: writes the structure.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut used) };
    [used.ru_utime, used.ru_stime].iter().map(|time| time.tv_sec as f64 + time.tv_usec as f64 / 1e6).sum()
}

/// Returns the size of the resident set in bytes; 0 if it is not known.
fn resident_now() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.map_or(0, |pages| pages * faultin::page_size())
}

/// Has the kernel drop the file from its page cache. Returns the part that it has kept.
fn drop_cached(path: &Path) -> Result<f64, String> {
    let says = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| says(&error))?;
    let drop_file = || {
        // SAFETY: a hint about a descriptor of ours.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        let map = FileMap::open(path).map_err(|error| says(&error))?;
        let found = map.resident(..).map_err(|error| says(&error))?;
        Ok::<_, String>(found.bytes() as f64 / map.len().max(1) as f64)
    };
    let kept = drop_file()?;
    if kept < 0.01 {
        return Ok(kept);
    }
    // As root everything can be dropped.
    match std::fs::write("/proc/sys/vm/drop_caches", "1") {
        Ok(()) => drop_file(),
        Err(_) => Ok(kept),
    }
}
