//! What a store honours, tried out: ranges, conditions on reads, etags, read-after-write, and the conditions on writes that
//! fencing needs.
//!
//! A store may accept a condition and ignore it: its answer is the same as if the condition had held. So the conditions are
//! tried with etags that must not match, and by clients that race for one object. `faultin store check URL` prints the
//! [`Report`].
//!
//! ```
//! use faultin_store::Store;
//! use faultin_store::check::{Need, check};
//!
//! let report = check(&Store::new()?, "memory:///a/folder")?;
//! assert!(report.honours(Need::Reading) && report.honours(Need::Fencing), "{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
mod race;
mod reads;
mod writes;

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use self::client::Client;
use crate::error::Error;
use crate::store::Store;

/// What a promise is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// For reading objects that are pinned to a version: [`Object`](crate::Object).
    Reading,
    /// For locks and leases that are objects, and for writers that must not overwrite each other.
    Fencing,
}

/// Whether a store keeps a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It does, as far as was tried.
    Honoured,
    /// It does not. What it did instead.
    Broken(String),
    /// The client cannot ask this of such a store.
    Unsupported,
    /// It was not found out: a request failed. The reason.
    Unknown(String),
}

/// A promise, and whether the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The promise, as a sentence about the store.
    pub promise: &'static str,
    /// What it is needed for.
    pub need: Need,
    /// Whether it is kept.
    pub verdict: Verdict,
}

/// The rows of a check. Displayed as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// One for each promise, in a fixed order.
    pub rows: Vec<Row>,
    /// Objects that the check has made, or may have made, and could not remove.
    pub left: Vec<String>,
}

impl Report {
    /// Returns whether the store honours everything that is needed for this.
    pub fn honours(&self, need: Need) -> bool {
        self.rows.iter().all(|row| row.need != need || row.verdict == Verdict::Honoured)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Need::Reading => "reading",
            Need::Fencing => "fencing",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Honoured => f.write_str("yes"),
            Verdict::Broken(what) => write!(f, "NO: {what}"),
            Verdict::Unsupported => f.write_str("not supported by the client"),
            Verdict::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.promise.len()).max().unwrap_or_default();
        writeln!(f, "{:width$}  needed for  honoured", "promise")?;
        for Row { promise, need, verdict } in &self.rows {
            writeln!(f, "{promise:width$}  {need:10}  {verdict}")?;
        }
        for object in &self.left {
            writeln!(f, "could not be removed: {object}")?;
        }
        Ok(())
    }
}

/// Checks the store of a URL. Writes, reads and removes a few small objects, whose names begin with that of the URL.
///
/// Makes about 500 requests, most of them small writes. Each may take as long as
/// [`StoreOptions::attempt`](crate::StoreOptions::attempt); a store that does not answer two in a row is not asked any more, and
/// neither is one that takes more than ten minutes. A process that ends meanwhile leaves objects behind, in a folder whose
/// name begins with `faultin-check-`.
///
/// # Errors
/// If the URL cannot be used, or `store` is another process's. A store that does not answer is a verdict of the rows.
pub fn check(store: &Store, url: &str) -> Result<Report, Error> {
    let (backend, folder) = store.backend(url)?;
    check_in(store, backend, &folder)
}

/// Checks a store that the caller has made, as [`check`].
///
/// # Errors
/// If `store` is another process's.
pub fn check_in(store: &Store, backend: Arc<dyn ObjectStore>, folder: &Path) -> Result<Report, Error> {
    let name = Arc::from(folder.as_ref());
    let client = Client::new(backend, store.redactor(), store.engine().options.attempt);
    // Its requests know when to end.
    store.wait_for(run(client, folder.clone()), None).map_err(|cause| Error::new(&name, None, 0, cause))
}

async fn run(client: Client, folder: Path) -> Report {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let folder = folder.join(format!("faultin-check-{time:x}-{}", std::process::id()).as_str());
    let mut check = Check { client, folder, rows: Vec::new() };
    reads::probe(&mut check).await;
    writes::probe(&mut check).await;
    race::probe(&mut check).await;
    Report { rows: check.rows, left: check.client.remove_all().await }
}

/// A check under way.
struct Check {
    client: Client,
    /// Of this check alone.
    folder: Path,
    rows: Vec<Row>,
}

/// The outcome of a probe: an error is the row's verdict, too.
type Outcome = Result<(), Verdict>;

impl Check {
    /// Returns the path of a new object.
    fn object(&self, name: &str) -> Path {
        self.folder.clone().join(name)
    }

    fn row(&mut self, need: Need, promise: &'static str, outcome: Outcome) {
        // What a store has said is in it, such as an etag.
        let verdict = match outcome {
            Ok(()) => Verdict::Honoured,
            Err(Verdict::Broken(what)) => Verdict::Broken(self.client.redacted(&what)),
            Err(Verdict::Unknown(why)) => Verdict::Unknown(self.client.redacted(&why)),
            Err(verdict) => verdict,
        };
        self.rows.push(Row { promise, need, verdict });
    }
}

/// Returns the verdict `broken` unless this holds.
fn holds(is_so: bool, broken: impl Into<String>) -> Outcome {
    if is_so { Ok(()) } else { Err(Verdict::Broken(broken.into())) }
}

/// Compares bytes that were read with those that ought to be there.
fn same(got: &Bytes, expected: &[u8]) -> Outcome {
    if got.len() != expected.len() {
        return holds(false, format!("{} bytes instead of {}", got.len(), expected.len()));
    }
    holds(got.as_ref() == expected, "other bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_table() {
        let row = |promise, need, verdict| Row { promise, need, verdict };
        let broken = Verdict::Broken("the bytes were sent".into());
        let rows = vec![
            row("a range is a range", Need::Reading, Verdict::Honoured),
            row("If-Match is heeded", Need::Fencing, broken),
        ];
        let report = Report { rows, left: vec!["folder/object: not found".into()] };
        assert!(report.honours(Need::Reading) && !report.honours(Need::Fencing));
        assert_eq!(
            report.to_string(),
            "promise             needed for  honoured\n\
             a range is a range  reading     yes\n\
             If-Match is heeded  fencing     NO: the bytes were sent\n\
             could not be removed: folder/object: not found\n"
        );
    }
}
