//! The latest event of each device, worker and job.

use lavabus_protocol::Kind;

use crate::reader::{Event, EventRow};

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityKey {
    /// [`Kind::Device`], [`Kind::Testjob`] or [`Kind::Worker`].
    pub kind: Kind,
    /// The device's name, the job's id or the worker's host name.
    pub id: String,
}

/// An event as the state of the object that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityState {
    /// The event as it was received.
    pub event: Event,
    /// The sender's time in µs since 1970, where it can be read.
    pub sent_us: Option<i64>,
    /// Whether it is a job's last state.
    pub finished: bool,
}

/// The state that an event says its object is in; `None` for an event that is about none.
pub fn state_after(_event: &EventRow<'_>) -> Option<(EntityKey, EntityState)> {
    None
}

impl EntityState {
    /// Whether this event, read after `latest`, is the later one.
    ///
    /// By the sender's time, since around a restart of LAVA two events can arrive in the wrong order; by the time
    /// of receipt where the sender's cannot be read; of two at the same time the one that arrived later. Finished
    /// is final: what arrives after it, or claims to be newer, does not replace it.
    pub fn replaces(&self, latest: &EntityState) -> bool {
        let order = |state: &EntityState| {
            (
                state.finished,
                state.sent_us.unwrap_or(state.event.received_us),
                state.event.seq,
            )
        };
        order(self) > order(latest)
    }
}
