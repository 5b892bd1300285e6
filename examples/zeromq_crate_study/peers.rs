//! The publishers, events and subscribers that the experiments share.

use std::time::Duration;

use bytes::Bytes;
use libzmq_peer::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

use crate::Outcome;

/// A bound PUB of one of the two libraries.
pub(crate) struct Publisher {
    socket: PublisherSocket,
    pub(crate) endpoint: String,
}

enum PublisherSocket {
    Zeromq(PubSocket),
    Libzmq(libzmq_peer::Socket),
}

impl Publisher {
    pub(crate) async fn bind(library: &str) -> Outcome<Self> {
        if library == "zeromq" {
            let mut socket = PubSocket::new();
            let endpoint = socket.bind("tcp://127.0.0.1:0").await?.to_string();
            Ok(Self {
                socket: PublisherSocket::Zeromq(socket),
                endpoint,
            })
        } else {
            let socket = libzmq_peer::Socket::new(Kind::Pub)?;
            socket.bind("tcp://127.0.0.1:*")?;
            let endpoint = socket.last_endpoint()?;
            Ok(Self {
                socket: PublisherSocket::Libzmq(socket),
                endpoint,
            })
        }
    }

    pub(crate) async fn send(&mut self, message: ZmqMessage) -> Outcome {
        match &mut self.socket {
            PublisherSocket::Zeromq(socket) => Ok(socket.send(message).await?),
            PublisherSocket::Libzmq(socket) => Ok(socket.send(&message.into_vec())?),
        }
    }
}

/// An event of two frames; the second has `size` bytes of its own.
pub(crate) fn event(topic: &str, size: usize) -> ZmqMessage {
    let mut message = ZmqMessage::from(Bytes::copy_from_slice(topic.as_bytes()));
    message.push_back(Bytes::from(vec![b'x'; size]));
    message
}

/// The length of that event on the wire: a frame has a header of 2 bytes, or of 9 above 255 bytes.
pub(crate) fn encoded_len(topic: &str, size: usize) -> u64 {
    let frame = |len: usize| len + if len > 255 { 9 } else { 2 };
    (frame(topic.len()) + frame(size)) as u64
}

/// ZMTP 3.0's greeting: signature (10 bytes), version 3.0, mechanism NULL (20), as-server, filler (31).
pub(crate) const GREETING: [u8; 64] = {
    let mut greeting = [0; 64];
    greeting[0] = 0xFF;
    greeting[9] = 0x7F;
    greeting[10] = 3;
    greeting[12] = b'N';
    greeting[13] = b'U';
    greeting[14] = b'L';
    greeting[15] = b'L';
    greeting
};

/// The smallest possible subscriber: it costs next to nothing, so that what is measured is the publisher.
pub(crate) struct RawSubscriber(tokio::net::TcpStream);

impl RawSubscriber {
    pub(crate) async fn connect(endpoint: &str, prefix: &[u8]) -> Outcome<Self> {
        const READY: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB";
        let mut stream = tokio::net::TcpStream::connect(endpoint.trim_start_matches("tcp://")).await?;
        stream.write_all(&[&GREETING[..], READY].concat()).await?;
        // The publisher's greeting, then its READY. libzmq disconnects a peer that sends anything before it saw that.
        stream.read_exact(&mut [0; 64]).await?;
        let mut header = [0; 2];
        stream.read_exact(&mut header).await?;
        stream.read_exact(&mut vec![0; header[1].into()]).await?;
        let subscribe = [&[0, u8::try_from(prefix.len() + 1)?, 1], prefix].concat();
        stream.write_all(&subscribe).await?;
        Ok(Self(stream))
    }

    /// Counts messages of `len` bytes until nothing came for the time of `quiet`.
    pub(crate) async fn count_messages(&mut self, len: u64, quiet: Duration) -> Outcome<u64> {
        let mut buffer = vec![0; 256 * 1024];
        let mut bytes = 0;
        while let Ok(read) = timeout(quiet, self.0.read(&mut buffer)).await {
            match read? {
                0 => return Err("the publisher closed the connection".into()),
                read => bytes += read as u64,
            }
        }
        Ok(bytes / len)
    }
}
