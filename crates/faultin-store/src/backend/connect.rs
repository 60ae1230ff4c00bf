//! Connections: an HTTP client that follows no redirect, and whose answers are judged before `object_store` reads them.
//!
//! It has no time-outs: each request has one where it is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};

use super::cause::Refused;
use super::judge::{Asked, Verdict, code_of, judge, retry_after, weaken_etag};
use super::lane::Lane;
use crate::error::Cause;

/// Maximum number of bytes of an error's body that are read, to find its code.
const ERROR_BODY: usize = 8 << 10;

/// Longest time that reading it takes, of which most is spent on the way here.
const ERROR_TIME: Duration = Duration::from_millis(250);

/// Number of seconds after which a connection without a use is closed.
const IDLE: Duration = Duration::from_secs(30);

/// Makes the clients of a store, whose connections are in a lane.
#[derive(Debug)]
pub(super) struct Connector(pub(super) Arc<Lane>);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |error: reqwest::Error| object_store::Error::Generic {
            store: "HTTP client",
            source: Box::new(error.without_url()),
        };
        let value = |key| options.get_config_value(&key);
        let is_on = |key| is_on(key, value(key).as_deref());
        // Credentials, and the condition, are for this server only.
        let mut builder =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).pool_idle_timeout(IDLE);
        // A feature of `reqwest` that any crate of the program enables would decode bodies, and remove their length.
        builder = builder.no_gzip().no_brotli().no_zstd().no_deflate();
        if let Some(agent) = value(ClientConfigKey::UserAgent) {
            builder = builder.user_agent(agent);
        }
        if let Some(headers) = options.get_default_headers() {
            builder = builder.default_headers(headers.clone());
        }
        if let Some(url) = value(ClientConfigKey::ProxyUrl) {
            let excludes = value(ClientConfigKey::ProxyExcludes).unwrap_or_default();
            let proxy = reqwest::Proxy::all(url).map_err(failed)?;
            builder = builder.proxy(proxy.no_proxy(reqwest::NoProxy::from_string(&excludes)));
            if let Some(authority) = value(ClientConfigKey::ProxyCaCertificate) {
                let authority = reqwest::Certificate::from_pem(authority.as_bytes()).map_err(failed)?;
                builder = builder.tls_certs_merge([authority]);
            }
        }
        if is_on(ClientConfigKey::NoSystemCertificates)? {
            builder = builder.tls_certs_only([]);
        }
        if is_on(ClientConfigKey::AllowInvalidCertificates)? {
            builder = builder.danger_accept_invalid_certs(true);
        }
        // The client takes the process's provider. There is none yet, unless the program has chosen one.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        // As `object_store` does: several connections are faster than the streams of one.
        let client = builder.http1_only().https_only(!is_on(ClientConfigKey::AllowHttp)?).build().map_err(failed)?;
        Ok(HttpClient::new(Judged { client: HttpClient::new(client), lane: Arc::clone(&self.0) }))
    }
}

/// Returns whether a setting is on: in the words of `object_store`, which hands on what the caller has written.
///
/// # Errors
/// If it is none of these words. Its value is not in it.
fn is_on(key: ClientConfigKey, value: Option<&str>) -> object_store::Result<bool> {
    match value.unwrap_or("false").to_ascii_lowercase().as_str() {
        "1" | "true" | "on" | "yes" | "y" => Ok(true),
        "0" | "false" | "off" | "no" | "n" => Ok(false),
        _ => {
            let what = format!("the setting {} is neither true nor false", key.as_ref());
            Err(object_store::Error::Generic { store: "HTTP client", source: what.into() })
        }
    }
}

/// A client whose answers are judged.
#[derive(Debug)]
struct Judged {
    client: HttpClient,
    lane: Arc<Lane>,
}

impl HttpService for Judged {
    fn call<'s, 'f>(
        &'s self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let asked = request.extensions().get::<Asked>().cloned();
            let response = self.lane.run(self.client.execute(request)).await?;
            let (mut parts, body) = response.into_parts();
            let Some(asked) = asked else {
                // Requests for credentials have no such note, and neither do those of `check`.
                if parts.status.is_success() {
                    return Ok(HttpResponse::from_parts(parts, body));
                }
                // An error's body may have anything, and would be in a message.
                let code = code_in(body).await;
                // Of most statuses `object_store` makes an error of their own. It makes one of all others, which cannot be
                // tried again.
                let status = parts.status.as_u16();
                if matches!(status, 416 | 429 | 500..=599) {
                    let (code, retry_after) = (code.map(Arc::from), retry_after(&parts.headers));
                    return Err(refused(Cause::Status { status, code, retry_after }));
                }
                return Ok(HttpResponse::from_parts(parts, code.unwrap_or_default().into()));
            };
            match judge(&asked, parts.status, &parts.headers) {
                Verdict::Fits(seen) => {
                    weaken_etag(&mut parts.headers);
                    parts.extensions.insert(seen);
                    Ok(HttpResponse::from_parts(parts, body))
                }
                Verdict::Refused(cause) => Err(refused(cause)),
                Verdict::Failed(status, retry_after) => {
                    let code = code_in(body).await.map(Arc::from);
                    Err(refused(Cause::Status { status: status.as_u16(), code, retry_after }))
                }
            }
        })
    }
}

/// Returns the code in the body of an error.
async fn code_in(body: HttpResponseBody) -> Option<String> {
    let mut text = Vec::new();
    let mut body = body.bytes_stream();
    let reads = async {
        while let Some(Ok(bytes)) = body.next().await {
            text.extend_from_slice(&bytes[..bytes.len().min(ERROR_BODY - text.len())]);
            if text.len() == ERROR_BODY {
                break;
            }
        }
    };
    // The status is known, and matters more than the code.
    let _ = tokio::time::timeout(ERROR_TIME, reads).await;
    code_of(&text).map(|code| code.to_string())
}

/// Of a kind that `object_store` does not try again.
fn refused(cause: Cause) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, Refused(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_on_in_each_of_the_words_for_it() {
        let is_on = |value| is_on(ClientConfigKey::AllowHttp, value);
        for (value, expected) in [(None, false), (Some("True"), true), (Some("1"), true), (Some("yes"), true)] {
            assert_eq!(is_on(value).unwrap(), expected, "{value:?}");
        }
        assert!(!is_on(Some("OFF")).unwrap());
        let says = is_on(Some("hunter22")).unwrap_err().to_string();
        assert!(says.contains("allow_http") && !says.contains("hunter22"), "{says}");
    }
}
