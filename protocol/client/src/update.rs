//! What a subscription tells.

use lavabus_protocol::{GapReason, Position, Record};
use lavabus_zmtp::{ConnectError, ConnectionError};

/// One thing that a [`Subscription`](crate::Subscription) or an [`EventStream`](crate::EventStream) tells, in the order in which it came.
#[derive(Debug)]
pub enum Update {
    /// An event. Outside of snapshots each comes once.
    Event {
        /// Its five frames, and its cursor: where the stream goes on after it.
        record: Record,
        /// Its number; `None` from a plain publisher, and while the publisher's disk is in trouble.
        position: Option<Position>,
        /// It belongs to a snapshot: it is the latest of its object, and may have been told before.
        in_snapshot: bool,
    },
    /// How far the publisher is: about every second.
    Head {
        /// Position of its newest event.
        head: Position,
        /// The oldest number that it can still give.
        oldest: Option<u64>,
        /// Events that this connection should have had and never will.
        skipped: u64,
        /// All events up to here were told, of those that match. `None` where the publisher does not say.
        position: Option<Position>,
    },
    /// Something is missing and cannot be had, or may be missing.
    Gap {
        /// First position that is missing, where that is known.
        from: Option<Position>,
        /// Last position that is missing, where that is known.
        to: Option<Position>,
        /// Why. `plain_publisher`, which only comes from here: after an outage of a publisher that cannot resume,
        /// nobody knows whether something is missing.
        reason: GapReason,
    },
    /// The events that follow are a snapshot. A second one for the same subscription replaces the first, which had
    /// not come to its end when the connection was lost.
    SnapshotBegin {
        /// The subscription that asked for it, such as `@snapshot:testjob/1995`.
        subscription: String,
        /// The stream goes on after this position.
        position: Position,
    },
    /// The snapshot is complete.
    SnapshotEnd {
        /// The subscription that asked for it.
        subscription: String,
        /// How many events it had.
        count: u64,
    },
    /// The connection works: what happens from now on is received.
    Connected {
        /// Whether the publisher knows options by subscription: resume, heads, gaps, snapshots. A plain publisher
        /// does not: that its subscriptions are in force is not proven then, only likely.
        extended: bool,
    },
    /// There is no connection: once for each outage, and once if the first attempt to connect fails. It is tried
    /// again while `next` is awaited.
    Disconnected {
        /// Why.
        cause: Cause,
    },
    /// A message that is no event was passed over.
    Unreadable {
        /// What is wrong with it.
        cause: String,
    },
}

/// The reason of a gap after an outage of a publisher that cannot resume.
pub(crate) fn plain_publisher() -> GapReason {
    GapReason::Other("plain_publisher".to_owned())
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// It could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It was lost.
    #[error(transparent)]
    Lost(#[from] ConnectionError),
    /// Over HTTP: it could not be made, or it was lost.
    #[error("{0}")]
    Http(String),
}
