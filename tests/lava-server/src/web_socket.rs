//! `/ws/`: the WebSocket of `lava-publisher`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use crate::event::{self, Subject};
use crate::lab::User;

use crate::server::{Note, Shared};

const TOKEN: HeaderName = HeaderName::from_static("lava-token");
const HOST: HeaderName = HeaderName::from_static("lava-host");

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/ws/", get(upgrade))
        .route("/ws/v1/healthz", get(health))
}

async fn health() -> Response {
    // aiohttp writes JSON with Python's spaces.
    let text = event::python_json(&json!({ "health": "good" }));
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], text).into_response()
}

async fn upgrade(State(shared): State<Arc<Shared>>, headers: HeaderMap, request: WebSocketUpgrade) -> Response {
    request.on_upgrade(move |socket| serve(socket, shared, headers))
}

enum Reader {
    User(Option<User>),
    Worker(String),
}

fn reader_of(headers: &HeaderMap, shared: &Shared) -> Result<Reader, &'static str> {
    let text = |name: HeaderName| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    if let Some(value) = text(header::AUTHORIZATION).filter(|value| !value.is_empty()) {
        let value = value
            .strip_prefix("Basic ")
            .ok_or("Only Basic authentication is supported")?;
        let decoded = BASE64_STANDARD
            .decode(value)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or("Invalid basic authentication")?;
        let (name, token) = decoded.split_once(':').ok_or("Invalid basic authentication")?;
        return shared
            .lab()
            .user_by_name(name, token)
            .map(|user| Reader::User(Some(user)))
            .ok_or("Unknown user");
    }
    let Some(token) = text(TOKEN).filter(|token| !token.is_empty()) else {
        return Ok(Reader::User(None));
    };
    let name = text(HOST).unwrap_or_default();
    let lab = shared.lab();
    let worker = lab.worker(&name).ok_or("Unknown worker")?;
    if worker.token == token {
        Ok(Reader::Worker(name))
    } else {
        Err("Invalid worker token")
    }
}

async fn serve(mut socket: WebSocket, shared: Arc<Shared>, headers: HeaderMap) {
    let reader = match reader_of(&headers, &shared) {
        Ok(reader) => reader,
        Err(why) => {
            let text = event::python_json(&json!({ "error": why }));
            let _ = socket.send(Message::Text(text.into())).await;
            close(socket, close_code::NORMAL, "").await;
            return;
        }
    };
    let mut notes = shared.notes.subscribe();
    if shared.stopped.load(Ordering::SeqCst) {
        return;
    }
    loop {
        tokio::select! {
            note = notes.recv() => match note {
                Ok(Note::Event(event)) if wants(&reader, &event.subject, &shared) => {
                    let text = event::python_json(&event.frames);
                    if socket.send(Message::Text(text.into())).await.is_err() {
                        return;
                    }
                }
                Ok(Note::Event(_)) => {}
                Ok(Note::Close) => return close(socket, close_code::AWAY, "Server shutdown").await,
                Err(RecvError::Lagged(_) | RecvError::Closed) => return,
            },
            // Pings are answered below this; what else a client says is passed over, as in the original.
            message = socket.recv() => if !matches!(message, Some(Ok(_))) { return },
        }
    }
}

/// Users get what they may see; a worker gets the events of jobs that run on it.
fn wants(reader: &Reader, subject: &Subject, shared: &Shared) -> bool {
    match reader {
        Reader::User(user) => shared.lab().may_see(subject, user.as_ref()),
        Reader::Worker(name) => {
            matches!(subject, Subject::Job { worker: Some(worker), .. } if worker == name)
        }
    }
}

async fn close(mut socket: WebSocket, code: u16, reason: &'static str) {
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    if socket.send(Message::Close(Some(frame))).await.is_err() {
        return;
    }
    // The client's own close frame ends the connection; one that sends none is not waited for without end.
    let closed = async { while let Some(Ok(_)) = socket.recv().await {} };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), closed).await;
}
