//! [`World`]: an object store in memory, with a weather: latency, loss, errors, outages, and an object that may be replaced.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use faultin_test::Random;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::backend::Refused;
use crate::error::Cause;

/// Longer than anything waits.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// How often things go wrong: once in so many requests; 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// The longest time to the head of an answer, and between two pieces of a body.
    pub latency: Duration,
    /// The head of the answer never comes.
    pub lost: u64,
    /// A status that is worth another attempt.
    pub busy: u64,
    /// The connection ends, at once or in the body.
    pub reset: u64,
    /// The body stops in the middle and never ends.
    pub stalled: u64,
    /// The body has fewer bytes than its head says, or more.
    pub short: u64,
    pub long: u64,
    /// The answer is of another range.
    pub elsewhere: u64,
}

/// How a store is that does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    Refuses,
    Hangs,
    Busy,
}

/// The store and its object.
pub struct World {
    pub block: u64,
    random: Random,
    /// The bytes of each version.
    versions: [Bytes; 2],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    weather: Weather,
    outage: Option<Outage>,
    /// The version that the store has.
    version: usize,
    /// Whether the store ignores `If-Match`.
    ignores_conditions: bool,
    next: u64,
    /// The blocks of the requests that are under way.
    live: HashMap<u64, Range<u64>>,
    /// How often each block was requested, and how often it was delivered with all of its request.
    requested: BTreeMap<u64, u32>,
    delivered: BTreeMap<u64, u32>,
    /// Two requests for one block at the same time.
    overlap: Option<String>,
    /// A hash of everything that has happened, and when.
    trace: u64,
    begun: Option<Instant>,
}

/// A request that is under way until this is dropped.
struct Request {
    world: Arc<World>,
    number: u64,
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.world.state.lock();
        state.live.remove(&self.number);
        state.note(2, self.number);
    }
}

impl State {
    fn note(&mut self, what: u64, value: u64) {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let now = begun.elapsed().as_nanos() as u64;
        for word in [what, value, now] {
            self.trace = (self.trace ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        }
    }
}

impl World {
    pub fn new(seed: u64, block: u64, len: u64) -> Arc<World> {
        let random = Random::for_user(seed, 1);
        let versions = [0, 1].map(|version| Random::for_user(seed, 100 + version).bytes(len as usize).into());
        Arc::new(World { block, random, versions, state: Mutex::default() })
    }

    /// Returns the bytes of the version that objects are pinned to.
    pub fn bytes(&self) -> &[u8] {
        &self.versions[0]
    }

    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    pub fn set_outage(&self, outage: Option<Outage>) {
        self.state.lock().outage = outage;
    }

    pub fn replace(&self, ignores_conditions: bool) {
        let mut state = self.state.lock();
        (state.version, state.ignores_conditions) = (1, ignores_conditions);
    }

    pub fn is_replaced(&self) -> bool {
        self.state.lock().version == 1
    }

    /// Returns the number of requests that are under way.
    pub fn live(&self) -> usize {
        self.state.lock().live.len()
    }

    /// Returns how often each block was requested since the last call.
    pub fn requested(&self) -> BTreeMap<u64, u32> {
        std::mem::take(&mut self.state.lock().requested)
    }

    /// Returns how often each block was delivered.
    pub fn delivered(&self) -> BTreeMap<u64, u32> {
        self.state.lock().delivered.clone()
    }

    pub fn overlap(&self) -> Option<String> {
        self.state.lock().overlap.clone()
    }

    pub fn trace(&self) -> u64 {
        self.state.lock().trace
    }

    /// Adds something that a client has seen to the trace.
    pub fn note(&self, value: u64) {
        self.state.lock().note(9, value);
    }

    fn blocks(&self, bytes: &Range<u64>) -> Range<u64> {
        bytes.start / self.block..bytes.end.div_ceil(self.block)
    }

    fn begin(self: &Arc<Self>, bytes: &Range<u64>) -> Request {
        let blocks = self.blocks(bytes);
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        if let Some(other) = state.live.values().find(|other| other.start < blocks.end && blocks.start < other.end) {
            state.overlap = Some(format!("blocks {blocks:?} are requested while {other:?} are under way"));
        }
        for block in blocks.clone() {
            *state.requested.entry(block).or_default() += 1;
        }
        state.note(1, bytes.start ^ bytes.end << 32);
        state.live.insert(number, blocks);
        Request { world: Arc::clone(self), number }
    }

    fn happens(&self, once_in: u64) -> bool {
        once_in > 0 && self.random.once_in(once_in)
    }

    async fn wait(&self, most: Duration) {
        let most = most.as_micros() as u64;
        if most > 0 {
            // Mostly short, sometimes as long as it gets: so that answers overtake each other.
            let limit = 1 + self.random.below(most);
            sleep(Duration::from_micros(self.random.below(limit))).await;
        }
    }
}

/// A transient error as the connection layer reports it.
fn refused(cause: Cause) -> Error {
    Error::Generic { store: "simulation", source: Box::new(Refused(cause)) }
}

fn reset() -> Error {
    refused(Cause::Connection("reset".into()))
}

/// A body that is being sent.
struct Body {
    request: Request,
    /// What is still to be sent.
    rest: Bytes,
    latency: Duration,
    /// How many bytes are sent before it ends as this says.
    until: usize,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Reset,
    Stalled,
    Over,
}

impl Body {
    async fn next(mut self) -> Option<(Result<Bytes>, Body)> {
        let world = Arc::clone(&self.request.world);
        world.wait(self.latency).await;
        if self.until == 0 || self.rest.is_empty() {
            match self.end {
                End::Reset => {
                    self.end = End::Over;
                    return Some((Err(reset()), self));
                }
                End::Stalled => sleep(NEVER).await,
                End::Whole => {
                    let mut state = world.state.lock();
                    let blocks = state.live.get(&self.request.number).cloned().unwrap_or_default();
                    blocks.for_each(|block| *state.delivered.entry(block).or_default() += 1);
                }
                End::Over => {}
            }
            return None;
        }
        let most = self.rest.len().min(self.until);
        let piece = self.rest.split_to(1 + world.random.below(most));
        self.until -= piece.len();
        Some((Ok(piece), self))
    }
}

/// The store as clients see it.
pub struct Simulated(pub Arc<World>);

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Simulated")
    }
}

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Simulated")
    }
}

impl Simulated {
    async fn get(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let world = &self.0;
        let len = world.bytes().len() as u64;
        let asked = match &options.range {
            Some(GetRange::Bounded(range)) => range.start..range.end.min(len),
            _ => 0..len,
        };
        let request = world.begin(if options.head { &(0..0) } else { &asked });
        let weather = world.state.lock().weather;
        world.wait(weather.latency).await;
        match world.state.lock().outage {
            Some(Outage::Hangs) => {}
            Some(Outage::Refuses) => return Err(refused(Cause::Connection("refused".into()))),
            Some(Outage::Busy) => return Err(refused(Cause::Status { status: 503, code: None, retry_after: None })),
            None => {}
        }
        let hangs = world.state.lock().outage == Some(Outage::Hangs);
        if hangs || world.happens(weather.lost) {
            sleep(NEVER).await;
        }
        if world.happens(weather.busy) {
            let status = world.random.of(&[429, 500, 502, 503]);
            let retry_after = world.happens(4).then(|| Duration::from_millis(world.random.below(400)));
            return Err(refused(Cause::Status { status, code: None, retry_after }));
        }
        if world.happens(weather.reset) {
            return Err(reset());
        }
        let (version, ignores) = {
            let state = world.state.lock();
            (state.version, state.ignores_conditions)
        };
        let etag = format!("\"{version}\"");
        if options.if_match.as_ref().is_some_and(|wanted| *wanted != etag) && !ignores {
            return Err(Error::Precondition { path: path.to_string(), source: "another version".into() });
        }
        let mut range = asked.clone();
        if world.happens(weather.elsewhere) {
            range = range.start.saturating_sub(1)..range.end.saturating_sub(1).max(range.start);
        }
        let mut rest = world.versions[version].slice(asked.start as usize..asked.end as usize);
        let (mut until, mut end) = (usize::MAX, End::Whole);
        if options.head {
            rest.clear();
            end = End::Over;
        } else if world.happens(weather.short) {
            (until, end) = (world.random.below(rest.len()), End::Over);
        } else if world.happens(weather.long) {
            rest = [&rest[..], b"more"].concat().into();
            end = End::Over;
        } else if world.happens(weather.stalled) {
            (until, end) = (world.random.below(rest.len()), End::Stalled);
        } else if world.happens(weather.reset) {
            (until, end) = (world.random.below(rest.len()), End::Reset);
        }
        let body = Body { request, rest, latency: weather.latency, until, end };
        Ok(GetResult {
            payload: GetResultPayload::Stream(unfold(body, Body::next).boxed()),
            meta: ObjectMeta {
                location: path.clone(),
                last_modified: SystemTime::UNIX_EPOCH.into(),
                size: len,
                e_tag: Some(etag),
                version: None,
            },
            range,
            attributes: Attributes::new(),
            extensions: Default::default(),
        })
    }
}

#[async_trait]
impl ObjectStore for Simulated {
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.get(path, options).await
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(Error::NotImplemented { operation: "put".into(), implementer: "simulation".into() })
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "put".into(), implementer: "simulation".into() })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        paths
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        futures_util::stream::empty().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(Error::NotImplemented { operation: "list".into(), implementer: "simulation".into() })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "simulation".into() })
    }
}
