//! [`Version`]: what an object is pinned to.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::ObjectMeta;

use crate::error::Count;

/// A version of an object, as the store described it. All bytes that are read of an [`Object`](crate::Object) are of one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Version {
    /// The entity tag, with its quotes. `None` only where the caller has
    /// [accepted that](crate::StoreOptions::accept_unversioned).
    pub etag: Option<Arc<str>>,
    /// The version's name, if the store keeps versions.
    pub id: Option<Arc<str>>,
    /// The length in bytes.
    pub len: u64,
    /// The time of the last change, in whole seconds for most stores. `None` if the store did not tell.
    pub modified: Option<SystemTime>,
}

impl Version {
    pub(crate) fn of(meta: &ObjectMeta) -> Version {
        Version {
            etag: meta.e_tag.as_deref().filter(|etag| is_strong(etag)).map(Arc::from),
            id: meta.version.as_deref().map(Arc::from),
            len: meta.size,
            modified: Some(SystemTime::from(meta.last_modified)).filter(|&time| time != UNIX_EPOCH),
        }
    }

    /// Returns whether another answer is of the same version: by the entity tag, or by length and time without one.
    pub(crate) fn is(&self, other: &Version) -> bool {
        let is_same = match &self.etag {
            Some(_) => self.etag == other.etag,
            None => self.modified == other.modified,
        };
        is_same && self.len == other.len
    }

    /// Returns whether the entity tag is a number, as the counter of a store in memory is.
    pub(crate) fn is_number(&self) -> bool {
        let inner = self.etag.as_deref().map(|etag| etag.trim_matches('"'));
        inner.is_some_and(|inner| inner.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Returns a name for this version that no other version of the object has.
    pub(crate) fn key(&self) -> Arc<str> {
        match &self.etag {
            Some(etag) => Arc::clone(etag),
            None => format!("{}+{}", self.len, since_epoch(self.modified).as_nanos()).into(),
        }
    }
}

/// Returns whether an entity tag stands for exactly these bytes. A weak one does not say that, and no condition can be made of
/// it; `*` stands for all versions.
fn is_strong(etag: &str) -> bool {
    let is_of_local_store = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | ',' | '*' | '/');
    // Stores that are no servers have tags without quotes.
    is_quoted(etag) || !etag.is_empty() && etag.chars().all(is_of_local_store)
}

/// Returns whether an entity tag is a strong one of HTTP (RFC 9110, 8.8.3): one text in quotes.
pub(crate) fn is_quoted(etag: &str) -> bool {
    let inner = etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    // Longer ones are no hashes, and no names for humans.
    inner.is_some_and(|inner| inner.len() <= 1024 && inner.chars().all(|c| c == '!' || ('#'..='~').contains(&c)))
}

fn since_epoch(time: Option<SystemTime>) -> Duration {
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default()
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.etag, &self.id) {
            (Some(etag), Some(id)) => write!(f, "etag {etag}, version {id}, {}", Count(self.len)),
            (Some(etag), None) => write!(f, "etag {etag}, {}", Count(self.len)),
            (None, _) => {
                let time = since_epoch(self.modified);
                let len = Count(self.len);
                write!(f, "{len}, changed {}.{:09} s after 1970", time.as_secs(), time.subsec_nanos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_text_in_quotes_is_a_strong_entity_tag() {
        let long = format!("\"{}\"", "a".repeat(2000));
        for etag in
            ["", "*", "\"", "\"a", "a\"", "W/\"a\"", "w/\"a\"", "\"a\", \"b\"", "\"a b\"", "a,b", "\"\u{7f}\"", &long]
        {
            assert!(!is_strong(etag), "{etag}");
        }
        for etag in ["\"\"", "\"abc-12\"", "\"0x8D\"", "\"W/a\"", "\"a,*b\""] {
            assert!(is_strong(etag) && is_quoted(etag), "{etag}");
        }
        // Of a file, and of memory.
        for etag in ["1f-634a-3e8", "0"] {
            assert!(is_strong(etag) && !is_quoted(etag), "{etag}");
        }
    }
}
