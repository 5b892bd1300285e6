//! Peers and places for the tests: endpoints of each kind, stock sockets, and a publishing peer that is only as good
//! as a test needs.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use bytes::BytesMut;
use lavabus_zmtp::{
    BindOptions, ConnectOptions, ConnectionError, Decoder, Endpoint, HeartbeatConfig, Item, Limits, Listener,
    MessageRun, Peer, PullConnection, Received, SocketType, Stream, SubConnection, SubscriptionChange, frames,
    handshake,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{error::Elapsed, timeout};

/// For what must happen: long enough for any machine.
pub const LONG: Duration = Duration::from_secs(30);

/// One endpoint of each kind, to be bound to.
pub fn endpoints(folder: &tempfile::TempDir) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = vec!["tcp://127.0.0.1:0".parse().unwrap(), ipc(folder, "socket")];
    if has_ipv6() {
        endpoints.push("tcp://[::1]:0".parse().unwrap());
    } else {
        eprintln!("SKIPPED: this machine has no IPv6");
    }
    endpoints
}

pub fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

pub fn ipc(folder: &tempfile::TempDir, name: &str) -> Endpoint {
    format!("ipc://{}", folder.path().join(name).display()).parse().unwrap()
}

pub async fn listen(endpoint: &Endpoint) -> (Listener, Endpoint) {
    let listener = Listener::bind(endpoint, &BindOptions::default()).await.unwrap();
    let endpoint = listener.local_endpoint().clone();
    (listener, endpoint)
}

pub async fn accept_pull(listener: &Listener) -> PullConnection {
    let stream = listener.accept().await.unwrap();
    PullConnection::accept(stream, &Limits::default(), &HeartbeatConfig::default())
        .await
        .unwrap()
}

pub async fn connect_sub(endpoint: &Endpoint) -> SubConnection {
    SubConnection::connect(endpoint, &ConnectOptions::default(), LONG)
        .await
        .unwrap()
}

/// A message as its frames.
pub type Message = Vec<Vec<u8>>;

pub fn to_frames(message: &[u8]) -> Message {
    frames(message).map(<[u8]>::to_vec).collect()
}

pub fn to_messages(run: &MessageRun) -> Vec<Message> {
    run.messages().map(to_frames).collect()
}

/// Receives until there are `count` messages.
pub async fn receive_pull(pull: &mut PullConnection, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        take(timeout(LONG, pull.next()).await, &mut messages);
    }
    messages
}

/// Receives until there are `count` messages.
pub async fn receive_sub(sub: &mut SubConnection, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        take(timeout(LONG, sub.next()).await, &mut messages);
    }
    messages
}

fn take(received: Result<Result<Received, ConnectionError>, Elapsed>, messages: &mut Vec<Message>) {
    match received.expect("something is received in time").unwrap() {
        Received::Messages(run) => messages.extend(to_messages(&run)),
        other => panic!("{other:?} after {} messages", messages.len()),
    }
}

/// Messages whose frames have every length where something changes.
pub fn messages_of_every_size() -> Vec<Message> {
    let body = |length: usize| (0..length).map(|i| (i * 7 + length) as u8).collect::<Vec<u8>>();
    let mut messages: Vec<Message> = [0, 1, 2, 254, 255, 256, 257, 8191, 8192, 65_535, 65_536, 1 << 20]
        .map(|length| vec![body(length)])
        .into();
    messages.push(vec![body(0), body(0), body(0)]);
    messages.push(vec![body(10), body(0), body(300), body(1), body(70_000)]);
    messages.push((0..64).map(body).collect());
    messages
}

/// Runs a blocking stock socket beside the test.
pub async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

pub fn stock(kind: libzmq_peer::Kind) -> libzmq_peer::Socket {
    let socket = libzmq_peer::Socket::new(kind).unwrap();
    socket.set(libzmq_peer::SocketOption::Ipv6, 1).unwrap();
    socket.set(libzmq_peer::SocketOption::SndHwm, 0).unwrap();
    socket
}

/// LAVA's own settings of its publisher.
pub fn set_lavas_heartbeats(socket: &libzmq_peer::Socket) {
    use libzmq_peer::SocketOption::{HeartbeatIvl, HeartbeatTimeout, HeartbeatTtl};
    for (option, millis) in [
        (HeartbeatIvl, 5_000),
        (HeartbeatTimeout, 15_000),
        (HeartbeatTtl, 15_000),
    ] {
        socket.set(option, millis).unwrap();
    }
}

/// A connection on which we are the publisher.
pub struct PublishingPeer {
    pub stream: Stream,
    pub peer: Peer,
    decoder: Decoder,
    buffer: BytesMut,
}

impl PublishingPeer {
    pub async fn accept(listener: &Listener) -> PublishingPeer {
        let mut stream = listener.accept().await.unwrap();
        let limits = Limits::default();
        let mut peer = handshake(&mut stream, SocketType::Pub, &limits).await.unwrap();
        let buffer = std::mem::take(&mut peer.leftover);
        PublishingPeer {
            stream,
            peer,
            decoder: Decoder::new(limits),
            buffer,
        }
    }

    /// The next item that the peer sends.
    pub async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.decoder.decode(&mut self.buffer).unwrap() {
                return item;
            }
            let count = timeout(LONG, self.stream.read_buf(&mut self.buffer))
                .await
                .unwrap()
                .unwrap();
            assert!(count > 0, "the peer closed");
        }
    }

    /// The next subscription, in whichever form.
    pub async fn subscription(&mut self) -> SubscriptionChange {
        match self.next().await {
            Item::Command(command) => SubscriptionChange::from_command(&command).expect("a subscription"),
            Item::Messages(run) => SubscriptionChange::from_message(&run.bytes).expect("one subscription"),
            other => panic!("{other:?}"),
        }
    }

    pub async fn send(&mut self, frames: &[&[u8]]) {
        let mut out = BytesMut::new();
        lavabus_zmtp::encode_message(frames, &mut out);
        self.stream.write_all(&out).await.unwrap();
    }
}
