//! [`Client`]: the requests of a check. Each ends in time, and its error is a few words without credentials.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion,
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::Verdict;
use crate::backend::{Redactor, brief_of, connection_of, is_not_in_range};

/// Longest time of all probes, and of the removal of what they have made.
const PROBES: Duration = Duration::from_secs(600);
const REMOVAL: Duration = Duration::from_secs(60);

/// Number of requests in a row without an answer in time after which no other one is sent.
const SILENT: u32 = 2;

/// Maximum number of bytes of an answer; no object of a check has as many.
const BODY: usize = 1 << 20;

/// A store that is being checked.
pub struct Client {
    store: Arc<dyn ObjectStore>,
    redactor: Arc<Redactor>,
    /// Longest time of a request.
    attempt: Duration,
    /// When requests end.
    until: Instant,
    /// Number of requests in a row that had no answer in time.
    silent: AtomicU32,
    /// The objects that there may be; `true` if the store has not said otherwise.
    made: Mutex<BTreeMap<Path, bool>>,
}

/// Why a request failed.
#[derive(Debug)]
pub enum Failure {
    /// There is no such object.
    NotFound,
    /// There is an object.
    Exists,
    /// The condition does not hold.
    Condition,
    /// The condition does not hold, of a read.
    NotModified,
    /// It is not allowed.
    Denied(&'static str),
    /// The client cannot ask this.
    Unsupported,
    /// It was not sent.
    Unsent(Arc<str>),
    /// It may have been sent, and had no answer.
    NoAnswer(Arc<str>),
    /// The object does not have the range.
    Range(Arc<str>),
    /// Anything else that the store has said.
    Other(Arc<str>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::NotFound => "not found",
            Failure::Exists => "the object exists",
            Failure::Condition => "the condition does not hold",
            Failure::NotModified => "not modified",
            Failure::Denied(what) => what,
            Failure::Unsupported => "not supported",
            Failure::Range(what) | Failure::Unsent(what) | Failure::NoAnswer(what) | Failure::Other(what) => what,
        })
    }
}

/// The verdict for a request that failed, and should not have.
impl From<Failure> for Verdict {
    fn from(failure: Failure) -> Verdict {
        match failure {
            Failure::Unsupported => Verdict::Unsupported,
            failure => Verdict::Unknown(failure.to_string()),
        }
    }
}

impl Failure {
    fn of(error: &StoreError, redactor: &Redactor) -> Failure {
        match error {
            StoreError::NotFound { .. } => Failure::NotFound,
            StoreError::AlreadyExists { .. } => Failure::Exists,
            StoreError::Precondition { .. } => Failure::Condition,
            StoreError::NotModified { .. } => Failure::NotModified,
            StoreError::PermissionDenied { .. } => Failure::Denied("permission denied"),
            StoreError::Unauthenticated { .. } => Failure::Denied("not authenticated"),
            StoreError::NotImplemented { .. } | StoreError::NotSupported { .. } => Failure::Unsupported,
            error if is_not_in_range(error) => Failure::Range(brief_of(error, redactor)),
            error => match connection_of(error) {
                Some(true) => Failure::NoAnswer(brief_of(error, redactor)),
                Some(false) => Failure::Unsent(brief_of(error, redactor)),
                None => Failure::Other(brief_of(error, redactor)),
            },
        }
    }
}

impl Client {
    pub fn new(store: Arc<dyn ObjectStore>, redactor: &Arc<Redactor>, attempt: Duration) -> Client {
        Client {
            store,
            redactor: Arc::clone(redactor),
            attempt,
            until: Instant::now() + PROBES,
            silent: AtomicU32::new(0),
            made: Mutex::default(),
        }
    }

    /// Returns a text without credentials.
    pub fn redacted(&self, text: &str) -> String {
        self.redactor.text(text).to_string()
    }

    /// Waits for an answer as long as a request may take.
    async fn answer<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, Failure> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Unsent("the check has taken too long".into()));
        }
        if self.silent.load(Relaxed) >= SILENT {
            return Err(Failure::Unsent(format!("no answer within {:?} to requests before", self.attempt).into()));
        }
        let limit = self.attempt.min(left);
        // `object_store` panics where a credential that it was given later, such as by a server, cannot be in a header.
        let result = timeout(limit, AssertUnwindSafe(request).catch_unwind()).await;
        match result {
            Ok(_) => self.silent.store(0, Relaxed),
            Err(_) => drop(self.silent.fetch_add(1, Relaxed)),
        }
        match result {
            Ok(Ok(result)) => result.map_err(|error| Failure::of(&error, &self.redactor)),
            Ok(Err(_)) => Err(Failure::Unsent("object_store has panicked: a credential may be malformed".into())),
            Err(_) => Err(Failure::NoAnswer(format!("no answer within {limit:?}").into())),
        }
    }

    /// Writes an object without a condition, and returns its version.
    pub async fn put(&self, path: &Path, content: &[u8]) -> Result<UpdateVersion, Failure> {
        self.put_if(path, content, PutMode::Overwrite).await
    }

    /// Writes an object with a condition. It will be removed.
    pub async fn put_if(&self, path: &Path, content: &[u8], mode: PutMode) -> Result<UpdateVersion, Failure> {
        let options = PutOptions { mode, ..PutOptions::default() };
        let result = self.answer(self.store.put_opts(path, content.to_vec().into(), options)).await;
        let is_made = match &result {
            Ok(_) | Err(Failure::NoAnswer(_)) => Some(true),
            // Such as status 500.
            Err(Failure::Other(_)) => Some(false),
            Err(_) => None,
        };
        if let Some(is_made) = is_made {
            *self.made.lock().entry(path.clone()).or_default() |= is_made;
        }
        result.map(UpdateVersion::from)
    }

    /// Reads an object, or a part of it.
    pub async fn get(&self, path: &Path, options: GetOptions) -> Result<(ObjectMeta, Bytes), Failure> {
        let is_head = options.head;
        let read = async {
            let got = self.store.get_opts(path, options).await?;
            let (meta, mut bytes) = (got.meta.clone(), Vec::new());
            let mut body = got.into_stream();
            while !is_head && bytes.len() <= BODY {
                let Some(next) = body.next().await else { break };
                bytes.extend_from_slice(&next?);
            }
            Ok((meta, bytes))
        };
        match self.answer(read).await? {
            (_, bytes) if bytes.len() > BODY => Err(Failure::Other(format!("more than {BODY} bytes were sent").into())),
            (meta, bytes) => Ok((meta, bytes.into())),
        }
    }

    /// Reads what the store says of an object.
    pub async fn head(&self, path: &Path) -> Result<ObjectMeta, Failure> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        Ok(self.get(path, options).await?.0)
    }

    pub async fn delete(&self, path: &Path) -> Result<(), Failure> {
        self.answer(self.store.delete(path)).await
    }

    /// Removes what was made; returns what could not be removed, and why. If the store is silent, that ends with one request.
    pub async fn remove_all(mut self) -> Vec<String> {
        self.until = Instant::now() + REMOVAL;
        self.silent = AtomicU32::new(SILENT - 1);
        let mut left = Vec::new();
        for (path, is_made) in std::mem::take(self.made.get_mut()) {
            match self.delete(&path).await {
                Err(failure) if is_made && !matches!(failure, Failure::NotFound) => {
                    left.push(self.redacted(&format!("{path}: {failure}")));
                }
                _ => {}
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_no_query_and_no_secret() {
        let redactor = Redactor::new([("aws_session_token", "hunter22")].into_iter());
        let brief = |source: &str| {
            let error = StoreError::Generic { store: "test", source: source.into() };
            Failure::of(&error, &redactor).to_string()
        };
        let text = "GET https://account.example/container/object?sig=SECRET&x=y failed\nwith status 500";
        assert_eq!(brief(text), "GET https://account.example/container/object failed with status 500");
        assert_eq!(brief("a key hunter22 \u{1b}[31mred"), "a key *** [31mred");
        assert_eq!(brief(&"ü".repeat(500)).chars().count(), 123);
    }

    #[cfg(feature = "net")]
    #[test]
    fn a_failure_has_no_value_of_an_answer_that_is_not_json() {
        let json = serde_json::from_str::<u32>("\"hunter22\"").expect_err("no number");
        let error = StoreError::Generic { store: "test", source: Box::new(json) };
        let says = Failure::of(&error, &Redactor::default()).to_string();
        assert!(says.contains("JSON") && !says.contains("hunter22"), "{says}");
    }
}
