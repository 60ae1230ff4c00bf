//! The method of the comparisons.
//!
//! A *case* is one operation of ours and the *peers* that do the same job, on the same memory, in this process. Each of
//! them is first run once and its result verified; a subject with a wrong result, or none, did not run, and fails the
//! table. Then come *rounds*: in each, every subject is sampled once, in an order drawn anew. A *sample* repeats the
//! operation until it is long enough for the clock. The figure is the median over the rounds of the *paired* ratio, ours /
//! peer within a round, so that a slowdown of the machine for longer than a round affects both.
//!
//! The interval beside it is the confidence interval of that median by order statistics: the narrowest pair of ranks,
//! symmetric around the median, that covers it with at least 95 % probability (for fewer than 6 rounds there is none, and
//! it is the lowest and the highest ratio). It applies to this run, not to another machine or another hour.

use std::time::{Duration, Instant};

use faultin_test::Random;

use super::case::{Bound, Case, Subject};
use super::report::{Goal, Row};
use super::sample::Sampler;
use super::stats::{Summary, median};

/// Target duration of a sample of a fast operation.
const SAMPLE: Duration = Duration::from_micros(100);
const SAMPLE_QUICK: Duration = Duration::from_micros(5);

/// Duration of a case after which it runs only [`MIN_ROUNDS`].
const BUDGET: Duration = Duration::from_secs(2);
const MIN_ROUNDS: usize = 11;

/// Runs cases and keeps their rows.
pub struct Bench {
    /// `copy`, `load` and so on: the first part of the name that a filter matches.
    pub title: &'static str,
    /// A smoke test: few rounds, short samples, small sizes.
    pub quick: bool,
    rounds: usize,
    filter: Option<String>,
    random: Random,
    progress: indicatif::ProgressBar,
    pub rows: Vec<Row>,
    pub goals: Vec<Goal>,
    /// Peers (or operations of ours) that did not run, or did not do their job, and the reason.
    pub missing: Vec<String>,
    /// Cases that this machine cannot measure, and the reason; not a failure.
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

    /// Returns whether the filter selects a case of this name: to skip expensive preparations.
    pub fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| format!("{} {name}", self.title).contains(filter.as_str()))
    }

    /// Records a case that this machine cannot measure.
    pub fn skip(&mut self, what: &str, why: &str) {
        self.skipped.push(format!("{what}: {why}"));
    }

    /// Measures a case, if the filter selects it.
    pub fn run(&mut self, case: Case<'_>) {
        self.run_together(vec![case]);
    }

    /// Measures cases in common rounds: for operations of a few nanoseconds, which depend on the state of the CPU's branch
    /// predictors. Separate cases would find that state unchanged in all of their rounds.
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

    /// Removes the subjects that did not do their job; returns `false` if ours is one of them.
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
        while rounds < self.rounds && (rounds < MIN_ROUNDS || start.elapsed() < budget) {
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
            let each: Vec<f64> = ours.times.iter().zip(&peer.times).map(|(o, p)| o / p).collect();
            let ratio = Summary::of(&each);
            let peer_ns = median(&peer.times);
            Row {
                name: format!("{} {}", self.title, case.name),
                size: case.size as u64,
                peer: label.to_owned(),
                ours_ns: median(&ours.times) / case.per as f64,
                peer_ns: peer_ns / case.per as f64,
                ratio: ratio.median,
                rounds,
                interval: ratio.interval,
                bound: bound.map(|b| b.for_peer(peer_ns)),
                each,
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

/// Returns the number of iterations of a sample of `target`.
fn calibrate(sampler: &mut Sampler<'_>, target: Duration) -> u64 {
    // Untimed parts take time, too.
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

#[cfg(test)]
mod tests {
    use super::super::sample::hot;
    use super::*;

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
