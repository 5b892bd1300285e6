//! How far a subscriber is: the next event in the ring, and the number of the last one behind it.

use std::sync::Arc;

use crate::fan_out::batch::{Batch, Numbering, SharedNumbering};

#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    /// The next batch to look at.
    pub(crate) batch: u64,
    /// The next event to look at in that batch.
    pub(crate) message: usize,
    /// Every event up to this number was sent or is not wanted.
    pub(crate) sequence: u64,
    /// The last events passed had no number yet: their batch's numbering, and how many of the batch were passed.
    unnumbered: Option<(SharedNumbering, u64)>,
}

/// Where a reader stands that fell out of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Right after this number.
    After(u64),
    /// Among events that the journal has not numbered yet.
    Unknown,
    /// Among events that were never recorded; the journal goes on after this number.
    NotRecorded(u64),
}

impl Position {
    pub(crate) fn new(batch: u64, message: usize, sequence: u64) -> Position {
        Position {
            batch,
            message,
            sequence,
            unnumbered: None,
        }
    }

    /// Moves to a place in `batches`: index and event. The place behind a batch is `(index + 1, 0)`.
    pub(crate) fn move_to(&mut self, batches: &[Arc<Batch>], (index, message): (usize, usize)) {
        // What is behind now: the batch of the place if some of it was passed, else the one before.
        let (batch, passed) = match (batches.get(index), message) {
            (Some(batch), message) if message > 0 => (batch, message),
            (_, _) if index > 0 => (&batches[index - 1], batches[index - 1].messages.len()),
            (Some(batch), _) => {
                self.batch = batch.number;
                self.message = 0;
                return;
            }
            (None, _) => return,
        };
        if passed == batch.messages.len() {
            self.batch = batch.number + 1;
            self.message = 0;
        } else {
            self.batch = batch.number;
            self.message = passed;
        }
        match batch.numbering.get() {
            Some(Numbering::From(first)) => {
                self.sequence = first + passed as u64 - 1;
                self.unnumbered = None;
            }
            _ => self.unnumbered = Some((batch.numbering.clone(), passed as u64)),
        }
    }

    /// Jumps to a batch that is the next with anything wanted: `previous` is the last number given before it.
    pub(crate) fn jump(&mut self, batch: u64, previous: u64) {
        if batch > self.batch {
            self.batch = batch;
            self.message = 0;
            self.sequence = self.sequence.max(previous);
            self.unnumbered = None;
        }
    }

    /// Everything up to this number was sent or is not wanted.
    pub(crate) fn covers(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    pub(crate) fn standing(&self) -> Standing {
        match &self.unnumbered {
            None => Standing::After(self.sequence),
            Some((numbering, passed)) => match numbering.get() {
                Some(Numbering::From(first)) => Standing::After(self.sequence.max(first + passed - 1)),
                Some(Numbering::Never { resume_after }) => Standing::NotRecorded(*resume_after),
                None => Standing::Unknown,
            },
        }
    }
}
