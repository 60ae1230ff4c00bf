//! Texts of other code, without credentials.

use std::fmt;
use std::sync::Arc;

/// Maximum number of characters of a text.
const LONGEST: usize = 300;

/// Names of configuration keys and variables whose values are secret.
const SECRET: [&str; 11] = [
    "secret",
    "token",
    "password",
    "account_key",
    "access_key",
    "master_key",
    "encryption_key",
    "customer_key",
    "sas",
    "credential",
    "client_key",
];

/// The secrets that must not appear in a message.
#[derive(Default)]
pub(crate) struct Redactor {
    secrets: Vec<String>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

/// Returns the forms in which other code may tell a secret: as it is, with blanks in place of line breaks, and escaped.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), without_controls(secret), secret.escape_debug().to_string()];
    forms.dedup();
    forms
}

fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns whether the value of a setting is secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}

impl Redactor {
    /// Collects the values of settings and of the environment that are secret.
    pub(crate) fn new<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>) -> Redactor {
        let is_of_a_store = |name: &str| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|start| name.starts_with(start));
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            (is_of_a_store(&name) && is_secret(&name)).then_some(value)
        });
        let settings = settings.filter(|(name, _)| is_secret(name)).map(|(_, value)| value.to_owned());
        // Shorter ones could be a part of any word.
        let whole = environment.chain(settings).map(|value| value.trim().to_owned()).filter(|value| value.len() >= 4);
        let mut secrets: Vec<String> = whole.flat_map(|value| forms(&value)).collect();
        // The longest one first: another one may be a part of it.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Redactor { secrets }
    }

    /// Returns whether a text has one of the secrets.
    pub(crate) fn has_secret(&self, text: &str) -> bool {
        self.secrets.iter().any(|secret| text.contains(secret.as_str()))
    }

    /// Returns a short text of a server without secrets.
    pub(crate) fn short(&self, text: &Arc<str>) -> Arc<str> {
        if self.has_secret(text) || text.len() > LONGEST { self.text(text) } else { Arc::clone(text) }
    }

    fn without_known(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }

    /// Returns a text without secrets, and with URLs that end at their path; cut where it is long.
    pub(crate) fn text(&self, text: &str) -> Arc<str> {
        let text = without_controls(&self.without_known(text));
        let words: Vec<String> = text.split(' ').filter(|word| !word.is_empty()).map(without_secrets).collect();
        let mut text = words.join(" ");
        if let Some((at, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(at);
            text.push_str("...");
        }
        text.into()
    }
}

/// Ends of names of parts of queries and paths whose values are secret.
const SECRET_PARTS: [&str; 6] = ["sig", "signature", "token", "secret", "password", "credential"];

/// Returns whether the value of a part of a query or a path is secret.
pub fn is_secret_part(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| name.ends_with(part))
}

/// Removes the user, the password and the query of a URL within a word, also where it is no valid URL.
fn without_secrets(word: &str) -> String {
    let Some(at) = word.find("://") else {
        // The rest of a URL with a blank in it, or one without slashes.
        let Some(rest) = after_user(word) else { return "***".to_owned() };
        let lower = rest.to_ascii_lowercase();
        let value =
            SECRET_PARTS.iter().filter_map(|name| Some(lower.find(&format!("{name}="))? + name.len() + 1)).min();
        return value.map_or_else(|| rest.to_owned(), |at| format!("{}***", &rest[..at]));
    };
    let (scheme, rest) = word.split_at(at + 3);
    let Some(rest) = after_user(rest) else { return format!("{scheme}***") };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (rest, query) = rest.split_at(end);
    // What closes a bracket or a quote after the query.
    let tail: String = query.chars().rev().take_while(|c| matches!(c, ')' | '"' | '\'' | '>' | ',' | ':')).collect();
    let host = rest.find('/').unwrap_or(rest.len());
    // What is no port is a password, whose end is behind a blank.
    let digits =
        |port: &str| port.trim_end_matches([')', '"', '\'', '>', ',', ':']).bytes().all(|c| c.is_ascii_digit());
    let is_port = rest[..host].rsplit_once(':').is_none_or(|(name, port)| name.starts_with('[') || digits(port));
    let rest = if is_port { rest } else { rest.split(':').next().unwrap_or_default() };
    format!("{scheme}{rest}{}", tail.chars().rev().collect::<String>())
}

/// Returns what is after the user of a URL, also if a secret has what ends an authority or a path. `None` if it is not certain
/// where that is: the `@` may be a password's end, and then a host follows, or a part of a query, as the account in a signed
/// URL of GCS, and then a signature may follow.
fn after_user(text: &str) -> Option<&str> {
    let Some((before, rest)) = text.rsplit_once('@') else { return Some(text) };
    (!before.contains(['?', '#', ';', '&', '='])).then_some(rest)
}

/// Returns what may be told of a text that is no URL of a store: nothing before an `@`, and nothing from a `?` or `#` on; only
/// the scheme if both are there.
pub(crate) fn refused_url(text: &str) -> String {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    let scheme = scheme.filter(|scheme| super::url::SCHEMES.contains(&&**scheme));
    let has_user = text.contains('@');
    let rest = after_user(text).unwrap_or("***");
    let rest = rest.split(['?', '#', ';']).next().unwrap_or_default();
    match scheme {
        Some(scheme) if has_user => format!("{scheme}://{rest}"),
        // As it was written, up to there.
        _ => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_secrets_nor_users_nor_queries_are_left() {
        let redactor = Redactor::new([("aws_secret_access_key", "hunter22"), ("aws_region", "eu-west-1")].into_iter());
        let cases = [
            ("GET https://me:pw@host:9000/a/b?X-Amz-Signature=12#f failed", "GET https://host:9000/a/b failed"),
            ("(https://host?sig=1)", "(https://host)"),
            ("key hunter22 of eu-west-1", "key *** of eu-west-1"),
            ("plain\n text", "plain text"),
            ("https://a@b@host/", "https://host/"),
            ("to http://me:hun/ter@host/x now", "to http://host/x now"),
            ("to http://me:hun ter@host/x", "to http://me host/x"),
            ("to http://me:hun?ter@host/x", "to http://***"),
            ("GET https://host/o?GoogleAccessId=me@iam.example&Signature=hunter: no", "GET https://*** no"),
            ("https://host/o?password=hun@ter", "https://***"),
            ("o?id=me@iam.example&Signature=hunter", "***"),
            ("http://host/x?a=b c&sig=hunter", "http://host/x c&sig=***"),
            ("me:hunter@host/x", "host/x"),
            ("https://[::1]:90/x: refused", "https://[::1]:90/x: refused"),
            ("(http://host:90): refused", "(http://host:90): refused"),
        ];
        for (text, wanted) in cases {
            assert_eq!(&*redactor.text(text), wanted);
        }
        let key = Redactor::new([("google_service_account_key", "BEGIN\nhunter\t22\nEND")].into_iter());
        for text in ["BEGIN\nhunter\t22\nEND", "BEGIN hunter 22 END", "BEGIN\\nhunter\\t22\\nEND"] {
            assert_eq!(&*key.text(&format!("a key {text}: no")), "a key ***: no");
        }
        for (text, wanted) in [
            ("http://user:hun/ter22@host/x", "http://host/x"),
            ("s3://AKIA:hun/ter22@bucket/k", "s3://bucket/k"),
            ("http://user:hun ter22@host/x", "http://host/x"),
            ("http://user:hun?ter22@host/x", "http://***"),
            ("https://host/b/o?GoogleAccessId=me@iam.example&Expires=1&Signature=hunter22", "https://***"),
            ("http://host/x?password=hun@ter22", "http://***"),
            ("http://host/x#a@b&token=hunter22", "http://***"),
            ("http://host/x;token=hun@ter22", "http://***"),
            ("http:user:hunter22@host/x", "http://host/x"),
            ("user:hunter22@host/x", "host/x"),
            ("HTTP:\\\\user:hunter22@host\\x", "http://host\\x"),
            ("http:host/x?sig=hunter22", "http:host/x"),
            ("s3:/bucket/key?X-Amz-Signature=hunter22", "s3:/bucket/key"),
            ("http://h/x?a=b c&sig=hunter22", "http://h/x"),
            ("http://h/x#hunter22", "http://h/x"),
        ] {
            assert_eq!(refused_url(text), wanted);
        }
        assert_eq!(redactor.text(&"x".repeat(1000)).len(), LONGEST + 3);
        for name in [
            "AWS_SECRET_ACCESS_KEY",
            "aws_sse_customer_key_base64",
            "azure_storage_sas_key",
            "azure_storage_account_master_key",
            "master_key",
            "azure_storage_encryption_key",
        ] {
            assert!(is_secret(name), "{name}");
        }
        assert!(!is_secret("AWS_REGION"));
    }
}
