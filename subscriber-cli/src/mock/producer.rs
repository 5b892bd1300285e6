//! A producer's connection that is made again when it is lost.

use std::time::Duration;

use lavabus_protocol::Record;
use lavabus_zmtp::{ConnectError, ConnectOptions, ConnectionError, Endpoint, PushConnection};
use tokio::time::{Instant, sleep};

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);
/// One attempt takes no longer.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Sends events to one intake.
#[derive(Debug)]
pub struct Producer {
    endpoint: Endpoint,
    patience: Duration,
    connection: PushConnection,
    reconnects: u64,
}

impl Producer {
    /// Connects, trying again for as long as `patience`; so it does later when the connection is lost.
    ///
    /// # Errors
    ///
    /// The last attempt's.
    pub async fn connect(endpoint: Endpoint, patience: Duration) -> Result<Producer, ConnectError> {
        Ok(Producer {
            connection: connect(&endpoint, patience).await?,
            endpoint,
            patience,
            reconnects: 0,
        })
    }

    /// Sends these, and returns when the kernel has all of them. After a lost connection all of them are sent again,
    /// which a publisher notices by their UUIDs; what the kernel had of earlier ones may be lost.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when there is no connection for longer than the patience.
    pub async fn send(&mut self, events: &[Record]) -> Result<(), ConnectError> {
        while self.try_send(events).await.is_err() {
            self.reconnect().await?;
        }
        Ok(())
    }

    async fn try_send(&mut self, events: &[Record]) -> Result<(), ConnectionError> {
        let mut uuid = [0; 36];
        for event in events {
            self.connection.feed(&event.envelope().frames(&mut uuid)).await?;
        }
        self.connection.flush().await
    }

    /// Keeps the connection alive until `until`.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn idle_until(&mut self, until: Instant) -> Result<(), ConnectError> {
        tokio::select! {
            () = tokio::time::sleep_until(until) => Ok(()),
            _ = self.connection.closed() => self.reconnect().await,
        }
    }

    async fn reconnect(&mut self) -> Result<(), ConnectError> {
        self.connection = connect(&self.endpoint, self.patience).await?;
        self.reconnects += 1;
        Ok(())
    }

    /// How often the connection was lost and made again.
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Waits until the publisher has read all.
    ///
    /// # Errors
    ///
    /// [`ConnectionError`] when it does not confirm that in time.
    pub async fn confirm(&mut self, timeout: Duration) -> Result<(), ConnectionError> {
        self.connection.flush_confirmed(timeout).await
    }
}

async fn connect(endpoint: &Endpoint, patience: Duration) -> Result<PushConnection, ConnectError> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(PAUSE);
        match PushConnection::connect(endpoint, &ConnectOptions::default(), left.min(ATTEMPT)).await {
            Err(error) if Instant::now() + PAUSE >= deadline => return Err(error),
            Err(_) => sleep(PAUSE).await,
            Ok(connection) => return Ok(connection),
        }
    }
}
