//! Reads, writes, truncations and syncs, explored: the cache's own code runs on small caches, with buffers that are bad
//! memory and mappings of the files, on stores that preallocate and fail, and between any two of its steps other threads
//! evict, press on the cache or write back.
//!
//! A *moment* is a point where another thread may act: before a lock is taken, before and after a call of a store, after a
//! copy. All of it happens in one thread, so that a [script](script::Script) is deterministic. Invariants:
//!
//! * An operation terminates, also if other threads evict at every moment; its attempts are bounded by its own length.
//! * It reads no more from a store than 2.5 times the bytes of the operation, and the cache's contents once for each time
//!   that another thread has evicted something.
//! * An operation on good memory succeeds, and one on bad memory has all bytes before the first bad one. Only if other
//!   threads evict at every moment it may give up instead.
//! * Bytes are right, in the file, in buffers and in the store; the length of the store after a sync is the file's.
//!
//! [`enumerate`] has every short script of a kind, and [`random`] longer ones. A finding is simplified as far as possible,
//! and printed as a line that `FAULTIN_EXPLORATION_SCRIPT` runs again. `FAULTIN_EXPLORATION=full` tries all of it,
//! `FAULTIN_EXPLORATION_RANDOM` sets the number of random scripts, `FAULTIN_EXPLORATION_SEED` their seed.

mod enumerate;
#[allow(unsafe_code, reason = "a page without rights")]
mod memory;
mod perform;
mod random;
mod script;
mod store;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::ControlFlow::Continue;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use script::Script;
use world::World;

use crate::CacheOptions;
use crate::pager::Mode;
use crate::store::MemoryStore;
use faultin::map::Rights;
use faultin_test::parallel;

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// Lets another thread act, if this thread explores.
pub(crate) fn moment() {
    // A thread that ends drops its world, which takes locks.
    let world = WORLD.try_with(|world| world.borrow().clone());
    if let Ok(Some(world)) = world {
        world.moment();
    }
}

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// More moments than an operation may have.
    Endless {
        op: usize,
        moments: usize,
        acted: usize,
    },
    /// More attempts than an operation may have.
    Attempts {
        op: usize,
        is: usize,
        most: usize,
    },
    /// More bytes are read from a store than the operation may read.
    ReadsTooMuch {
        op: usize,
        file: usize,
        is: u64,
        about: u64,
        most: u64,
    },
    /// A wrong result of an operation.
    Result {
        op: usize,
        is: String,
        ought: String,
    },
    /// A wrong length of a file or of its store.
    Length {
        op: usize,
        file: usize,
        is: String,
        ought: u64,
        when: &'static str,
    },
    /// A wrong byte.
    Bytes {
        op: usize,
        of: &'static str,
        at: usize,
        is: u8,
        ought: u8,
    },
    Panics {
        op: usize,
        says: String,
    },
}

impl Found {
    /// Returns the kind of the finding, for this script.
    fn kind(&self, script: &Script) -> String {
        let (name, op) = match self {
            Found::Endless { op, .. } => ("endless", op),
            Found::Attempts { op, .. } => ("attempts", op),
            Found::ReadsTooMuch { op, .. } => ("reads too much", op),
            Found::Result { op, is, .. } if is.contains("NoProgress") => ("no progress", op),
            Found::Result { op, .. } => ("result", op),
            Found::Length { op, .. } => ("length", op),
            Found::Bytes { op, .. } => ("bytes", op),
            Found::Panics { op, .. } => ("panic", op),
        };
        format!("{name}: {}", script.ops.get(*op).map(script::Op::kind).unwrap_or_default())
    }
}

/// The outcome of a script.
#[derive(Debug)]
struct Outcome {
    found: Option<Found>,
    /// Number of moments of each operation.
    moments: Vec<usize>,
}

fn run(script: &Script) -> Outcome {
    let world = World::new(script);
    WORLD.set(Some(Rc::clone(&world)));
    let mut moments = Vec::new();
    for (number, op) in script.ops.iter().enumerate() {
        world.moments.set(0);
        world.perform(number, op);
        moments.push(world.moments.get());
        if world.found.borrow().is_some() {
            break;
        }
    }
    if world.found.borrow().is_none() {
        world.end();
    }
    let found = world.found.take();
    world::leave();
    Outcome { found, moments }
}

/// A finding, and the simplest script that shows one of its kind.
#[derive(Debug)]
struct Finding {
    found: Found,
    script: Script,
    times: u64,
}

/// The scripts that were explored.
#[derive(Debug, Default)]
struct Explored {
    scripts: AtomicU64,
    moments: AtomicU64,
    findings: Mutex<BTreeMap<String, Finding>>,
}

impl Explored {
    fn note(&self, script: &Script, outcome: &Outcome) {
        self.scripts.fetch_add(1, Relaxed);
        self.moments.fetch_add(outcome.moments.iter().sum::<usize>() as u64, Relaxed);
        let Some(found) = &outcome.found else { return };
        let kind = found.kind(script);
        if let Some(finding) = self.findings.lock().unwrap().get_mut(&kind) {
            finding.times += 1;
            return;
        }
        let (script, found) = simplest(script, found);
        let mut findings = self.findings.lock().unwrap();
        findings.entry(kind).or_insert(Finding { found, script, times: 0 }).times += 1;
    }

    /// Runs each of the scripts, on every processor.
    fn all<T: Sync>(&self, scripts: &[T], each: impl Fn(&Explored, &T) + Sync) {
        parallel::until_found(scripts, |script| {
            each(self, script);
            Continue::<()>(())
        });
    }

    fn told(&self, name: &str, begin: Instant) -> String {
        let findings = self.findings.lock().unwrap();
        let mut text = format!(
            "{name}: {} scripts, {} moments, {} kinds of findings, {:.1?}\n",
            self.scripts.load(Relaxed),
            self.moments.load(Relaxed),
            findings.len(),
            begin.elapsed()
        );
        for (kind, Finding { found, script, times }) in &*findings {
            let _ = writeln!(text, "  {kind} ({times} scripts)\n    {found:?}\n    {script}");
        }
        text
    }

    /// Reports what was explored.
    ///
    /// # Panics
    /// If there are findings.
    fn end(&self, name: &str, begin: Instant) {
        let told = self.told(name, begin);
        let _ = std::io::stderr().write_all(told.as_bytes());
        assert!(self.findings.lock().unwrap().is_empty(), "{told}");
    }
}

/// Number of moments that simplifying a script may take.
const SIMPLER: usize = 50_000;

/// Simplifies a script as long as it has a finding of this kind.
fn simplest(script: &Script, found: &Found) -> (Script, Found) {
    let kind = found.kind(script);
    let (mut script, mut found) = (script.clone(), found.clone());
    let mut moments = 0;
    'simpler: loop {
        for simpler in script.simpler() {
            if moments > SIMPLER {
                break 'simpler;
            }
            let outcome = run(&simpler);
            moments += 10 + outcome.moments.iter().sum::<usize>();
            if let Some(also) = outcome.found.filter(|also| also.kind(&simpler) == kind) {
                (script, found) = (simpler, also);
                continue 'simpler;
            }
        }
        break;
    }
    (script, found)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_full() -> bool {
    variable("FAULTIN_EXPLORATION").is_some_and(|value| value == "full")
}

/// Returns the step through many scripts: 1 for all, or `short`. An emulated machine runs the same steps, but slowly.
fn step(short: usize) -> usize {
    match is_full() {
        true => 1,
        false if cfg!(target_arch = "x86_64") => short,
        false => 10 * short,
    }
}

/// A printed script is parsed again.
#[test]
fn a_script_is_what_it_says() {
    for script in enumerate::single().into_iter().step_by(101).chain((0..100).map(random::script)) {
        let line = script.to_string();
        assert_eq!(line.parse::<Script>().as_ref(), Ok(&script), "{line}");
    }
}

/// Scripts that once had a finding, simplified.
const FOUND: [&str; 12] = [
    // Preallocation and trimming made the store longer than the cache knew.
    "mode mprotect limit 4 folio 1 loop preallocate short 0 a 0 b 0 | write a 0 from bad 1 | set_len a 0",
    "mode mprotect limit 6 folio 1 loop f2fs short 0 a 13801 b 12322 | append b from plain 7673 bad 45 | set_len b 16384",
    // Zeroing the tail revoked the page that the write came from.
    "mode mprotect limit 4 folio 1 loop default short 0 a 1 b 0 | touch a 0 | append a from map a 0 1",
    "mode mprotect limit 4 folio 1 loop default short 0 a 431 b 4096 | touch a 0 | write a 376 from map a 0 64",
    // Attempts without progress were counted over all segments, or a window was larger than the cache.
    "mode mprotect limit 4 folio 1 loop default short 0 a 65536 b 65536 | read a 0 to pieces b 11 1",
    "mode mprotect limit 4 folio 2 loop default short 0 a 0 b 28654 | write a 0 from pieces b 5 1",
    "mode mprotect limit 4 folio 1 loop default short 0 a 327680 b 327680 | write a 0 from map b 12 327580",
    "mode mprotect limit 4 folio 1 loop default short 0 a 65536 b 65536 | read a 0 to map b 1 65189",
    // A pass that read evicted blocks again forgot that the buffer had faulted.
    "mode mprotect limit 4 folio 1 loop default short 0 a 1 b 0 | read a 0 to bad 0 | drop from 0.0",
    "mode mprotect limit 4 folio 1 loop default short 0 a 862 b 4096 | read a 0 to map b 0 1 | drop from 0.0",
    "mode mprotect limit 4 folio 1 loop preallocate short 0 a 1725 b 4096 | read a 0 to map a 0 1 | drop from 0.0",
    // Readahead continued for as long as other threads evicted.
    "mode mprotect limit 4 folio 1 loop default short 0 a 1725 b 4096 | will_need a 0 1 | drop from 0.0",
];

/// Also runs the script of `FAULTIN_EXPLORATION_SCRIPT`, if there is one.
#[test]
fn scripts_that_had_a_finding_have_none() {
    let given = variable("FAULTIN_EXPLORATION_SCRIPT");
    let mut text = String::new();
    for line in FOUND.into_iter().chain(given.as_deref()) {
        let outcome = run(&line.parse().unwrap());
        if given.as_deref() == Some(line) || outcome.found.is_some() {
            let _ = writeln!(text, "{line}\n    {outcome:?}");
        }
        if outcome.found.is_some() {
            text += "    FOUND\n";
        }
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    assert!(!text.contains("FOUND"), "{text}");
}

#[test]
fn short_scripts_have_no_finding() {
    let begin = Instant::now();
    let explored = Explored::default();
    let step = step(13);
    let scripts: Vec<_> = enumerate::sequences().into_iter().step_by(step).collect();
    explored.all(&scripts, |explored, script| explored.note(script, &run(script)));
    explored.end("short scripts, no other thread", begin);
}

#[test]
fn scripts_with_one_action_of_another_thread_have_no_finding() {
    let begin = Instant::now();
    let explored = Explored::default();
    let step = step(79);
    let scripts: Vec<_> = enumerate::single().into_iter().step_by(step).collect();
    explored.all(&scripts, enumerate::one_action);
    explored.end("one operation, one action at each moment", begin);
}

#[test]
fn scripts_with_another_thread_at_every_moment_have_no_finding() {
    let begin = Instant::now();
    let explored = Explored::default();
    let step = step(19);
    let scripts: Vec<_> = enumerate::single().into_iter().step_by(step).collect();
    explored.all(&scripts, enumerate::always);
    explored.end("one operation, an action at every moment", begin);
}

#[test]
fn long_buffers_have_no_finding() {
    let begin = Instant::now();
    let explored = Explored::default();
    explored.all(&enumerate::long(), |explored, script| explored.note(script, &run(script)));
    explored.end("files of many pages", begin);
}

#[test]
fn random_scripts_have_no_finding() {
    random_scripts("random scripts", Mode::Mprotect, if is_full() { 200_000 } else { 2_000 });
}

/// With userfaultfd, which revokes pages in another way.
#[test]
fn random_scripts_by_signals_have_no_finding() {
    let page = rustix::param::page_size();
    let file = CacheOptions::new().block(page).build().open(MemoryStore::new(vec![0; page])).unwrap();
    if let Err(error) = file.map(0..page as u64, Rights::ReadWrite, Mode::Signal) {
        faultin_test::skipped("uffd", error);
        return;
    }
    random_scripts("random scripts, by signals", Mode::Signal, if is_full() { 50_000 } else { 500 });
}

fn random_scripts(name: &str, mode: Mode, count: u64) {
    let begin = Instant::now();
    let explored = Explored::default();
    let number = |name, default: u64| variable(name).map_or(default, |value| value.parse().expect("a number"));
    let count = number("FAULTIN_EXPLORATION_RANDOM", count);
    let seed = number("FAULTIN_EXPLORATION_SEED", 0);
    let seeds: Vec<_> = (seed..seed + count).collect();
    explored.all(&seeds, |explored, seed| {
        let mut script = random::script(*seed);
        script.setup.mode = mode;
        explored.note(&script, &run(&script));
    });
    explored.end(name, begin);
}
