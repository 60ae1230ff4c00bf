//! Settings whose values `object_store` takes for granted: it panics where one is no URL, or cannot be in a header.

use std::collections::HashMap;
use std::hash::Hash;
use std::str::FromStr;

use super::url::Settings;
use crate::error::Cause;

/// Checks the settings that a store will use: those of the environment whose names begin with `prefix`, and the caller's,
/// which take precedence.
///
/// # Errors
/// [`Cause::Unsupported`] with the name of a setting, and without its value, which may be secret.
pub(super) fn check<K: FromStr + Eq + Hash>(prefix: &str, settings: &Settings) -> Result<(), Cause> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        (!prefix.is_empty() && name.starts_with(prefix)).then_some((name, value))
    });
    let mut used = HashMap::new();
    for (name, value) in environment.chain(settings.iter().cloned()) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<K>() {
            used.insert(key, (name, value));
        }
    }
    used.values().try_for_each(|(name, value)| check_one(name, value))
}

fn check_one(name: &str, value: &str) -> Result<(), Cause> {
    let wrong = |what: &str| Err(Cause::Unsupported(format!("the setting {name} {what}").into()));
    let lower = name.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    // Names of files, JSON, and PEM.
    if has(&["file", "path", "service_account", "application_credentials", "ca_certificate"]) {
        return Ok(());
    }
    if value.bytes().any(|byte| !matches!(byte, b' '..=b'~')) {
        return wrong("has a line break, or another character that is not printable ASCII");
    }
    if value.trim() != value {
        return wrong("begins or ends with a blank");
    }
    let is_url = has(&["endpoint", "full_uri", "authority_host", "base_url", "token_service_url"]);
    if is_url && !has(&["use_"]) && !is_address(value) {
        return wrong("is not a URL with scheme and host, such as https://host");
    }
    // A part of a host.
    if has(&["region"]) && value.contains(['/', '?', '#', '@', ':', '\\', ' ']) {
        return wrong("has a character that no region has");
    }
    Ok(())
}

/// Returns whether a value is the URL of a server.
fn is_address(value: &str) -> bool {
    let Ok(url) = url::Url::parse(value) else { return false };
    let is_uri = value.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    is_uri && matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_be_used_is_named_and_not_shown() {
        for (name, value) in [
            ("AWS_ENDPOINT", "127.0.0.1:9000"),
            ("AWS_ENDPOINT_URL", "localhost:9000"),
            ("aws_endpoint", ""),
            ("aws_endpoint", "http://"),
            ("aws_endpoint", "http://a b:90"),
            ("aws_endpoint", "ftp://host"),
            ("aws_session_token", "hunter22\n"),
            ("aws_access_key_id", "hunter22\n"),
            ("aws_access_key_id", "hunter\u{fc}"),
            ("aws_region", "eu-1\n"),
            ("aws_region", "eu/1"),
            ("azure_msi_endpoint", "hunter22"),
            ("google_base_url", "hunter22"),
        ] {
            let says = check_one(name, value).expect_err(value).to_string();
            assert!(says.contains(name), "{says}");
            assert!(value == "http://" || value.is_empty() || !says.contains(value.trim()), "{says}");
        }
        for (name, value) in [
            ("AWS_ENDPOINT", "http://127.0.0.1:9000"),
            ("AWS_ENDPOINT", "https://[::1]:9000/prefix"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_SESSION_TOKEN", ""),
            ("AZURE_USE_FABRIC_ENDPOINT", "true"),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", "{\n}"),
            ("AWS_PROXY_CA_CERTIFICATE", "-----BEGIN CERTIFICATE-----\n"),
        ] {
            check_one(name, value).expect(value);
        }
    }
}
