//! How a reader's stream ends, by whatever way it goes out.

use std::time::Duration;

use tracing::{debug, warn};

use crate::counters::Counters;
use crate::http::Connection;
use crate::http::websocket::frames::Malformed;
use crate::replay::ReplayError;

/// At the publisher's end a client has so long to take what was published before.
pub(crate) const FLUSH: Duration = Duration::from_secs(3);

/// Why there is nothing more for a reader.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the client has gone")]
    Gone,
    #[error("the publisher ends")]
    Drained,
    #[error("it did not read for too long")]
    Stalled,
    #[error("its login is no longer good")]
    Withdrawn,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    Journal(#[from] ReplayError),
    #[error("events were lost to it that nobody has any more")]
    Lost,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl End {
    /// Counts it, and says it of such a stream.
    pub(crate) fn record(&self, what: &str, connection: &Connection, counters: &Counters) {
        let peer = connection.address();
        match self {
            End::Gone | End::Drained => debug!(%peer, "{what} gone: {self}"),
            _ => warn!(%peer, "{what} closed: {self}"),
        }
        match self {
            End::Stalled => counters.stalled_peers.add(1),
            End::Malformed(_) => counters.malformed_peers.add(1),
            _ => {}
        }
    }
}
