//! The body of an answer, as blocks.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::GetResultPayload;
use object_store::ObjectMeta;
use tokio::time::timeout;

use super::Head;
use crate::backend::{Backend, cause_of};
use crate::engine::Engine;
use crate::error::Cause;
use crate::flight::Flight;
use crate::pinned::Pinned;
use crate::pool::{Buffer, Room};
use crate::stats::{Counters, add};

/// Number of bytes of a file that are read at once.
#[cfg(feature = "local")]
const PIECE: u64 = 256 << 10;

/// Takes the bytes of a body apart into blocks, and hands those to a flight that are certain.
pub(crate) struct Sink<'f> {
    flight: &'f Flight,
    room: Room,
    block: usize,
    /// Number of bytes that are still expected.
    left: u64,
    /// The block that is being filled.
    current: Option<Buffer>,
    /// Blocks that are full, and not handed over yet.
    full: Vec<Buffer>,
}

impl<'f> Sink<'f> {
    pub(crate) fn new(flight: &'f Flight, room: Room, block: usize) -> Sink<'f> {
        Sink { flight, room, block, left: 0, current: None, full: Vec::new() }
    }

    /// Begins a body of `len` bytes. What an earlier one has left is dropped.
    fn begin(&mut self, len: u64) {
        self.left = len;
        self.current.take().into_iter().chain(self.full.drain(..)).for_each(|buffer| self.room.give_back(buffer));
    }

    /// Adds bytes. Returns whether there were too many.
    fn add(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.left == 0 {
                return true;
            }
            if self.current.is_none() {
                self.current = self.room.take();
            }
            let Some(buffer) = &mut self.current else { return true };
            let buffer = buffer.bytes_mut();
            let more = bytes.len().min(self.block - buffer.len()).min(usize::try_from(self.left).unwrap_or(usize::MAX));
            buffer.extend_from_slice(&bytes[..more]);
            self.left -= more as u64;
            bytes = &bytes[more..];
            if buffer.len() == self.block || self.left == 0 {
                self.full.extend(self.current.take());
            }
        }
        false
    }

    /// Hands the blocks over that are full: all of them, or all but the last one of the body, of which more bytes than it
    /// has may follow.
    fn hand_over(&mut self, is_over: bool) {
        let keep = usize::from(!is_over && self.left == 0);
        let count = self.full.len().saturating_sub(keep);
        if count > 0 {
            self.flight.push(self.full.drain(..count).map(Buffer::freeze));
        }
    }
}

/// Reads a body to its end.
///
/// # Errors
/// If it has another length, ends early, or has another checksum than it should have. The blocks that were handed over
/// before stay.
pub(crate) async fn read_body(engine: &Engine, object: &Pinned, head: Head, sink: &mut Sink<'_>) -> Result<(), Cause> {
    let expected = head.result.range.end - head.result.range.start;
    sink.begin(expected);
    #[cfg(feature = "net")]
    let is_certain = head.is_measured && head.checksum.is_none();
    #[cfg(not(feature = "net"))]
    let is_certain = head.is_measured;
    #[cfg(feature = "net")]
    let checksum = head.checksum.clone();
    let mut pieces = Pieces::new(head);
    while let Some(piece) = next(&mut pieces, &object.backend, engine.options.attempt).await? {
        // Accesses that have come since the head are not without an answer.
        engine.answered(&object.backend, &object.name);
        add(&object.counters.received, piece.len() as u64);
        if sink.add(&piece) {
            return Err(Cause::Length { expected, got: expected + 1 });
        }
        if is_certain {
            sink.hand_over(false);
        }
    }
    if sink.left > 0 {
        return Err(Cause::Length { expected, got: expected - sink.left });
    }
    #[cfg(feature = "net")]
    if let Some(checksum) = checksum {
        checksum.check(sink.full.iter().map(AsRef::as_ref))?;
    }
    sink.hand_over(true);
    Ok(())
}

/// Reads a short body as a whole, to the end of `bytes`, which are empty.
///
/// # Errors
/// As [`read_body`].
pub(super) async fn whole(
    head: Head,
    backend: &Backend,
    limit: Duration,
    counters: &Counters,
    bytes: &mut Vec<u8>,
) -> Result<(), Cause> {
    let expected = head.result.range.end - head.result.range.start;
    #[cfg(feature = "net")]
    let checksum = head.checksum.clone();
    let mut pieces = Pieces::new(head);
    while let Some(piece) = next(&mut pieces, backend, limit).await? {
        add(&counters.received, piece.len() as u64);
        let got = (bytes.len() + piece.len()) as u64;
        if got > expected {
            return Err(Cause::Length { expected, got });
        }
        bytes.extend_from_slice(&piece);
    }
    if bytes.len() as u64 != expected {
        return Err(Cause::Length { expected, got: bytes.len() as u64 });
    }
    #[cfg(feature = "net")]
    if let Some(checksum) = checksum {
        checksum.check(std::iter::once(&bytes[..]))?;
    }
    Ok(())
}

async fn next(pieces: &mut Pieces, backend: &Backend, limit: Duration) -> Result<Option<Bytes>, Cause> {
    match timeout(limit, pieces.next(backend)).await {
        Ok(result) => result,
        Err(_) => Err(Cause::TimedOut(limit)),
    }
}

/// The pieces of a body.
enum Pieces {
    Stream(futures_util::stream::BoxStream<'static, object_store::Result<Bytes>>),
    #[cfg(feature = "local")]
    File {
        file: std::sync::Arc<std::fs::File>,
        at: u64,
        end: u64,
        meta: ObjectMeta,
    },
    /// A payload of a feature that is not this crate's.
    Unknown,
}

impl Pieces {
    fn new(head: Head) -> Pieces {
        let range = head.result.range.clone();
        let meta: ObjectMeta = head.result.meta;
        let _ = (&range, &meta);
        match head.result.payload {
            GetResultPayload::Stream(stream) => Pieces::Stream(stream),
            #[cfg(feature = "local")]
            GetResultPayload::File(file, _) => {
                Pieces::File { file: file.into(), at: range.start, end: range.end, meta }
            }
            #[allow(unreachable_patterns, reason = "another crate may enable a feature of object_store")]
            _ => Pieces::Unknown,
        }
    }

    async fn next(&mut self, backend: &Backend) -> Result<Option<Bytes>, Cause> {
        match self {
            Pieces::Stream(stream) => match stream.next().await {
                None => Ok(None),
                Some(Ok(bytes)) => Ok(Some(bytes)),
                Some(Err(error)) => Err(match cause_of(&error, &backend.redactor) {
                    // Within a body, every end of the transfer is a connection that failed.
                    Cause::Other(what) => Cause::Connection(what),
                    cause => cause,
                }),
            },
            #[cfg(feature = "local")]
            Pieces::File { at, end, .. } if at == end => Ok(None),
            #[cfg(feature = "local")]
            Pieces::File { file, at, end, meta } => {
                let (from, len) = (*at, (*end - *at).min(PIECE));
                *at += len;
                let (file, meta) = (std::sync::Arc::clone(file), meta.clone());
                let read = tokio::task::spawn_blocking(move || read_file(&file, from, len, &meta)).await;
                read.unwrap_or_else(|_| Err(Cause::Closed)).map(Some)
            }
            Pieces::Unknown => {
                Err(Cause::Unsupported("the store has answered with a file: enable the feature local".into()))
            }
        }
    }
}

/// Reads a piece of a file, and checks afterwards that the file has not changed.
#[cfg(feature = "local")]
fn read_file(file: &std::fs::File, from: u64, len: u64, meta: &ObjectMeta) -> Result<Bytes, Cause> {
    use std::os::unix::fs::FileExt;

    let failed = |error: std::io::Error| Cause::Other(error.to_string().into());
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| Cause::NoMemory)?];
    let read = file.read_exact_at(&mut bytes, from);
    let now = file.metadata().map_err(failed)?;
    let time = now.modified().map_err(failed)?;
    let pinned = crate::pin::Version::of(meta);
    if now.len() != meta.size || time != std::time::SystemTime::from(meta.last_modified) {
        let found = crate::pin::Version { etag: None, id: None, len: now.len(), modified: Some(time) };
        return Err(Cause::Replaced { pinned, found: Some(found) });
    }
    read.map_err(failed)?;
    Ok(bytes.into())
}
