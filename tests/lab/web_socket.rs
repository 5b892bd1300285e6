//! A WebSocket client of an independent library.

use std::net::SocketAddr;

use futures_util::StreamExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message as Frame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{LONG, Message};

/// One client of `/ws/`.
pub struct WebSocket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl WebSocket {
    /// Connects, with these headers.
    pub async fn connect(address: SocketAddr, headers: &[(&'static str, &str)]) -> WebSocket {
        WebSocket::try_connect(address, headers).await.unwrap()
    }

    /// Connects, or tells why not.
    pub async fn try_connect(address: SocketAddr, headers: &[(&'static str, &str)]) -> Result<WebSocket, Error> {
        let mut request = format!("ws://{address}/ws/").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let connected = tokio::time::timeout(LONG, tokio_tungstenite::connect_async(request)).await;
        Ok(WebSocket(connected.expect("an answer")?.0))
    }

    /// The connection under it.
    pub fn tcp(&self) -> &TcpStream {
        match self.0.get_ref() {
            MaybeTlsStream::Plain(stream) => stream,
            _ => unreachable!("without TLS"),
        }
    }

    /// The library's own view of it.
    pub fn stream(&mut self) -> &mut WebSocketStream<MaybeTlsStream<TcpStream>> {
        &mut self.0
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<Result<Frame, Error>> {
        tokio::time::timeout(LONG, self.0.next())
            .await
            .expect("a frame in time")
    }

    /// The next text. Pings do not prolong the wait.
    pub async fn text(&mut self) -> String {
        let text = async {
            loop {
                match self.frame().await.expect("a text").unwrap() {
                    Frame::Text(text) => return text.to_string(),
                    Frame::Close(close) => panic!("closed: {close:?}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(LONG, text).await.expect("a text in time")
    }

    /// The next event.
    pub async fn next(&mut self) -> Message {
        let text = self.text().await;
        let frames: [String; 5] = serde_json::from_str(&text).expect("a JSON array of five strings");
        Message(frames.into_iter().map(String::into_bytes).collect())
    }

    /// The next so many events.
    pub async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }

    /// How the server ends it.
    pub async fn closed(&mut self) -> Option<CloseFrame> {
        match self.frame().await {
            Some(Ok(Frame::Close(close))) => close,
            Some(Ok(frame)) => panic!("not the end: {frame:?}"),
            Some(Err(error)) => panic!("{error}"),
            None => None,
        }
    }
}
