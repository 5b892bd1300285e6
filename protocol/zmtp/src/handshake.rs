//! The handshake: greetings, then READY in both directions (RFC 37, "The NULL Security Mechanism").

use crate::command::{Command, CommandError, Metadata};
use crate::frame::{FrameError, FrameHeader};
use crate::greeting::{GREETING_LEN, Greeting, GreetingError};
use crate::limits::Limits;
use crate::socket_type::SocketType;
use crate::stream::Stream;
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A peer after the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The ZMTP minor version to use with it: 0 or 1. A 3.0 peer is sent no SUBSCRIBE, CANCEL or PING.
    pub minor: u8,
    /// What it is.
    pub socket_type: SocketType,
    /// What it calls itself; empty if it does not. Never a key: anybody may claim any.
    pub identity: Bytes,
    /// What it sent after its READY: the first bytes for the decoder.
    pub leftover: BytesMut,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It took longer than [`Limits::handshake`].
    #[error("no handshake within {0:?}")]
    Timeout(std::time::Duration),
    /// The peer closed the connection.
    #[error("the peer closed the connection during the handshake")]
    Closed,
    /// The peer is no ZMTP 3 peer with NULL.
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    /// A frame header is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A command is malformed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The peer sent something else than READY or ERROR.
    #[error("the peer sent {0} where READY was expected")]
    NoReady(&'static str),
    /// The READY command is longer than [`Limits::command`].
    #[error("command of {claimed} bytes in the handshake, at most {limit} are allowed")]
    TooLong {
        /// The length that the peer claims.
        claimed: u64,
        /// [`Limits::command`].
        limit: usize,
    },
    /// The two socket types cannot talk to each other; the peer was told so.
    #[error("the peer is a {theirs} socket, which a {ours} socket cannot talk to")]
    Incompatible {
        /// Our type.
        ours: SocketType,
        /// The peer's `Socket-Type`.
        theirs: String,
    },
    /// The peer refused us with an ERROR command.
    #[error("the peer refused the connection: {0}")]
    Refused(String),
    /// The socket failed.
    #[error("connection failed during the handshake: {0}")]
    Io(#[from] io::Error),
}

/// Does the whole handshake, within [`Limits::handshake`]. On an error, drop the stream. Not cancel-safe.
pub async fn handshake(stream: &mut Stream, ours: SocketType, limits: &Limits) -> Result<Peer, HandshakeError> {
    match tokio::time::timeout(limits.handshake, exchange(stream, ours, limits)).await {
        Ok(result) => result,
        Err(_) => Err(HandshakeError::Timeout(limits.handshake)),
    }
}

async fn exchange(stream: &mut Stream, ours: SocketType, limits: &Limits) -> Result<Peer, HandshakeError> {
    stream.write_all(&Greeting::encode()).await?;
    let mut buffer = BytesMut::with_capacity(512);
    let greeting = loop {
        Greeting::check_start(&buffer)?;
        if let Some(bytes) = buffer.first_chunk::<GREETING_LEN>() {
            break Greeting::decode(bytes)?;
        }
        read_more(stream, &mut buffer).await?;
    };
    let _ = buffer.split_to(GREETING_LEN);

    // RFC 37: "the client SHALL send a READY command and then wait for a READY command in reply".
    if !stream.was_accepted() {
        send(stream, Command::Ready(Metadata::of(ours))).await?;
    }
    let metadata = match read_command(stream, &mut buffer, limits).await? {
        Command::Ready(metadata) => metadata,
        Command::Error { reason } => {
            return Err(HandshakeError::Refused(String::from_utf8_lossy(&reason).into_owned()));
        }
        _ => return Err(HandshakeError::NoReady("another command")),
    };
    let socket_type = SocketType::decode(&metadata.socket_type).filter(|theirs| ours.may_talk_to(*theirs));
    let Some(socket_type) = socket_type else {
        // RFC 37: "it SHOULD handle errors by returning an ERROR command, and then disconnecting the peer".
        let theirs = String::from_utf8_lossy(&metadata.socket_type[..metadata.socket_type.len().min(32)]).into_owned();
        send(stream, Command::error(&format!("Invalid socket type: this is {ours}"))).await?;
        let _ = stream.shutdown_write();
        return Err(HandshakeError::Incompatible { ours, theirs });
    };
    if stream.was_accepted() {
        send(stream, Command::Ready(Metadata::of(ours))).await?;
    }
    Ok(Peer {
        minor: greeting.minor,
        socket_type,
        identity: metadata.identity,
        leftover: buffer,
    })
}

async fn send(stream: &mut Stream, command: Command) -> io::Result<()> {
    let mut out = BytesMut::new();
    command.encode(&mut out);
    stream.write_all(&out).await
}

async fn read_command(stream: &mut Stream, buffer: &mut BytesMut, limits: &Limits) -> Result<Command, HandshakeError> {
    loop {
        if let Some(header) = FrameHeader::decode(buffer)? {
            if !header.command {
                return Err(HandshakeError::NoReady("a message"));
            }
            if header.body > limits.command as u64 {
                return Err(HandshakeError::TooLong {
                    claimed: header.body,
                    limit: limits.command,
                });
            }
            let length = header.header_len() + header.body as usize;
            if buffer.len() >= length {
                // Copied, so that an identity that is kept does not keep the read buffer.
                let body = Bytes::copy_from_slice(&buffer.split_to(length)[header.header_len()..]);
                return Ok(Command::decode(body)?);
            }
        }
        read_more(stream, buffer).await?;
    }
}

async fn read_more(stream: &mut Stream, buffer: &mut BytesMut) -> Result<(), HandshakeError> {
    if stream.read_buf(buffer).await? == 0 {
        return Err(HandshakeError::Closed);
    }
    Ok(())
}
