//! Random operations on a cached object whose server fails at random, compared with the bytes of the version that was opened.
//!
//! An operation may fail while there are faults; its count is exact all the same, no byte before it is wrong, and no byte past
//! it was touched. `FAULTIN_STORE_CASES` sets the number of cases, `FAULTIN_STORE_SEED` the first seed. The same seed makes the
//! same operations, and the same fault for the request of the same number; the order of requests may differ.

mod common;

#[path = "../../faultin-cache/tests/model/buffer.rs"]
#[allow(dead_code, reason = "it is the model's of the cache, with writes")]
mod buffer;

use std::time::Duration;

use buffer::{Buffer, any_buffer};
use common::{Net, Reader, map};
use faultin::Access as Side;
use faultin::iov::IovDest;
use faultin_cache::copy::{MayWait, NoWait};
use faultin_cache::pager::{Mapping, Mode};
use faultin_cache::store::ReadRequest;
use faultin_cache::{Advice, Cache, CacheOptions, CachedFile, Error, Partial};
use faultin_store::{Cause, Object};
use faultin_store_test::{Access, Fault, Request, mixture};
use faultin_test::Random;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const CASES: u64 = 60;
const STEPS: usize = 120;

/// Of buffers' simulated memory, in bytes.
const PAGE: usize = 1024;

/// Faults that end soon, and those that take an attempt's time.
fn faults(seed: u64) -> impl Fn(&Request) -> Fault + Send + Sync + 'static {
    let status = |status| Fault::Status { status, retry_after: None };
    let quick = vec![
        Fault::delay(Duration::from_millis(2)),
        Fault::Reset { after: 0 },
        Fault::Reset { after: 700 },
        Fault::Close { after: 0 },
        Fault::Close { after: 3000 },
        status(500),
        status(503),
        status(429),
        status(403),
        Fault::Short,
        Fault::Long,
        Fault::ErrorPage,
        Fault::PaddedErrorPage,
        Fault::ContentRange,
        Fault::Garbage,
        Fault::Redirect { to: ([127, 0, 0, 1], 1).into() },
    ];
    let slow = vec![Fault::Silence, Fault::Stall { after: 100 }, Fault::Etag, status(412), status(404)];
    let (quick, slow) = (mixture(seed, 5, quick), mixture(!seed, 60, slow));
    move |request| match slow(request) {
        Fault::None => quick(request),
        fault => fault,
    }
}

/// The state of a case: an object, its cache, and the bytes that it ought to have.
struct World {
    net: Net,
    random: Random,
    buffers: TestRunner,
    cache: Cache,
    /// Of the cache, in bytes.
    block: usize,
    object: Object,
    files: Vec<CachedFile>,
    mapping: Option<Mapping>,
    /// The bytes of the version that was opened.
    model: Vec<u8>,
    /// The bytes that the server has now.
    newest: (u8, Vec<u8>),
    /// Whether faults are injected.
    rough: bool,
    tally: Tally,
}

/// Counts of what has happened: a test that never gets there tests nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    whole: u64,
    store_errors: u64,
    replaced: u64,
    buffer_faults: u64,
    mapped: u64,
    faults: u64,
}

impl World {
    fn new(seed: u64) -> Option<World> {
        let random = Random::new(seed);
        let len = random.of(&[1, 5000, 65_536, 200_001, 300_000]);
        let net = Net::new(Access::Signed, len)?;
        let page = faultin::page_size();
        let block = random.of(&[512, page, 4 * page]);
        let cache = CacheOptions::new().block(block).limit(random.of(&[2, 8, 40]) * block).build();
        let options = net.options().block(random.of(&[4096, 16 << 10, 64 << 10]));
        let options = options.attempt(Duration::from_millis(150)).deadline(Duration::from_secs(3)).retries(2);
        let options = options.read_ahead(random.once_in(2)).gap(random.of(&[0, 4096, 100_000]));
        let object = options.build().expect("threads").open(common::URL).expect("nothing is wrong yet");
        let seed: [u8; 32] = std::array::from_fn(|_| random.below(255_u64) as u8);
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let bytes = net.bytes.clone();
        let mut world = World {
            net,
            random,
            buffers: TestRunner::new_with_rng(Config::default(), rng),
            cache,
            block,
            object,
            files: Vec::new(),
            mapping: None,
            model: bytes.clone(),
            newest: (0, bytes),
            rough: false,
            tally: Tally::default(),
        };
        world.open();
        if world.random.once_in(2) {
            world.rough = true;
            world.net.proxy.set_script(faults(world.random.next()));
        }
        Some(world)
    }

    fn open(&mut self) {
        self.mapping = None;
        self.files = vec![self.cache.open(self.object.clone()).expect("an object is a store")];
    }

    fn file(&self) -> CachedFile {
        self.files[self.random.below(self.files.len())].clone()
    }

    fn pos(&self) -> usize {
        self.random.below(self.model.len() + 100)
    }

    fn step(&mut self, seed: u64) {
        let random = Random::new(seed);
        match random.below(30) {
            0..=8 => self.read(),
            9 | 10 => self.read_many(),
            11..=15 => self.read_mapped(),
            16 => self.read_directly(),
            17 => self.try_read(),
            18 => self.files.push(self.file()),
            19 => {
                let advice = random.of(&[Advice::Normal, Advice::Sequential, Advice::Random]);
                self.file().advise(advice);
            }
            20 => {
                let start = self.pos() as u64;
                self.file().prefetch(&[start..start + 20_000, 0..100]);
            }
            21 => {
                let start = self.pos() as u64;
                let result = self.file().will_need(start..start + random.below(50_000_u64));
                self.may_fail("will_need", result.err().as_ref());
            }
            22 => self.file().dont_need(0..self.pos() as u64).expect("clean blocks need no store"),
            23 => self.cache.drop_clean(),
            24 => self.open(),
            25 => self.replace(),
            26..=28 => self.refresh(),
            _ => {
                self.rough = !self.rough;
                match self.rough {
                    true => self.net.proxy.set_script(faults(seed)),
                    false => self.net.heal(),
                }
            }
        }
        // Past its limit, a cache keeps two blocks of each file in use, and what is read ahead.
        let limit = self.cache.limit() + 2 * 512 * self.block;
        assert!(self.cache.used() <= limit, "{} bytes of {}", self.cache.used(), self.cache.limit());
    }

    /// An error of the store, while there are faults or the object was replaced.
    fn may_fail(&mut self, what: &str, error: Option<&Error>) {
        let Some(error) = error else { return };
        let Error::Store(io) = error else { panic!("{what}: {error}") };
        let cause = faultin_store::Error::of(&**io).unwrap_or_else(|| panic!("{what}: {error}")).cause().clone();
        self.judge(what, &cause, &error.to_string());
    }

    fn judge(&mut self, what: &str, cause: &Cause, message: &str) {
        self.tally.store_errors += 1;
        let is_newest = self.model == self.newest.1;
        if matches!(cause, Cause::Replaced { .. }) {
            self.tally.replaced += 1;
        }
        // A failure may be remembered for a while after the last fault.
        let excused = self.rough || !is_newest || self.net.proxy.faults() > 0;
        assert!(excused, "{what}: nothing is wrong, and: {message}");
    }

    fn buffer(&mut self) -> Buffer {
        let bad = self.random.once_in(2);
        let strategy = any_buffer(PAGE, 30_000, bad);
        strategy.new_tree(&mut self.buffers).expect("there is always a buffer").current()
    }

    /// As the cache's own model checks a read.
    fn read(&mut self) {
        let buffer = self.buffer();
        let (pos, wait) = (self.pos(), self.random.once_in(2));
        let mut made = buffer.make(pos);
        let (good, places) = (made.accessible(Side::Write), made.places.clone());
        let (mut plain, sim) = (made.plain.clone(), made.sim.clone());
        let mut state = sim.state();
        let mut segments = made.write_segments();
        let mut to = IovDest::new(&mut segments);
        let file = self.file();
        let result = match wait {
            true => file.read_iter_with::<_, MayWait>(&mut to, pos as u64, &mut ()),
            false => file.read_iter_with::<_, NoWait>(&mut to, pos as u64, &mut ()),
        };
        let done = result.as_ref().map_or_else(|partial| partial.done, |done| *done);
        assert_eq!((to.moved(), to.count()), (done, places.len() - done), "where the list stands");
        let there = places.len().min(self.model.len().saturating_sub(pos));
        let most = good.min(there);
        assert!(done <= most, "{done} bytes of {most}: {result:?}");
        match &result {
            Ok(_) => {
                self.tally.whole += 1;
                assert_eq!(done, there);
            }
            Err(Partial { error: Error::Fault(_), .. }) => {
                self.tally.buffer_faults += 1;
                assert!(done < there && (done == most || !buffer.is_quiet()), "{done} bytes of {most}: {result:?}");
            }
            Err(Partial { error: Error::NoProgress(_), .. }) => assert!(!buffer.is_quiet(), "{result:?}"),
            Err(Partial { error, .. }) => self.may_fail("a read", Some(error)),
        }
        for (index, &(whose, at)) in places[..done].iter().enumerate() {
            let byte = self.model[pos + index];
            match whose {
                Some(whose) => plain[whose][at] = byte,
                None => state.bytes_mut()[at] = byte,
            }
        }
        assert!(made.plain == plain, "a plain part of the buffer, {done} bytes from {pos}");
        assert!(sim.state().bytes() == state.bytes(), "the memory of the buffer, {done} bytes from {pos}");
    }

    /// Bytes past a count may have been overwritten.
    fn read_many(&mut self) {
        let places: Vec<(usize, usize)> = (0..6).map(|_| (self.pos(), self.random.below(20_000_usize))).collect();
        let mut buffers: Vec<Vec<u8>> = places.iter().map(|(_, len)| vec![0xa5; *len]).collect();
        let mut reads: Vec<ReadRequest<'_>> =
            places.iter().zip(&mut buffers).map(|((pos, _), bytes)| ReadRequest::new(*pos as u64, bytes)).collect();
        let results = self.file().read_many(&mut reads);
        for ((&(pos, len), result), buffer) in places.iter().zip(results).zip(&buffers) {
            self.check("read_many", pos, len, result, buffer);
        }
    }

    fn try_read(&mut self) {
        let (pos, mut buffer) = (self.pos(), vec![0xa5; 5000]);
        let result = self.file().try_read_at(&mut buffer, pos as u64);
        let done = result.as_ref().map_or_else(|partial| partial.done, |done| *done);
        assert!(buffer[done..].iter().all(|byte| *byte == 0xa5), "try_read: past the count of {done} from {pos}");
        match result {
            // What is at hand.
            Err(Partial { error: Error::WouldBlock, done }) => {
                let there = &self.model[pos.min(self.model.len())..];
                assert!(done <= there.len() && buffer[..done] == there[..done], "try_read: {done} bytes from {pos}");
            }
            result => self.check("try_read", pos, buffer.len(), result, &buffer),
        }
    }

    fn check(&mut self, what: &str, pos: usize, len: usize, result: Result<usize, Partial>, buffer: &[u8]) {
        let there = len.min(self.model.len().saturating_sub(pos));
        let done = result.as_ref().map_or_else(|partial| partial.done, |done| *done);
        assert!(done <= there, "{what}: {done} bytes of {there}");
        let expected = &self.model[pos.min(self.model.len())..][..done];
        assert!(&buffer[..done] == expected, "{what}: a wrong byte of {done} from {pos}");
        match result {
            Ok(done) => assert_eq!(done, there, "{what} at {pos}"),
            Err(partial) => self.may_fail(what, Some(&partial.error)),
        }
    }

    fn read_mapped(&mut self) {
        let file = self.file();
        if self.mapping.is_none() {
            let mode = self.random.of(&Mode::ALL);
            if self.block < faultin::page_size() {
                return;
            }
            self.mapping = map(&file, mode);
        }
        let Some(mapping) = self.mapping.take() else { return };
        let pos = self.random.below(self.model.len());
        let len = 1 + self.random.below((self.model.len() - pos).min(30_000));
        let result = common::read(&mapping, &self.model, pos, len);
        match result {
            Ok(()) => self.tally.mapped += 1,
            Err(short) => self.judge(&mapping.name(), short.error.cause(), &short.message),
        }
        self.mapping = Some(mapping);
    }

    fn read_directly(&mut self) {
        let object = self.object.clone();
        let pos = self.random.below(self.model.len());
        let len = 1 + self.random.below((self.model.len() - pos).min(30_000));
        if let Err(short) = common::read(&object, &self.model, pos, len) {
            self.judge("the object", short.error.cause(), &short.message);
        }
    }

    /// Another version, as long or not.
    fn replace(&mut self) {
        let version = self.newest.0.wrapping_add(1);
        let len = self.random.of(&[self.model.len(), 3, 100_000]);
        self.newest = (version, self.net.replace(version, len).0);
    }

    fn refresh(&mut self) {
        // Whether it fails or not, what was opened before stays what it was.
        match self.object.refresh() {
            Ok(object) => {
                assert_eq!(object.size(), self.newest.1.len() as u64, "the newest version");
                self.object = object;
                self.model = self.newest.1.clone();
                self.open();
            }
            Err(error) => self.judge("a refresh", error.cause(), &error.to_string()),
        }
    }

    /// Without faults, the newest version can be read as a whole.
    fn finish(mut self) -> Tally {
        self.net.heal();
        let mut last = String::new();
        for _ in 0..200 {
            match self.object.refresh() {
                Ok(object) => {
                    self.object = object;
                    self.open();
                    match common::read(&self.files[0], &self.newest.1, 0, self.newest.1.len()) {
                        Ok(()) => {
                            self.tally.faults += self.net.proxy.faults();
                            return self.tally;
                        }
                        Err(short) => last = short.message,
                    }
                }
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("it does not heal: {last}");
    }
}

fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")),
        Err(_) => default,
    }
}

#[test]
fn a_cached_object_is_what_was_opened_or_an_error() {
    let first = variable("FAULTIN_STORE_SEED", 1);
    let cases = variable("FAULTIN_STORE_CASES", CASES);
    let mut sum = Tally::default();
    for seed in first..first + cases {
        let Some(mut world) = World::new(seed) else { return };
        let steps = Random::for_user(seed, 1);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..STEPS {
                world.step(steps.next());
            }
            world.finish()
        }));
        let tally = run.unwrap_or_else(|panic| {
            eprintln!("FAULTIN_STORE_SEED={seed} FAULTIN_STORE_CASES=1 repeats it");
            std::panic::resume_unwind(panic)
        });
        sum.whole += tally.whole;
        sum.store_errors += tally.store_errors;
        sum.replaced += tally.replaced;
        sum.buffer_faults += tally.buffer_faults;
        sum.mapped += tally.mapped;
        sum.faults += tally.faults;
    }
    println!("{cases} cases: {sum:?}");
    if cases >= CASES {
        let reached = [sum.whole, sum.store_errors, sum.replaced, sum.buffer_faults, sum.mapped, sum.faults];
        assert!(reached.iter().all(|count| *count > 10), "{sum:?}");
    }
}
