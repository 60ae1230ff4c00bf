//! How fast objects are read, as ratios to a bare client of `object_store` in the same run: `cargo bench -p faultin-store --bench
//! stores`. The server and the proxy, which delays each request by 20 ms, are another process on this machine. Rounds of both
//! sides alternate; figures are medians of rounds, with the quartiles. Arguments choose sections: `open`, `hits`, `disk`, `scan`,
//! `random`; `--short` makes them short. The exit status is 1 if a ratio misses its bound.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use faultin::map::Rights;
use faultin_cache::pager::Mode;
use faultin_cache::store::FileStore;
use faultin_cache::{CacheOptions, CachedFile};
use faultin_store::disk::Disk;
use faultin_store::object_store::path::Path;
use faultin_store::object_store::{ObjectStore, ObjectStoreExt};
use faultin_store::{Object, Store, StoreOptions};
use faultin_store_test::{Fault, Proxy, Server, environment};
use futures_util::{StreamExt, TryStreamExt, stream};

const URL: &str = "s3://bucket/data";
const DELAY: Duration = Duration::from_millis(20);
/// Requests at the same time, and their length, of both sides.
const REQUESTS: usize = 16;
const LENGTH: usize = 1 << 20;
/// Random ranges: their length, and how many are under way.
const RANGE: usize = 64 << 10;
const IN_FLIGHT: usize = 32;
const CACHE: usize = 32 << 20;
const MEMORY: usize = 48 << 20;

/// The server's process.
struct Far {
    child: Child,
    variables: Vec<(String, String)>,
}

impl Far {
    fn start(bytes: usize) -> Far {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .env("FAULTIN_STORES_SERVE", bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let variables = lines.take_while(|line| line != "ready").filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        let variables = variables.collect();
        Far { child, variables }
    }

    /// Opens the object with a store and a cache of its own.
    fn open(&self) -> (Object, CachedFile) {
        cached(&self.options())
    }

    fn options(&self) -> StoreOptions {
        let options = StoreOptions::new().requests(REQUESTS).request_bytes(LENGTH).memory(MEMORY);
        self.variables.iter().fold(options, |options, (name, value)| options.config(name, value))
    }
}

fn cached(options: &StoreOptions) -> (Object, CachedFile) {
    let object = options.clone().build().expect("a store").open(URL).expect("an object");
    let file = CacheOptions::new().limit(CACHE).build().open(object.clone()).expect("a file");
    (object, file)
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until the parent ends.
fn serve(bytes: usize) {
    let server = Server::start().expect("a server");
    server.put("bucket/data", pattern(bytes));
    let proxy = Proxy::start(server.address(), |_| Fault::delay(DELAY)).expect("a proxy");
    environment(proxy.address()).iter().for_each(|(name, value)| println!("{name}={value}"));
    println!("ready");
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len / 8).flat_map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect()
}

/// The bounds that were missed.
#[derive(Default)]
struct Missed(Vec<String>);

impl Missed {
    fn at_least(&mut self, what: &str, value: f64, bound: f64) {
        self.check(what, value, value >= bound, &format!("at least {bound:.2}"));
    }

    fn at_most(&mut self, what: &str, value: f64, bound: f64) {
        self.check(what, value, value <= bound, &format!("at most {bound:.2}"));
    }

    fn check(&mut self, what: &str, value: f64, holds: bool, bound: &str) {
        if !holds {
            self.0.push(format!("{what}: {value:.2}, and not {bound}"));
        }
    }
}

/// The medians of rounds, by name; the first one is what the others are compared with.
#[derive(Default)]
struct Rounds(BTreeMap<&'static str, Vec<f64>>);

impl Rounds {
    fn add(&mut self, name: &'static str, rate: f64) {
        self.0.entry(name).or_default().push(rate);
    }

    /// Returns the value at a part of the sorted rates.
    fn at(&self, name: &str, part: f64) -> f64 {
        let mut rates = self.0[name].clone();
        rates.sort_by(f64::total_cmp);
        let at = (rates.len() - 1) as f64 * part;
        let (low, high) = (rates[at.floor() as usize], rates[at.ceil() as usize]);
        low + (high - low) * at.fract()
    }

    /// Returns the ratio of the medians.
    fn ratio(&self, name: &str, base: &str) -> f64 {
        self.at(name, 0.5) / self.at(base, 0.5)
    }

    fn print(&self, base: &str, unit: &str) {
        for name in self.0.keys() {
            let [low, median, high] = [0.25, 0.5, 0.75].map(|part| self.at(name, part));
            let ratio = self.ratio(name, base);
            println!("  {name:<34} {median:>10.1} {unit} ({low:.1} to {high:.1})  {ratio:.2} of {base}");
        }
    }
}

/// The bytes of this process in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) << 10
}

/// Runs a closure, and returns its result and the highest number of bytes in memory meanwhile.
fn with_peak<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let (is_over, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(resident())));
    let watcher = {
        let (is_over, peak) = (Arc::clone(&is_over), Arc::clone(&peak));
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                peak.fetch_max(resident(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        })
    };
    let result = run();
    is_over.store(true, Ordering::Relaxed);
    let _ = watcher.join();
    (result, peak.load(Ordering::Relaxed))
}

/// A client of `object_store` alone, with connections of the same kind.
struct Bare {
    runtime: tokio::runtime::Runtime,
    store: Arc<dyn ObjectStore>,
    path: Path,
}

impl Bare {
    fn new(far: &Far) -> (Bare, Store) {
        let store = far.options().build().expect("a store");
        let (backend, path) = store.backend(URL).expect("a bucket");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        (Bare { runtime, store: backend, path }, store)
    }

    /// Reads the ranges in order, `at_once` of them at the same time. Returns the sum of their first bytes.
    fn read(&self, ranges: Vec<(u64, usize)>, at_once: usize) -> u64 {
        self.runtime.block_on(async {
            stream::iter(ranges)
                .map(|(pos, len)| async move { self.store.get_range(&self.path, pos..pos + len as u64).await })
                .buffered(at_once)
                .try_fold(0, |sum, bytes| async move { Ok(sum + u64::from(bytes[0])) })
                .await
                .expect("a read")
        })
    }
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let begun = Instant::now();
    let result = run();
    (result, begun.elapsed().as_secs_f64())
}

fn scans(missed: &mut Missed, far: &Far, bytes: usize, rounds: usize) {
    println!("scan of {} MiB, {REQUESTS} requests of {} KiB at the same time", bytes >> 20, LENGTH >> 10);
    let (bare, _keep) = Bare::new(far);
    let mut results = Rounds::default();
    let ranges: Vec<_> = (0..bytes / LENGTH).map(|at| ((at * LENGTH) as u64, LENGTH)).collect();
    let mib = bytes as f64 / (1 << 20) as f64;
    let (mut requests, mut most) = (0, 0);
    for _ in 0..rounds {
        results.add("bare", mib / timed(|| bare.read(ranges.clone(), REQUESTS)).1);
        let mut buffer = vec![0; LENGTH];
        let (object, file) = far.open();
        let scan = || {
            (0..bytes / LENGTH).for_each(|at| file.read_exact_at(&mut buffer, (at * LENGTH) as u64).expect("a read"))
        };
        let before = resident();
        let (((), time), peak) = with_peak(|| timed(scan));
        results.add("cache, one thread", mib / time);
        most = most.max(peak.saturating_sub(before));
        requests = object.stats().requests;
        for (name, mode) in [("mapping, signal", Mode::Signal), ("mapping, mprotect", Mode::Mprotect)] {
            let (_, file) = far.open();
            if let Ok(map) = file.map(0..bytes as u64, Rights::Read, mode) {
                results.add(name, mib / timed(|| scan_mapping(&map, &mut buffer[..RANGE])).1);
            }
        }
    }
    results.print("bare", "MiB/s");
    print_memory(missed, "memory of a scan", most);
    for (name, bound) in [("cache, one thread", 0.9), ("mapping, signal", 0.7), ("mapping, mprotect", 0.7)] {
        if results.0.contains_key(name) {
            missed.at_least(&format!("scan, {name}"), results.ratio(name, "bare"), bound);
        }
    }
    println!("  requests of the cache: {:.0} for 1 GB", requests as f64 * 1e9 / bytes as f64);
}

fn print_memory(missed: &mut Missed, what: &str, most: u64) {
    let limit = (CACHE + MEMORY) as u64;
    let ratio = most as f64 / limit as f64;
    println!("  {what}: {} MiB at most, {ratio:.2} of the limits' {} MiB", most >> 20, limit >> 20);
    missed.at_most(what, ratio, 1.05);
}

fn scan_mapping(map: &faultin_cache::pager::Mapping, buffer: &mut [u8]) {
    let view = map.read_view().expect("a view");
    let mut done = 0;
    while let Some(left) = NonZeroUsize::new(buffer.len().min(view.len() - done)) {
        let got = view.read(&mut buffer[..left.get()], done).map_or_else(|short| short.done, |()| left.get());
        if got == 0 {
            view.fault_in(done, left).expect("a page");
        }
        done += got;
    }
}

/// Positions in no order.
fn positions(bytes: usize, count: usize, unit: usize, seed: u64) -> Vec<u64> {
    let units = ((bytes - RANGE) / unit) as u64;
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % units * unit as u64
    };
    (0..count).map(next).collect()
}

fn random(missed: &mut Missed, far: &Far, bytes: usize, count: usize, rounds: usize) {
    println!("{count} ranges of {} KiB in no order, {IN_FLIGHT} at the same time", RANGE >> 10);
    let (bare, _keep) = Bare::new(far);
    let mut results = Rounds::default();
    let mut most = 0;
    let mut cost = BTreeMap::new();
    for round in 0..rounds {
        for (unit, names) in [(RANGE, ["bare", "cache"]), (4096, ["bare, not aligned", "cache, not aligned"])] {
            let all = positions(bytes, count / rounds / 2, unit, round as u64 + 1);
            let ranges = all.iter().map(|&pos| (pos, RANGE)).collect();
            results.add(names[0], all.len() as f64 / timed(|| bare.read(ranges, IN_FLIGHT)).1);
            let before = resident();
            let (object, file) = cached(&far.options().requests(IN_FLIGHT));
            let (time, peak) = with_peak(|| timed(|| read_random(&file, &all)).1);
            results.add(names[1], all.len() as f64 / time);
            let (stats, wanted) = (object.stats(), all.len() as f64);
            let figures = (stats.requests as f64 / wanted, stats.received as f64 / wanted / RANGE as f64);
            cost.insert(names[1], figures);
            most = most.max(peak.saturating_sub(before));
        }
    }
    results.print("bare", "a second");
    for (name, (requests, bytes)) in cost {
        println!("  {name}: {requests:.2} requests a range, {bytes:.2} of its bytes");
    }
    print_memory(missed, "memory", most);
    missed.at_least("random ranges", results.ratio("cache", "bare"), 0.9);
}

fn read_random(file: &CachedFile, all: &[u64]) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..IN_FLIGHT {
            scope.spawn(|| {
                let mut buffer = vec![0; RANGE];
                while let Some(&pos) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    file.read_exact_at(&mut buffer, pos).expect("a read");
                }
            });
        }
    });
}

fn disk(missed: &mut Missed, far: &Far, rounds: usize) {
    const BYTES: usize = 64 << 20;
    println!("blocks of {} KiB from the disk tier, all in the kernel's memory", RANGE >> 10);
    let folder = tempfile::tempdir().expect("a folder");
    let tier = Arc::new(Disk::open(folder.path().join("tier"), 256 << 20).expect("a disk tier"));
    let plain = File::options().read(true).write(true).create_new(true).open(folder.path().join("file"));
    let plain = plain.expect("a file");
    // As the tier writes its blocks: so the kernel has both in pieces of the same size.
    for (at, block) in pattern(BYTES).chunks(RANGE).enumerate() {
        plain.write_all_at(block, (at * RANGE) as u64).expect("a write");
    }
    let options = || far.options().disk(Arc::clone(&tier));
    // The tier takes what it can without making anything wait: what it could not comes in another pass.
    loop {
        let fill = options().build().expect("a store").open(URL).expect("an object");
        let mut buffer = vec![0; LENGTH];
        for at in 0..BYTES / LENGTH {
            assert_eq!(fill.read(&mut buffer, (at * LENGTH) as u64).expect("a read"), LENGTH);
            thread::sleep(Duration::from_millis(5));
        }
        assert!(tier.flush(Duration::from_secs(60)));
        if fill.stats().misses == 0 {
            break;
        }
    }
    // What is not yet written would be written in the middle of the rounds.
    rustix::fs::sync();
    let mut results = Rounds::default();
    let mut block = vec![0; RANGE];
    for round in 0..rounds {
        let object = options().build().expect("a store").open(URL).expect("an object").with_read_ahead(false);
        let before = object.stats();
        // The first block has come with the opening. Pieces are short, so that other programs run between them.
        let order: Vec<u64> = positions(BYTES, 1024, RANGE, round as u64 + 1);
        for (piece, part) in order.chunks(16).enumerate() {
            for way in [piece % 2, 1 - piece % 2] {
                let (name, read): (_, &mut dyn FnMut(u64)) = match way {
                    0 => ("pread and checksum", &mut |pos| {
                        plain.read_exact_at(&mut block, pos).expect("a read");
                        std::hint::black_box(twox_hash::XxHash3_64::oneshot(&block));
                    }),
                    _ => ("disk tier", &mut |pos| assert_eq!(object.read(&mut block, pos).expect("a read"), RANGE)),
                };
                let ((), time) = timed(|| part.iter().for_each(|&pos| read(pos)));
                results.add(name, time * 1e6 / part.len() as f64);
            }
        }
        let stats = object.stats();
        let misses = stats.misses - before.misses;
        assert_eq!(misses, 0, "blocks were not on disk: {stats:?}");
    }
    results.print("pread and checksum", "us a block");
    missed.at_most("disk tier", results.ratio("disk tier", "pread and checksum"), 1.2);
}

fn hits(missed: &mut Missed, far: &Far, rounds: usize) {
    const COUNT: usize = 200_000;
    const PIECE: usize = 2_000;
    const BYTES: usize = 16 << 20;
    println!("reads of 4 KiB that the cache has in memory");
    let folder = tempfile::tempdir().expect("a folder");
    let local = |name| {
        let path = folder.path().join(name);
        fs::write(&path, pattern(BYTES)).expect("a file");
        File::options().read(true).write(true).open(&path).and_then(FileStore::new).expect("a store")
    };
    let mut results = Rounds::default();
    let mut buffer = vec![0; 4096];
    // The second local file shows what the same code differs by: its memory is in other pages.
    let names = ["a local file", "another local file", "an object"];
    for round in 0..rounds {
        // Each round has other memory, and another one of them has the first of it.
        let cache = CacheOptions::new().limit(64 << 20).build();
        let mut files: Vec<_> = (0..names.len())
            .map(|at| (round + at) % names.len())
            .map(|at| {
                let file = match names[at] {
                    "an object" => cache.open(far.options().build().expect("a store").open(URL).expect("an object")),
                    name => cache.open(local(name)),
                };
                (names[at], file.expect("a file"))
            })
            .collect();
        for (_, file) in &files {
            file.read_exact_at(&mut vec![0; BYTES], 0).expect("a read");
        }
        for piece in positions(BYTES, COUNT, 4096, round as u64 + 7).chunks(PIECE) {
            files.rotate_left(1);
            for (name, file) in &files {
                let read =
                    timed(|| piece.iter().for_each(|&pos| file.read_exact_at(&mut buffer, pos).expect("a read")));
                results.add(name, read.1 * 1e9 / PIECE as f64);
            }
        }
    }
    results.print("a local file", "ns a read");
    // Within what two local files differ by.
    let local = results.at("a local file", 0.75).max(results.at("another local file", 0.75));
    missed.at_most("a hit in memory, of a local file's", results.at("an object", 0.5) / local, 1.0);
}

fn opens(missed: &mut Missed, far: &Far, rounds: usize) {
    println!("from the URL to the first byte; a round trip is the proxy's delay of {} ms", DELAY.as_millis());
    let store = far.options().build().expect("a store");
    let mut results = Rounds::default();
    let mut requests = 0;
    for _ in 0..rounds {
        results.add("a round trip", DELAY.as_secs_f64() * 1e3);
        let (object, time) = timed(|| {
            let object = store.open(URL).expect("an object");
            assert_eq!(object.read(&mut [0], 0).expect("a read"), 1);
            object
        });
        requests = requests.max(object.stats().requests);
        results.add("open, first byte", time * 1e3);
        let (object, time) = timed(|| {
            let object = store.open(URL).expect("an object");
            assert_eq!(object.read(&mut [0], 50 << 20).expect("a read"), 1);
            object
        });
        requests = requests.max(object.stats().requests);
        results.add("open, a byte in the middle", time * 1e3);
    }
    results.print("a round trip", "ms");
    missed.at_most("round trips to the first byte", results.ratio("open, first byte", "a round trip"), 2.0);
    println!("  at most {requests} requests of an object");
}

fn main() {
    if let Some(bytes) = env::var("FAULTIN_STORES_SERVE").ok().and_then(|bytes| bytes.parse().ok()) {
        return serve(bytes);
    }
    // `cargo test --benches` only wants to know whether it runs.
    let is_short = env::args().any(|arg| arg == "--test" || arg == "--short");
    if env::args().any(|arg| arg == "--test") && !faultin_store_test::has_loopback() {
        return;
    }
    let (bytes, rounds, ranges) = if is_short { (128 << 20, 3, 1_200) } else { (512 << 20, 7, 20_000) };
    let far = Far::start(bytes);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load {}", load.trim());
    let mut missed = Missed::default();
    let names = ["open", "hits", "disk", "scan", "random"];
    let chosen: Vec<String> = env::args().filter(|arg| names.contains(&arg.as_str())).collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|other| other == name);
    if is_chosen("open") {
        opens(&mut missed, &far, rounds);
    }
    if is_chosen("hits") {
        hits(&mut missed, &far, rounds);
    }
    if is_chosen("disk") {
        disk(&mut missed, &far, rounds);
    }
    if is_chosen("scan") {
        scans(&mut missed, &far, bytes, rounds);
    }
    if is_chosen("random") {
        random(&mut missed, &far, bytes, ranges, rounds);
    }
    missed.0.iter().for_each(|what| println!("MISSED: {what}"));
    // A test of whether it runs is none of how fast.
    let is_test = env::args().any(|arg| arg == "--test");
    drop(far);
    std::process::exit(i32::from(!missed.0.is_empty() && !is_test));
}
