//! A store in memory that does what a test tells it to.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use faultin::{Fault, ReadView};
use faultin_store::object_store::memory::InMemory;
use faultin_store::object_store::path::Path;
use faultin_store::object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

/// What the store does with a request.
#[derive(Clone, Debug)]
pub enum Does {
    /// Answers.
    Well,
    /// Never answers.
    Hangs,
    /// Answers, and the body ends with an error after this number of bytes.
    Breaks(usize),
    /// Answers, and the body never ends after this number of bytes.
    Stalls(usize),
    /// The body has this number of bytes more, or fewer.
    Differs(i64),
    /// Answers with another range, this number of bytes later.
    Shifted(u64),
    /// Answers with another entity tag.
    Retagged,
    /// Answers without an entity tag.
    Untagged,
    /// Fails, with an error that is not tried again.
    Fails,
    /// Replaces the object before it answers.
    Replaces(Vec<u8>),
}

#[derive(Debug, Default)]
struct State {
    /// What to do with the next requests, one each; then `always`.
    script: VecDeque<Does>,
    always: Option<Does>,
    delay: Duration,
    /// Before each piece of a body.
    pace: Duration,
    requests: Vec<Range<u64>>,
    active: usize,
    most_active: usize,
    /// Whether entity tags are left out, at all times.
    is_untagged: bool,
}

/// The store.
#[derive(Debug, Default)]
pub struct Scripted {
    inner: InMemory,
    state: Arc<Mutex<State>>,
    /// Is locked when the store is dropped.
    dropping: Arc<Mutex<()>>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        drop(self.dropping.lock());
    }
}

/// Counts a request while it is under way, also if it is cancelled.
struct Active(Arc<Mutex<State>>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.lock().unwrap().active -= 1;
    }
}

pub const PATH: &str = "data";

/// Bytes of which no two ranges are alike.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut state = seed;
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl Scripted {
    /// Makes a store with an object at [`PATH`].
    pub fn new(bytes: &[u8]) -> Arc<Scripted> {
        let store = Arc::new(Scripted::default());
        store.write(bytes);
        store
    }

    pub fn write(&self, bytes: &[u8]) {
        let payload = PutPayload::from(bytes.to_vec());
        run(self.inner.put(&Path::from(PATH), payload)).unwrap();
    }

    pub fn delete(&self) {
        run(self.inner.delete(&Path::from(PATH))).unwrap();
    }

    /// Returns a lock that is taken when the store is dropped.
    pub fn dropping(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.dropping)
    }

    pub fn next(&self, does: impl IntoIterator<Item = Does>) {
        self.state.lock().unwrap().script.extend(does);
    }

    pub fn always(&self, does: Option<Does>) {
        self.state.lock().unwrap().always = does;
    }

    pub fn delay(&self, delay: Duration) {
        self.state.lock().unwrap().delay = delay;
    }

    pub fn pace(&self, pace: Duration) {
        self.state.lock().unwrap().pace = pace;
    }

    pub fn untag(&self) {
        self.state.lock().unwrap().is_untagged = true;
    }

    /// Returns the ranges that were requested since the last call.
    pub fn requests(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// Returns the number of requests under way, and the largest one so far.
    pub fn active(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.active, state.most_active)
    }
}

/// Copies from a mapping as callers do: after a copy without progress, the fault is resolved as an ordinary function. Returns
/// the number of bytes, and why there are no more.
pub fn copy(view: &ReadView<'_>, to: &mut [u8], offset: usize) -> (usize, Option<Fault>) {
    let mut done = 0;
    while let Some(left) = NonZeroUsize::new(to.len() - done) {
        match view.read(&mut to[done..], offset + done) {
            Ok(()) => done = to.len(),
            Err(short) if short.done > 0 => done += short.done,
            Err(_) => {
                if let Err(fault) = view.fault_in(offset + done, left) {
                    return (done, Some(fault));
                }
            }
        }
    }
    (done, None)
}

/// Runs a future of the store in memory, which waits for nothing.
fn run<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

fn broken() -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset by the test");
    Error::Generic { store: "test", source: Box::new(source) }
}

impl fmt::Display for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

#[async_trait]
impl ObjectStore for Scripted {
    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        let (does, delay, pace, is_untagged) = {
            let mut state = self.state.lock().unwrap();
            if let Some(GetRange::Bounded(range)) = &options.range {
                state.requests.push(range.clone());
            }
            state.active += 1;
            state.most_active = state.most_active.max(state.active);
            let does = state.script.pop_front().or(state.always.clone()).unwrap_or(Does::Well);
            (does, state.delay, state.pace, state.is_untagged)
        };
        let active = Active(Arc::clone(&self.state));
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match &does {
            Does::Hangs => std::future::pending().await,
            Does::Fails => return Err(Error::Generic { store: "test", source: "as the test wants".into() }),
            Does::Replaces(bytes) => self.write(bytes),
            Does::Shifted(by) => {
                if let Some(GetRange::Bounded(range)) = &mut options.range {
                    *range = range.start + by..range.end + by;
                }
            }
            _ => {}
        }
        if is_untagged {
            options.if_match = None;
        }
        let mut result = self.inner.get_opts(location, options).await?;
        match &does {
            Does::Retagged => result.meta.e_tag = Some("\"another\"".into()),
            Does::Untagged => result.meta.e_tag = None,
            _ if is_untagged => result.meta.e_tag = None,
            _ => {}
        }
        let GetResultPayload::Stream(stream) = result.payload else { unreachable!("in memory") };
        let bytes: Vec<Bytes> = stream.map(|bytes| bytes.unwrap()).collect().await;
        let mut bytes: Vec<u8> = bytes.concat();
        let end: BoxStream<'static, Result<Bytes>> = match does {
            Does::Breaks(after) => {
                bytes.truncate(after);
                stream::once(async { Err(broken()) }).boxed()
            }
            Does::Stalls(after) => {
                bytes.truncate(after);
                stream::pending().boxed()
            }
            Does::Differs(by) => {
                bytes.resize(bytes.len().saturating_add_signed(by as isize), 7);
                stream::empty().boxed()
            }
            _ => stream::empty().boxed(),
        };
        // As a network would: in pieces. The request is under way until its body ends or is dropped.
        let pieces: Vec<Result<Bytes>> = bytes.chunks(10_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let body = stream::iter(pieces).chain(end).then(move |piece| {
            let _ = &active;
            async move {
                if !pace.is_zero() {
                    tokio::time::sleep(pace).await;
                }
                piece
            }
        });
        Ok(GetResult { payload: GetResultPayload::Stream(body.boxed()), ..result })
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
