//! [`Store`]: the runtime, the limits and the connections that objects share.

use std::fmt;
use std::future::ready;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use faultin::events::Note;
use faultin_cache::pager::without_signals;
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout_at};

use crate::backend::{self, Backend, Backends, Place, Redactor};
use crate::disk::Disk;
use crate::engine::{Access, Engine, Numbers};
use crate::error::{Cause, Error};
use crate::events::Event;
use crate::flight::Waiter;
use crate::object::Object;
use crate::pinned::Pinned;
use crate::stats::{Counters, ObjectStats, Stats};

/// Number of threads of a runtime: they move bytes, and wait for nothing.
const THREADS: usize = 2;

/// How much longer than its deadline an access waits for the runtime, which ends it.
const GRACE: Duration = Duration::from_secs(1);

/// How a [`Store`] works.
///
/// ```
/// use std::time::Duration;
///
/// use faultin_store::StoreOptions;
///
/// let store = StoreOptions::new().deadline(Duration::from_secs(5)).memory(32 << 20).build()?;
/// assert!(store.open("memory:///nothing").unwrap_err().to_string().contains("there is no such object"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct StoreOptions {
    numbers: Numbers,
    settings: Vec<(String, String)>,
    disk: Option<Arc<Disk>>,
}

impl StoreOptions {
    /// Returns the defaults. Credentials and endpoints are those of the environment, by the names that `object_store` has
    /// for them: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`,
    /// and so on.
    pub fn new() -> StoreOptions {
        StoreOptions {
            numbers: Numbers {
                block: 64 << 10,
                memory: 64 << 20,
                requests: 32,
                request_bytes: 4 << 20,
                gap: 128 << 10,
                deadline: Duration::from_secs(30),
                attempt: Duration::from_secs(10),
                retries: 8,
                backoff: (Duration::from_millis(50), Duration::from_secs(5)),
                read_ahead: true,
                accept_unversioned: false,
                old_versions: false,
                seed: seed(),
            },
            settings: Vec::new(),
            disk: None,
        }
    }

    /// Sets a value that takes precedence over the environment, by `object_store`'s name for it (`aws_endpoint`,
    /// `allow_http`). A name that a kind of store does not know is ignored for it, and so are time-outs, idle connections and
    /// HTTP/2, whose times and versions are this crate's.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> StoreOptions {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets the unit of requests, of buffers and of the disk tier, in bytes: rounded up to a power of two from 4 KiB to 4 MiB.
    /// 64 KiB by default. A read of one byte requests a block.
    #[must_use]
    pub fn block(mut self, bytes: usize) -> StoreOptions {
        self.numbers.block = bytes.clamp(4 << 10, 4 << 20).next_power_of_two();
        self
    }

    /// Sets the limit of all blocks in bytes: those that are being fetched, were read ahead, were fetched and read in part, and
    /// wait for the disk tier. Connections have buffers of their own. At least two blocks. 64 MiB by default. The limit of the
    /// [cache](faultin_cache::CacheOptions::limit) is another one.
    #[must_use]
    pub fn memory(mut self, bytes: usize) -> StoreOptions {
        self.numbers.memory = bytes;
        self
    }

    /// Sets the maximum number of requests at the same time to one bucket or server. 32 by default, of which those that are ahead
    /// of what is wanted take at most seven eighths. To all together a third more: so one that hangs leaves some to the others.
    #[must_use]
    pub fn requests(mut self, count: usize) -> StoreOptions {
        self.numbers.requests = count.clamp(1, 4096);
        self
    }

    /// Sets the maximum length of a request's range in bytes. 4 MiB by default, and at most a quarter of the
    /// [memory](Self::memory).
    #[must_use]
    pub fn request_bytes(mut self, bytes: usize) -> StoreOptions {
        self.numbers.request_bytes = bytes;
        self
    }

    /// Sets the largest number of bytes between two ranges that are requested together. 128 KiB by default.
    #[must_use]
    pub fn gap(mut self, bytes: u64) -> StoreOptions {
        self.numbers.gap = bytes;
        self
    }

    /// Sets the deadline of an access: its waits, its attempts and its bodies together. 30 s by default.
    /// [`Object::with_deadline`] sets it by handle.
    #[must_use]
    pub fn deadline(mut self, time: Duration) -> StoreOptions {
        self.numbers.deadline = time.min(LONGEST);
        self
    }

    /// Sets how long an attempt may wait for its next byte. 10 s by default.
    #[must_use]
    pub fn attempt(mut self, time: Duration) -> StoreOptions {
        self.numbers.attempt = time.min(LONGEST);
        self
    }

    /// Sets the maximum number of retries of each request of an access. 8 by default. Only the statuses 429 and 500 to 599, connections that
    /// end, and time-outs are tried again. [`Object::with_retries`] sets it by handle.
    #[must_use]
    pub fn retries(mut self, count: u32) -> StoreOptions {
        self.numbers.retries = count;
        self
    }

    /// Sets the pause before the first retry, and the longest one: each is twice as long as the one before, minus a random
    /// part of up to a half. 50 ms and 5 s by default.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> StoreOptions {
        self.numbers.backoff = (first.min(LONGEST), longest.min(LONGEST));
        self
    }

    /// Sets whether blocks are requested before they are wanted, where access is sequential. True by default.
    #[must_use]
    pub fn read_ahead(mut self, reads_ahead: bool) -> StoreOptions {
        self.numbers.read_ahead = reads_ahead;
        self
    }

    /// Accepts objects of stores that have no (strong) entity tags. Then an object counts as the same as long as its length
    /// and the time of its last change are: of a change within the same second, most such stores tell nothing, and bytes of
    /// two versions may be mixed. An object whose store tells no time either is refused. False by default.
    #[must_use]
    pub fn accept_unversioned(mut self, accepts: bool) -> StoreOptions {
        self.numbers.accept_unversioned = accepts;
        self
    }

    /// Sets whether the version that was opened is read also after the object was replaced, where the store keeps versions.
    /// Some stores need another permission for it (`s3:GetObjectVersion`). False by default.
    #[must_use]
    pub fn old_versions(mut self, reads: bool) -> StoreOptions {
        self.numbers.old_versions = reads;
        self
    }

    /// Keeps blocks that were fetched in a [disk tier](crate::disk).
    #[must_use]
    pub fn disk(mut self, disk: Arc<Disk>) -> StoreOptions {
        self.disk = Some(disk);
        self
    }

    /// Makes the store, and starts its threads.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn build(self) -> io::Result<Store> {
        // The threads inherit the mask of signals: a handler of the process must not run in them, because it could fault on a
        // mapping and wait for what the thread itself would have to fetch.
        let runtime = without_signals(|| {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(THREADS).thread_name("faultin-store").enable_all().build()
        })?;
        let engine = Arc::new(Engine::new(self.numbers, self.disk, runtime.handle().clone()));
        Ok(Store(Arc::new(Shared {
            engine,
            runtime: Some(runtime),
            backends: Backends::new(self.settings),
            objects: Mutex::default(),
        })))
    }
}

/// Longest time that an option takes: so that an instant after it exists.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Without the values of settings, which may be secret.
impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.settings.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("StoreOptions").field("numbers", &self.numbers).field("settings", &names).finish_non_exhaustive()
    }
}

/// A runtime with two threads, a thread for the connections of each server, and limits. Clones are the same store; objects keep
/// it.
///
/// After `fork`, the child cannot use it, and may drop it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

struct Shared {
    engine: Arc<Engine>,
    /// `None` once it is being dropped.
    runtime: Option<Runtime>,
    backends: Arc<Backends>,
    objects: Mutex<Objects>,
}

#[derive(Debug, Default)]
struct Objects {
    /// Requests under way keep an object when its last handle was dropped, and still count.
    open: Vec<(Weak<Pinned>, Arc<Counters>)>,
    /// The sum over those that were dropped.
    dropped: ObjectStats,
}

impl Objects {
    /// Forgets those that were dropped, except what they have done.
    fn prune(&mut self) {
        let Objects { open, dropped } = self;
        open.retain(|(object, counters)| {
            let is_open = object.strong_count() > 0;
            if !is_open {
                *dropped += counters.stats();
            }
            is_open
        });
    }
}

/// Where a thread waits for what the runtime computes. As in [`Waiter`], a handler of a signal that interrupts it may need the
/// runtime.
struct Answer<T> {
    waiter: Arc<Waiter>,
    value: Mutex<Option<T>>,
}

/// The task's part: the thread is woken in any case.
struct Answers<T>(Arc<Answer<T>>);

impl<T> Drop for Answers<T> {
    fn drop(&mut self) {
        self.0.waiter.wake();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("pool", &self.engine.pool).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        match self.runtime.take() {
            // Its threads may be in a call that does not return.
            Some(runtime) if self.engine.is_ours() => runtime.shutdown_background(),
            // In a child of `fork`, there are no threads, and their locks may be held: those of buffers and connections, too.
            runtime => std::mem::forget((runtime, Arc::clone(&self.engine), Arc::clone(&self.backends))),
        }
    }
}

impl Store {
    /// Makes a store with the [default options](StoreOptions::new).
    ///
    /// # Errors
    /// Those of [`StoreOptions::build`].
    pub fn new() -> io::Result<Store> {
        StoreOptions::new().build()
    }

    /// Returns a store that all callers of this function in the process share, with the default options.
    ///
    /// # Errors
    /// Those of [`StoreOptions::build`].
    pub(crate) fn shared() -> io::Result<Store> {
        /// The store of a process; a child of `fork` cannot use it, and has the next one.
        struct Link(Store, OnceLock<Box<Link>>);
        static FIRST: OnceLock<Box<Link>> = OnceLock::new();
        let mut place = &FIRST;
        loop {
            match place.get() {
                Some(link) if link.0.0.engine.is_ours() => return Ok(link.0.clone()),
                Some(link) => place = &link.1,
                // Unless another thread was faster.
                None => drop(place.set(Box::new(Link(Store::new()?, OnceLock::new())))),
            }
        }
    }

    /// Opens an object, and pins the version that it has now: one request, which has the first block with it.
    ///
    /// # Errors
    /// See [`Cause`]: among others, that the URL cannot be used, that there is no such object, or that the store does not
    /// tell versions apart.
    pub fn open(&self, url: &str) -> Result<Object, Error> {
        let place = self.parse(url)?;
        let (path, name) = (place.path.clone(), Arc::clone(&place.name));
        let backend = Arc::clone(&self.0.backends).of(place);
        self.open_pinned(backend, path, &name, self.access())
    }

    /// Opens an object of a store that the caller has made. `name` is what errors call the object, so it must have no
    /// credentials.
    ///
    /// Two objects of the same name and version are the same for the disk tier, also of another process later. So a name has to be one of
    /// this store alone, and its entity tags have to tell the contents apart as long as the tier's directory exists. Objects whose entity
    /// tag is a number, as the counter of `object_store`'s store in memory is, are not kept there.
    ///
    /// A store of the network should not retry requests itself (`RetryConfig::max_retries` of 0): its retries know no
    /// deadline. Its connections are in the store's own two threads, where a server can delay requests to others.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_in(&self, backend: Arc<dyn ObjectStore>, path: &Path, name: &str) -> Result<Object, Error> {
        let backend = Arc::new(Backend::new(backend, "", &self.0.backends.redactor));
        self.open_pinned(ready(Ok(backend)), path.clone(), &name.into(), self.access())
    }

    /// Returns the `object_store` and the path of a URL: with the options and the connections that [`open`](Self::open) uses,
    /// which follow no redirects, and without retries and time-outs. Of an error's body, only the code is left. It has to be used
    /// within a runtime of tokio.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn backend(&self, url: &str) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
        let place = self.parse(url)?;
        let (path, name) = (place.path.clone(), Arc::clone(&place.name));
        let made = self.wait_for(Arc::clone(&self.0.backends).of(place), Some(self.access().deadline));
        let backend = made.and_then(|made| made).map_err(|cause| Error::new(&name, None, 0, cause))?;
        Ok((Arc::clone(&backend.store), path))
    }

    fn parse(&self, url: &str) -> Result<Place, Error> {
        let named = |cause| Error::new(&self.0.backends.redactor.text(&backend::refused_url(url)), None, 0, cause);
        backend::parse(url).map_err(named)
    }

    /// Returns what the store and its objects have done so far.
    pub fn stats(&self) -> Stats {
        without_signals(|| self.sum())
    }

    fn sum(&self) -> Stats {
        let engine = &self.0.engine;
        let block = engine.options.block as u64;
        let now = Instant::now();
        let mut backends = self.0.backends.made();
        let mut objects = self.0.objects.lock();
        objects.prune();
        let mut sum = objects.dropped;
        for (object, counters) in &objects.open {
            sum += counters.stats();
            backends.extend(object.upgrade().map(|object| Arc::clone(&object.backend)));
        }
        drop(objects);
        Stats {
            objects: sum,
            memory: engine.pool.used() as u64 * block,
            memory_limit: engine.pool.limit() as u64 * block,
            in_flight: engine.in_flight() as u64,
            down: backends.iter().filter_map(|backend| backend.health.down_for(now)).max(),
        }
    }

    /// Returns what this store has noted among the [events](faultin::events()) of the process, the oldest first: at most 256.
    pub fn events(&self) -> Vec<Note<Event>> {
        self.0.engine.events.last()
    }

    /// Waits for a future, which the runtime runs. Works in any thread, also in one of another runtime, except in a signal
    /// handler.
    ///
    /// # Errors
    /// [`Cause::Deadline`] if it takes much longer than `limit`, which it should know itself; [`Cause::Other`] if it panics.
    pub(crate) fn wait_for<F>(&self, future: F, limit: Option<Duration>) -> Result<F::Output, Cause>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        if !self.0.engine.is_ours() {
            return Err(Cause::Closed);
        }
        let runtime = self.0.runtime.as_ref().ok_or(Cause::Closed)?;
        let answer = Arc::new(Answer { waiter: Waiter::new(), value: Mutex::new(None) });
        let answers = Answers(Arc::clone(&answer));
        let task = without_signals(|| {
            runtime.spawn(async move {
                let value = future.await;
                *answers.0.value.lock() = Some(value);
            })
        });
        let until = Instant::now() + limit.map_or(LONGEST, |limit| limit.saturating_add(GRACE).min(LONGEST));
        answer.waiter.wait(until);
        let value = without_signals(|| {
            task.abort();
            drop(task);
            answer.value.lock().take()
        });
        value.ok_or_else(|| match limit {
            Some(limit) if Instant::now() >= until => Cause::Deadline { after: limit, last: None },
            _ => Cause::Other("a task of the store has panicked: a defect".into()),
        })
    }

    /// Returns what removes credentials from texts.
    pub(crate) fn redactor(&self) -> &Arc<Redactor> {
        &self.0.backends.redactor
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.0.engine
    }

    /// Returns what accesses may take by default.
    fn access(&self) -> Access {
        let numbers = &self.0.engine.options;
        Access { deadline: numbers.deadline, retries: numbers.retries, reads_ahead: true }
    }

    /// Opens an object, of a backend that may have to be made before, within one deadline.
    pub(crate) fn open_pinned<B>(
        &self,
        backend: B,
        path: Path,
        name: &Arc<str>,
        access: Access,
    ) -> Result<Object, Error>
    where
        B: Future<Output = Result<Arc<Backend>, Cause>> + Send + 'static,
    {
        let (engine, named, asked) = (Arc::clone(self.engine()), Arc::clone(name), Instant::now());
        let opening = async move {
            let made = timeout_at(asked + access.deadline, backend).await;
            let made = made.unwrap_or(Err(Cause::Deadline { after: access.deadline, last: None }));
            let backend = made.map_err(|cause| Error::new(&named, None, 0, cause))?;
            engine.open(&backend, &path, &named, access, asked).await
        };
        let opened = self.wait_for(opening, Some(access.deadline));
        let pinned = opened.unwrap_or_else(|cause| Err(Error::new(name, None, 0, cause)))?;
        let entry = (Arc::downgrade(&pinned), Arc::clone(&pinned.counters));
        without_signals(|| {
            let mut objects = self.0.objects.lock();
            objects.prune();
            objects.open.push(entry);
        });
        Ok(Object::new(self.clone(), pinned, access))
    }

    /// Gives up what an object has under way and in memory: its last handle is dropped.
    pub(crate) fn close(&self, object: &Pinned) {
        self.0.engine.close(object);
    }
}
