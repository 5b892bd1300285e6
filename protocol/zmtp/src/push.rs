//! A producer's PUSH to a PULL that listens.

use crate::connection::{ConnectError, ConnectOptions, Connection, ConnectionError, Event, Received};
use crate::endpoint::Endpoint;
use crate::handshake::Peer;
use crate::message::encode_message;
use crate::socket_type::SocketType;
use crate::stream::PeerAddress;
use bytes::{BufMut, Bytes, BytesMut};
use std::time::Duration;

/// `send` waits while more than this many bytes wait to be written.
const HIGH_WATER: usize = 256 * 1024;

/// A connection to one PULL. It does not reconnect.
#[derive(Debug)]
pub struct PushConnection {
    connection: Connection,
    confirmations: u64,
}

impl PushConnection {
    /// Connects, handshake included, within `timeout` (and [`Limits::handshake`](crate::Limits::handshake)).
    pub async fn connect(
        endpoint: &Endpoint,
        options: &ConnectOptions,
        timeout: Duration,
    ) -> Result<PushConnection, ConnectError> {
        let connection = Connection::connect(endpoint, SocketType::Push, options, timeout).await?;
        Ok(PushConnection {
            connection,
            confirmations: 0,
        })
    }

    /// Sends one message with these frames, waiting while the peer takes nothing.
    ///
    /// When it returns, the message is with the kernel or, at most 256 KiB and the message itself, in our buffer,
    /// which [`flush`](Self::flush), [`closed`](Self::closed) and later sends write out. Cancel-safe: a send that was
    /// cancelled has not queued anything.
    pub async fn send(&mut self, frames: &[&[u8]]) -> Result<(), ConnectionError> {
        self.make_room().await?;
        encode_message(frames, self.connection.outgoing());
        self.connection.try_write()
    }

    /// As [`send`](Self::send), for one or more whole messages that are ZMTP bytes already, such as a
    /// [`MessageRun`](crate::MessageRun)'s.
    pub async fn send_encoded(&mut self, messages: &[u8]) -> Result<(), ConnectionError> {
        self.make_room().await?;
        self.connection.outgoing().put_slice(messages);
        self.connection.try_write()
    }

    /// As [`send`](Self::send), but the bytes only go to our buffer while that has room, so that many small messages
    /// take few writes: follow with [`flush`](Self::flush).
    pub async fn feed(&mut self, frames: &[&[u8]]) -> Result<(), ConnectionError> {
        self.make_room().await?;
        encode_message(frames, self.connection.outgoing());
        Ok(())
    }

    /// Waits until all is with the kernel. Cancel-safe.
    pub async fn flush(&mut self) -> Result<(), ConnectionError> {
        self.write_down_to(0).await
    }

    /// Waits until the peer's engine has taken all that was sent.
    ///
    /// A 3.1 peer is sent a PING after the last message, and answers it when it gets there. A 3.0 peer has no PING:
    /// there, what is waited for is that the peer's *kernel* has all, which is less: should the peer die at that
    /// moment, what it has not read is lost. Neither says that the peer's application has seen the messages.
    pub async fn flush_confirmed(&mut self, timeout: Duration) -> Result<(), ConnectionError> {
        match tokio::time::timeout(timeout, self.confirm()).await {
            Ok(result) => result,
            Err(_) => Err(ConnectionError::Unconfirmed(timeout)),
        }
    }

    async fn confirm(&mut self) -> Result<(), ConnectionError> {
        if self.connection.peer().minor == 0 {
            return self.confirm_by_kernel().await;
        }
        self.confirmations += 1;
        let mut context = BytesMut::with_capacity(9);
        context.put_u8(b'f');
        context.put_u64(self.confirmations);
        let context = context.freeze();
        self.connection.queue_ping(context.clone());
        loop {
            if self.turn().await? == Some(context.clone()) {
                return Ok(());
            }
        }
    }

    /// The kernel does not wake anybody when the last byte is acknowledged, so it is asked again and again.
    async fn confirm_by_kernel(&mut self) -> Result<(), ConnectionError> {
        self.flush().await?;
        let mut wait = Duration::from_millis(1);
        while !self.connection.is_acknowledged() {
            tokio::select! {
                turn = self.turn() => drop(turn?),
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Runs the connection until it ends: writes what waits, answers heartbeats and sends our own.
    ///
    /// A connection that is not in use at the moment should wait here, in a `select!` with whatever gives it work;
    /// else a peer with heartbeats takes it for dead. Cancel-safe.
    pub async fn closed(&mut self) -> ConnectionError {
        loop {
            if let Err(error) = self.turn().await {
                return error;
            }
        }
    }

    /// What the peer said in the handshake.
    pub fn peer(&self) -> &Peer {
        self.connection.peer()
    }

    /// Who the peer is, as the kernel says.
    pub fn address(&self) -> PeerAddress {
        self.connection.address()
    }

    async fn make_room(&mut self) -> Result<(), ConnectionError> {
        if self.connection.waiting() <= HIGH_WATER {
            return Ok(());
        }
        self.write_down_to(HIGH_WATER).await
    }

    /// Heartbeats are answered meanwhile.
    async fn write_down_to(&mut self, bytes: usize) -> Result<(), ConnectionError> {
        loop {
            self.connection.try_write()?;
            if self.connection.waiting() <= bytes {
                return Ok(());
            }
            self.turn().await?;
        }
    }

    /// Waits for one thing to happen; gives the context of a PONG.
    async fn turn(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        match self.connection.next().await? {
            Event::Pong(context) => Ok(Some(context)),
            Event::Received(Received::Closed) => Err(ConnectionError::Closed),
            // A PULL has nothing to say; should it speak, it is not listened to.
            Event::Received(_) | Event::Written => Ok(None),
        }
    }
}
