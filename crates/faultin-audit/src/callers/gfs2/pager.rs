//! The operations with real mappings of the file, whose faults `faultin_cache`'s pager resolves.
//!
//! The lock's own bookkeeping detects a deadlock: a fault under the lock that it needs is rejected, with the circle of
//! waits, and nothing hangs.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use faultin::map::Rights;
use faultin::page_size;
use faultin_cache::pager::{AttachError, Mapping, Mode};
use faultin_cache::{Cache, CacheOptions, Error};

use super::disk::Disk;
use super::operation::{self, Moved, Opened, Operation, check_file, failed, open, read, write};
use crate::axes::Variant;
use crate::caller::{Each, Ended, Halt};
use crate::callers::looker::Beside;
use crate::log::{Log, Stuck};
use crate::scenario::{Buffer, During, Pages, Scenario};
use crate::user::Scale;
use crate::user::host::mapping::take_away;
use crate::user::host::{HostRead, HostWrite};

/// Number of pages of the file.
const PAGES: usize = 12;
/// The page at whose end the read or write begins.
const TARGET: usize = 8;
/// The page at whose end another mapped part begins.
const OTHER: usize = 2;

/// Number of runs during an eviction storm, and of two threads with two files.
const RUNS: u32 = 32;

/// Runs a scenario, once or (concurrently with other threads) often.
///
/// # Errors
/// The machine's error.
pub(super) fn run(operation: Operation, variant: Variant, scenario: Scenario, each: &mut Each<'_>) -> io::Result<()> {
    let during = scenario.column().during;
    match during {
        During::EvictedAlways => storm(operation, variant, each),
        During::OtherThread => two_files(operation, variant, each),
        _ => {
            let world = World::new(1)?;
            let pages = match scenario.column().buffer {
                Buffer::Mapping(pages) => pages,
                _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "the buffer is not a mapping")),
            };
            let mapping = world.map(0, pages)?;
            let mut log = log(&mapping);
            let result = world.alone(operation, variant, (pages, during), &mapping, &mut log);
            each(log, result);
            Ok(())
        }
    }
}

/// A cache, and files in it.
struct World {
    cache: Cache,
    files: Vec<Opened>,
}

/// Returns the range of the file that the buffer maps.
fn shown(pages: Pages) -> Range<usize> {
    let len = operation::object(Operation::BufferedWrite, Scale::Full).len();
    let start = match pages {
        Pages::Same => target(),
        Pages::Other => (OTHER + 1) * page_size() - len / 2,
    };
    start..start + len
}

/// Returns the position of the read or write.
fn target() -> usize {
    let len = operation::object(Operation::BufferedWrite, Scale::Full).len();
    (TARGET + 1) * page_size() - len / 2
}

/// Returns the initial contents of file `number`.
fn contents(number: usize) -> Vec<u8> {
    (0..PAGES * page_size()).map(|at| ((at * 7 + at / 251 + 31 * number) as u8) | 1).collect()
}

fn log(mapping: &Mapping) -> Log<'static> {
    Log::new(mapping.as_ptr().addr() + shown(Pages::Other).start % page_size(), page_size())
}

impl World {
    fn new(files: usize) -> io::Result<World> {
        let cache = CacheOptions::new().block(page_size()).limit(8 * PAGES * page_size()).build();
        let files = (0..files).map(|number| {
            let disk = Arc::new(Disk::new(contents(number), 64));
            let file = open(&cache, &disk, page_size())?;
            Ok(Opened { cache: cache.clone(), disk, file })
        });
        let files = files.collect::<io::Result<_>>()?;
        Ok(World { cache, files })
    }

    /// Maps the pages of the buffer. By signals where there is a userfaultfd, otherwise without.
    fn map(&self, file: usize, pages: Pages) -> io::Result<Mapping> {
        let range = shown(pages);
        let pages = (range.start / page_size() * page_size()) as u64..range.end as u64;
        let map = |mode| self.files[file].file.map(pages.clone(), Rights::ReadWrite, mode);
        match map(Mode::Signal) {
            Err(AttachError::Mode { .. }) => map(Mode::Mprotect),
            result => result,
        }
        .map_err(io::Error::from)
    }

    /// Runs one operation on the first file, whose buffer no other thread uses, and checks its product.
    fn alone(
        &self,
        operation: Operation,
        variant: Variant,
        (pages, during): (Pages, During),
        mapping: &Mapping,
        log: &mut Log<'_>,
    ) -> Result<Ended, Halt> {
        let (opened, range) = (&self.files[0], shown(pages));
        if during == During::StoreError {
            let second = ((OTHER + 1) * page_size()) as u64;
            opened.disk.spoil(second..second + page_size() as u64);
        }
        let view = mapping.write_view().map_err(io::Error::other)?;
        let midway = || if during == During::Unmapped { take_away(&view, 1) } else { Ok(()) };
        let mut once = Once { event: Some(midway), came: Ok(()) };
        let moved = perform(operation, variant, opened, mapping, log, &mut once);
        once.came?;
        if during == During::StoreError {
            match mapping.last_error() {
                Some(Error::Store(error)) => log.decide(format!("(the mapping's last error: {error})")),
                // As found it does not reach this.
                Some(Error::Deadlock(_)) if variant == Variant::AsFound => {}
                other => return Err(failed(format!("the mapping's last error is {other:?}, not the store's"))),
            }
            opened.disk.spoil(0..0);
        }
        let moved = moved?;
        let before = contents(0);
        let product = if operation.writes() {
            check_file(opened, before.clone(), target(), &before[range][..moved.done])
        } else {
            check_file(opened, before.clone(), range.start, &before[target()..][..moved.done])
        };
        Ok(moved.ended(product))
    }
}

/// Does something once, when the first copy was attempted.
struct Once<E> {
    event: Option<E>,
    came: io::Result<()>,
}

impl<E: FnOnce() -> io::Result<()>> Beside for Once<E> {
    fn copied(&mut self, _: bool) {
        if let Some(event) = self.event.take() {
            self.came = event();
        }
    }
}

/// Runs one operation on a file, with a mapping as its buffer.
fn perform(
    operation: Operation,
    variant: Variant,
    opened: &Opened,
    mapping: &Mapping,
    log: &mut Log<'_>,
    beside: &mut dyn Beside,
) -> Result<Moved, Halt> {
    let len = operation::object(Operation::BufferedWrite, Scale::Full).len();
    let start = shown(Pages::Other).start % page_size();
    let result = match operation.writes() {
        true => {
            let view = mapping.read_view().map_err(io::Error::other)?.subslice(start..start + len);
            let buffer = HostRead::of(view.expect("the buffer lies in its pages"));
            write(operation, variant, &opened.file, buffer, target(), log, beside)
        }
        false => {
            let view = mapping.write_view().map_err(io::Error::other)?.subslice(start..start + len);
            let buffer = HostWrite::of(view.expect("the buffer lies in its pages"));
            read(operation, variant, &opened.file, buffer, target(), log, beside)
        }
    };
    if let (Err(Halt::Stuck(Stuck::Deadlock)), Some(Error::Deadlock(circle))) = (&result, mapping.last_error()) {
        log.decide(circle.to_string());
    }
    result
}

/// Runs while everything is written back and evicted, repeatedly.
fn storm(operation: Operation, variant: Variant, each: &mut Each<'_>) -> io::Result<()> {
    for _ in 0..RUNS {
        let world = World::new(1)?;
        let mapping = world.map(0, Pages::Other)?;
        let stop = AtomicBool::new(false);
        let go_on = thread::scope(|scope| {
            // Dropped also where a run panics: the scope waits for the thread.
            let _stopping = Stopping(&stop);
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // A write that fails now can succeed the next time.
                    let _ = world.cache.sync();
                    world.cache.drop_clean();
                    thread::yield_now();
                }
            });
            let mut log = log(&mapping).beside_adversary();
            let result = world.alone(operation, variant, (Pages::Other, During::EvictedAlways), &mapping, &mut log);
            each(log, result)
        });
        if !go_on {
            break;
        }
    }
    Ok(())
}

struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long one thread waits for the other one to have its lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits where the buffer is faulted in under the lock, until the other thread is there, too. Only as found: without the
/// lock there is no such place.
struct Meeting<'a> {
    there: &'a AtomicU32,
    /// A copy has faulted: the next lock is for that.
    faulted: bool,
    met: bool,
}

impl Beside for Meeting<'_> {
    fn copied(&mut self, short: bool) {
        self.faulted |= short;
    }

    fn locked(&mut self) {
        if !self.faulted || std::mem::replace(&mut self.met, true) {
            return;
        }
        self.there.fetch_add(1, Ordering::Relaxed);
        let begin = Instant::now();
        while self.there.load(Ordering::Relaxed) < 2 && begin.elapsed() < PATIENCE {
            thread::yield_now();
        }
    }
}

/// Runs two threads with two files, where each thread's buffer is a mapping of the other's file.
fn two_files(operation: Operation, variant: Variant, each: &mut Each<'_>) -> io::Result<()> {
    for _ in 0..RUNS {
        let world = World::new(2)?;
        let mappings = [world.map(1, Pages::Other)?, world.map(0, Pages::Other)?];
        let there = AtomicU32::new(0);
        let one = |number: usize| {
            let (opened, mapping) = (&world.files[number], &mappings[number]);
            let mut log = log(mapping).beside_adversary();
            let mut meeting =
                Meeting { there: &there, faulted: variant == Variant::Fixed, met: variant == Variant::Fixed };
            let moved = perform(operation, variant, opened, mapping, &mut log, &mut meeting);
            (log, moved)
        };
        let (mut log, first, second) = thread::scope(|scope| {
            let other = scope.spawn(|| {
                let (log, moved) = one(1);
                (log.into_steps(), moved)
            });
            let (mut log, first) = one(0);
            let (steps, second) = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            log.beside(steps);
            (log, first, second)
        });
        let result = world.both(operation, first, second);
        log.decide("(both have ended)");
        if !each(log, result) {
            break;
        }
    }
    Ok(())
}

impl World {
    /// Returns the common result of both, and checks both files.
    fn both(
        &self,
        operation: Operation,
        first: Result<Moved, Halt>,
        second: Result<Moved, Halt>,
    ) -> Result<Ended, Halt> {
        let (first, second) = match (first, second) {
            (Ok(first), Ok(second)) => (first, second),
            (Err(halt @ Halt::Machine(_)), _) | (_, Err(halt @ Halt::Machine(_))) => return Err(halt),
            (Err(halt), _) | (_, Err(halt)) => return Err(halt),
        };
        let range = shown(Pages::Other);
        let check = |number: usize, of_this: usize, of_other: usize| {
            let (mine, others) = (contents(number), contents(1 - number));
            match operation.writes() {
                true => check_file(&self.files[number], mine, target(), &others[range.clone()][..of_this]),
                // The other one has read to a mapping of this one.
                false => check_file(&self.files[number], mine, range.start, &others[target()..][..of_other]),
            }
        };
        let product = check(0, first.done, second.done).and_then(|()| check(1, second.done, first.done));
        let less = if second.done < first.done { second } else { first };
        Ok(less.ended(product))
    }
}
