//! A publisher's second port: REST, and the stream as server-sent events. One request each; whether to try again is the
//! caller's to say.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use lavabus_protocol::filter::{Field, Filter, Pattern};
use lavabus_protocol::{Cursor, CursorError, Record};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, InvalidHeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// An answer holds no more bytes.
const ANSWER_LIMIT: usize = 64 << 20;
/// One request takes no longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A publisher takes no more clauses in one request,
const CLAUSES: usize = 32;
/// no more regular expressions among them,
const EXPRESSIONS: usize = 8;
/// nor, with room for the rest of a request's head, more bytes of them.
const CLAUSE_BYTES: usize = 4096;

/// Where a publisher's second port is, and as whom it is asked. Cheap to clone: clones share connections.
#[derive(Clone)]
pub struct SecondPort {
    client: Client,
    base: Url,
    token: Option<HeaderValue>,
    secret: Option<String>,
}

/// Why there is no answer. No text in it holds the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Not without a token, not with this one, or not from here: 401, 403.
    #[error("{reason}")]
    Refused {
        /// The publisher's own words.
        reason: String,
    },
    /// It is not there, or not to be seen with this token: a 404 of a publisher.
    #[error("{reason}")]
    NotFound {
        /// The publisher's own words.
        reason: String,
    },
    /// What was asked for is wrong, or cannot be had any more: another 4xx of a publisher.
    #[error("{reason}")]
    BadRequest {
        /// The publisher's own words.
        reason: String,
    },
    /// No connection, no answer in time, 408, 429 or 5xx. Worth another try.
    #[error("{cause}")]
    Unavailable {
        /// What happened.
        cause: String,
    },
    /// TLS refused the certificate. Another try brings the same.
    #[error("certificate refused: {cause}")]
    Certificate {
        /// What the verifier said.
        cause: String,
    },
    /// Something answered, but no publisher. Another try brings the same.
    #[error("no answer of a publisher (status {status}): {excerpt}")]
    NoPublisher {
        /// HTTP status.
        status: u16,
        /// What was wrong with it.
        excerpt: String,
    },
}

/// A part of what a publisher keeps.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Events, in the order that was asked for.
    pub events: Vec<Record>,
    /// Where it goes on; none: there is no more.
    pub next: Option<Cursor>,
    /// What cannot be had.
    pub gap: Option<Value>,
}

impl SecondPort {
    /// The port at `base`, the address above its `api/`. Nothing is sent yet.
    ///
    /// The client must not follow redirects, since the token would go with them.
    ///
    /// # Errors
    ///
    /// [`InvalidHeaderValue`] if the token cannot stand in a header.
    pub fn new(client: Client, base: Url, token: Option<&str>) -> Result<SecondPort, InvalidHeaderValue> {
        let header = token.map(|token| {
            let mut header = HeaderValue::from_str(&format!("Token {token}"))?;
            header.set_sensitive(true);
            Ok(header)
        });
        Ok(SecondPort {
            client,
            base,
            token: header.transpose()?,
            secret: token.filter(|token| !token.is_empty()).map(str::to_owned),
        })
    }

    /// Its address.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Whether a token goes with each request.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The address of `api/v1/…`.
    pub fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        url
    }

    /// GET of `api/v1/…`: the text that it answers.
    ///
    /// # Errors
    ///
    /// [`PortError`]; answers of more than 64 MiB are [`PortError::NoPublisher`].
    pub async fn get(&self, path: &[&str], query: &[(String, String)]) -> Result<String, PortError> {
        let asking = async {
            let response = self.send(path, query, None).await?;
            let status = response.status().as_u16();
            let no_text = |_| PortError::NoPublisher {
                status,
                excerpt: "no text".to_owned(),
            };
            String::from_utf8(self.body(response).await?).map_err(no_text)
        };
        let answer = tokio::time::timeout(ANSWER_WITHIN, asking).await;
        answer.unwrap_or_else(|_| Err(late(ANSWER_WITHIN)))
    }

    /// The same, read as JSON.
    ///
    /// # Errors
    ///
    /// As [`get`](SecondPort::get); [`PortError::NoPublisher`] if it is none.
    pub async fn get_json(&self, path: &[&str], query: &[(String, String)]) -> Result<Value, PortError> {
        let text = self.get(path, query).await?;
        serde_json::from_str(&text).map_err(|error| no_json(&error))
    }

    /// GET of `api/v1/events`: a page of what is kept. The events' data are the bytes that were sent.
    ///
    /// # Errors
    ///
    /// As [`get`](SecondPort::get); [`PortError::NotFound`] where the publisher keeps no journal.
    pub async fn events(&self, query: &[(String, String)]) -> Result<Page, PortError> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            events: Vec<&'a RawValue>,
            next: Option<String>,
            gap: Option<Value>,
        }
        let text = self.get(&["events"], query).await?;
        let answer: Answer<'_> = serde_json::from_str(&text).map_err(|error| no_json(&error))?;
        let events = answer.events.iter().map(|event| Record::from_json_line(event.get()));
        let next = answer.next.map(|next| next.parse());
        let wrong = |excerpt: String| PortError::NoPublisher { status: 200, excerpt };
        Ok(Page {
            events: events
                .collect::<Result<_, _>>()
                .map_err(|error| wrong(error.to_string()))?,
            next: next
                .transpose()
                .map_err(|error: CursorError| wrong(error.to_string()))?,
            gap: answer.gap,
        })
    }

    /// Opens `api/v1/stream`. Its head must come `within` so long.
    pub(crate) async fn stream(
        &self,
        query: &[(String, String)],
        after: Option<Cursor>,
        within: Duration,
    ) -> Result<Response, PortError> {
        let opening = tokio::time::timeout(within, self.send(&["stream"], query, after)).await;
        let response = opening.unwrap_or_else(|_| Err(late(within)))?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        match kind {
            Some(kind) if kind.starts_with("text/event-stream") => Ok(response),
            kind => Err(PortError::NoPublisher {
                status: response.status().as_u16(),
                excerpt: format!(
                    "{}, expected an event stream",
                    kind.unwrap_or("nothing said of its kind")
                ),
            }),
        }
    }

    /// The head of a good answer.
    async fn send(
        &self,
        path: &[&str],
        query: &[(String, String)],
        after: Option<Cursor>,
    ) -> Result<Response, PortError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self
            .client
            .get(url)
            .header(ACCEPT, "application/json, text/event-stream");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after.to_string());
        }
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(self.refusal(response).await),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, PortError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err(PortError::NoPublisher {
                    status: response.status().as_u16(),
                    excerpt: format!("an answer of more than {} MiB", ANSWER_LIMIT >> 20),
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// What a status other than 2xx means.
    async fn refusal(&self, response: Response) -> PortError {
        let status = response.status();
        if status.is_redirection() {
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            return PortError::NoPublisher {
                status: status.as_u16(),
                excerpt: self.without_secrets(&format!("sent on to {}", to.unwrap_or("nowhere"))),
            };
        }
        let body = match self.body(response).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        // RFC 9457: that is how a publisher says what is wrong.
        let problem: Option<Value> = serde_json::from_slice(&body).ok();
        let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
        let reason = self.without_secrets(detail.unwrap_or(status.canonical_reason().unwrap_or("no reason given")));
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => PortError::Refused { reason },
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => PortError::Unavailable { cause: reason },
            status if status.is_server_error() => PortError::Unavailable {
                cause: format!("status {}: {reason}", status.as_u16()),
            },
            StatusCode::NOT_FOUND if detail.is_some() => PortError::NotFound { reason },
            status if status.is_client_error() && detail.is_some() => PortError::BadRequest { reason },
            status => PortError::NoPublisher {
                status: status.as_u16(),
                excerpt: reason,
            },
        }
    }

    /// What a request that failed means.
    pub(crate) fn failed(&self, error: &reqwest::Error) -> PortError {
        if let Some(error) = tls_error(error) {
            return PortError::Certificate {
                cause: error.to_string(),
            };
        }
        let mut cause = String::new();
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = next {
            // The innermost says most.
            cause = error.to_string();
            next = error.source();
        }
        PortError::Unavailable {
            cause: self.without_secrets(&cause),
        }
    }

    /// Somebody in the way may repeat our headers.
    fn without_secrets(&self, text: &str) -> String {
        match &self.secret {
            Some(secret) => text.replace(secret, "…"),
            None => text.to_owned(),
        }
    }
}

impl fmt::Debug for SecondPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecondPort")
            .field("base", &self.base.as_str())
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

/// What is wrong with the certificate, if that is why.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::CertificateError> {
    if let Some(rustls::Error::InvalidCertificate(error)) = error.downcast_ref() {
        return Some(error);
    }
    // An io::Error passes over the error that it holds.
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match held {
        Some(held) => tls_error(held),
        None => tls_error(error.source()?),
    }
}

fn no_json(error: &serde_json::Error) -> PortError {
    PortError::NoPublisher {
        status: 200,
        excerpt: error.to_string(),
    }
}

fn late(within: Duration) -> PortError {
    PortError::Unavailable {
        cause: format!("no answer within {within:?}"),
    }
}

/// A filter as parameters of a request, as far as a publisher can take it: what it lets through holds all that the filter
/// does, and may hold more. Labs are the reader's own names, so nothing of them is said.
pub fn filter_query(filter: &Filter) -> Vec<(String, String)> {
    let clauses = filter.clauses().iter().filter(|clause| clause.field != Field::Lab);
    let query = clauses.map(|clause| {
        let negation = if clause.negated { "not_" } else { "" };
        let value = match &clause.pattern {
            Pattern::Exact(text) | Pattern::AnyCase(text) => text.clone(),
            Pattern::Prefix(prefix) => format!("{prefix}*"),
            Pattern::Regex(regex) => format!("~{regex}"),
        };
        (format!("{negation}{}", clause.field.as_str().replace('-', "_")), value)
    });
    let query: Vec<(String, String)> = query.collect();
    // Up to three bytes each, as they are written in an address.
    let bytes: usize = query.iter().map(|(name, value)| 3 * (name.len() + value.len())).sum();
    let expressions = query.iter().filter(|(_, value)| value.starts_with('~')).count();
    match query.len() <= CLAUSES && expressions <= EXPRESSIONS && bytes <= CLAUSE_BYTES {
        true => query,
        false => Vec::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_as_parameters() {
        let mut filter = Filter::default();
        for (field, negated, text) in [
            (Field::Kind, false, "job"),
            (Field::Topic, false, "org.*"),
            (Field::DeviceType, true, "~^qemu"),
            (Field::Job, false, "job/1995"),
            (Field::Lab, false, "staging"),
        ] {
            filter.add(field, negated, text).unwrap();
        }
        let query = filter_query(&filter);
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (&**name, &**value)).collect();
        for pair in [
            ("kind", "testjob"),
            ("topic", "org.*"),
            ("not_device_type", "~^qemu"),
            ("job", "1995"),
        ] {
            assert!(query.contains(&pair), "{query:?}");
        }
        assert_eq!(query.len(), 4);
        for _ in 0..40 {
            filter.add(Field::Device, true, "bbb").unwrap();
        }
        // Some of the clauses might let less through than all of them.
        assert!(filter_query(&filter).is_empty());
    }

    #[test]
    fn addresses_keep_their_prefix_and_the_token_is_not_shown() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = Url::parse("https://a.example.org/lab/").unwrap();
        let port = SecondPort::new(Client::new(), base, Some("s3cret")).unwrap();
        let url = port.url(&["jobs", "a/b c"]);
        assert_eq!(url.as_str(), "https://a.example.org/lab/api/v1/jobs/a%2Fb%20c");
        assert!(!format!("{port:?}").contains("s3cret"));
        assert_eq!(port.without_secrets("Token s3cret"), "Token …");
        assert!(SecondPort::new(Client::new(), Url::parse("http://a/").unwrap(), Some("a\nb")).is_err());
    }
}
