//! Mapped files: the cost of errors, compared with a raw mapping, which has none, and with reading.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use faultin::{FileMap, MapOptions, map::Watch};
use faultin_test::Random;
use memmap2::Mmap;
use tempfile::NamedTempFile;

use super::case::{Bound, Case};
use super::measure::Bench;
use super::report::{Goal, Row};
use super::sample::{Sampler, hot};

const RAW: &str = "raw mapping";
/// The end of the name of what is measured without a check of the file.
const STABLE: &str = ", stable";
const MEMCHR: &str = "memchr crate, raw";
const STATX: &str = "four statx calls";
const PREADS: [(&str, usize); 3] = [("pread 64 KiB", 64 << 10), ("pread 256 KiB", 256 << 10), ("pread 1 MiB", 1 << 20)];

/// Goal: maximum ratio of searches in half of the L2 cache without a check of the file, and of lines, which are copies, to
/// only finding bytes in the raw mapping.
const FIND_SMALL: f64 = 1.1;
const LINES: f64 = 1.5;

/// Not in the files: no line has a capital letter.
const NEEDLE: &[u8] = b"somebody Else's data";

/// The folders, by name.
fn folders() -> Vec<(&'static str, PathBuf)> {
    vec![("tmpfs", PathBuf::from("/dev/shm")), ("root", std::env::temp_dir())]
}

pub fn run(bench: &mut Bench) -> Result<(), String> {
    let (large, small) = if bench.quick { (4 << 20, 64 << 10) } else { (1 << 30, second_cache() / 2) };
    for (place, folder) in folders() {
        for (kind, len) in [("1 GiB", large), ("L2", small)] {
            let file = match text(&folder, len) {
                Ok(file) => file,
                Err(error) => {
                    bench.skip(&format!("{place}, {kind}"), &format!("{}: {error}", folder.display()));
                    continue;
                }
            };
            one_file(bench, &format!("{place} {kind}"), file.path(), len)?;
        }
    }
    if bench.wants("cut") {
        let signals = signals_of_a_cut().map_err(|error| format!("cutting a file: {error}"))?;
        bench.goals.push(signals);
    }
    let rows = &bench.rows;
    let against = |what: &str, peer: &str, goal: &str, bound: f64| {
        let (what, peer) = (what.to_owned(), peer.to_owned());
        let counts = move |row: &Row| row.name.contains(&what) && row.peer == peer && row.size >= 1 << 20;
        Goal::worst(goal, bound, rows, counts)
    };
    let small = |what: &'static str, goal: &str, bound: f64| {
        Goal::worst(goal, bound, rows, move |row: &Row| {
            row.name.contains(what) && row.name.ends_with(STABLE) && row.peer == MEMCHR
        })
    };
    let slice = Goal::not_slower("sum over a slice of an L2-sized file, raw mapping (interval from)", rows, |row| {
        row.name.contains("sum, with_slice") && row.size < 1 << 20
    });
    let entry = Goal::worst("entry and exit of a slice, four statx", 1.0, rows, |row| row.peer == STATX);
    let goals = [
        against("sum, chunks", RAW, "sum in chunks, raw mapping", 1.2),
        against("sum, chunks", "best pread", "sum in chunks, best pread loop (at least 1.3x faster)", 1.0 / 1.3),
        against("find byte", MEMCHR, "find a byte, memchr crate", 1.05),
        against("find string", MEMCHR, "find a string, memchr crate", 1.05),
        against("count byte", MEMCHR, "count a byte, memchr crate", 1.05),
        against("lines", MEMCHR, "lines, as copies, memchr crate finding their ends", LINES),
        small("lines", "lines of half of the L2 cache, Watch::Nothing, likewise", LINES),
        small("find byte", "find a byte in half of the L2 cache, Watch::Nothing, memchr crate", FIND_SMALL),
        small("find string", "find a string there, memchr crate", FIND_SMALL),
        against("faultin sum", "b3sum", "faultin sum, b3sum", 1.0),
    ];
    let goals: Vec<Goal> = goals.into_iter().chain([slice, entry]).flatten().collect();
    bench.goals.extend(goals);
    Ok(())
}

/// The cost of a truncation for a reader.
fn signals_of_a_cut() -> std::io::Result<Goal> {
    let len = 64 << 20;
    let file = text(&std::env::temp_dir(), len)?;
    let map = FileMap::open(file.path())?;
    let before = faultin::signal::counters().substituted;
    // SAFETY: sums are right for any bytes.
    let result = unsafe {
        map.with_slice(.., |bytes| {
            let first = sum(&bytes[..len / 4]);
            file.as_file().set_len(len as u64 / 2 + 100).map(|()| first.wrapping_add(sum(&bytes[len / 4..])))
        })
    };
    let Err(damaged) = result else { return Err(std::io::Error::other("nobody noticed")) };
    let figure = (faultin::signal::counters().substituted - before) as f64;
    let first = damaged.first_bad.unwrap_or(0);
    Ok(Goal {
        bench: "",
        goal: "signals of a file that is cut while a slice of it is summed".to_owned(),
        bound: 1.0,
        figure,
        met: figure <= 1.0,
        interval: None,
        detail: format!("of {} pages, from byte {first} on", (len as u64 - first) / faultin::page_size() as u64),
    })
}

/// Measures everything about one file.
fn one_file(bench: &mut Bench, name: &str, path: &Path, len: usize) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| format!("{name}: {error}");
    let file = File::open(path).map_err(|error| said(&error))?;
    let map = MapOptions::new().populate(true).open(path).map_err(|error| said(&error))?;
    // SAFETY: nothing changes the file.
    let raw = unsafe { memmap2::MmapOptions::new().populate().map(&file) }.map_err(|error| said(&error))?;
    let expected = sum(&raw);
    // The first passes over new mappings are slower, whichever code makes them.
    for _ in 0..3 {
        black_box((sum(&raw), chunks(&map)));
    }

    let mut case = Case::new(format!("sum, chunks, {name}"), len, hot(|| chunks(&map) == Some(expected))).peer(
        RAW,
        None,
        hot(|| sum(&raw) == expected),
    );
    case = preads(case, &file, expected);
    bench.run(case.better_of("best pread", &PREADS.map(|(name, _)| name), None));

    slices(bench, name, &map, &raw, expected);
    searches(bench, name, &map, &raw);
    if len < 1 << 20 {
        // Where the check of the file is a large part of the whole: without it, too.
        let stable = MapOptions::new().watch(Watch::Nothing).populate(true).open(path).map_err(|error| said(&error))?;
        searches(bench, &format!("{name}{STABLE}"), &stable, &raw);
    }

    let hash = blake3::hash(&raw);
    bench.run(
        Case::new(
            format!("BLAKE3, chunks of 64 KiB, {name}"),
            len,
            hot(|| {
                let mut hasher = blake3::Hasher::new();
                let hashed = map.chunks(..).of(64 << 10).for_each(|chunk| {
                    hasher.update(chunk);
                });
                hashed.is_ok() && hasher.finalize() == hash
            }),
        )
        .peer(RAW, None, hot(|| blake3::hash(&raw) == hash)),
    );
    threads(bench, name, &map, &raw, expected);
    programs(bench, name, path, len);
    small_reads(bench, name, path, &raw)
}

/// Measures the same code over a slice of the map and over the raw mapping.
fn slices(bench: &mut Bench, name: &str, map: &FileMap, raw: &Mmap, expected: u64) {
    let len = raw.len();
    // Of a small file many times, because begin and end have a separate row.
    let passes = if len < 1 << 20 { 1024 } else { 1 };
    let loops = move |bytes: &[u8]| (0..passes).all(|_| sum(black_box(bytes)) == expected);
    // SAFETY: sums are right for any bytes.
    let ours = move || unsafe { map.with_slice(.., loops) }.unwrap_or(false);
    bench.run(Case::new(format!("sum, with_slice, {name}"), len, hot(ours)).per(passes).peer(
        RAW,
        None,
        hot(move || loops(raw)),
    ));
    let hash = blake3::hash(raw);
    let hashes = move |bytes: &[u8]| (0..passes).all(|_| blake3::hash(black_box(bytes)) == hash);
    // SAFETY: hashes of changing bytes are merely wrong hashes.
    let ours = move || unsafe { map.with_slice(.., hashes) }.unwrap_or(false);
    bench.run(Case::new(format!("BLAKE3, with_slice, {name}"), len, hot(ours)).per(passes).peer(
        RAW,
        None,
        hot(move || hashes(raw)),
    ));
    if len < 1 << 20 {
        // SAFETY: only the length is used.
        let ours = move || unsafe { map.with_slice(.., <[u8]>::len) }.is_ok_and(|n| n == len);
        let asked = move || map.file().metadata().is_ok_and(|metadata| metadata.len() == len as u64);
        bench.run(Case::new(format!("with_slice, entry and exit, {name}"), len, hot(ours)).peer(
            STATX,
            Some(Bound::times(1.0)),
            hot(move || (0..4).all(|_| asked())),
        ));
    }
}

fn searches(bench: &mut Bench, name: &str, map: &FileMap, raw: &Mmap) {
    let len = raw.len();
    // Of a small file, the check afterwards is not part of the search.
    let small = name.ends_with(STABLE);
    let bound = (small || len >= 1 << 20).then(|| Bound::times(if small { FIND_SMALL } else { 1.05 }));
    let lines = memchr::memchr_iter(b'\n', raw).count() as u64;
    bench.run(Case::new(format!("find byte, {name}"), len, hot(|| matches!(map.find_any([b'!'], ..), Ok(None)))).peer(
        MEMCHR,
        bound,
        hot(|| memchr::memchr(b'!', black_box(raw)).is_none()),
    ));
    let finder = memchr::memmem::Finder::new(NEEDLE);
    bench.run(Case::new(format!("find string, {name}"), len, hot(|| matches!(map.find(NEEDLE, ..), Ok(None)))).peer(
        MEMCHR,
        bound,
        hot(|| finder.find(black_box(raw)).is_none()),
    ));
    bench.run(
        Case::new(
            format!("count byte, {name}"),
            len,
            hot(|| map.count_byte(b'\n', ..).is_ok_and(|count| count == lines)),
        )
        .peer(MEMCHR, bound, hot(|| memchr::memchr_iter(b'\n', black_box(raw)).count() as u64 == lines)),
    );
    let walk = move || {
        let (mut found, mut lines_of) = (0, map.lines(..));
        loop {
            match lines_of.next_line() {
                Ok(Some(_)) => found += 1,
                Ok(None) => return found == lines,
                Err(_) => return false,
            }
        }
    };
    let bound = (small || len >= 1 << 20).then(|| Bound::times(LINES));
    bench.run(Case::new(format!("lines, {name}"), len, hot(walk)).peer(
        MEMCHR,
        bound,
        hot(|| memchr::memchr_iter(b'\n', black_box(raw)).fold(0, |n, at| n + u64::from(at < len)) == lines),
    ));
}

/// Eight threads in one map, each with its eighth.
fn threads(bench: &mut Bench, name: &str, map: &FileMap, raw: &Mmap, expected: u64) {
    const THREADS: usize = 8;
    let len = raw.len();
    if len < 1 << 20 {
        return;
    }
    let split = |part: &(dyn Fn(usize, usize) -> Option<u64> + Sync)| {
        let ends: Vec<usize> = (0..=THREADS).map(|i| len / THREADS * i).collect();
        std::thread::scope(|scope| {
            let parts: Vec<_> =
                ends.windows(2).map(|w| (w[0], w[1])).map(|(a, b)| scope.spawn(move || part(a, b))).collect();
            parts
                .into_iter()
                .map(|part| part.join().ok().flatten())
                .try_fold(0_u64, |sum, part| Some(sum.wrapping_add(part?)))
        })
    };
    let ours = move || {
        split(&|from, to| {
            let mut total = 0_u64;
            let range = from as u64..to as u64;
            map.chunks(range).for_each(|chunk| total = total.wrapping_add(sum(chunk))).ok().map(|_| total)
        }) == Some(expected)
    };
    let theirs = move || split(&|from, to| Some(sum(&raw[from..to]))) == Some(expected);
    bench.run(Case::new(format!("eight threads, chunks, {name}"), len, hot(ours)).peer(RAW, None, hot(theirs)));
}

/// Compares the command with `b3sum`, whose interface it has.
fn programs(bench: &mut Bench, name: &str, path: &Path, len: usize) {
    if len < 1 << 20 {
        return;
    }
    let name = format!("faultin sum, {name}");
    if !bench.wants(&name) {
        return;
    }
    let starts = |program: &mut Command| {
        program.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    let ours = match std::env::current_exe() {
        Ok(ours) if starts(&mut Command::new(&ours)) => ours,
        _ => return bench.skip(&name, "this program cannot start itself"),
    };
    if !starts(&mut Command::new("b3sum")) {
        return bench.skip(&name, "b3sum (cargo install b3sum) is not on the path");
    }
    let succeeds = |command: &mut Command| command.arg(path).stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    let ours = move || succeeds(Command::new(&ours).arg("sum"));
    let theirs = move || succeeds(&mut Command::new("b3sum"));
    bench.run(Case::new(name, len, hot(ours)).peer("b3sum", Some(Bound::times(1.0)), hot(theirs)));
}

/// Measures the cost of one operation, whatever its size.
fn small_reads(bench: &mut Bench, name: &str, path: &Path, raw: &Mmap) -> Result<(), String> {
    for (watch, kind) in [(Watch::Reader, "watched"), (Watch::Nothing, "stable")] {
        let map = MapOptions::new().watch(watch).populate(true).open(path).map_err(|error| error.to_string())?;
        let file = File::open(path).map_err(|error| error.to_string())?;
        for size in [8, 64, 4096] {
            let (map, file, at) = (&map, &file, 4096.min(raw.len() - size));
            let bytes = &raw[at..at + size];
            let mut ours = vec![0; size];
            let mut theirs = vec![0; size];
            let mut copy = vec![0; size];
            let case = Case::new(
                format!("read_at {kind}, {name}"),
                size,
                hot(move || map.read_at(black_box(&mut ours), black_box(at as u64)).is_ok_and(|n| n == size)),
            )
            .peer("pread", None, hot(move || file.read_at(black_box(&mut theirs), at as u64).is_ok_and(|n| n == size)))
            .peer(
                RAW,
                None,
                hot(move || {
                    black_box(&mut copy).copy_from_slice(black_box(bytes));
                    copy.len() == size
                }),
            );
            bench.run(case);
        }
    }
    Ok(())
}

fn preads<'a>(mut case: Case<'a>, file: &'a File, expected: u64) -> Case<'a> {
    for (name, size) in PREADS {
        let mut buffer = vec![0; size];
        let sampler: Sampler<'a> = hot(move || {
            let (mut at, mut total) = (0, 0_u64);
            loop {
                match file.read_at(&mut buffer, at) {
                    Ok(0) => return total == expected,
                    Ok(read) => {
                        total = sum(&buffer[..read]).wrapping_add(total);
                        at += read as u64;
                    }
                    Err(_) => return false,
                }
            }
        });
        case = case.peer(name, None, sampler);
    }
    case
}

/// The loop of all competitors: as fast as memory is, and it reads each byte.
#[inline(never)]
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    words
        .iter()
        .fold(rest.iter().map(|&b| u64::from(b)).sum(), |sum: u64, &word| sum.wrapping_add(u64::from_le_bytes(word)))
}

fn chunks(map: &FileMap) -> Option<u64> {
    let mut total: u64 = 0;
    map.chunks(..).for_each(|chunk| total = total.wrapping_add(sum(chunk))).ok().map(|_| total)
}

/// Makes lines of text, without capital letters.
fn text(folder: &Path, len: usize) -> std::io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("faultin-bench").tempfile_in(folder)?;
    let random = Random::new(88_172_645_463_325_252);
    let block: Vec<u8> = (0..1 << 20)
        .map(|_| match random.below(64) {
            0 => b'\n',
            1..=10 => b' ',
            letter => b'a' + (letter % 26) as u8,
        })
        .collect();
    let mut left = len;
    while left > 0 {
        let part = left.min(block.len());
        file.write_all(&block[..part])?;
        left -= part;
    }
    // A last line that ends like the others.
    file.as_file().write_all_at(b"\n", len as u64 - 1)?;
    // Written back now, and not during the measurement.
    file.as_file().sync_all()?;
    Ok(file)
}

/// Returns the size of the L2 cache in bytes, as the C library reports it; 1 MiB if it does not.
pub fn second_cache() -> usize {
    // SAFETY: returns a number.
    let size = unsafe { libc::sysconf(libc::_SC_LEVEL2_CACHE_SIZE) };
    usize::try_from(size).ok().filter(|&size| size > 0).unwrap_or(1 << 20)
}
