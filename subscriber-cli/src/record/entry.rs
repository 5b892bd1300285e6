//! What goes to the thread that writes.

use lavabus_protocol::{Cursor, GapReason, Record};

/// Entries that are committed together: an event, and how far its bus was read.
pub(super) type Batch = Vec<Entry>;

/// One thing to write down.
#[derive(Debug)]
pub(super) enum Entry {
    /// An event that is wanted.
    Event {
        record: Record,
        /// In µs since 1970.
        received_us: i64,
        /// Whose place moves behind it; `None` for an event of a file.
        of: Option<usize>,
    },
    /// Everything of this lab up to here is written down, or not wanted.
    Reached { of: usize, cursor: Cursor },
    /// Something of this lab is missing.
    Gap { of: usize, gap: MissingEvents },
}

/// What is known of events that are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MissingEvents {
    /// In µs since 1970.
    pub(super) from_us: i64,
    /// In µs since 1970.
    pub(super) to_us: i64,
    pub(super) count: Option<u64>,
    pub(super) reason: GapReason,
}

/// About what an event takes in memory, in bytes.
pub(super) fn bytes(record: &Record) -> usize {
    size_of::<Record>() + record.topic.len() + record.datetime.len() + record.username.len() + record.data.len()
}
