//! From a URL to an `object_store` and a path.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme};
use url::Url;

use super::lane::Lane;
use super::redact::{Redactor, is_secret_part};
use crate::error::Cause;

/// Where an object is.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) scheme: ObjectStoreScheme,
    url: Url,
    pub(crate) path: Path,
    /// The URL, without user, password and query.
    pub(crate) name: Arc<str>,
    /// The part of the URL that names the bucket, the server or the file system.
    pub(crate) bucket: String,
}

impl Place {
    /// Returns what names the server, if it is one of the network: all buckets of a kind of store are of one endpoint.
    pub(super) fn server(&self) -> Option<String> {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        match self.url.scheme() {
            "file" | "memory" => None,
            "http" | "https" | "abfs" | "abfss" => Some(format!("{host}:{port}")),
            scheme => Some(scheme.to_owned()),
        }
    }
}

/// Reads a URL.
///
/// # Errors
/// [`Cause::Unsupported`] if it is none, or has a part that is not supported. The URL is not in it.
pub(crate) fn parse(text: &str) -> Result<Place, Cause> {
    let unsupported = |what: String| Cause::Unsupported(what.into());
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err(unsupported("a URL with a control character, or a blank around it, is not supported".into()));
    }
    let url = Url::parse(text).map_err(|error| unsupported(format!("not a URL: {error}")))?;
    if !url.username().is_empty() && !url.scheme().starts_with("abfs") || url.password().is_some() {
        return Err(unsupported("a user or a password in a URL is not supported".into()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(unsupported("a query in a URL is not supported".into()));
    }
    if has_secret_parameter(text) {
        return Err(unsupported("a credential in a part of the path is not supported".into()));
    }
    if !SCHEMES.contains(&url.scheme()) {
        let what = "the scheme is not that of a store (s3, gs, az, abfs, http, https, file, memory)";
        return Err(unsupported(what.into()));
    }
    if !is_exact(text, &url) {
        return Err(unsupported(
            "the path is not supported: no part of it may be empty (so neither `//` nor `/` at the end), `.` or `..`, \
             nor have an encoded `/` or a control character, and it has to be UTF-8"
                .into(),
        ));
    }
    let (scheme, path) = ObjectStoreScheme::parse(&url)
        .map_err(|_| unsupported("the URL has a host where its scheme has none, or none where it has one".into()))?;
    if path.as_ref().is_empty() {
        return Err(unsupported("the URL names no object".into()));
    }
    // A container of `abfs` is the user of the URL.
    let container = if url.username().is_empty() { String::new() } else { format!("{}@", url.username()) };
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    let host = url.host_str().unwrap_or_default();
    let mut bucket = format!("{}://{container}{host}{port}", url.scheme());
    if matches!(url.scheme(), "http" | "https") && scheme != ObjectStoreScheme::Http {
        // The container is the first part of the path.
        bucket.extend(url.path_segments().and_then(|mut parts| parts.next()).map(|part| format!("/{part}")));
    }
    let name = format!("{}://{container}{host}{port}{}", url.scheme(), url.path());
    Ok(Place { scheme, url, path, name: name.into(), bucket })
}

/// The schemes of URLs.
pub(super) const SCHEMES: [&str; 12] =
    ["s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "http", "https", "file", "memory"];

/// Returns whether the path is asked for as it was written: `object_store` drops or joins some parts of paths, which would be
/// another object.
fn is_exact(text: &str, url: &Url) -> bool {
    // The path before `..` was resolved in it.
    let rest = text.split_once(':').map_or(text, |(_, rest)| rest);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let Some((_, path)) = rest.split_once('/') else { return true };
    let is_plain = |part: &str| {
        let decoded = percent_decode(part);
        let Ok(decoded) = std::str::from_utf8(&decoded) else { return false };
        let is_relative = decoded == "." || decoded == "..";
        !decoded.is_empty() && !is_relative && !decoded.contains('/') && !decoded.chars().any(char::is_control)
    };
    // A URL that names no object was refused for that, and `\\` is `/` for some schemes.
    let is_ambiguous = rest.contains('\\') && matches!(url.scheme(), "http" | "https" | "file");
    !is_ambiguous && (path.is_empty() || path.split('/').all(is_plain))
}

/// Returns whether the path has a parameter (`;sig=…`) whose name is that of a credential: it would be told as a part of the path.
fn has_secret_parameter(text: &str) -> bool {
    text.split(';').skip(1).any(|parameter| is_secret_part(parameter.split_once('=').map_or("", |(name, _)| name)))
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| bytes[at] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

/// The settings of the caller, which take precedence over the environment.
pub(crate) type Settings = [(String, String)];

/// Makes the `object_store` for a URL, without retries of its own. Returns it with what distinguishes it from another one of
/// the same name.
///
/// # Errors
/// [`Cause::Unsupported`] if the feature is missing, or a setting.
pub(crate) fn connect(
    place: &Place,
    settings: &Settings,
    redactor: &Redactor,
    lane: Option<&Arc<Lane>>,
) -> Result<(Arc<dyn ObjectStore>, String), Cause> {
    // What the settings have to be is checked before; this is for what is not known of them.
    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| make(place, settings, redactor, lane)));
    made.unwrap_or_else(|_| Err(Cause::Unsupported("a setting cannot be used: object_store has panicked".into())))
}

/// Applies the settings that a builder knows. The builders of `object_store` have the same methods, and no trait for them.
#[cfg(feature = "net")]
macro_rules! configured {
    ($builder:expr, $settings:expr) => {
        $settings.iter().fold($builder, |builder, (key, value)| match key.to_ascii_lowercase().parse() {
            Ok(key) => builder.with_config(key, value),
            Err(_) => builder,
        })
    };
}

/// Makes the store of a builder: with our client, and without retries.
#[cfg(feature = "net")]
macro_rules! built {
    ($builder:expr, $lane:expr, $failed:expr) => {
        Arc::new(
            $builder
                .with_retry(no_retries())
                .with_http_connector(super::connect::Connector(Arc::clone($lane)))
                .build()
                .map_err($failed)?,
        )
    };
}

fn make(
    place: &Place,
    settings: &Settings,
    redactor: &Redactor,
    lane: Option<&Arc<Lane>>,
) -> Result<(Arc<dyn ObjectStore>, String), Cause> {
    #[cfg(feature = "net")]
    let lane = || lane.ok_or_else(|| Cause::Unsupported("a store of the network has no thread".into()));
    let failed = |error: object_store::Error| Cause::Unsupported(super::cause::text_of(&error, redactor));
    let _ = (settings, &failed, &lane, &place.url);
    match place.scheme {
        #[cfg(feature = "s3")]
        ObjectStoreScheme::AmazonS3 => {
            use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
            super::settings::check::<AmazonS3ConfigKey>("AWS_", settings)?;
            let builder = configured!(AmazonS3Builder::from_env().with_url(place.url.as_str()), settings);
            let of = |key| builder.get_config_value(&key);
            // The region is a part of the server's name only if no endpoint is.
            let named = of(AmazonS3ConfigKey::S3Endpoint).or_else(|| of(AmazonS3ConfigKey::Endpoint));
            let server = server(
                redactor,
                [
                    named.or_else(|| of(AmazonS3ConfigKey::Region)),
                    of(AmazonS3ConfigKey::VirtualHostedStyleRequest),
                    of(AmazonS3ConfigKey::S3Express),
                ],
            );
            Ok((built!(builder, lane()?, failed), server))
        }
        #[cfg(feature = "gcs")]
        ObjectStoreScheme::GoogleCloudStorage => {
            use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
            super::settings::check::<GoogleConfigKey>("GOOGLE_", settings)?;
            let builder = configured!(GoogleCloudStorageBuilder::from_env().with_url(place.url.as_str()), settings);
            let of = |key| builder.get_config_value(&key);
            // A service account's key may name the server, too.
            let account = of(GoogleConfigKey::ServiceAccountKey)
                .or_else(|| std::fs::read_to_string(of(GoogleConfigKey::ServiceAccount)?).ok());
            let account = account.and_then(|key| serde_json::from_str::<serde_json::Value>(&key).ok());
            let named = || Some(account?.get("gcs_base_url")?.as_str()?.to_owned());
            let server = server(redactor, [of(GoogleConfigKey::BaseUrl).or_else(named)]);
            Ok((built!(builder, lane()?, failed), server))
        }
        #[cfg(feature = "azure")]
        ObjectStoreScheme::MicrosoftAzure => {
            use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
            super::settings::check::<AzureConfigKey>("AZURE_", settings)?;
            let builder = configured!(MicrosoftAzureBuilder::from_env().with_url(place.url.as_str()), settings);
            let of = |key| builder.get_config_value(&key);
            let emulator = of(AzureConfigKey::UseEmulator);
            let server = server(
                redactor,
                [
                    of(AzureConfigKey::AccountName),
                    of(AzureConfigKey::Endpoint),
                    of(AzureConfigKey::UseFabricEndpoint).map(|value| format!("fabric={value}")),
                    // Where `object_store` looks for the emulator.
                    std::env::var("AZURITE_BLOB_STORAGE_URL").ok().filter(|_| emulator.as_deref() != Some("false")),
                    emulator.map(|value| format!("emulator={value}")),
                ],
            );
            Ok((built!(builder, lane()?, failed), server))
        }
        #[cfg(feature = "http")]
        ObjectStoreScheme::Http => {
            use object_store::ClientConfigKey;
            use object_store::http::HttpBuilder;
            super::settings::check::<ClientConfigKey>("", settings)?;
            let mut builder = HttpBuilder::new().with_url(&place.url[..url::Position::BeforePath]);
            // A URL that begins with `http:` says what the variables of the other stores have to allow.
            if place.url.scheme() == "http" {
                builder = builder.with_config(ClientConfigKey::AllowHttp, "true");
            }
            let builder = configured!(builder, settings);
            Ok((built!(builder, lane()?, failed), String::new()))
        }
        #[cfg(feature = "local")]
        ObjectStoreScheme::Local => Ok((Arc::new(object_store::local::LocalFileSystem::new()), String::new())),
        #[cfg(feature = "memory")]
        ObjectStoreScheme::Memory => Ok((Arc::new(object_store::memory::InMemory::new()), String::new())),
        _ => Err(Cause::Unsupported(
            format!("{}: needs a feature of faultin-store that is not enabled", place.url.scheme()).into(),
        )),
    }
}

/// Returns what distinguishes a server from others that have buckets of the same names, of settings that select it.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn server<const N: usize>(redactor: &Redactor, settings: [Option<String>; N]) -> String {
    let is_set = |value: &String| !value.is_empty() && !value.ends_with("false");
    let parts: Vec<String> = settings.into_iter().flatten().filter(is_set).collect();
    redactor.text(&parts.join(" ")).to_string()
}

/// The retries are those of this crate, which have a deadline.
#[cfg(feature = "net")]
fn no_retries() -> object_store::RetryConfig {
    object_store::RetryConfig { max_retries: 0, ..object_store::RetryConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_credentials_and_buckets_no_paths() {
        let cases = [
            ("s3://bucket/a/b", "s3://bucket", "a/b"),
            ("memory:///x", "memory://", "x"),
            ("file:///tmp/x", "file://", "tmp/x"),
            ("http://host:90/a/b", "http://host:90", "a/b"),
            ("https://acc.blob.core.windows.net/box/k", "https://acc.blob.core.windows.net/box", "k"),
        ];
        for (text, bucket, path) in cases {
            let place = parse(text).unwrap();
            assert_eq!((&*place.name, &*place.bucket, place.path.as_ref()), (text, bucket, path));
        }
        for text in [
            "s3://bucket",
            "nothing",
            "ftp://host/x",
            "http://me:pw@host/x",
            "https://host/x?sig=1",
            "s3://b/x#f",
            "http://host/x;sig=1",
            "http://host/x;v=1;X-Amz-Signature=1/y",
        ] {
            let cause = parse(text).unwrap_err();
            assert!(matches!(cause, Cause::Unsupported(_)), "{text}: {cause}");
            assert!(!cause.to_string().contains("pw") && !cause.to_string().contains("sig"));
        }
    }

    /// The disk tier tells objects of the same name apart by it.
    #[cfg(all(feature = "s3", feature = "gcs", feature = "azure"))]
    #[test]
    fn each_setting_that_selects_another_server_distinguishes_it() {
        let lane = Lane::new().unwrap();
        let account =
            |more: &str| format!(r#"{{"private_key": "p", "private_key_id": "i", "client_email": "e", {more}}}"#);
        let (plain, elsewhere) =
            (account(r#""disable_oauth": true"#), account(r#""disable_oauth": true, "gcs_base_url": "http://d:1""#));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), elsewhere.replace("//d", "//e")).unwrap();
        let file = file.path().to_str().unwrap();
        let s3: &[&[(&str, &str)]] = &[
            &[],
            &[("aws_region", "cn-north-1")],
            &[("aws_endpoint", "http://a:1")],
            &[("aws_endpoint", "http://b:1")],
            &[("aws_endpoint", "http://a:1"), ("aws_endpoint_url_s3", "http://c:1")],
            &[("aws_endpoint", "http://a:1"), ("aws_virtual_hosted_style_request", "true")],
        ];
        let gs: &[&[(&str, &str)]] = &[
            &[("google_service_account_key", &plain)],
            &[("google_service_account_key", &elsewhere)],
            &[("google_service_account", file)],
            &[("google_service_account_key", &elsewhere), ("google_base_url", "http://c:1")],
        ];
        let az: &[&[(&str, &str)]] = &[
            &[("azure_storage_account_name", "one")],
            &[("azure_storage_account_name", "two")],
            &[("azure_storage_account_name", "one"), ("azure_storage_endpoint", "http://a:1")],
            &[("azure_storage_account_name", "one"), ("azure_use_fabric_endpoint", "true")],
            &[("azure_storage_account_name", "one"), ("azure_storage_use_emulator", "true")],
        ];
        for (url, each) in [("s3://bucket/x", s3), ("gs://bucket/x", gs), ("az://bucket/x", az)] {
            let place = parse(url).unwrap();
            let mut servers = std::collections::HashSet::new();
            for settings in each {
                let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
                let made = connect(&place, &settings, &Redactor::default(), Some(&lane));
                let (_, server) = made.unwrap_or_else(|cause| panic!("{url} {settings:?}: {cause}"));
                assert!(servers.insert(server.clone()), "{url} {settings:?}: {server} is another one's");
            }
        }
    }

    #[test]
    fn a_path_that_would_be_another_object_s_is_refused() {
        for text in [
            "s3://b/a//b",
            "s3://b//a",
            "s3://b/dir/",
            "s3://b/a%2Fb",
            "s3://b/a%00b",
            "s3://b/%ff",
            "s3://b/..%2Fx",
            "http://h/a//b",
            "http://h/a%2fb",
            "http://h/dir/",
            "http://h/a/../c",
            "http://h/a/%2e%2e/c",
            "http://h/a\\b",
            "http://h/%00",
            "file:///x/a/",
            "file:///x//a",
            "memory:///a/./b",
        ] {
            let says = parse(text).map(|place| place.path).expect_err(text).to_string();
            assert!(says.contains("the path is not supported"), "{text}: {says}");
        }
        let says = parse("file://etc/passwd").unwrap_err().to_string();
        assert!(says.contains("has a host"), "{says}");
        assert!(parse("s3://b/a\nb").unwrap_err().to_string().contains("control"));
        // What is encoded by a URL is decoded once.
        for (text, path) in [
            ("s3://b/a%20b", "a b"),
            ("http://h/a%2520b", "a%20b"),
            ("s3://b/a..b", "a..b"),
            ("http://h/x;v=1", "x;v=1"),
        ] {
            assert_eq!(parse(text).unwrap().path.as_ref(), path, "{text}");
        }
    }
}
