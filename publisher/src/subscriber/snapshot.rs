//! The newest events of some objects, sent between two control messages.

use lavabus_protocol::{ControlMessage, Epoch, Position, SnapshotScope, SubscriptionOption};

use crate::replay::{EncodedSnapshot, Page};

#[derive(Debug)]
pub(crate) struct SnapshotDelivery {
    subscription: String,
    snapshot: EncodedSnapshot,
}

impl SnapshotDelivery {
    pub(crate) fn new(scope: SnapshotScope, snapshot: EncodedSnapshot) -> SnapshotDelivery {
        SnapshotDelivery {
            subscription: SubscriptionOption::Snapshot(scope).to_string(),
            snapshot,
        }
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
