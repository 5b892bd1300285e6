//! A client of the second port.

use std::net::SocketAddr;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, Response};

use super::LONG;

/// Asks one publisher.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client,
    base: String,
    token: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// An error in the form that all errors have; its detail.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(
            (self.status, &*self.content_type),
            (status, "application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl HttpClient {
    pub fn new(address: SocketAddr) -> HttpClient {
        // The second of several tests finds one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        HttpClient {
            client: Client::builder().no_proxy().build().unwrap(),
            base: format!("http://{address}"),
            token: None,
        }
    }

    /// The same with a token.
    pub fn with_token(mut self, token: &str) -> HttpClient {
        self.token = Some(token.to_owned());
        self
    }

    /// A request that can be changed before it is sent.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let request = self
            .client
            .request(method.parse().unwrap(), format!("{}{path}", self.base));
        match &self.token {
            None => request,
            Some(token) => request.header(AUTHORIZATION, format!("Token {token}")),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        HttpClient::send(self.request("GET", path)).await
    }

    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Answer {
        let request = self.request("POST", path).header(CONTENT_TYPE, "application/json");
        HttpClient::send(request.body(body.to_string())).await
    }

    /// The whole answer, or why there is none.
    pub async fn try_send(request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.timeout(LONG).send().await?;
        let content_type = response.headers().get(CONTENT_TYPE);
        Ok(Answer {
            status: response.status().as_u16(),
            content_type: content_type.map_or_else(String::new, |value| value.to_str().unwrap().to_owned()),
            body: response.text().await?,
        })
    }

    pub async fn send(request: RequestBuilder) -> Answer {
        HttpClient::try_send(request).await.unwrap()
    }

    /// Opens an event stream. Its place in the stream is taken when this returns.
    pub async fn stream(&self, path: &str, last_event_id: Option<&str>) -> EventStream {
        let mut request = self.request("GET", path);
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = tokio::time::timeout(LONG, request.send()).await.unwrap().unwrap();
        assert_eq!(response.status(), 200, "{:?}", response.text().await);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
        EventStream {
            response,
            text: Vec::new(),
        }
    }
}

/// Server-sent events, read as the standard says.
#[derive(Debug)]
pub struct EventStream {
    response: Response,
    text: Vec<u8>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    pub id: Option<String>,
    pub event: String,
    pub data: serde_json::Value,
}

impl SseEvent {
    pub fn uuid(&self) -> &str {
        self.data["uuid"].as_str().unwrap()
    }
}

impl EventStream {
    /// The next event, or none if the stream has ended.
    pub async fn next(&mut self) -> Option<SseEvent> {
        // Comments come for ever.
        tokio::time::timeout(LONG, self.read()).await.expect("an event")
    }

    async fn read(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let mut event = SseEvent {
                    id: None,
                    event: "message".to_owned(),
                    data: serde_json::Value::Null,
                };
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                let (mut is_event, block) = (false, String::from_utf8(block).unwrap());
                for line in block.lines().filter(|line| !line.is_empty()) {
                    match line.split_once(": ").unwrap_or((line, "")) {
                        ("id", id) => event.id = Some(id.to_owned()),
                        ("event", kind) => event.event = kind.to_owned(),
                        ("data", data) => {
                            is_event = true;
                            event.data = serde_json::from_str(data).unwrap();
                        }
                        (comment, _) => assert!(comment.starts_with(':'), "{line}"),
                    }
                }
                if is_event {
                    return Some(event);
                }
                continue;
            }
            match self.response.chunk().await.unwrap() {
                None => return None,
                Some(chunk) => self.text.extend_from_slice(&chunk),
            }
        }
    }

    pub async fn take(&mut self, count: usize) -> Vec<SseEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await.expect("no end"));
        }
        events
    }
}
