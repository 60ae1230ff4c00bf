//! A server, a proxy before it, and an object; and the ways to read it.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use faultin::map::Rights;
use faultin_cache::pager::{AttachError, Mapping, Mode};
use faultin_cache::{Cache, CacheOptions, CachedFile};
use faultin_store::{Error, Object, Store, StoreOptions};
use faultin_store_test::{Access, Fault, Proxy, Request, Server, environment, pattern};

/// The time limit for all tests of a process, far more than they need on a busy or emulated machine.
const LIMIT: Duration = Duration::from_secs(900);

/// Ends the process with a message if it is still running when the time limit expires.
pub fn watchdog() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::thread::spawn(|| {
            std::thread::sleep(LIMIT);
            let _ = writeln!(std::io::stderr(), "watchdog: a test hangs; after {LIMIT:?} this process ends itself");
            std::process::abort();
        });
    });
}

/// The URL of the object of a [`Net`].
pub const URL: &str = "s3://bucket/folder/object";

/// Its path on the server.
pub const PATH: &str = "bucket/folder/object";

/// A server with an object, and a proxy before it. The proxy passes everything at first.
pub struct Net {
    pub server: Arc<Mutex<Server>>,
    pub proxy: Proxy,
    pub bytes: Vec<u8>,
    access: Access,
}

impl Net {
    /// Starts both; `None` where there is no loopback interface.
    pub fn new(access: Access, len: usize) -> Option<Net> {
        watchdog();
        if !faultin_store_test::has_loopback() {
            return None;
        }
        let server = Server::start_at(([127, 0, 0, 1], 0).into(), access).expect("a server");
        let bytes = pattern(0, len);
        server.put(PATH, bytes.clone());
        let proxy = Proxy::start(server.address(), |_| Fault::None).expect("a proxy");
        Some(Net { server: Arc::new(Mutex::new(server)), proxy, bytes, access })
    }

    /// Replaces the object by one of `len` bytes; returns the bytes and the etag.
    pub fn replace(&self, version: u8, len: usize) -> (Vec<u8>, String) {
        let bytes = pattern(version, len);
        let etag = self.server().put(PATH, bytes.clone());
        (bytes, etag)
    }

    pub fn server(&self) -> std::sync::MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Injects a fault into each request that reads the object from now on, except into the first `skip` ones, and into
    /// `count` requests at most.
    pub fn inject(&self, fault: Fault, skip: u64, count: u64) {
        let seen = std::sync::atomic::AtomicU64::new(0);
        self.proxy.set_script(move |request| {
            if !is_range(request) {
                return Fault::None;
            }
            let number = seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if (skip..skip.saturating_add(count)).contains(&number) { fault.clone() } else { Fault::None }
        });
    }

    /// Passes everything again.
    pub fn heal(&self) {
        self.proxy.set_script(|_| Fault::None);
    }

    /// Returns the options of a client of the proxy: small blocks and short times.
    pub fn options(&self) -> StoreOptions {
        let options = client(self.proxy.address());
        match self.access {
            Access::Signed => options,
            Access::Anonymous => options.config("aws_skip_signature", "true"),
        }
    }

    pub fn store(&self) -> Store {
        self.options().build().expect("threads")
    }
}

/// Returns the options of a client of `address`: small blocks, and short times.
pub fn client(address: std::net::SocketAddr) -> StoreOptions {
    let options = StoreOptions::new().block(BLOCK).read_ahead(false);
    let options = options.deadline(DEADLINE).attempt(ATTEMPT).retries(RETRIES);
    let options = options.backoff(Duration::from_millis(2), Duration::from_millis(20));
    environment(address).iter().fold(options, |options, (key, value)| options.config(&key.to_lowercase(), value))
}

/// Short enough for a test of each fault, and long enough for a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(4);
pub const ATTEMPT: Duration = Duration::from_millis(500);
pub const RETRIES: u32 = 2;

/// The unit of requests.
pub const BLOCK: usize = 4096;

/// Returns whether a request reads a range of the object.
pub fn is_range(request: &Request) -> bool {
    request.method == "GET" && request.header("range").is_some()
}

/// Why a read ended early.
pub struct Short {
    /// Number of bytes before.
    pub done: usize,
    /// The store's error.
    pub error: Error,
    /// What a user would print.
    pub message: String,
}

/// A way to read an object.
pub trait Reader {
    fn name(&self) -> String;
    fn read(&self, buf: &mut [u8], pos: usize) -> Result<(), Short>;
}

impl Reader for Object {
    fn name(&self) -> String {
        "the object itself".into()
    }

    /// Bytes past a count are unspecified.
    fn read(&self, buf: &mut [u8], pos: usize) -> Result<(), Short> {
        let (mut done, mut piece) = (0, vec![0; buf.len()]);
        while done < buf.len() {
            match Object::read(self, &mut piece[done..], (pos + done) as u64) {
                Ok(0) => panic!("the end after {done} bytes from {pos}"),
                Ok(read) => {
                    buf[done..done + read].copy_from_slice(&piece[done..done + read]);
                    done += read;
                }
                Err(error) => return Err(Short { done, message: error.to_string(), error }),
            }
        }
        Ok(())
    }
}

impl Reader for CachedFile {
    fn name(&self) -> String {
        "a cached file".into()
    }

    fn read(&self, buf: &mut [u8], pos: usize) -> Result<(), Short> {
        match self.read_at(buf, pos as u64) {
            Ok(read) => {
                assert_eq!(read, buf.len(), "the end after {read} bytes from {pos}");
                Ok(())
            }
            Err(partial) => {
                let error = Error::of(&partial).unwrap_or_else(|| panic!("not an error of the store: {partial}"));
                Err(Short { done: partial.done, error: error.clone(), message: partial.to_string() })
            }
        }
    }
}

impl Reader for Mapping {
    fn name(&self) -> String {
        format!("a mapping, mode {:?}", self.mode())
    }

    /// Copies, and faults in where a copy came to nothing.
    fn read(&self, buf: &mut [u8], pos: usize) -> Result<(), Short> {
        let view = self.read_view().expect("the handler stays");
        let mut done = 0;
        while done < buf.len() {
            let Err(short) = view.read(&mut buf[done..], pos + done) else { return Ok(()) };
            done += short.done;
            if short.done > 0 {
                continue;
            }
            let want = NonZeroUsize::new(buf.len() - done).expect("something is left");
            let Err(fault) = view.fault_in(pos + done, want) else { continue };
            let last = self.last_error().unwrap_or_else(|| panic!("{fault}, for no reason"));
            let error = Error::of(&last).unwrap_or_else(|| panic!("not an error of the store: {last}"));
            return Err(Short { done, error: error.clone(), message: last.to_string() });
        }
        Ok(())
    }
}

/// Opens a cached file of an object, in a cache of its own.
pub fn cached(object: &Object) -> CachedFile {
    let cache = CacheOptions::new().block(BLOCK.max(faultin::page_size())).limit(64 << 20).build();
    open_in(&cache, object)
}

pub fn open_in(cache: &Cache, object: &Object) -> CachedFile {
    let file = cache.open(object.clone()).expect("an object is a store");
    // What is read ahead would meet faults that are meant for what is read.
    file.advise(faultin_cache::Advice::Random);
    file
}

/// Maps a file for reading, if the mode is available.
pub fn map(file: &CachedFile, mode: Mode) -> Option<Mapping> {
    let len = file.len().expect("no lock is held");
    match file.map(0..len, Rights::Read, mode) {
        Ok(mapping) => Some(mapping),
        Err(error @ AttachError::Mode { .. }) => {
            faultin_test::skipped("user-mode", error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs `check` with each way to read an object: a net, a store and a file of its own for each.
pub fn each_reader(access: Access, len: usize, check: impl Fn(&Net, &Object, &dyn Reader)) {
    each_reader_with(access, len, |options| options, check);
}

/// As [`each_reader`], of stores with other options.
pub fn each_reader_with(
    access: Access,
    len: usize,
    options: impl Fn(StoreOptions) -> StoreOptions,
    check: impl Fn(&Net, &Object, &dyn Reader),
) {
    let mut ways = vec![None, Some(None)];
    ways.extend(Mode::ALL.map(|mode| Some(Some(mode))));
    for way in ways {
        let Some(net) = Net::new(access, len) else { return };
        let store = options(net.options()).build().expect("threads");
        let object = store.open(URL).expect("nothing is wrong yet");
        match way {
            None => check(&net, &object, &object),
            Some(None) => check(&net, &object, &cached(&object)),
            Some(Some(mode)) => {
                if let Some(mapping) = map(&cached(&object), mode) {
                    check(&net, &object, &mapping);
                }
            }
        }
    }
}

/// Reads `len` bytes from `pos`, and checks those that were read; the others are untouched.
pub fn read(reader: &dyn Reader, expected: &[u8], pos: usize, len: usize) -> Result<(), Short> {
    let mut buf = vec![0xa5; len];
    let result = reader.read(&mut buf, pos);
    let done = result.as_ref().map_or_else(|short| short.done, |()| len);
    let name = reader.name();
    let wrong = buf[..done].iter().zip(&expected[pos..]).position(|(got, expected)| got != expected);
    assert_eq!(wrong, None, "{name}: a wrong byte of {done} from {pos}");
    let touched = buf[done..].iter().position(|byte| *byte != 0xa5);
    assert_eq!(touched, None, "{name}: a byte past the count of {done} from {pos} was changed");
    result
}
