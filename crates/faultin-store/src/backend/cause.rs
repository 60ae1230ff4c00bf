//! From the errors of `object_store` to a [`Cause`].

use std::error::Error as StdError;
use std::fmt;

use crate::backend::Redactor;
use crate::error::Cause;

/// A [`Cause`] on its way through `object_store`.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Cause);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Refused {}

/// Returns why a request failed. Which version the store has is not known here.
pub(crate) fn cause_of(error: &object_store::Error, redactor: &Redactor) -> Cause {
    if let Some(Refused(cause)) = find(error) {
        return cause.clone();
    }
    #[cfg(feature = "net")]
    if let Some(error) = find::<object_store::client::HttpError>(error) {
        return of_transport(error, redactor);
    }
    let status = |status| Cause::Status { status, code: None, retry_after: None };
    match error {
        object_store::Error::NotFound { .. } => Cause::NotFound,
        object_store::Error::Precondition { .. } => status(412),
        object_store::Error::NotModified { .. } => status(304),
        object_store::Error::PermissionDenied { .. } => status(403),
        object_store::Error::Unauthenticated { .. } => status(401),
        object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => {
            Cause::Unsupported(redactor.text(&error.to_string()))
        }
        _ => match find::<std::io::Error>(error).map(std::io::Error::kind) {
            Some(std::io::ErrorKind::PermissionDenied) => status(403),
            _ => Cause::Other(redactor.text(&error.to_string())),
        },
    }
}

/// Returns why a transfer ended: a connection that failed is tried again.
#[cfg(feature = "net")]
fn of_transport(error: &object_store::client::HttpError, redactor: &Redactor) -> Cause {
    // A request that cannot be sent is not sent again.
    if find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_builder) {
        let what = "the URL is not allowed: for http instead of https, set AWS_ALLOW_HTTP or allow_http to true";
        return Cause::Unsupported(what.into());
    }
    // The innermost error says what has happened; those around it, that something has.
    let mut inner: &dyn StdError = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    Cause::Connection(redactor.text(&inner.to_string()))
}

/// Finds an error of a type in a chain.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
