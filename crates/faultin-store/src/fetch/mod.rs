//! One attempt of a request: a range of one version of an object, or the reason why not.

mod body;
#[cfg(feature = "net")]
pub(crate) mod checksum;

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use object_store::{Attribute, GetOptions, GetRange, GetResult};
use tokio::time::{Instant, timeout};

pub(crate) use body::{Sink, read_body};

#[cfg(feature = "net")]
use crate::backend::{Asked, PinnedHead, Seen};
use crate::backend::{Backend, cause_of};
use crate::engine::Engine;
use crate::error::Cause;
use crate::pin::Version;
use crate::pinned::Pinned;
use crate::stats::{Counters, add, nanoseconds};

/// An answer whose head is as it has to be.
pub(crate) struct Head {
    pub(crate) result: GetResult,
    /// Whether the body is known to be as long as the range before it has ended.
    pub(crate) is_measured: bool,
    #[cfg(feature = "net")]
    pub(crate) checksum: Option<checksum::Checksum>,
}

/// Requests a range of an object, for an access that ends at `deadline`.
///
/// # Errors
/// Why the answer is none, or of something else.
pub(crate) async fn request(
    engine: &Engine,
    object: &Pinned,
    range: &Range<u64>,
    deadline: Instant,
) -> Result<Head, Cause> {
    let version = &object.version;
    let mut options = GetOptions {
        range: Some(GetRange::Bounded(range.clone())),
        if_match: version.etag.as_deref().map(str::to_owned),
        version: version.id.as_deref().filter(|_| engine.options.old_versions).map(str::to_owned),
        ..GetOptions::default()
    };
    if version.etag.is_none() {
        options.if_unmodified_since = version.modified.map(Into::into);
    }
    #[cfg(feature = "net")]
    options.extensions.insert(Asked {
        range: Some(range.clone()),
        pinned: Some(PinnedHead {
            version: version.clone(),
            kind: object.kind.clone(),
            encoding: object.encoding.clone(),
        }),
    });
    let limit = engine.options.attempt;
    let backend = &object.backend;
    let head = match get_opts(backend, &object.path, options, limit).await {
        // A condition that did not hold, or a range that the version had.
        Err(cause @ Cause::Status { status: 412 | 416, .. }) => {
            engine.answered(backend, &object.name);
            // What is known must not become a deadline that has passed.
            let left = deadline.saturating_duration_since(Instant::now());
            return Err(replaced(object, cause, limit.min(left / 2)).await);
        }
        // Nothing there any more.
        Err(Cause::NotFound | Cause::Status { status: 404 | 410, .. }) => {
            return Err(Cause::Replaced { pinned: version.clone(), found: None });
        }
        other => other?,
    };
    let found = Version::of(&head.result.meta);
    if !version.is(&found) {
        let cause = Cause::Replaced { pinned: version.clone(), found: Some(found) };
        return Err(cause.redacted(&backend.redactor));
    }
    if head.result.range != *range {
        return Err(Cause::WrongRange { got: Some(head.result.range) });
    }
    Ok(head)
}

/// Sends a request.
async fn get_opts(
    backend: &Backend,
    path: &object_store::path::Path,
    options: GetOptions,
    limit: Duration,
) -> Result<Head, Cause> {
    // `object_store` panics where a credential that it was given later, such as by a server, cannot be in a header.
    let request = AssertUnwindSafe(backend.store.get_opts(path, options)).catch_unwind();
    let result = match timeout(limit, request).await {
        Ok(Ok(Ok(result))) => Ok(result),
        Ok(Ok(Err(error))) => Err(cause_of(&error, &backend.redactor).redacted(&backend.redactor)),
        Ok(Err(_)) => Err(Cause::Other("object_store has panicked: a credential may be malformed".into())),
        Err(_) => Err(Cause::TimedOut(limit)),
    };
    #[cfg(feature = "net")]
    let head = result.map(|mut result| {
        let seen = result.extensions.remove::<Seen>();
        let (is_measured, checksum) = seen.map_or((true, None), |seen| (seen.is_measured, seen.checksum));
        Head { result, is_measured, checksum }
    });
    #[cfg(not(feature = "net"))]
    let head = result.map(|result| Head { result, is_measured: true });
    head
}

/// Returns which version the store has now, or `cause` if it is the same.
async fn replaced(object: &Pinned, cause: Cause, limit: Duration) -> Cause {
    add(&object.counters.requests, 1);
    let found = match head(&object.backend, &object.path, limit).await {
        Ok(head) => Some(Version::of(&head.result.meta)),
        Err(_) => None,
    };
    // A condition that is said not to hold may have been replaced, and back again. A range is there or not.
    let is_range = matches!(cause, Cause::Status { status: 416, .. });
    if is_range && found.as_ref().is_some_and(|found| object.version.is(found)) {
        return cause;
    }
    Cause::Replaced { pinned: object.version.clone(), found }.redacted(&object.backend.redactor)
}

/// Asks for what a store says of an object, without its bytes.
async fn head(backend: &Backend, path: &object_store::path::Path, limit: Duration) -> Result<Head, Cause> {
    let mut options = GetOptions { head: true, ..GetOptions::default() };
    #[cfg(feature = "net")]
    options.extensions.insert(Asked { range: None, pinned: None });
    let _ = &mut options;
    get_opts(backend, path, options, limit).await
}

/// What an object was found to be.
pub(crate) struct Found {
    pub(crate) version: Version,
    pub(crate) kind: Option<std::sync::Arc<str>>,
    pub(crate) encoding: Option<std::sync::Arc<str>>,
}

/// Opens an object by requesting its first block, whose bytes are those of `first` afterwards: one round trip to its first byte.
///
/// # Errors
/// Why it cannot be opened.
pub(crate) async fn open(
    engine: &Engine,
    backend: &Backend,
    path: &object_store::path::Path,
    counters: &Counters,
    first: &mut Vec<u8>,
) -> Result<Found, Cause> {
    first.clear();
    let limit = engine.options.attempt;
    let range = 0..engine.options.block as u64;
    let mut options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
    #[cfg(feature = "net")]
    options.extensions.insert(Asked { range: Some(range), pinned: None });
    let _ = &mut options;
    add(&counters.requests, 1);
    let begun = Instant::now();
    let head = match get_opts(backend, path, options, limit).await {
        Ok(head) => head,
        // An empty object has no such range. Stores say so in different ways, or send it as a whole.
        Err(cause) if may_be_empty(&cause) => {
            add(&counters.requests, 1);
            return match self::head(backend, path, limit).await {
                Ok(head) if head.result.meta.size == 0 => Ok(Found::of(&head)),
                _ => Err(cause),
            };
        }
        Err(Cause::Status { status: 404 | 410, .. }) => return Err(Cause::NotFound),
        Err(cause) => return Err(cause),
    };
    let expected = head.result.range.clone();
    let found = Found::of(&head);
    if expected != (0..found.version.len.min(engine.options.block as u64)) {
        return Err(Cause::WrongRange { got: Some(expected) });
    }
    body::whole(head, backend, limit, counters, first).await?;
    counters.io_time.fetch_add(nanoseconds(begun.elapsed()), Ordering::Relaxed);
    Ok(found)
}

/// Returns whether this is what a store says of a range of an empty object.
fn may_be_empty(cause: &Cause) -> bool {
    match cause {
        Cause::Status { status, .. } => *status == 416,
        Cause::WrongRange { got } => got.as_ref().is_some_and(Range::is_empty),
        Cause::Other(_) => true,
        _ => false,
    }
}

impl Found {
    fn of(head: &Head) -> Found {
        let text = |name| head.result.attributes.get(&name).map(|text| std::sync::Arc::from(text.as_ref()));
        let (kind, encoding) = (text(Attribute::ContentType), text(Attribute::ContentEncoding));
        Found { version: Version::of(&head.result.meta), kind, encoding }
    }
}
