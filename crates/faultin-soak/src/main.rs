//! `faultin-soak`: the cache and its pager, used at random by several threads, against a model.

mod buffers;
mod counted;
mod evictors;
mod mapped;
mod model;
mod report;
mod schedule;
mod stalls;
mod store;
mod tail;
mod tally;
mod transfers;
mod upkeep;
mod watch;
mod whole;
mod worker;
mod world;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::builder::TypedValueParser;
use clap::{Parser, ValueEnum};
use faultin::map::Rights;
use faultin_cache::CacheOptions;
use faultin_cache::pager::{AttachError, Mode};
use faultin_cache::store::MemoryStore;

use faultin_test::Random;
use report::{Live, summary};
use worker::{Checked, Worker};
use world::{Setup, World};

/// Uses a cache and mappings of its files at random, and compares every byte and every count with a model
///
/// Several threads read, write, map, load, store, truncate, punch, evict and sync several files, with buffers of all kinds:
/// plain ones, mappings of the same file and of others, and buffers that fault; files grow from mappings of their own last
/// page; most allocate in advance. The stores fail for a while occasionally, and two threads evict until every operation
/// under way and the next ones have ended. At the end, and occasionally before it, the stores' own contents and lengths are compared,
/// too. At the end, the cache must have counted every error that its stores have returned, and no other.
///
/// Exits with 0 if nothing differed and no thread got stuck, with 1 if not (then the seed, the last operations of each
/// thread, and the difference are printed).
#[derive(Parser)]
#[command(name = "faultin-soak", version)]
struct Args {
    /// Seconds to run
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,

    /// Minutes to run, instead
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: Option<u64>,

    /// The seed of the threads' random numbers; the order of their steps varies even for the same seed [default: the time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Threads
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = number(64))]
    threads: usize,

    /// Files: every other one a file, whose faults are served in the signal, the others in memory
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = number(64))]
    files: usize,

    /// The cache's limit in KiB, from two pages for each file on [default: about a third of the files]
    #[arg(long, value_name = "KIB", value_parser = number(1 << 30))]
    limit: Option<usize>,

    /// Modes of mappings [default: all that are available]
    #[arg(long, value_name = "MODE", value_enum, value_delimiter = ',')]
    mode: Vec<Which>,

    /// Whether stores fail occasionally
    #[arg(long, value_name = "WHETHER", value_enum, default_value_t = Switch::On)]
    failures: Switch,

    /// Whether two more threads occasionally evict all clean folios, until every thread has ended some operations
    #[arg(long, value_name = "WHETHER", value_enum, default_value_t = Switch::On)]
    evictions: Switch,

    /// Seconds after which a thread that does not end its operation is stuck
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: u64,
}

/// From 1 on.
fn number(most: i64) -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(1..=most).map(|number| number as usize)
}

/// How faults are resolved.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// In the thread that faults, by userfaultfd
    Signal,
    /// By the pager's thread
    Thread,
    /// In the thread that faults, without userfaultfd
    Mprotect,
}

impl Which {
    fn of(mode: Mode) -> Which {
        match mode {
            Mode::Signal => Which::Signal,
            Mode::Thread => Which::Thread,
            Mode::Mprotect => Which::Mprotect,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn main() -> ExitCode {
    match soak(&Args::parse()) {
        Ok(sound) if sound => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faultin-soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn soak(args: &Args) -> Checked<bool> {
    let wanted = |mode: &Mode| args.mode.is_empty() || args.mode.contains(&Which::of(*mode));
    let (mut modes, mut skipped) = (Vec::new(), 0);
    for mode in Mode::ALL.into_iter().filter(wanted) {
        match is_to_be_had(mode) {
            Ok(()) => modes.push(mode),
            Err(why) => {
                eprintln!("skipped: {why}");
                skipped += 1;
            }
        }
    }
    if modes.is_empty() {
        return Err("no mode is left".to_owned());
    }
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
    let (threads, files) = (args.threads, args.files);
    let seed = args.seed.unwrap_or(clock);
    let limit = args.limit.map(|kib| kib << 10);
    let setup = Setup { seed, threads, files, limit, modes, evictions: args.evictions == Switch::On };
    print(&format!("seed {seed}, {threads} threads, {files} files, modes {:?}\n", setup.modes));
    let world = Arc::new(World::new(setup)?);
    watch::watch(Arc::clone(&world), Duration::from_secs(args.patience));
    let begun = Instant::now();
    let time = Duration::from_secs(args.minutes.map_or(args.seconds, |minutes| 60 * minutes));
    run_all(&world, time, args.failures == Switch::On);
    if world.difference().is_none()
        && let Err(difference) = last_look(&world).and_then(|()| counted::check(&world))
    {
        world.differs(difference);
    }
    print(&summary(&world, begun.elapsed(), skipped));
    if let Some(difference) = world.difference() {
        eprint!("faultin-soak: seed {seed}: {difference}\n{}", world.trails());
        return Ok(false);
    }
    Ok(true)
}

/// Runs all threads, for `time` or until something differs.
fn run_all(world: &World, time: Duration, failures: bool) {
    let working = AtomicBool::new(true);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..world.setup.threads)
            .map(|me| {
                scope.spawn(move || {
                    match Worker::new(world, me) {
                        Ok(worker) => worker.run(),
                        Err(error) => world.differs(error),
                    }
                    world.trails[me].end();
                })
            })
            .collect();
        let random = Random::for_user(world.setup.seed, 500);
        // Longer than the threads: a thread that retries until stores work again must end.
        scope.spawn(|| {
            let (random, working) = (random, &working);
            if failures {
                world.schedule.run(&random, || !working.load(Relaxed));
            }
        });
        if world.setup.evictions {
            for number in 0..evictors::THREADS {
                scope.spawn(move || evictors::run(world, number));
            }
        }
        let live = Live::new(time);
        let begun = Instant::now();
        while begun.elapsed() < time && !world.is_over() {
            thread::sleep(Duration::from_millis(50));
            live.show(world);
        }
        world.end();
        for (me, worker) in workers.into_iter().enumerate() {
            if worker.join().is_err() {
                world.differs(format!("thread {me} panicked"));
                world.trails[me].end();
            }
        }
        working.store(false, Relaxed);
    });
}

/// Prints to standard output. A closed pipe is no error.
fn print(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Checks at the end, without other threads or failing stores, that every file and every store has the expected contents.
fn last_look(world: &World) -> Checked {
    let worker = Worker::new(world, 0)?;
    world.trails[0].resume();
    for (number, file) in world.files.iter().enumerate() {
        let (open, len) = (file.open.read(), file.tail.lock());
        worker.compare(number, &open, *len, world.schedule.since())?;
        // The first sync may still report an earlier failure.
        if !worker.settled(number, &open, *len)? && !worker.settled(number, &open, *len)? {
            return Err(format!("file {number} cannot be synced, although its store is well"));
        }
    }
    world.trails[0].end();
    Ok(())
}

/// Checks that a page can be mapped in this mode.
fn is_to_be_had(mode: Mode) -> Result<(), AttachError> {
    let page = faultin::page_size();
    let cache = CacheOptions::new().block(page).build();
    let file = cache.open(MemoryStore::new(vec![0; page])).map_err(AttachError::Memory)?;
    file.map(0..page as u64, Rights::Read, mode).map(drop)
}
