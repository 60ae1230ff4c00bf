//! A seeded simulation of retries, single flight, deadlines and health: the engine as it is, over a store in memory, with a clock of its
//! own (tokio's, paused: it jumps to the next event when no task can run). One seed is one history, always the same one.
//!
//! The tests run [`FEW`] seeds. `FAULTIN_SIMULATION_SEEDS=100000` runs as many (`.ci/long simulation`), and
//! `FAULTIN_SIMULATION_SEED=7` runs one.
//!
//! What holds in each history:
//! * No byte is wrong: what an access returns are bytes of the version that was opened, and it returns *replaced* or nothing of another.
//! * A block is not requested while it is under way, however many accesses want it; and with memory for all blocks, it is delivered once.
//! * An access takes no longer than its deadline.
//! * An access makes no more attempts than its retries allow.
//! * A request that no access waits for ends.
//! * Accesses one after the other to a store that does not answer take the time of two deadlines, not of all.
//! * When the store works again, accesses do, in time.

pub(crate) mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use faultin_test::Random;
use object_store::path::Path;
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{Backend, Redactor};
use crate::engine::{Access, Engine, Numbers, Want};
use crate::error::{Cause, Error};
use crate::events::What;
use crate::pinned::Pinned;
use world::{Outage, Simulated, Weather, World};

/// Number of seeds of the short form.
const FEW: u64 = 3_000;

/// Number of histories after which a long run tells how far it is.
const PROGRESS: u64 = 5_000;

/// The clock's unit, as timers are rounded up to it, twice.
const TICK: Duration = Duration::from_millis(2);

/// What an access may take, besides its deadline, until it works again: longest pause between two probes, and a probe.
const HEALS: Duration = Duration::from_secs(12);

/// A history.
struct Run {
    random: Random,
    world: Arc<World>,
    engine: Arc<Engine>,
    object: Arc<Pinned>,
    /// Whether memory has room for all blocks, so that none is evicted.
    has_room: bool,
    retries: u32,
    reads_ahead: bool,
}

/// A violated promise.
type Checked<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

/// Runs the history of a seed, and returns its trace.
fn run(seed: u64) -> Checked<u64> {
    let runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().map_err(|error| error.to_string())?;
    let result = runtime.block_on(history(seed));
    drop(runtime);
    result
}

async fn history(seed: u64) -> Checked<u64> {
    let random = Random::new(seed);
    let block = random.of(&[64, 256]);
    let len = 1 + random.below(block * 40);
    let world = World::new(seed, block, len);
    let has_room = random.once_in(2);
    let blocks = len.div_ceil(block) as usize;
    let memory = if has_room { 64 * blocks.max(8) } else { 4 + random.below(20_usize) } * block as usize;
    let retries = random.below(5_u32);
    let reads_ahead = random.once_in(2);
    let numbers = Numbers {
        block: block as usize,
        memory,
        requests: 1 + random.below(8_usize),
        request_bytes: (1 + random.below(8_usize)) * block as usize,
        gap: random.below(3 * block),
        deadline: Duration::from_millis(500 + random.below(2_000_u64)),
        attempt: Duration::from_millis(50 + random.below(1_000_u64)),
        retries,
        backoff: (Duration::from_millis(1 + random.below(50_u64)), Duration::from_millis(500)),
        read_ahead: reads_ahead,
        accept_unversioned: false,
        old_versions: false,
        seed,
    };
    let engine = Arc::new(Engine::new(numbers, None, Handle::current()));
    let redactor = Arc::new(Redactor::new(std::iter::empty()));
    let backend = Arc::new(Backend::new(Arc::new(Simulated(Arc::clone(&world))), "", &redactor));
    let access = Access { deadline: Duration::from_secs(10), retries, reads_ahead };
    let opened = engine.open(&backend, &Path::from("object"), &"simulated".into(), access, Instant::now()).await;
    let object = opened.map_err(|error| format!("it opens: {error}"))?;
    let run = Arc::new(Run { random, world, engine, object, has_room, retries, reads_ahead });
    run.world.requested();
    run.all().await.map_err(|why| {
        let events: Vec<String> =
            run.engine.events.last().iter().map(|event| format!("\n  {:?} {:?}", event.range, event.what)).collect();
        format!("{why}\nin {:?}\nafter{}", run.engine.options, events.concat())
    })?;
    Ok(run.world.trace())
}

/// The last part of an access: what was read, and why not more.
struct Outcome {
    took: Duration,
    /// Number of bytes of the last range.
    count: usize,
    is_whole: bool,
    error: Option<Error>,
}

impl Run {
    async fn all(self: &Arc<Self>) -> Checked {
        match self.random.below(6) {
            0 => self.calm().await?,
            1 => self.one_by_one().await?,
            2 => self.outage().await?,
            _ => self.storm().await?,
        }
        self.heals().await?;
        self.ends().await
    }

    fn len(&self) -> usize {
        self.world.bytes().len()
    }

    fn access(&self, deadline: Duration) -> Access {
        Access { deadline, retries: self.retries, reads_ahead: self.reads_ahead }
    }

    /// Reads some ranges together, and checks what can be checked of any access.
    async fn read(&self, ranges: &[(usize, usize)], deadline: Duration) -> Checked<Outcome> {
        let mut buffers: Vec<Vec<u8>> = ranges.iter().map(|&(_, len)| vec![0x5a; len]).collect();
        let begun = Instant::now();
        let results = {
            let mut wants: Vec<Want<'_>> = ranges
                .iter()
                .zip(&mut buffers)
                .map(|(&(pos, _), buffer)| Want::new(&self.object, pos as u64, buffer))
                .collect();
            self.engine.read_async(&self.object, self.access(deadline), &mut wants).await
        };
        let mut outcome = Outcome { took: begun.elapsed(), count: 0, is_whole: true, error: None };
        ensure!(
            outcome.took <= deadline + TICK,
            "an access took {:?}, and its deadline was {deadline:?}",
            outcome.took
        );
        for ((&(pos, len), buffer), result) in ranges.iter().zip(&buffers).zip(results) {
            let wanted = len.min(self.len().saturating_sub(pos));
            match result {
                Ok(count) => {
                    ensure!(count <= wanted, "{count} bytes of {wanted}");
                    let right = &self.world.bytes()[pos.min(self.len())..][..count];
                    ensure!(buffer[..count] == *right, "wrong bytes of {count} from {pos} on");
                    (outcome.count, outcome.is_whole) = (count, outcome.is_whole && count == wanted);
                    self.world.note(count as u64);
                }
                Err(error) => {
                    self.check(&error, outcome.took, deadline)?;
                    self.world.note(u64::from(error.attempts()) | 1 << 40);
                    outcome.is_whole = false;
                    outcome.error = Some(error);
                }
            }
        }
        Ok(outcome)
    }

    /// Checks that an error tells the truth.
    fn check(&self, error: &Error, took: Duration, deadline: Duration) -> Checked {
        ensure!(error.attempts() <= self.retries + 1, "{} attempts with {} retries", error.attempts(), self.retries);
        match error.cause() {
            Cause::Replaced { .. } => ensure!(self.world.is_replaced(), "it was not replaced: {error}"),
            Cause::Deadline { .. } => {
                ensure!(took + TICK >= deadline, "after {took:?} of {deadline:?}: {error}");
            }
            Cause::Closed | Cause::NoMemory | Cause::NotFound | Cause::Unversioned | Cause::Other(_) => {
                return Err(format!("not a reason of this store: {error}"));
            }
            _ => {}
        }
        Ok(())
    }

    fn range(&self) -> (usize, usize) {
        let pos = self.random.below(self.len());
        (pos, 1 + self.random.below(self.len()))
    }

    /// Many accesses at the same time, some of which give up.
    async fn clients(self: &Arc<Self>, count: u64, rounds: u64, may_give_up: bool) -> Checked {
        let mut tasks = Vec::new();
        for number in 0..count {
            let run = Arc::clone(self);
            tasks.push(tokio::spawn(async move {
                let random = Random::for_user(run.random.next(), number);
                for _ in 0..rounds {
                    sleep(Duration::from_millis(random.below(200))).await;
                    let ranges: Vec<_> = (0..1 + random.below(3)).map(|_| run.range()).collect();
                    let deadline = Duration::from_millis(5 + random.below(3_000_u64));
                    if may_give_up && random.once_in(3) {
                        let patience = Duration::from_millis(random.below(500));
                        if let Ok(outcome) = timeout(patience, run.read(&ranges, deadline)).await {
                            outcome?;
                        }
                    } else {
                        run.read(&ranges, deadline).await?;
                    }
                }
                Checked::Ok(())
            }));
        }
        for task in tasks {
            task.await.map_err(|error| format!("a client: {error}"))??;
        }
        Ok(())
    }

    /// Nothing goes wrong, except that answers overtake each other.
    async fn calm(&self) -> Checked {
        // Less than an attempt may take.
        let latency = Duration::from_millis(self.random.below(45));
        self.world.set_weather(Weather { latency, ..Weather::default() });
        // Longer than all that others can be waited for.
        let deadline = Duration::from_secs(600);
        let ranges: Vec<Vec<_>> = (0..6).map(|_| (0..2).map(|_| self.range()).collect()).collect();
        let reads = ranges.iter().map(|ranges| self.read(ranges, deadline));
        for outcome in futures_util::future::join_all(reads).await {
            let outcome = outcome?;
            ensure!(outcome.is_whole, "a store without faults: {:?}", outcome.error);
        }
        Ok(())
    }

    /// One access after the other, so that the attempts of each can be counted.
    async fn one_by_one(&self) -> Checked {
        self.world.set_weather(self.weather());
        for _ in 0..20 {
            self.world.requested();
            let access = self.read(&[self.range()], Duration::from_secs(600)).await?;
            let most = self.world.requested().into_values().max().unwrap_or_default();
            // What is read ahead has retries of its own, and each part of a large access may read ahead.
            // Each attempt ends, and so does the budget, long before the deadline.
            ensure!(access.took < Duration::from_secs(590), "an access waits for nothing until its deadline");
            let is_in_budget = self.reads_ahead || most <= self.retries + 1;
            ensure!(
                is_in_budget,
                "a block was requested {most} times in {:?}, with {} retries",
                access.took,
                self.retries
            );
        }
        Ok(())
    }

    /// The store does not work for a while.
    async fn outage(&self) -> Checked {
        let outage = self.random.of(&[Outage::Refuses, Outage::Hangs, Outage::Busy]);
        self.world.set_outage(Some(outage));
        let deadline = Duration::from_millis(200 + self.random.below(2_000_u64));
        // What was answered at the same instant as an access begins could have been after it.
        sleep(TICK).await;
        let begun = Instant::now();
        let mut failed = 0;
        for _ in 0..10 {
            let whole = (0, self.len());
            failed += u32::from(!self.read(&[whole], deadline).await?.is_whole);
        }
        let took = begun.elapsed();
        // One that finds out, and one that tries whether the store works again.
        ensure!(
            took <= 2 * (deadline + TICK),
            "{failed} of 10 accesses took {took:?}, and the deadline was {deadline:?}"
        );
        // Others come while it lasts, and do not wait longer than for themselves.
        for _ in 0..self.random.below(20) {
            sleep(Duration::from_millis(self.random.below(1_000))).await;
            self.read(&[self.range()], deadline).await?;
        }
        Ok(())
    }

    /// Everything at once.
    async fn storm(self: &Arc<Self>) -> Checked {
        self.world.set_weather(self.weather());
        let (count, rounds) = (2 + self.random.below(6), 1 + self.random.below(6));
        let clients = self.clients(count, rounds, true);
        let changes = async {
            for _ in 0..self.random.below(6) {
                sleep(Duration::from_millis(self.random.below(1_000))).await;
                match self.random.below(5) {
                    0 => self.world.set_outage(Some(self.random.of(&[Outage::Refuses, Outage::Hangs, Outage::Busy]))),
                    1 | 2 => self.world.set_outage(None),
                    3 if self.random.once_in(3) => self.world.replace(self.random.once_in(2)),
                    _ => self.world.set_weather(self.weather()),
                }
            }
        };
        let (clients, ()) = futures_util::future::join(clients, changes).await;
        clients
    }

    fn weather(&self) -> Weather {
        let rare = || if self.random.once_in(2) { 2 + self.random.below(12) } else { 0 };
        Weather {
            latency: Duration::from_millis(self.random.below(200)),
            lost: rare(),
            busy: rare(),
            reset: rare(),
            stalled: rare(),
            short: rare(),
            long: rare(),
            elsewhere: rare(),
        }
    }

    /// The store works again, and so do accesses.
    async fn heals(&self) -> Checked {
        self.world.set_outage(None);
        self.world.set_weather(Weather { latency: Duration::from_millis(20), ..Weather::default() });
        let (begun, mut pos) = (Instant::now(), 0);
        loop {
            // An error comes after all bytes before it.
            let outcome = self.read(&[(pos, self.len() - pos)], Duration::from_secs(5)).await?;
            pos += outcome.count;
            if pos == self.len() || matches!(outcome.error.as_ref().map(Error::cause), Some(Cause::Replaced { .. })) {
                return Ok(());
            }
            let took = begun.elapsed();
            ensure!(took <= HEALS, "it has not healed after {took:?}: {:?}", outcome.error);
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// No access is left: what was requested ends, and no memory is lost.
    async fn ends(&self) -> Checked {
        for event in self.engine.events.last() {
            if let What::Retried(cause) = &event.what {
                ensure!(cause.is_transient(), "tried again: {cause}");
            }
        }
        if let Some(overlap) = self.world.overlap() {
            return Err(overlap);
        }
        // A stream that is forgotten gives up what it has read ahead.
        if self.has_room && !self.reads_ahead {
            for (block, count) in self.world.delivered() {
                ensure!(count <= 1, "block {block} was delivered {count} times");
            }
        }
        if !self.reads_ahead {
            sleep(TICK).await;
            ensure!(self.world.live() == 0, "{} requests that no access waits for", self.world.live());
        }
        self.engine.close(&self.object);
        sleep(TICK).await;
        ensure!(self.world.live() == 0, "{} requests of an object that is closed", self.world.live());
        ensure!(self.engine.in_flight() == 0, "{} turns are not given back", self.engine.in_flight());
        ensure!(self.engine.pool.used() == 0, "{} buffers are not given back", self.engine.pool.used());
        Ok(())
    }
}

/// Returns the number in an environment variable.
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn every_history_keeps_the_promises() {
    if let Some(seed) = variable("FAULTIN_SIMULATION_SEED") {
        run(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        return;
    }
    let seeds = variable("FAULTIN_SIMULATION_SEEDS").unwrap_or(FEW);
    let (next, threads) = (AtomicU64::new(0), std::thread::available_parallelism().map_or(1, usize::from));
    let failures: Vec<(u64, String)> = std::thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            loop {
                let seed = next.fetch_add(1, Relaxed);
                if seed >= seeds {
                    return failures;
                }
                if seed > 0 && seed.is_multiple_of(PROGRESS) {
                    println!("{seed} of {seeds} histories");
                }
                failures.extend(run(seed).err().map(|why| (seed, why)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    for (seed, why) in failures.iter().take(10) {
        println!("FAULTIN_SIMULATION_SEED={seed}: {}", why.lines().next().unwrap_or_default());
    }
    assert!(failures.is_empty(), "{} of {seeds} histories", failures.len());
    println!("{seeds} histories");
}

#[test]
fn a_seed_is_one_history() {
    let traces: Vec<_> = (0..200).map(run).collect();
    for (seed, trace) in traces.iter().enumerate() {
        assert_eq!(run(seed as u64), *trace, "seed {seed}");
    }
    let mut different = traces;
    different.sort();
    different.dedup();
    assert!(different.len() > 150, "{} histories", different.len());
}
