//! A SUB that connects to a publisher.

use crate::connection::{ConnectError, ConnectOptions, Connection, ConnectionError, Received};
use crate::endpoint::Endpoint;
use crate::handshake::Peer;
use crate::socket_type::SocketType;
use crate::stream::PeerAddress;
use crate::subscriptions::SubscriptionChange;
use bytes::Bytes;
use std::time::Duration;

/// `subscribe` and `cancel` wait while more than this many bytes wait to be written.
const HIGH_WATER: usize = 256 * 1024;

/// How subscriptions are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SubscriptionForm {
    /// As commands to a 3.1 peer, as messages to a 3.0 peer.
    #[default]
    AsVersion,
    /// Always as messages, as ZMTP 3.0 has it.
    Message,
}

/// A connection to one publisher. It does not reconnect.
#[derive(Debug)]
pub struct SubConnection {
    connection: Connection,
    as_messages: bool,
}

impl SubConnection {
    /// Connects, handshake included, within `timeout` (and [`Limits::handshake`](crate::Limits::handshake)).
    pub async fn connect(
        endpoint: &Endpoint,
        options: &ConnectOptions,
        timeout: Duration,
    ) -> Result<SubConnection, ConnectError> {
        let connection = Connection::connect(endpoint, SocketType::Sub, options, timeout).await?;
        let as_messages = connection.peer().minor == 0;
        Ok(SubConnection {
            connection,
            as_messages,
        })
    }

    /// Chooses how later subscriptions are written.
    pub fn set_subscription_form(&mut self, form: SubscriptionForm) {
        self.as_messages = form == SubscriptionForm::Message || self.connection.peer().minor == 0;
    }

    /// Asks for all messages whose first frame begins with `prefix`; an empty one asks for all.
    ///
    /// Nothing answers it: messages that the publisher sends before it has read this are not received. Cancel-safe.
    pub async fn subscribe(&mut self, prefix: &[u8]) -> Result<(), ConnectionError> {
        self.change(SubscriptionChange::Subscribe(Bytes::copy_from_slice(prefix)))
            .await
    }

    /// Undoes [`subscribe`](Self::subscribe). Messages already on their way still arrive. Cancel-safe.
    pub async fn cancel(&mut self, prefix: &[u8]) -> Result<(), ConnectionError> {
        self.change(SubscriptionChange::Cancel(Bytes::copy_from_slice(prefix)))
            .await
    }

    async fn change(&mut self, change: SubscriptionChange) -> Result<(), ConnectionError> {
        self.connection.write_down_to(HIGH_WATER).await?;
        if self.as_messages {
            change.encode_message(self.connection.outgoing());
        } else {
            change.encode_command(self.connection.outgoing());
        }
        self.connection.write();
        Ok(())
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
