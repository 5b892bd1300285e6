//! The receiving end of a producer's PUSH.

use crate::connection::{Connection, ConnectionError, Received};
use crate::handshake::{HandshakeError, Peer};
use crate::heartbeat::HeartbeatConfig;
use crate::limits::Limits;
use crate::socket_type::SocketType;
use crate::stream::{PeerAddress, Stream};

/// One producer's connection.
#[derive(Debug)]
pub struct PullConnection {
    connection: Connection,
}

impl PullConnection {
    /// Does the handshake with a peer that has connected. Not cancel-safe; ends within [`Limits::handshake`].
    pub async fn accept(
        stream: Stream,
        limits: &Limits,
        heartbeat: &HeartbeatConfig,
    ) -> Result<PullConnection, HandshakeError> {
        let connection = Connection::open(stream, SocketType::Pull, limits, heartbeat).await?;
        Ok(PullConnection { connection })
    }

    /// Takes a connection whose [`handshake`](crate::handshake()) is done. Fails if the socket does.
    pub fn after_handshake(
        stream: Stream,
        peer: Peer,
        limits: &Limits,
        heartbeat: &HeartbeatConfig,
    ) -> std::io::Result<PullConnection> {
        let connection = Connection::after_handshake(stream, peer, limits, heartbeat)?;
        Ok(PullConnection { connection })
    }

    /// The next messages. Heartbeats of both sides are sent and answered meanwhile, and only while this is awaited.
    ///
    /// Cancel-safe: nothing is lost when the future is dropped. After `Closed` or an error, drop the connection.
    pub async fn next(&mut self) -> Result<Received, ConnectionError> {
        self.connection.receive().await
    }

    /// Bytes are here that [`next`](Self::next) has not given out yet: the connection is not quiet.
    pub fn buffered(&self) -> bool {
        self.connection.has_buffered()
    }

    /// What the peer said in the handshake.
    pub fn peer(&self) -> &Peer {
        self.connection.peer()
    }

    /// Who the peer is, as the kernel says.
    pub fn address(&self) -> PeerAddress {
        self.connection.address()
    }
}
