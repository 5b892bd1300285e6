//! Send events to an intake.

use std::time::Duration;

use lavabus_protocol::Envelope;
use lavabus_zmtp::{ConnectError, ConnectOptions, ConnectionError, Endpoint, PushConnection};
use tokio::time::Instant;

/// While nobody listens it is tried again so often.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A connection to a publisher's intake, as a LAVA web process has one. It does not reconnect.
#[derive(Debug)]
pub struct Emitter {
    endpoint: Endpoint,
    connection: PushConnection,
}

/// Why events could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// No connection within the time allowed.
    #[error(transparent)]
    NoConnection(#[from] ConnectError),
    /// The connection was lost: what was not confirmed may or may not have arrived.
    #[error("{endpoint}: {source}")]
    Lost {
        /// The intake.
        endpoint: Endpoint,
        /// Why.
        source: ConnectionError,
    },
    /// The intake has not confirmed in time that it took all: it may or may not have arrived.
    #[error("{endpoint} has not confirmed within {within:?} that it took all events")]
    Unconfirmed {
        /// The intake.
        endpoint: Endpoint,
        /// The time allowed.
        within: Duration,
    },
}

impl Emitter {
    /// Connects to the intake at this endpoint. While nobody listens there (a publisher that restarts) it is tried
    /// again, all within `timeout`.
    ///
    /// # Errors
    ///
    /// [`EmitError::NoConnection`] with the last attempt's cause.
    pub async fn connect(endpoint: &Endpoint, timeout: Duration) -> Result<Emitter, EmitError> {
        let end = Instant::now() + timeout;
        let options = ConnectOptions::default();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match PushConnection::connect(endpoint, &options, left).await {
                Ok(connection) => {
                    return Ok(Emitter {
                        endpoint: endpoint.clone(),
                        connection,
                    });
                }
                Err(ConnectError::Refused { .. }) if left > AGAIN_AFTER => tokio::time::sleep(AGAIN_AFTER).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends one event, waiting while the intake takes nothing. Cancel-safe: a send that was cancelled sent nothing.
    ///
    /// That it returns says nothing about arrival: [`confirm`](Emitter::confirm) does.
    ///
    /// # Errors
    ///
    /// [`EmitError::Lost`].
    pub async fn send(&mut self, envelope: &Envelope<'_>) -> Result<(), EmitError> {
        let mut uuid_text = [0; 36];
        let sent = self.connection.feed(&envelope.frames(&mut uuid_text)).await;
        sent.map_err(|source| self.lost(source))
    }

    /// Waits until the intake has taken all that was sent.
    ///
    /// That is the peer's ZeroMQ engine: the publisher itself may refuse an event all the same, which PUSH cannot
    /// tell. A ZMTP 3.0 peer can confirm only once: nothing can be sent afterwards.
    ///
    /// # Errors
    ///
    /// [`EmitError::Unconfirmed`] when `timeout` is over, [`EmitError::Lost`].
    pub async fn confirm(&mut self, timeout: Duration) -> Result<(), EmitError> {
        let confirmed = self.connection.flush_confirmed(timeout).await;
        confirmed.map_err(|source| self.lost(source))
    }

    /// Waits until the connection is lost, answering heartbeats. Somebody who has nothing to send for a while waits
    /// here, in a `select!` with whatever brings work. Cancel-safe.
    pub async fn closed(&mut self) -> EmitError {
        let source = self.connection.closed().await;
        self.lost(source)
    }

    fn lost(&self, source: ConnectionError) -> EmitError {
        let endpoint = self.endpoint.clone();
        match source {
            ConnectionError::Unconfirmed(within) => EmitError::Unconfirmed { endpoint, within },
            source => EmitError::Lost { endpoint, source },
        }
    }
}
