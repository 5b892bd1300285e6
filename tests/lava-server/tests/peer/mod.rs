//! A client that is not of this project's making: one request on a plain socket, and tungstenite's WebSocket.
#![allow(clippy::unwrap_used, dead_code)]

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt;
use lava_stand_in::LavaServer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

/// So long that only what never comes is missed.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) const ADMIN: &str = "Token admin-token-0123456789";

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_default().to_owned()
    }
}

/// The answer, or `None` when the connection ended without one.
pub(crate) async fn try_ask(
    lava: &LavaServer,
    method: &str,
    target: &str,
    authorization: Option<&str>,
    body: Option<(&str, &str)>,
) -> Option<Answer> {
    let mut stream = TcpStream::connect(lava.address()).await.unwrap();
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
        lava.address()
    );
    if let Some(authorization) = authorization {
        request += &format!("Authorization: {authorization}\r\n");
    }
    let (media, body) = body.unwrap_or_default();
    if !media.is_empty() {
        request += &format!("Content-Type: {media}\r\nContent-Length: {}\r\n", body.len());
    }
    request += &format!("\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut bytes))
        .await
        .unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(head.to_lowercase().contains("\r\ndate: "), "{head}");
    Some(Answer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

pub(crate) async fn get(lava: &LavaServer, target: &str, authorization: Option<&str>) -> Answer {
    try_ask(lava, "GET", target, authorization, None).await.unwrap()
}

pub(crate) async fn submit(lava: &LavaServer, definition: &str, authorization: Option<&str>) -> Answer {
    let body = json!({ "definition": definition }).to_string();
    try_ask(
        lava,
        "POST",
        "/api/v0.2/jobs/",
        authorization,
        Some(("application/json", &body)),
    )
    .await
    .unwrap()
}

pub(crate) fn basic(user: &str, token: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{token}")))
}

pub(crate) type Socket = WebSocketStream<TcpStream>;

pub(crate) async fn web_socket(lava: &LavaServer, headers: &[(&'static str, &str)]) -> Socket {
    let mut request = format!("ws://{}/ws/", lava.address()).into_client_request().unwrap();
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let stream = TcpStream::connect(lava.address()).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await.unwrap().0
}

/// Connected, and counted by the server, so that it misses nothing from now on.
pub(crate) async fn logged_in(lava: &LavaServer, headers: &[(&'static str, &str)]) -> Socket {
    let before = lava.web_sockets();
    let socket = web_socket(lava, headers).await;
    tokio::time::timeout(LONG, async {
        while lava.web_sockets() == before {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    socket
}

pub(crate) async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(LONG, socket.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

pub(crate) async fn next_frames(socket: &mut Socket) -> [String; 5] {
    let message = next(socket).await;
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}
