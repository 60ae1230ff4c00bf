//! The method: how one thing is compared with another.
//!
//! A *case* is one operation of ours and the *peers* that do the same job, on the same memory, in this process. Each of
//! them is first run once and its result verified; what gives a wrong result, or none, did not run, and fails the
//! table. Then come *rounds*: in each, every subject is sampled once, in an order drawn anew. A *sample* repeats the
//! operation until it is long enough for the clock. The figure is the median over the rounds of the *paired* ratio,
//! ours / peer within a round, so that whatever slows the machine down for longer than a round slows both.
//!
//! The interval beside it is the confidence interval of that median by order statistics: the narrowest pair of ranks,
//! symmetric around the median, that covers it with at least 95 % probability (for less than 6 rounds there is none, and
//! it is the lowest and the highest ratio). It speaks of this run, not of another machine or another hour.

use std::time::{Duration, Instant};

use super::report::{Goal, Row};

/// How long a sample of a fast operation is to be.
const SAMPLE: Duration = Duration::from_micros(100);
const SAMPLE_QUICK: Duration = Duration::from_micros(5);

/// How long a case may take before it makes do with [`FEWEST_ROUNDS`].
const BUDGET: Duration = Duration::from_secs(2);
const FEWEST_ROUNDS: usize = 11;

/// What a sampler saw: time for all iterations, and how many of them did not do what they should.
pub struct Sample {
    pub elapsed: Duration,
    pub failed: u64,
}

/// Runs an operation so many times.
pub type Sampler<'a> = Box<dyn FnMut(u64) -> Sample + 'a>;

/// An operation repeated in a loop and timed as a whole. It returns whether it did its job.
pub fn hot<'a>(mut op: impl FnMut() -> bool + 'a) -> Sampler<'a> {
    Box::new(move |iterations| {
        let mut failed = 0;
        let start = Instant::now();
        for _ in 0..iterations {
            if !op() {
                failed = one_more(failed);
            }
            forget_memory();
        }
        Sample { elapsed: start.elapsed(), failed }
    })
}

/// As [`hot`], with the operation written out eight times in the loop. For what takes a few cycles: the loop itself
/// costs next to nothing, and where one copy of the code happens to lie badly in the cache of decoded instructions,
/// others do not.
pub fn hot_unrolled<'a>(mut op: impl FnMut() -> bool + 'a) -> Sampler<'a> {
    Box::new(move |iterations| {
        let mut failed = 0;
        let mut once = |failed: &mut u64| {
            if !op() {
                *failed = one_more(*failed);
            }
            forget_memory();
        };
        let start = Instant::now();
        for _ in 0..iterations / 8 {
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
            once(&mut failed);
        }
        for _ in 0..iterations % 8 {
            once(&mut failed);
        }
        Sample { elapsed: start.elapsed(), failed }
    })
}

/// An operation timed by itself each time, after a preparation that is not timed. The clock's own time is taken off.
pub fn cold<'a>(mut prepare: impl FnMut() + 'a, mut op: impl FnMut() -> bool + 'a) -> Sampler<'a> {
    let clock = clock_cost();
    Box::new(move |iterations| {
        let mut sample = Sample { elapsed: Duration::ZERO, failed: 0 };
        for _ in 0..iterations {
            prepare();
            let start = Instant::now();
            let done = op();
            sample.elapsed += start.elapsed().saturating_sub(clock);
            sample.failed += u64::from(!done);
        }
        sample
    })
}

/// `before`, the samples, `after`: for a peer that needs the process in another state, such as its own signal handler.
/// Neither is timed.
pub fn around<'a>(before: impl Fn() + 'a, mut sampler: Sampler<'a>, after: impl Fn() + 'a) -> Sampler<'a> {
    Box::new(move |iterations| {
        before();
        let sample = sampler(iterations);
        after();
        sample
    })
}

#[cold]
fn one_more(failed: u64) -> u64 {
    failed + 1
}

/// What two readings of the clock in a row differ by.
fn clock_cost() -> Duration {
    let mut costs: Vec<Duration> = (0..101)
        .map(|_| {
            let start = Instant::now();
            start.elapsed()
        })
        .collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}

/// A value the compiler knows nothing about, at no cost: it stays in its register.
#[inline(always)]
pub fn opaque(mut value: usize) -> usize {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// As [`opaque`], for a pointer.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read through it")]
pub fn opaque_ptr<T>(mut ptr: *mut T) -> *mut T {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) ptr, options(nomem, nostack, preserves_flags)) };
    ptr
}

/// The value is used, as far as the compiler knows.
#[inline(always)]
pub fn used(value: u64) {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("/* {0} */", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// Memory may have been read and written, as far as the compiler knows: no store before it is dropped or delayed.
#[inline(always)]
pub fn forget_memory() {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("", options(nostack, preserves_flags)) };
}

/// A small generator of numbers that need not be good: xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// What a ratio is to stay below. Information for the reader: no measurement asserts a time.
#[derive(Clone, Copy)]
pub struct Bound {
    factor: f64,
    extra_ns: f64,
}

impl Bound {
    /// At most so many times the peer.
    pub fn times(factor: f64) -> Self {
        Bound { factor, extra_ns: 0.0 }
    }

    /// And so many nanoseconds on top, for the whole operation.
    pub fn plus_ns(self, extra_ns: f64) -> Self {
        Bound { extra_ns, ..self }
    }

    fn for_peer(self, peer_ns: f64) -> f64 {
        self.factor + self.extra_ns / peer_ns
    }
}

struct Subject<'a> {
    peer: &'static str,
    bound: Option<Bound>,
    sampler: Sampler<'a>,
    /// Whether it promises the result that [`Case::verified`] looks for.
    promises: bool,
    iterations: u64,
    /// Nanoseconds of one operation, per round.
    times: Vec<f64>,
}

impl<'a> Subject<'a> {
    fn new(peer: &'static str, bound: Option<Bound>, sampler: Sampler<'a>) -> Self {
        Subject { peer, bound, sampler, promises: true, iterations: 1, times: Vec::new() }
    }
}

/// The row against whichever of several peers turns out the fastest.
struct Better {
    label: &'static str,
    peers: Vec<&'static str>,
    bound: Option<Bound>,
}

/// One operation of ours and its peers; see the module.
pub struct Case<'a> {
    name: String,
    size: usize,
    per: usize,
    subjects: Vec<Subject<'a>>,
    better: Vec<Better>,
    prepare: Box<dyn FnMut() + 'a>,
    verify: Box<dyn FnMut() -> Result<(), String> + 'a>,
    verify_iterations: u64,
}

impl<'a> Case<'a> {
    /// `size` is what the table sorts the case under: bytes, unless the name says otherwise.
    pub fn new(name: impl Into<String>, size: usize, ours: Sampler<'a>) -> Self {
        Case {
            name: name.into(),
            size,
            per: 1,
            subjects: vec![Subject::new("ours", None, ours)],
            better: Vec::new(),
            prepare: Box::new(|| {}),
            verify: Box::new(|| Ok(())),
            verify_iterations: 1,
        }
    }

    pub fn peer(mut self, peer: &'static str, bound: Option<Bound>, sampler: Sampler<'a>) -> Self {
        self.subjects.push(Subject::new(peer, bound, sampler));
        self
    }

    /// A peer that does part of the job only: that it ran is verified, and no more.
    pub fn lesser_peer(mut self, peer: &'static str, sampler: Sampler<'a>) -> Self {
        self.subjects.push(Subject { promises: false, ..Subject::new(peer, None, sampler) });
        self
    }

    /// Adds a row against the fastest of `peers`.
    pub fn better_of(mut self, label: &'static str, peers: &[&'static str], bound: Option<Bound>) -> Self {
        self.better.push(Better { label, peers: peers.to_vec(), bound });
        self
    }

    /// An operation does the thing so many times; times are shown for one.
    pub fn per(mut self, per: usize) -> Self {
        self.per = per;
        self
    }

    /// How to tell that a subject did its job: `prepare` before `iterations` of it, `verify` after.
    pub fn verified(
        mut self,
        iterations: u64,
        prepare: impl FnMut() + 'a,
        verify: impl FnMut() -> Result<(), String> + 'a,
    ) -> Self {
        self.prepare = Box::new(prepare);
        self.verify = Box::new(verify);
        self.verify_iterations = iterations;
        self
    }
}

/// Runs cases and keeps their rows.
pub struct Bench {
    /// `copy`, `load` and so on: the first part of what a filter sees.
    pub title: &'static str,
    /// A smoke test: few rounds, short samples, small sizes.
    pub quick: bool,
    rounds: usize,
    filter: Option<String>,
    random: Random,
    progress: indicatif::ProgressBar,
    pub rows: Vec<Row>,
    pub goals: Vec<Goal>,
    /// Peers (or operations of ours) that did not run, or did not do their job, and why.
    pub missing: Vec<String>,
    /// What this machine cannot measure, and why; no failure.
    pub skipped: Vec<String>,
}

impl Bench {
    pub fn new(title: &'static str, rounds: Option<usize>, quick: bool, filter: Option<String>) -> Self {
        let progress = indicatif::ProgressBar::new_spinner();
        progress.set_style(
            indicatif::ProgressStyle::with_template("{spinner} {prefix}: case {pos}, {elapsed}: {msg}")
                .unwrap_or_else(|_| indicatif::ProgressStyle::default_spinner()),
        );
        progress.set_prefix(title);
        Bench {
            title,
            quick,
            rounds: rounds.unwrap_or(if quick { 3 } else { 21 }).max(1),
            filter,
            random: Random::new(clock_seed()),
            progress,
            rows: Vec::new(),
            goals: Vec::new(),
            missing: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Whether the filter wants a case of this name: for preparations that are dear.
    pub fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| format!("{} {name}", self.title).contains(filter.as_str()))
    }

    /// Names what this machine cannot measure.
    pub fn skip(&mut self, what: &str, why: &str) {
        self.skipped.push(format!("{what}: {why}"));
    }

    /// Measures a case, if the filter wants it.
    pub fn run(&mut self, case: Case<'_>) {
        self.run_together(vec![case]);
    }

    /// Measures cases in common rounds: for what takes a few nanoseconds, which depend on how the CPU's branch
    /// predictors happen to be set. One case after the other would find them the same way in all of its rounds.
    pub fn run_together(&mut self, cases: Vec<Case<'_>>) {
        let mut wanted = Vec::new();
        for mut case in cases {
            if !self.wants(&case.name) {
                continue;
            }
            self.progress.set_message(format!("{} {}", case.name, case.size));
            self.progress.inc(1);
            if self.verify(&mut case) {
                for subject in &mut case.subjects {
                    let target = if self.quick { SAMPLE_QUICK } else { SAMPLE };
                    subject.iterations = calibrate(&mut subject.sampler, target);
                }
                wanted.push(case);
            }
        }
        let rounds = self.measure(&mut wanted);
        for case in &wanted {
            self.report(case, rounds);
        }
    }

    pub fn finish(&self) {
        self.progress.finish_and_clear();
    }

    /// Removes the subjects that did not do their job; `false` if ours is one of them.
    fn verify(&mut self, case: &mut Case<'_>) -> bool {
        let label = format!("{} {} ({} B)", self.title, case.name, case.size);
        let mut verdicts = Vec::new();
        for subject in &mut case.subjects {
            (case.prepare)();
            let failed = (subject.sampler)(case.verify_iterations).failed;
            let verdict = match failed {
                0 if subject.promises => (case.verify)(),
                0 => Ok(()),
                _ => Err(format!("failed ({})", std::io::Error::last_os_error())),
            };
            verdicts
                .push(verdict.map_err(|why| self.missing.push(format!("{label}: {}: {why}", subject.peer))).is_ok());
        }
        let ours = verdicts[0];
        let mut verdicts = verdicts.into_iter();
        case.subjects.retain(|_| verdicts.next().unwrap_or(false));
        ours
    }

    fn measure(&mut self, cases: &mut [Case<'_>]) -> usize {
        let start = Instant::now();
        let budget = BUDGET * u32::try_from(cases.len()).unwrap_or(1);
        let mut order: Vec<(usize, usize)> = cases
            .iter()
            .enumerate()
            .flat_map(|(index, case)| (0..case.subjects.len()).map(move |subject| (index, subject)))
            .collect();
        let mut rounds = 0;
        while rounds < self.rounds && (rounds < FEWEST_ROUNDS || start.elapsed() < budget) {
            self.random.shuffle(&mut order);
            for &(index, subject) in &order {
                let case = &mut cases[index];
                let subject = &mut case.subjects[subject];
                let sample = (subject.sampler)(subject.iterations);
                if sample.failed > 0 {
                    self.missing.push(format!(
                        "{} {} ({} B): {}: {} of {} failed while measured",
                        self.title, case.name, case.size, subject.peer, sample.failed, subject.iterations
                    ));
                }
                let ns = sample.elapsed.as_secs_f64() * 1e9 / subject.iterations as f64;
                // An operation cheaper than the clock's resolution still has a ratio.
                subject.times.push(ns.max(0.01));
            }
            rounds += 1;
        }
        rounds
    }

    fn report(&mut self, case: &Case<'_>, rounds: usize) {
        let Some((ours, peers)) = case.subjects.split_first() else { return };
        let row = |peer: &Subject<'_>, label: &str, bound: Option<Bound>| {
            let mut ratios: Vec<f64> = ours.times.iter().zip(&peer.times).map(|(o, p)| o / p).collect();
            ratios.sort_unstable_by(f64::total_cmp);
            let (low, high) = interval_ranks(ratios.len());
            let peer_ns = median(&peer.times);
            Row {
                name: format!("{} {}", self.title, case.name),
                size: case.size as u64,
                peer: label.to_owned(),
                ours_ns: median(&ours.times) / case.per as f64,
                peer_ns: peer_ns / case.per as f64,
                ratio: median(&ratios),
                rounds,
                interval: [ratios[low], ratios[high]],
                bound: bound.map(|b| b.for_peer(peer_ns)),
            }
        };
        let mut rows: Vec<Row> = peers.iter().map(|peer| row(peer, peer.peer, peer.bound)).collect();
        for better in &case.better {
            let fastest = peers
                .iter()
                .filter(|peer| better.peers.contains(&peer.peer))
                .min_by(|a, b| median(&a.times).total_cmp(&median(&b.times)));
            rows.extend(fastest.map(|peer| row(peer, better.label, better.bound)));
        }
        self.rows.append(&mut rows);
    }
}

fn clock_seed() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64)
}

/// How many iterations make a sample of `target`.
fn calibrate(sampler: &mut Sampler<'_>, target: Duration) -> u64 {
    // What is not timed takes time, too.
    let patience = 10 * target;
    let mut iterations = 1;
    loop {
        let start = Instant::now();
        let timed = sampler(iterations).elapsed;
        if timed >= target || start.elapsed() >= patience || iterations >= 1 << 24 {
            return iterations;
        }
        let scale = target.as_nanos() as f64 / timed.as_nanos().max(1) as f64;
        iterations = (iterations as f64 * scale.clamp(1.2, 8.0)).ceil() as u64;
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The ranks (from 0) of the sorted values between which the median lies with at least 95 % probability.
fn interval_ranks(n: usize) -> (usize, usize) {
    // Whether a value lies below the true median is a coin's toss: the rank of the median is binomial.
    let mut term = 0.5_f64.powi(n as i32);
    let mut tail = 0.0;
    let mut low = 0;
    for k in 0..n / 2 {
        tail += term;
        if 2.0 * tail > 0.05 {
            break;
        }
        low = k;
        term *= (n - k) as f64 / (k + 1) as f64;
    }
    (low, n - 1 - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_median_is_the_tabled_one() {
        // Ranks from 1 of the tables for 95 %: n = 6: 1 and 6; 9: 2 and 8; 11: 2 and 10; 21: 6 and 16; 25: 8 and 18.
        for (n, low, high) in [(3, 1, 3), (6, 1, 6), (9, 2, 8), (11, 2, 10), (21, 6, 16), (25, 8, 18)] {
            assert_eq!(interval_ranks(n), (low - 1, high - 1), "{n} rounds");
        }
    }

    #[test]
    fn a_peer_that_fails_is_named_and_has_no_row() {
        let mut bench = Bench::new("test", Some(3), true, None);
        bench.run(Case::new("case", 1, hot(|| true)).peer("good", None, hot(|| true)).peer("bad", None, hot(|| false)));
        assert_eq!(bench.rows.len(), 1);
        assert_eq!(bench.rows[0].peer, "good");
        assert!(matches!(&bench.missing[..], [one] if one.contains("bad")), "{:?}", bench.missing);
    }

    #[test]
    fn a_filter_keeps_what_contains_it() {
        let mut bench = Bench::new("test", Some(3), true, Some("two".to_owned()));
        for name in ["one", "two"] {
            bench.run(Case::new(name, 1, hot(|| true)).peer("peer", None, hot(|| true)));
        }
        assert_eq!(bench.rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["test two"]);
    }
}
