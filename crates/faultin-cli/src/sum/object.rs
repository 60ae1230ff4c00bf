//! Objects of object stores: `faultin sum s3://bucket/key`.
//!
//! An object is pinned to the version that it has when it is opened, so a checksum is that of one version, or there is none.

use std::fmt;
use std::path::Path;

use blake3::OutputReader;

use super::hash::HashError;
use super::key::Key;
use super::progress::Progress;

/// Schemes of URLs that name objects.
const SCHEMES: [&str; 11] = ["abfs", "abfss", "adl", "az", "azure", "file", "gs", "http", "https", "s3", "s3a"];

/// Returns whether a scheme, in lower case, is that of an object.
pub fn is_scheme(scheme: &str) -> bool {
    SCHEMES.contains(&scheme)
}

/// Returns the URL of an object, if a file's name is one.
pub fn url(file: &Path) -> Option<&str> {
    let name = file.to_str()?;
    let (scheme, _) = name.split_once("://")?;
    is_scheme(scheme).then_some(name)
}

/// The reason why an object has no checksum.
#[derive(Debug)]
pub struct ObjectError {
    /// The URL, without what may be a secret.
    pub name: String,
    reason: String,
}

/// Without the name.
impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Hashes an object. Its last line on standard error says how many bytes and requests that took, and how long it waited.
///
/// # Errors
/// If it cannot be read as a whole, in one version.
#[cfg(feature = "store")]
pub fn hash(url: &str, key: &Key, progress: &Progress) -> Result<OutputReader, HashError> {
    use faultin_store::{Error, Object};

    /// Size of a read in bytes.
    const READ: usize = 1 << 20;
    let failed = |done: u64, error: &Error| {
        let text = error.to_string();
        // The name precedes every message here.
        let text = text.strip_prefix(error.object()).unwrap_or(&text);
        let text = text.trim_start_matches([',', ':', ' ']);
        let after = if done > 0 { format!(", after {done} bytes") } else { String::new() };
        HashError::Object(ObjectError { name: error.object().to_owned(), reason: format!("{text}{after}") })
    };
    crate::keep_out_of_cores();
    let object = Object::open(url).map_err(|error| failed(0, &error))?;
    let name = super::name::plain(object.url()).into_owned();
    let bar = progress.bar(name.clone(), Some(object.size()));
    let (mut hasher, mut buffer, mut done) = (key.hasher(), vec![0; READ], 0_u64);
    let ended = loop {
        match object.read(&mut buffer, done) {
            Ok(0) => break Ok(hasher.finalize_xof()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                done += read as u64;
                let stats = object.stats();
                bar.set_position(done);
                bar.set_message(format!("{name}, {} retries, waited {:.1?},", stats.retries, stats.waited));
            }
            Err(error) => break Err(failed(done, &error)),
        }
    };
    bar.finish_and_clear();
    let stats = object.stats();
    super::complain(format_args!(
        "{name}: {done} bytes; {} bytes received in {} requests, {} of them retries; waited {:.1?}",
        stats.received, stats.requests, stats.retries, stats.waited
    ));
    ended
}

/// Reports that this build has no stores.
///
/// # Errors
/// Always.
#[cfg(not(feature = "store"))]
pub fn hash(url: &str, _: &Key, _: &Progress) -> Result<OutputReader, HashError> {
    let name = crate::url::told(url).into_owned();
    Err(HashError::Object(ObjectError { name, reason: crate::NO_STORES.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_from_a_file() {
        for (name, is_url) in [
            ("s3://bucket/key", true),
            ("https://host/object?token=1", true),
            ("./s3://bucket/key", false),
            ("s3:/bucket/key", false),
            ("://", false),
            ("ftp://host/file", false),
            ("-", false),
        ] {
            assert_eq!(url(Path::new(name)).is_some(), is_url, "{name}");
        }
    }
}
