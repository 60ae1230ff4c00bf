//! Connections: an HTTP client that follows no redirect, and whose answers are judged before `object_store` reads them.

use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};

use super::cause::Refused;
use super::judge::{Asked, Verdict, code_of, judge, weaken_etag};
use crate::error::Cause;

/// Maximum number of bytes of an error's body that are read, to find its code.
const ERROR_BODY: usize = 8 << 10;

/// Longest time that reading it takes, of which most is spent on the way here.
const ERROR_TIME: Duration = Duration::from_millis(250);

/// Number of seconds after which a connection without a use is closed.
const IDLE: Duration = Duration::from_secs(30);

/// Makes the clients of a store.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |error: reqwest::Error| object_store::Error::Generic {
            store: "HTTP client",
            source: Box::new(error.without_url()),
        };
        let value = |key| options.get_config_value(&key);
        let is_on = |key| value(key).is_some_and(|value| value == "true");
        // Credentials, and the condition, are for this server only.
        let mut builder =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).pool_idle_timeout(IDLE);
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
        }
        if is_on(ClientConfigKey::AllowInvalidCertificates) {
            builder = builder.danger_accept_invalid_certs(true);
        }
        // The client takes the process's provider. There is none yet, unless the program has chosen one.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        // As `object_store` does: several connections are faster than the streams of one.
        let client = builder.http1_only().https_only(!is_on(ClientConfigKey::AllowHttp)).build().map_err(failed)?;
        Ok(HttpClient::new(Judged(HttpClient::new(client))))
    }
}

/// A client whose answers are judged.
#[derive(Debug)]
struct Judged(HttpClient);

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
            // Requests for credentials have no such note, and neither do those of `check`.
            let asked = request.extensions().get::<Asked>().cloned();
            let response = self.0.execute(request).await?;
            let Some(asked) = asked else { return Ok(response) };
            let (mut parts, body) = response.into_parts();
            match judge(&asked, parts.status, &parts.headers) {
                Verdict::Fits(seen) => {
                    weaken_etag(&mut parts.headers);
                    parts.extensions.insert(seen);
                    Ok(HttpResponse::from_parts(parts, body))
                }
                Verdict::Refused(cause) => Err(refused(cause)),
                Verdict::Failed(status, retry_after) => {
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
                    Err(refused(Cause::Status { status: status.as_u16(), code: code_of(&text), retry_after }))
                }
            }
        })
    }
}

/// Of a kind that `object_store` does not try again.
fn refused(cause: Cause) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, Refused(cause))
}
