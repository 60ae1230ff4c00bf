//! Whether the head of an answer is what was requested, before its body is read.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER,
};

use crate::error::Cause;
use crate::fetch::checksum::Checksum;
use crate::pin::Version;

/// What a request has asked for: a note on it, which the client reads.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The range; its end may be past the end of the object if the object is not known yet. `None` of a `HEAD`.
    pub(crate) range: Option<Range<u64>>,
    /// What the object was opened with. `None` when it is being opened.
    pub(crate) pinned: Option<PinnedHead>,
}

/// What every answer has to say of an object.
#[derive(Clone, Debug)]
pub(crate) struct PinnedHead {
    pub(crate) version: Version,
    /// The content type.
    pub(crate) kind: Option<Arc<str>>,
    /// The content encoding.
    pub(crate) encoding: Option<Arc<str>>,
}

/// What the head of an answer has said, besides what `object_store` reads from it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Whether the body has as many bytes as the range, and says so before.
    pub(crate) is_measured: bool,
    /// What the bytes of the body have to add up to.
    pub(crate) checksum: Option<Checksum>,
}

pub(super) enum Verdict {
    Fits(Seen),
    Refused(Cause),
    /// An error, whose body may have its code, and how long to wait before another attempt.
    Failed(StatusCode, Option<Duration>),
}

/// Judges an answer by its head.
pub(super) fn judge(asked: &Asked, status: StatusCode, headers: &HeaderMap) -> Verdict {
    if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
        let host = text(headers, &LOCATION).and_then(host_of);
        return Verdict::Refused(Cause::Redirected { status: status.as_u16(), host });
    }
    if !status.is_success() {
        return Verdict::Failed(status, retry_after(headers));
    }
    let Some(range) = &asked.range else {
        return Verdict::Fits(Seen { is_measured: false, checksum: None });
    };
    match fits(asked, range, status, headers) {
        Ok(seen) => Verdict::Fits(seen),
        Err(cause) => Verdict::Refused(cause),
    }
}

/// Returns how long a server wants to be left alone. A date instead of a number of seconds is rare, and ignored.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u32 = text(headers, &RETRY_AFTER)?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

fn fits(asked: &Asked, range: &Range<u64>, status: StatusCode, headers: &HeaderMap) -> Result<Seen, Cause> {
    let length = text(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let content_range = text(headers, &CONTENT_RANGE).and_then(parse_content_range);
    if let Some(pinned) = &asked.pinned {
        is_version(&pinned.version, pinned.kind.as_ref(), status, headers, content_range.as_ref(), length)?;
    }
    is_form(asked.pinned.as_ref(), status, headers)?;
    if status != StatusCode::PARTIAL_CONTENT {
        return Err(Cause::WrongRange { got: length.map(|length| 0..length) });
    }
    let Some((got, len)) = content_range else { return Err(Cause::WrongRange { got: None }) };
    if got != (range.start..range.end.min(len)) || got.is_empty() {
        return Err(Cause::WrongRange { got: Some(got) });
    }
    let expected = got.end - got.start;
    if let Some(length) = length.filter(|&length| length != expected) {
        return Err(Cause::Length { expected, got: length });
    }
    let is_whole = got == (0..len);
    Ok(Seen { is_measured: length.is_some(), checksum: Checksum::offered(headers, is_whole) })
}

/// Checks that the answer is of the version that was opened, as far as its head tells.
fn is_version(
    pinned: &Version,
    kind: Option<&Arc<str>>,
    status: StatusCode,
    headers: &HeaderMap,
    content_range: Option<&(Range<u64>, u64)>,
    length: Option<u64>,
) -> Result<(), Cause> {
    let etag = text(headers, &ETAG);
    let is_part = status == StatusCode::PARTIAL_CONTENT;
    let is_same = match (&pinned.etag, etag) {
        (Some(pinned), etag) => etag == Some(pinned),
        // The time of the last change is compared where it was read.
        (None, _) => true,
    };
    let got_kind = text(headers, &CONTENT_TYPE);
    if etag.is_none() && (!is_same || !is_part) && kind.map(|kind| &**kind) != got_kind {
        return Err(Cause::ContentType { expected: kind.cloned(), got: got_kind.map(Arc::from) });
    }
    if etag.is_none() && !is_part {
        // An error page of the object's own type: no version of it. What is wrong is the range.
        return Ok(());
    }
    let len = match content_range {
        Some((_, len)) => *len,
        None if is_part => pinned.len,
        // The object as a whole.
        None => length.unwrap_or(pinned.len),
    };
    // A whole body instead of a range, of the same version: the range is what is wrong.
    if is_same && (len == pinned.len || !is_part) {
        return Ok(());
    }
    let found = Version { etag: etag.map(Arc::from), id: None, len, modified: None };
    Err(Cause::Replaced { pinned: pinned.clone(), found: Some(found) })
}

/// Checks that the body is the object's bytes in the form in which the object was opened: neither compressed on the way nor
/// a list of ranges, nor of another content type, such as that of an error page.
fn is_form(pinned: Option<&PinnedHead>, status: StatusCode, headers: &HeaderMap) -> Result<(), Cause> {
    if status != StatusCode::PARTIAL_CONTENT {
        return Ok(());
    }
    let kind = text(headers, &CONTENT_TYPE);
    let expected = pinned.and_then(|pinned| pinned.kind.clone());
    let is_list = kind.is_some_and(|kind| {
        let (list, name) = ("multipart/byteranges", kind.split(';').next().unwrap_or_default());
        name.trim().eq_ignore_ascii_case(list)
    });
    let is_other = match (&expected, kind) {
        (Some(expected), Some(kind)) => !kind.eq_ignore_ascii_case(expected),
        // An answer may leave it out.
        _ => false,
    };
    if is_list || is_other {
        return Err(Cause::ContentType { expected, got: kind.map(Arc::from) });
    }
    // An object may be stored compressed, and is read as it is stored.
    let Some(pinned) = pinned else { return Ok(()) };
    let (expected, got) = (pinned.encoding.as_deref(), text(headers, &CONTENT_ENCODING));
    let is_plain = |encoding: &str| encoding.eq_ignore_ascii_case("identity");
    let is_expected = |got: &str| is_plain(got) || expected.is_some_and(|expected| got.eq_ignore_ascii_case(expected));
    if !got.is_none_or(is_expected) {
        // As it is written: a secret in it is found by its bytes.
        let name = |encoding: Option<&str>| Some(Arc::from(format!("encoded as {}", encoding?)));
        return Err(Cause::ContentType { expected: name(expected), got: name(got) });
    }
    Ok(())
}

/// Returns the host and the port of a redirect, if it is certain which part of the URL that is.
fn host_of(location: &str) -> Option<Arc<str>> {
    let url = url::Url::parse(location).ok()?;
    let host = url.host_str()?;
    let has_more = url.path().contains('@') || host.len() > 255;
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    (!has_more).then(|| format!("{host}{port}").into())
}

/// Marks an entity tag as weak that is not one of HTTP, or not the only one: it does not tell versions apart.
pub(super) fn weaken_etag(headers: &mut HeaderMap) {
    if headers.contains_key(ETAG) && !text(headers, &ETAG).is_some_and(crate::pin::is_quoted) {
        headers.insert(ETAG, HeaderValue::from_static("W/\"\""));
    }
}

/// Returns the value of a header. `None` if there is none, or several ones differ.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    if all.any(|other| other != first) {
        return None;
    }
    headers.get(name)?.to_str().ok()
}

/// Parses `bytes FIRST-LAST/LENGTH`.
fn parse_content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, len) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, len): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, len.parse().ok()?);
    Some((first..last.checked_add(1)?, len))
}

/// Returns the content of the element `Code` of an error's body.
pub(super) fn code_of(body: &[u8]) -> Option<Arc<str>> {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>")?.1.split_once("</Code>")?.0;
    let is_name = !code.is_empty() && code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    is_name.then(|| Arc::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: Range<u64>) -> Asked {
        let version = Version { etag: Some("\"a\"".into()), id: None, len: 1000, modified: None };
        let kind = Some("application/octet-stream".into());
        Asked { range: Some(range), pinned: Some(PinnedHead { version, kind, encoding: None }) }
    }

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Result<Seen, Cause> {
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.append(name, value.parse().unwrap());
        }
        match judge(&asked(100..200), StatusCode::from_u16(status).unwrap(), &map) {
            Verdict::Fits(seen) => Ok(seen),
            Verdict::Refused(cause) => Err(cause),
            Verdict::Failed(status, retry_after) => {
                Err(Cause::Status { status: status.as_u16(), code: None, retry_after })
            }
        }
    }

    #[test]
    fn only_the_range_of_the_version_that_was_asked_for_fits() {
        let etag = ("etag", "\"a\"");
        let (range, length) = (("content-range", "bytes 100-199/1000"), ("content-length", "100"));
        assert!(answer(206, &[etag, range, length]).unwrap().is_measured);
        assert!(!answer(206, &[etag, range]).unwrap().is_measured);
        assert!(answer(206, &[etag, range, length, ("content-encoding", "identity")]).is_ok());
        let html = ("content-type", "text/html");
        type Headers<'a> = &'a [(&'static str, &'static str)];
        let octets = ("content-type", "application/octet-stream");
        let cases: [(u16, Headers<'_>, &str); 20] = [
            (200, &[etag, ("content-length", "1000")], "the answer has bytes 0 to 1000"),
            (206, &[etag, length], "the answer does not have the range"),
            (206, &[etag, ("content-range", "bytes 100-198/1000"), ("content-length", "99")], "bytes 100 to 199"),
            (206, &[etag, ("content-range", "bytes 0-99/1000"), length], "bytes 0 to 100"),
            (206, &[etag, ("content-range", "bytes 100-199/*"), length], "does not have the range"),
            (206, &[etag, range, ("content-length", "101")], "more than the requested 100 bytes"),
            (206, &[etag, range, ("content-length", "99")], "the body has 99 bytes"),
            (
                206,
                &[("etag", "\"b\""), range, length],
                "replaced: it was opened as etag \"a\", 1000 bytes, and the store has etag \"b\"",
            ),
            (206, &[etag, ("content-range", "bytes 100-199/1001"), length], "the store has etag \"a\", 1001 bytes"),
            (
                200,
                &[html, ("content-length", "31")],
                "the content type is text/html, that of the object application/octet-stream",
            ),
            (200, &[octets, ("content-length", "31")], "the answer has bytes 0 to 31"),
            (206, &[range, length], "the content type is none"),
            (206, &[etag, range, length, html], "the content type is text/html, that of the object application/oct"),
            (
                206,
                &[etag, range, length, ("content-type", "multipart/byteranges; boundary=x")],
                "the content type is multipart/byteranges",
            ),
            (206, &[etag, range, length, ("content-encoding", "gzip")], "encoded as gzip"),
            (206, &[etag, ("etag", "\"c\""), range, length], "the content type is none"),
            (206, &[etag, range, ("content-range", "bytes 0-99/1000"), length], "does not have the range"),
            (307, &[("location", "http://me:p/w@other.example/x")], "a redirect (status 307)"),
            (307, &[("location", "http://me:pw@other.example/x?y")], "a redirect to other.example (status 307)"),
            (412, &[], "status 412"),
        ];
        for (status, headers, says) in cases {
            let said = answer(status, headers).map(|_| ()).unwrap_err().to_string();
            assert!(said.contains(says), "{status} {headers:?}: {said}");
        }
    }

    #[test]
    fn an_entity_tag_that_is_none_is_weak() {
        for (tags, is_strong) in [
            (vec!["\"a\""], true),
            (vec!["\"a\"", "\"a\""], true),
            (vec![""], false),
            (vec!["*"], false),
            (vec!["abc"], false),
            (vec!["w/\"a\""], false),
            (vec!["\"a\", \"b\""], false),
            (vec!["\"a\"", "\"b\""], false),
        ] {
            let mut headers = HeaderMap::new();
            for tag in &tags {
                headers.append(ETAG, tag.parse().unwrap());
            }
            weaken_etag(&mut headers);
            assert_eq!(!headers[ETAG].to_str().unwrap().starts_with("W/"), is_strong, "{tags:?}");
        }
    }

    #[test]
    fn the_time_that_a_store_wants_is_read() {
        let after = |value| match answer(503, &[("retry-after", value)]) {
            Err(Cause::Status { status: 503, retry_after, .. }) => retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(after("-1"), None);
    }

    #[test]
    fn a_code_is_a_name() {
        let of = |text: &str| code_of(text.as_bytes()).map(|code| code.to_string());
        assert_eq!(of("<Error><Code>SlowDown</Code><Key>k</Key></Error>").as_deref(), Some("SlowDown"));
        assert_eq!(of("<Error><Code>no name</Code>"), None);
        assert_eq!(of("<html>"), None);
    }
}
