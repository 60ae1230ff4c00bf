//! Faults that this process resolves, compared with a minimal pager, and reads and writes whose buffer is a mapping of their own
//! file.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;

use faultin::iov::{IovDest, IovSource};
use faultin::map::Rights;
use faultin::{ReadView, WriteView};
use faultin_cache::pager::{AttachError, Mapping, Mode};
use faultin_cache::store::FileStore;
use faultin_cache::{Cache, CacheOptions, CachedFile};
use faultin_test::Random;

use super::case::{Bound, Case};
use super::measure::Bench;
use super::peers::uffd::{self, Watched};
use super::peers::userspace::Paged;
use super::report::{Goal, Row};
use super::sample::{Sampler, around, cold, hot};

const LEAST: &str = "SIGBUS, pread, CONTINUE";
const THREAD: &str = "a thread, pread, CONTINUE";
const PUBLISHED: &str = "userspace-pagefault";
const COPY: &str = "UFFDIO_COPY, 64 KiB";
const CONTINUE: &str = "UFFDIO_CONTINUE, 2 MiB";
const CONTINUE_AGAIN: &str = "the same of pages mapped elsewhere";
const ORDINARY: &str = "an ordinary buffer";

/// Goal: maximum ratio of our time to the peer's.
const RANDOM: f64 = 1.25;
const RANDOM_PUBLISHED: f64 = 0.1;
const SEQUENTIAL: f64 = 3.0;
const FILLED: f64 = 1.3;
const SELF_MAPPED: f64 = 2.0;

const PAGE: usize = 4096;

pub fn run(bench: &mut Bench) -> Result<(), String> {
    if faultin::page_size() != PAGE {
        bench.skip("pager", "pages of 4 KiB, which the peers are written for");
        return Ok(());
    }
    let len = if bench.quick { 4 << 20 } else { 128 << 20 };
    let store = tempfile::tempfile_in("/dev/shm").map_err(|error| format!("a file on /dev/shm: {error}"))?;
    let bytes = vec![7_u8; 1 << 20];
    (0..len).step_by(1 << 20).try_for_each(|_| (&store).write_all(&bytes)).map_err(|error| error.to_string())?;
    let cache = CacheOptions::new().limit(2 * len).build();
    let file = open(&cache, &store)?;
    let pages = len / PAGE;
    // A random order that is the same in each round.
    let sequence: Vec<usize> = (0..pages).collect();
    let mut order = sequence.clone();
    Random::new(1).shuffle(&mut order);
    // One for all modes: the library installs its handler once in a process.
    let published = Mode::ALL
        .iter()
        .any(|mode| bench.wants(&format!("random, some pages, {mode:?}")))
        .then(|| Paged::new(len, &store))
        .transpose()?;
    let minimal = Watched::new(len, true).map_err(|error| error.to_string());
    for mode in Mode::ALL {
        let mapping = match file.map(0..len as u64, Rights::ReadWrite, mode) {
            Ok(mapping) => mapping,
            Err(error @ AttachError::Mode { .. }) => {
                bench.skip(&format!("{mode:?}"), &error.to_string());
                continue;
            }
            Err(error) => return Err(error.to_string()),
        };
        let empty = || cache.drop_clean();
        let touch = |order: &[usize]| order.iter().all(|&page| load(mapping.as_ptr(), page) == 7);
        if let Some(published) = &published {
            random_published(bench, mode, published, &order, empty, touch);
        }
        match (mode, &minimal) {
            (Mode::Thread, _) => random_by_thread(bench, &store, len, &order, empty, touch)?,
            (_, Ok(minimal)) => random_in_signal(bench, mode, &store, minimal, &order, empty, touch),
            (_, Err(missing)) => bench.skip(&format!("random, {mode:?}"), missing),
        }
        let name = format!("sequential, {mode:?}");
        let case = Case::new(name, PAGE, cold(empty, || touch(&sequence))).per(pages);
        match &minimal {
            Ok(minimal) => {
                let bound = (mode == Mode::Signal).then(|| Bound::times(SEQUENTIAL));
                let batch = vec![7; 64 << 10];
                let copy = move || {
                    (0..len).step_by(batch.len()).all(|at| {
                        let copied = minimal.copy(at, &batch);
                        copied && (at / PAGE..(at + batch.len()) / PAGE).all(|page| load(minimal.base(), page) == 7)
                    })
                };
                bench.run(case.peer(COPY, bound, cold(|| minimal.forget(true), copy)));
            }
            Err(_) => bench.run(case),
        }
        drop(mapping);
        filled(bench, &file, &minimal, mode, len)?;
    }
    self_mapped(bench, &file, len)?;
    fresh(bench, len);
    goals(bench);
    Ok(())
}

fn goals(bench: &mut Bench) {
    let rows = &bench.rows;
    let about = |what: &'static str, peer: &'static str, goal: &str, bound: f64| {
        Goal::worst(goal, bound, rows, move |row: &Row| row.name.starts_with(what) && row.peer == peer)
    };
    let goals = [
        about("pager random, 4 KiB, Signal", LEAST, "a random page, against SIGBUS + pread + CONTINUE", RANDOM),
        about(
            "pager random, some pages, Signal",
            PUBLISHED,
            "a random page, against the crate userspace-pagefault",
            RANDOM_PUBLISHED,
        ),
        about("pager sequential, Signal", COPY, "sequential, against UFFDIO_COPY of 64 KiB", SEQUENTIAL),
        about("pager filled, Signal", CONTINUE, "filled pages, against UFFDIO_CONTINUE of 2 MiB", FILLED),
        about(
            "pager self-mapped",
            ORDINARY,
            "a mapping of the file as the buffer, against an ordinary one",
            SELF_MAPPED,
        ),
        about(
            "pager fresh, mapped file",
            "pwrite, tmpfs",
            "fresh writes to a mapped file (at least 0.95x as fast)",
            1.0 / 0.95,
        ),
    ];
    let goals: Vec<Goal> = goals.into_iter().flatten().collect();
    bench.goals.extend(goals);
}

fn open(cache: &Cache, store: &File) -> Result<CachedFile, String> {
    let store = store.try_clone().map_err(|error| error.to_string())?;
    FileStore::new(store).and_then(|store| cache.open(store)).map_err(|error| error.to_string())
}

/// Loads the first byte of a page by a plain load.
fn load(base: *mut u8, page: usize) -> u8 {
    // SAFETY: within a mapping whose faults are resolved.
    unsafe { base.add(page * PAGE).read_volatile() }
}

fn random_in_signal<'a>(
    bench: &mut Bench,
    mode: Mode,
    store: &'a File,
    minimal: &'a Watched,
    order: &'a [usize],
    empty: impl FnMut() + 'a,
    touch: impl Fn(&[usize]) -> bool + 'a,
) {
    let handler = uffd::handler();
    let least: Sampler<'_> =
        cold(|| minimal.forget(true), || order.iter().all(|&page| load(minimal.base(), page) == 7));
    let prepared = || {
        minimal.serve(store);
        handler.install();
    };
    let least = around(prepared, least, || handler.restore());
    let bound = (mode == Mode::Signal).then(|| Bound::times(RANDOM));
    let case = Case::new(format!("random, 4 KiB, {mode:?}"), PAGE, cold(empty, move || touch(order)));
    bench.run(case.per(order.len()).peer(LEAST, bound, least));
}

fn random_by_thread<'a>(
    bench: &mut Bench,
    store: &'a File,
    len: usize,
    order: &'a [usize],
    empty: impl FnMut() + 'a,
    touch: impl Fn(&[usize]) -> bool + 'a,
) -> Result<(), String> {
    let watched = Watched::new(len, false).map_err(|error| error.to_string())?;
    let _serving = watched.serve_by_thread(store);
    // A wake-up each: fewer of them suffice.
    let some = &order[..order.len() / 16];
    let case = Case::new("random, 4 KiB, Thread", PAGE, cold(empty, move || touch(some))).per(some.len());
    let least = cold(|| watched.forget(true), || some.iter().all(|&page| load(watched.base(), page) == 7));
    bench.run(case.peer(THREAD, None, least));
    Ok(())
}

/// Compares with a pager from the registry, which has one process-wide handler and one thread.
fn random_published<'a>(
    bench: &mut Bench,
    mode: Mode,
    published: &'a Paged,
    order: &'a [usize],
    empty: impl FnMut() + 'a,
    touch: impl Fn(&[usize]) -> bool + 'a,
) {
    let some = &order[..order.len() / 16];
    let base = published.base();
    let theirs = cold(|| published.forget(), move || some.iter().all(|&page| load(base, page) == 7));
    let theirs = around(|| published.handler().install(), theirs, || published.handler().restore());
    let bound = (mode == Mode::Signal).then(|| Bound::times(RANDOM_PUBLISHED));
    let case = Case::new(format!("random, some pages, {mode:?}"), PAGE, cold(empty, move || touch(some)));
    bench.run(case.per(some.len()).peer(PUBLISHED, bound, theirs));
}

/// Measures pages that are in the cache, and only have to be mapped.
fn filled(
    bench: &mut Bench,
    file: &CachedFile,
    minimal: &Result<Watched, String>,
    mode: Mode,
    len: usize,
) -> Result<(), String> {
    let name = format!("filled, {mode:?}");
    if !bench.wants(&name) {
        return Ok(());
    }
    file.will_need(0..len as u64).map_err(|error| error.to_string())?;
    let pages = len / PAGE;
    let mapping: RefCell<Option<Mapping>> = RefCell::new(None);
    let again = || {
        mapping.replace(None);
        mapping.replace(file.map(0..len as u64, Rights::ReadWrite, mode).ok());
    };
    let touch = || {
        let mapping = mapping.borrow();
        mapping.as_ref().is_some_and(|mapping| (0..pages).all(|page| load(mapping.as_ptr(), page) == 7))
    };
    let case = Case::new(name, PAGE, cold(again, touch)).per(pages);
    let Ok(minimal) = minimal else {
        bench.run(case);
        return Ok(());
    };
    // A page's first mapping costs the kernel more than another one. Our files have no second mapping; a pager that fills
    // pages through one does.
    minimal.fill(7, false);
    let elsewhere = Watched::new(len, true).map_err(|error| error.to_string())?;
    elsewhere.fill(7, true);
    const BATCH: usize = 2 << 20;
    let map = |watched: &Watched| {
        (0..len).step_by(BATCH).all(|at| {
            let pages = at / PAGE..(at + BATCH) / PAGE;
            watched.map(at, BATCH) && pages.into_iter().all(|page| load(watched.base(), page) == 7)
        })
    };
    let bound = (mode == Mode::Signal).then(|| Bound::times(FILLED));
    let case = case.peer(CONTINUE, bound, cold(|| minimal.forget(false), || map(minimal)));
    bench.run(case.peer(CONTINUE_AGAIN, None, cold(|| elsewhere.forget(false), || map(&elsewhere))));
    Ok(())
}

/// Writes half of the file from, and reads it to, a mapping of the other half, of which no page is mapped at first.
fn self_mapped(bench: &mut Bench, file: &CachedFile, len: usize) -> Result<(), String> {
    if !bench.wants("self-mapped") {
        return Ok(());
    }
    file.will_need(0..len as u64).map_err(|error| error.to_string())?;
    let half = len / 2;
    let mode = if file.map(0..1, Rights::Read, Mode::Signal).is_ok() { Mode::Signal } else { Mode::Mprotect };
    // As large as the mapping, and each part of it used once, too: otherwise it would stay in the CPU's caches.
    let mut buffer = vec![7_u8; half];
    for (name, size) in [("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        // SAFETY: a buffer that exists long enough, and is used by one call at a time.
        let (source, dest) =
            unsafe { (ReadView::new(buffer.as_ptr(), half), WriteView::new(buffer.as_mut_ptr(), half)) };
        let (source, dest) = (source.map_err(|error| error.to_string())?, dest.map_err(|error| error.to_string())?);
        let steps = move || (0..half).step_by(size);
        let mapping: RefCell<Option<Mapping>> = RefCell::new(None);
        let again = || {
            mapping.replace(None);
            mapping.replace(file.map(half as u64..len as u64, Rights::ReadWrite, mode).ok());
        };
        let write = |view: ReadView<'_>, at: usize| {
            file.write_iter(&mut IovSource::one(view), at as u64).is_ok_and(|count| count == size)
        };
        let read = |view: WriteView<'_>, at: usize| {
            file.read_iter(&mut IovDest::one(view), at as u64).is_ok_and(|count| count == size)
        };
        let write_all =
            |view: ReadView<'_>| steps().all(|at| view.subslice(at..at + size).is_some_and(|view| write(view, at)));
        let read_all =
            |view: WriteView<'_>| steps().all(|at| view.subslice(at..at + size).is_some_and(|view| read(view, at)));
        let write_mapped = || {
            let mapping = mapping.borrow();
            mapping.as_ref().and_then(|mapping| mapping.read_view().ok()).is_some_and(write_all)
        };
        let read_mapped = || {
            let mapping = mapping.borrow();
            mapping.as_ref().and_then(|mapping| mapping.write_view().ok()).is_some_and(read_all)
        };
        let per = half / size;
        let bound = Some(Bound::times(SELF_MAPPED));
        let case = Case::new(format!("self-mapped write, {name}"), size, cold(again, write_mapped)).per(per);
        bench.run(case.peer(ORDINARY, bound, hot(|| write_all(source))));
        let case = Case::new(format!("self-mapped read, {name}"), size, cold(again, read_mapped)).per(per);
        bench.run(case.peer(ORDINARY, bound, hot(|| read_all(dest))));
    }
    Ok(())
}

/// Measures new files with a mapping, whose memory mappings share.
fn fresh(bench: &mut Bench, len: usize) {
    use std::os::unix::fs::FileExt;
    for (name, size) in [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        let buffer = vec![7_u8; size];
        let cache = CacheOptions::new().limit(2 * len).build();
        let ours = || {
            let file = cache.open(faultin_cache::store::MemoryStore::new([])).ok()?;
            let mapping = file.map(0..len as u64, Rights::ReadWrite, Mode::Mprotect).ok()?;
            let written = (0..len).step_by(size).all(|at| file.write_at(&buffer, at as u64).is_ok_and(|n| n == size));
            // Truncating a file before it is closed corresponds to unlinking it in the kernel.
            (written && file.set_len(0).is_ok() && !mapping.is_empty()).then_some(())
        };
        let kernel = || {
            let file = tempfile::tempfile_in("/dev/shm").ok()?;
            (0..len).step_by(size).all(|at| file.write_at(&buffer, at as u64).is_ok_and(|n| n == size)).then_some(())
        };
        bench.run(
            Case::new(format!("fresh, mapped file, {name}"), size, hot(|| ours().is_some())).per(len / size).peer(
                "pwrite, tmpfs",
                Some(Bound::times(1.0 / 0.95)),
                hot(|| kernel().is_some()),
            ),
        );
    }
}
