//! [`Error`]: which object and range could not be read, at which attempt, and why.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::pin::Version;

/// The reason why an object, or a range of it, could not be read.
///
/// Readers of a cached file find it in [`faultin_cache::Error::Store`]: see [`Error::of`]. It contains no credentials:
/// neither the user and password nor the query of a URL.
#[derive(Clone, Debug)]
pub struct Error(Arc<Failure>);

#[derive(Debug)]
struct Failure {
    object: Arc<str>,
    range: Option<Range<u64>>,
    attempts: u32,
    cause: Cause,
}

/// Why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The object is no longer the one that was opened. [`Object::refresh`](crate::Object::refresh) takes the new version.
    Replaced {
        /// The version that was opened.
        pinned: Version,
        /// The version that the store has now; `None` if it did not tell, or has none any more.
        found: Option<Version>,
    },
    /// There is no such object.
    NotFound,
    /// The store has no entity tags, so a replaced object could not be told from the one that was opened.
    Unversioned,
    /// The store's answer has another status than was expected. 429 and 500 to 599 were tried again.
    Status {
        /// The HTTP status.
        status: u16,
        /// The store's own name for the error, such as `SlowDown`, if its answer has one.
        code: Option<Arc<str>>,
        /// How long the store wants clients to wait (`Retry-After`). An access whose deadline is earlier fails at once.
        retry_after: Option<Duration>,
    },
    /// The body of the answer has fewer or more bytes than were requested.
    Length {
        /// The number of bytes that were requested.
        expected: u64,
        /// The number of bytes of the body; more of them may have been left unread.
        got: u64,
    },
    /// The answer is not of the range that was requested, but of another one, or of the object as a whole.
    WrongRange {
        /// What the answer says that it has.
        got: Option<Range<u64>>,
    },
    /// The answer says that it is of another kind than the object: an error page of something between here and the store.
    ContentType {
        /// The kind that the object has.
        expected: Option<Arc<str>>,
        /// The kind that the answer has.
        got: Option<Arc<str>>,
    },
    /// The store says that the object is elsewhere. Requests are not sent there, as they have credentials.
    Redirected {
        /// The HTTP status.
        status: u16,
        /// The host.
        host: Option<Arc<str>>,
    },
    /// The bytes do not have the checksum that the store says they have.
    Checksum {
        /// The name of the checksum.
        name: &'static str,
    },
    /// No connection, or it ended early.
    Connection(Arc<str>),
    /// An attempt took longer than an attempt may.
    TimedOut(Duration),
    /// The deadline of the access has passed.
    Deadline {
        /// The time that the access had.
        after: Duration,
        /// Why the last attempt failed; `None` if none had ended.
        last: Option<Box<Cause>>,
    },
    /// The store did not work when it was last tried, a moment ago, so this access has not waited for it.
    Down {
        /// How long it has not worked.
        since: Duration,
        /// Why the last attempt failed.
        last: Box<Cause>,
    },
    /// The memory limit leaves no room for the range.
    NoMemory,
    /// The store, or the process that opened the object, no longer exists: after `fork`, for example.
    Closed,
    /// The URL or an option cannot be used.
    Unsupported(Arc<str>),
    /// Anything else that the store has said, without URLs.
    Other(Arc<str>),
}

impl Cause {
    /// Returns how long the store wants clients to wait.
    pub(crate) fn wants_pause(&self) -> Duration {
        match self {
            Cause::Status { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }
}

/// A number of bytes.
pub(crate) struct Count(pub(crate) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 byte"),
            number => write!(f, "{number} bytes"),
        }
    }
}

impl Cause {
    /// Returns whether trying again may help: the status 429, 5xx, connections that end, and time-outs.
    pub fn is_transient(&self) -> bool {
        match self {
            Cause::Status { status, .. } => matches!(status, 429 | 500..=599),
            Cause::Connection(_) | Cause::TimedOut(_) | Cause::Deadline { .. } | Cause::Down { .. } => true,
            _ => false,
        }
    }

    /// Returns it without credentials in what the store has said.
    pub(crate) fn redacted(mut self, redactor: &crate::backend::Redactor) -> Cause {
        let clean = |text: &mut Option<Arc<str>>| {
            if let Some(text) = text {
                *text = redactor.short(text);
            }
        };
        match &mut self {
            Cause::Status { code, .. } => clean(code),
            Cause::ContentType { got, .. } => clean(got),
            Cause::Redirected { host, .. } => clean(host),
            Cause::Replaced { found: Some(found), .. } => {
                clean(&mut found.etag);
                clean(&mut found.id);
            }
            _ => {}
        }
        self
    }

    /// Returns whether the store has not answered at all, as far as is known.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Cause::TimedOut(_) | Cause::Deadline { last: None, .. } => true,
            Cause::Deadline { last: Some(last), .. } => last.is_silence(),
            _ => false,
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Cause::Replaced { .. } => io::ErrorKind::StaleNetworkFileHandle,
            Cause::NotFound => io::ErrorKind::NotFound,
            Cause::Status { status: 401 | 403, .. } => io::ErrorKind::PermissionDenied,
            Cause::Length { .. } | Cause::WrongRange { .. } | Cause::ContentType { .. } | Cause::Checksum { .. } => {
                io::ErrorKind::InvalidData
            }
            Cause::Connection(_) => io::ErrorKind::ConnectionAborted,
            Cause::TimedOut(_) | Cause::Deadline { .. } => io::ErrorKind::TimedOut,
            Cause::Down { .. } => io::ErrorKind::HostUnreachable,
            Cause::NoMemory => io::ErrorKind::OutOfMemory,
            Cause::Unversioned | Cause::Unsupported(_) => io::ErrorKind::Unsupported,
            Cause::Status { .. } | Cause::Redirected { .. } | Cause::Closed | Cause::Other(_) => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Replaced { pinned, found: Some(found) } => {
                write!(f, "the object was replaced: it was opened as {pinned}, and the store has {found}")
            }
            Cause::Replaced { pinned, found: None } => {
                write!(f, "the object was replaced: it was opened as {pinned}, which the store no longer has")
            }
            Cause::NotFound => f.write_str("there is no such object"),
            Cause::Unversioned => f.write_str(
                "the store has no entity tags, so a replaced object would go unnoticed: \
                 StoreOptions::accept_unversioned compares length and time instead, if the store has both",
            ),
            Cause::Status { status, code: Some(code), .. } => {
                write!(f, "the store answered with status {status}, {code}")
            }
            Cause::Status { status, code: None, .. } => write!(f, "the store answered with status {status}"),
            Cause::Length { expected, got } if got < expected => {
                write!(f, "the body has {} instead of {expected}", Count(*got))
            }
            Cause::Length { expected, .. } => {
                write!(f, "the body has more than the requested {}", Count(*expected))
            }
            Cause::WrongRange { got: Some(got) } => {
                write!(f, "the answer has bytes {} to {}, not what was requested", got.start, got.end)
            }
            Cause::WrongRange { got: None } => f.write_str("the answer does not have the range that was requested"),
            Cause::ContentType { expected, got } => {
                let name = |kind: &Option<Arc<str>>| kind.as_deref().map_or("none", |kind| kind).to_owned();
                write!(f, "the content type is {}, that of the object {}", name(got), name(expected))
            }
            Cause::Redirected { status, host: Some(host) } => {
                write!(f, "a redirect to {host} (status {status}), which is not followed")
            }
            Cause::Redirected { status, host: None } => {
                write!(f, "a redirect (status {status}), which is not followed")
            }
            Cause::Checksum { name } => write!(f, "the bytes do not have the {name} that the store says they have"),
            Cause::Connection(what) => write!(f, "the connection failed: {what}"),
            Cause::TimedOut(after) => write!(f, "no answer within {after:?}"),
            Cause::Deadline { after, last: Some(last) } => {
                write!(f, "the deadline of {after:?} has passed; before, {last}")
            }
            Cause::Deadline { after, last: None } => write!(f, "the deadline of {after:?} has passed"),
            Cause::Down { since, last } => write!(f, "the store has not worked for {since:.1?}: {last}"),
            Cause::NoMemory => f.write_str("the memory limit of the store leaves no room for it"),
            Cause::Closed => f.write_str("the store was opened by a process that does not exist here"),
            Cause::Unsupported(what) | Cause::Other(what) => f.write_str(what),
        }
    }
}

impl Error {
    pub(crate) fn new(object: &Arc<str>, range: Option<Range<u64>>, attempts: u32, cause: Cause) -> Error {
        Error(Arc::new(Failure { object: Arc::clone(object), range, attempts, cause }))
    }

    /// Returns the error of a store in an error of a cached file, of a mapping, or of [`std::io`], if there is one.
    pub fn of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Error>() {
                return Some(found);
            }
            // An `io::Error` leaves the error that it contains out of its sources.
            let shared = error.downcast_ref::<Arc<io::Error>>().map(|error| &**error);
            next = match shared.or_else(|| error.downcast_ref()).and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    /// Returns the URL of the object, without user, password and query.
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// Returns the range that was requested. `None` if it was not a range that failed.
    pub fn range(&self) -> Option<Range<u64>> {
        self.0.range.clone()
    }

    /// Returns the number of requests that were made for it; 0 if none was.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Returns the reason.
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { object, range, attempts, cause } = &*self.0;
        write!(f, "{object}")?;
        if let Some(range) = range {
            write!(f, ", bytes {} to {}", range.start, range.end)?;
        }
        match attempts {
            0 => write!(f, ": {cause}"),
            attempts => write!(f, ", attempt {attempts}: {cause}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(error.0.cause.kind(), error)
    }
}
