//! LAVA's WebSocket: one text frame an event.
//!
//! ```text
//! ["org.example.lab.testjob", "8e50…", "2026-11-21T05:01:05+00:00", "ada", "{\"job\": 1995, …}"]
//! {"error": "Unknown user"}                                                                        then it closes
//! ```

use std::fmt;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use lavabus_protocol::Record;
use reqwest_websocket::{Bytes, Message, WebSocket};
use tokio::time::{Instant, timeout_at};

use crate::error::{ServerError, excerpt};
use crate::secrets::Secrets;

/// A WebSocket that brings events. It is pinged every [`EventSocket::PING`]; silence of [`EventSocket::SILENCE`] is its
/// end, also where a proxy holds a dead connection open. A frame holds 64 MiB at most.
pub struct EventSocket {
    socket: WebSocket,
    heard: Instant,
    pinged: Instant,
    passed_over: u64,
    secrets: Secrets,
}

/// What a frame held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// An event.
    Event(Record),
    /// Something else, passed over: the stream goes on.
    NoEvent {
        /// What was wrong with it.
        reason: String,
    },
}

impl fmt::Debug for EventSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSocket")
            .field("passed_over", &self.passed_over)
            .finish_non_exhaustive()
    }
}

impl EventSocket {
    /// How often the server is asked for a sign of life.
    pub const PING: Duration = Duration::from_secs(30);
    /// How long nothing at all may be heard.
    pub const SILENCE: Duration = Duration::from_secs(90);

    pub(crate) fn new(socket: WebSocket, secrets: Secrets) -> EventSocket {
        let now = Instant::now();
        EventSocket {
            socket,
            heard: now,
            pinged: now,
            passed_over: 0,
            secrets,
        }
    }

    /// How many frames were no events.
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// The next event, or what came in its place. Cancel-safe: no frame is lost. Pings are sent while it is awaited,
    /// so it must be.
    ///
    /// # Errors
    ///
    /// [`ServerError::Refused`] if the server sends its error object, [`ServerError::Unavailable`] at the end of the
    /// connection and after a silence. After an error the socket is of no more use.
    pub async fn next(&mut self) -> Result<Received, ServerError> {
        loop {
            let silence = self.heard + Self::SILENCE;
            let ping = self.pinged + Self::PING;
            let message = match timeout_at(silence.min(ping), self.socket.next()).await {
                Ok(message) => message,
                Err(_) if ping < silence => {
                    self.pinged = Instant::now();
                    let ping = self.socket.send(Message::Ping(Bytes::new()));
                    match timeout_at(silence, ping).await {
                        Ok(sent) => sent.map_err(|error| ended(&error, &self.secrets))?,
                        Err(_) => return Err(silent()),
                    }
                    continue;
                }
                Err(_) => return Err(silent()),
            };
            let message = match message {
                Some(message) => message.map_err(|error| ended(&error, &self.secrets))?,
                None => return Err(closed("")),
            };
            self.heard = Instant::now();
            match message {
                Message::Text(text) => return self.read(&text),
                Message::Binary(bytes) => {
                    return Ok(self.pass_over(format!("a binary frame of {} bytes", bytes.len())));
                }
                Message::Close { code, reason } => {
                    return Err(closed(&format!(
                        ": {} {}",
                        u16::from(code),
                        excerpt(&self.secrets.redact(&reason))
                    )));
                }
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    }

    fn read(&mut self, text: &str) -> Result<Received, ServerError> {
        if text.trim_start().starts_with('{')
            && let Ok(value) = serde_json::from_str::<serde_json::Value>(text)
            && let Some(error) = value.get("error")
        {
            let message = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
            return Err(ServerError::Refused {
                status: None,
                message: self.secrets.redact(&message),
            });
        }
        match Record::from_json_line(text) {
            Ok(record) => Ok(Received::Event(record)),
            Err(error) => Ok(self.pass_over(self.secrets.redact(&error.to_string()))),
        }
    }

    fn pass_over(&mut self, reason: String) -> Received {
        self.passed_over += 1;
        Received::NoEvent { reason }
    }
}

fn silent() -> ServerError {
    ServerError::Unavailable {
        cause: format!("nothing heard for {} s", EventSocket::SILENCE.as_secs()),
    }
}

fn closed(why: &str) -> ServerError {
    ServerError::Unavailable {
        cause: format!("the WebSocket was closed{why}"),
    }
}

/// What a broken handshake or connection means for the caller.
pub(crate) fn ended(error: &reqwest_websocket::Error, secrets: &Secrets) -> ServerError {
    match error {
        reqwest_websocket::Error::Reqwest(error) => crate::http::failure(error),
        reqwest_websocket::Error::Tungstenite(error) => ServerError::Unavailable {
            cause: format!("the WebSocket broke: {}", secrets.redact(&error.to_string())),
        },
        other => ServerError::Unexpected {
            status: None,
            excerpt: secrets.redact(&other.to_string()),
        },
    }
}
