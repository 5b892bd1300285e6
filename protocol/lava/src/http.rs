//! One request to the server and its whole answer.

use std::error::Error;
use std::sync::Once;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, DATE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, ClientBuilder, NoProxy, Proxy, RequestBuilder, Response, StatusCode, Url, redirect};

use crate::error::{ServerError, excerpt};
use crate::identity::{Identity, is_loopback};
use crate::secrets::Secrets;
use crate::token::Token;

/// The longest answer that is not a log.
pub(crate) const ANSWER_LIMIT: usize = 16 << 20;
/// The longest log taken at once.
pub(crate) const LOG_LIMIT: usize = 64 << 20;
const REDIRECTS: usize = 5;

/// A client with this identity's proxy and certificates.
pub(crate) fn client(identity: &Identity) -> Result<Client, ServerError> {
    builder(identity)?.build().map_err(|error| failure(&error))
}

fn builder(identity: &Identity) -> Result<ClientBuilder, ServerError> {
    static PROVIDER: Once = Once::new();
    // Somebody else may have installed one: then that serves.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let mut builder = Client::builder()
        .user_agent(concat!("lavabus/", env!("CARGO_PKG_VERSION")))
        // Followed by hand: for GET only, and never to another host.
        .redirect(redirect::Policy::none())
        // So that a timeout tells whether anything was sent.
        .connect_timeout((identity.timeout / 2).min(Duration::from_secs(10)))
        .tls_danger_accept_invalid_certs(!identity.verify_certificate);
    if let Some(proxy) = &identity.proxy {
        let proxy = Proxy::all(proxy.as_str()).map_err(|_| ServerError::Unexpected {
            status: None,
            excerpt: "the identity's proxy is no address".to_owned(),
        })?;
        builder = builder.proxy(proxy.no_proxy(NoProxy::from_env()));
    } else if is_loopback(&identity.uri) {
        // A proxy's loopback is not ours.
        builder = builder.no_proxy();
    }
    Ok(builder)
}

/// A whole answer, whatever its status. Its body is as it came: what of it is shown goes through `secrets`.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    pub(crate) server_time: Option<Timestamp>,
    pub(crate) round_trip: Duration,
    pub(crate) location: Option<String>,
    pub(crate) secrets: Secrets,
}

impl Reply {
    /// Reads an answer to its end.
    pub(crate) async fn read(
        mut response: Response,
        limit: usize,
        began: Instant,
        secrets: Secrets,
    ) -> Result<Reply, ServerError> {
        let status = response.status();
        let server_time = date(response.headers());
        let location = response.headers().get(LOCATION);
        let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(ServerError::Unexpected {
                    status: Some(status.as_u16()),
                    excerpt: format!("an answer of more than {} MiB", limit >> 20),
                });
            }
            body.extend_from_slice(&chunk);
        }
        let body = match String::from_utf8(body) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        Ok(Reply {
            status,
            body,
            server_time,
            round_trip: began.elapsed(),
            location,
            secrets,
        })
    }

    /// The answer as JSON.
    pub(crate) fn json(&self) -> Result<serde_json::Value, ServerError> {
        serde_json::from_str(&self.body).map_err(|error| {
            if error.is_eof() && !self.body.trim().is_empty() {
                ServerError::Unavailable {
                    cause: "the answer was cut off".to_owned(),
                }
            } else {
                self.unexpected()
            }
        })
    }

    pub(crate) fn unexpected(&self) -> ServerError {
        ServerError::Unexpected {
            status: Some(self.status.as_u16()),
            excerpt: self.excerpt(),
        }
    }

    /// The beginning of the answer, without secrets.
    pub(crate) fn excerpt(&self) -> String {
        excerpt(&self.secrets.redact(&self.body))
    }

    /// The server's own words: `message` or `detail`, else `key: text`, else the beginning of the answer.
    pub(crate) fn message(&self) -> String {
        self.own_words().unwrap_or_else(|| self.excerpt())
    }

    /// The server's own words, if the answer is a JSON object.
    pub(crate) fn own_words(&self) -> Option<String> {
        message_of(&self.body).map(|message| self.secrets.redact(&message))
    }

    fn unavailable(&self) -> ServerError {
        ServerError::Unavailable {
            cause: format!("status {}: {}", self.status, self.message()),
        }
    }

    /// Whether it is a JSON object.
    pub(crate) fn is_json(&self) -> bool {
        serde_json::from_str::<serde_json::Value>(&self.body).is_ok_and(|value| value.is_object())
    }

    /// A 404 of Django REST framework: it says why in `detail`. Any other may be of somebody in the way.
    pub(crate) fn is_not_found_by_rest(&self) -> bool {
        let detail = || {
            let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
            Some(body.get("detail")?.is_string())
        };
        self.status == StatusCode::NOT_FOUND && detail().unwrap_or(false)
    }

    /// What a status other than 2xx of the REST API means for the caller, where there is such an API.
    pub(crate) fn rest_refusal(&self, what: &str) -> ServerError {
        if self.is_not_found_by_rest() {
            return ServerError::NotFound { what: what.to_owned() };
        }
        if self.status == StatusCode::NOT_FOUND {
            return self.unavailable();
        }
        self.refusal()
    }

    /// What a status that is not 101 means for somebody who wants a WebSocket. LAVA refuses after the 101 only: 401 and
    /// 403 are of somebody else too.
    pub(crate) fn handshake_refusal(&self) -> ServerError {
        match self.refusal() {
            ServerError::Refused { .. } => self.unexpected(),
            other => other,
        }
    }

    /// What a status other than 2xx means for the caller. A 404 is nobody's word yet: see
    /// [`rest_refusal`](Reply::rest_refusal).
    pub(crate) fn refusal(&self) -> ServerError {
        let status = self.status;
        match status.as_u16() {
            401 | 403 => ServerError::Refused {
                status: Some(status.as_u16()),
                message: self.message(),
            },
            408 | 429 | 500..=599 => self.unavailable(),
            300..=399 => ServerError::Unexpected {
                status: Some(status.as_u16()),
                excerpt: {
                    let to = self.location.as_deref().unwrap_or("nowhere");
                    format!("sent on to {}", self.secrets.redact(to))
                },
            },
            _ => self.unexpected(),
        }
    }
}

/// The `message` of LAVA, the `detail` of Django REST framework, or its map of keys and complaints.
pub(crate) fn message_of(body: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    let members = value.as_object()?;
    if let Some(text) = ["message", "detail", "error"]
        .iter()
        .find_map(|key| members.get(*key)?.as_str())
    {
        return Some(text.to_owned());
    }
    let said = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => {
            let texts: Vec<&str> = items.iter().filter_map(serde_json::Value::as_str).collect();
            texts.join(" ")
        }
        other => other.to_string(),
    };
    let lines: Vec<String> = members
        .iter()
        .map(|(key, value)| format!("{key}: {}", said(value)))
        .collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// `Authorization: Token …`, as REST wants it.
pub(crate) fn token_header(token: &Token) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Token {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Adds what every REST request carries.
pub(crate) fn rest(request: RequestBuilder, token: Option<&HeaderValue>) -> RequestBuilder {
    let request = request.header(ACCEPT, "application/json");
    match token {
        Some(token) => request.header(AUTHORIZATION, token.clone()),
        None => request,
    }
}

/// GET, following redirects on the same host. The identity's timeout is for all of it.
pub(crate) async fn get(
    client: &Client,
    identity: &Identity,
    mut url: Url,
    token: Option<&HeaderValue>,
    limit: usize,
    secrets: &Secrets,
) -> Result<Reply, ServerError> {
    let began = Instant::now();
    for _ in 0..=REDIRECTS {
        let left = identity.timeout.saturating_sub(began.elapsed());
        let request = rest(client.get(url.clone()).timeout(left), token);
        let response = request.send().await.map_err(|error| failure(&error))?;
        let reply = Reply::read(response, limit, began, secrets.clone()).await?;
        let target = reply.location.as_deref().filter(|_| reply.status.is_redirection());
        let Some(target) = target.and_then(|location| url.join(location).ok()) else {
            return Ok(reply);
        };
        if !may_follow(&url, &target) {
            return Ok(reply);
        }
        url = target;
    }
    Err(ServerError::Unexpected {
        status: None,
        excerpt: format!("more than {REDIRECTS} redirects"),
    })
}

/// The same host and port, or from plain http to https on the usual ports; never back to plain http.
fn may_follow(from: &Url, to: &Url) -> bool {
    let same = from.scheme() == to.scheme() && from.port_or_known_default() == to.port_or_known_default();
    let upgrade = from.scheme() == "http" && to.scheme() == "https" && from.port().is_none() && to.port().is_none();
    from.host_str() == to.host_str() && (same || upgrade)
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

/// What a failed request means for the caller.
pub(crate) fn failure(error: &reqwest::Error) -> ServerError {
    if let Some(tls) = tls_error(error) {
        return ServerError::Certificate { cause: tls.to_string() };
    }
    let cause = cause(error);
    if error.is_builder() {
        return ServerError::Unexpected {
            status: None,
            excerpt: cause,
        };
    }
    ServerError::Unavailable { cause }
}

/// The innermost reason in a few words: reqwest's own outer texts name the address only.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let innermost = || {
        let mut source: &dyn Error = error;
        while let Some(next) = source.source() {
            source = next;
        }
        source.to_string()
    };
    if error.is_connect() {
        format!("no connection: {}", innermost())
    } else if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_body() || error.is_decode() {
        format!("the answer was cut off: {}", innermost())
    } else {
        innermost()
    }
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // An io::Error passes over the error that it holds.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(held) = held
            && let Some(tls) = tls_error(held)
        {
            return Some(tls);
        }
        source = error.source();
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_host() {
        let follows = |from: &str, to: &str| may_follow(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
        assert!(follows("http://a/x", "http://a/y"));
        assert!(follows("http://a/x", "https://a/x"));
        assert!(follows("https://a:8443/x", "https://a:8443/x/"));
        assert!(!follows("https://a/x", "http://a/x"));
        assert!(!follows("https://a/x", "https://b/x"));
        assert!(!follows("https://a/x", "https://a:8443/x"));
        assert!(!follows("http://a:8000/x", "https://a/x"));
    }

    #[test]
    fn the_servers_words() {
        assert_eq!(message_of(r#"{"message": "m", "detail": "d"}"#).as_deref(), Some("m"));
        assert_eq!(message_of(r#"{"detail": "d"}"#).as_deref(), Some("d"));
        assert_eq!(
            message_of(r#"{"definition": ["This field", "is required."]}"#).as_deref(),
            Some("definition: This field is required.")
        );
        assert_eq!(message_of("<html>"), None);
        assert_eq!(message_of("{}"), None);
    }

    #[test]
    fn the_date_of_an_answer() {
        let mut headers = HeaderMap::new();
        assert_eq!(date(&headers), None);
        headers.insert(DATE, HeaderValue::from_static("Sat, 21 Nov 2026 05:01:05 GMT"));
        assert_eq!(date(&headers), Some("2026-11-21T05:01:05Z".parse().unwrap()));
        headers.insert(DATE, HeaderValue::from_static("yesterday"));
        assert_eq!(date(&headers), None);
    }
}
