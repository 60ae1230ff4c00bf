//! From the errors of `object_store` to a [`Cause`].

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

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

/// Returns what `object_store` says, without credentials.
pub(super) fn text_of(error: &object_store::Error, redactor: &Redactor) -> Arc<str> {
    let text = error.to_string();
    // The text of an error in JSON shows values, which may be parts of a key that is in no variable.
    #[cfg(feature = "net")]
    if let Some(json) = find::<serde_json::Error>(error) {
        let place = format!("it is not the JSON that is expected, at line {}, column {}", json.line(), json.column());
        let before = text.split_once(&json.to_string()).map_or("", |(before, _)| before);
        return redactor.text(&format!("{before}{place}"));
    }
    redactor.text(&text)
}

/// Maximum number of characters of a brief text.
const BRIEF: usize = 120;

/// Returns the innermost part of what `object_store` says, which is what has happened, in a few words and without credentials.
pub(crate) fn brief_of(error: &object_store::Error, redactor: &Redactor) -> Arc<str> {
    #[cfg(feature = "net")]
    let is_json = find::<serde_json::Error>(error).is_some();
    #[cfg(not(feature = "net"))]
    let is_json = false;
    let text = if is_json { text_of(error, redactor) } else { redactor.text(&innermost(error).to_string()) };
    match text.char_indices().nth(BRIEF) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text,
    }
}

/// Returns whether a request may have been sent, if it failed because of its connection.
#[cfg(feature = "net")]
pub(crate) fn connection_of(error: &object_store::Error) -> Option<bool> {
    // An answer, on its way through.
    if find::<Refused>(error).is_some() {
        return None;
    }
    let error = find::<object_store::client::HttpError>(error)?;
    let is_builder = find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_builder);
    Some(!is_builder && error.kind() != object_store::client::HttpErrorKind::Connect)
}

/// There are no connections.
#[cfg(not(feature = "net"))]
pub(crate) fn connection_of(_: &object_store::Error) -> Option<bool> {
    None
}

/// Returns whether a store has said that the object does not have the range.
pub(crate) fn is_not_in_range(error: &object_store::Error) -> bool {
    match find::<Refused>(error) {
        Some(Refused(cause)) => matches!(cause, Cause::Status { status: 416, .. }),
        // A store without a server has no other name for it.
        None => innermost(error).to_string().starts_with("Wanted range starting at"),
    }
}

fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner
}

/// Returns why a request failed. Which version the store has is not known here.
pub(crate) fn cause_of(error: &object_store::Error, redactor: &Redactor) -> Cause {
    if let Some(Refused(cause)) = find(error) {
        return cause.clone();
    }
    // An answer with credentials that cannot be read.
    #[cfg(feature = "net")]
    if find::<serde_json::Error>(error).is_some() {
        return Cause::Other(text_of(error, redactor));
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
            Cause::Unsupported(text_of(error, redactor))
        }
        _ => match find::<std::io::Error>(error).map(std::io::Error::kind) {
            Some(std::io::ErrorKind::PermissionDenied) => status(403),
            _ => Cause::Other(text_of(error, redactor)),
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
    Cause::Connection(redactor.text(&innermost(error).to_string()))
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
