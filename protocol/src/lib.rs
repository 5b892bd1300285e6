//! What the bytes of a lavabus mean.

pub mod control;
pub mod cursor;
pub mod envelope;
pub mod event;
pub mod event_id;
pub mod option;
pub mod topic;

pub use control::{ControlMessage, GapReason};
pub use cursor::{Cursor, Epoch, Position};
pub use envelope::{Envelope, FRAMES, Refusal};
pub use event_id::{EventId, EventIdError};
pub use option::{SnapshotScope, SubscriptionOption};
pub use topic::Kind;
