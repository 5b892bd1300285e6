//! The newest events of some objects, sent between two control messages.

use lavabus_protocol::{ControlMessage, Epoch, Position, SnapshotScope};

use crate::replay::{EncodedSnapshot, Page};

/// A snapshot that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotRequest {
    /// As it was written: a stock client drops answers that do not begin with it.
    pub(crate) subscription: String,
    pub(crate) scope: SnapshotScope,
}

#[derive(Debug)]
pub(crate) struct SnapshotDelivery {
    subscription: String,
    snapshot: EncodedSnapshot,
}

impl SnapshotDelivery {
    pub(crate) fn new(subscription: String, snapshot: EncodedSnapshot) -> SnapshotDelivery {
        SnapshotDelivery { subscription, snapshot }
    }

    pub(crate) fn page(&mut self) -> &mut Page {
        &mut self.snapshot.page
    }

    pub(crate) fn begin(&self, epoch: Epoch) -> ControlMessage {
        let position = Position {
            epoch,
            seq: self.snapshot.position,
        };
        ControlMessage::SnapshotBegin {
            subscription: self.subscription.clone(),
            position,
        }
    }

    pub(crate) fn end(&self) -> ControlMessage {
        ControlMessage::SnapshotEnd {
            subscription: self.subscription.clone(),
            count: self.snapshot.events,
        }
    }
}
