//! Runs a case three times: with the kernel, with a cached file, and with its twin, which bypasses the cache.

use faultin_cache::mutation::Bug;
use faultin_cache::{Cache, CacheOptions, FileOptions};
use faultin_test::Random;

use crate::case::{Case, Segment, Step};
use crate::kernel::{self, Answer, KernelFile};
use crate::ours::{Backing, OurFile, Outcome, Way};
use crate::quirks::Quirks;
use crate::region::Region;

/// Counts of the outcomes of calls: a test that never reaches one of them tests nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub whole: u64,
    pub short: u64,
    pub nothing: u64,
    /// Calls of the twin that bypassed the cache.
    pub direct: u64,
    pub quirks: Quirks,
}

/// The state shared by all cases, which run one after the other.
pub struct Bench {
    pub region: Region,
    memfd: KernelFile,
    disk: KernelFile,
    backings: [Backing; 2],
    pub tally: Tally,
    /// Injected into the cache's writes, to be detected.
    pub bug: Option<Bug>,
}

/// A running case.
struct Run<'a> {
    region: &'a Region,
    kernel: &'a KernelFile,
    exact: bool,
    cache: Cache,
    ours: OurFile,
    twin: OurFile,
    tally: &'a mut Tally,
}

impl Bench {
    pub fn new() -> Bench {
        Bench {
            region: Region::new(),
            memfd: KernelFile::new(kernel::Home::Memfd),
            disk: KernelFile::new(kernel::Home::Disk),
            backings: [Backing::new(), Backing::new()],
            tally: Tally::default(),
            bug: None,
        }
    }

    /// The alignment of direct I/O in the build directory, if it is supported.
    pub fn alignment(&self) -> Option<usize> {
        self.backings[0].alignment()
    }

    pub fn kernel_files(&self) -> [&KernelFile; 2] {
        [&self.memfd, &self.disk]
    }

    /// Runs a case, again if another mapping (of the test harness or the C library) was placed in a hole.
    ///
    /// # Errors
    /// The difference, and the step after which it was found.
    pub fn run(&mut self, case: &Case) -> Result<(), String> {
        const ATTEMPTS: usize = 20;
        for _ in 0..ATTEMPTS {
            let result = self.run_once(case);
            if self.region.close_holes() {
                return result;
            }
            self.region = Region::new();
        }
        Err(format!("in {ATTEMPTS} attempts somebody has mapped something where a hole was to be"))
    }

    fn run_once(&mut self, case: &Case) -> Result<(), String> {
        let setting = &case.setting;
        let kernel = match setting.kernel {
            kernel::Home::Memfd => &self.memfd,
            kernel::Home::Disk => &self.disk,
        };
        let bytes = Random::new(0).bytes(case.len);
        kernel.replace(&bytes);
        let cache = CacheOptions::new().block(setting.block).limit(setting.limit).build();
        let options = FileOptions::new().max_folio(setting.max_folio).write_loop(setting.write_loop());
        let open = |backing: &Backing| {
            let store = backing.store(setting.store, &bytes);
            let file = OurFile::new(&cache, store, options.clone()).map_err(|error| error.to_string())?;
            Ok::<_, String>(OurFile { bug: self.bug, ..file })
        };
        let (ours, twin) = (open(&self.backings[0])?, open(&self.backings[1])?);
        let exact = kernel.is_exact();
        // Not before: a store with a ring maps it.
        self.region.lay_out(case.kinds);
        let mut run = Run { region: &self.region, kernel, exact, cache, ours, twin, tally: &mut self.tally };
        for (number, step) in case.steps.iter().enumerate() {
            let result = run.step(number as u64 + 1, step).and_then(|()| run.same_files());
            result.map_err(|what| format!("step {number}, {step:?}: {what}"))?;
        }
        run.end().map_err(|what| format!("at the end: {what}"))
    }
}

impl Run<'_> {
    fn step(&mut self, seed: u64, step: &Step) -> Result<(), String> {
        let len = self.kernel.len();
        match step {
            Step::Write(segments, place, way) => self.write(seed, segments, place.resolve(len), *way),
            Step::Read(segments, place, way) => self.read(seed, segments, place.resolve(len), *way),
            Step::SetLen(place) => {
                let len = place.resolve(len);
                self.kernel.file.set_len(len).unwrap();
                self.both(|file| file.file.set_len(len).map_err(|error| error.to_string()))
            }
            Step::Punch(place, bytes) => {
                let start = place.resolve(len);
                self.kernel.punch(start, *bytes);
                self.both(|file| file.file.punch_hole(start..start + bytes).map_err(|error| error.to_string()))
            }
            Step::Sync => self.both(|file| file.file.sync_all().map_err(|error| error.to_string())),
            Step::DropClean => {
                self.cache.drop_clean();
                Ok(())
            }
            Step::Look => {
                let bytes = self.kernel.contents();
                self.both(|file| same("the file, read through the cache,", &file.contents(Way::Buffered)?, &bytes))
            }
        }
    }

    fn both(&self, what: impl Fn(&OurFile) -> Result<(), String>) -> Result<(), String> {
        what(&self.ours)?;
        what(&self.twin).map_err(|error| format!("the twin: {error}"))
    }

    fn write(&mut self, seed: u64, segments: &[Segment], pos: u64, way: Way) -> Result<(), String> {
        self.region.fill(seed);
        let segments = self.iovecs(segments);
        let len = self.kernel.len();
        self.region.cool();
        let kernel = self.kernel.write(&segments, pos);
        self.tally.quirks.extended_by_nothing(self.kernel, len, pos, kernel);
        self.region.cool();
        // SAFETY: parts of the region, which the kernel and this code load from in turn.
        let ours = unsafe { self.ours.write(&segments, pos, Way::Buffered) }?;
        self.region.cool();
        // SAFETY: as above.
        let twin = unsafe { self.twin.write(&segments, pos, way) }?;
        self.judge(kernel, ours, twin, way)?;
        if !self.exact && (!ours.whole || kernel != ours.answer) {
            // The counted bytes must be the same; from there on the cache's bytes are taken.
            let bytes = self.ours.contents(Way::Direct)?;
            let until = match kernel.unwrap_or(0) {
                0 => pos.min(len) as usize,
                done => pos as usize + done,
            };
            let (mine, kernels) = (bytes.get(..until), self.kernel.contents());
            same("the part that the kernel wrote", mine.unwrap_or(&bytes), kernels.get(..until).unwrap_or(&kernels))?;
            self.kernel.replace(&bytes);
        }
        Ok(())
    }

    fn read(&mut self, seed: u64, segments: &[Segment], pos: u64, way: Way) -> Result<(), String> {
        let list = self.iovecs(segments);
        let before = || {
            self.region.fill(seed);
            self.region.cool();
        };
        before();
        let kernel = self.kernel.read(&list, pos);
        let after_kernel = self.region.contents();
        before();
        // SAFETY: parts of the region, which the kernel and this code store to in turn.
        let ours = unsafe { self.ours.read(&list, pos, Way::Buffered) }?;
        let after_ours = self.region.contents();
        before();
        // SAFETY: as above.
        let twin = unsafe { self.twin.read(&list, pos, way) }?;
        self.judge(kernel, ours, twin, way)?;
        same("the region after the twin", &self.region.contents(), &after_ours)?;
        // A kernel without exact counts may have changed bytes past its count.
        if self.exact || ours.whole && kernel == ours.answer {
            same("the region", &after_ours, &after_kernel)?;
        } else if are_disjoint(segments) {
            let mut left = kernel.unwrap_or(0);
            for segment in segments {
                let part = segment.start..segment.start + segment.len.min(left);
                left -= part.len();
                same("the part that the kernel read", &after_ours[part.clone()], &after_kernel[part])?;
            }
        }
        Ok(())
    }

    fn iovecs(&self, segments: &[Segment]) -> Vec<libc::iovec> {
        segments.iter().map(|segment| self.region.part(segment.start, segment.len)).collect()
    }

    /// Compares the results: the kernel's must equal the cache's where it is exact, and must not exceed it otherwise; the
    /// twin's must equal it.
    fn judge(&mut self, kernel: Answer, ours: Outcome, twin: Outcome, way: Way) -> Result<(), String> {
        match ours {
            Outcome { whole: true, .. } => self.tally.whole += 1,
            Outcome { answer: Ok(_), .. } => self.tally.short += 1,
            Outcome { answer: Err(_), .. } => self.tally.nothing += 1,
        }
        self.tally.direct += u64::from(way == Way::Direct);
        // A kernel without exact counts may also treat a fault as the end of the list.
        let count = |answer| if answer == Err(libc::EFAULT) { Ok(0) } else { answer };
        let agreed = match (count(kernel), count(ours.answer)) {
            _ if self.exact => kernel == ours.answer,
            (Ok(kernel), Ok(ours)) => kernel <= ours,
            (kernel, ours) => kernel == ours,
        };
        if !agreed {
            return Err(format!("the kernel answers {kernel:?}, ours {ours:?}"));
        }
        if twin == ours { Ok(()) } else { Err(format!("the twin ({way:?}) answers {twin:?}, ours {ours:?}")) }
    }

    fn same_files(&self) -> Result<(), String> {
        let bytes = self.kernel.contents();
        self.both(|file| same("the file", &file.contents(Way::Direct)?, &bytes))
    }

    /// Compares the file through the cache, and what reaches the store.
    fn end(&self) -> Result<(), String> {
        let bytes = self.kernel.contents();
        self.both(|file| {
            same("the file, read through the cache,", &file.contents(Way::Buffered)?, &bytes)?;
            file.file.sync_all().map_err(|error| error.to_string())?;
            if file.file.dirty() > 0 {
                return Err(format!("{} bytes are dirty after a sync", file.file.dirty()));
            }
            same("the store", &file.stored()?, &bytes)
        })
    }
}

fn are_disjoint(segments: &[Segment]) -> bool {
    let mut parts: Vec<_> = segments.iter().filter(|segment| segment.len > 0).collect();
    parts.sort_unstable_by_key(|segment| segment.start);
    parts.windows(2).all(|pair| pair[0].start + pair[0].len <= pair[1].start)
}

/// # Errors
/// The first byte that differs.
fn same(what: &str, ours: &[u8], expected: &[u8]) -> Result<(), String> {
    if ours == expected {
        return Ok(());
    }
    if ours.len() != expected.len() {
        return Err(format!("{what} has {} bytes, not {}", ours.len(), expected.len()));
    }
    let at = ours.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(0);
    Err(format!("{what} has {:#04x} at {at}, not {:#04x}", ours[at], expected[at]))
}
