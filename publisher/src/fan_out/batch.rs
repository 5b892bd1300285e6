//! Events that were published together: their ZMTP bytes, encoded once and shared by every subscriber.

use std::sync::{Arc, OnceLock};

use lavabus_protocol::EventId;

use super::matching::MatchIndex;
use crate::http::forms::Forms;

/// A batch holds at most this many bytes, unless a single event is larger.
pub(crate) const MAX_BATCH_BYTES: usize = 64 * 1024;
/// A batch holds at most this many events, so that an event's place in it fits 16 bits.
pub(crate) const MAX_BATCH_EVENTS: usize = 4096;

/// One event's place in its batch.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub id: EventId,
    /// End of its ZMTP bytes in the batch; it starts where the one before it ends.
    pub end: u32,
    /// The topic's body, counted from the start of the message.
    pub topic_start: u16,
    pub topic_length: u16,
}

/// How the journal numbered a batch. Events of a batch have consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// The number of the batch's first event.
    From(u64),
    /// The disk was in trouble and there was no room to wait for it: these events are in no journal.
    /// `resume_after` is the last number given before the journal went on.
    Never { resume_after: u64 },
}

/// Set before publishing when the journal works, later when it did not.
pub(crate) type SharedNumbering = Arc<OnceLock<Numbering>>;

#[derive(Debug)]
pub(crate) struct Batch {
    /// Consecutive, from 0 at the start of the process. Not the events' number.
    pub(crate) number: u64,
    pub(crate) numbering: SharedNumbering,
    /// The last event number given before this batch.
    pub(crate) previous: u64,
    pub(crate) bytes: Box<[u8]>,
    pub(crate) messages: Box<[Message]>,
    pub(crate) index: MatchIndex,
    pub(crate) forms: Forms,
}

impl Batch {
    pub(crate) fn start_of(&self, message: usize) -> usize {
        if message == 0 {
            0
        } else {
            self.messages[message - 1].end as usize
        }
    }

    pub(crate) fn end_of(&self, message: usize) -> usize {
        self.messages[message].end as usize
    }

    pub(crate) fn message(&self, message: usize) -> &[u8] {
        &self.bytes[self.start_of(message)..self.end_of(message)]
    }

    pub(crate) fn topic(&self, message: usize) -> &[u8] {
        let meta = &self.messages[message];
        let start = self.start_of(message) + meta.topic_start as usize;
        &self.bytes[start..start + meta.topic_length as usize]
    }

    /// The number of one event, or none while the journal has not given it.
    pub(crate) fn sequence(&self, message: usize) -> Option<u64> {
        match self.numbering.get() {
            Some(Numbering::From(first)) => Some(first + message as u64),
            _ => None,
        }
    }

    /// What the batch costs in memory, near enough to bound the ring by it.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Batch>() + self.bytes.len() + self.messages.len() * size_of::<Message>() + self.index.memory()
    }
}

/// Collects events for the next batch.
#[derive(Debug, Default)]
pub(crate) struct BatchBuilder {
    bytes: Vec<u8>,
    messages: Vec<Message>,
}

impl BatchBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether an event of that many bytes still belongs into this batch.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.is_empty() || (self.bytes.len() + bytes <= MAX_BATCH_BYTES && self.messages.len() < MAX_BATCH_EVENTS)
    }

    pub(crate) fn push(&mut self, bytes: &[u8], id: EventId, topic_start: u16, topic_length: u16) {
        self.bytes.extend_from_slice(bytes);
        let end = u32::try_from(self.bytes.len()).expect("a batch is a few MiB at most, by the message limit");
        self.messages.push(Message {
            id,
            end,
            topic_start,
            topic_length,
        });
    }

    /// The collected bytes and places, in allocations of just their size. The builder keeps its own for the next.
    pub(crate) fn take(&mut self) -> (Box<[u8]>, Box<[Message]>) {
        let taken = (self.bytes.as_slice().into(), self.messages.as_slice().into());
        self.bytes.clear();
        self.messages.clear();
        if self.bytes.capacity() > 2 * MAX_BATCH_BYTES {
            self.bytes.shrink_to(2 * MAX_BATCH_BYTES);
        }
        taken
    }
}
